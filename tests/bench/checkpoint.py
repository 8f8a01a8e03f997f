#!/usr/bin/env python3
"""Checkpoints under load, by size of the state: the pause, the memory above the arenas, the rate against dd, the restore.

    HOLDFASTD=build/daemon/holdfastd tests/bench/checkpoint.py [MIB ...]      64 and 1024 if left out

For each size 30 checkpoints under a steady load of random updates of 1000-byte values from two connections (pauses: median, p80,
max), then as many updates as go through during three more (memory of parent and child together above the arenas).
Prints a table; asserts nothing."""

import glob
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon  # noqa: E402
from varlink import Client  # noqa: E402

RING = 64 << 20
VALUE = 1000
PER_ENTRY = 1088  # bytes of arena an entry of such a value takes
CHECKPOINTS = 30


def apply_message(numbers, fill):
    operations = ",".join(f'{{"op":"put","key":"k{n}","value":"{fill * VALUE}"}}' for n in numbers)
    return f'{{"method":"io.holdfast.Apply","parameters":{{"arena":"a","operations":[{operations}]}}}}\0'.encode()


def drain(client, replies):
    while replies:
        data = client.socket.recv(65536)
        if b'"error"' in data:
            raise RuntimeError(data[:300])
        replies -= data.count(0)


def load(path, entries, seed, operations, pause, stop, done):
    """Sends prepared Applies of random keys, one after the other, with a pause between them."""
    dice = random.Random(seed)
    messages = [apply_message([dice.randrange(entries) for _ in range(operations)], "abcdefgh"[i % 8]) for i in range(200)]
    with Client(path) as client:
        count, began = 0, time.monotonic()
        while not stop.is_set():
            client.send_bytes(messages[count % len(messages)])
            drain(client, 1)
            count += 1
            if pause:
                time.sleep(pause)
        done.put(count * operations / (time.monotonic() - began))


class Load:
    def __init__(self, daemon, entries, operations, pause):
        context = multiprocessing.get_context("fork")
        self.stop, self.done = context.Event(), context.Queue()
        self.processes = [context.Process(target=load, args=(daemon.socket, entries, seed, operations, pause, self.stop, self.done))
                          for seed in range(2)]

    def __enter__(self):
        for process in self.processes:
            process.start()
        time.sleep(2)  # messages are prepared
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.rate = sum(self.done.get() for _ in self.processes)
        for process in self.processes:
            process.join()


def field(path, name):
    with open(path) as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) << 10
    return 0


class Memory:
    """The highest sum of what parent and child have for themselves and of shared memory that was not there before."""

    def __init__(self, daemon):
        self.daemon, self.stop, self.peak = daemon, threading.Event(), 0
        self.shared = field("/proc/meminfo", "Shmem")
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.stop.is_set():
            total = field("/proc/meminfo", "Shmem") - self.shared
            for status in [f"/proc/{self.daemon.pid}/status"] + self.children():
                try:
                    total += field(status, "RssAnon")
                except OSError:
                    pass
            self.peak = max(self.peak, total)
            time.sleep(0.002)

    def children(self):
        try:
            with open(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children") as file:
                return [f"/proc/{pid}/status" for pid in file.read().split()]
        except OSError:
            return []

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def fill(client, entries):
    batch = 500
    for begin in range(0, entries, batch):
        client.send_bytes(apply_message(range(begin, min(entries, begin + batch)), "x"))
        drain(client, 1)


def dd_rate(directory, size):
    began = time.monotonic()
    subprocess.run(["dd", "if=/dev/zero", f"of={directory}/dd", "bs=1M", f"count={size >> 20}", "conv=fsync"],
                   check=True, stderr=subprocess.DEVNULL)
    rate = size / (time.monotonic() - began)
    os.unlink(f"{directory}/dd")
    return rate


def median(values):
    return sorted(values)[len(values) // 2]


def measure(mib):
    entries = (mib << 20) // PER_ENTRY
    row = {"MiB": mib}
    with Daemon(options=["Journal.Sync=never", "Checkpoint.IntervalSec=0", "Checkpoint.Keep=1", "Checkpoint.AtStop=no",
                         "Arenas.ArenaBytesMax=20G", "Checkpoint.JournalBytesMax=64G"]) as daemon, daemon.client() as client:
        client.call("CreateArena", name="a")
        fill(client, entries)
        client.call("TakeCheckpoint")
        rates, dds = [], []
        for _ in range(3):
            dds.append(dd_rate(daemon.directory, mib << 20))
            client.call("Put", arena="a", key="n", value=1)
            taken = client.call("TakeCheckpoint")["checkpoint"]
            rates.append(taken["stateBytes"] / (taken["durationUSec"] / 1e6))
        row["image MB/s"], row["dd MB/s"] = median(rates) / 1e6, median(dds) / 1e6
        with Load(daemon, entries, 10, 0.002) as steady:
            pauses = [client.call("TakeCheckpoint")["checkpoint"]["pauseUSec"] for _ in range(CHECKPOINTS)]
        row["updates/s"] = steady.rate
        row["pause median us"], row["p80"], row["max"] = median(pauses), sorted(pauses)[int(len(pauses) * 0.8)], max(pauses)
        before = field(f"/proc/{daemon.pid}/status", "RssAnon")
        with Load(daemon, entries, 100, 0) as heavy, Memory(daemon) as memory:
            taken = [client.call("TakeCheckpoint")["checkpoint"] for _ in range(3)]
        row["heavy/s"], row["captured"] = heavy.rate, max(c["pagesCaptured"] for c in taken)
        row["memory MiB"] = memory.peak >> 20
        row["bound MiB"] = (RING + (16 << 20) + (mib << 20) // 200) >> 20
        row["parent MiB"] = before >> 20
        last = client.call("TakeCheckpoint")["checkpoint"]
        daemon.kill()
        for path in glob.glob(daemon.path("journal", "*")):
            os.unlink(path)
        daemon.start()
        status = daemon.status()
        row["restore GB/s"] = last["stateBytes"] / status["recoveryDurationUSec"] / 1e3
    daemon.remove()
    return row


def main():
    rows = [measure(int(text)) for text in sys.argv[1:] or ["64", "1024"]]
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---:|" * len(names))
    for row in rows:
        print("| " + " | ".join(f"{row[name]:.1f}" if isinstance(row[name], float) else str(row[name]) for name in names) + " |")


main()
