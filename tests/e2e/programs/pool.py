"""A multiprocessing pool of three workers over one shared segment."""
import multiprocessing
import os
import sys
from multiprocessing import shared_memory

def work(name):
    segment = shared_memory.SharedMemory(name=name)
    segment.buf[0] += 1
    segment.close()
    return os.getpid()

if __name__ == "__main__":
    segment = shared_memory.SharedMemory(create=True, size=4096)
    pool = multiprocessing.Pool(3)
    pool.map(work, [segment.name] * 3)
    print(f"ready segment=/dev/shm/{segment.name}", flush=True)
    sys.stdin.read()
    pool.close()
    pool.join()
    segment.close()
    segment.unlink()
