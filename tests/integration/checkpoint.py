"""Checkpoints when things go wrong or wait: the child killed or stopped, a full disk, no directory, no fork; an update larger
than the ring; cancel, the queue, triggers, retention, damaged images. Updates never stop, older images stay, no
temporary file stays, and the next checkpoint succeeds."""

import contextlib
import glob
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import (Daemon, Skip, VarlinkError, equal, eventually, expect_error, for_others, need_root, run,  # noqa: E402
                    test)

KILLS = int(os.environ.get("HOLDFAST_CHILD_KILLS", "50"))
QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Journal.Sync=never"]


def fill(client, entries=4000, size=1000, arena="a"):
    client.call("CreateArena", name=arena, maxBytes=1 << 30)
    for begin in range(0, entries, 500):
        client.call("Apply", arena=arena, operations=[
            {"op": "put", "key": f"k{i}", "value": "y" * size} for i in range(begin, min(entries, begin + 500))])


def images(daemon):
    return sorted(os.path.basename(path) for path in glob.glob(daemon.path("images", "*.image")))


def no_temporary_file(daemon):
    left = [name for name in os.listdir(daemon.path("images")) if ".tmp" in name]
    equal(left, [], "temporary files")


def running(client):
    return client.call("GetStatus")["status"].get("runningCheckpoint")


def wait_running(daemon):
    """The pid of the child, once there is one."""
    with daemon.client() as client:
        return eventually(lambda: (running(client) or {}).get("pid"), "a checkpoint runs")


class Updates:
    """A client that updates all the time, in a thread; tells the longest that one took."""

    def __init__(self, daemon, keys=4000):
        self.daemon, self.keys, self.stop = daemon, keys, threading.Event()
        self.count, self.slowest, self.error = 0, 0.0, None
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        dice = random.Random(7)
        try:
            with self.daemon.client() as client:
                while not self.stop.is_set():
                    began = time.monotonic()
                    client.call("Put", arena="a", key=f"k{dice.randrange(self.keys)}", value="z" * 1000)
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.count += 1
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        self.thread.join(60)
        if kind is None and self.error is not None:
            raise self.error
        return False


@test("a child killed at random moments fails its checkpoint alone; the next one succeeds")
def _():
    dice = random.Random(3)
    with Daemon(options=QUIET + ["Checkpoint.WriteBytesPerSecMax=20M"]) as daemon, daemon.client() as client:
        fill(client)
        good = client.call("TakeCheckpoint")["checkpoint"]["id"]
        failed = 0
        with Updates(daemon) as updates:
            for _ in range(KILLS):
                client.send("TakeCheckpoint")
                pid = wait_running(daemon)
                time.sleep(dice.random() * 0.1)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                try:
                    client.receive()
                except VarlinkError as error:
                    equal(error.short, "CheckpointFailed")
                    if "signal 9" not in error.parameters["reason"]:
                        raise AssertionError(error)
                    failed += 1
                no_temporary_file(daemon)
            before = updates.count
            eventually(lambda: updates.count > before, "updates go on")
        if failed < KILLS // 2:
            raise AssertionError(f"only {failed} of {KILLS} were killed in time")
        client.call("TakeCheckpoint")
        listed = client.call("ListCheckpoints")["checkpoints"]
        equal(sum(c["state"] == "failed" for c in listed), min(failed, 16), "failed ones listed")
        if good not in [c["id"] for c in listed] and len(images(daemon)) < 4:
            raise AssertionError("an older image went though the newer ones failed")


@test("a full disk fails the checkpoint with its reason, and older images stay")
def _():
    need_root()
    daemon = Daemon(options=QUIET, start=False)
    os.makedirs(daemon.path("images"), mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", daemon.path("images")],
                             capture_output=True)
    if mounted.returncode != 0:
        raise Skip("cannot mount a tmpfs here")
    try:
        daemon.start()
        with daemon.client() as client:
            fill(client, 4000, 1000)
            first = client.call("TakeCheckpoint")["checkpoint"]
            fill(client, 9000, 1000, "b")
            with Updates(daemon) as updates, expect_error("CheckpointFailed") as caught:
                client.call("TakeCheckpoint")
            if "No space left" not in caught.parameters["reason"]:
                raise AssertionError(caught.parameters)
            equal(images(daemon), [first["id"] + ".image"], "images")
            no_temporary_file(daemon)
            equal(updates.error, None)
            client.call("DropArena", name="b")
            client.call("TakeCheckpoint", arenas=["a"])
        daemon.kill()
    finally:
        daemon.remove()
        subprocess.run(["umount", "-l", daemon.path("images")], capture_output=True)


@test("without its directory a checkpoint fails with the reason, and updates go on")
def _():
    with Daemon(options=QUIET) as daemon, daemon.client() as client:
        fill(client, 100)
        client.call("TakeCheckpoint")
        shutil.rmtree(daemon.path("images"))
        with expect_error("CheckpointFailed") as caught:
            client.call("TakeCheckpoint")
        if "No such file" not in caught.parameters["reason"]:
            raise AssertionError(caught.parameters)
        equal("id" in caught.parameters, False, "an id before the cut")
        client.call("Put", arena="a", key="still", value=1)
        equal(client.call("Get", arena="a", key="still")["value"], 1)


@test("a fork that fails is told, and the next checkpoint succeeds")
def _():
    need_root()
    user, tasks = 61234, 16  # nobody else's, and how many tasks it may have

    def become():
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    daemon = Daemon(options=QUIET, start=False)
    os.chmod(daemon.directory, 0o777)
    os.chmod(daemon.config_path, 0o644)
    daemon.program = for_others(daemon.program, daemon.directory)
    daemon.start(preexec_fn=become)
    with daemon.client() as client:
        fill(client, 100)
        client.call("TakeCheckpoint")
        client.call("Put", arena="a", key="k1", value="other")
        # Others of the same user take the rest of what it may have.
        others = [subprocess.Popen(["sleep", "1000"], preexec_fn=become)
                  for _ in range(tasks - len(os.listdir(f"/proc/{daemon.pid}/task")))]
        try:
            with expect_error("CheckpointFailed") as caught:
                client.call("TakeCheckpoint")
        finally:
            for other in others:
                other.kill()
                other.wait()
        if not caught.parameters["reason"].startswith("fork"):
            raise AssertionError(caught.parameters)
        no_temporary_file(daemon)
        client.call("TakeCheckpoint")
        equal(len(images(daemon)), 2, "images")
    daemon.stop()


@test("an Apply that changes more pages than the ring has gets through, exact, and reads are served meanwhile")
def _():
    with Daemon(options=QUIET + ["Checkpoint.CaptureBytesMax=1M", "Checkpoint.WriteBytesPerSecMax=16M"]) as daemon, \
            daemon.client() as client, daemon.client() as reader:
        fill(client, 66000, 600)
        client.send("TakeCheckpoint")
        wait_running(daemon)
        reader.send("Apply", {"arena": "a", "operations": [
            {"op": "put", "key": f"k{i}", "value": i} for i in range(65536)]})
        reads = 0
        with daemon.client() as other:
            while running(other):
                other.call("Get", arena="a", key="k65999")
                reads += 1
        revision = reader.receive()["revision"]
        checkpoint = client.receive()["checkpoint"]
        if reads < 2:
            raise AssertionError(f"only {reads} reads while it ran")
        if checkpoint["revision"] >= revision:
            raise AssertionError("the Apply came before the cut")
        if checkpoint["pagesCaptured"] * 4096 < 4 << 20:
            raise AssertionError(f"only {checkpoint['pagesCaptured']} pages were captured")
        equal(client.call("Get", arena="a", key="k65535"), {"value": 65535, "revision": revision})
        second = Daemon(start=False)
        os.makedirs(second.path("images"), mode=0o700)
        os.link(checkpoint["path"], second.path("images", os.path.basename(checkpoint["path"])))
        second.start()
        with second.client() as old:
            for page in old.call_more("List", arena="a", limit=10000):
                for entry in page["entries"]:
                    equal(entry["value"], "y" * 600, entry["key"])
        second.stop()


@test("a child that is stopped while updates wait is given up after StallSec, and the updates go on")
def _():
    with Daemon(options=QUIET + ["Checkpoint.CaptureBytesMax=1M", "Checkpoint.StallSec=500ms",
                                 "Checkpoint.WriteBytesPerSecMax=1M"]) as daemon, daemon.client() as client:
        fill(client)
        client.send("TakeCheckpoint")
        os.kill(wait_running(daemon), signal.SIGSTOP)
        with Updates(daemon) as updates, expect_error("CheckpointFailed") as caught:
            client.receive()
        if "stall" not in caught.parameters["reason"]:
            raise AssertionError(caught.parameters)
        if not 0.4 < updates.slowest < 20:
            raise AssertionError(f"the slowest update took {updates.slowest} s")
        no_temporary_file(daemon)
        client.call("TakeCheckpoint", arenas=["a"])


@test("those who wait for checkpoints hear of it when the daemon stops")
def _():
    with Daemon(options=QUIET + ["Checkpoint.AtStop=no", "Checkpoint.WriteBytesPerSecMax=1M"]) as daemon, \
            daemon.client() as client, daemon.client() as other:
        fill(client)
        client.send("TakeCheckpoint")
        os.kill(wait_running(daemon), signal.SIGSTOP)
        identity = running(daemon.client())["id"]
        other.send("TakeCheckpoint", {"label": "next"})
        eventually(lambda: daemon.client().call("GetStatus"), "the other request is read")
        daemon.signal(signal.SIGTERM)
        with expect_error("CheckpointCancelled") as caught:
            client.receive()
        equal(caught.parameters["id"], identity)
        with expect_error("CheckpointFailed") as caught:
            other.receive()
        equal(caught.parameters, {"reason": "the daemon stops"})
        equal(daemon.wait(), 0)


def child_of(daemon):
    """The pid of a child of the daemon's; None: it has none."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit():
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == daemon.pid:
                        return int(name)
    return None


def answered(client):
    return bool(select.select([client.socket], [], [], 0)[0])


def stopped_verification(daemon, client, identity):
    """A VerifyCheckpoint whose child is stopped in the middle of it: it is quick, so this may take several."""
    for _ in range(100):
        client.send("VerifyCheckpoint", {"id": identity})
        while not answered(client):
            child = child_of(daemon)
            if child is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGSTOP)
                time.sleep(0.2)
                if not answered(client):
                    return
        client.receive()
    raise AssertionError("the child is always quicker")


@test("who waits for a verification hears of it when the daemon stops")
def _():
    with Daemon(options=QUIET) as daemon, daemon.client() as client:
        fill(client, 40_000)
        identity = client.call("TakeCheckpoint")["checkpoint"]["id"]
        stopped_verification(daemon, client, identity)
        daemon.signal(signal.SIGTERM)
        with expect_error("CheckpointFailed") as caught:
            client.receive()
        equal(caught.parameters, {"id": identity, "reason": "the daemon stops"})
        equal(daemon.wait(), 0)


@test("updates that wait for room when the daemon stops hear that they were not begun")
def _():
    with Daemon(options=QUIET + ["Checkpoint.CaptureBytesMax=64K", "Checkpoint.StallSec=1h",
                                 "Checkpoint.WriteBytesPerSecMax=1M"]) as daemon, \
            daemon.client() as client, daemon.client() as waiting:
        fill(client, 20_000)
        client.call("TakeCheckpoint", wait=False)
        os.kill(wait_running(daemon), signal.SIGSTOP)
        waiting.socket.settimeout(1)
        for number in range(0, 20_000, 100):
            waiting.send("Put", {"arena": "a", "key": f"k{number}", "value": "changed"})
            try:
                waiting.receive()
            except TimeoutError:
                break
        else:
            raise AssertionError("the ring is never full")
        waiting.socket.settimeout(60)
        daemon.signal(signal.SIGTERM)
        with expect_error("ReadOnly") as caught:
            waiting.receive()
        equal(caught.parameters, {"reason": "the daemon stops"})
        equal(daemon.wait(), 0)
        daemon.start()
        equal(daemon.call("Get", arena="a", key=f"k{number}")["value"] == "changed", False, "it was made all the same")


@test("names of arenas may be written with escapes")
def _():
    with Daemon(options=QUIET) as daemon, daemon.client() as client:
        client.call("CreateArena", name="a")
        client.send_bytes(b'{"method":"io.holdfast.TakeCheckpoint","parameters":{"arenas":["\\u0061"],"label":"\\u0062"}}\0')
        checkpoint = client.receive()["checkpoint"]
        equal((checkpoint["arenas"], checkpoint["label"]), (["a"], "b"))
        for name in (b'\\u0062', b'\\"', b'\\u0061' * 65):
            client.send_bytes(b'{"method":"io.holdfast.TakeCheckpoint","parameters":{"arenas":["' + name + b'"]}}\0')
            with expect_error("NoSuchArena" if name == b'\\u0062' else "InvalidParameter"):
                client.receive()


@test("a checkpoint can be cancelled while updates wait for it; its waiters hear of it")
def _():
    with Daemon(options=QUIET + ["Checkpoint.WriteBytesPerSecMax=1M", "Checkpoint.CaptureBytesMax=1M"]) as daemon, \
            daemon.client() as client, daemon.client() as other:
        fill(client)
        client.send("TakeCheckpoint", {"label": "to be cancelled"})
        os.kill(wait_running(daemon), signal.SIGSTOP)
        checkpoint = running(other)
        equal(checkpoint["label"], "to be cancelled")
        with Updates(daemon):
            time.sleep(0.5)  # the ring of a child that is stopped is full long before
            other.call("CancelCheckpoint", id=checkpoint["id"])
            with expect_error("CheckpointCancelled") as caught:
                client.receive()
        equal(caught.parameters, {"id": checkpoint["id"]})
        no_temporary_file(daemon)
        equal(other.call("ListCheckpoints")["checkpoints"][-1]["state"], "cancelled")
        with expect_error("NoSuchCheckpoint"):
            other.call("CancelCheckpoint", id=checkpoint["id"])


@test("requests that wait share a run where arenas and label are the same; at most 16 others queue")
def _():
    with Daemon(options=QUIET + ["Checkpoint.WriteBytesPerSecMax=8M"]) as daemon, daemon.client() as client:
        fill(client)
        client.send("TakeCheckpoint", {"label": "first"})
        wait_running(daemon)
        clients = [daemon.client() for _ in range(20)]
        for number, one in enumerate(clients):
            one.send("TakeCheckpoint", {"label": f"n{number // 4}"})
        client.receive()
        answers = [one.receive()["checkpoint"] for one in clients]
        equal(len({answer["id"] for answer in answers}), 5, "runs for five labels")
        client.send("TakeCheckpoint", {"label": "again"})
        wait_running(daemon)
        more = [daemon.client() for _ in range(17)]
        refused = 0
        for number, one in enumerate(more):
            one.send("TakeCheckpoint", {"label": f"q{number}"})
        for one in reversed(more):
            one.socket.settimeout(100)
            try:
                one.receive()
            except VarlinkError as error:
                equal((error.short, error.parameters["limit"]), ("LimitExceeded", "checkpoints"))
                refused += 1
            one.close()
        equal(refused, 1, "requests refused")


@test("wait = false answers at the cut, and more tells how it goes on")
def _():
    with Daemon(options=QUIET + ["Checkpoint.WriteBytesPerSecMax=8M"]) as daemon, daemon.client() as client:
        fill(client)
        checkpoint = client.call("TakeCheckpoint", wait=False)["checkpoint"]
        equal(checkpoint["state"], "running")
        eventually(lambda: not running(client), "it ends")
        parts = list(client.call_more("TakeCheckpoint", label="told"))
        equal(parts[-1]["checkpoint"]["state"], "complete")
        if len(parts) < 3:
            raise AssertionError(f"only {len(parts)} replies")
        done = [part["checkpoint"]["pagesDone"] for part in parts]
        equal(done, sorted(done), "pagesDone")


@test("an image holds the arenas that were asked for, and the others come from older ones and the journal")
def _():
    with Daemon(options=QUIET) as daemon, daemon.client() as client:
        fill(client, 100)
        fill(client, 100, arena="b")
        client.call("TakeCheckpoint")
        client.call("Put", arena="b", key="k1", value="new")
        checkpoint = client.call("TakeCheckpoint", arenas=["b"])["checkpoint"]
        equal(checkpoint["arenas"], ["b"])
        daemon.kill()
        daemon.start()
        with daemon.client() as again:
            equal(again.call("Get", arena="b", key="k1")["value"], "new")
            equal(again.call("Get", arena="a", key="k1")["value"], "y" * 1000)


@test("triggers: SIGUSR1, the interval, the journal's size, and the stop")
def _():
    with Daemon(options=["Checkpoint.IntervalSec=1s", "Checkpoint.JournalBytesMax=1M", "Journal.Sync=never",
                         "Journal.SegmentBytesMax=16M"]) as daemon:
        with daemon.client() as client:
            fill(client, 10)
            eventually(lambda: len(images(daemon)) == 1, "a checkpoint by the interval")
            time.sleep(2.5)
            equal(len(images(daemon)), 1, "images when nothing changed")
        daemon.options[0] = "Checkpoint.IntervalSec=0"
        daemon.restart()
        with daemon.client() as client:
            before = images(daemon)
            client.call("Put", arena="a", key="one", value=1)
            daemon.signal(signal.SIGUSR1)
            eventually(lambda: len(images(daemon)) > len(before), "a checkpoint by SIGUSR1")
            before = images(daemon)
            for _ in range(40):
                client.call("Put", arena="a", key="big", value="x" * 100000)
            eventually(lambda: set(images(daemon)) - set(before), "a checkpoint by the journal's size")
            client.call("Put", arena="a", key="last", value=1)
        before = images(daemon)
        daemon.stop()
        if not set(images(daemon)) - set(before):
            raise AssertionError("no checkpoint at the stop")
        daemon.start()


@test("the newest Keep= images stay; what recovery needs cannot be deleted")
def _():
    with Daemon(options=QUIET + ["Checkpoint.Keep=2"]) as daemon, daemon.client() as client:
        fill(client, 10)
        ids = []
        for number in range(4):
            client.call("Put", arena="a", key="n", value=number)
            ids.append(client.call("TakeCheckpoint")["checkpoint"]["id"])
        eventually(lambda: images(daemon) == [f"{i}.image" for i in ids[2:]], "two images stay")
        with expect_error("CheckpointNeeded"):
            client.call("DeleteCheckpoint", id=ids[3])
        client.call("DeleteCheckpoint", id=ids[2])
        eventually(lambda: images(daemon) == [f"{ids[3]}.image"], "it is gone")
        with expect_error("NoSuchCheckpoint"):
            client.call("DeleteCheckpoint", id=ids[2])


@test("a damaged image is named, put aside, and the one before it is used with the journal behind it")
def _():
    with Daemon(options=QUIET) as daemon:
        with daemon.client() as client:
            fill(client, 1000)
            client.call("TakeCheckpoint")
            client.call("Put", arena="a", key="k1", value="second")
            second = client.call("TakeCheckpoint")["checkpoint"]
        daemon.kill()
        with open(second["path"], "r+b") as image:
            image.seek(second["imageBytes"] // 2)
            byte = image.read(1)
            image.seek(-1, 1)
            image.write(bytes([byte[0] ^ 1]))
        daemon.start()
        equal(os.path.exists(second["path"]), False, "the image under its name")
        equal(len(glob.glob(daemon.path("images", "*.damaged"))), 1, "images put aside")
        if second["id"] not in daemon.log():
            raise AssertionError("the log does not name it")
        equal(daemon.call("Get", arena="a", key="k1")["value"], "second")


@test("VerifyCheckpoint reads the image back, tells how far it is, and finds damage")
def _():
    with Daemon(options=QUIET) as daemon, daemon.client() as client:
        fill(client, 20000)
        first = client.call("TakeCheckpoint")["checkpoint"]
        equal(list(client.call_more("VerifyCheckpoint", id=first["id"]))[-1]["checkpoint"]["id"], first["id"])
        client.call("Put", arena="a", key="k1", value=1)
        second = client.call("TakeCheckpoint")["checkpoint"]
        with open(second["path"], "r+b") as image:
            image.seek(second["imageBytes"] // 2)
            image.write(b"damage")
        with expect_error("ImageDamaged") as caught:
            client.call("VerifyCheckpoint", id=second["id"])
        equal(caught.parameters["id"], second["id"])
        with expect_error("NoSuchCheckpoint"):
            client.call("VerifyCheckpoint", id=second["id"])


@test("a second daemon on the same state directory is refused")
def _():
    with Daemon(options=QUIET) as daemon:
        second = subprocess.run([daemon.program, f"--state-directory={daemon.state}", f"--socket={daemon.socket}2"],
                                capture_output=True, timeout=60)
        equal(second.returncode == 0, False, "a clean exit")
        if b"another holdfastd" not in second.stderr:
            raise AssertionError(second.stderr)


@test("arenas dropped and created during a checkpoint are as they should be afterwards")
def _():
    with Daemon(options=QUIET + ["Checkpoint.WriteBytesPerSecMax=8M"]) as daemon, daemon.client() as client, \
            daemon.client() as other:
        fill(client)
        client.send("TakeCheckpoint")
        wait_running(daemon)
        other.call("DropArena", name="a")
        fill(other, 10, arena="a")
        checkpoint = client.receive()["checkpoint"]
        equal(checkpoint["state"], "complete")
        equal(other.call("ListArenas")["arenas"][0]["entries"], 10)
        equal(list(other.call_more("VerifyCheckpoint", id=checkpoint["id"]))[-1]["checkpoint"]["state"], "complete")
        other.call("TakeCheckpoint")


@test("reloads do not put off the checkpoint that the interval wants")
def _():
    with Daemon(options=["Checkpoint.IntervalSec=3s"]) as daemon, daemon.client() as client:
        client.call("CreateArena", name="a")

        def taken():
            client.call("Reload")
            return client.call("ListCheckpoints")["checkpoints"]
        eventually(taken, "a checkpoint by the interval, with reloads all the time", 20)


run()
