"""What is back after a kill, a stop, a damaged or missing journal: everything that was acknowledged, or a clear refusal."""

import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, DaemonEnded, equal, eventually, expect_error, run, test  # noqa: E402
from faults import Fault  # noqa: E402

QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]


def segments(daemon):
    return sorted(glob.glob(daemon.path("journal", "*.journal")))


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x40]))


def entries(client, arena="a"):
    return {e["key"]: (e["value"], e["revision"]) for page in client.call_more("List", arena=arena) for e in page["entries"]}


def some_updates(client, count=50):
    client.call("CreateArena", name="a", maxBytes=32 << 20, mode=0o640)
    for number in range(count):
        client.call("Put", arena="a", key=f"k{number % 20}", value={"n": number, "text": "x" * 300})
    client.call("Increment", arena="a", key="count", by=7)
    client.call("Merge", arena="a", key="k1", patch={"merged": 0.10, "n": None})
    client.call("Delete", arena="a", key="k2")


def refused(daemon, status=65):
    try:
        daemon.start()
    except DaemonEnded as ended:
        equal(ended.status, status, "exit status")
        return ended.log
    raise AssertionError("the daemon started")


@test("every update comes back after SIGKILL, under each Sync=, with its revision")
def _():
    for sync in ("always", "interval", "never"):
        daemon = Daemon(options=QUIET + [f"Journal.Sync={sync}"])
        with daemon.client() as client:
            some_updates(client)
            before = entries(client)
            revision = daemon.status()["revision"]
        daemon.kill()
        daemon.start()
        with daemon.client() as client:
            equal(entries(client), before, f"entries under {sync}")
            status = client.call("GetStatus")["status"]
            equal(status["recovery"], "journal")
            if client.call("Put", arena="a", key="new", value=1)["revision"] <= revision + 2**32:
                raise AssertionError("a revision that may have been seen before")
        daemon.stop()


@test("a daemon that died before anything was durable may have shown revisions; they are not given again")
def _():
    daemon = Daemon(options=QUIET)
    equal(daemon.status()["revision"], 0, "of a first start")
    daemon.kill()
    daemon.start()
    daemon.call("CreateArena", name="a")
    if daemon.status()["revision"] <= 2**32:
        raise AssertionError("a revision that may have been seen before")
    daemon.stop()


@test("after a clean stop revisions go on where they were")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        some_updates(client)
        before = entries(client)
        revision = daemon.status()["revision"]
    daemon.restart()
    with daemon.client() as client:
        equal(entries(client), before)
        equal(client.call("Put", arena="a", key="new", value=1)["revision"], revision + 1)


@test("arenas created, changed and dropped come back as they were, with and without an image")
def _():
    for image in (False, True):
        daemon = Daemon(options=QUIET)
        with daemon.client() as client:
            some_updates(client)
            client.call("CreateArena", name="gone")
            client.call("Put", arena="gone", key="k", value=1)
            if image:
                client.call("TakeCheckpoint")
            client.call("DropArena", name="gone")
            client.call("CreateArena", name="again")
            client.call("DropArena", name="again")
            client.call("CreateArena", name="again", maxBytes=8 << 20)
            client.call("Put", arena="again", key="only", value=True)
            client.call("ChangeArena", name="a", maxBytes=64 << 20, mode=0o600)
            before = client.call("ListArenas")["arenas"]
        daemon.kill()
        daemon.start()
        with daemon.client() as client:
            fixed = [{k: v for k, v in arena.items() if k != "usedBytes"} for arena in client.call("ListArenas")["arenas"]]
            equal(fixed, [{k: v for k, v in arena.items() if k != "usedBytes"} for arena in before])
            with expect_error("NoSuchArena"):
                client.call("Get", arena="gone", key="k")
        daemon.stop()


@test("an arena that the journal lets grow is whole after a crash, takes more updates and is saved")
def _():
    daemon = Daemon(options=QUIET)
    text = "x" * 100000
    with daemon.client() as client:
        client.call("CreateArena", name="a", maxBytes=1 << 20)
        client.call("ChangeArena", name="a", maxBytes=64 << 20)
        for number in range(30):
            client.call("Put", arena="a", key=f"k{number}", value=text)
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        for number in range(30, 60):
            client.call("Put", arena="a", key=f"k{number}", value=text)
        equal(client.call("TakeCheckpoint")["checkpoint"]["state"], "complete")
        client.call("Put", arena="a", key="k0", value=0)
    daemon.kill()
    daemon.start()
    equal(len(entries(daemon.client())), 60)
    daemon.stop()


def lose_journal(daemon):
    for path in segments(daemon):
        os.unlink(path)


def bytes_used(path):
    """Of a segment, without the zeros behind."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


@test("damage before the durable mark stops the start with file, offset and the two choices; --recover=cut goes on")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        some_updates(client, 2000)
        revision = daemon.status()["revision"]
    daemon.kill()
    last = max(segments(daemon), key=bytes_used)
    flip(last, bytes_used(last) // 2)
    said = refused(daemon)
    for word in (os.path.basename(last), "offset", "last good revision", "--recover=cut"):
        if word not in said:
            raise AssertionError(f"{word} is not in: {said}")
    daemon.arguments = ["--recover=cut"]
    daemon.start()
    daemon.arguments = []
    with daemon.client() as client:
        equal("k5" in entries(client), True, "what was before the damage")
        if client.call("Put", arena="a", key="on", value=1)["revision"] <= revision:
            raise AssertionError("a revision was given twice")
    if not glob.glob(daemon.path("journal", "*.damaged*")):
        raise AssertionError("the damaged rest was not kept")
    daemon.restart()
    equal(daemon.call("Get", arena="a", key="on")["value"], 1)


@test("a journal that is missing is refused where an image or its name proves more")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        some_updates(client)
        client.call("TakeCheckpoint")
        client.call("Put", arena="a", key="k1", value="second")
        second = client.call("TakeCheckpoint")["checkpoint"]
    daemon.stop()
    lose_journal(daemon)
    daemon.start()
    equal(daemon.call("Get", arena="a", key="k1")["value"], "second", "from the image alone")
    daemon.stop()
    lose_journal(daemon)
    flip(second["path"], second["imageBytes"] // 2)
    refused(daemon)
    daemon.arguments = ["--recover=cut"]
    daemon.start()
    daemon.stop()


@test("a start that cannot see which images there were does not take what is left for all there was")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        some_updates(client)
        path = client.call("TakeCheckpoint")["checkpoint"]["path"]
    daemon.stop()
    lose_journal(daemon)
    os.rename(path, path + ".damaged")
    refused(daemon)
    number, fired = 0, True
    while fired:
        number += 1
        with Fault(f"open:{number}:EMFILE", file="images") as fault:
            daemon.environment = fault.environment
            fault.arm()
            try:
                daemon.start()
            except DaemonEnded as ended:
                equal(ended.status in (65, 74), True, f"exit status {ended.status}")
            else:
                raise AssertionError(f"the daemon started where open number {number} of its images failed")
            fired = fault.fired > 0
    equal(number > 2, True, "there are directories to open")


@test("an image that cannot be read at the start is no damage: what needs it is refused for that, and nothing is given up")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        some_updates(client)
        client.call("TakeCheckpoint")
        client.call("Put", arena="a", key="k1", value="second")
        newest = os.path.basename(client.call("TakeCheckpoint")["checkpoint"]["path"])
        before = entries(client)
    daemon.stop()

    def with_unreadable_image(status):
        with Fault("open:1:EIO:forever", file=newest) as fault:
            daemon.environment = fault.environment
            fault.arm()
            if status == 0:
                daemon.start()
                equal(entries(daemon.client()), before, "from the older image and the journal")
                daemon.stop()
            else:
                said = refused(daemon, status)
                equal((newest in said, "Input/output error" in said, "--recover=cut" in said), (True, True, False), said)
            daemon.environment = {}

    with_unreadable_image(0)
    lose_journal(daemon)
    with_unreadable_image(74)
    daemon.arguments = ["--recover=cut"]
    with_unreadable_image(74)
    daemon.arguments = []
    daemon.start()
    equal(entries(daemon.client()), before)
    daemon.stop()


@test("an end that is not complete, behind the durable mark, is cut off with one notice")
def _():
    daemon = Daemon(options=QUIET + ["Journal.Sync=never"])
    with daemon.client() as client:
        some_updates(client)
        for number in range(20):
            client.call("Put", arena="a", key="last", value="x" * 1000 + str(number))
    daemon.kill()
    path = max(segments(daemon), key=lambda p: len(open(p, "rb").read().rstrip(b"\0")))
    end = len(open(path, "rb").read().rstrip(b"\0"))
    flip(path, end - 600)  # in the last record, as a power cut might leave it
    daemon.start()
    with daemon.client() as client:
        equal(client.call("Get", arena="a", key="last")["value"], "x" * 1000 + "18")
        equal(client.call("Get", arena="a", key="count")["value"], 7)
    equal(daemon.log().count("cut off"), 1, "notices")


@test("segments go when no kept image needs them, and the journal of older images stays")
def _():
    with Daemon(options=QUIET + ["Checkpoint.Keep=2", "Journal.Sync=never"]) as daemon, daemon.client() as client:
        some_updates(client)
        first = segments(daemon)[0]
        for number in range(5):
            client.call("Put", arena="a", key="k1", value=number)
            client.call("TakeCheckpoint")
        eventually(lambda: not os.path.exists(first), "the first segment goes")
        eventually(lambda: len(glob.glob(daemon.path("images", "*.image"))) == 2, "two images stay")
        for image in sorted(glob.glob(daemon.path("images", "*.image")))[1:]:
            flip(image, os.path.getsize(image) // 2)
        daemon.kill()
        daemon.start()
        equal(daemon.call("Get", arena="a", key="k1")["value"], 4)


@test("arenas created since an older image come back from it and the journal when the newest is damaged")
def _():
    with Daemon(options=QUIET + ["Journal.Sync=never"]) as daemon, daemon.client() as client:
        client.call("CreateArena", name="old")
        client.call("TakeCheckpoint")
        client.call("DropArena", name="old")
        some_updates(client)
        newest = client.call("TakeCheckpoint")["checkpoint"]
        before = entries(client)
        flip(newest["path"], newest["imageBytes"] // 2)
        daemon.kill()
        daemon.start()
        equal(entries(daemon.client()), before)
        equal([arena["name"] for arena in daemon.call("ListArenas")["arenas"]], ["a"])


@test("durableRevision follows the policy")
def _():
    with Daemon(options=QUIET + ["Journal.Sync=always"]) as daemon, daemon.client() as client:
        some_updates(client)
        status = client.call("GetStatus")["status"]
        equal(status["durableRevision"], status["revision"])
    with Daemon(options=QUIET + ["Journal.Sync=interval", "Journal.SyncIntervalSec=100ms"]) as daemon, \
            daemon.client() as client:
        some_updates(client)

        def durable():
            status = client.call("GetStatus")["status"]
            return status["durableRevision"] == status["revision"]
        eventually(durable, "it is synced")


@test("the configuration is checked, and a reload keeps the old one where the new one is wrong")
def _():
    with Daemon(config="[Checkpoint]\nKeep=3\n") as daemon, daemon.client() as client:
        daemon.configure("[Checkpoint]\nKeep=soon\n")
        with expect_error("ConfigurationInvalid") as caught:
            client.call("Reload")
        equal((caught.parameters["line"], os.path.basename(caught.parameters["file"])), (2, "holdfastd.conf"))
        daemon.configure("[Checkpoint]\nKeep=2\nCaptureBytesMax=32M\n")
        equal(client.call("Reload")["ignored"], ["Checkpoint.CaptureBytesMax"])
        wrong = subprocess.run([daemon.program, f"--config={daemon.config_path}", "--option=Journal.Sync=maybe",
                                "--check-config"], capture_output=True, timeout=60)
        equal(wrong.returncode, 78, "exit status")


run()
