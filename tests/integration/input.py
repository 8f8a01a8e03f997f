"""Bad input, each with its clear error and nothing changed; rights, tried as other users; framing."""

import json
import os
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import (Client, Daemon, VarlinkError, equal, eventually, expect_error, message,  # noqa: E402
                    need_root, run, test)

QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Journal.Sync=never"]
LIMIT = "LimitExceeded"


class Unchanged:
    """Within it nothing may change: not the arenas, not an entry, not the revision."""

    def __init__(self, client):
        self.client = client

    def state(self):
        status = self.client.call("GetStatus")["status"]
        return (status["revision"], status["updates"], self.client.call("ListArenas"),
                sorted(e["key"] for page in self.client.call_more("List", arena="a") for e in page["entries"]))

    def __enter__(self):
        self.before = self.state()

    def __exit__(self, kind, *_):
        if kind is None:
            equal(self.state(), self.before, "the state")
        return False


def served():
    daemon = Daemon(options=QUIET)
    client = daemon.client()
    client.call("CreateArena", name="a", maxBytes=64 << 20)
    client.call("Put", arena="a", key="k", value={"n": 1})
    return daemon, client


def put(value, key="k"):
    """A Put whose value is the given text."""
    return (b'{"method":"io.holdfast.Put","parameters":{"arena":"a","key":' + json.dumps(key).encode() +
            b',"value":' + value + b'}}\0')


def refused(daemon, data, error="BadMessage", closes=True, half_close=False):
    """Sends bytes on a connection of their own; the answer is the error, and the connection is closed after it."""
    with daemon.client() as client:
        try:
            client.send_bytes(data)
            if half_close:
                client.socket.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        reply = client.receive_message()
        equal(reply.get("error", "").rpartition(".")[2], error, f"answer to {data[:60]!r}")
        if closes:
            equal(client.at_end(), True, f"closed after {data[:60]!r}")
        return reply["parameters"]


@test("what is no JSON, no call, or breaks the rules of JSON is answered with BadMessage and the connection closed")
def _():
    daemon, client = served()
    with Unchanged(client):
        for data in (b"hello\0", b"{}\0", b"[]\0", b"null\0", b'"text"\0', b'{"method":1}\0', b'{"method":"a.b","more":1}\0',
                     b'{"method":"a.b","parameters":[]}\0', b'{"method":"a.b"}x\0', b"\0", b'{"method":"a.b",}\0',
                     b'{"method":"a.b","method":"a.b"}\0', put(b'{"a":1,"a":2}'), put(b'{"a":1,"\\u0061":2}'),
                     put(b'"\xff"'), put(b'"\xc0\x80"'), put(b'"\xed\xa0\x80"'), put(b'"\\ud800"'), put(b'"\\u0000"'),
                     put(b'{"\\u0000":1}'), put(b"9223372036854775808"), put(b"-9223372036854775809"), put(b"1e999"),
                     put(b"01"), put(b"NaN"), put(b"'x'"), put(b'"\x01"'), put(b"[1,]"), b"[" * 2000000):
            refused(daemon, data)


@test("messages over the limit are refused with its name")
def _():
    daemon, client = served()
    with Unchanged(client):
        parameters = refused(daemon, put(b'"' + b"x" * (17 << 20) + b'"'), LIMIT)
        equal(parameters["limit"], "message")
        equal(parameters["maximum"], 16 << 20)


@test("half a message and then silence harms nobody")
def _():
    daemon, client = served()
    with daemon.client() as half:
        half.send_bytes(b'{"method":"io.holdfast.Put","parameters":{"arena":"a"')
        time.sleep(0.1)
        with Unchanged(client):
            equal(client.call("Get", arena="a", key="k")["value"], {"n": 1})


@test("unknown methods, interfaces and parameters, wrong types and missing ones are named")
def _():
    daemon, client = served()
    with Unchanged(client):
        with expect_error("org.varlink.service.MethodNotFound") as caught:
            client.call("Nothing")
        equal(caught.parameters, {"method": "io.holdfast.Nothing"})
        with expect_error("org.varlink.service.InterfaceNotFound") as caught:
            client.call("com.example.Nothing")
        equal(caught.parameters, {"interface": "com.example"})
        with expect_error("org.varlink.service.InterfaceNotFound"):
            client.call("org.varlink.service.GetInterfaceDescription", interface="com.example")
        for method, parameters, wrong in (
                ("Get", {"arena": "a"}, "key"), ("Get", {"key": "k"}, "arena"), ("Get", {"arena": "a", "key": 1}, "key"),
                ("Get", {"arena": "a", "key": "k", "x": 1}, "x"), ("Put", {"arena": None, "key": "k"}, "arena"),
                ("Put", {"arena": "a", "key": "k", "ifRevision": 1.5}, "ifRevision"),
                ("Put", {"arena": "a", "key": "k", "ifRevision": -1}, "ifRevision"),
                ("GetStatus", {"x": 1}, "x"), ("List", {"arena": "a", "limit": 0}, "limit"),
                ("List", {"arena": "a", "limit": 10001}, "limit"), ("List", {"arena": "a", "cursor": "zz"}, "cursor"),
                ("CreateArena", {"name": "b", "mode": 0o777}, "mode"), ("CreateArena", {"name": "b", "maxBytes": 1}, "maxBytes"),
                ("CreateArena", {"name": "b", "gid": -1}, "gid"), ("Apply", {"arena": "a", "operations": []}, "operations"),
                ("Apply", {"arena": "a", "operations": [{"op": "put"}]}, "operations"),
                ("Apply", {"arena": "a", "operations": [{"op": "move", "key": "k"}]}, "operations"),
                ("Apply", {"arena": "a", "operations": [{"op": "delete", "key": "k", "value": 1}]}, "operations"),
                ("Apply", {"arena": "a", "operations": [{"op": "put", "key": "k", "by": 1}]}, "operations"),
                ("Apply", {"arena": "a", "operations": [1]}, "operations"), ("Apply", {"arena": "a", "operations": {}}, "operations"),
                ("TakeCheckpoint", {"arenas": []}, "arenas"), ("TakeCheckpoint", {"label": "a/b"}, "label"),
                ("Increment", {"arena": "a", "key": "n", "by": "1"}, "by")):
            with expect_error("InvalidParameter") as caught:
                client.call(method, parameters)
            equal(caught.parameters, {"parameter": wrong}, f"{method} {parameters}")


@test("names that are not known are given back, and no error is longer than a message may be")
def _():
    daemon, client = served()
    with Unchanged(client):
        name = b"n" + b"\\\\" * ((8 << 20) - 100)
        for text in (b'{"method":"io.holdfast.GetStatus","parameters":{"%s":1}}' % name,
                     b'{"method":"io.holdfast.%s"}' % name, b'{"method":"%s.x"}' % name,
                     b'{"method":"io.holdfast.VerifyCheckpoint","parameters":{"id":"%s"}}' % name):
            client.send_bytes(text + b"\0")
            reply = client.receive_bytes()
            if len(reply) > 10000 or b"n\\\\" not in reply:
                raise AssertionError(f"{len(reply)} bytes: {reply[:200]!r}")


@test("absent, null and empty parameters are the same")
def _():
    daemon, client = served()
    for extra in ("", ',"parameters":null', ',"parameters":{}'):
        client.send_bytes(b'{"method":"io.holdfast.ListArenas"' + extra.encode() + b"}\0")
        equal(len(client.receive()["arenas"]), 1)


@test("names of arenas are checked everywhere")
def _():
    daemon, client = served()
    with Unchanged(client):
        for name in ("../x", "", ".", "-a", "_a", "a/b", "a b", "x" * 65, "\u00e4", "a\nb"):
            for method, field, rest in (("CreateArena", "name", {}), ("DropArena", "name", {}),
                                        ("Put", "arena", {"key": "k", "value": 1}), ("Get", "arena", {"key": "k"})):
                with expect_error("InvalidParameter"):
                    client.call(method, {field: name, **rest})
    with expect_error("NoSuchArena") as caught:
        client.call("Get", arena="b", key="k")
    equal(caught.parameters, {"arena": "b"})
    with expect_error("ArenaExists"):
        client.call("CreateArena", name="a")
    client.call("CreateArena", name="x" * 64)
    client.call("CreateArena", name="A.b_c-9")


@test("keys of 0 and of 1025 bytes, values over 8 MiB and nested 513 deep are refused; at the limit they are kept")
def _():
    daemon, client = served()
    with Unchanged(client):
        with expect_error("InvalidParameter") as caught:
            client.call("Put", arena="a", key="", value=1)
        equal(caught.parameters, {"parameter": "key"})
        for parameters, limit, maximum in (({"key": "x" * 1025, "value": 1}, "key", 1024),
                                           ({"key": "k", "value": "x" * (8 << 20)}, "value", 8 << 20)):
            with expect_error(LIMIT) as caught:
                client.call("Put", arena="a", **parameters)
            equal(caught.parameters, {"limit": limit, "maximum": maximum})
        client.send_bytes(put(b"[" * 513 + b"]" * 513))
        with expect_error(LIMIT) as caught:
            client.receive()
        equal(caught.parameters, {"limit": "depth", "maximum": 512})
        with expect_error(LIMIT) as caught:
            client.call("Apply", arena="a", operations=[{"op": "put", "key": "k", "value": 1},
                                                        {"op": "put", "key": "x" * 1025, "value": 1}])
        equal(caught.parameters, {"limit": "key", "maximum": 1024, "operation": 1})
        with expect_error(LIMIT) as caught:
            client.call("Apply", arena="a", operations=[{"op": "put", "key": "k", "value": 1}] * 65537)
        equal(caught.parameters["limit"], "operations")
    client.call("Put", arena="a", key="x" * 1024, value="x" * ((8 << 20) - 2))
    equal(len(client.call("Get", arena="a", key="x" * 1024)["value"]), (8 << 20) - 2)
    client.send_bytes(put(b"[" * 512 + b"]" * 512, "deep"))
    client.receive()
    with expect_error(LIMIT) as caught:
        client.call("Merge", arena="a", key="big", patch={"a": "x" * (4 << 20)})
        client.call("Merge", arena="a", key="big", patch={"b": "x" * (5 << 20)})
    equal(caught.parameters["limit"], "value")


@test("a full arena refuses, changes nothing, and takes updates again when there is room")
def _():
    daemon, client = served()
    client.call("CreateArena", name="small", maxBytes=1 << 20)
    count = 0
    try:
        while True:
            client.call("Put", arena="small", key=f"k{count}", value="x" * 10000)
            count += 1
    except VarlinkError as error:
        equal((error.short, error.parameters), ("ArenaFull", {"arena": "small", "maxBytes": 1 << 20}))
    if count < 50:
        raise AssertionError(f"only {count} entries fitted")
    found = [e["key"] for page in client.call_more("List", arena="small") for e in page["entries"]]
    equal(sorted(found), sorted(f"k{i}" for i in range(count)))
    for i in range(10):
        client.call("Delete", arena="small", key=f"k{i}")
    client.call("Put", arena="small", key="again", value="x" * 10000)
    client.call("ChangeArena", name="small", maxBytes=8 << 20)
    for i in range(count, 2 * count):
        client.call("Put", arena="small", key=f"k{i}", value="x" * 10000)


@test("an Apply whose last operation fails changes nothing, and tells which it was")
def _():
    daemon, client = served()
    many = [{"op": "put", "key": f"p{i}", "value": i} for i in range(1000)]
    with Unchanged(client):
        for last, error in (({"op": "delete", "key": "none"}, "NoSuchKey"), ({"op": "increment", "key": "k"}, "WrongType"),
                            ({"op": "put", "key": "k", "ifRevision": 99}, "RevisionMismatch")):
            with expect_error(error) as caught:
                client.call("Apply", arena="a", operations=many + [last])
            equal(caught.parameters["operation"], 1000)
            equal(caught.parameters["key"], last["key"])


@test("conditions are compared with the state before the Apply, and operations see the ones before them")
def _():
    daemon, client = served()
    revision = client.call("Get", arena="a", key="k")["revision"]
    result = client.call("Apply", arena="a", operations=[
        {"op": "put", "key": "k", "value": 5, "ifRevision": revision},
        {"op": "increment", "key": "k", "by": 2, "ifRevision": revision},
        {"op": "put", "key": "new", "value": {"a": 1}, "ifRevision": 0},
        {"op": "merge", "key": "new", "value": {"b": 2}, "ifRevision": 0}])
    equal(client.call("GetMany", arena="a", keys=["k", "new"])["entries"],
          [{"key": "k", "value": 7, "revision": result["revision"]},
           {"key": "new", "value": {"a": 1, "b": 2}, "revision": result["revision"]}])
    with expect_error("RevisionMismatch") as caught:
        client.call("Put", arena="a", key="k", value=1, ifRevision=0)
    equal(caught.parameters, {"key": "k", "revision": result["revision"]})


@test("increments: from nothing, past the range, of what is no integer")
def _():
    daemon, client = served()
    equal(client.call("Increment", arena="a", key="n")["value"], 1)
    equal(client.call("Increment", arena="a", key="n", by=-3)["value"], -2)
    client.call("Put", arena="a", key="n", value=2**63 - 1)
    with Unchanged(client), expect_error("WrongType"):
        client.call("Increment", arena="a", key="n")
    for text in (b"1.0", b'"1"', b"1e2", b"null"):
        client.send_bytes(put(text, "n"))
        client.receive()
        with expect_error("WrongType"):
            client.call("Increment", arena="a", key="n")


@test("a value comes back token for token, less white space")
def _():
    daemon, client = served()
    for text, kept in ((b"0.1", b"0.1"), (b"1E+2", b"1E+2"), (b"-0", b"-0"), (b'[ 1 , {"a" : "b c"} ]', b'[1,{"a":"b c"}]'),
                       (b'"\\u0041\\/\xc3\xa4"', b'"\\u0041\\/\xc3\xa4"'), (b"null", b"null"), (b"{ }", b"{}")):
        client.send_bytes(put(text))
        client.receive()
        client.send("Get", {"arena": "a", "key": "k"})
        reply = client.receive_bytes()
        if not reply.startswith(b'{"parameters":{"value":' + kept + b',"revision":'):
            raise AssertionError(f"{text!r} came back as {reply!r}")
    client.call("Put", arena="a", key="k")
    equal(client.call("Get", arena="a", key="k")["value"], None)


@test("replies come in the order of the calls, also 20,000 at once")
def _():
    daemon, client = served()
    count = 20000
    data = b"".join(json.dumps(message("Increment", {"arena": "a", "key": "count"})).encode() + b"\0" for _ in range(count))
    thread = threading.Thread(target=client.send_bytes, args=(data,))
    thread.start()
    for number in range(1, count + 1):
        equal(client.receive()["value"], number)
    thread.join()


def longest_burst_seconds():
    """Of a fresh daemon, which looks for calls before it sleeps until that was in vain."""
    calls = (json.dumps(message("Get", {"arena": "a", "key": "k"})).encode() + b"\0") * 200
    seconds = []
    with Daemon(options=QUIET) as daemon, daemon.client() as client:
        client.call("CreateArena", name="a")
        client.call("Put", arena="a", key="k", value=1)
        for _ in range(4):
            time.sleep(0.1)  # what the daemon does on its own after a call is over
            begin = time.monotonic()
            client.send_bytes(calls)
            for _ in range(200):
                client.receive()
            seconds.append(time.monotonic() - begin)
    return max(seconds)


@test("what is left over of more calls than a turn takes is not left until something else happens")
def _():
    # Once a second something does. A median, for a machine may be busy.
    seconds = statistics.median(longest_burst_seconds() for _ in range(5))
    equal(seconds < 0.2, True, f"{seconds} s")


@test("oneway calls are carried out and never answered")
def _():
    daemon, client = served()
    client.oneway("Put", arena="a", key="one", value=1)
    client.oneway("Nothing")
    client.oneway("Get", arena="a", key="none")
    equal(client.call("Get", arena="a", key="one")["value"], 1)


@test("a connection whose first message ends in a newline speaks lines both ways")
def _():
    daemon, client = served()
    with daemon.client(terminator=b"\n") as lines:
        equal(lines.call("Get", arena="a", key="k")["value"], {"n": 1})
        lines.send_bytes(b"\n")
        equal(lines.call("Put", arena="a", key="l", value="a\nb") != {}, True)
        equal(lines.call("Get", arena="a", key="l")["value"], "a\nb")
    with daemon.client(terminator=b"\n") as half:
        half.send("Get", {"arena": "a", "key": "k"})
        half.socket.shutdown(socket.SHUT_WR)
        equal(half.receive()["value"], {"n": 1})
        equal(half.at_end(), True)


@test("a reader that does not read slows only itself")
def _():
    daemon, client = served()
    client.call("Put", arena="a", key="big", value="x" * (4 << 20))
    with daemon.client() as slow:
        slow.send_bytes(b'{"method":"io.holdfast.Get","parameters":{"arena":"a","key":"big"}}\0' * 200)
        for _ in range(100):
            client.call("Put", arena="a", key="k", value=1)
        with open(f"/proc/{daemon.pid}/statm") as statm:
            resident = int(statm.read().split()[1]) * 4096
        if "SANITIZED" not in os.environ and resident > 300 << 20:
            raise AssertionError(f"the daemon has {resident >> 20} MiB")
        for _ in range(200):
            equal(len(slow.receive()["value"]), 4 << 20)


@test("a listing pages through everything by cursor, prefix and stream, also while the arena grows")
def _():
    daemon, client = served()
    for begin in range(0, 5000, 500):
        client.call("Apply", arena="a", operations=[
            {"op": "put", "key": f"e{i}", "value": i} for i in range(begin, begin + 500)])
    seen, cursor = {}, None
    while True:
        page = client.call("List", arena="a", prefix="e", limit=100, **({"cursor": cursor} if cursor else {}))
        if len(page["entries"]) > 100:
            raise AssertionError("a page over its limit")
        seen.update((e["key"], e["value"]) for e in page["entries"])
        cursor = page.get("next")
        if not cursor:
            break
        client.call("Put", arena="a", key=f"more{len(seen)}", value="x" * 500)
    equal(seen, {f"e{i}": i for i in range(5000)})
    pages = list(client.call_more("List", arena="a", prefix="e", limit=1000, values=False))
    equal(sorted(e["key"] for page in pages for e in page["entries"]), sorted(seen))
    equal({e["value"] for page in pages for e in page["entries"]}, {None})


@test("a listing without values has pages of keys, however large the values are")
def _():
    daemon, client = served()
    for number in range(3):
        client.call("Put", arena="a", key=f"e{number}", value="x" * (2 << 20))
    equal(len(client.call("List", arena="a", prefix="e", values=False)["entries"]), 3, "keys on one page")
    equal([len(page["entries"]) for page in client.call_more("List", arena="a", prefix="e")][:3], [1, 1, 1], "values on a page")


def become(uid, gid, groups=()):
    """Runs in a child: connects as another user."""
    os.setgroups(list(groups))
    os.setgid(gid)
    os.setuid(uid)


def as_user(daemon, uid, gid, groups, calls):
    """What the calls answer another user: a list of error names or None."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(uid, gid, groups)
            answers = []
            with Client(daemon.socket) as client:
                for method, parameters in calls:
                    try:
                        client.call(method, parameters)
                        answers.append(None)
                    except VarlinkError as error:
                        answers.append(error.short)
            os.write(write, json.dumps(answers).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answers = json.loads(pipe.read() or b'"no answer"')
    os.waitpid(pid, 0)
    return answers


def open_daemon(group):
    """A daemon that every user can connect to; members of the group may create."""
    daemon = Daemon(options=QUIET + ["Server.SocketMode=0666", f"Arenas.CreateGroup={group}"])
    os.chmod(daemon.directory, 0o755)
    return daemon


@test("a reload that names another group changes who may create arenas, and one that does not changes nothing")
def _():
    need_root()
    games, other = 60, 61235
    daemon = Daemon(options=QUIET + ["Server.SocketMode=0666"], config="[Arenas]\nCreateGroup=games\n")
    os.chmod(daemon.directory, 0o755)

    def creates(name):
        return as_user(daemon, other, games, [], [("CreateArena", {"name": name})])[0]
    equal(creates("a"), None)
    daemon.call("Reload")
    equal(creates("b"), None)
    daemon.configure("[Arenas]\nCreateGroup=root\n")
    daemon.call("Reload")
    equal(creates("c"), "PermissionDenied")


@test("another user has the rights that owner, group and mode give, and no more")
def _():
    need_root()
    daemon = open_daemon("games")
    games, nobody, other = 60, 65534, 61235
    entry = {"arena": "a", "key": "k"}
    reads = [("Get", entry), ("GetMany", {"arena": "a", "keys": ["k"]}), ("List", {"arena": "a"})]
    writes = [("Put", {**entry, "value": 1}), ("TakeCheckpoint", {"arenas": ["a"]})]
    both = [("Merge", {**entry, "patch": 1}), ("Increment", entry)]
    owns = [("ChangeArena", {"name": "a", "mode": 0o640})]
    denied = "PermissionDenied"
    with daemon.client() as root:
        equal(as_user(daemon, nobody, nobody, [], [("CreateArena", {"name": "b"})]), [denied])
        equal(as_user(daemon, nobody, nobody, [games], [("CreateArena", {"name": "a", "mode": 0o640, "gid": games}),
                                                        ("CreateArena", {"name": "c", "gid": 0})]), [None, denied])
        root.call("Put", arena="a", key="k", value=1)
        everything = reads + writes + both + owns
        equal(as_user(daemon, nobody, nobody, [], everything), [None] * len(everything))
        equal(as_user(daemon, other, other, [games], everything), [None] * 3 + [denied] * 5)
        equal(as_user(daemon, other, other, [], everything), [denied] * len(everything))
        root.call("ChangeArena", name="a", mode=0o602)
        equal(as_user(daemon, other, other, [], everything), [denied] * 3 + [None] * 2 + [denied] * 3)
        administrative = [("CancelCheckpoint", {"id": "x"}), ("DeleteCheckpoint", {"id": "x"}),
                          ("VerifyCheckpoint", {"id": "x"}), ("Reload", {}), ("DropArena", {"name": "a"})]
        equal(as_user(daemon, other, other, [], administrative), [denied] * 5)
        equal(as_user(daemon, other, other, [], [("GetStatus", {}), ("ListArenas", {}), ("ListCheckpoints", {})]), [None] * 3)
        root.call("CreateArena", name="secret")
        equal(as_user(daemon, other, other, [], [("TakeCheckpoint", {})]), [denied])


@test("connections over the limits are told which, and the others are served")
def _():
    with Daemon(options=QUIET + ["Server.ConnectionsMax=4"]) as daemon:
        first = daemon.client()
        eventually(lambda: first.call("GetStatus")["status"]["connections"] == 1, "the start's own connection is gone")
        clients = [first] + [daemon.client() for _ in range(3)]
        for client in clients:
            client.call("GetStatus")
        with daemon.client() as fifth:
            reply = fifth.receive_message()
            equal(reply, {"error": "io.holdfast.LimitExceeded", "parameters": {"limit": "connections", "maximum": 4}})
        clients.pop().close()
        eventually(lambda: connects(daemon), "a place is free again")


def connects(daemon):
    with daemon.client() as client:
        try:
            client.call("GetStatus")
            return True
        except VarlinkError:
            return False


run()
