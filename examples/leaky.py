#!/usr/bin/env python3
"""Leaves behind what careless programs leave behind, says so, and exits.

  python3 examples/leaky.py                 leaves everything below, for you to clean up
  kobj run --scrub=all -- python3 examples/leaky.py      leaves nothing

Each object is a real one, made by the ordinary call.
"""
import ctypes
import os
import sys
import tempfile
import time
from multiprocessing import resource_tracker, shared_memory

IPC_PRIVATE, IPC_CREAT, O_CREAT = 0, 0o1000, 0o100
DAEMON_LIFE_S = 600

libc = ctypes.CDLL(None, use_errno=True)
libc.sem_open.restype = ctypes.c_void_p
libc.sem_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_uint]
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]


def checked(result, call):
    """The result of a C call, or its error as an exception."""
    if result in (-1, None):
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
    return result


def leave_segment():
    """A shared-memory segment whose tracker was told to forget it: what worker pools do to share it."""
    segment = shared_memory.SharedMemory(create=True, size=64 << 20)
    resource_tracker.unregister(segment._name, "shared_memory")
    segment.buf[:5] = b"leaky"
    segment.close()
    return f"/dev/shm/{segment.name}"


def leave_semaphore():
    """A named POSIX semaphore that nobody unlinks."""
    name = f"/leaky-{os.getpid()}"
    checked(libc.sem_open(name.encode(), O_CREAT, 0o600, 1), "sem_open")
    return f"/dev/shm/sem.{name[1:]}"


def leave_system_v():
    """One of each System V object: they live until somebody calls IPC_RMID."""
    segment = checked(libc.shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0o600), "shmget")
    queue = checked(libc.msgget(IPC_PRIVATE, IPC_CREAT | 0o600), "msgget")
    semaphore = checked(libc.semget(IPC_PRIVATE, 1, IPC_CREAT | 0o600), "semget")
    return segment, queue, semaphore


def leave_daemon():
    """A process that forked twice and left its session, as daemons do; returns its pid."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.closerange(3, 1024)
            time.sleep(DAEMON_LIFE_S)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    return int(os.read(reader, 32))


def leave_folder():
    """A temporary folder with a file in it."""
    folder = tempfile.mkdtemp(prefix="leaky-")
    with open(os.path.join(folder, "half-done.bin"), "wb") as file:
        file.write(os.urandom(100_000))
    return folder


def main():
    if not sys.platform.startswith("linux"):
        sys.exit("leaky.py: these objects are Linux's")
    print(f"leaky: segment          {leave_segment()}")
    print(f"leaky: semaphore        {leave_semaphore()}")
    print("leaky: System V         segment {}, queue {}, semaphore {}".format(*leave_system_v()))
    print(f"leaky: daemon           pid {leave_daemon()}, ends by itself after {DAEMON_LIFE_S} s")
    print(f"leaky: temporary folder {leave_folder()}")
    print("leaky: done, leaving all of it behind")


if __name__ == "__main__":
    main()
