"""AfterCommand=: what the command is given and what not, that there is one at a time, and that nothing it does, failure,
delay and death included, harms the daemon; all of it in GetStatus and in the log. The command is a script of the test's
own."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, equal, eventually, run, tap, test  # noqa: E402

SOURCE = os.environ.get("HOLDFAST_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]

directories = []


def directory():
    made = tempfile.TemporaryDirectory(prefix="holdfast-test-")
    directories.append(made)
    return made.name


def script(text, interpreter="/bin/sh"):
    """An executable script; its path."""
    path = os.path.join(directory(), "command")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!{interpreter}\n{text}\n")
    os.chmod(path, 0o755)
    return path


def serving(command, *options, **more):
    """A daemon that runs the command line, with an arena, and a client of it."""
    daemon = Daemon(options=QUIET + [f"Checkpoint.AfterCommand={command}", *options], **more)
    client = daemon.client()
    client.call("CreateArena", name="a")
    return daemon, client


def checkpoint(client, **parameters):
    client.call("Increment", arena="a", key="n")
    return client.call("TakeCheckpoint", **parameters)["checkpoint"]


def command(client):
    return client.call("GetStatus")["status"].get("afterCommand")


def ended(client, made):
    """The command after that checkpoint, once it has ended."""
    def look():
        found = command(client)
        return found and found["checkpoint"] == made["id"] and "durationUSec" in found and found
    return eventually(look, f"the command after {made['id']} has ended")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def gone(pid):
    """A process is no more, or a zombie that its new parent has not looked at."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def masked(signals, *without):
    """A mask of signals without those named, and without those that the C library has for itself."""
    for number in (*without, 32, 33):
        signals &= ~(1 << number - 1)
    return signals


REPORT = """
import json, os, signal, sys
def ignored():
    fields = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if line.startswith("Sig"))
    return [int(fields[name], 16) for name in ("SigBlk", "SigIgn")]
report = {
    "arguments": sys.argv[1:],
    "environment": {name: value for name, value in os.environ.items() if name.startswith("HOLDFAST") or name == "HOME"},
    "variables": open("/proc/self/environ").read().split("\\0")[:-1],
    "descriptors": {fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                    if os.path.exists("/proc/self/fd/" + fd)},
    "signals": ignored(), "group": os.getpgrp() == os.getpid(), "image": os.path.getsize(os.environ["HOLDFAST_IMAGE"]),
}
temporary = sys.argv[1] + ".tmp"
json.dump(report, open(temporary, "w"))
os.rename(temporary, sys.argv[1])
print("to stdout"); print("to stderr", file=sys.stderr)
"""


@test("the command has four variables, three descriptors, default signals, a group of its own and the words it was given")
def _():
    path, report = script(REPORT, os.path.realpath("/usr/bin/python3")), os.path.join(directory(), "report")
    os.rename(path, path := path + " with blanks")
    daemon, client = serving(f"'{path}' {report} \"two words\" '' $HOME \\\"")
    made = checkpoint(client, label="a label")
    equal(ended(client, made).get("exitStatus"), 0)
    found = json.loads(read(report))
    equal(found["arguments"], [report, "two words", "", "$HOME", '"'])
    equal(sorted(found["variables"]), sorted([
        f"HOLDFAST_CHECKPOINT_ID={made['id']}", f"HOLDFAST_IMAGE={daemon.path('images', made['id'] + '.image')}",
        f"HOLDFAST_REVISION={made['revision']}", "HOLDFAST_LABEL=a label"]))
    equal(found["image"], made["imageBytes"])
    descriptors = {int(fd): target for fd, target in found["descriptors"].items()}
    equal({fd: descriptors[fd] for fd in (0, 1, 2)}, {0: "/dev/null", 1: "/dev/null", 2: daemon.log_path})
    # The others are those of its own look into /proc.
    equal([target for fd, target in descriptors.items() if fd > 2 and not target.startswith("/proc/")], [])
    # Python itself ignores SIGPIPE and SIGXFSZ.
    equal(masked(found["signals"][0]), 0, "blocked signals")
    equal(masked(found["signals"][1], signal.SIGPIPE, signal.SIGXFSZ), 0, "ignored signals")
    equal(found["group"], True)
    assert "to stderr" in daemon.log() and "to stdout" not in daemon.log(), daemon.log()


@test("signals that the daemon ignores are not ignored in the command")
def _():
    out = os.path.join(directory(), "out")
    daemon, client = serving(script(f"grep SigIgn /proc/self/status > {out}"))
    ended(client, checkpoint(client))
    equal(masked(int(read(out).split()[1], 16)), 0)


@test("the image's path is absolute where the state directory's is not")
def _():
    out = os.path.join(directory(), "out")
    daemon = Daemon(options=QUIET + [f"Checkpoint.AfterCommand={script(f'echo $HOLDFAST_IMAGE > {out}')}"], start=False)
    daemon.state = os.path.relpath(daemon.state)
    daemon.start()
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        made = checkpoint(client)
        ended(client, made)
    equal(read(out).strip(), os.path.realpath(os.path.join(daemon.state, "images", made["id"] + ".image")))


@test("no command is run where none is set, and after checkpoints that failed")
def _():
    daemon, client = serving("")
    checkpoint(client)
    equal(command(client), None)
    daemon, client = serving(script("exit 0"), "Checkpoint.WriteBytesPerSecMax=64K")
    client.call("Apply", arena="a", operations=[{"op": "put", "key": f"k{i}", "value": "y" * 1000} for i in range(1000)])
    made = client.call("TakeCheckpoint", wait=False)["checkpoint"]
    client.call("CancelCheckpoint", id=made["id"])
    eventually(lambda: "runningCheckpoint" not in client.call("GetStatus")["status"], "it is cancelled")
    equal(command(client), None)


@test("a failure, a death and a missing program are told and harm nothing")
def _():
    for text, expected, words in (("exit 7", {"exitStatus": 7}, "ended with status 7"),
                                  ("kill -SEGV $$", {"signal": 11}, "killed by SIGSEGV")):
        daemon, client = serving(script(text))
        made = checkpoint(client)
        found = ended(client, made)
        equal({name: found[name] for name in ("exitStatus", "signal") if name in found}, expected)
        equal("pid" in found, False)
        eventually(lambda: words in daemon.log(), words)
        checkpoint(client)
    daemon, client = serving("/nowhere/to/be/found")
    found = ended(client, checkpoint(client))
    equal(("exitStatus" in found, "signal" in found, "pid" in found), (False, False, False))
    assert "/nowhere/to/be/found: No such file or directory" in daemon.log(), daemon.log()
    shown = subprocess.check_output([os.environ["HOLDFASTCTL"], f"--socket={daemon.socket}"], text=True)
    assert "Command: could not be started, " in shown, shown
    daemon, client = serving(script("exit 0", "/nowhere"))
    ended(client, checkpoint(client))
    ended(client, checkpoint(client))


@test("while it runs its pid is shown; of what is published meanwhile the newest is next, and the others are told of")
def _():
    where = directory()
    daemon, client = serving(script(f"echo $HOLDFAST_CHECKPOINT_ID >> {where}/ran\n"
                                    f"while [ ! -e {where}/go ]; do sleep 0.02; done"), "Checkpoint.Keep=1")
    first = checkpoint(client)
    found = eventually(lambda: command(client) if "pid" in (command(client) or {}) else None, "it runs")
    equal((found["checkpoint"], "durationUSec" in found), (first["id"], False))
    os.kill(found["pid"], 0)
    others = [checkpoint(client) for _ in range(3)]
    kept = [made["id"] for made in client.call("ListCheckpoints")["checkpoints"]]
    equal((kept[0], others[0]["id"] in kept), (first["id"], False), "the image that the command works on stays")
    with open(f"{where}/go", "w", encoding="utf-8"):
        pass
    ended(client, others[2])
    equal(read(f"{where}/ran").split(), [first["id"], others[2]["id"]])
    for made in others[:2]:
        assert f"checkpoint {made['id']}: not run, since" in daemon.log(), daemon.log()
    last = checkpoint(client)
    equal([made["id"] for made in client.call("ListCheckpoints")["checkpoints"]], [last["id"]], "then it goes")


@test("what takes too long is ended with all that it started, and the next one runs")
def _():
    where = directory()
    daemon, client = serving(script(f"sleep 1000 & echo $! > {where}/child; sleep 1000"),
                             "Checkpoint.AfterCommandTimeoutSec=300ms")
    made = checkpoint(client)
    found = ended(client, made)
    equal(found.get("signal"), signal.SIGTERM)
    eventually(lambda: gone(int(read(f"{where}/child"))), "its child is gone")
    eventually(lambda: "killed by SIGTERM" in daemon.log() and "it took too long" in daemon.log(), "it is told")
    ended(client, checkpoint(client))


@test("what heeds no SIGTERM is killed; what the daemon answers meanwhile is not delayed")
def _():
    daemon, client = serving(script("trap '' TERM\nwhile :; do sleep 0.1; done"),
                             "Checkpoint.AfterCommandTimeoutSec=100ms")
    made = checkpoint(client)
    begin = time.monotonic()
    found = ended(client, made)
    equal(found.get("signal"), signal.SIGKILL)
    assert time.monotonic() - begin >= 5, "SIGKILL has come too early"


@test("a stop ends it, and no command is run after the last checkpoint")
def _():
    where = directory()
    daemon, client = serving(script(f"echo $$ >> {where}/ran; sleep 1000"), "Checkpoint.AtStop=yes")
    checkpoint(client)
    eventually(lambda: read(f"{where}/ran"), "it runs")
    client.call("Increment", arena="a", key="n")
    daemon.stop()
    pids = read(f"{where}/ran").split()
    equal(len(pids), 1, "runs")
    eventually(lambda: gone(int(pids[0])), "it is gone")
    equal(len(os.listdir(daemon.path("images"))), 2)


@test("a stop kills what heeds no SIGTERM, and does not wait for it for long")
def _():
    where = directory()
    daemon, client = serving(script(f"trap '' TERM\necho $$ >> {where}/ran\nwhile :; do sleep 0.1; done"))
    checkpoint(client)
    eventually(lambda: read(f"{where}/ran"), "it runs")
    daemon.stop()
    equal(gone(int(read(f"{where}/ran"))), True)


@test("a reload changes what is run next, and refuses what is no command")
def _():
    where = directory()
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        path = script(f"echo $1 >> {where}/ran")
        for word in ("one", "two"):
            daemon.configure(f"[Checkpoint]\nAfterCommand='{path}' {word}\n")
            equal(client.call("Reload")["ignored"], [])
            equal(ended(client, checkpoint(client)).get("exitStatus"), 0)
        daemon.configure(f"[Checkpoint]\nAfterCommand='{path}\n")
        try:
            client.call("Reload")
        except Exception as error:  # noqa: BLE001
            assert "ConfigurationInvalid" in str(error) and "quotes closed" in str(error), error
        else:
            raise AssertionError("an open quote was taken")
        ended(client, checkpoint(client))
        daemon.configure("")
        client.call("Reload")
        last = command(client)
        checkpoint(client)
        equal(command(client), last)
    equal(read(f"{where}/ran").split(), ["one", "two", "two"])


EXAMPLE = os.path.join(SOURCE, "etc", "holdfast-copy-image")


@test("the example copies images whole, durable, and keeps the newest")
def _():
    target = os.path.join(directory(), "copies")
    os.mkdir(target)
    daemon, client = serving(f"{EXAMPLE} {target} 2")
    made = [checkpoint(client) for _ in range(4)]
    equal(ended(client, made[-1]).get("exitStatus"), 0, daemon.log())
    for _ in range(2):
        made.append(checkpoint(client))
        equal(ended(client, made[-1]).get("exitStatus"), 0, daemon.log())
    copies = sorted(os.listdir(target))
    equal(copies, [f"{each['id']}.image" for each in made[-2:]])
    for each in made[-2:]:
        path = os.path.join(target, f"{each['id']}.image")
        equal(read_bytes(path), read_bytes(daemon.path("images", f"{each['id']}.image")))
        equal(stat.S_IMODE(os.stat(path).st_mode), 0o600)


@test("the example leaves no half copy, and says what was wrong")
def _():
    daemon, client = serving(f"{EXAMPLE} /nowhere/at/all 2")
    found = ended(client, checkpoint(client))
    assert found["exitStatus"] != 0, found
    assert "/nowhere/at/all" in daemon.log(), daemon.log()
    done = subprocess.run([EXAMPLE], env={}, capture_output=True, text=True)
    assert done.returncode == 64 and "usage" in done.stderr, done


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def _tidy():
    while directories:
        directories.pop().cleanup()


tap.after_each.append(_tidy)

if __name__ == "__main__":
    run()
