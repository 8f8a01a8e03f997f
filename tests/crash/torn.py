"""Torn reads: readers of an arena's memory while the daemon changes it at full speed. Values of 1 byte to 1 MiB carry their
own checksum, key and number (tests/crash/torn.c); entries are written over, replaced, deleted, and come and go by
thousands; checkpoints run one after the other. No reader may see a value that is torn, a revision or a number that runs
backwards, two states at once, or crash.

HOLDFAST_TORN_SECONDS: how long (10; 600 by hand). HOLDFAST_TORN_RESTARTS: restarts of the daemon, half of them by SIGKILL
(20). HOLDFAST_TORN_GO: a reader in Go with the arguments of torn.c's, if there is one: two of four are it."""

import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, VarlinkError, equal, eventually, run, test  # noqa: E402
from keeper import KeptDaemon  # noqa: E402

SECONDS = float(os.environ.get("HOLDFAST_TORN_SECONDS", "10"))
RESTARTS = int(os.environ.get("HOLDFAST_TORN_RESTARTS", "20"))
TORN = os.environ["HOLDFAST_TORN"]
MUTANT = os.environ["HOLDFAST_TORN_NO_CHECK"]
GO = os.environ.get("HOLDFAST_TORN_GO")
OPTIONS = ["Journal.Sync=never", "Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Checkpoint.Keep=1"]
# A reader that has fallen behind, or a daemon that is sanitized: what comes after its time is told.
LATE = 120


def begin(program, verb, daemon, *arguments):
    return subprocess.Popen([program, verb, daemon.socket, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def finish(process):
    """What it printed; fails where it found something, or crashed."""
    try:
        text, _ = process.communicate(timeout=SECONDS + LATE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{process.args[:2]} does not end") from None
    equal((process.returncode, text if process.returncode else ""), (0, ""), " ".join(process.args[:2]))
    return text


def end(processes):
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


class Checkpoints(threading.Thread):
    """One after the other, until it is told to stop."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.socket = daemon.client()
        self.taken = 0
        self.stopping = False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                self.socket.call("TakeCheckpoint")
            except EOFError:
                return  # a test that has failed takes the daemon away
            self.taken += 1

    def stop(self):
        self.stopping = True
        self.join()
        self.socket.close()
        return self.taken


def made(**arguments):
    daemon = Daemon(**{"options": OPTIONS, **arguments})
    daemon.call("CreateArena", name="torn", maxBytes=256 << 20)
    return daemon


@test("four readers see nothing torn, nothing run backwards, and no two states, while all changes at full speed")
def _():
    daemon = made()
    checkpoints = Checkpoints(daemon)
    readers = [TORN, TORN, GO or TORN, GO or TORN]
    processes = [begin(TORN, "write", daemon, SECONDS, os.getpid())]
    try:
        processes += [begin(program, "read", daemon, SECONDS) for program in readers]
        for process in processes:
            print("#", finish(process).strip())
    finally:
        end(processes)
    print(f"# {checkpoints.stop()} checkpoints")


@test("a reader that does not look again after its copy is caught")
def _():
    daemon = made()
    deadline = time.monotonic() + max(60, SECONDS)
    found = ""
    while not found:
        if time.monotonic() > deadline:
            raise AssertionError("it was not")
        processes = [begin(TORN, "write", daemon, 5, 7), begin(MUTANT, "read", daemon, 4)]
        try:
            found = processes[1].communicate(timeout=LATE)[0] if processes[1].wait(LATE) else ""
        finally:
            end(processes)
    print("#", found.strip())
    equal(found.split(":")[0] in ("torn", "backwards", "two states"), True, found)


def followed(process, value, deadline=60):
    """Reads what it prints until that is the value."""
    def look():
        line = process.stdout.readline()
        if not line:
            raise AssertionError("the follower has ended")
        return line.strip() == value
    eventually(look, f"the value {value} is seen", deadline)


def restarts(daemon, count):
    """Readers and a follower over so many restarts under load, every second one by SIGKILL. How the state came back each
    time."""
    daemon.call("CreateArena", name="torn", maxBytes=256 << 20)
    daemon.call("Put", arena="torn", key="mark", value=0)
    follower = begin(TORN, "follow", daemon, "mark")
    readers = [begin(program, "read", daemon, 100000, "restarts") for program in (TORN, GO or TORN)]
    writer, late, recovered = None, [], []
    try:
        followed(follower, "0")
        for number in range(1, count + 1):
            writer = begin(TORN, "write", daemon, 100000, number)
            eventually(lambda: grown(daemon), "it is under load")
            if number % 2:
                daemon.kill()
            else:
                daemon.stop()
            writer.kill()
            writer.communicate()
            daemon.start()
            recovered.append(daemon.status()["recovery"])
            daemon.call("Put", arena="torn", key="mark", value=number)
            begun = time.monotonic()
            followed(follower, str(number))
            late.append(time.monotonic() - begun)
            equal([reader.poll() for reader in readers], [None, None], "the readers")
    finally:
        for reader in readers:
            if reader.poll() is not None:
                print("#", reader.stdout.read())
        end([follower, *readers, *([writer] if writer else [])])
    print(f"# what the next daemon has was seen after {sorted(late)[len(late) // 2]:.3f} s, at most {max(late):.3f} s")
    return recovered


@test("readers live through restarts and SIGKILLs of the daemon, and soon see what the next one has")
def _():
    restarts(Daemon(options=OPTIONS), RESTARTS)


@test("readers live through restarts and SIGKILLs where the arenas are adopted, or not")
def _():
    daemon = KeptDaemon(options=OPTIONS)
    recovered = restarts(daemon, RESTARTS)
    print("#", {how: recovered.count(how) for how in set(recovered)})
    equal("adopted" in recovered, True, "some of them were adopted")


def grown(daemon):
    """Updates have come since it started."""
    try:
        return daemon.call("GetStatus")["status"]["updates"] > 50
    except (ConnectionError, EOFError, VarlinkError):
        return False


run()
