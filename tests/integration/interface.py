"""Every member of io.holdfast, as daemon/protocol/io.holdfast.varlink declares it, seen over the socket: all methods with
all parameters, all fields of all types, all errors. Each reply in each test is held against the declaration, strictly."""

import glob
import os
import re
import select
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, Skip, equal, eventually, expect_error, need_root, run, test  # noqa: E402
from description import Coverage, Description  # noqa: E402
from varlink import Client, VarlinkError  # noqa: E402

SOURCE = os.environ.get("HOLDFAST_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
INTERFACES = {name: Coverage(Description(os.path.join(SOURCE, "daemon", "protocol", f"{name}.varlink")))
              for name in ("io.holdfast", "org.varlink.service")}
HOLDFAST = INTERFACES["io.holdfast"]
QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]
MIB = 1 << 20

# What cannot be seen here, and why. Nothing of it may be seen, so that the list stays true.
UNWRITABLE = "wants a journal that cannot be written"
EXCEPTIONS = {
    "io.holdfast": {
        "ReadOnly": UNWRITABLE, "ReadOnly.reason": UNWRITABLE,
        "NotDurable": UNWRITABLE, "NotDurable.revision": UNWRITABLE, "NotDurable.reason": UNWRITABLE,
        "Status.reason": UNWRITABLE, "Status.state=readonly": UNWRITABLE,
        "Status.state=starting": "no call is taken before the state is there",
        "Status.state=stopping": "no call is taken any more",
        "Status.recovery=adopted": "wants a store of descriptors: a service manager",
    },
    "org.varlink.service": {
        "ExpectedMore": "no method insists on more",
        "MethodNotImplemented": "all methods are implemented",
        "MethodNotImplemented.method": "all methods are implemented",
        **({} if os.geteuid() == 0 else {"PermissionDenied": "wants another user, and only root can be one"}),
    },
}
# Of LimitExceeded's limit, named in the comment above it.
LIMIT_EXCEPTIONS = {
    "collisions": "wants 129 keys that meet in an index whose seed is random",
}
limits_seen = set()


def limits_declared():
    comment = re.search(r"# limit: ([^(]*)\nerror LimitExceeded", HOLDFAST.description.text)[1]
    return set(re.findall(r"[A-Za-z]+", comment)) - {"or"}


class Checked(Client):
    """A client all of whose calls and replies are held against the declarations."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.pending = []

    def send(self, method, parameters=None, **flags):
        full = method if "." in method else f"io.holdfast.{method}"
        interface, _, name = full.rpartition(".")
        if interface in INTERFACES:
            INTERFACES[interface].called(name, parameters)
        self.pending.append((interface, name))
        super().send(method, parameters, **flags)

    def send_raw(self, data):
        """Something that is no call, so that an error comes back."""
        self.pending.append((None, None))
        self.send_bytes(data)

    def receive_message(self):
        reply = super().receive_message()
        parameters = reply.get("parameters", {})
        interface, name = self.pending[0] if self.pending else (None, None)
        if self.pending and not reply.get("continues"):
            self.pending.pop(0)
        if "error" in reply:
            interface, _, name = reply["error"].rpartition(".")
            INTERFACES[interface].failed(name, parameters)
            if name == "LimitExceeded":
                limits_seen.add(parameters["limit"])
        else:
            INTERFACES[interface].replied(name, parameters)
        return reply


def serving(*options):
    """A daemon that checks, and a checked client of it."""
    daemon = Daemon(options=QUIET + list(options))
    return daemon, Checked(daemon.socket)


def fill(client, entries=4000, arena="a"):
    client.call("CreateArena", name=arena)
    for begin in range(0, entries, 1000):
        client.call("Apply", arena=arena, operations=[
            {"op": "put", "key": f"k{i}", "value": "y" * 1000} for i in range(begin, min(begin + 1000, entries))])


def running(client):
    return client.call("GetStatus")["status"].get("runningCheckpoint")


def started(client):
    return eventually(lambda: running(client), "a checkpoint runs")


@test("the service tells of itself, and its descriptions are the files'")
def _():
    daemon, client = serving()
    info = client.call("org.varlink.service.GetInfo")
    equal(sorted(info["interfaces"]), sorted(INTERFACES), "interfaces")
    for name, coverage in INTERFACES.items():
        found = client.call("org.varlink.service.GetInterfaceDescription", interface=name)
        equal(found["description"], coverage.description.text, name)


@test("methods on arenas, with all their parameters, answer as declared")
def _():
    daemon, client = serving()
    made = client.call("CreateArena", name="a", maxBytes=4 * MIB, mode=0o640, gid=os.getgid())["arena"]
    equal({name: made[name] for name in ("name", "entries", "maxBytes", "mode", "uid", "gid")},
          {"name": "a", "entries": 0, "maxBytes": 4 * MIB, "mode": 0o640, "uid": os.getuid(), "gid": os.getgid()})
    changed = client.call("ChangeArena", name="a", maxBytes=8 * MIB, mode=0o600, gid=os.getgid())["arena"]
    equal((changed["maxBytes"], changed["mode"]), (8 * MIB, 0o600))
    equal([arena["name"] for arena in client.call("ListArenas")["arenas"]], ["a"])
    opened = client.call("OpenArena", name="a")
    equal((opened["fileDescriptor"], opened["arena"]), (0, changed), "what was opened")
    equal(len(client.descriptors), 1, "descriptors")
    os.close(client.descriptors.pop())
    equal(client.call("DropArena", name="a"), {})
    equal(client.call("ListArenas"), {"arenas": []})


@test("methods on entries, with all their parameters, answer as declared")
def _():
    daemon, client = serving()
    client.call("CreateArena", name="a")
    first = client.call("Put", arena="a", key="k", value={"n": 1}, ifRevision=0)["revision"]
    equal(client.call("Get", arena="a", key="k"), {"value": {"n": 1}, "revision": first})
    second = client.call("Merge", arena="a", key="k", patch={"m": [2]}, ifRevision=first)
    equal(second["value"], {"n": 1, "m": [2]})
    equal(client.call("Increment", arena="a", key="n", by=5, ifRevision=0)["value"], 5)
    client.call("Put", arena="a", key="null")
    equal(client.call("Get", arena="a", key="null")["value"], None)
    equal(len(client.call("GetMany", arena="a", keys=["k", "n", "null", "none"])["entries"]), 3)
    client.call("Apply", arena="a", operations=[
        {"op": "put", "key": "a1", "value": 1, "ifRevision": 0}, {"op": "merge", "key": "a2", "value": {"x": 1}},
        {"op": "increment", "key": "a1", "by": 2}, {"op": "delete", "key": "k", "ifRevision": second["revision"]}])
    revision = client.call("Get", arena="a", key="a1")["revision"]
    client.call("Delete", arena="a", key="a1", ifRevision=revision)


@test("a listing, in pages and streamed, answers as declared")
def _():
    daemon, client = serving()
    fill(client, 300)
    found, cursor = [], None
    while True:
        page = client.call("List", arena="a", prefix="k1", limit=10, values=False, **({"cursor": cursor} if cursor else {}))
        equal({entry["value"] for entry in page["entries"]} - {None}, set(), "values")
        found += [entry["key"] for entry in page["entries"]]
        cursor = page.get("next")
        if not cursor:
            break
    equal(sorted(found), sorted(key for key in (f"k{i}" for i in range(300)) if key.startswith("k1")))
    equal(sum(len(page["entries"]) for page in client.call_more("List", arena="a", limit=50)), 300, "streamed entries")


@test("methods on checkpoints, with all their parameters, answer as declared")
def _():
    daemon, client = serving("Checkpoint.WriteBytesPerSecMax=8M")
    fill(client)
    other = Checked(daemon.socket)
    begun = client.call("TakeCheckpoint", arenas=["a"], label="first", wait=False)["checkpoint"]
    equal((begun["state"], begun["label"], begun["arenas"]), ("running", "first", ["a"]))
    equal(started(client)["pid"] > 0, True, "a pid")
    equal(client.call("ListCheckpoints")["checkpoints"][-1]["id"], begun["id"])
    eventually(lambda: not running(client), "it ends")
    parts = list(client.call_more("TakeCheckpoint", label="second"))
    equal(parts[-1]["checkpoint"]["state"], "complete")
    last = client.call("GetStatus")["status"]["lastCheckpoint"]
    equal((last["id"], last["path"]), (parts[-1]["checkpoint"]["id"], daemon.path("images", last["id"] + ".image")))
    verified = list(client.call_more("VerifyCheckpoint", id=last["id"]))
    equal(verified[-1]["checkpoint"]["id"], last["id"])
    equal(client.call("DeleteCheckpoint", id=begun["id"]), {})
    with expect_error("CheckpointNeeded"):
        client.call("DeleteCheckpoint", id=last["id"])
    other.send("TakeCheckpoint")
    equal(client.call("CancelCheckpoint", id=started(client)["id"]), {})
    with expect_error("CheckpointCancelled"):
        other.receive()
    other.send("TakeCheckpoint")
    os.kill(started(client)["pid"], signal.SIGKILL)
    with expect_error("CheckpointFailed") as caught:
        other.receive()
    failed = client.call("ListCheckpoints")["checkpoints"][-1]
    equal((failed["state"], failed["id"]), ("failed", caught.parameters["id"]))
    equal(failed["reason"], caught.parameters["reason"])


@test("the command after a checkpoint is shown as declared: while it runs, when it has ended, when it was killed")
def _():
    daemon, client = serving("Checkpoint.AfterCommand=/bin/sh -c 'kill -STOP $$; exit 3'")

    def command(*members):
        def look():
            found = client.call("GetStatus")["status"].get("afterCommand", {})
            return found if set(members) <= set(found) else None
        return eventually(look, f"a command with {members}")

    client.call("CreateArena", name="a")
    for number, member in ((signal.SIGCONT, "exitStatus"), (signal.SIGKILL, "signal")):
        made = client.call("TakeCheckpoint")["checkpoint"]
        pid = command("pid")["pid"]
        eventually(lambda: stopped(pid), "it has stopped itself")
        os.kill(pid, number)
        found = command(member, "durationUSec")
        equal((found["checkpoint"], found[member]), (made["id"], {"exitStatus": 3, "signal": 9}[member]))


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@test("an image that is damaged is told as declared")
def _():
    daemon, client = serving()
    fill(client, 100)
    checkpoint = client.call("TakeCheckpoint")["checkpoint"]
    with open(checkpoint["path"], "r+b") as image:
        image.seek(checkpoint["imageBytes"] // 2)
        image.write(b"damage")
    with expect_error("ImageDamaged") as caught:
        client.call("VerifyCheckpoint", id=checkpoint["id"])
    equal(caught.parameters["id"], checkpoint["id"])


@test("the status tells how the state came back, and a reload what it ignores")
def _():
    daemon, client = serving()
    equal(client.call("GetStatus")["status"]["recovery"], "empty")
    text = client.call("GetMetrics")["text"]
    equal((text.startswith("# TYPE "), text.endswith("\n# EOF\n")), (True, True), "OpenMetrics text")
    fill(client, 10)
    image = client.call("TakeCheckpoint")["checkpoint"]["path"]
    client.call("Put", arena="a", key="later", value=1)
    daemon.kill()
    daemon.start()
    client = Checked(daemon.socket)
    equal(client.call("GetStatus")["status"]["recovery"], "journal")
    daemon.configure("[Server]\nSocketMode=0600\n[Checkpoint]\nKeep=2\n")
    equal(client.call("Reload")["ignored"], ["Server.SocketMode"])
    daemon.configure("[Checkpoint]\nKeep=none\n")
    with expect_error("ConfigurationInvalid") as caught:
        client.call("Reload")
    equal((caught.parameters["file"], caught.parameters["line"]), (daemon.config_path, 2))
    second = Daemon(options=QUIET, start=False)
    os.makedirs(second.path("images"), mode=0o700)
    os.link(image, second.path("images", os.path.basename(image)))
    second.start()
    equal(Checked(second.socket).call("GetStatus")["status"]["recovery"], "image")


@test("errors of arenas and entries are as declared")
def _():
    daemon, client = serving()
    client.call("CreateArena", name="a", maxBytes=MIB)
    client.call("Put", arena="a", key="text", value="text")
    for error, method, parameters in (
            ("NoSuchArena", "Get", {"arena": "none", "key": "k"}),
            ("ArenaExists", "CreateArena", {"name": "a"}),
            ("ArenaFull", "Put", {"arena": "a", "key": "k", "value": "x" * 2 * MIB}),
            ("NoSuchKey", "Get", {"arena": "a", "key": "none"}),
            ("NoSuchKey", "Apply", {"arena": "a", "operations": [{"op": "delete", "key": "none"}]}),
            ("RevisionMismatch", "Put", {"arena": "a", "key": "text", "ifRevision": 0}),
            ("RevisionMismatch", "Apply", {"arena": "a", "operations": [{"op": "put", "key": "text", "ifRevision": 0}]}),
            ("WrongType", "Increment", {"arena": "a", "key": "text"}),
            ("WrongType", "Apply", {"arena": "a", "operations": [{"op": "increment", "key": "text"}]})):
        with expect_error(error) as caught:
            client.call(method, parameters)
        equal(caught.parameters.get("operation"), 0 if method == "Apply" else None, f"operation of {error}")


def arena_file(daemon, name):
    """The memory of an arena, as the daemon has it open."""
    for path in glob.glob(f"/proc/{daemon.pid}/fd/*"):
        if os.readlink(path).startswith(f"/memfd:holdfast-{name} "):
            return path
    raise AssertionError(f"no memory of {name}")


@test("an arena whose memory is not what the daemon wrote is refused as declared; the others go on")
def _():
    daemon, client = serving()
    fill(client, 1000)
    fill(client, 10, "b")
    with open(arena_file(daemon, "a"), "r+b") as memory:
        memory.seek(4096)
        memory.write(b"\xff" * (os.fstat(memory.fileno()).st_size - 4096))
    with expect_error("ArenaDamaged") as caught:
        for number in range(1000):
            client.call("Get", arena="a", key=f"k{number}")
    equal(caught.parameters["arena"], "a")
    equal(client.call("Get", arena="b", key="k1")["value"], "y" * 1000)


@test("a damaged arena is not saved: it comes back whole from an older image and the journal")
def _():
    daemon, client = serving("Checkpoint.Keep=1", "Checkpoint.AtStop=no")
    fill(client, 1000)
    fill(client, 10, "b")
    older = client.call("TakeCheckpoint")["checkpoint"]
    client.call("Put", arena="a", key="later", value=1)
    with open(arena_file(daemon, "a"), "r+b") as memory:
        memory.seek(4096)
        memory.write(b"\xff" * (os.fstat(memory.fileno()).st_size - 4096))
    with expect_error("ArenaDamaged"):
        for number in range(1000):
            client.call("Get", arena="a", key=f"k{number}")
    with expect_error("ArenaDamaged"):
        client.call("TakeCheckpoint", arenas=["b", "a"])
    for number in range(2):
        client.call("Put", arena="b", key="k0", value=number)
        equal(client.call("TakeCheckpoint")["checkpoint"]["arenas"], ["b"])
    equal(older["id"] in [checkpoint["id"] for checkpoint in client.call("ListCheckpoints")["checkpoints"]], True,
          "the image that holds it stays")
    client.close()
    daemon.restart()
    with Checked(daemon.socket) as again:
        arenas = {arena["name"]: arena["entries"] for arena in again.call("ListArenas")["arenas"]}
        equal(arenas, {"a": 1001, "b": 10})
        equal(again.call("Get", arena="a", key="later")["value"], 1)
        equal(again.call("Get", arena="a", key="k7")["value"], "y" * 1000)
        equal(again.call("Get", arena="b", key="k0")["value"], 1)


def limited(call, limit):
    with expect_error("LimitExceeded") as caught:
        call()
    equal(caught.parameters["limit"], limit)


def half_message(client, size):
    """The beginning of a call that never ends."""
    client.send_raw(b'{"method":"io.holdfast.Put","parameters":{"arena":"a","key":"k","value":"' + b"x" * size)


@test("limits of calls are told as declared")
def _():
    daemon, client = serving("Arenas.ArenasMax=1", "Arenas.MemoryBytesMax=8M")
    client.call("CreateArena", name="a")
    for limit, method, parameters in (
            ("arenas", "CreateArena", {"name": "b"}),
            ("key", "Put", {"arena": "a", "key": "x" * 1025}),
            ("key", "Apply", {"arena": "a", "operations": [{"op": "put", "key": "x" * 1025}]}),
            ("value", "Put", {"arena": "a", "key": "k", "value": "x" * 8 * MIB}),
            ("memory", "Apply", {"arena": "a", "operations": [
                {"op": "put", "key": f"k{number}", "value": "x" * 5 * MIB} for number in range(2)]}),
            ("operations", "Apply", {"arena": "a", "operations": [{"op": "put", "key": "k"}] * 65537}),
            ("label", "TakeCheckpoint", {"label": "x" * 65})):
        limited(lambda: client.call(method, parameters), limit)
    client.send_raw(b'{"method":"io.holdfast.Put","parameters":{"arena":"a","key":"k","value":' + b"[" * 513 +
                    b"]" * 513 + b"}}\0")
    limited(client.receive, "depth")


@test("empty arenas count for the limit of memory, and one too many is not made")
def _():
    daemon, client = serving("Arenas.ArenasMax=4000", "Arenas.MemoryBytesMax=1M")
    made = 0

    def make():
        nonlocal made
        while made < 1000:
            client.call("CreateArena", name=f"a{made}")
            made += 1
    limited(make, "memory")
    status = client.call("GetStatus")["status"]
    equal(status["arenas"], made)
    equal(status["usedBytes"] <= MIB, True, "within the limit")
    equal(len(client.call("ListArenas")["arenas"]), made)
    client.call("DropArena", name="a0")
    client.call("CreateArena", name="other")


@test("what the status tells as used is the sum over the arenas, also after entries were moved together")
def _():
    daemon, client = serving("Journal.Sync=never")
    client.call("CreateArena", name="a")

    def change(operation, every=lambda number: True):
        for first in range(0, 20000, 2000):
            client.call("Apply", arena="a", operations=[{**operation, "key": f"k{number}"}
                                                        for number in range(first, first + 2000) if every(number)])
    change({"op": "put", "value": "x" * 1000})
    change({"op": "put", "value": "x" * 1800})
    full = client.call("ListArenas")["arenas"][0]["usedBytes"]
    # Pages that are a third full, hardly any of them empty, are worth moving together.
    change({"op": "delete"}, lambda number: number % 3)

    def used():
        status = client.call("GetStatus")["status"]
        arenas = client.call("ListArenas")["arenas"]
        return status["usedBytes"], sum(arena["usedBytes"] for arena in arenas)
    eventually(lambda: used()[1] < full * 0.6, "entries are moved together")
    eventually(lambda: len(set(used())) == 1, "the sums are equal, once nothing moves between the two calls", 20)
    client.call("DropArena", name="a")
    equal(used(), (0, 0))


@test("limits of connections, messages and buffers are told as declared")
def _():
    for limit, connections, user in (("connections", 2, 2), ("connectionsPerUser", 3, 2)):
        daemon, client = serving(f"Server.ConnectionsMax={connections}", f"Server.ConnectionsPerUserMax={user}")
        # The one that asked whether the daemon answers has gone.
        eventually(lambda: client.call("GetStatus")["status"]["connections"] == 1, "one connection")
        with Checked(daemon.socket), Checked(daemon.socket) as third:
            third.pending.append((None, None))
            limited(third.receive, limit)
    daemon, client = serving()
    with Checked(daemon.socket) as large:
        try:
            half_message(large, 17 * MIB)
        except (BrokenPipeError, ConnectionResetError):
            pass
        limited(large.receive, "message")
    daemon, client = serving("Server.BufferBytesMax=64M")
    with Checked(daemon.socket) as first, Checked(daemon.socket) as second:
        half_message(first, 7 * MIB)
        try:
            half_message(second, 15 * MIB)
        except (BrokenPipeError, ConnectionResetError):
            pass
        limited(second.receive, "buffers")


@test("a client that does not receive its descriptors is told as declared, and goes on once it does")
def _():
    daemon, client = serving()
    client.call("CreateArena", name="a")
    for _ in range(100):
        client.send("OpenArena", {"name": "a"})
    client.send("Put", {"arena": "a", "key": "k", "value": 1})
    eventually(lambda: daemon.call("GetMany", arena="a", keys=["k"])["entries"], "all are answered")
    opened = 0
    for _ in range(100):
        try:
            opened += client.receive()["fileDescriptor"] == 0
        except VarlinkError as error:
            equal((error.name, error.parameters), ("io.holdfast.LimitExceeded", {"limit": "descriptors", "maximum": 32}))
    equal((opened, len(client.descriptors)), (32, 32), "opened")
    client.receive()
    for descriptor in client.descriptors:
        os.close(descriptor)
    equal(client.call("OpenArena", name="a")["fileDescriptor"], 0)


@test("a full queue of checkpoints is told as declared")
def _():
    daemon, client = serving("Checkpoint.WriteBytesPerSecMax=1M")
    fill(client)
    client.send("TakeCheckpoint")
    started(Checked(daemon.socket))
    others = {}
    for number in range(17):
        other = Checked(daemon.socket)
        other.send("TakeCheckpoint", {"label": f"n{number}"})
        others[other.socket] = other
    # 16 wait for the one that runs for seconds; the answer that comes meanwhile is the refusal.
    answered, _, _ = select.select(list(others), [], [], 60)
    limited(others[answered[0]].receive, "checkpoints")


@test("a user without the right is told as declared")
def _():
    need_root()
    daemon, client = serving("Server.SocketMode=0666")
    client.call("CreateArena", name="a")
    os.chmod(daemon.directory, 0o755)
    os.seteuid(61234)
    try:
        other = Checked(daemon.socket)
    finally:
        os.seteuid(0)
    with expect_error("PermissionDenied"):
        other.call("Put", arena="a", key="k", value=1)


@test("an Apply that merges or increments wants the right to read as well as to write")
def _():
    need_root()
    daemon, client = serving("Server.SocketMode=0666")
    client.call("CreateArena", name="a", mode=0o622)
    os.chmod(daemon.directory, 0o755)
    os.seteuid(61234)
    try:
        other = Checked(daemon.socket)
    finally:
        os.seteuid(0)
    put = {"op": "put", "key": "k", "value": 1}
    for operation in ({"op": "merge", "key": "k", "value": {}}, {"op": "increment", "key": "k"}):
        with expect_error("PermissionDenied"):
            other.call("Apply", arena="a", operations=[put, operation])
    other.call("Apply", arena="a", operations=[put, {"op": "delete", "key": "k"}])
    client.call("ChangeArena", name="a", mode=0o666)
    other.call("Apply", arena="a", operations=[put, {"op": "increment", "key": "k"}])
    equal(client.call("Get", arena="a", key="k")["value"], 2)


@test("a name that no arena can have is told with the parameter that has it")
def _():
    daemon, client = serving()
    for method, parameter in (("CreateArena", "name"), ("ChangeArena", "name"), ("DropArena", "name"),
                              ("OpenArena", "name"), ("List", "arena")):
        with expect_error("InvalidParameter") as caught:
            client.call(method, {parameter: "-"})
        equal(caught.parameters["parameter"], parameter, method)


@test("messages that are no calls, and calls that are not known, are refused as declared")
def _():
    daemon, client = serving()
    for error, method, parameters in (
            ("InterfaceNotFound", "com.example.Method", {}), ("MethodNotFound", "Nothing", {}),
            ("InvalidParameter", "Get", {"arena": "a"}),
            ("NoSuchCheckpoint", "VerifyCheckpoint", {"id": "none"})):
        with expect_error(error):
            client.call(method, parameters)
    with expect_error("BadMessage"):
        client.send_raw(b"hello\0")
        client.receive()


@test("all members of the interfaces were seen, but for those that are listed with a reason")
def _():
    if len(sys.argv) > 1:
        raise Skip("only some of the tests were run")
    for name, coverage in INTERFACES.items():
        exceptions = EXCEPTIONS[name]
        unseen = coverage.members() - coverage.seen
        equal(sorted(unseen - set(exceptions)), [], f"members of {name} that were not seen")
        equal(sorted(set(exceptions) - unseen), [], f"exceptions of {name} that were seen, or are no members")
    equal(sorted(limits_declared() - limits_seen), sorted(LIMIT_EXCEPTIONS), "limits that were not seen")
    equal(sorted(limits_seen - limits_declared()), [], "limits that are not declared")


run()
