"""Counts the signals that reach it, a line after each, until its input closes.

With the argument "held" they stay pending until a line comes; then all that came are taken and counted."""
import os
import select
import signal
import sys

names = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGCONT")
counts = {}

def count(number):
    name = signal.Signals(number).name
    counts[name] = counts.get(name, 0) + 1
    print(f"counted {name} {counts[name]}", flush=True)

if sys.argv[1:] == ["held"]:
    held = {getattr(signal, name) for name in names}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    print("ready", flush=True)
    for line in sys.stdin:
        while taken := signal.sigtimedwait(held, 0):
            count(taken.si_signo)
        print("taken", line, end="", flush=True)
    sys.exit()
read, write = os.pipe()
os.set_blocking(write, False)
for name in names:
    signal.signal(getattr(signal, name), lambda number, frame: os.write(write, bytes([number])))
print("ready", flush=True)
while True:
    ready = select.select([0, read], [], [])[0]
    if read in ready:
        for number in os.read(read, 4096):
            count(number)
    elif not os.read(0, 4096):
        break
