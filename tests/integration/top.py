"""holdfastctl top: its screen on a terminal, how it leaves it, and one screen as text and JSON."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading

from daemon import Daemon, equal, eventually, run, test
from terminal import Terminal

PROGRAM = os.environ["HOLDFASTCTL"]
ANY_ARENA = {"entries": 1, "usedBytes": 1 << 20, "maxBytes": 4 << 20, "revision": 1, "uid": 0, "gid": 0, "mode": 0o600,
             "createdUSec": 1}


def top(where, *arguments, status=0):
    done = subprocess.run([PROGRAM, f"--socket={where.socket}", "top", *arguments], capture_output=True, text=True,
                          timeout=120, check=False)
    equal(done.returncode, status, f"exit status ({done.stderr.strip()})")
    return done.stdout


def screen(where, *arguments, size=(24, 80), **environment):
    return Terminal([PROGRAM, f"--socket={where.socket}", "top", "--interval=100ms", *arguments], size=size, play=True,
                    environment=environment)


def quit_well(terminal):
    terminal.send("q")
    equal(terminal.wait(), 0)
    gave_back(terminal)


def gave_back(terminal):
    equal((terminal.screen.alternate, terminal.screen.cursor_shown), (False, True), "alternate screen and cursor")
    equal(terminal.settings(), terminal.initial, "settings of the terminal")


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


class FakeDaemon:
    """Answers each method with what `replies` has for it: an object, or a list of which the last stays."""

    def __init__(self, **replies):
        self.directory = tempfile.TemporaryDirectory(prefix="holdfast-test-")
        self.socket = os.path.join(self.directory.name, "socket")
        self.replies = {
            "GetStatus": {"status": {"version": "1", "pid": 7, "state": "serving", "startedUSec": 1, "recovery": "empty",
                                     "recoveryDurationUSec": 1, "arenas": 1, "entries": 1, "usedBytes": 1, "revision": 1,
                                     "durableRevision": 1, "connections": 1, "updates": 1, "reads": 1}},
            "ListArenas": {"arenas": [{"name": "a", **ANY_ARENA}]}, "GetMetrics": {"text": "# EOF\n"}, **replies}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.socket)
        self.listener.listen(4)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                rest = b""
                while chunk := connection.recv(1 << 16):
                    rest += chunk
                    while b"\0" in rest:
                        call, _, rest = rest.partition(b"\0")
                        method = json.loads(call)["method"].rpartition(".")[2]
                        reply = self.replies[method]
                        if isinstance(reply, list):
                            reply = reply.pop(0) if len(reply) > 1 else reply[0]
                        connection.sendall(json.dumps({"parameters": reply}).encode() + b"\0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.directory.cleanup()


def buckets(method, *pairs):
    return "".join(f'holdfast_request_duration_seconds_bucket{{method="{method}",le="{bound}"}} {count}\n'
                   for bound, count in pairs)


class Load:
    """One client that puts as fast as it is answered."""

    def __init__(self, daemon, arena):
        self.daemon, self.arena, self.running = daemon, arena, True
        self.thread = threading.Thread(target=self.work)

    def work(self):
        with self.daemon.client() as client:
            number = 0
            while self.running:
                client.call("Put", arena=self.arena, key=f"k{number % 100}", value=number)
                number += 1

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.running = False
        self.thread.join()


@test("the screen in 80x24: rates, memory by arena, the running checkpoint with its bar; q ends it")
def _():
    with Daemon(options=["Journal.Sync=never", "Checkpoint.WriteBytesPerSecMax=64K"]) as daemon:
        daemon.call("CreateArena", name="sessions")
        daemon.call("CreateArena", name="cache", maxBytes=64 << 20)
        daemon.call("Apply", arena="cache", operations=[
            {"op": "put", "key": f"k{i}", "value": os.urandom(500).hex()} for i in range(2000)])
        with screen(daemon) as terminal, Load(daemon, "sessions"):
            terminal.wait_for(r"Updates  [1-9][0-9,]*/s   Reads  0/s")
            shown = terminal.wait_for(r"cache +2,000 +\d+\.\d MiB  \[#*-+\] +\d+%")
            assert "sessions" in shown and "serving" in shown and "none yet" in shown, shown
            assert terminal.screen.alternate and not terminal.screen.cursor_shown
            identity = daemon.call("TakeCheckpoint", wait=False)["checkpoint"]["id"]
            terminal.wait_for(rf"Checkpoint {identity}\n  \[#*-+\] +\d+%  .*/s, [0-9,]+ captured, .* left")
            daemon.call("CancelCheckpoint", id=identity)
            terminal.wait_for("Checkpoint none yet")
            terminal.send("x")  # means nothing
            quit_well(terminal)
            assert "cache" not in terminal.screen.left, terminal.screen.left


@test("it follows the terminal's size, and never writes beyond it")
def _():
    with Daemon() as daemon:
        for i in range(40):
            daemon.call("CreateArena", name=f"arena{i:02}-" + "x" * 50)
        with screen(daemon) as terminal:
            shown = terminal.wait_for(r"\.\.\. and \d+ more")
            equal(len(shown.split("\n")), 24)
            for size in ((40, 120), (12, 40), (5, 20), (1, 10), (24, 80)):
                terminal.resize(size)
                # A frame that did not fit would have scrolled the first line away.
                terminal.wait_for(lambda t: re.match(r"\d\d:\d\d", t.screen.text()) and t.screen.rows[-1][0] != " ")
            shown = terminal.wait_for(r"\.\.\. and \d+ more")
            first = shown.split("\n")[0]
            assert "holdfastd" in first, shown
            quit_well(terminal)


@test("signals end it, and the terminal is given back")
def _():
    with Daemon() as daemon:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with screen(daemon) as terminal:
                terminal.wait_for("Updates")
                terminal.process.send_signal(number)
                equal(terminal.wait(), -number)
                gave_back(terminal)
        with screen(daemon) as terminal:
            terminal.wait_for("Updates")
            terminal.send("\x03")
            equal(terminal.wait(), -signal.SIGINT)
            gave_back(terminal)


@test("Ctrl-Z gives the terminal back until it goes on")
def _():
    with Daemon() as daemon, screen(daemon) as terminal:
        terminal.wait_for("Updates")
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.wait_for(lambda t: not t.screen.alternate)
        eventually(lambda: stopped(terminal.process.pid), "it is stopped")
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for(lambda t: t.screen.alternate and "Updates" in t.screen.text())
        quit_well(terminal)


@test("a daemon that goes is told, and found again")
def _():
    with Daemon() as daemon, screen(daemon) as terminal:
        terminal.wait_for("serving")
        daemon.stop()
        terminal.wait_for("There is no daemon")
        daemon.start()
        terminal.wait_for(f"serving.*PID {daemon.pid}")
        os.kill(daemon.pid, signal.SIGSTOP)
        terminal.wait_for("does not answer")
        terminal.send("q")
        equal(terminal.wait(), 0)
        os.kill(daemon.pid, signal.SIGCONT)


@test("no colours with NO_COLOR, and no screen on a dumb terminal")
def _():
    with Daemon() as daemon:
        with screen(daemon, NO_COLOR="1") as terminal:
            terminal.wait_for("Updates")
            assert "m" not in [match[-1] for match in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]", terminal.seen)]
            quit_well(terminal)
        with screen(daemon, TERM="dumb") as terminal:
            equal(terminal.wait(), 0)
            assert "\x1b" not in terminal.seen and "Updates" in terminal.seen, terminal.seen


@test("--once and a pipe print one screen as text, -j as JSON")
def _():
    with Daemon(options=["Journal.Sync=never"]) as daemon:
        daemon.call("CreateArena", name="a")
        with Load(daemon, "a"):
            for arguments in (["--once"], []):
                text = top(daemon, *arguments, "--interval=200ms")
                assert "\x1b" not in text and "serving" in text and "ARENA" in text, text
            found = json.loads(top(daemon, "--once", "-j", "--interval=500ms"))
        equal((found["state"], found["pid"], found["runningCheckpoint"]), ("serving", daemon.pid, None))
        equal([arena["name"] for arena in found["arenas"]], ["a"])
        assert found["updatesPerSec"] > 1 and found["intervalUSec"] >= 500000, found
        assert "\n" in top(daemon, "--json=pretty", "--interval=100ms").strip()


@test("latencies are those of the interval, by method, the busiest first")
def _():
    before = buckets("Put", ("0.001", 10), ("0.002", 10), ("+Inf", 10)) + buckets("Get", ("0.001", 5), ("+Inf", 5))
    after = (buckets("Put", ("0.001", 60), ("0.002", 108), ("+Inf", 110)) + buckets("Get", ("0.001", 5), ("+Inf", 5)) +
             buckets("List", ("0.5", 1), ("1", 1000), ("+Inf", 1000)))
    with FakeDaemon(GetMetrics=[{"text": before}, {"text": after}]) as daemon:
        methods = json.loads(top(daemon, "-j", "--interval=100ms"))["methods"]
    equal([method["name"] for method in methods], ["List", "Put"])
    equal([methods[1][f"p{share}USec"] for share in (50, 99, 999)], [1000, 2000, 2000])
    equal([methods[0][f"p{share}USec"] for share in (50, 99, 999)], [1000000] * 3)
    assert 100 < methods[1]["callsPerSec"] <= 1000, methods


@test("counters that run backwards, a restart, and text that is none do no harm")
def _():
    nonsense = (buckets("Put", ("0.001", 50), ("0.0005", 60), ("nan", 70), ("-1", 3), ("x", 9), ("+Inf", 40)) +
                buckets("x" * 100, ("1", 1)) + 'holdfast_request_duration_seconds_bucket{method="Put"\n' +
                'holdfast_request_duration_seconds_bucket{le="1",method="Put} 3\n' +
                'holdfast_request_duration_seconds_bucket{} 1\n' * 3 +
                "".join(buckets(f"method{i}", *((f"{j + 1}", 1e300 if j == 7 else j) for j in range(100))) for i in range(100)))
    for texts in ([nonsense, nonsense], [buckets("Put", ("1", 9), ("+Inf", 9)), buckets("Put", ("1", 3), ("+Inf", 3))],
                  ["", nonsense], [nonsense, ""], ["\n" * 100, "holdfast_request_duration_seconds_bucket{"]):
        with FakeDaemon(GetMetrics=[{"text": text} for text in texts]) as daemon:
            found = json.loads(top(daemon, "-j", "--interval=100ms"))
            assert len(found["methods"]) <= 32, found
            top(daemon, "--interval=100ms")
    with FakeDaemon(GetMetrics=[{"text": 7}]) as daemon:
        assert "does not tell" in top(daemon, "--interval=100ms")


@test("what the daemon sends cannot steer the terminal")
def _():
    evil = {"name": "a\x1b[31m", **ANY_ARENA}
    status = dict(FakeDaemon().replies["GetStatus"]["status"], version="1\x1b[2J", state="\x1b]0;x\x07", reason="ä" * 300)
    with FakeDaemon(ListArenas={"arenas": [evil] * 3000}, GetStatus={"status": status}) as daemon:
        with screen(daemon, NO_COLOR="1") as terminal:
            shown = terminal.wait_for(r"a\?\[31m")
            assert "?]0;x?" in shown, shown
            quit_well(terminal)


@test("errors from the start are told as all are")
def _():
    with Daemon() as daemon:
        daemon.stop()
        for arguments in (["--once"], []):
            top(daemon, *arguments, status=69)
        daemon.start()
        for arguments in (["--interval=0"], ["--interval=2h"], ["--interval=x"], ["extra"]):
            top(daemon, *arguments, status=64)
        eventually(lambda: daemon.status()["state"] == "serving", "it serves")


run()
