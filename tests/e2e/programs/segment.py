"""A named shared-memory segment of multiprocessing; ends when its input closes, unlinking it."""
import sys
from multiprocessing import shared_memory

segment = shared_memory.SharedMemory(create=True, size=1 << 20)
segment.buf[:5] = b"bytes"
print(f"ready segment=/dev/shm/{segment.name}", flush=True)
sys.stdin.read()
segment.close()
segment.unlink()
