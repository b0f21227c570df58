"""Leaves 40 orphans that end at once; succeeds when PID 1 has reaped them all within ten seconds."""
import os
import sys
import time

read, write = os.pipe()
for _ in range(40):
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.write(write, f"{os.getpid()}\n".encode())
        os._exit(0)
    os.waitpid(child, 0)
os.close(write)
orphans = [int(line) for line in os.fdopen(read)]
end = time.monotonic() + 10
while any(os.path.exists(f"/proc/{pid}") for pid in orphans):
    if time.monotonic() > end:
        sys.exit("zombies are left")
    os.sched_yield()
print(f"reaped {len(orphans)}", flush=True)
