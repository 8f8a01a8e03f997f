#!/usr/bin/env python3
"""What a start costs: replay of the journal into arenas, and an image with a journal behind it.

    HOLDFASTD=build/daemon/holdfastd tests/bench/recovery.py [MIB [RECORDS]]      1024 and 1000000 if left out

Both from the page cache, killed by SIGKILL before each start, 5 starts each (median, all):
  replay   RECORDS updates of random keys, 16-byte keys and 100-byte values, no image: records a second
  both     an image of MIB of arenas (1000-byte values), and RECORDS updates of random keys of it behind the image
Time is the recovery as the daemon tells it in its status; beside it, the processor time of the process up to the first
answer, which other load on the machine moves less. Prints a table; asserts nothing."""

import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon  # noqa: E402

STARTS = 5
VALUE = 1000
PER_ENTRY = 1088  # bytes of arena an entry of such a value takes
OPTIONS = ["Checkpoint.IntervalSec=0", "Checkpoint.JournalBytesMax=1T", "Checkpoint.AtStop=no", "Journal.Sync=never",
           "Arenas.MemoryBytesMax=1T", "Arenas.ArenaBytesMax=64G"]


def load(daemon, *options):
    program = os.path.join(os.path.dirname(daemon.program), "..", "tests", "bench", "load")
    subprocess.run([program, "--protocol=holdfast", f"--socket={daemon.socket}", *options], check=True,
                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def updates(daemon, records, keys, value):
    """So many updates at least, of a record each. Returns how many."""
    with daemon.client() as client:
        before = client.call("GetStatus")["status"]["updates"]
        while client.call("GetStatus")["status"]["updates"] - before < records:
            load(daemon, "--command=put", "--connections=16", "--pipelined=16", f"--keys={keys}", f"--value-bytes={value}",
                 "--seconds=500ms", f"--seed={time.time_ns() % 10**9}")
        return client.call("GetStatus")["status"]["updates"] - before


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def starts(daemon):
    recoveries, processor = [], []
    for _ in range(STARTS):
        daemon.kill()
        daemon.start()
        with daemon.client() as client:
            status = client.call("GetStatus")["status"]
        processor.append(processor_seconds(daemon.pid))
        recoveries.append(status["recoveryDurationUSec"] / 1e6)
    return recoveries, processor


def tell(what, recoveries, processor, records=None):
    median = statistics.median(recoveries)
    rate = f"{records / median:,.0f} records/s" if records else ""
    print(f"{what:44} {median:7.3f} s  {rate:>20}  processor {statistics.median(processor):5.2f} s"
          f"   ({', '.join(f'{seconds:.3f}' for seconds in recoveries)})", flush=True)


def replay(records):
    with Daemon(options=OPTIONS) as daemon:
        with daemon.client() as client:
            client.call("CreateArena", name="a")
        done = updates(daemon, records, 1_000_000, 100)
        tell(f"replay of {done:,} records", *starts(daemon), done)


def both(mib, records):
    entries = (mib << 20) // PER_ENTRY
    with Daemon(options=OPTIONS) as daemon:
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            load(daemon, "--command=apply", "--fill", f"--keys={entries}", f"--value-bytes={VALUE}")
            used = client.call("GetStatus")["status"]["usedBytes"]
            client.call("TakeCheckpoint")
        done = updates(daemon, records, entries, 100)
        tell(f"image of {used / 2**30:.2f} GiB and {done:,} records", *starts(daemon))


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    records = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    replay(records)
    both(mib, records)


if __name__ == "__main__":
    main()
