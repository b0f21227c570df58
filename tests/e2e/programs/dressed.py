"""Puts on everything that a process can hand to the next one, then becomes the command named in the arguments.

Usage: dressed.py PIPE COMMAND..., with PIPE "default" or "ignored": what to do with SIGPIPE."""
import os
import resource
import signal
import sys

os.umask(0o027)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 4 << 20))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.nice(3)
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN + 3})
for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGRTMAX - 1):
    signal.signal(number, signal.SIG_IGN)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL if sys.argv[1] == "default" else signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_DFL)
for number in (7, 42):
    os.dup2(os.open("/dev/null", os.O_RDWR), number, inheritable=True)
os.dup2(0, 99, inheritable=True)
os.environ["E2E odd"] = "with spaces\nand lines"
os.execvp(sys.argv[2], sys.argv[2:])
