#!/usr/bin/env python3
"""What a restart costs by size of the state, when a service manager keeps the arenas (tests/lib/keeper.py): the daemon is
killed with SIGKILL and started again.

    HOLDFASTD=build/daemon/holdfastd tests/bench/adopt.py [MIB ...]      64 and 1024 if left out

For each size, over 5 restarts (median, max): the recovery as the daemon tells it, the time from the start of the program to
the first answer (a wrapper's interpreter included), and the first 1000 Gets of random keys. Prints a table; asserts
nothing."""

import os
import random
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon  # noqa: E402
from keeper import KeptDaemon  # noqa: E402

VALUE = 1000
PER_ENTRY = 1088  # bytes of arena an entry of such a value takes
BATCH = 5000
RESTARTS = 5


def fill(client, entries):
    for first in range(0, entries, BATCH):
        operations = ",".join(f'{{"op":"put","key":"k{n}","value":"{"x" * VALUE}"}}'
                              for n in range(first, min(entries, first + BATCH)))
        client.send_bytes(f'{{"method":"io.holdfast.Apply","parameters":{{"arena":"a","operations":[{operations}]}}}}\0'
                          .encode())
        client.receive()


def row(values, unit):
    return f"{statistics.median(values) * unit:10.1f} {max(values) * unit:10.1f}"


def measure(mib):
    entries = (mib << 20) // PER_ENTRY
    daemon = KeptDaemon(options=["Checkpoint.IntervalSec=0", "Checkpoint.JournalBytesMax=1T", "Journal.Sync=never",
                                 "Arenas.MemoryBytesMax=1T", "Arenas.ArenaBytesMax=64G"])
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        fill(client, entries)
    daemon.settle()
    recoveries, starts, gets = [], [], []
    for _ in range(RESTARTS):
        daemon.prove()
        daemon.kill()
        began = time.monotonic()
        Daemon.start(daemon)
        starts.append(time.monotonic() - began)
        with daemon.client() as client:
            began = time.monotonic()
            for _ in range(1000):
                client.call("Get", arena="a", key=f"k{random.randrange(entries)}")
            gets.append(time.monotonic() - began)
            status = client.call("GetStatus")["status"]
        if status["recovery"] != "adopted":
            raise RuntimeError(f"recovered from {status['recovery']}:\n{daemon.log()[-2000:]}")
        recoveries.append(status["recoveryDurationUSec"])
    daemon.kill()
    daemon.forget()
    print(f"{mib:8} {row(recoveries, 1e-3)} {row(starts, 1e3)} {row(gets, 1e3)}", flush=True)


print("     MiB  recovery (ms)           start to answer (ms)   1000 Gets (ms)")
print("             median        max     median        max     median        max")
for size in [int(argument) for argument in sys.argv[1:]] or [64, 1024]:
    measure(size)
