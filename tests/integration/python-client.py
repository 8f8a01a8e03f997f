"""The Python client, client/python/holdfast.py: its calls against a real daemon, its map, daemons that it launches, its
example, and replies that make no sense, from a daemon that the test plays."""

import array
import doctest
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zlib

from daemon import Daemon, equal, eventually, run, test

SOURCE = os.environ["HOLDFAST_SOURCE"]
sys.path.insert(0, os.path.join(SOURCE, "client", "python"))
import holdfast  # noqa: E402

OPTIONS = ["Journal.Sync=never", "Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]


def expect(kind, action, short=None):
    """The exception that the action must raise."""
    try:
        action()
    except kind as error:
        if short is not None:
            equal(error.short, short, "error")
        return error
    raise AssertionError(f"no {kind.__name__}")


class Started:
    """A daemon with a client and an arena "a"."""

    def __enter__(self):
        self.daemon = Daemon(options=OPTIONS)
        self.client = holdfast.connect(self.daemon.socket, timeout=120)
        self.client.create_arena("a")
        return self.daemon, self.client

    def __exit__(self, *problem):
        self.client.close()
        return self.daemon.__exit__(*problem)


@test("the hash is libxxhash's, for all lengths that a key may have")
def _():
    data, x = bytearray(), 1
    for _ in range(2048):
        x = (x * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        data.append(x >> 56)
    data = bytes(data)
    lines = 0
    with open(os.path.join(SOURCE, "client", "go", "testdata", "xxh3.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("#"):
                continue
            seed, length, expected = line.split()
            seed, lines = int(seed, 16), lines + 1
            if length == "all":
                found = 0
                for size in range(1101):
                    found = (found * 31 + holdfast.xxh3(data[:size], seed)) % 2 ** 64
            else:
                found = holdfast.xxh3(data[:int(length)], seed)
            equal(found, int(expected, 16), line)
    equal(lines, 156, "vectors")


@test("the example in the module's documentation is true")
def _():
    directory = tempfile.mkdtemp(prefix="holdfast-test-")
    try:
        result = doctest.testmod(holdfast, extraglobs={"directory": directory})
        equal(result.failed, 0, "failed lines of the example")
        if result.attempted < 8:
            raise AssertionError(f"only {result.attempted} lines")
    finally:
        shutil.rmtree(directory)


@test("values go and come as Python's, and as texts token for token")
def _():
    with Started() as (_, client):
        for value in (None, True, 1, -2.5, "ü\"\\\x01", [], {"a": [None, {"b": "}"}]}, "[,]"):
            revision = client.put("a", "k", value)
            equal(client.get("a", "k"), holdfast.Entry("k", value, revision), "entry")
        for text in ("0.10", "1e2", "-0", '{"b":[1,2.50,null,"]}"],"a":{}}', '"\\u0041"'):
            revision = client.put("a", "k", holdfast.Raw(text))
            equal(client.get("a", "k", raw=True), holdfast.Entry("k", text, revision), "text")
            entries, _ = client.get_many("a", ["k", "none"], raw=True)
            equal(entries, [holdfast.Entry("k", text, revision)], "entries")
        expect(ValueError, lambda: client.put("a", "k", holdfast.Raw("1,2")))
        expect(ValueError, lambda: client.put("a", "k", float("nan")))
        expect(ValueError, lambda: client.put("a", "\udc80", 1))
        expect(ValueError, lambda: client.put("a", "k", "x" * (16 << 20)))
        equal(client.get("a", "k", raw=True).value, '"\\u0041"', "value after all that")


@test("all calls that change and list entries")
def _():
    with Started() as (_, client):
        revision = client.put("a", "k", {"a": 1, "b": 2}, if_revision=0)
        error = expect(holdfast.RemoteError, lambda: client.put("a", "k", 1, if_revision=0), "RevisionMismatch")
        equal(error.parameters["revision"], revision, "revision of the error")
        equal(client.merge("a", "k", {"a": None}).value, {"b": 2}, "merged")
        equal(client.merge("a", "m", holdfast.Raw('{"x":0.10}'), raw=True).value, '{"x":0.10}', "merged text")
        equal(client.increment("a", "n", -4).value, -4, "sum")
        revision = client.apply("a", [{"op": "put", "key": "x", "value": None, "ifRevision": 0},
                                      {"op": "merge", "key": "k", "value": holdfast.Raw('{"c":1.0}')},
                                      {"op": "increment", "key": "n", "by": 5}, {"op": "delete", "key": "m"}])
        entries, at = client.get_many("a", ["x", "k", "n", "m"])
        equal([entry.value for entry in entries], [None, {"b": 2, "c": 1.0}, 1], "values")
        equal(at, revision, "the arena's revision")
        client.delete("a", "x", if_revision=revision)
        expect(holdfast.RemoteError, lambda: client.get("a", "x"), "NoSuchKey")
        client.apply("a", [{"op": "put", "key": f"l{i}", "value": i} for i in range(3000)])
        equal(len({entry.key for entry in client.list_all("a", prefix="l")}), 3000, "streamed")
        page, cursor = client.list("a", limit=10, values=False)
        equal((len(page) <= 10, {entry.value for entry in page}, bool(cursor)), (True, {None}, True), "page")
        for _ in client.list_all("a"):
            break  # leaves the stream
        equal(client.get("a", "n").value, 1, "value after a stream that was left")


@test("all calls about arenas, checkpoints and the service")
def _():
    with Started() as (daemon, client):
        equal(client.change_arena("a", mode=0o640, max_bytes=8 << 20)["maxBytes"], 8 << 20, "maxBytes")
        equal([arena["mode"] for arena in client.list_arenas()], [0o640], "modes")
        descriptor, arena = client.open_arena("a")
        os.close(descriptor)
        equal(arena["name"], "a", "name")
        told = []
        taken = client.take_checkpoint(["a"], label="noon", progress=told.append)
        equal((taken["state"], told[-1]["id"]), ("complete", taken["id"]), "checkpoint")
        equal(client.verify_checkpoint(taken["id"])["id"], taken["id"], "verified")
        client.put("a", "k", 1)
        client.take_checkpoint(wait=False)
        eventually(lambda: [item["state"] for item in client.list_checkpoints()] == ["complete"] * 2, "both are complete")
        expect(holdfast.RemoteError, lambda: client.cancel_checkpoint(taken["id"]))
        client.delete_checkpoint(taken["id"])
        equal(client.get_status()["pid"], daemon.pid, "pid")
        equal(client.get_metrics()[-6:], "# EOF\n", "the end of the metrics")
        client.reload()
        client.drop_arena("a")
        expect(holdfast.RemoteError, lambda: client.get("a", "k"), "NoSuchArena")


@test("every method of the interface has its function")
def _():
    with open(holdfast.__file__, encoding="utf-8") as file:
        source = file.read()
    with open(os.path.join(SOURCE, "daemon", "protocol", "io.holdfast.varlink"), encoding="utf-8") as file:
        methods = [line.split()[1].partition("(")[0] for line in file if line.startswith("method ")]
    equal(len(methods) > 20, True, "enough methods")
    equal([method for method in methods if f'"{method}"' not in source], [], "methods without a function")


@test("a map reads what was put, of any size, and follows growth")
def _():
    with Started() as (_, client), client.open_map("a") as reader:
        expect(holdfast.RemoteError, lambda: reader.get("k"), "NoSuchKey")
        for size in (1, 2, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024):
            key, value = "k" * size, "v" * (size * size)
            revision = client.put("a", key, value)
            equal(reader.get(key), holdfast.Entry(key, value, revision), "entry")
        client.put("a", "k", holdfast.Raw("0.10"))
        equal(reader.get("k", raw=True).value, "0.10", "text")
        for begin in range(0, 20000, 4000):
            client.apply("a", [{"op": "put", "key": f"n{i}", "value": "x" * 500} for i in range(begin, begin + 4000)])
        for i in range(0, 20000, 99):
            equal(len(reader.get(f"n{i}").value), 500, "length")

        def all_entries():
            try:
                return len({entry.key for entry in reader.entries()})
            except holdfast.Changed:
                return None  # the daemon tidies up
        equal(eventually(all_entries, "an iteration without a change"), 20013, "entries")
        client.delete("a", "k")
        expect(holdfast.RemoteError, lambda: reader.get("k"), "NoSuchKey")
        expect(ValueError, lambda: reader.get(""))
        iteration = reader.entries()
        next(iteration)
        client.put("a", "k", 1)
        expect(holdfast.Changed, lambda: list(iteration))


@test("a map sees whole values and whole updates while the daemon writes")
def _():
    with Started() as (daemon, client), client.open_map("a") as reader:
        stop = threading.Event()
        problems = []

        def write():
            with holdfast.connect(daemon.socket, timeout=120) as writer:
                number = 0
                while not stop.is_set():
                    number += 1
                    body = chr(97 + number % 26) * random.choice((1, 10, 100, 5000, 70000))
                    value = f"{zlib.crc32(body.encode()):08x}{body}"
                    writer.apply("a", [{"op": "put", "key": "x", "value": value}, {"op": "put", "key": "y", "value": value}])

        def guarded():
            try:
                write()
            except Exception as problem:  # pylint: disable=broad-except
                problems.append(problem)

        client.apply("a", [{"op": "put", "key": key, "value": "00000000"} for key in "xy"])
        writer = threading.Thread(target=guarded)
        writer.start()
        try:
            last = 0
            for _ in range(2000):
                entry = reader.get("x")
                equal(f"{zlib.crc32(entry.value[8:].encode()):08x}", entry.value[:8], "checksum")
                (x, y), revision = reader.get_many(["x", "y"])
                equal((x.value, x.revision), (y.value, y.revision), "the other entry")
                equal(last <= entry.revision <= x.revision == revision, True, "revisions grow")
                last = revision
        finally:
            stop.set()
            writer.join()
        equal(problems, [], "what went wrong in the writer")


@test("a map waits for a change, and follows restarts and a new arena of the name")
def _():
    with Started() as (daemon, client), client.open_map("a") as reader:
        before = client.put("a", "k", 1)
        equal(reader.revision(), before, "revision")
        expect(TimeoutError, lambda: reader.wait(before, 0.05))
        timer = threading.Timer(0.1, lambda: daemon.call("Put", arena="a", key="k", value=2))
        timer.start()
        after = reader.wait(before, 60)
        equal(reader.get("k"), holdfast.Entry("k", 2, after), "entry")
        timer.join()
        for _ in range(3):
            daemon.kill()
            eventually(lambda: _fails(reader), "the map notices that there is no daemon", 10)
            daemon.start()
            equal(reader.get("k").value, 2, "value")
        client.drop_arena("a")
        expect(holdfast.RemoteError, lambda: reader.get("k"), "NoSuchArena")
        client.create_arena("a")
        client.put("a", "k", 3)
        equal(reader.get("k").value, 3, "value of the new arena")
    expect(ValueError, lambda: reader.get("k"))


def _fails(reader):
    try:
        reader.get("k")
    except (holdfast.ConnectionLost, OSError):
        return True
    return False


@test("memory that is no arena's is refused, damaged memory does no harm")
def _():
    with Started() as (_, client):
        client.apply("a", [{"op": "put", "key": f"k{i}", "value": "v" * (i % 300)} for i in range(500)])
        descriptor, _ = client.open_arena("a")
        with open(descriptor, "rb") as file:
            good = file.read()

    def memory(content, seals=3):
        copy = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(copy, content)
        holdfast.fcntl.fcntl(copy, 1033, seals)  # F_ADD_SEALS
        return copy

    def changed(at, value):
        return good[:at] + bytes([value]) + good[at + 1:]

    for content in (good[:100], changed(0, 1), changed(8, 9), changed(24, 1), changed(88, 98)):
        expect(holdfast.MemoryRefused, lambda content=content: holdfast._Memory(memory(content), "a"))
    expect(holdfast.MemoryRefused, lambda: holdfast._Memory(memory(good, 1), "a"))
    expect(holdfast.MemoryRefused, lambda: holdfast._Memory(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), "a"))
    copy = memory(good)
    mapped = holdfast._Memory(os.dup(copy), "a")
    equal(mapped.find(b"k7")[0], b'"vvvvvvv"', "value")
    source, harmed = random.Random(1), 0
    used = len(good.rstrip(b"\0"))
    for turn in range(60):
        for _ in range(turn):
            at = source.randrange(0, 600 if source.random() < 0.3 else used) // 8 * 8
            os.pwrite(copy, source.choice((0, 1, 0xffff, 2 ** 40 - 1, 2 ** 64 - 1, len(good) // 8)).to_bytes(8, "little"), at)
        for key in range(0, 500, 17):
            try:
                harmed += mapped.find(f"k{key}".encode()) is None
            except holdfast._Torn:
                harmed += 1
    equal(harmed > 0, True, "some was damaged")
    mapped.close()
    os.close(copy)


@test("a launched daemon serves, is alone in its directory, and ends with its program")
def _():
    directory = tempfile.mkdtemp(prefix="holdfast-test-")
    try:
        with holdfast.launch(directory, options=OPTIONS) as daemon, daemon.connect() as client:
            equal(client.get_status()["pid"], daemon.pid, "pid")
            expect(holdfast.Error, lambda: holdfast.launch(directory, log=subprocess.DEVNULL))
            daemon.process.kill()
            daemon.process.wait()
            eventually(lambda: _lost(client), "the loss is told")
        with holdfast.launch(directory, options=OPTIONS) as daemon:
            pass
        equal(daemon.process.returncode, 0, "status")
        expect(ValueError, lambda: holdfast.launch(os.path.join(directory, "long" * 30)))
        script = (f"import holdfast, time; daemon = holdfast.launch({directory!r}); print(daemon.pid, flush=True); "
                  "time.sleep(600)")
        program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "PYTHONPATH": os.path.dirname(holdfast.__file__)})
        pid = int(program.stdout.readline())
        program.send_signal(signal.SIGKILL)
        program.wait()
        program.stdout.close()
        eventually(lambda: not _alive(pid), "the daemon ends with its program")
    finally:
        shutil.rmtree(directory)


def _lost(client):
    try:
        client.get_status()
    except (holdfast.ConnectionLost, OSError):
        return True
    return False


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return ") Z " not in file.read()
    except FileNotFoundError:
        return False


class Played:
    """A daemon that answers each connection's first call with these bytes and descriptors."""

    def __init__(self, answer, descriptors=0, close=True):
        self.directory = tempfile.mkdtemp(prefix="holdfast-test-")
        self.path = os.path.join(self.directory, "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.answer, self.descriptors, self.shut = answer, descriptors, close
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_one, args=(connection,), daemon=True).start()

    def serve_one(self, connection):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * self.descriptors))]
        try:
            connection.recv(65536)
            first = connection.sendmsg([self.answer[:1000]], rights if self.descriptors else [])
            connection.sendall(self.answer[first:])
            while not self.shut and connection.recv(65536):
                pass
        except OSError:
            pass
        connection.close()

    def __enter__(self):
        return holdfast.connect(self.path, timeout=20)

    def __exit__(self, *_):
        self.listener.close()
        shutil.rmtree(self.directory)


@test("replies that make no sense are errors, with bounds on what is kept of them")
def _():
    kinds = (holdfast.ProtocolError, holdfast.ConnectionLost)
    for answer in (b"garbage\0", b"\0", b"[1]\0", b'{"parameters":[1]}\0', b'{"error":7}\0', b"\xff\0",
                   b'{"parameters":{"value":1,"revision":"x"}}\0', b'{"parameters":{"value":1,"revision":true}}\0',
                   b'{"parameters":{"value":1}}\0', b'{"parameters":{},"continues":true}\0', b"[" * 200000 + b"\0",
                   b'{"parameters":', b"", b" " * (17 << 20)):
        with Played(answer) as client:
            expect(kinds, lambda client=client: client.get("a", "k"))
            expect(kinds, lambda client=client: list(client.list_all("a")))
            client.close()
    with Played(b"", close=False) as client:
        client.timeout = 0.05
        client.close()
        expect(TimeoutError, lambda: client.get("a", "k"))
        client.close()


@test("descriptors that nobody asked for, too many, or none are errors, and none is leaked")
def _():
    kinds = (holdfast.ProtocolError, holdfast.ConnectionLost)
    plain = b'{"parameters":{"value":1,"revision":1}}\0'
    opened = b'{"parameters":{"fileDescriptor":0,"arena":{"name":"a"}}}\0'
    before = len(os.listdir("/proc/self/fd"))
    for answer, count, call in ((plain, 1, lambda client: client.get("a", "k")),
                                (opened, 0, lambda client: client.open_arena("a")),
                                (opened, 2, lambda client: client.open_arena("a")),
                                (opened, 200, lambda client: client.open_arena("a")),
                                (opened.replace(b":0", b":3"), 1, lambda client: client.open_arena("a"))):
        with Played(answer, count) as client:
            expect(kinds, lambda call=call, client=client: call(client))
            client.close()
    with Played(opened, 1) as client:  # our standard input is no arena
        expect(holdfast.MemoryRefused, lambda: client.open_map("a"))
        client.close()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors are closed")


run()
