"""The cut is exact: under a load of every kind of update, each image, restored alone in a second daemon, is the state
that the acknowledged updates up to its revision make: no more, no less."""

import multiprocessing
import os
import random
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, VarlinkError, run, test  # noqa: E402
from merge import merged  # noqa: E402

CLIENTS = 4
ENTRIES = int(os.environ.get("HOLDFAST_CUT_ENTRIES", "12000"))
CHECKPOINTS = int(os.environ.get("HOLDFAST_CUT_CHECKPOINTS", "10"))
PIPELINE = 8


def operation(choice, dice):
    """A random update as (method, parameters without the arena). Keys are shared by all clients."""
    key = f"k{dice.randrange(ENTRIES)}"
    account = f"account{dice.randrange(40)}"
    if choice < 45:
        return "Put", {"key": key, "value": {"n": dice.randrange(10**9), "text": "x" * dice.randrange(10, 2400)}}
    if choice < 60:
        return "Merge", {"key": key, "patch": {"m": dice.randrange(100), "n": None}}
    if choice < 70:
        return "Delete", {"key": key}
    if choice < 80:
        return "Increment", {"key": account, "by": dice.randrange(-5, 6)}
    other, amount = f"account{dice.randrange(40)}", dice.randrange(1, 100)
    return "Apply", {"operations": [{"op": "increment", "key": account, "by": -amount},
                                    {"op": "increment", "key": other, "by": amount},
                                    {"op": "put", "key": key, "value": [account, other, amount]}]}


def writer(socket_path, seed, stop, results):
    """Updates until told to stop; gives back what was acknowledged: (revision, method, parameters)."""
    from varlink import Client
    dice, done = random.Random(seed), []
    with Client(socket_path) as client:
        while not stop.is_set():
            calls = [operation(dice.randrange(100), dice) for _ in range(PIPELINE)]
            for method, parameters in calls:
                client.send(method, {"arena": "a", **parameters})
            for method, parameters in calls:
                try:
                    done.append((client.receive()["revision"], method, parameters))
                except VarlinkError as error:
                    if error.short != "NoSuchKey":
                        raise
    results.put(done)


class Model:
    """What the acknowledged updates make, one after the other."""

    def __init__(self, entries):
        self.entries = dict(entries)

    def apply(self, revision, method, parameters):
        for op in parameters.get("operations") or [{"op": method.lower(), **parameters}]:
            key = op["key"]
            value = self.entries.get(key, (None, 0))[0]
            if op["op"] == "delete":
                del self.entries[key]
                continue
            if op["op"] == "put":
                value = op["value"]
            elif op["op"] == "merge":
                value = merged(value, op["patch"])
            else:
                value = (value or 0) + op["by"]
            self.entries[key] = (value, revision)


def entries_of(client):
    return {entry["key"]: (entry["value"], entry["revision"])
            for page in client.call_more("List", arena="a", limit=10000) for entry in page["entries"]}


def fill(client):
    """Enough pages that a scan takes a while."""
    client.call("CreateArena", name="a", maxBytes=1 << 30)
    for begin in range(0, ENTRIES, 500):
        client.call("Apply", arena="a", operations=[
            {"op": "put", "key": f"k{i}", "value": {"n": i, "text": "y" * 1000}} for i in range(begin, begin + 500)])


def under_load(daemon, take):
    """Runs take() while writers write; gives back their acknowledged updates in the order of revisions."""
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    writers = [context.Process(target=writer, args=(daemon.socket, seed, stop, results), daemon=True)
               for seed in range(CLIENTS)]
    for process in writers:
        process.start()
    try:
        take()
    finally:
        stop.set()
    done = sorted((update for _ in writers for update in results.get(timeout=300)), key=lambda update: update[0])
    for process in writers:
        process.join()
    return done


def compare(found, expected, what):
    if found == expected:
        return
    wrong = sorted(key for key in set(found) | set(expected) if found.get(key) != expected.get(key))
    detail = [(key, str(found.get(key))[:80], str(expected.get(key))[:80]) for key in wrong[:5]]
    raise AssertionError(f"{what}: {len(wrong)} of {len(expected)} entries differ: {detail}")


def restored(daemon, checkpoint):
    """The entries of one image, alone in a second daemon."""
    second = Daemon(start=False)
    os.makedirs(second.path("images"), mode=0o700)
    shutil.copy(checkpoint["path"], second.path("images"))
    second.start()
    with second.client() as client:
        found = entries_of(client)
    second.stop()
    second.remove()
    return found


def exact(options, count):
    with Daemon(options=["Journal.Sync=never", "Checkpoint.Keep=100", "Checkpoint.IntervalSec=0",
                         "Checkpoint.AtStop=no"] + options) as daemon, daemon.client() as client:
        fill(client)
        model = Model(entries_of(client))
        taken = []

        def take():
            for _ in range(count):
                time.sleep(0.05)
                taken.append(client.call("TakeCheckpoint")["checkpoint"])

        done = under_load(daemon, take)
        live = entries_of(client)
        position = 0
        for checkpoint in taken:
            while position < len(done) and done[position][0] <= checkpoint["revision"]:
                model.apply(*done[position])
                position += 1
            compare(restored(daemon, checkpoint), model.entries, f"image {checkpoint['id']}")
        for update in done[position:]:
            model.apply(*update)
        compare(live, model.entries, "the state at the end")
        updates = sum(1 for update in done if taken[0]["revision"] < update[0] <= taken[-1]["revision"])
        if updates < count:
            raise AssertionError(f"only {updates} updates between {count} cuts: no load")
        print(f"# {len(done)} updates, {sum(c['pagesCaptured'] for c in taken)} pages captured, "
              f"held {sum(c['heldUSec'] for c in taken) / 1000:.1f} ms in all")
        return taken


@test("each image is the state at its cut, with a ring of 64 MiB")
def _():
    exact(["Checkpoint.CaptureBytesMax=64M"], CHECKPOINTS)


@test("each image is the state at its cut, with a ring of 1 MiB")
def _():
    exact(["Checkpoint.CaptureBytesMax=1M"], CHECKPOINTS)


@test("each image is the state at its cut, with a slow scan, so that many pages come through a ring of 1 MiB")
def _():
    taken = exact(["Checkpoint.CaptureBytesMax=1M", "Checkpoint.WriteBytesPerSecMax=16M"], 3)
    for checkpoint in taken:
        if checkpoint["pagesCaptured"] * 10 < checkpoint["pagesTotal"]:
            raise AssertionError(f"only {checkpoint['pagesCaptured']} of {checkpoint['pagesTotal']} pages were captured")


@test("compressed images are the state at their cuts")
def _():
    exact(["Checkpoint.Compression=zstd"], 3)


run()
