"""Ends at once and leaves processes that do all they can to stay.

Usage: storm.py KIND TAG, with KIND: "chain" (4 lines of processes, each of which forks the next and ends), "session"
(double forks into sessions of their own), "late" (forks again when asked to end, and ignores the next asking)."""
import os
import signal
import sys

def chain():
    while True:
        if os.fork() != 0:
            os._exit(0)

def daemon():
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    for number in range(3):
        os.close(number)
    os.environ.clear()
    while True:
        signal.pause()

def again(number, frame):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()

def late():
    while True:
        signal.pause()

work = {"chain": chain, "session": daemon, "late": late}[sys.argv[1]]
read, write = os.pipe()
for _ in range(4 if work is chain else 16):
    if os.fork() == 0:
        if work is late:
            signal.signal(signal.SIGTERM, again)
        os.close(read)
        os.close(write)
        work()
os.close(write)
os.read(read, 1)  # until each child has started
