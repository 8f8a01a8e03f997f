"""Starts a program with descriptors as a service manager hands them over: hand_over.py NAME=FD,NAME=FD... PROGRAM ARGUMENT...

They become descriptors 3, 4, ..., and $LISTEN_PID is the program's, since it keeps this process' number."""

import os
import sys

FIRST = 3

pairs = [pair.split("=") for pair in sys.argv[1].split(",") if pair]
# First out of the way of each other.
copies = [os.dup(int(fd)) for _, fd in pairs]
high = max([FIRST + len(pairs), *copies]) + 1
for place, copy in enumerate(copies):
    os.dup2(copy, high + place)
for place in range(len(copies)):
    os.dup2(high + place, FIRST + place, inheritable=True)
for fd in range(FIRST + len(pairs), high + len(copies)):
    try:
        os.close(fd)
    except OSError:
        pass
if pairs:
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(pairs))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in pairs)
os.execv(sys.argv[2], sys.argv[2:])
