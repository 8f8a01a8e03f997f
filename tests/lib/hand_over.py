"""Starts a program with descriptors as a service manager hands them over: hand_over.py NAME=FD,NAME=FD... PROGRAM ARGUMENT...
$HAND_OVER_PRELOAD is for the program alone to be preloaded.

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
preload = os.environ.pop("HAND_OVER_PRELOAD", None)
if preload:
    os.environ["LD_PRELOAD"] = preload
os.execv(sys.argv[2], sys.argv[2:])
