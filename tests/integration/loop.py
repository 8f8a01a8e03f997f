"""The loop's thread never makes a call that takes long: not when a lot is stored, dropped or deleted, not around
checkpoints whatever becomes of them, not for the journal. tests/lib/slow-calls.c, preloaded, tells of such calls; what
counts is what it tells between the daemon's first answer and its stop."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, Skip, equal, eventually, expect_error, run, test  # noqa: E402

MIB = 1 << 20
LIBRARY = os.environ.get("HOLDFAST_SLOW_CALLS_LIBRARY")
QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Journal.SegmentBytesMax=16M"]


def need_preload():
    if os.environ.get("HOLDFAST_SANITIZED", "none") != "none":
        raise Skip("a sanitizer wants to be the first library that is loaded")
    if not LIBRARY:
        raise RuntimeError("HOLDFAST_SLOW_CALLS_LIBRARY does not say where the library is")


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def named(told):
    """The report with its addresses as functions, as far as there is something to tell them by."""
    def name(match):
        found = subprocess.run(["addr2line", "-f", "-s", "-e", match[1], match[2]], capture_output=True, text=True)
        return f"{match[0]} {' '.join(found.stdout.split())}"

    try:
        return re.sub(r"^(\S*/holdfastd)\(\+(0x[0-9a-f]+)\).*$", name, told, flags=re.MULTILINE)
    except FileNotFoundError:
        return told


def preloaded_daemon(*options):
    need_preload()
    daemon = Daemon(options=QUIET + list(options), start=False)
    daemon.environment.update({"LD_PRELOAD": LIBRARY, "HOLDFAST_SLOW_CALLS": told_by(daemon)})
    daemon.start()
    if LIBRARY not in read(f"/proc/{daemon.pid}/maps"):
        raise AssertionError("the library is not in the daemon")
    return daemon


def told_by(daemon):
    return os.path.join(daemon.directory, "slow-calls")


@contextlib.contextmanager
def no_slow_call(daemon):
    """From here to the end of the block the daemon's loop makes no slow call. A client of it."""
    before = len(read(told_by(daemon)))
    with daemon.client() as client:
        yield client
        client.call("GetStatus")
    told = read(told_by(daemon))[before:]
    if told:
        raise AssertionError(f"slow calls in the loop's thread:\n{named(told)}")


@contextlib.contextmanager
def watched(*options):
    """A daemon that makes no slow call while it serves, and a client of it."""
    daemon = preloaded_daemon(*options)
    with no_slow_call(daemon) as client:
        yield daemon, client
    daemon.stop()


def fill(client, mebibytes, arena="a", size=100_000):
    """So much in entries of a size, in messages of up to 8 MiB."""
    client.call("CreateArena", name=arena, maxBytes=1 << 30)
    count = mebibytes * MIB // size
    step = 8 * MIB // (size + 100)
    for begin in range(0, count, step):
        client.call("Apply", arena=arena, operations=[
            {"op": "put", "key": f"k{i}", "value": "y" * size} for i in range(begin, min(begin + step, count))])
    return count


def memory(daemon):
    """Bytes of its arenas that are there, in its own mappings."""
    return int(re.search(r"^RssShmem:\s+(\d+) kB", read(f"/proc/{daemon.pid}/status"), re.MULTILINE)[1]) * 1024


def images(daemon):
    return sorted(name for name in os.listdir(daemon.path("images")) if name.endswith(".image"))


def running(client):
    return client.call("GetStatus")["status"].get("runningCheckpoint")


def wait_running(client):
    return eventually(lambda: (running(client) or {}).get("pid"), "a checkpoint runs")


def preloaded(script):
    """Runs Python under the library, in a directory of its own; the calls that were told."""
    with tempfile.TemporaryDirectory(prefix="holdfast-test-") as directory:
        path = os.path.join(directory, "slow-calls")
        done = subprocess.run([sys.executable, "-c", PROGRAM + script], cwd=directory, capture_output=True, text=True,
                              env={**os.environ, "LD_PRELOAD": LIBRARY, "HOLDFAST_SLOW_CALLS": path})
        equal(done.returncode, 0, done.stderr)
        return [line.split()[1] for line in read(path).splitlines() if line.startswith("slow ")]


# What the scripts below have: a file, and the C library.
PROGRAM = """
import ctypes, mmap, os, select, threading
libc = ctypes.CDLL(None, use_errno=True)
file = os.open("file", os.O_RDWR | os.O_CREAT)
text = b"x" * (64 << 10)
def memfd(mebibytes):
    fd = os.memfd_create("test")
    for _ in range(16 * mebibytes):
        os.write(fd, text)
    return fd
def block(mebibytes):
    libc.malloc.restype = ctypes.c_void_p
    return ctypes.c_void_p(libc.malloc(ctypes.c_size_t(mebibytes << 20)))
def turn():
    select.epoll().poll(0)
"""

TOLD = {
    "os.unlink('file')": ["unlink"],
    "os.posix_spawn('/bin/true', ['true'], {})": ["posix_spawn"],
    "os.unlink('file', dir_fd=os.open('.', os.O_RDONLY))": ["unlinkat"],
    "os.fsync(file)": ["fsync"],
    "os.fdatasync(file)": ["fdatasync"],
    "os.posix_fallocate(file, 0, 4096)": ["posix_fallocate"],
    "libc.fallocate(file, 0, 0, 4096)": ["fallocate"],
    "mmap.mmap(-1, 9 << 20).close()": ["munmap"],
    "mapped = mmap.mmap(-1, 9 << 20); mapped.madvise(mmap.MADV_DONTNEED); os._exit(0)": ["madvise"],
    "os.ftruncate(memfd(9), 0)": ["ftruncate"],
    "os.close(memfd(9))": ["close"],
    "libc.free(block(9))": ["free"],
    "[mmap.mmap(-1, 5 << 20).close() for _ in range(2)]": ["munmap"],
}

NOT_TOLD = (
    "thread = threading.Thread(target=os.fsync, args=[file]); thread.start(); thread.join()",
    "os.waitpid(os.fork() or (os.fsync(file), os._exit(0)), 0)",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; os.unlink(\"file\")'], check=True)",
    "[(mmap.mmap(-1, 5 << 20).close(), turn()) for _ in range(4)]",
    "os.ftruncate(memfd(9), 10 << 20)",
    "fd = memfd(9); other = os.dup(fd); os.close(fd)",
    "fd = memfd(9); mapped = mmap.mmap(fd, 9 << 20); os.close(fd); os._exit(0)",
    "[os.write(file, text) for _ in range(144)]; os.close(file)",
)


@test("what slow calls the main thread makes is told, and no call of other threads and processes")
def _():
    need_preload()
    for script, calls in TOLD.items():
        equal(preloaded(script), calls, script)
    for script in NOT_TOLD:
        equal(preloaded(script), [], script)


@test("storing 200 MiB, and reading it, has no slow call in the loop's thread")
def _():
    with watched() as (daemon, client):
        count = fill(client, 200)
        if memory(daemon) < 150 * MIB:
            raise AssertionError("the arena is not there")
        equal(sum(len(page["entries"]) for page in client.call_more("List", arena="a")), count, "entries")


@test("messages of 15 MiB, several at a time, and their replies have no slow call in the loop's thread")
def _():
    with watched("Server.BufferBytesMax=1G") as (daemon, client):
        client.call("CreateArena", name="a", maxBytes=1 << 30)
        operations = [{"op": "put", "key": f"k{i}", "value": "y" * (5 * MIB - 200)} for i in range(3)]
        for _ in range(2):
            clients = [daemon.client() for _ in range(4)]
            senders = [threading.Thread(target=one.send, args=("Apply", {"arena": "a", "operations": operations}))
                       for one in clients]
            for sender in senders:
                sender.start()
            for sender, one in zip(senders, clients):
                one.receive()
                sender.join()
                one.send("GetMany", {"arena": "a", "keys": ["k0", "k1", "k2"]})
            for one in clients[1:]:
                equal(len(one.receive()["entries"]), 3)
            # The first goes with its reply unread; half a message goes with its connection, too.
            clients[1].send_bytes(b'{"method":"io.holdfast.Put","parameters":{"arena":"a","key":"' + b"x" * (12 * MIB))
            for one in clients:
                one.close()
        eventually(lambda: client.call("GetStatus")["status"]["connections"] == 1, "the others are gone")


@test("dropping an arena of 150 MiB, also while it is saved, has no slow call in the loop's thread")
def _():
    with watched("Checkpoint.WriteBytesPerSecMax=100M", "Journal.Sync=never") as (daemon, client):
        fill(client, 150)
        client.call("DropArena", name="a")
        eventually(lambda: memory(daemon) < 40 * MIB, "the memory is given back")
        fill(client, 150)
        with daemon.client() as taker:
            taker.send("TakeCheckpoint")
            wait_running(client)
            client.call("DropArena", name="a")
            equal(bool(running(client)), True, "still running")
            equal(taker.receive()["checkpoint"]["state"], "complete")
        eventually(lambda: memory(daemon) < 40 * MIB, "the memory is given back")


@test("deleting most of a large arena, also while it is saved, has no slow call in the loop's thread")
def _():
    with watched("Checkpoint.WriteBytesPerSecMax=100M", "Journal.Sync=never") as (daemon, client):
        count = fill(client, 150)
        large = memory(daemon)
        third = count // 3

        def delete(begin, end):
            client.call("Apply", arena="a", operations=[{"op": "delete", "key": f"k{i}"} for i in range(begin, end)])

        delete(0, third)
        eventually(lambda: memory(daemon) < large - 40 * MIB, "holes are punched")
        with daemon.client() as taker:
            taker.send("TakeCheckpoint")
            wait_running(client)
            delete(third, 2 * third)
            equal(taker.receive()["checkpoint"]["state"], "complete")
        eventually(lambda: memory(daemon) < large - 80 * MIB, "holes are punched")
        delete(2 * third, count - 1)
        eventually(lambda: memory(daemon) < 40 * MIB, "holes are punched")


@test("checkpoints, retention, verifying and deleting have no slow call in the loop's thread")
def _():
    for compression in ("none", "zstd"):
        with watched("Checkpoint.Keep=2", "Journal.Sync=never", f"Checkpoint.Compression={compression}") as (daemon, client):
            fill(client, 60)
            ids = []
            for number in range(5):
                client.call("Put", arena="a", key="k1", value=number)
                ids.append(client.call("TakeCheckpoint")["checkpoint"]["id"])
            eventually(lambda: images(daemon) == [f"{one}.image" for one in ids[-2:]], "two images are left")
            client.call("VerifyCheckpoint", id=ids[-1])
            client.call("DeleteCheckpoint", id=ids[-2])
            eventually(lambda: len(images(daemon)) == 1, "one image is left")


@test("checkpoints that fail, stall or are cancelled have no slow call in the loop's thread")
def _():
    with watched("Checkpoint.WriteBytesPerSecMax=40M", "Checkpoint.CaptureBytesMax=1M", "Checkpoint.StallSec=500ms",
                 "Journal.Sync=never") as (daemon, client), daemon.client() as taker:
        fill(client, 60)
        taker.send("TakeCheckpoint")
        os.kill(wait_running(client), signal.SIGKILL)
        with expect_error("CheckpointFailed"):
            taker.receive()
        taker.send("TakeCheckpoint")
        wait_running(client)
        client.call("CancelCheckpoint", id=running(client)["id"])
        with expect_error("CheckpointCancelled"):
            taker.receive()
        taker.send("TakeCheckpoint")
        os.kill(wait_running(client), signal.SIGSTOP)
        for begin in range(0, 600, 60):
            client.call("Apply", arena="a", operations=[
                {"op": "put", "key": f"k{i}", "value": "z" * 100_000} for i in range(begin, begin + 60)])
        with expect_error("CheckpointFailed") as caught:
            taker.receive()
        if "stall" not in caught.parameters["reason"]:
            raise AssertionError(caught.parameters)
        taker.call("TakeCheckpoint")
        eventually(lambda: len(os.listdir(daemon.path("images"))) == 1, "only the good image is left")


@test("journal segments that are switched, synced and retired have no slow call in the loop's thread")
def _():
    for sync in ("always", "interval", "never"):
        with watched(f"Journal.Sync={sync}", "Journal.SyncIntervalSec=50ms", "Checkpoint.Keep=1") as (daemon, client):
            count = fill(client, 100)
            segments = len(os.listdir(daemon.path("journal")))
            if segments < 4:
                raise AssertionError(f"only {segments} segments")
            for number in range(3):
                client.call("Apply", arena="a", operations=[
                    {"op": "put", "key": f"k{i}", "value": "z" * 100_000} for i in range(min(count, 80))])
                client.call("TakeCheckpoint", label=str(number))
            eventually(lambda: len(os.listdir(daemon.path("journal"))) < segments, "segments are retired")


@test("an index that grows and shrinks has no slow call in the loop's thread")
def _():
    with watched("Journal.Sync=never") as (_, client):
        client.call("CreateArena", name="a", maxBytes=1 << 30)
        for op in ("put", "delete"):
            for begin in range(0, 600_000, 60_000):
                client.call("Apply", arena="a", operations=[
                    {"op": op, "key": f"k{i}"} for i in range(begin, begin + 60_000)])


@test("what is left to be done after a recovery has no slow call in the loop's thread")
def _():
    daemon = preloaded_daemon("Checkpoint.Keep=1")
    with daemon.client() as client:
        fill(client, 60)
        client.call("TakeCheckpoint")
        fill(client, 60, "b")
    daemon.kill()
    # What a daemon that was killed may leave.
    for name in (".left.tmp", "left.image.tmp"):
        with open(daemon.path("images", name), "wb") as file:
            file.truncate(MIB)
    daemon.start()
    with no_slow_call(daemon) as client:
        for name in ("a", "b"):
            equal(client.call("Get", arena=name, key="k1")["value"], "y" * 100_000)
        client.call("TakeCheckpoint")
        eventually(lambda: len(images(daemon)) == 1, "one image is left")
        client.call("DropArena", name="b")
        eventually(lambda: memory(daemon) < 110 * MIB, "the memory is given back")
    daemon.stop()


@test("commands after checkpoints, also such as fail or take too long, have no slow call in the loop's thread")
def _():
    for command in ("/bin/true", "/nowhere", "/bin/sleep 1000"):
        with watched(f"Checkpoint.AfterCommand={command}", "Checkpoint.AfterCommandTimeoutSec=100ms") as (daemon, client):
            fill(client, 1)
            for _ in range(2):
                made = client.call("TakeCheckpoint")["checkpoint"]["id"]

                def ended():
                    found = client.call("GetStatus")["status"].get("afterCommand", {})
                    return found.get("checkpoint") == made and "durationUSec" in found
                eventually(ended, f"{command} has ended")


@test("reading the configuration again has no slow call in the loop's thread")
def _():
    with watched() as (daemon, client):
        daemon.configure("[Checkpoint]\nKeep=1\n")
        client.call("Reload")
        daemon.configure("[Checkpoint]\nKeep=none\n")
        with expect_error("ConfigurationInvalid"):
            client.call("Reload")


run()
