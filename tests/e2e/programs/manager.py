"""A multiprocessing manager: a server process and its socket in a temporary folder."""
import multiprocessing
import os
import sys

if __name__ == "__main__":
    manager = multiprocessing.Manager()
    shared = manager.dict(answer=42)
    print(f"ready folder={os.path.dirname(manager.address)} socket={manager.address}", flush=True)
    sys.stdin.read()
    manager.shutdown()
