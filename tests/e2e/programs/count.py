"""Counts the signals that reach it, a line after each, until its input closes."""
import os
import select
import signal

counts = {}
read, write = os.pipe()
os.set_blocking(write, False)
for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGCONT"):
    signal.signal(getattr(signal, name), lambda number, frame: os.write(write, bytes([number])))
print("ready", flush=True)
while True:
    ready = select.select([0, read], [], [])[0]
    if read in ready:
        for number in os.read(read, 4096):
            name = signal.Signals(number).name
            counts[name] = counts.get(name, 0) + 1
            print(f"counted {name} {counts[name]}", flush=True)
    elif not os.read(0, 4096):
        break
