"""Writes down, as JSON into the file named first, all that a process inherits. Further arguments only show up in it."""
import json
import os
import stat
import sys

def descriptors():
    found = {}
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # the listing's own
        flags = open(f"/proc/self/fdinfo/{name}").read().split("flags:")[1].split()[0]
        found[name] = [status.st_dev, status.st_ino, status.st_rdev, stat.S_IFMT(status.st_mode), flags]
    return found

def terminal():
    try:
        with open("/dev/tty") as tty:
            return {"size": list(os.get_terminal_size(tty.fileno())), "foreground": os.tcgetpgrp(tty.fileno()) == os.getpgrp()}
    except OSError as error:
        return error.errno

inherited = descriptors()
kept = ("Umask", "Uid", "Gid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd",
        "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed", "CoreDumping", "THP_enabled")
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
facts = {
    "arguments": sys.argv[2:],
    "descriptors": inherited,
    "terminals": {number: os.ttyname(int(number)) for number in inherited if os.isatty(int(number))},
    "terminal": terminal(),
    "folder": [os.getcwd(), os.readlink("/proc/self/root")],
    "environment": dict(os.environ),
    "status": {key: status.get(key, "").split() for key in kept},
    "limits": open("/proc/self/limits").read().splitlines(),
    "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduler": [os.sched_getscheduler(0), os.sched_getparam(0).sched_priority],
    "slack": open("/proc/self/timerslack_ns").read(),
    "oom": open("/proc/self/oom_score_adj").read(),
    "personality": open("/proc/self/personality").read(),
    "session": os.getsid(0),
    "group": os.getpgrp(),
    "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))
                   if name != "cgroup"},
}
with open(sys.argv[1], "w") as out:
    json.dump(facts, out, indent=1, sort_keys=True)
