"""What tests/bench/run measures: holdfast and Redis, each on a Unix socket in a directory of its own, seen the same way.

Both have: load (a run of the program `load`), fill, checkpoint (how long it took, in seconds), pauses (seconds), memory.
Whatever is running ends with close, or with the script."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon  # noqa: E402
from varlink import Client  # noqa: E402

# In Debian's redis-tools the server's program lies under another name; it looks at the name it is called by.
REDIS = shutil.which("redis-server") or shutil.which("redis-check-rdb") or "redis-server"
MIB = 1 << 20
SECONDS_MAX = 900  # a single step that takes longer has failed


class Failed(Exception):
    """A peer did not do what it was asked."""


def await_condition(condition, what, seconds=SECONDS_MAX, interval=0.002):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(interval)


# --- the load

class Load:
    """A run of the load that goes on until end(); phase() begins a new one."""

    def __init__(self, program, peer, command="put", **options):
        self.process = subprocess.Popen(load_arguments(program, peer, command, options), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def phase(self, name):
        if self.process.poll() is not None:
            raise Failed(self.process.communicate()[1])
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()

    def end(self):
        """The phases by name."""
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        return load_phases(self.process.returncode, out, err)


def load_arguments(program, peer, command, options):
    return [program, f"--protocol={peer.protocol}", f"--socket={peer.socket}", f"--command={command}"] + [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in options.items()]


def load_phases(status, out, err):
    if status != 0:
        raise Failed(f"the load ended with {status}: {err.strip()}")
    return {phase["name"]: phase for phase in json.loads(out)["phases"]}


def run_load(program, peer, command, **options):
    """A load that ends by itself; its one phase."""
    done = subprocess.run(load_arguments(program, peer, command, options), capture_output=True, text=True,
                          timeout=SECONDS_MAX, check=False)
    return load_phases(done.returncode, done.stdout, done.stderr)["all"]


# --- what the kernel says

def meminfo(*names):
    """The sum of the fields, in bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.split(":")[0] in names)


def machine_memory():
    """What processes hold by themselves or share, page tables included: copies after a fork count once."""
    return meminfo("AnonPages", "Shmem", "PageTables")


def process_field(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next((int(line.split()[1]) << 10 for line in file if line.startswith(name + ":")), 0)


def memfd_bytes(pid):
    """Bytes that each memfd of a process really has, by name."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{number}"
        try:
            target = os.readlink(path)
            if target.startswith("/memfd:"):
                status = os.stat(path)
                found[status.st_ino] = (target, status.st_blocks * 512)
        except OSError:
            continue
    return list(found.values())


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def alive(pid):
    """Neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the peers

class Holdfast:
    name, protocol = "holdfast", "holdfast"

    def __init__(self, bench, sync="never", options=()):
        self.bench = bench
        self.directory = bench.directory("holdfast")
        self.daemon = Daemon(program=bench.holdfastd, directory=self.directory, start=False, options=[
            f"Journal.Sync={sync}", "Checkpoint.IntervalSec=0", "Checkpoint.Keep=1", "Checkpoint.AtStop=no",
            "Checkpoint.JournalBytesMax=256G", "Arenas.ArenaBytesMax=32G", *options])
        self.daemon.start()
        self.socket = self.daemon.socket
        self.client = self.daemon.client(timeout=SECONDS_MAX)
        self.client.call("CreateArena", name="a")

    @property
    def pid(self):
        return self.daemon.pid

    def fill(self, keys, value_bytes):
        run_load(self.bench.load, self, "apply", fill=True, keys=keys, value_bytes=value_bytes, connections=4, batch=50)

    def empty(self):
        self.client.call("DropArena", name="a")
        self.client.call("CreateArena", name="a")

    def checkpoint(self):
        """Seconds until it is durable, and the Checkpoint of the interface. Never skipped for want of a change."""
        self.client.call("Put", arena="a", key="checkpoint", value=time.monotonic_ns())
        taken = self.client.call("TakeCheckpoint")["checkpoint"]
        return taken["durationUSec"] / 1e6, taken

    def pause(self):
        return self.checkpoint()[1]["pauseUSec"] / 1e6

    def overhead(self):
        """Bytes of the daemon that are no state, ring and buffers included, between checkpoints."""
        rest = sum(size for name, size in memfd_bytes(self.pid) if not self._is_arena(name))
        return rest + process_field(self.pid, "RssAnon")

    @staticmethod
    def _is_arena(name):
        return not any(part in name for part in ("holdfast-capture", "holdfast-marks", "holdfast-control"))

    def state_memory(self):
        """Bytes that grow with the state: arenas, marks, private memory."""
        return sum(size for name, size in memfd_bytes(self.pid)
                   if self._is_arena(name) or "marks" in name) + process_field(self.pid, "RssAnon")

    def start_again(self, cold):
        """Seconds from the start to the first answer, from the newest image."""
        self.checkpoint()
        images = self.daemon.path("images")
        await_condition(lambda: len(os.listdir(images)) == 1, "the image before it is gone", interval=0.02)
        self.client.close()
        self.daemon.kill()
        prepare_caches(self.directory, cold)
        began = time.monotonic()
        self.daemon.launch()
        await_condition(self._answers, "holdfastd answers", interval=0.0005)
        took = time.monotonic() - began
        self.client = self.daemon.client(timeout=SECONDS_MAX)
        return took

    def _answers(self):
        if self.daemon.process.poll() is not None:
            raise Failed("holdfastd ended:\n" + self.daemon.log()[-2000:])
        try:
            with Client(self.socket) as client:
                return client.call("Get", arena="a", key="checkpoint")
        except (FileNotFoundError, ConnectionError, EOFError):
            return False

    def close(self):
        self.client.close()
        self.daemon.forget()
        shutil.rmtree(self.directory, ignore_errors=True)


class Redis:
    """Without an append-only file unless fsync says when that is synced: always or no."""

    name, protocol = "Redis", "redis"

    def __init__(self, bench, fsync=None):
        self.bench = bench
        self.directory = bench.directory("redis")
        self.socket = self.directory + "/socket"
        # Neither side compresses what it saves, nor rewrites its log meanwhile.
        self.arguments = [
            "redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.directory, "--save", "",
            "--rdbcompression", "no", "--auto-aof-rewrite-percentage", "0", "--appendonly", "yes" if fsync else "no",
            "--appendfsync", fsync or "no"]
        self.process = None
        self.launch()
        await_condition(self._answers, "redis-server answers")
        self.connect()

    def launch(self):
        self.process = subprocess.Popen(self.arguments, executable=REDIS, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.bench.processes.append(self.process)

    @property
    def pid(self):
        return self.process.pid

    def connect(self):
        self.stream = open_stream(self.socket)

    def call(self, *words):
        """One command on one line, and its reply: text, a number or None. Errors raise."""
        return call_redis(self.stream, *words)

    def info(self, section):
        lines = self.call("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def fill(self, keys, value_bytes):
        run_load(self.bench.load, self, "apply", fill=True, keys=keys, value_bytes=value_bytes, connections=4, batch=50)

    def empty(self):
        self.call("FLUSHALL", "SYNC")

    def save(self):
        """Begins a BGSAVE; the child's pid."""
        self.call("BGSAVE")
        return children(self.pid)[0]

    def checkpoint(self):
        """Seconds until its child has ended, and the text of INFO."""
        began = time.monotonic()
        child = self.save()
        await_condition(lambda: not alive(child), "BGSAVE ends")
        took = time.monotonic() - began
        self._reaped()
        info = self.info("persistence")
        if info["rdb_last_bgsave_status"] != "ok":
            raise Failed("BGSAVE failed")
        return took, info

    def _reaped(self):
        await_condition(lambda: self.info("persistence")["rdb_bgsave_in_progress"] == "0", "BGSAVE is reaped",
                        interval=0.02)

    def pause(self):
        """Of a fork whose child is not needed: ended at once, as Redis itself ends one."""
        child = self.save()
        took = int(self.info("stats")["latest_fork_usec"]) / 1e6
        if alive(child):
            os.kill(child, signal.SIGUSR1)
        self._reaped()
        return took

    def state_memory(self):
        return int(self.info("memory")["used_memory"])

    @staticmethod
    def overhead():
        """All that it has by itself counts as state."""
        return 0

    def start_again(self, cold):
        """From the RDB file that a BGSAVE left."""
        self.stream.close()
        self.process.kill()
        self.process.wait()
        prepare_caches(self.directory, cold)
        began = time.monotonic()
        self.launch()
        await_condition(self._answers, "redis-server answers", interval=0.0005)
        took = time.monotonic() - began
        self.connect()
        return took

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed("redis-server ended")
        try:
            with open_stream(self.socket) as stream:
                return call_redis(stream, "GET", "key:000000000000") is not None or call_redis(stream, "DBSIZE") == 0
        except (OSError, Failed):
            return False

    def close(self):
        self.stream.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def open_stream(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.settimeout(SECONDS_MAX)
        return connection.makefile("rwb")


def call_redis(stream, *words):
    stream.write(" ".join(words).encode() + b"\r\n")
    stream.flush()
    line = stream.readline().decode().rstrip("\r\n")
    kind, rest = line[:1], line[1:]
    if kind == "$":
        return stream.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
    if kind not in (":", "+"):
        raise Failed(f"Redis answers {line or 'nothing'}")
    return int(rest) if kind == ":" else rest


def files_below(directory):
    for folder, _, names in os.walk(directory):
        yield from (path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path))


def prepare_caches(directory, cold):
    """What a start will read is in the page cache, or is not."""
    os.sync()
    if cold:
        drop_caches(directory)
        return
    for path in files_below(directory):
        with open(path, "rb", buffering=0) as file:
            while file.read(MIB):
                pass


def drop_caches(directory):
    """Everything in it leaves the page cache; all caches do, where we are root."""
    for path in files_below(directory):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        pass
