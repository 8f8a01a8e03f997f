"""holdfastctl: every verb against a real daemon, every exit status, and every error that the interface has."""

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, equal, for_others, need_root, run, test  # noqa: E402

PROGRAM = os.environ["HOLDFASTCTL"]
VARLINK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../daemon/protocol/io.holdfast.varlink")
REPORTS = ("runtime error:", "ERROR: AddressSanitizer", "ERROR: LeakSanitizer")
NOBODY = 65534


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


def ctl(where, *arguments, input="", status=0, environment=None, program=PROGRAM, **popen):
    """Runs the tool against a daemon (or a socket's path, or None) and checks its exit status."""
    path = where.socket if isinstance(where, (Daemon, FakeDaemon)) else where
    command = [program] + ([f"--socket={path}"] if path else []) + list(arguments)
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, input=input.encode() if isinstance(input, str) else input, capture_output=True,
                          env=variables, timeout=120, **popen)
    result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
    if any(report in result.err for report in REPORTS):
        raise AssertionError(result.err)
    equal(result.status, status, f"exit status of {' '.join(arguments)} ({result.err.strip()})")
    return result


def says(result, *words):
    for word in words:
        if word not in result.err:
            raise AssertionError(f"{word!r} is not in {result.err!r}")
    if not result.err.startswith("holdfastctl: "):
        raise AssertionError(f"{result.err!r} does not name the program")


def on_terminal(where, *arguments, environment=None, size=(24, 80), stdout=True):
    """Runs the tool on a terminal: (status, what it wrote there, what it wrote into a pipe as stdout)."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    variables = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(environment or {})}
    process = subprocess.Popen([PROGRAM, f"--socket={where.socket}", *arguments], stdin=subprocess.DEVNULL,
                               stdout=follower if stdout else subprocess.PIPE, stderr=follower, env=variables)
    os.close(follower)
    seen, piped = [], []
    reader = None
    if not stdout:
        reader = threading.Thread(target=lambda: piped.append(process.stdout.read()))
        reader.start()
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen.append(chunk)
    if reader:
        reader.join()
    os.close(leader)
    return process.wait(), b"".join(seen).decode(), b"".join(piped).decode()


class FakeDaemon:
    """Answers whatever it is asked with the same bytes, then hangs up or goes on."""

    def __init__(self, reply, hang_up=False):
        self.directory = tempfile.TemporaryDirectory(prefix="holdfast-test-")
        self.socket = os.path.join(self.directory.name, "socket")
        self.reply, self.hang_up = reply, hang_up
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.socket)
        self.listener.listen(4)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while connection.recv(1 << 20):
                        if self.reply is not None:
                            connection.sendall(self.reply)
                        if self.hang_up:
                            break
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        self.directory.cleanup()


# --- arenas


@test("arenas are created, listed, changed and dropped")
def _():
    with Daemon() as daemon:
        equal(ctl(daemon, "arenas").out, "", "the list of none")
        equal(ctl(daemon, "create", "stock", "--max-bytes=4M", "--mode=0640", "--group=0").out, "", "output")
        arena = json.loads(ctl(daemon, "arenas", "-j").out)[0]
        equal((arena["name"], arena["maxBytes"], arena["mode"], arena["gid"]), ("stock", 4 << 20, 0o640, 0))
        table = ctl(daemon, "arenas").out.splitlines()
        equal(table[0].split()[:2], ["ARENA", "ENTRIES"])
        equal(table[1].split()[0], "stock")
        equal(len(ctl(daemon, "--no-legend", "arenas").out.splitlines()), 1, "lines without the legend")
        changed = json.loads(ctl(daemon, "change", "stock", "--mode", "0600", "--json=short").out)
        equal(changed["mode"], 0o600)
        ctl(daemon, "drop", "stock")
        equal(json.loads(ctl(daemon, "arenas", "-j").out), [])


@test("errors about arenas are told in words with their name")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        says(ctl(daemon, "create", "a", status=1), "'a'", "(io.holdfast.ArenaExists)")
        says(ctl(daemon, "drop", "b", status=1), "there is no arena 'b' (io.holdfast.NoSuchArena)")
        says(ctl(daemon, "create", "../x", status=1), "'name': 1 to 64 of the characters",
             "(org.varlink.service.InvalidParameter)")
        says(ctl(daemon, "create", "c", "--max-bytes=1G", "--mode=0777", status=1), "'mode': ", "0666", "InvalidParameter")
        says(ctl(daemon, "create", "c", "--max-bytes=1K", status=1), "'maxBytes': from 512 KiB to ArenaBytesMax=")
        # What the daemon says is allowed is.
        ctl(daemon, "create", "c", "--max-bytes=512K", "--mode=0666")
        says(ctl(daemon, "call", "GetStatus", '{"x":1}', status=1), "'x' (org.varlink.service.InvalidParameter)")


# --- state


@test("a value comes back as it was put, whatever its type")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        for value in ("0.1", "-0", "1e2", "-1", "null", "true", '"tab\\t"', "[]", "{}", '{"b":[0.10,{"c":null}]}'):
            ctl(daemon, "put", "a", "k", value)
            equal(ctl(daemon, "get", "a", "k").out, value + "\n")
        ctl(daemon, "put", "a", "k", input=' {"x" : [1,\n2]}\n')
        equal(ctl(daemon, "get", "a", "k").out, '{"x":[1,2]}\n', "a value from stdin")
        ctl(daemon, "put", "a", "k", "-", input="7")
        equal(ctl(daemon, "get", "a", "k").out, "7\n")
        equal(ctl(daemon, "get", "a", "k", "--json=pretty").out, "7\n")
        ctl(daemon, "put", "a", "k", '{"x":[1,{}],"y":[]}')
        equal(ctl(daemon, "get", "a", "k", "--json=pretty").out,
              '{\n    "x" : [\n        1,\n        {}\n    ],\n    "y" : []\n}\n')


@test("revisions are shown and compared")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        first = int(ctl(daemon, "put", "a", "k", "1", "--revision").out)
        revision, value = ctl(daemon, "get", "a", "k", "--revision").out.rstrip("\n").split("\t")
        equal((int(revision), value), (first, "1"))
        says(ctl(daemon, "put", "a", "k", "2", "--if-revision=0", status=1), f"is {first}", "RevisionMismatch")
        second = int(ctl(daemon, "put", "a", "k", "2", f"--if-revision={first}", "--revision").out)
        says(ctl(daemon, "delete", "a", "k", f"--if-revision={first}", status=1), "RevisionMismatch")
        ctl(daemon, "delete", "a", "k", f"--if-revision={second}")
        says(ctl(daemon, "get", "a", "k", status=1), "arena 'a' has no key 'k' (io.holdfast.NoSuchKey)")
        ctl(daemon, "put", "a", "k", "3", "--if-revision", "0")


@test("merge and increment print what they made, and take negative numbers")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        ctl(daemon, "put", "a", "m", '{"x":0.10,"y":1}')
        equal(ctl(daemon, "merge", "a", "m", '{"y":null,"z":2}').out, '{"x":0.10,"z":2}\n')
        equal(ctl(daemon, "merge", "a", "m", input='{"z":3}').out, '{"x":0.10,"z":3}\n')
        equal(ctl(daemon, "increment", "a", "n").out, "1\n")
        equal(ctl(daemon, "increment", "a", "n", "-5").out, "-4\n")
        equal(ctl(daemon, "increment", "a", "n", "--", "-5").out, "-9\n")
        says(ctl(daemon, "increment", "a", "m", status=1), "(io.holdfast.WrongType)")
        says(ctl(daemon, "increment", "a", "n", "1.5", status=64), "1.5")


@test("several keys come as JSON lines, and missing ones fail")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        ctl(daemon, "put", "a", "x", "1.0")
        ctl(daemon, "put", "a", 'q"\n', '"v"')
        equal(ctl(daemon, "get", "a", "x", 'q"\n').out,
              '{"key":"x","value":1.0}\n{"key":"q\\"\\u000a","value":"v"}\n')
        missing = ctl(daemon, "get", "a", "x", "y", "z", status=1)
        equal(missing.out, '{"key":"x","value":1.0}\n')
        says(missing, "no key 'y'", "no key 'z'")


@test("a value that is no JSON is refused, and nothing changed")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        for value in ("{", "1,2", "1}", "", "{a:1}", "nul", "01", '{"a":1,"a":2}', '"\x01"'):
            ctl(daemon, "put", "a", "k", value, status=1)
        says(ctl(daemon, "put", "a", "k", "nul", status=1), "BadMessage")
        ctl(daemon, "get", "a", "k", status=1)


@test("a short list is sorted, a long one complete, keys alone if wanted")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        keys = [f"k{i:04}" for i in range(200)]
        ctl(daemon, "import", "a", "-q", input="".join(f'{{"key":"{key}","value":"{key}"}}\n' for key in reversed(keys)))
        lines = ctl(daemon, "list", "a").out.splitlines()
        equal(lines[0].split(), ["KEY", "REVISION", "VALUE"])
        equal([line.split()[0] for line in lines[1:]], keys)
        equal(ctl(daemon, "list", "a", "--keys", "--prefix=k001").out.split(), keys[10:20])
        entries = [json.loads(line) for line in ctl(daemon, "list", "a", "-j").out.splitlines()]
        equal([entry["value"] for entry in entries], keys)
        more = [f"m{i}" for i in range(5000)]
        ctl(daemon, "import", "a", "-q", input="".join(f'{{"key":"{key}","value":1}}\n' for key in more))
        equal(sorted(ctl(daemon, "list", "a", "--keys").out.split()), sorted(keys + more))
        says(ctl(daemon, "list", "b", status=1), "NoSuchArena")


# --- many entries


@test("apply is all or nothing, and an error names the line")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        operations = ['{"op":"put","key":"x","value":0.10}', "", '{"op":"increment","key":"n","by":3}']
        revision = ctl(daemon, "apply", "a", "--revision", input="\n".join(operations)).out
        assert int(revision) > 0
        equal(ctl(daemon, "get", "a", "x").out, "0.10\n")
        operations += ['{"op":"put","key":"y","value":1}', "   ", '{"op":"increment","key":"x"}']
        says(ctl(daemon, "apply", "a", "-", status=1, input="\n".join(operations)), "stdin:6:", "WrongType")
        equal(ctl(daemon, "get", "a", "n").out, "3\n", "the number after an Apply that failed")
        ctl(daemon, "get", "a", "y", status=1)
        says(ctl(daemon, "apply", "a", status=1, input='{"op":"put"\n'), "stdin:1:")
        says(ctl(daemon, "apply", "a", "/nonexistent", status=1), "/nonexistent")


@test("what export writes, import reads, to the last byte")
def _():
    with Daemon() as daemon, tempfile.TemporaryDirectory() as directory:
        ctl(daemon, "create", "a")
        ctl(daemon, "create", "b")
        entries = {f"key {i} \u00e4\"\\": [i, 0.1 * i, "x" * (i % 300), {"n": None}] for i in range(3000)}
        entries["large"] = "y" * 3_000_000
        text = "".join(json.dumps({"key": key, "value": value}) + "\n" for key, value in entries.items())
        summary = ctl(daemon, "import", "a", input=text).err
        assert "3,001 entries" in summary, summary
        exported = ctl(daemon, "export", "a").out
        equal({line["key"]: line["value"] for line in map(json.loads, exported.splitlines())}, entries)
        path = os.path.join(directory, "lines")
        with open(path, "w", encoding="utf-8") as file:
            file.write(exported)
        equal(ctl(daemon, "import", "-q", "b", path).err, "")
        equal(sorted(ctl(daemon, "export", "b").out.splitlines()), sorted(exported.splitlines()))


@test("documents are imported under the member that is their key")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        lines = '{"Name":"x","v":1.50}\n\n { "v": 2, "Name": "y\\u00e4" }\n{"Name":"x","v":3}'
        ctl(daemon, "import", "a", "--key=Name", "-q", input=lines)
        equal(ctl(daemon, "get", "a", "x").out, '{"Name":"x","v":3}\n')
        equal(json.loads(ctl(daemon, "get", "a", "yä").out), {"v": 2, "Name": "yä"})
        says(ctl(daemon, "import", "a", "--key=Name", status=1, input='{"Name":"z"}\n{"v":1}\n'), "stdin:2:", "missing")
        equal(ctl(daemon, "get", "a", "z").out, '{"Name":"z"}\n', "the line before the one that failed")
        says(ctl(daemon, "import", "a", "--key=Name", status=1, input='{"Name":5}'), "stdin:1:", "no string")


@test("a bad line of an import is named, and those before it are in")
def _():
    good = "".join(f'{{"key":"k{i}","value":{i}}}\n' for i in range(2000))
    for bad, word in (("garbage", "JSON"), ('{"key":"x"}', "missing"), ('{"key":1,"value":1}', "no string"),
                      ('{"key":"x","value":{"a" 1}}', "expected"), ('{"key":"x","value":[1,]}', ""),
                      ('{"key":"x","value":"\\ud800"}', ""), ('{"key":"x","value":1,"key":"y"}', "twice"),
                      ('{"key":"x","value":1,"other":2}', "neither"), ('{"key":"","value":1}', "empty"),
                      (f'{{"key":"{"x" * 1025}","value":1}}', "LimitExceeded")):
        with Daemon() as daemon:
            ctl(daemon, "create", "a")
            failed = ctl(daemon, "import", "a", status=1, input=good + bad + "\n" + good)
            says(failed, "stdin:2001:", word)
            # Lines of the batch in which the daemon found the fault are not in; those of batches before it are.
            count = len(ctl(daemon, "list", "a", "--keys").out.split())
            assert 1488 <= count <= 2000, count


@test("an import into an arena that is full says so")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a", "--max-bytes=1M")
        lines = "".join(f'{{"key":"k{i}","value":"{"x" * 1000}"}}\n' for i in range(5000))
        says(ctl(daemon, "import", "a", status=1, input=lines), "is full", "1.0 MiB", "(io.holdfast.ArenaFull)")


@test("a name that is not UTF-8 is not sent")
def _():
    with Daemon() as daemon:
        for verb, line, *key in (("put", "", "k", "1"), ("apply", '{"op":"put","key":"k","value":1}'),
                                 ("import", '{"key":"k","value":1}')):
            says(ctl(daemon, verb, "\udcff", *key, status=1, input=line), "must be UTF-8")


# --- checkpoints and images


@test("checkpoints are taken, listed, verified and removed")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        ctl(daemon, "create", "b")
        ctl(daemon, "put", "a", "k", "1")
        first = ctl(daemon, "checkpoint", "--label=before it").out.split()[0]
        ctl(daemon, "put", "a", "k", "2")
        second = json.loads(ctl(daemon, "checkpoint", "a", "b", "-j").out)
        equal((second["state"], sorted(second["arenas"])), ("complete", ["a", "b"]))
        table = ctl(daemon, "checkpoints").out
        equal(table.splitlines()[0].split(), "ID LABEL STATE REVISION SIZE PAUSE DURATION AGE".split())
        for word in (first, "before it", "complete", second["id"]):
            assert word in table, table
        assert "good" in ctl(daemon, "verify", first).out
        equal(json.loads(ctl(daemon, "verify", first, "-j").out)["id"], first)
        equal(len(json.loads(ctl(daemon, "checkpoints", "-j").out)), 2)
        says(ctl(daemon, "remove", second["id"], status=1), "needed for recovery (io.holdfast.CheckpointNeeded)")
        ctl(daemon, "remove", first)
        says(ctl(daemon, "remove", first, status=1), "NoSuchCheckpoint")
        says(ctl(daemon, "cancel", "nothing", status=1), "there is no checkpoint 'nothing'")
        says(ctl(daemon, "checkpoint", "c", status=1), "NoSuchArena")
        says(ctl(daemon, "checkpoint", "--label=ä", status=1), "'label'")


@test("a checkpoint is not waited for with --no-wait, and cancelled by its id")
def _():
    with Daemon(options=["Checkpoint.WriteBytesPerSecMax=1M"]) as daemon:
        ctl(daemon, "create", "a")
        lines = "".join(f'{{"key":"k{i}","value":"{"x" * 10000}"}}\n' for i in range(2000))
        ctl(daemon, "import", "a", "-q", input=lines)
        started = ctl(daemon, "checkpoint", "--no-wait").out.split()
        equal(started[1], "running,")
        assert "Running: " + started[0] in ctl(daemon, "status").out
        ctl(daemon, "cancel", started[0])
        daemon_states = lambda: [c["state"] for c in json.loads(ctl(daemon, "checkpoints", "-j").out)]  # noqa: E731
        from tap import eventually
        eventually(lambda: daemon_states() == ["cancelled"], "it is cancelled")


@test("an image is checked, described and printed without a daemon")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        ctl(daemon, "create", "b")
        lines = "".join(f'{{"key":"k{i}","value":[{i},0.10]}}\n' for i in range(5000))
        ctl(daemon, "import", "a", "-q", input=lines)
        ctl(daemon, "put", "b", "only", '"here"')
        path = json.loads(ctl(daemon, "checkpoint", "-j", "--label=l").out)["path"]
        exported = ctl(daemon, "export", "a").out
        daemon.stop()
        verified = ctl(None, "image", "verify", path).out
        assert "arena a: good, 5,000 entries" in verified and "arena b: good, 1 entry" in verified, verified
        info = json.loads(ctl(None, "image", "info", path, "-j").out)
        equal((info["label"], {arena["name"]: arena["entries"] for arena in info["arenas"]}), ("l", {"a": 5000, "b": 1}))
        assert "5,000" in ctl(None, "image", "info", path).out
        equal(sorted(ctl(None, "image", "export", path, "--arena=a").out.splitlines()), sorted(exported.splitlines()))
        every = [json.loads(line) for line in ctl(None, "image", "export", path).out.splitlines()]
        equal([entry for entry in every if entry["arena"] == "b"], [{"arena": "b", "key": "only", "value": "here"}])
        says(ctl(None, "image", "export", path, "--arena=c", status=1), "does not hold an arena 'c'")

        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 3)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        says(ctl(None, "image", "verify", path, status=1), "is damaged at")
        for action in ("verify", "info", "export"):
            says(ctl(None, "image", action, VARLINK, status=1), VARLINK, "is no image of holdfast")
        says(ctl(None, "image", "verify", "/dev/null", status=1), "is no image of holdfast")
        says(ctl(None, "image", "info", "/nonexistent", status=1), "cannot open")
        says(ctl(None, "image", "burn", path, status=64), "burn")


# --- the service


@test("the status is told without a verb, for people and as JSON")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "stock")
        ctl(daemon, "put", "stock", "k", "1")
        shown = ctl(daemon).out
        for word in ("serving since", "Recovery: nothing to recover", "1 arena, 1 entry", "Checkpoint: none yet",
                     "stock"):
            assert word in shown, f"{word!r} is not in {shown}"
            assert word in ctl(daemon, "status").out
        ctl(daemon, "checkpoint")
        assert re.search(r"Checkpoint: complete \S+ \S+ ago", ctl(daemon, "status").out)
        status = json.loads(ctl(daemon, "status", "-j").out)
        equal((status["state"], status["arenas"], status["pid"]), ("serving", 1, daemon.pid))


@test("methods are called raw, streams included, and the interface printed")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        for i in range(5):
            ctl(daemon, "put", "a", f"k{i}", "1")
        equal(json.loads(ctl(daemon, "call", "Get", '{"arena":"a","key":"k1"}').out)["value"], 1)
        equal(json.loads(ctl(daemon, "call", "org.varlink.service.GetInfo").out)["product"], "holdfastd")
        pages = ctl(daemon, "call", "List", '{"arena":"a","limit":2}', "--more").out.splitlines()
        equal(sum(len(json.loads(page)["entries"]) for page in pages), 5)
        assert len(pages) >= 3
        with open(VARLINK, encoding="utf-8") as file:
            equal(ctl(daemon, "introspect").out, file.read(), "the interface")
        assert "interface org.varlink.service" in ctl(daemon, "introspect", "org.varlink.service").out
        says(ctl(daemon, "introspect", "org.example", status=1), "org.example")
        says(ctl(daemon, "call", "Nothing", status=1), "Nothing", "(org.varlink.service.MethodNotFound)")
        says(ctl(daemon, "call", "Get", "{}", status=1), "'arena': ", "(org.varlink.service.InvalidParameter)")
        says(ctl(daemon, "call", "Get", "[]", status=64), "JSON object")


@test("a reload that cannot be done names file and line")
def _():
    with Daemon(config="[Checkpoint]\nKeep=3\n") as daemon:
        equal(ctl(daemon, "reload").out, "")
        daemon.configure("[Checkpoint]\nKeep=many\n")
        says(ctl(daemon, "reload", status=1), daemon.config_path + ":2:", "(io.holdfast.ConfigurationInvalid)")


# --- exit statuses and options


@test("wrong usage is 64 and says what is wrong")
def _():
    for arguments in (["nothing"], ["get", "a"], ["put"], ["--nothing"], ["-x"], ["status", "--keys"],
                      ["create", "a", "--mode=9"], ["create", "a", "--max-bytes=x"], ["arenas", "--timeout"],
                      ["--json=x"], ["--no-legend=1"], ["create", "a", "--group=no-such-group"], ["cancel", "a", "b"]):
        says(ctl("/nonexistent", *arguments, status=64))


@test("no daemon is 69, wherever one should be")
def _():
    says(ctl("/nonexistent/socket", status=69), "there is no daemon at /nonexistent/socket")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.close()
        says(ctl(path, "get", "a", "k", status=69), "there is no daemon")
    with FakeDaemon(None, hang_up=True) as fake:
        says(ctl(fake, status=69), "closed the connection")
    with FakeDaemon(None) as fake:
        says(ctl(fake, "--timeout=0.1", status=69), "in time")
        says(ctl(fake, "get", "a", "k", "--timeout", "50ms", status=69), "in time")


@test("what one may not do is 77")
def _():
    need_root()
    with Daemon(options=["Server.SocketMode=0666"]) as daemon:
        os.chmod(daemon.directory, 0o755)
        ctl(daemon, "create", "a")
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": [],
                 "program": for_others(PROGRAM, daemon.directory)}
        says(ctl(daemon, "put", "a", "k", "1", status=77, **other), "(org.varlink.service.PermissionDenied)")
        says(ctl(daemon, "import", "a", input='{"key":"k","value":1}', status=77, **other), "PermissionDenied")
        equal(ctl(daemon, "--no-legend", "arenas", **other).out.split()[:4], ["a", "-", "-", "-"])
        os.chmod(daemon.socket, 0o600)
        says(ctl(daemon, status=77, **other), "no permission to connect")


@test("every error of the interface has its words")
def _():
    with open(VARLINK, encoding="utf-8") as file:
        errors = re.findall(r"^error (\w+) \(([^)]*)\)", file.read(), re.MULTILINE)
    assert len(errors) > 15, errors
    for name, fields in errors:
        parameters = {}
        for field in filter(None, fields.split(", ")):
            label, kind = field.split(": ")
            parameters[label] = 4097 if "int" in kind else f"<{label}>"
        for missing in (False, True):
            if missing:
                parameters = {label: value for label, value in parameters.items()
                              if f"{label}: ?" not in fields}
            reply = json.dumps({"error": f"io.holdfast.{name}", "parameters": parameters}).encode() + b"\0"
            with FakeDaemon(reply) as fake:
                failed = ctl(fake, "get", "a", "k", status=1)
                says(failed, f"(io.holdfast.{name})")
                assert "?" not in failed.err and "answered an error" not in failed.err, failed.err
                for label, value in parameters.items():
                    words = ["4097", "4.0 KiB"] if isinstance(value, int) else [value]
                    if (name, label) not in (("NoSuchKey", "arena"),):
                        assert any(word in failed.err for word in words), f"{label} is not in {failed.err}"


@test("errors that nobody knows, and answers that make no sense, are told")
def _():
    with FakeDaemon(b'{"error":"org.example.\\u001b[31mOdd","parameters":{"x":"\\u001b[31m"}}\0') as fake:
        failed = ctl(fake, "drop", "a", status=1)
        says(failed, "org.example.?[31mOdd")
        assert "\x1b" not in failed.err
    with FakeDaemon(b"nonsense\0") as fake:
        says(ctl(fake, "arenas", status=1), "makes no sense")


@test("output that cannot be written is an error")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        lines = "".join(f'{{"key":"k{i}","value":"{"x" * 1000}"}}\n' for i in range(3000))
        ctl(daemon, "import", "a", "-q", input=lines)
        for arguments in (["get", "a", "k1"], ["export", "a"], ["list", "a"], ["status"], ["introspect"], ["arenas"],
                          ["call", "List", '{"arena":"a"}', "--more"]):
            with open("/dev/full", "w") as full:
                done = subprocess.run([PROGRAM, f"--socket={daemon.socket}", *arguments], stdout=full,
                                      stderr=subprocess.PIPE, timeout=60)
            equal(done.returncode, 1, f"exit status of {arguments} on a full disk")
            assert b"cannot write" in done.stderr, done.stderr
        process = subprocess.Popen([PROGRAM, f"--socket={daemon.socket}", "export", "a"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        equal(process.wait(60), 1, "exit status with a closed pipe")


@test("help and version need no daemon")
def _():
    text = ctl("/nonexistent", "--help").out
    for word in ("checkpoint [ARENA...]", "--if-revision=N", "State Commands", "import ARENA"):
        assert word in text, word
    assert "put ARENA KEY" in ctl("/nonexistent", "put", "-h").out
    assert re.match(r"holdfastctl \d+\.\d+", ctl("/nonexistent", "--version").out)


# --- terminals


@test("on a terminal values are pretty and coloured, unless NO_COLOR is set")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        ctl(daemon, "put", "a", "k", '{"x":1}')
        status, seen, _ = on_terminal(daemon, "get", "a", "k")
        equal(status, 0)
        assert "\x1b[" in seen and seen.count("\n") == 3, seen
        _, seen, _ = on_terminal(daemon, "get", "a", "k", environment={"NO_COLOR": "1"})
        equal(seen, '{\r\n    "x" : 1\r\n}\r\n')
        _, seen, _ = on_terminal(daemon, "get", "a", "k", environment={"TERM": "dumb"})
        assert "\x1b" not in seen
        _, seen, _ = on_terminal(daemon)
        assert "\x1b[1;32m●" in seen, seen


@test("a list on a terminal keeps to its width and cannot steer it")
def _():
    with Daemon() as daemon:
        ctl(daemon, "create", "a")
        ctl(daemon, "put", "a", "long", json.dumps("x" * 500))
        ctl(daemon, "put", "a", "evil\x1b[31m", "1")
        _, seen, _ = on_terminal(daemon, "list", "a", environment={"NO_COLOR": "1"}, size=(24, 60))
        assert all(len(line) <= 60 for line in seen.split("\r\n")), seen
        assert "evil?[31m" in seen and "\x1b" not in seen, seen


@test("a checkpoint and an import draw their bars on a terminal, unless -q is given")
def _():
    with Daemon(options=["Checkpoint.WriteBytesPerSecMax=8M"]) as daemon, tempfile.TemporaryDirectory() as directory:
        ctl(daemon, "create", "a")
        path = os.path.join(directory, "lines")
        with open(path, "w", encoding="utf-8") as file:
            for i in range(3000):
                file.write(f'{{"key":"k{i}","value":"{"x" * 3000}"}}\n')
        status, seen, piped = on_terminal(daemon, "import", "a", path, stdout=False)
        equal((status, piped), (0, ""))
        assert "3,000 entries imported" in seen, seen
        status, seen, piped = on_terminal(daemon, "checkpoint", stdout=False, size=(24, 100))
        equal(status, 0)
        assert re.search(r"checkpoint  \[#*-*\] +\d+%  .*/s, .* captured, .* left", seen), seen
        assert "complete" in piped, piped
        status, seen, piped = on_terminal(daemon, "checkpoint", "-q", stdout=False)
        equal((status, seen, piped), (0, "", ""))


run()
