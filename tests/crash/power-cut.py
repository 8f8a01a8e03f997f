"""The power is cut, again and again: with Sync=always no acknowledged update is missing after it, and none is there in
part.

One workload runs on a daemon whose calls on the state directory are recorded (tests/lib/record-disk.c): clients with
every kind of update, checkpoints, kills and restarts. Then, for places in the record chosen by dice, states of the disk
are built in which whatever no sync had covered is there, missing, torn or out of order (tests/lib/disk.py), and a
daemon starts on each. In a third of those with two images or more, a byte of the newest is changed. In a quarter, the power is
cut again while the daemon recovers.

$HOLDFAST_POWER_CUTS: how many states (300; by hand 10000). $HOLDFAST_POWER_KEEP: a directory that takes the record and
each state that failed."""

import bisect
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon as daemons  # noqa: E402
from daemon import Daemon, DaemonEnded, Skip, VarlinkError, run, test  # noqa: E402
from disk import RENAME, SIZE, SYNC_BEGIN, SYNC_END, WRITE, ZEROS, Directory, Disk, File  # noqa: E402
from disk import entries, read_tree, write_tree  # noqa: E402
from power_workload import LIBRARY, OPTIONS, Workload, scratch  # noqa: E402
from updates import Oracle, read_state  # noqa: E402

CUTS = int(os.environ.get("HOLDFAST_POWER_CUTS", "300"))
KEEP = os.environ.get("HOLDFAST_POWER_KEEP")
PROCESSES = 2
RECOVERY_CUTS = 2  # and one after it

_workload = []


def workload():
    """The one that all tests look at."""
    if os.environ.get("HOLDFAST_SANITIZED", "none") != "none":
        raise Skip("a sanitizer wants to be the first library that is loaded")
    if not LIBRARY:
        raise RuntimeError("HOLDFAST_RECORD_LIBRARY does not say where the library is")
    if not _workload:
        made = Workload(int(os.environ.get("HOLDFAST_POWER_SEED", time.time_ns())))
        made.run()
        _workload.append(made)
        if KEEP:
            os.makedirs(KEEP, exist_ok=True)
            shutil.copy(made.record, KEEP)
    return _workload[0]


# --- a daemon on a state of the disk


def flip(dice, disk, tree, partial):
    """Changes a byte of the newest image, if an older one that holds all arenas is certain to be there (what no other
    image holds is gone with the only one, as with Keep=1); returns what was done."""
    certain = disk.durable().get("state", {}).get("images", {})
    images = tree.get("state", {}).get("images", {})
    names = sorted(name for name in images if name.endswith(".image"))
    if not any(name in certain and name not in partial for name in names[:-1]):
        return ""
    image = images[names[-1]]
    at = dice.randrange(len(image)) if image else 0
    if image:
        image[at] ^= 1 << dice.randrange(8)
    return f"byte {at} of {names[-1]} changed"


class Starter:
    """Starts a daemon on one state after the other."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="holdfast-cut-", dir=scratch())
        self.daemon = Daemon(OPTIONS, directory=self.directory, start=False)

    def close(self):
        self.daemon.remove()
        daemons._daemons.remove(self.daemon)
        shutil.rmtree(self.directory, ignore_errors=True)

    def place(self, tree):
        shutil.rmtree(self.daemon.state, ignore_errors=True)
        with open(self.daemon.log_path, "wb"):
            pass
        write_tree(tree, self.directory)

    def read(self):
        with self.daemon.client() as client:
            return read_state(client)

    def end(self, clean):
        if clean:
            self.daemon.stop()
        else:
            self.daemon.kill()

    def check(self, tree, oracle, position, again):
        """What is wrong, and how many unacknowledged updates are there. again: how the daemon ends before it starts a
        second time on what the first start left, with one more update, or "cut" where the power is cut as it starts."""
        self.place(tree)
        try:
            self.daemon.start()
            found = self.read()
            wrong, more = oracle.difference(found, position)
            if wrong is None and again in ("clean", "killed"):
                wrong = self.check_again(found, again == "clean")
            self.end(clean=False)
            if wrong is None and again == "cut":
                wrong = self.check_recovery(tree, oracle, position)
        except DaemonEnded as ended:
            return str(ended), 0
        except (OSError, EOFError, VarlinkError, AssertionError) as error:
            self.daemon.remove()
            self.daemon.ended = True
            return f"{error!r}\n{self.daemon.log()}", 0
        return wrong and f"{wrong}\n{self.daemon.log()}", more

    def check_recovery(self, tree, oracle, position):
        """Cuts the power again while the daemon recovers: what is wrong. What it served must be there afterwards."""
        record = os.path.join(self.directory, "record")
        self.place(tree)
        with open(record, "wb"):
            pass
        disk = Disk()
        disk.load(self.directory)
        self.daemon.environment.update({"LD_PRELOAD": LIBRARY, "HOLDFAST_RECORD": record,
                                        "HOLDFAST_RECORD_ROOT": self.directory})
        try:
            self.daemon.start()
            found = self.read()
            self.end(clean=False)
        finally:
            self.daemon.environment.clear()
        return self.cut_recovery(disk, list(entries(record)), found, oracle, position)

    def cut_recovery(self, disk, recorded, found, oracle, position):
        dice = random.Random(position)
        cuts = sorted(dice.choices(range(len(recorded)), k=RECOVERY_CUTS)) + [len(recorded)]
        done = 0
        for cut in cuts:
            for entry in recorded[done:cut]:
                disk.apply(entry)
            done = cut
            self.place(disk.build(dice))
            self.daemon.start()
            again = self.read()
            self.end(clean=False)
            wrong = oracle.difference(again, position)[0]
            if wrong is None and cut == len(recorded) and again != found:
                wrong = "what was served is not there"
            if wrong:
                return f"cut again after {cut} of {len(recorded)} entries of the recovery: {wrong}"
        return None

    def check_again(self, found, clean):
        with self.daemon.client() as client:
            if "left" in found:
                revision = client.call("Put", arena="left", key="after", value=1)["revision"]
                if revision <= max(arena["revision"] for arena in found.values()):
                    return f"revision {revision} is given again"
                found["left"]["entries"]["after"] = (1, revision)
                found["left"]["revision"] = revision
        self.end(clean)
        self.daemon.start()
        return None if self.read() == found else "the second start finds something else than the first one left"


def places(record, dice, count):
    """Where to cut: positions in the record, half of them about changes that are rare."""
    ends, rare = [], []
    for number, entry in enumerate(entries(record)):
        ends.append(entry.end)
        if entry.kind not in (WRITE, ZEROS, SYNC_BEGIN, SYNC_END):
            rare.append(number)
    chosen = []
    for number in range(count):
        if number % 2:
            at = dice.choice(rare) + dice.randrange(-3, 9)
        else:
            at = dice.randrange(len(ends))
        chosen.append(ends[min(max(at, 0), len(ends) - 1)])
    return sorted(chosen)


def campaign(work, cuts, seed, forget=None):
    """One process's part: yields a dictionary for each state."""
    oracle = Oracle(work.updates)
    disk = Disk(forget)
    record = entries(work.record)
    starter = Starter()
    position = 0
    try:
        for number, cut in enumerate(cuts):
            while position < cut:
                entry = next(record)
                disk.apply(entry)
                position = entry.end
            if disk.root is None:
                continue
            dice = random.Random(f"{seed} {number}")
            tree = disk.build(dice)
            flipped = flip(dice, disk, tree, work.partial) if number % 3 == 0 else ""
            again = ("", "cut", "", "clean", "", "cut", "", "killed")[number % 8]
            wrong, more = starter.check(tree, oracle, cut, again)
            if wrong and KEEP and forget is None:
                keep(tree, cut, wrong)
            yield {"cut": cut, "flipped": flipped, "more": more, "number": number,
                   "wrong": wrong and f"cut at {cut} (dice {seed} {number}; {flipped}): {wrong}"}
    finally:
        starter.close()


def keep(tree, cut, wrong):
    directory = tempfile.mkdtemp(prefix=f"cut-{cut}-", dir=KEEP)
    write_tree(tree, directory)
    with open(os.path.join(directory, "wrong"), "w", encoding="utf-8") as file:
        file.write(wrong)


def process(work, cuts, seed, forget, queue):
    try:
        for result in campaign(work, cuts, seed, forget):
            queue.put(result)
    except BaseException:
        queue.put({"wrong": traceback.format_exc(), "more": 0, "flipped": ""})
    queue.put(None)


def cut_power(work, cuts, forget=None):
    """All results, from several processes."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    parts = [context.Process(target=process, args=(work, cuts[part::PROCESSES], f"{work.seed} {part}", forget, queue),
                             daemon=True) for part in range(PROCESSES)]
    for part in parts:
        part.start()
    results, left = [], len(parts)
    while left:
        result = queue.get(timeout=300)
        left -= result is None
        if result:
            results.append(result)
            if len(results) % 1000 == 0:
                print(f"# {len(results)} states, {sum(bool(one['wrong']) for one in results)} failed", flush=True)
    for part in parts:
        part.join()
    return results


# --- tests


def all_applied(work, forget=None):
    disk = Disk(forget)
    for entry in entries(work.record):
        disk.apply(entry)
    return disk


@test("the record tells all that is on the disk")
def _():
    work = workload()
    found = {"state": read_tree(os.path.join(work.root, "state"))}
    recorded = all_applied(work).memory()
    for folder in ("images", "journal"):
        names = found["state"][folder].keys() | recorded["state"][folder].keys()
        for name in names:
            left, right = (tree["state"][folder].get(name) for tree in (found, recorded))
            if left is None or right is None or left != bytes(right):
                raise AssertionError(f"{folder}/{name} is not what was recorded")
    if not found["state"]["images"] or not found["state"]["journal"]:
        raise AssertionError("there are no images, or no journal")


@test("the workload has segments switched, recycled and retired, images removed, and blocks under way")
def _():
    work = workload()
    names = {"made": 0, "spare": 0, "published": 0, "ahead": 0}
    for entry in entries(work.record):
        if entry.kind == RENAME:
            names["made"] += entry.names[1].endswith(".journal")
            names["spare"] += entry.names[0] == "spare.segment"
            names["published"] += entry.names[1].endswith(".image")
        # Nothing else is as long as an image whose size goes ahead of what is being written.
        names["ahead"] += entry.kind == SIZE and entry.bytes > 15 << 20
    print(f"# {names}, {len(work.updates)} updates, {work.position()} bytes recorded")
    if names["made"] < 10 or names["spare"] < 3 or names["published"] < 5 or names["ahead"] < 5:
        raise AssertionError(f"too little happened: {names}")


@test("no acknowledged update is missing, and none is there in part")
def _():
    work = workload()
    started = time.monotonic()
    results = cut_power(work, places(work.record, random.Random(work.seed), CUTS))
    seconds = time.monotonic() - started
    failed = [result["wrong"] for result in results if result["wrong"]]
    print(f"# {len(results)} states in {seconds:.1f} s, {sum(bool(result['flipped']) for result in results)} with a "
          f"damaged image, {sum(result['more'] > 0 for result in results)} with updates that nobody was told of, "
          f"{len(failed)} failed")
    if failed:
        raise AssertionError(f"{len(failed)} states of seed {work.seed}:\n" + "\n".join(failed[:5]))
    if len(results) < CUTS * 0.9 or not any(result["flipped"] for result in results):
        raise AssertionError("too few states were looked at")


class Nothing(random.Random):
    """Dice by which nothing is kept that is not durable."""

    def random(self):
        return 1.0

    def choice(self, sequence):
        return sequence[0]


@test("a sync of the journal that counts as not done loses an update")
def _():
    work = workload()
    begun, syncs, disk = {}, [], Disk()
    for entry in entries(work.record):
        disk.apply(entry)
        what = disk.inodes.get(entry.file)
        if entry.kind == SYNC_BEGIN and isinstance(what, File):
            begun[entry.thread] = entry.end
        elif entry.kind == SYNC_END and entry.thread in begun:
            syncs.append((entry.end, begun.pop(entry.thread)))
    ends = [end for end, _ in syncs]
    tried = 0
    for update in sorted(work.updates, key=lambda update: update.acknowledged):
        at = bisect.bisect_right(ends, update.acknowledged) - 1
        # Only this sync can have covered it: the one before it had begun before the update was sent.
        if not update.revision or at < 1 or update.sent <= max(end for end, _ in syncs[:at]):
            continue
        if update.acknowledged - update.sent > 1 << 20 or tried == 8:
            continue
        tried += 1
        forgotten = ends[at]
        if not lost(work, update.acknowledged, lambda entry, what: entry.end == forgotten):
            raise AssertionError(f"without the sync that ends at {forgotten} all is there at {update.acknowledged}")
    if tried < 4:
        raise AssertionError(f"only {tried} updates had a sync of their own")


def lost(work, cut, forget):
    disk = Disk(forget)
    for entry in entries(work.record, cut):
        disk.apply(entry)
    starter = Starter()
    try:
        return starter.check(disk.build(Nothing()), Oracle(work.updates), cut, "")[0]
    finally:
        starter.close()


@test("syncs of directories that count as not done are noticed")
def _():
    work = workload()
    cuts = places(work.record, random.Random(work.seed + 1), 12)
    results = cut_power(work, cuts, lambda entry, what: isinstance(what, Directory))
    if not any(result["wrong"] for result in results):
        raise AssertionError("nothing was missing")


run()
