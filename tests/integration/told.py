"""What the daemon tells without being asked: messages with their fields to the journal, readiness and a line of status
to the service manager. Both are played here: the journal's socket in a mount namespace of the daemon's own."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, Skip, equal, eventually, expect_error, need_root, run, test  # noqa: E402
from faults import Fault  # noqa: E402

SOURCE = os.environ.get("HOLDFAST_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]
with open(os.path.join(SOURCE, "daemon", "base", "message-ids.h"), encoding="utf-8") as header:
    IDS = {identity: name for name, identity in re.findall(r"#define MESSAGE_ID_(\w+) \"(\w+)\"", header.read())}


def refuse(client, fault):
    """An update whose sync fails; the revision that did not become durable."""
    fault.arm()
    with expect_error("NotDurable") as error:
        client.call("Put", arena="a", key="lost", value=1)
    return error.parameters["revision"]


class Listener:
    """A datagram socket, and all that came there so far. It is read all the time: who sends there blocks where too much
    waits. Descriptors that come along are closed."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.messages = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            self.messages.append(self.socket.recv(1 << 16))

    def receive(self):
        return list(self.messages)


# --- the journal

def journaled(*options, environment=None):
    """A daemon whose stderr is the journal's, and a function that gives the events so far: (name, fields). A field
    that comes more than once is a list."""
    need_root()
    daemon = Daemon(options=QUIET + list(options), start=False)
    listener = Listener(os.path.join(daemon.directory, "journal"))
    stream = socket.socketpair()
    status = os.fstat(stream[1].fileno())
    daemon.environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    # stderr is the stream for the daemon alone, which is exec'ed last; a private /run has the journal's socket.
    daemon.wrapper = ["unshare", "--mount", "--propagation=private", "bash", "-ec",
                      "mount -t tmpfs none /run; mkdir -p /run/systemd/journal; : > /run/systemd/journal/socket; "
                      f"mount --bind '{daemon.directory}/journal' /run/systemd/journal/socket; "
                      f"exec \"$@\" 2>&{stream[1].fileno()}", "bash",
                      # For the daemon alone: a library that makes calls fail is meant for no one before it.
                      "env", *(f"{name}={value}" for name, value in (environment or {}).items() if value is not None)]
    daemon.stream = stream  # stays open
    try:
        daemon.start(pass_fds=[stream[1].fileno()])
    except Exception:
        if "unshare" in daemon.log() or "mount:" in daemon.log():  # a chroot has no mount point to make private
            raise Skip("no mount namespace here") from None
        raise
    return daemon, lambda: [event for event in map(parsed, listener.receive()) if event[0]]


def parsed(message):
    """The journal's native protocol, as far as texts without line breaks need it."""
    fields = {}
    for line in message.decode().splitlines():
        name, _, value = line.partition("=")
        if name in fields:
            fields[name] = (fields[name] if isinstance(fields[name], list) else [fields[name]]) + [value]
        else:
            fields[name] = value
    return IDS.get(fields.get("MESSAGE_ID")), fields


def event(events, name):
    """The fields of the event of that name, as soon as it is there."""
    return eventually(lambda: [fields for found, fields in events() if found == name], name)[-1]


def number(fields, name):
    return int(fields[name])


@test("the start is told with its fields")
def _():
    daemon, events = journaled()
    recovered, started = event(events, "RECOVERED"), event(events, "STARTED")
    for fields in (recovered, started):
        equal((fields["RECOVERY"], fields["ARENAS"], fields["PRIORITY"]), ("empty", "0", "6"))
        number(fields, "REVISION")
        assert number(fields, "DURATION_USEC") > 0
    assert started["MESSAGE"].startswith("serving on "), started


@test("a recovery from the journal tells what came back")
def _():
    daemon, events = journaled()
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        revision = client.call("Put", arena="a", key="k", value=1)["revision"]
    daemon.stop()
    daemon.start(pass_fds=[daemon.stream[1].fileno()])
    recovered = event(lambda: events()[2:], "RECOVERED")
    equal((recovered["RECOVERY"], recovered["ARENAS"], number(recovered, "REVISION")), ("journal", "1", revision))


@test("a checkpoint that is complete is told with its id, its arenas and how long it took")
def _():
    daemon, events = journaled()
    with daemon.client() as client:
        for name in ("a", "b", "c"):
            client.call("CreateArena", name=name)
        client.call("Put", arena="b", key="k", value=1)
        made = client.call("TakeCheckpoint", arenas=["a", "b"])["checkpoint"]
    fields = event(events, "CHECKPOINT_COMPLETE")
    equal(fields["CHECKPOINT_ID"], made["id"])
    equal(sorted(fields["ARENA"]), ["a", "b"])
    equal(number(fields, "REVISION"), made["revision"])
    equal(number(fields, "DURATION_USEC"), made["durationUSec"])
    equal(number(fields, "PAUSE_USEC"), made["pauseUSec"])


@test("a checkpoint that failed is told with the reason")
def _():
    daemon, events = journaled("Checkpoint.WriteBytesPerSecMax=1M")
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        for i in range(0, 4000, 1000):
            client.call("Apply", arena="a", operations=[
                {"op": "put", "key": f"k{j}", "value": "y" * 1000} for j in range(i, i + 1000)])
        made = client.call("TakeCheckpoint", wait=False)["checkpoint"]
        os.kill(made["pid"], signal.SIGKILL)
    fields = event(events, "CHECKPOINT_FAILED")
    equal((fields["CHECKPOINT_ID"], fields["ARENA"], fields["PRIORITY"]), (made["id"], "a", "3"))
    assert "signal" in fields["REASON"] or "killed" in fields["REASON"], fields


@test("a damaged image is told with its id, the place and the reason")
def _():
    daemon, events = journaled()
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        made = client.call("TakeCheckpoint")["checkpoint"]
    daemon.stop()
    with open(daemon.path("images", made["id"] + ".image"), "r+b") as image:
        image.seek(-8, os.SEEK_END)
        image.write(b"\xff" * 8)
    daemon.start(pass_fds=[daemon.stream[1].fileno()])
    fields = event(events, "IMAGE_DAMAGED")
    equal(fields["CHECKPOINT_ID"], made["id"])
    assert fields["WHERE"] and fields["REASON"], fields


@test("updates refused, and accepted again, are told once each")
def _():
    with Fault("fdatasync:1:EIO", file=".journal") as fault:
        daemon, events = journaled(environment=fault.environment)
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            revision = refuse(client, fault)
            fields = event(events, "UPDATES_REFUSED")
            equal((number(fields, "REVISION"), fields["PRIORITY"]), (revision, "3"))
            assert "Input/output error" in fields["REASON"], fields
            client.call("TakeCheckpoint")
            equal(number(event(events, "UPDATES_ACCEPTED"), "REVISION"), revision)
    equal([name for name, _ in events() if name.startswith("UPDATES_")], ["UPDATES_REFUSED", "UPDATES_ACCEPTED"])


# --- the service manager

def notified(*options, environment=None):
    """A daemon with a service manager, and a function that gives what it was told so far, as texts."""
    daemon = Daemon(options=QUIET + list(options), start=False, environment=environment)
    path = os.path.join(daemon.directory, "notify")
    listener = Listener(path)
    daemon.environment["NOTIFY_SOCKET"] = path
    daemon.start()
    return daemon, lambda: [text.decode() for text in listener.receive()]


def status(told):
    """The last line of status."""
    lines = [line[len("STATUS="):] for text in told() for line in text.splitlines() if line.startswith("STATUS=")]
    return lines[-1] if lines else ""


@test("the line of status tells arenas, memory, revision and the last checkpoint")
def _():
    daemon, told = notified()
    eventually(lambda: "READY=1" in told(), "it is ready")
    eventually(lambda: re.fullmatch(r"0 arenas, 0 B, revision \S+; no checkpoint yet", status(told)), "an empty one")
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        client.call("CreateArena", name="b")
        client.call("Put", arena="a", key="k", value="x" * 3000)
        revision = client.call("TakeCheckpoint")["checkpoint"]["revision"]
    eventually(lambda: re.fullmatch(rf"2 arenas, \S+ [KM]iB, revision {revision:,}; "
                                    r"last checkpoint just now \(\S+ m?s, pause \S+ [um]s\)", status(told)),
               f"a full one, not {status(told)}")


@test("the line is sent where it says something new, and not more than every few seconds")
def _():
    daemon, told = notified()
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        eventually(lambda: status(told).startswith("1 arena, "), "it tells of the arena")
        lines = len([text for text in told() if "STATUS=1 arena" in text])
        assert lines == 1, told()


@test("the last checkpoint asks for time and tells how far it is")
def _():
    daemon, told = notified("Checkpoint.AtStop=yes", "Checkpoint.WriteBytesPerSecMax=4M")
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        for i in range(0, 16000, 1000):
            client.call("Apply", arena="a", operations=[
                {"op": "put", "key": f"k{j}", "value": "y" * 1000} for j in range(i, i + 1000)])
    daemon.stop()
    equal(told().count("STOPPING=1"), 1)
    assert any(text.startswith("EXTEND_TIMEOUT_USEC=") for text in told()), told()
    assert any(re.search(r"STATUS=stopping: last checkpoint, \d+%", text) for text in told()), told()


@test("updates that are refused are told at once, with the reason, and that they are accepted again")
def _():
    with Fault("fdatasync:1:EIO", file=".journal") as fault:
        daemon, told = notified(environment=fault.environment)
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            refuse(client, fault)
            eventually(lambda: re.match(r"updates are refused \(.*error\); 1 arena", status(told)), "it is told")
            client.call("TakeCheckpoint")
            eventually(lambda: re.match(r"1 arena, .*; last checkpoint just now", status(told)), "it is healed")


@test("a service manager that hangs holds nobody up, and hears that the daemon is ready when it goes on")
def _():
    path = os.path.join(tempfile.mkdtemp(prefix="holdfast-notify-"), "notify")
    daemon = Daemon(options=QUIET, environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}, start=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        manager.bind(path)
        others.connect(path)
        others.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while others.send(b"STATUS=from others"):
                pass
        daemon.start()
        with daemon.client() as client:
            for number in range(50):
                client.call("CreateArena", name=f"a{number}")
                client.call("Put", arena=f"a{number}", key="k", value=1)
                client.call("DropArena", name=f"a{number}")
            client.call("TakeCheckpoint")
        manager.settimeout(60)
        heard = set()
        while not heard >= {b"READY=1", b"WATCHDOG=1"}:
            heard.add(manager.recv(4096))
        daemon.stop()
    shutil.rmtree(os.path.dirname(path))


@test("the watchdog is pinged")
def _():
    daemon, told = notified(environment={"WATCHDOG_USEC": "400000"})
    eventually(lambda: told().count("WATCHDOG=1") >= 3, "it is pinged")


if __name__ == "__main__":
    run()
