#!/usr/bin/env python3
"""Reads of single entries from shared memory: holdfast_map_get beside LMDB's mdb_get in a read transaction of its own, and
a Redis GET of one client over a Unix socket; with the daemon updating at full speed beside it; by two processes at once;
by the Go client.

    tests/bench/map.py [BUILD] [--entries=1000000] [--seconds=3] [--rounds=5]

BUILD: the build directory, ./build if left out. Peers that are not there are left out, and named. In each round everything
runs once, one after the other; what is printed is medians, with the lowest and the highest."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

# What is compared: name, with whom, what must come out of it.
WANTED = (("holdfast", "lmdb", 2.0), ("holdfast", "redis", 50.0), ("holdfast, updated meanwhile", "holdfast", 0.5),
          ("holdfast, two processes", "holdfast", 1.8), ("holdfast, from Go", "holdfast", 0.6))


class Peers:
    """holdfast, and of the others those that are there, filled; stop ends what was started."""

    def __init__(self, build, entries, directory):
        self.program = os.path.join(build, "tests/bench/bench-map")
        self.go = os.path.join(build, "tests/go/go-map")  # reads holdfast's, with the same arguments
        self.entries = entries
        self.processes = []
        self.places = {"holdfast": os.path.join(directory, "holdfast.sock")}
        self._start([os.path.join(build, "daemon/holdfastd"), f"--state-directory={directory}/state",
                     f"--socket={self.places['holdfast']}", "--config=/dev/null", "--option=Journal.Sync=never",
                     "--option=Checkpoint.IntervalSec=0", "--option=Checkpoint.AtStop=no"], self.places["holdfast"])
        known = subprocess.run([self.program], capture_output=True, text=True, check=False).stderr.split("peers:")[1].split()
        if "lmdb" in known:
            self.places["lmdb"] = os.path.join(directory, "lmdb")
            os.mkdir(self.places["lmdb"])
        if "redis" in known and shutil.which("redis-server"):
            self.places["redis"] = os.path.join(directory, "redis.sock")
            self._start(["redis-server", "--port", "0", "--unixsocket", self.places["redis"], "--save", "", "--appendonly",
                         "no", "--dir", directory], self.places["redis"])
        for peer, place in self.places.items():
            subprocess.run([self.program, "fill", peer, place, str(entries)], check=True)

    def _start(self, command, socket):
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 30
        while not os.path.exists(socket):
            if self.processes[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start")
            time.sleep(0.01)

    def begin(self, verb, peer, seconds, program=None):
        return subprocess.Popen([program or self.program, verb, peer, self.places[peer], str(self.entries), str(seconds)],
                                stdout=subprocess.PIPE, text=True)

    @staticmethod
    def end(process):
        text, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        return float(text.split()[0])

    def read(self, peer, seconds, processes=1):
        """Reads a second, of all processes together."""
        return sum(map(self.end, [self.begin("read", peer, seconds) for _ in range(processes)]))

    def read_updated(self, peer, seconds):
        """Reads a second while somebody updates as fast as it goes, and updates a second."""
        writer = self.begin("write", peer, seconds * 2)
        time.sleep(0.2)
        reads = self.read(peer, seconds)
        return reads, self.end(writer)

    def stop(self):
        for process in self.processes:
            process.terminate()
            process.wait()


def measure(peers, seconds, rounds):
    """All numbers: name -> one a round."""
    numbers = {}
    for _ in range(rounds):
        for peer in peers.places:
            numbers.setdefault(peer, []).append(peers.read(peer, seconds))
        if os.path.exists(peers.go):
            reads = peers.end(peers.begin("read", "holdfast", seconds, peers.go))
            numbers.setdefault("holdfast, from Go", []).append(reads)
        reads, updates = peers.read_updated("holdfast", seconds)
        numbers.setdefault("holdfast, updated meanwhile", []).append(reads)
        numbers.setdefault("updates meanwhile", []).append(updates)
        numbers.setdefault("holdfast, two processes", []).append(peers.read("holdfast", seconds, 2))
    return numbers


def run(build, entries, seconds, rounds):
    directory = tempfile.mkdtemp(prefix="holdfast-bench-map-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    peers = None
    try:
        peers = Peers(build, entries, directory)
        return measure(peers, seconds, rounds)
    finally:
        if peers:
            peers.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--entries", type=int, default=1000000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the numbers alone")
    options = parser.parse_args()
    numbers = run(options.build, options.entries, options.seconds, options.rounds)
    if options.json:
        print(json.dumps(numbers))
        return
    for name, values in numbers.items():
        print(f"{name:28} {statistics.median(values):12,.0f} a second   ({min(values):,.0f} to {max(values):,.0f})")
    for name, other, wanted in WANTED:
        if name not in numbers or other not in numbers:
            print(f"{name} to {other}: one of them is not there")
            continue
        ratio = statistics.median(a / b for a, b in zip(numbers[name], numbers[other]))
        print(f"{name} to {other}: {ratio:.2f}, wanted {wanted}{'' if ratio >= wanted else '  <-- MISSED'}")


if __name__ == "__main__":
    main()
