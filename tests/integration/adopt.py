"""Live arenas go from one process to the next through the service manager's descriptor store: what is adopted, what is
not, and that nothing is lost either way."""

import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, equal, eventually, expect_error, message, need_root, run, test  # noqa: E402
from faults import Fault  # noqa: E402
from keeper import (ARENA_CHANGES, ARENA_DROPPED, ARENA_GENERATION, ARENA_STATE, CONTROL, CONTROL_ADOPTIONS,  # noqa: E402
                    CONTROL_CONDEMNED, CONTROL_LINEAGE, KeptDaemon, get_number, set_number)

QUIET = ["Checkpoint.IntervalSec=0"]
JUMP = 1 << 32


def fill(client, names=("a", "b", "c"), count=200):
    for name in names:
        client.call("CreateArena", name=name, maxBytes=32 << 20, mode=0o640)
        client.call("Apply", arena=name, operations=[
            {"op": "put", "key": f"k{number}", "value": {"n": number, "text": name * 300}} for number in range(count)])
    client.call("Delete", arena=names[0], key="k3")


def contents(client):
    """{arena: (its attributes, {key: (value, revision)})}"""
    return {arena["name"]: ({k: v for k, v in arena.items() if k not in ("usedBytes", "entries")},
                            {e["key"]: (e["value"], e["revision"])
                             for page in client.call_more("List", arena=arena["name"]) for e in page["entries"]})
            for arena in client.call("ListArenas")["arenas"]}


def filled(**arguments):
    daemon = KeptDaemon(options=QUIET, **arguments)
    with daemon.client() as client:
        fill(client)
    return daemon.settle()


def same(found, expected, what):
    """Tells the first differences, not all that there is."""
    equal(sorted(found), sorted(expected), f"{what}: names")
    for name, (attributes, entries) in expected.items():
        equal(found[name][0], attributes, f"{what}: attributes of {name}")
        wrong = [(key, str(entries.get(key))[:60], str(found[name][1].get(key))[:60])
                 for key in set(entries) | set(found[name][1]) if entries.get(key) != found[name][1].get(key)]
        equal(wrong[:3], [], f"{what}: {len(wrong)} entries of {name} (key, expected, found)")


def expect(daemon, before, recovery="adopted", adopted=None, jump=False):
    """Compares what is there, and that updates go on with the right number."""
    with daemon.client() as client:
        status = client.call("GetStatus")["status"]
        same(contents(client), before[1], "what is there")
        equal(status["recovery"], recovery, "recovery")
        number = client.call("Put", arena=sorted(before[1])[0], key="next", value=1)["revision"]
    if not jump:
        equal(number, before[0] + 1, "the next revision")
    elif number <= before[0] + JUMP:
        raise AssertionError(f"revision {number} after {before[0]}")
    if adopted is not None:
        equal(int(re.findall(r"arenas \((\d+) adopted\)", daemon.log())[-1]), adopted, "arenas adopted")
    daemon.settle()


def state(daemon):
    with daemon.client() as client:
        return client.call("GetStatus")["status"]["revision"], contents(client)


def no_image(daemon):
    equal(glob.glob(daemon.path("images", "*.image")), [], "images")


@test("the control memfd and every arena are kept, and a stop writes no image")
def _():
    daemon = filled()
    equal(len(daemon.keeper.names()), 4)
    equal(sum(message.get("FDPOLL") == "0" for message in daemon.keeper.said), 4)
    before = state(daemon)
    generation = get_number(daemon.keeper.arenas()["a"], ARENA_GENERATION, "<Q")
    daemon.stop()
    no_image(daemon)
    daemon.start()
    equal(get_number(daemon.keeper.arenas()["a"], ARENA_GENERATION, "<Q"), generation + 1, "generation")
    expect(daemon, before, adopted=3)
    equal(len(daemon.keeper.names()), 4)
    equal(state(daemon)[0], before[0] + 1)
    # What it was handed over tells it, too, that there is a store.
    daemon.stop()
    no_image(daemon)


@test("after SIGKILL nothing is read, revisions go on, and what is adopted is adopted again")
def _():
    daemon = filled()
    before = state(daemon)
    for _ in range(3):
        daemon.kill()
        daemon.start()
        expect(daemon, before, adopted=3)
        before = state(daemon)
        daemon.prove()
    daemon.stop()


@test("what is updated, created, changed and dropped between adoptions is there, and kept")
def _():
    daemon = filled()
    for round in range(4):
        with daemon.client() as client:
            client.call("CreateArena", name=f"new{round}", maxBytes=8 << 20)
            client.call("Put", arena=f"new{round}", key="k", value=round)
            client.call("ChangeArena", name="b", maxBytes=(64 + round) << 20, mode=0o600)
            client.call("DropArena", name="c" if round == 0 else f"new{round - 1}")
            client.call("Merge", arena="a", key="k1", patch={"round": round})
        before = state(daemon)
        daemon.settle()
        if round % 2:
            daemon.kill()
        else:
            daemon.stop()
        daemon.start()
        expect(daemon, before, adopted=3)
        equal(len(daemon.keeper.names()), 4)
        daemon.prove()
    before = state(daemon)
    daemon.kill()
    daemon.keeper.clear()  # the journal alone says the same
    daemon.start()
    same(state(daemon)[1], before[1], "what the journal has")
    equal(daemon.status()["recovery"], "journal")
    daemon.stop()


# --- arenas that are not adopted

def blocks(fd):
    """Memory that a memfd has."""
    return os.fstat(fd).st_blocks


@test("an arena caught in the middle of an update is made anew, the others are adopted, and its memory is given back")
def _():
    for image in (False, True):
        daemon = filled()
        if image:
            daemon.call("TakeCheckpoint")
        daemon.call("Put", arena="b", key="later", value=1)
        before = state(daemon)
        caught = os.dup(daemon.keeper.arenas()["b"])
        daemon.kill()
        set_number(caught, ARENA_CHANGES, get_number(caught, ARENA_CHANGES, "<Q") + 1, "<Q")
        daemon.start()
        expect(daemon, before, adopted=2, jump=True)
        equal("arena b: not adopted, but rebuilt from images and journal: it was in the middle of an update" in daemon.log(), True, "it is told")
        eventually(lambda: blocks(caught) == 0, "the memory is given back")
        equal(len(daemon.keeper.names()), 4)
        os.close(caught)
        before = state(daemon)
        daemon.kill()
        daemon.start()
        expect(daemon, before, adopted=3)
        daemon.stop()


def encoded(method, parameters):
    return json.dumps(message(method, parameters)).encode() + b"\0"


def send_until_gone(client, data):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send_bytes(data)


@test("SIGKILL while large updates run: each arena is as one of them left it")
def _():
    daemon = filled()
    caught = 0
    for round in range(40):
        with daemon.client() as client:
            operations = [{"op": "put", "key": f"k{number}", "value": [round, "x" * 200]} for number in range(5000)]
            acknowledged = client.call("Apply", arena="a", operations=operations)["revision"]
            header = daemon.keeper.arenas()["a"]
            # Eight of them, sent beside us: so that we look while they run, however busy the processors are.
            sending = threading.Thread(target=send_until_gone, daemon=True, args=(
                client, encoded("Apply", {"arena": "a", "operations": operations}) * 8))
            sending.start()
            end = time.monotonic() + 2
            while get_number(header, ARENA_CHANGES) % 2 == 0 and time.monotonic() < end:
                pass
            daemon.kill()
            sending.join()
            daemon.prove()
        daemon.start()
        caught = daemon.log().count("in the middle of an update")
        with daemon.client() as client:
            found = [(e["value"][0], e["revision"]) for page in client.call_more("List", arena="a", limit=10000)
                     for e in page["entries"]]
            equal((len(found), len(set(found)), found[0][0]), (5000, 1, round), "entries of one update")
            equal(found[0][1] >= acknowledged, True, "the acknowledged one is there")
            equal(client.call("Get", arena="b", key="k7")["value"]["n"], 7)
        equal(daemon.status()["recovery"], "adopted")
        if caught >= 3:
            break
    equal(caught >= 1, True, f"{caught} times in the middle of an update is enough")
    daemon.stop()


def refused(change, why, adopted=2, jump=True):
    """What the store holds of b is changed; it is made anew and the others are adopted."""
    daemon = filled()
    before = state(daemon)
    daemon.kill()
    change(daemon)
    daemon.start()
    equal(why in daemon.log(), True, f"the log says {why}")
    expect(daemon, before, adopted=adopted, jump=jump)
    equal(len(daemon.keeper.names()), 4)
    before = state(daemon)
    daemon.kill()
    daemon.start()
    expect(daemon, before, adopted=3)
    daemon.stop()


def replace(daemon, fd, arena="b"):
    """Has the store hold another descriptor in place of the arena's."""
    old = daemon.keeper.arenas()[arena]
    daemon.keeper.stored = [(name, fd if kept == old else kept) for name, kept in daemon.keeper.stored]
    os.close(old)


def copy(daemon, arena="b", mode=0o600, seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL):
    """A memfd with the same contents."""
    old = daemon.keeper.arenas()[arena]
    size = os.fstat(old).st_size
    fd = os.memfd_create("holdfast-b", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    for offset in range(0, size, 1 << 20):
        os.pwrite(fd, os.pread(old, 1 << 20, offset), offset)
    os.fchmod(fd, mode)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@test("a copy that is ours is as good as the original; what others could have changed is not taken")
def _():
    both = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    refused(lambda daemon: replace(daemon, copy(daemon)), "(3 adopted)", adopted=3, jump=False)
    refused(lambda daemon: replace(daemon, copy(daemon, mode=0o660)), "it is not ours alone")
    refused(lambda daemon: replace(daemon, copy(daemon, seals=fcntl.F_SEAL_SHRINK)), "it is not ours alone")
    refused(lambda daemon: replace(daemon, copy(daemon, seals=fcntl.F_SEAL_SEAL)), "it is not ours alone")
    refused(lambda daemon: replace(daemon, copy(daemon, seals=both | fcntl.F_SEAL_GROW)), "it is not ours alone")
    refused(lambda daemon: replace(daemon, os.open(f"/proc/self/fd/{copy(daemon)}", os.O_RDONLY)), "it is not ours alone")


@test("a memfd of another user is not taken")
def _():
    need_root()

    def change(daemon):
        fd = copy(daemon)
        os.fchown(fd, 12345, -1)
        replace(daemon, fd)

    refused(change, "it is not ours alone")


@test("a file, another arena, rubbish, and one that is missing are made anew from the journal")
def _():
    def file(daemon):
        path = os.path.join(daemon.directory, "file")
        replace(daemon, os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    def another(daemon):
        replace(daemon, os.dup(daemon.keeper.arenas()["c"]))

    def empty(daemon):
        fd = os.memfd_create("holdfast-b", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.fchmod(fd, 0o600)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        replace(daemon, fd)

    def rubbish(daemon):
        fd = daemon.keeper.arenas()["b"]
        os.pwrite(fd, os.urandom(4096 - 512), 512)

    def missing(daemon):
        fd = daemon.keeper.arenas()["b"]
        daemon.keeper.remove(next(name for name, kept in daemon.keeper.stored if kept == fd))

    refused(file, "it is not ours alone")
    refused(another, "it is another one than its name says")
    refused(empty, "it holds no arena")
    refused(rubbish, "its header makes no sense")
    refused(missing, "(2 adopted)")


@test("memory that was given up by a start that did not get further does not make an arena dropped")
def _():
    def given_up(daemon):
        set_number(daemon.keeper.arenas()["b"], ARENA_STATE, ARENA_DROPPED)

    refused(given_up, "(2 adopted)")


@test("memory that is handed over twice serves on, and is not given up for the second descriptor")
def _():
    daemon = filled()
    before = state(daemon)
    daemon.kill()
    name, fd = next(kept for kept in daemon.keeper.stored if kept[1] == daemon.keeper.arenas()["b"])
    # Another description of the same memory: the service manager tells descriptors apart by that.
    daemon.keeper.stored.append((name, os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)))
    daemon.start()
    expect(daemon, before, adopted=3)
    eventually(lambda: len(daemon.keeper.names()) == 4, "it is kept once")
    before = state(daemon)
    daemon.kill()
    daemon.start()
    expect(daemon, before, adopted=3)
    daemon.stop()


@test("damage within an adopted arena closes that arena alone, and the next start makes it anew")
def _():
    daemon = filled()
    before = state(daemon)
    daemon.kill()
    fd = daemon.keeper.arenas()["b"]
    # Every slot leads astray: all of the memory but the header and the descriptors of its pages.
    for offset in range(17 * 4096, os.fstat(fd).st_size, 4096):
        data = os.pread(fd, 4096, offset)
        if data.strip(b"\0"):
            os.pwrite(fd, b"\xff" * len(data), offset)
    daemon.start()
    with daemon.client() as client:
        equal(client.call("GetStatus")["status"]["recovery"], "adopted")
        with expect_error("ArenaDamaged"):
            client.call("Get", arena="b", key="k1")
        equal(client.call("Get", arena="a", key="k1")["value"]["n"], 1)
    eventually(lambda: len(daemon.keeper.names()) == 3, "it is kept no longer")
    daemon.kill()
    daemon.start()
    expect(daemon, before, adopted=2, jump=True)
    daemon.stop()


@test("an arena that was dropped is not back, though the store still holds it")
def _():
    daemon = filled()
    name = next(name for name, kept in daemon.keeper.stored if kept == daemon.keeper.arenas()["b"])
    memory = os.dup(daemon.keeper.arenas()["b"])
    daemon.call("DropArena", name="b")
    daemon.settle()
    before = state(daemon)
    daemon.kill()
    daemon.keeper.stored.append((name, memory))
    daemon.start()
    expect(daemon, before, adopted=2)
    equal(len(daemon.keeper.names()), 3)
    daemon.stop()


@test("a kill right after drops and creations: what was acknowledged counts, whatever the store has heard")
def _():
    daemon = filled()
    for round in range(12):
        with daemon.client() as client:
            client.call("CreateArena", name=f"d{round}")
            client.call("Put", arena=f"d{round}", key="k", value=round)
            if round:
                client.call("DropArena", name=f"d{round - 1}")
            if round % 2:
                client.call("DropArena", name=f"d{round}")
                client.call("CreateArena", name=f"d{round}")
            before = contents(client)
        daemon.kill()
        daemon.prove()
        daemon.start()
        with daemon.client() as client:
            same(contents(client), before, f"after round {round}")
    daemon.stop()


# --- nothing is adopted

def nothing_adopted(daemon, before, why, jump=True):
    daemon.start()
    equal(why in daemon.log(), True, f"the log says {why}")
    expect(daemon, before, recovery="journal", adopted=0, jump=jump)
    equal(len(daemon.keeper.names()), 4)
    before = state(daemon)
    daemon.kill()
    daemon.start()
    expect(daemon, before, adopted=3)
    daemon.stop()


@test("without the control memfd, or with one of another state directory, or damaged, nothing is adopted")
def _():
    def lineage(daemon):
        set_number(daemon.keeper.control(), CONTROL_LINEAGE, 1)

    def magic(daemon):
        set_number(daemon.keeper.control(), 0, 1)

    for change, why in ((lambda daemon: daemon.keeper.remove(CONTROL), "no control memfd"),
                        (lineage, "it is another one"), (magic, "it is not one of ours")):
        daemon = filled()
        before = state(daemon)
        daemon.kill()
        change(daemon)
        nothing_adopted(daemon, before, why)


@test("where another daemon has gone on with the state directory, what was kept is out of date")
def _():
    daemon = filled()
    daemon.kill()
    with Daemon(directory=daemon.directory, options=QUIET + ["Checkpoint.AtStop=no"]) as other:
        other.call("Put", arena="a", key="other", value=1)
        before = state(other)
    nothing_adopted(daemon, before, "another daemon has gone on with it since", jump=False)


@test("an older state directory that was put back counts, not what was kept")
def _():
    daemon = filled()
    daemon.kill()
    older = os.path.join(daemon.directory, "older")
    shutil.copytree(daemon.state, older)
    daemon.start()
    before = state(daemon)  # the copy has it all
    for number in range(20):
        daemon.call("Put", arena="a", key="lost", value=number)
    daemon.kill()
    shutil.rmtree(daemon.state)
    os.rename(older, daemon.state)
    nothing_adopted(daemon, before, "nothing is adopted")


@test("after three adoptions without a minute of service nothing is adopted; a clean stop is no reason")
def _():
    daemon = filled()
    for _ in range(5):
        before = state(daemon)
        daemon.stop()
        daemon.start()
        expect(daemon, before, adopted=3)
    for number in range(3):
        if number:
            equal(get_number(daemon.keeper.control(), CONTROL_ADOPTIONS), number + 1)
        before = state(daemon)
        daemon.kill()
        if number < 2:
            daemon.start()
            expect(daemon, before, adopted=3)
    nothing_adopted(daemon, before, "3 adoptions without a minute of service")


@test("unknown descriptors are closed, told and taken out of the store")
def _():
    daemon = filled()
    before = state(daemon)
    daemon.kill()
    daemon.keeper.stored += [(name, os.memfd_create(name)) for name in ("stored", "holdfast-", "holdfast-0123")]
    daemon.start()
    expect(daemon, before, adopted=3)
    eventually(lambda: len(daemon.keeper.names()) == 4, "they are gone")
    equal(daemon.log().count("a descriptor handed over is not known"), 3)
    daemon.stop()


@test("a socket handed over beside them is listened on")
def _():
    daemon = filled()
    before = state(daemon)
    daemon.stop()
    path = os.path.join(daemon.directory, "activated")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen(5)
        daemon.keeper.stored.insert(1, ("varlink", os.dup(listening.fileno())))
        daemon.socket = path
        daemon.start()
        expect(daemon, before, adopted=3)
        daemon.stop()


# --- the way of a stop

@test("AtStop=yes writes an image all the same; auto does where no store is")
def _():
    daemon = KeptDaemon(options=QUIET + ["Checkpoint.AtStop=yes"])
    with daemon.client() as client:
        fill(client)
    daemon.settle()
    before = state(daemon)
    daemon.stop()
    equal(len(glob.glob(daemon.path("images", "*.image"))), 1, "images")
    daemon.start()
    expect(daemon, before, adopted=3)
    daemon.stop()
    daemon = KeptDaemon(options=QUIET, environment={"FDSTORE": "0"}, start=False)
    Daemon.start(daemon)
    with daemon.client() as client:
        fill(client)
    daemon.stop()
    equal(daemon.keeper.names(), [])
    equal(len(glob.glob(daemon.path("images", "*.image"))), 1, "images")


@test("a kill while a checkpoint runs: the arenas are adopted, the next image is whole")
def _():
    daemon = KeptDaemon(options=QUIET + ["Checkpoint.WriteBytesPerSecMax=1M", "Checkpoint.CaptureBytesMax=1M"])
    with daemon.client() as client:
        fill(client, count=3000)
        daemon.settle()
        client.call("TakeCheckpoint", wait=False)
        eventually(lambda: client.call("GetStatus")["status"].get("runningCheckpoint"), "it runs")
        for number in range(100):
            client.call("Put", arena="a", key=f"k{number}", value="changed")
        client.call("DropArena", name="b")
    before = state(daemon)
    daemon.kill()
    daemon.options.remove("Checkpoint.WriteBytesPerSecMax=1M")
    daemon.start()
    expect(daemon, before, adopted=2)
    equal(daemon.call("TakeCheckpoint")["checkpoint"]["state"], "complete")
    before = state(daemon)
    daemon.kill()
    daemon.keeper.clear()
    daemon.start()
    same(state(daemon)[1], before[1], "what the image has")
    daemon.stop()


# --- a journal that cannot be written

@test("a condemned journal: read-only until a checkpoint heals it, with all that the arenas have")
def _():
    with Fault("fdatasync:1:EIO:forever", file=".journal") as fault:
        daemon = filled(environment=fault.environment)
        fault.arm()
        with daemon.client() as client:
            with expect_error("NotDurable"):
                client.call("Put", arena="a", key="applied", value=1)
            eventually(lambda: fault.fired >= 3, "it tries to begin anew")
        revision, before = state(daemon)
        daemon.kill()
        equal(get_number(daemon.keeper.control(), CONTROL_CONDEMNED), 1)
        for name in fault.environment:
            daemon.environment.pop(name)
        daemon.start()
        equal(daemon.log().count("updates are refused"), 2, "starts that refuse")
        with daemon.client() as client:
            status = client.call("GetStatus")["status"]
            equal(status["recovery"], "adopted")
            eventually(lambda: client.call("GetStatus")["status"]["state"] == "serving", "it is healed", 60)
            same(contents(client), before, "what was applied")
            equal(client.call("Put", arena="a", key="applied", value=2)["revision"] > revision, True)
        after = state(daemon)
        daemon.kill()
        daemon.start()
        expect(daemon, after, adopted=3)
        daemon.kill()
        daemon.keeper.clear()
        after = state(daemon.start())
        equal(after[1]["a"][1]["applied"][0], 2)
        daemon.stop()


run()
