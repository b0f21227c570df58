"""A named lock, as multiprocessing makes it for spawned workers; its resource tracker unlinks it at the end."""
import multiprocessing
import sys

if __name__ == "__main__":
    lock = multiprocessing.get_context("spawn").Lock()
    lock.acquire()
    print(f"ready semaphore=/dev/shm/sem.{lock._semlock.name.lstrip('/')}", flush=True)
    sys.stdin.read()
    lock.release()
