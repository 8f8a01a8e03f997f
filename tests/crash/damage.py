"""Damage: bytes of a small journal and of small images flipped, files cut off at every length, files missing. A start on
that ends with 65 and a message that names the file and the place, or comes up with exactly the state that was; what lies
behind the journal's durable mark nobody was promised, so there a start may also come up with the first of the updates. The
mark's sector follows the updates within milliseconds, and is waited for. Never anything else.

Each place is a start of the real daemon: as many at a time as there are processors, on small files, in memory where that
can be (what reaches the disk when is not looked at here, but in power-cut.py).

HOLDFAST_DAMAGES: how many places of each file, evenly spread; 0 is every one."""

import contextlib
import glob
import multiprocessing
import os
import random
import shutil
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import REPORTS, Daemon, DaemonEnded, equal, eventually, in_memory, run, test  # noqa: E402

DAMAGES = int(os.environ.get("HOLDFAST_DAMAGES", "60"))
# Small segments: each start reads them to the end, and makes two.
OPTIONS = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Journal.SegmentBytesMax=1M"]
EX_DATAERR = 65
CONTEXT = multiprocessing.get_context("fork")
WORKERS = len(os.sched_getaffinity(0))


def update(client, number):
    """One update of a small state, of every kind in turn."""
    key = f"k{number % 7}"
    kind = number % 8
    if kind == 0:
        return client.call("CreateArena", name=f"arena{number}", maxBytes=1 << 20)
    if kind == 1:
        return client.call("Put", arena="a", key=key, value={"n": number, "text": "x" * number})
    if kind == 2:
        return client.call("Merge", arena="a", key=key, patch={"m": number})
    if kind == 3:
        return client.call("Apply", arena="a", operations=[{"op": "put", "key": f"p{i}", "value": number} for i in range(5)])
    if kind == 4:
        return client.call("Increment", arena="a", key="n", by=number)
    if kind == 5:
        return client.call("Delete", arena="a", key=f"p{number % 5}")
    if kind == 6:
        return client.call("ChangeArena", name=f"arena{number - 6}", maxBytes=2 << 20, mode=0o660)
    return client.call("DropArena", name=f"arena{number - 7}") if number % 16 < 8 else \
        client.call("Put", arena=f"arena{number - 7}", key=key, value=number)


def state_of(client):
    state = {}
    for arena in client.call("ListArenas")["arenas"]:
        name = arena["name"]
        entries = [(entry["key"], repr(entry["value"]), entry["revision"])
                   for page in client.call_more("List", arena=name) for entry in page["entries"]]
        state[name] = (arena["maxBytes"], arena["mode"], arena["revision"], sorted(entries))
    return state


def marked_revision(daemon):
    """The newest that a segment's mark sector tells: checksum and flags, then segment, offset and revision of the mark."""
    newest = 0
    for path in glob.glob(daemon.path("journal", "*.journal")):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # it may be retired meanwhile
            sector = file.read(1024)[512:]
            newest = max(newest, struct.unpack_from("<5Q", sector)[4])
    return newest


class Saved:
    """What a daemon left behind when it was killed: the files, and the states that it went through."""

    def __init__(self, sync, checkpoints_after=(), count=16, journal=True, retired=False, compression="none"):
        """retired: with the segments that were retired, as if it had been killed before that."""
        self.options = OPTIONS + [f"Journal.Sync={sync}", f"Checkpoint.Compression={compression}"]
        self.states, self.files = [{}], {}
        daemon = Daemon(options=self.options)
        with daemon.client() as client:
            client.call("CreateArena", name="a", maxBytes=1 << 20)
            self.states.append(state_of(client))
            for number in range(count):
                update(client, number)
                self.states.append(state_of(client))
                if number in checkpoints_after:
                    if retired:
                        self.read(daemon, "journal")
                    client.call("TakeCheckpoint")
            if sync == "always":
                eventually(lambda: marked_revision(daemon) == client.call("GetStatus")["status"]["durableRevision"],
                           "the durable mark is in its sector")
        daemon.kill()
        self.read(daemon, "images")
        if journal:
            self.read(daemon, "journal")
        daemon.remove()
        self.daemon = Daemon(options=self.options, start=False)

    def read(self, daemon, folder):
        for name in sorted(os.listdir(daemon.path(folder))):
            if not name.endswith((".image", ".journal")):
                continue
            with open(daemon.path(folder, name), "rb") as file:
                content = file.read()
            self.files[folder, name] = (content.rstrip(b"\0"), len(content))

    def names(self, folder):
        return [name for name in self.files if name[0] == folder]

    def lay_out(self, changed):
        """The files again, except for what changed: (folder, name) -> (bytes, size), or None where it is missing."""
        shutil.rmtree(self.daemon.state, ignore_errors=True)
        for folder in ("images", "journal"):
            os.makedirs(self.daemon.path(folder), mode=0o700)
        os.chmod(self.daemon.state, 0o700)
        for name, content in {**self.files, **changed}.items():
            if content is not None:
                with open(self.daemon.path(*name), "wb") as file:
                    file.write(content[0])
                    file.truncate(content[1])
        if os.path.exists(self.daemon.log_path):
            os.unlink(self.daemon.log_path)

    def start(self, changed):
        """The state that it comes up with, or None where it says that it cannot."""
        self.lay_out(changed)
        try:
            self.daemon.start()
        except DaemonEnded as ended:
            equal(ended.status, EX_DATAERR, "the exit status")
            return None
        finally:
            reports = [report for report in REPORTS if report in self.daemon.log()]
            equal(reports, [], "reports")
        with self.daemon.client() as client:
            found = state_of(client)
        self.daemon.kill()
        return found

    def judge(self, name, changed, what, prefix):
        """Starts, and counts how it ended: whole, refused, or (where prefix) the number of updates there."""
        try:
            found = self.start(changed)
            log = self.daemon.log()
            if found is None:
                # Where the journal does not go on, it is the file before that place that is named: which of the two is
                # damaged cannot always be told.
                named = name[1].removesuffix(".image") if name[0] == "images" else ".journal"
                if named not in log or "offset" not in log:
                    raise AssertionError("the message does not name the file and the place")
                return "refused"
            if found == self.states[-1]:
                return "whole"
            if prefix and found in self.states:
                return "first updates"
            raise AssertionError(f"a state that never was: {found}" if found not in self.states else
                                 f"only {self.states.index(found)} of {len(self.states) - 1} updates are there")
        except AssertionError as error:
            raise AssertionError(f"{'/'.join(name)} {what}: {error}\n{self.daemon.log()[-3000:]}") from error

    def judge_all(self, name, chosen, prefix, allowed):
        """How they ended: {outcome: number}."""
        outcomes = {}
        for damage in chosen:
            what, changed = damaged(*self.files[name], *damage)
            outcome = self.judge(name, {name: changed}, what, prefix)
            if outcome not in allowed:
                raise AssertionError(f"{'/'.join(name)} {what}: {outcome}\n{self.daemon.log()[-3000:]}")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcomes

    def work(self, results, *arguments):
        """In a process of its own, with a daemon of its own."""
        self.daemon = Daemon(options=self.options, start=False)
        try:
            results.send(self.judge_all(*arguments))
        except Exception as error:
            results.send(error)
        finally:
            self.daemon.remove()

    def campaign(self, name, prefix=False, allowed=("whole", "refused", "first updates")):
        """Flips and truncations of one file."""
        began, outcomes, failures, workers = time.monotonic(), {}, [], []
        chosen = damages(*self.files[name])
        for number in range(WORKERS):
            results, theirs = CONTEXT.Pipe(duplex=False)
            workers.append((CONTEXT.Process(target=self.work, args=(theirs, name, chosen[number::WORKERS], prefix, allowed),
                                            daemon=True), results))
            workers[-1][0].start()
            theirs.close()
        for worker, results in workers:
            result = results.recv()
            worker.join()
            if isinstance(result, Exception):
                failures.append(result)
                continue
            for outcome, count in result.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        if failures:
            raise failures[0]
        equal(sum(outcomes.values()), len(chosen), "the places that were tried")
        # Where nothing else is left, a state that was taken away whole is a new one.
        outcome = self.judge(name, {name: None}, "missing", prefix) if len(self.files) > 1 else "not tried"
        print(f"# {'/'.join(name)}, {len(self.files[name][0])} bytes: {len(chosen)} damages: {outcomes}; missing: {outcome}; "
              f"{time.monotonic() - began:.1f} s", flush=True)
        return outcomes


def places(end):
    if DAMAGES == 0 or DAMAGES >= end:
        return range(end)
    step = end / DAMAGES
    dice = random.Random(time.time_ns())
    return sorted({int((number + dice.random()) * step) for number in range(DAMAGES)})


def damages(content, size):
    """(kind, place): one bit of every byte that is not zero from there to the end, and a few behind; every length."""
    return ([("flip", place) for place in places(min(size, len(content) + 64))] +
            [("cut", place) for place in places(len(content))])


def damaged(content, size, kind, place):
    """What it is called, and (bytes, size)."""
    if kind == "cut":
        return f"cut off at {place}", (content[:place], place)
    changed = bytearray(content.ljust(place + 1, b"\0"))
    changed[place] ^= 1 << (place * 5 % 8)
    return f"with byte {place} flipped", (changed, size)


@test("a journal that is durable: what is damaged is refused, or harmless")
def _():
    saved = Saved("always")
    equal(saved.start({}), saved.states[-1], "the state without damage")
    for name in saved.names("journal"):
        saved.campaign(name)


@test("a journal that is not durable: what is damaged ends it, or is refused")
def _():
    saved = Saved("never")
    equal(saved.start({}), saved.states[-1], "the state without damage")
    outcomes = [saved.campaign(name, prefix=True) for name in saved.names("journal")]
    if not outcomes[0].get("first updates"):
        raise AssertionError(f"only {outcomes[0]}")


@test("an image with an older one and their journal: whatever is damaged in either, the state is whole")
def _():
    saved = Saved("always", checkpoints_after=(4, 10))
    equal(len(saved.names("images")), 2, "images")
    for name in saved.names("images"):
        saved.campaign(name, allowed=("whole",))


@test("an image whose journal is still there from its beginning: whatever is damaged in it, the state is whole")
def _():
    saved = Saved("always", checkpoints_after=(10,), retired=True)
    [name] = saved.names("images")
    saved.campaign(name, allowed=("whole",))


@test("the journal behind images: what is damaged and needed is refused")
def _():
    saved = Saved("always", checkpoints_after=(4, 10))
    for name in saved.names("journal"):
        saved.campaign(name)


@test("an image alone: what is damaged is refused, or harmless")
def _():
    saved = Saved("always", checkpoints_after=(15,), journal=False)
    [name] = saved.names("images")
    outcomes = saved.campaign(name)
    if not outcomes.get("refused"):
        raise AssertionError(f"only {outcomes}")


@test("a compressed image alone: what is damaged is refused, or harmless")
def _():
    saved = Saved("always", checkpoints_after=(15,), journal=False, compression="zstd")
    [name] = saved.names("images")
    outcomes = saved.campaign(name)
    if not outcomes.get("refused"):
        raise AssertionError(f"only {outcomes}")


in_memory()
run()
