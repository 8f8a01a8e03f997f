"""What is promised for when the journal cannot be written: without room, updates are refused with the reason, reads go
on, and all heals by itself and without a checkpoint; after a sync that failed, those waiting are told NotDurable, and
updates are refused until a checkpoint has healed it, also across a restart. Both are in GetStatus and in the log,
once."""

import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import (Daemon, Skip, VarlinkError, equal, eventually, expect_error, need_root,  # noqa: E402
                    run, test)
from faults import Fault  # noqa: E402

QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Journal.SegmentBytesMax=1M"]
REFUSED = "updates are refused"
ACCEPTED = "updates are accepted"


@contextlib.contextmanager
def faulty(text, *options, file=".journal"):
    """A daemon with an arena and an acknowledged entry; the fault waits to be armed."""
    with Fault(text, file=file) as fault:
        daemon = Daemon(options=QUIET + list(options), environment=fault.environment)
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            client.call("Put", arena="a", key="before", value=1)
            yield daemon, client, fault


def without_faults(daemon):
    daemon.environment.clear()


def status(client):
    return client.call("GetStatus")["status"]


def serving(client):
    return status(client)["state"] == "serving"


def entries(client):
    found = {}
    for part in client.call_more("List", arena="a"):
        found.update((entry["key"], entry["value"]) for entry in part["entries"])
    return found


def logged(daemon, text):
    return daemon.log().count(text)


def refuses(client, reason, times=50):
    """Updates of all kinds are refused with the reason, and reads go on."""
    calls = [("Put", {"arena": "a", "key": "refused", "value": 1}), ("Delete", {"arena": "a", "key": "before"}),
             ("Increment", {"arena": "a", "key": "refused"}), ("Merge", {"arena": "a", "key": "refused", "patch": {}}),
             ("CreateArena", {"name": "refused"}), ("DropArena", {"name": "a"}),
             ("ChangeArena", {"name": "a", "maxBytes": 1 << 25}),
             ("Apply", {"arena": "a", "operations": [{"op": "put", "key": "refused", "value": 1}]})]
    for number in range(times):
        method, parameters = calls[number % len(calls)]
        with expect_error("ReadOnly") as caught:
            client.call(method, parameters)
        if reason not in caught.parameters["reason"]:
            raise AssertionError(f"the reason is {caught.parameters['reason']!r}")
        equal(client.call("Get", arena="a", key="before")["value"], 1)
    found = status(client)
    equal(found["state"], "readonly")
    if reason not in found["reason"]:
        raise AssertionError(f"the reason is {found['reason']!r}")


def works(client, key="works"):
    client.call("Put", arena="a", key=key, value=key)
    found = status(client)
    equal(found["state"], "serving")
    equal(found.get("reason"), None, "the reason")
    equal(found["durableRevision"], found["revision"], "the durable revision")


# --- no room

def no_room(text, reason):
    with faulty(text) as (daemon, client, fault), daemon.client() as waiting:
        fault.arm()
        waiting.send("Put", {"arena": "a", "key": "waits", "value": 1})
        eventually(lambda: not serving(client), "updates are refused")
        refuses(client, reason)
        equal(client.call("Get", arena="a", key="waits")["value"], 1, "what waits is visible")
        found = status(client)
        equal(found["durableRevision"] < found["revision"], True, "an update is not durable")
        fault.end()
        waiting.receive()
        eventually(lambda: serving(client), "it heals by itself")
        works(client)
        equal(client.call("ListCheckpoints")["checkpoints"], [], "the checkpoints that it took to heal")
        equal([logged(daemon, REFUSED), logged(daemon, ACCEPTED)], [1, 1], "the lines in the log")
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh), {"before": 1, "waits": 1, "works": "works"})


@test("without room for the journal updates are refused, reads go on, and it heals by itself")
def _():
    no_room("pwrite:1:ENOSPC:forever", "No space left on device")


@test("the same where writing fails for another reason")
def _():
    no_room("pwrite:1:EIO:forever", "Input/output error")


@test("a batch that is written in part is written whole elsewhere")
def _():
    with faulty("pwrite:1:short:forever") as (daemon, client, fault):
        fault.arm()
        client.call("Put", arena="a", key="short", value="x" * 100_000)
        works(client)
        equal(logged(daemon, REFUSED), 0)
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(len(entries(fresh)["short"]), 100_000)


@test("a stop while there is no room says that not everything is durable")
def _():
    with faulty("pwrite:1:ENOSPC:forever") as (daemon, client, fault), daemon.client() as waiting:
        fault.arm()
        waiting.send("Put", {"arena": "a", "key": "waits", "value": 1})
        eventually(lambda: not serving(client), "updates are refused")
        daemon.stop(status=os.EX_IOERR)
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh)["before"], 1)
            works(fresh)


@test("a stop does not wait for ever for a journal that cannot be written, though the last image can be")
def _():
    with faulty("pwrite:1:ENOSPC:forever", "Checkpoint.AtStop=yes") as (daemon, client, fault), daemon.client() as waiting:
        fault.arm()
        waiting.send("Put", {"arena": "a", "key": "waits", "value": 1})
        eventually(lambda: not serving(client), "updates are refused")
        daemon.signal(signal.SIGTERM)
        equal(daemon.wait(60), os.EX_IOERR)
        equal(logged(daemon, "the last checkpoint is given up"), 1, "the lines in the log")
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh)["before"], 1)
            works(fresh)


@contextlib.contextmanager
def small_file_system(daemon, size):
    need_root()
    os.makedirs(daemon.state, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", daemon.state],
                      stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("cannot mount a tmpfs")
    try:
        yield
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        subprocess.run(["umount", daemon.state], check=True)


@test("a full file system is survived, and what was acknowledged meanwhile is there")
def _():
    daemon = Daemon(options=QUIET, start=False)
    with small_file_system(daemon, "6M"):
        daemon.start()
        filler, stored = daemon.path("filler"), {}
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            client.call("Put", arena="a", key="before", value=1)
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            with daemon.client() as writer:
                unanswered = None
                for number in range(200):
                    unanswered = {f"k{number}": "v" * 50_000}
                    [(key, value)] = unanswered.items()
                    writer.send("Put", {"arena": "a", "key": key, "value": value})
                    writer.socket.settimeout(1)
                    try:
                        writer.receive()
                    except TimeoutError:
                        break
                    stored.update(unanswered)
                else:
                    raise AssertionError("the file system is never full")
                refuses(client, "No space left on device", times=10)
                os.unlink(filler)
                writer.socket.settimeout(60)
                writer.receive()
                stored.update(unanswered)
            eventually(lambda: serving(client), "it heals by itself")
            works(client)
            daemon.kill()
            daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh) == {"before": 1, "works": "works", **stored}, True, "what was acknowledged is there")
        daemon.stop()


# --- a sync that fails

def not_durable(client, keys):
    """Several updates in one turn, and what each is answered: NotDurable with its revision, or ReadOnly."""
    for key in keys:
        client.send("Put", {"arena": "a", "key": key, "value": key})
    answers = []
    for _ in keys:
        try:
            client.receive()
            answers.append("acknowledged")
        except VarlinkError as error:
            answers.append(error.short)
            if error.short == "NotDurable":
                equal(error.parameters["revision"] > 0 and "sync" in error.parameters["reason"], True,
                      f"{error.parameters} tells")
    return answers


@test("a failed sync: NotDurable, then ReadOnly, and the checkpoint that follows heals it")
def _():
    with faulty("fdatasync:1:EIO") as (daemon, client, fault):
        fault.arm()
        answers = not_durable(client, ["first", "second", "third"])
        equal(answers[0], "NotDurable", "the first answer")
        equal(set(answers) <= {"NotDurable", "ReadOnly"}, True, f"{answers} acknowledges nothing")
        refuses(client, "sync", times=8)
        equal(client.call("Get", arena="a", key="first")["value"], "first", "it is applied")
        eventually(lambda: serving(client), "the checkpoint heals it", 20)
        works(client)
        equal([checkpoint["state"] for checkpoint in client.call("ListCheckpoints")["checkpoints"]], ["complete"])
        equal([logged(daemon, REFUSED), logged(daemon, ACCEPTED)], [1, 1], "the lines in the log")
        before = entries(client)
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh), before)
            equal(status(fresh)["state"], "serving")


@test("a checkpoint that someone asks for heals it as well")
def _():
    with faulty("fdatasync:1:EIO") as (daemon, client, fault):
        fault.arm()
        equal(not_durable(client, ["first"]), ["NotDurable"])
        client.call("TakeCheckpoint")
        works(client)


@test("while syncs go on failing it stays read-only, and heals afterwards")
def _():
    with faulty("fdatasync:1:EIO:forever") as (daemon, client, fault):
        fault.arm()
        equal(not_durable(client, ["first"]), ["NotDurable"])
        eventually(lambda: fault.fired >= 3, "other segments are tried")
        refuses(client, "sync", times=8)
        equal(logged(daemon, REFUSED), 1, "lines in the log")
        fault.end()
        eventually(lambda: serving(client), "it heals", 30)
        works(client)


@test("a restart while it is condemned starts read-only, and a checkpoint heals it")
def _():
    with faulty("fdatasync:1:EIO:forever") as (daemon, client, fault):
        fault.arm()
        equal(not_durable(client, ["first"]), ["NotDurable"])
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            # The checkpoint comes within a second or so; until then it is this.
            if serving(fresh):
                equal(logged(daemon, REFUSED), 2, "lines in the log")
            else:
                refuses(fresh, "sync", times=1)
            eventually(lambda: serving(fresh), "the checkpoint heals it", 30)
            equal(logged(daemon, REFUSED), 2, "lines in the log")
            equal(entries(fresh), {"before": 1, "first": "first"})
            works(fresh)
            before = entries(fresh)
        daemon.kill()
        daemon.start()
        with daemon.client() as fresh:
            equal(status(fresh)["state"], "serving")
            equal(entries(fresh), before)


@test("a start that cannot sync what it replayed is read-only until it can")
def _():
    with faulty("fdatasync:1:EIO:forever") as (daemon, client, fault):
        daemon.kill()
        fault.arm()
        daemon.start()
        with daemon.client() as fresh:
            refuses(fresh, "sync", times=8)
            equal(entries(fresh), {"before": 1})
            fault.end()
            eventually(lambda: serving(fresh), "it heals", 90)
            works(fresh)


@test("a stop while it is condemned says so, and the next start heals")
def _():
    with faulty("fdatasync:1:EIO:forever") as (daemon, client, fault):
        fault.arm()
        equal(not_durable(client, ["first"]), ["NotDurable"])
        daemon.stop(status=os.EX_IOERR)
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            eventually(lambda: serving(fresh), "the checkpoint heals it", 30)
            equal(entries(fresh), {"before": 1, "first": "first"})


# --- the other policies

@test("Sync=interval: the durable revision follows, and a failed sync is healed")
def _():
    with faulty("fdatasync:1:EIO", "Journal.Sync=interval", "Journal.SyncIntervalSec=200ms") as (daemon, client, fault):
        revision = client.call("Put", arena="a", key="k", value=1)["revision"]
        eventually(lambda: status(client)["durableRevision"] >= revision, "it becomes durable", 20)
        fault.arm()
        revision = client.call("Put", arena="a", key="lost", value=1)["revision"]
        equal(status(client)["durableRevision"] < revision, True, "it is not durable yet")
        eventually(lambda: fault.fired, "the sync fails", 20)
        eventually(lambda: logged(daemon, REFUSED), "it is told", 20)
        eventually(lambda: serving(client), "the checkpoint heals it", 20)
        equal(status(client)["durableRevision"] >= revision, True, "it is durable now")
        client.call("Put", arena="a", key="works", value=1)
        equal([logged(daemon, REFUSED), logged(daemon, ACCEPTED)], [1, 1], "the lines in the log")
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh), {"before": 1, "k": 1, "lost": 1, "works": 1})


@test("Sync=never: the durable revision stays until a checkpoint, whose failed sync is healed")
def _():
    with faulty("fdatasync:1:EIO", "Journal.Sync=never") as (daemon, client, fault):
        fault.arm()
        revision = client.call("Put", arena="a", key="k", value=1)["revision"]
        time.sleep(0.3)
        equal(fault.count(), 0, "syncs without a reason for one")
        equal(status(client)["durableRevision"] < revision, True, "it is not durable")
        with contextlib.suppress(VarlinkError):
            client.call("TakeCheckpoint")
        eventually(lambda: fault.fired, "the cut syncs")
        eventually(lambda: serving(client), "a checkpoint heals it", 20)
        equal(status(client)["durableRevision"] >= revision, True, "it is durable now")
        equal([logged(daemon, REFUSED), logged(daemon, ACCEPTED)], [1, 1], "the lines in the log")
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh), {"before": 1, "k": 1})


@test("Sync=never: without room updates are refused, and it heals by itself")
def _():
    with faulty("pwrite:1:ENOSPC:forever", "Journal.Sync=never") as (daemon, client, fault), daemon.client() as waiting:
        fault.arm()
        waiting.send("Put", {"arena": "a", "key": "waits", "value": 1})
        eventually(lambda: not serving(client), "updates are refused")
        refuses(client, "No space left on device", times=8)
        fault.end()
        waiting.receive()
        eventually(lambda: serving(client), "it heals by itself")
        client.call("Put", arena="a", key="works", value=1)
        daemon.kill()
        without_faults(daemon)
        daemon.start()
        with daemon.client() as fresh:
            equal(entries(fresh), {"before": 1, "waits": 1, "works": 1})


run()
