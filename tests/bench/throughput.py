#!/usr/bin/env python3
"""Calls a second beside Redis, on the same disk in the same run, in alternation; medians and ratios.

    HOLDFASTD=build/daemon/holdfastd LOAD=build/tests/bench/load tests/bench/throughput.py [ROUNDS] [SECONDS]

With Sync=always against appendfsync always, with Sync=never against no append-only file; and what Sync=interval costs against
never. Needs redis-server. Asserts nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon  # noqa: E402

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
KEYS, VALUE = 100000, 100
SHAPES = (("put", 1, 1), ("put", 50, 1), ("put", 50, 16), ("get", 1, 1), ("get", 50, 1), ("get", 50, 16))
DURABLE = (("put", 1, 1), ("put", 50, 1))


class Redis:
    def __init__(self, durable):
        self.directory = tempfile.mkdtemp(prefix="holdfast-bench-")
        self.socket = self.directory + "/socket"
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.directory, "--save", "",
             "--appendonly", "yes" if durable else "no", "--appendfsync", "always"], stdout=subprocess.DEVNULL)
        while not os.path.exists(self.socket):
            time.sleep(0.01)

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


def holdfast(sync):
    daemon = Daemon(options=[f"Journal.Sync={sync}", "Checkpoint.IntervalSec=0", "Checkpoint.JournalBytesMax=64G",
                             "Checkpoint.AtStop=no"])
    daemon.call("CreateArena", name="a")
    load("holdfast", daemon.socket, ("put", 50, 16), 1)
    return daemon


def load(protocol, socket, shape, seconds=SECONDS):
    operation, connections, pipelined = shape
    out = subprocess.run([os.environ["LOAD"], protocol, socket, operation, str(connections), str(pipelined), str(VALUE),
                          str(KEYS), str(seconds)], check=True, capture_output=True, text=True)
    return float(out.stdout.split()[0])


def median(values):
    return sorted(values)[len(values) // 2]


def compare(title, a, b, shapes):
    """a, b: (name, function of a shape): run in alternation."""
    print(f"\n{title}\n\n| calls | clients | pipelined | {a[0]} | {b[0]} | ratio |\n|---|---:|---:|---:|---:|---:|")
    for shape in shapes:
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(a[1](shape))
            theirs.append(b[1](shape))
        print(f"| {shape[0]} | {shape[1]} | {shape[2]} | {median(ours):,.0f} | {median(theirs):,.0f} "
              f"| {median(ours) / median(theirs):.2f} |", flush=True)


def main():
    for sync, durable, shapes in (("always", True, DURABLE), ("never", False, SHAPES)):
        daemon, redis = holdfast(sync), Redis(durable)
        load("redis", redis.socket, ("put", 50, 16), 1)
        compare(f"Sync={sync}", ("holdfast", lambda shape: load("holdfast", daemon.socket, shape)),
                ("Redis", lambda shape: load("redis", redis.socket, shape)), shapes)
        redis.close()
        daemon.kill()
        daemon.remove()
    interval, never = holdfast("interval"), holdfast("never")
    compare("Sync=interval against never", ("interval", lambda shape: load("holdfast", interval.socket, shape)),
            ("never", lambda shape: load("holdfast", never.socket, shape)), SHAPES[:3])
    for daemon in (interval, never):
        daemon.kill()
        daemon.remove()


main()
