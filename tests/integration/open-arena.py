"""OpenArena: the descriptor that a client gets can read the arena's memory and nothing else, for good; what becomes of the
arena is seen through it."""

import collections
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, Skip, equal, eventually, expect_error, need_root, run, test  # noqa: E402
from faults import Fault  # noqa: E402

QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]
MIB = 1 << 20
LIVE, DROPPED = 1, 2
OTHER = 61234  # a user that has nothing to do with the daemon
F_ADD_SEALS, F_GET_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK = 1033, 1034, 1, 2


def opened(client, name="a"):
    """OpenArena's reply and descriptor; nothing else may come with it."""
    reply = client.call("OpenArena", name=name)
    equal(len(client.descriptors), reply["fileDescriptor"] + 1, "descriptors")
    return reply["arena"], client.descriptors.pop()


class Header:
    """What include/holdfast/layout.h says of page 0."""

    def __init__(self, descriptor):
        self.memory = mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ)

    def number(self, offset, code="Q"):
        return struct.unpack_from("<" + code, self.memory, offset)[0]

    magic = property(lambda self: self.memory[:8])
    state = property(lambda self: self.number(12, "I"))
    generation = property(lambda self: self.number(64))
    name = property(lambda self: self.memory[88:160].split(b"\0")[0].decode())
    changes = property(lambda self: self.number(256))
    revision = property(lambda self: self.number(320))
    entries = property(lambda self: self.number(328))


@test("the memory that is handed out is the arena's, sealed, and sized by what is used")
def _():
    daemon = Daemon(options=QUIET)
    client = daemon.client()
    client.call("CreateArena", name="a", maxBytes=64 * MIB)
    revision = client.call("Put", arena="a", key="k", value=1)["revision"]
    arena, descriptor = opened(client)
    equal((arena["name"], arena["entries"], arena["revision"]), ("a", 1, revision))
    header = Header(descriptor)
    equal((header.magic, header.name, header.state, header.generation), (b"HFARENA\0", "a", LIVE, 1))
    equal((header.revision, header.entries, header.changes % 2), (revision, 1, 0))
    equal(fcntl.fcntl(descriptor, F_GET_SEALS) & (F_SEAL_SEAL | F_SEAL_SHRINK), F_SEAL_SEAL | F_SEAL_SHRINK, "seals")
    equal(os.fstat(descriptor).st_size <= 2 * MIB, True, "not as large as it may become")
    changes = header.changes
    client.call("Put", arena="a", key="k", value="x" * 4 * MIB)
    equal((header.changes > changes, header.changes % 2), (True, 0))
    equal(os.fstat(descriptor).st_size > 4 * MIB, True, "grows with the arena")


@test("each OpenArena has its own descriptor beside its own reply, also among other calls and in lines")
def _():
    daemon = Daemon(options=QUIET + ["Journal.Sync=always"])
    for terminator in (b"\0", b"\n"):
        with daemon.client(terminator=terminator) as client:
            names = [f"{'nul' if terminator == bytes(1) else 'line'}{number}" for number in range(6)]
            for name in names:
                client.send("CreateArena", {"name": name})
                client.send("OpenArena", {"name": name})
                client.send("Put", {"arena": name, "key": "k", "value": "x" * 10000})
                client.send("OpenArena", {"name": name})
                client.send("Get", {"arena": name, "key": "k"})
            for name in names:
                equal(client.receive()["arena"]["name"], name)
                equal(client.receive()["fileDescriptor"], 0)
                client.receive()
                equal(client.receive()["fileDescriptor"], 0)
                equal(client.receive()["value"], "x" * 10000)
            equal([Header(descriptor).name for descriptor in client.descriptors],
                  [name for name in names for _ in range(2)], "whose memory they are")
            for descriptor in client.descriptors:
                os.close(descriptor)


@test("connections that go, calls one way and refusals leave no descriptor behind")
def _():
    daemon = Daemon(options=QUIET)
    client = daemon.client()
    client.call("CreateArena", name="a")

    def descriptors():
        """All but the journal's segments, which come and go as they are made ready ahead."""
        links = []
        for name in os.listdir(f"/proc/{daemon.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{daemon.pid}/fd/{name}"))
        return collections.Counter(link for link in links if ".journal" not in link)
    before = descriptors()  # perhaps with one of a connection that is just being closed
    for number in range(8):
        with daemon.client() as other:
            for _ in range(100):
                other.send("OpenArena", {"name": "a"})
            if number % 2:
                other.receive()
    for _ in range(100):
        client.oneway("OpenArena", name="a")
    with expect_error("NoSuchArena"):
        client.call("OpenArena", name="b")
    equal(client.descriptors, [])
    eventually(lambda: not descriptors() - before, "all are closed")


@test("want of descriptors is answered each time, and told in the log once")
def _():
    with Fault("open:1:EMFILE:forever", file="/proc/self/fd/") as fault:
        daemon = Daemon(options=QUIET, environment=fault.environment)
        client = daemon.client()
        client.call("CreateArena", name="a")
        fault.arm()
        for _ in range(200):
            with expect_error("ReadOnly") as caught:
                client.call("OpenArena", name="a")
            equal(caught.parameters, {"reason": os.strerror(errno.EMFILE)})
        equal(daemon.log().count("OpenArena: not begun"), 1, "lines in the log")
        fault.end()
        os.close(opened(client)[1])


def refused(action, *errors):
    try:
        action()
    except OSError as error:
        if error.errno not in errors:
            raise
    else:
        raise AssertionError("it was allowed")


libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def mapped(descriptor):
    """The address of the first page."""
    place = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if place == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return place


def mprotect_writable(descriptor):
    """mmap(PROT_READ), then mprotect(PROT_READ | PROT_WRITE)."""
    place = mapped(descriptor)
    if libc.mprotect(place, 4096, mmap.PROT_READ | mmap.PROT_WRITE) < 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def as_another_user(function):
    """Runs it in a child that is OTHER for good; its complaint becomes ours."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            os.setgroups([])
            os.setresgid(OTHER, OTHER, OTHER)
            os.setresuid(OTHER, OTHER, OTHER)
            function()
            status = 0
        except BaseException as error:  # noqa: B902: whatever it is, the parent tells
            os.write(write, repr(error).encode())
        os._exit(status)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as said:
        text = said.read()
    _, status = os.waitpid(pid, 0)
    equal((status, text), (0, ""), "the other user's end")


def check_read_only(descriptor):
    """All that must fail for whoever holds the descriptor; reading must not."""
    mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ).close()
    denied = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL)
    refused(lambda: os.write(descriptor, b"x"), *denied)
    refused(lambda: os.pwrite(descriptor, b"x", 0), *denied)
    refused(lambda: mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE), *denied)
    refused(lambda: mprotect_writable(descriptor), *denied)
    refused(lambda: os.ftruncate(descriptor, 0), *denied)
    refused(lambda: os.ftruncate(descriptor, 64 * MIB), *denied)
    refused(lambda: os.posix_fallocate(descriptor, 64 * MIB, 4096), *denied)
    refused(lambda: fcntl.fcntl(descriptor, F_ADD_SEALS, 8), *denied)
    if os.geteuid() != 0:
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
            refused(lambda: os.open(f"/proc/self/fd/{descriptor}", flags), *denied)
        refused(lambda: os.fchmod(descriptor, 0o666), *denied)
        refused(lambda: os.fchown(descriptor, OTHER, OTHER), *denied)
        refused(lambda: os.utime(descriptor), *denied)


@test("whoever holds the descriptor can't write through it, map it writable, or change its size or its seals")
def _():
    daemon = Daemon(options=QUIET)
    client = daemon.client()
    client.call("CreateArena", name="a")
    check_read_only(opened(client)[1])


@test("another user can neither reopen it for writing, nor change its mode, nor anything else")
def _():
    need_root()
    daemon = Daemon(options=QUIET + ["Server.SocketMode=0666"])
    with daemon.client() as client:
        client.call("CreateArena", name="a", mode=0o604)
        client.call("Put", arena="a", key="k", value=1)
    os.chmod(daemon.directory, 0o755)

    def look():
        with daemon.client() as other:
            _, descriptor = opened(other)
            check_read_only(descriptor)
            equal(Header(descriptor).entries, 1)
    as_another_user(look)
    equal(daemon.call("Get", arena="a", key="k")["value"], 1)


@test("only who may read it gets it")
def _():
    need_root()
    daemon = Daemon(options=QUIET + ["Server.SocketMode=0666"])
    with daemon.client() as client:
        client.call("CreateArena", name="a", mode=0o622)
    os.chmod(daemon.directory, 0o755)

    def look():
        with daemon.client() as other:
            with expect_error("PermissionDenied"):
                other.call("OpenArena", name="a")
            equal(other.descriptors, [])
    as_another_user(look)


def pages(descriptor):
    return os.fstat(descriptor).st_blocks * 512 // 4096


@test("dropping tells those that map it, and takes the pages though they do")
def _():
    daemon = Daemon(options=QUIET + ["Journal.Sync=never"])
    client = daemon.client()
    client.call("CreateArena", name="a")
    for number in range(16):
        client.call("Put", arena="a", key=f"k{number}", value="x" * MIB)
    _, descriptor = opened(client)
    whole = mmap.mmap(descriptor, 16 * MIB, mmap.MAP_SHARED, mmap.PROT_READ)
    equal(pages(descriptor) > 4000, True, "pages")
    client.call("DropArena", name="a")
    # The header's page goes with the others: then it is none any more.
    equal(Header(descriptor).state in (DROPPED, 0), True, "its state")
    eventually(lambda: pages(descriptor) <= 1, "its pages go")
    equal(whole[8 * MIB:8 * MIB + 16], bytes(16))
    with expect_error("NoSuchArena"):
        client.call("OpenArena", name="a")


@test("an arena that is dropped while a checkpoint saves it says so at once")
def _():
    daemon = Daemon(options=QUIET + ["Journal.Sync=never", "Checkpoint.WriteBytesPerSecMax=1M"])
    client = daemon.client()
    client.call("CreateArena", name="a")
    for number in range(16):
        client.call("Put", arena="a", key=f"k{number}", value="x" * MIB)
    header = Header(opened(client)[1])
    begun = client.call("TakeCheckpoint", wait=False)["checkpoint"]
    equal((begun["state"], header.state), ("running", LIVE))
    client.call("DropArena", name="a")
    equal(header.state, DROPPED)
    equal(client.call("GetStatus")["status"]["runningCheckpoint"]["id"], begun["id"])
    client.call("CancelCheckpoint", id=begun["id"])
    eventually(lambda: header.magic != b"HFARENA\0", "its pages go when the checkpoint is over")


@test("those that wait for a change are woken by it, and by the arena's end")
def _():
    daemon = Daemon(options=QUIET)
    client = daemon.client()
    client.call("CreateArena", name="a")
    client.call("CreateArena", name="other")
    def wait(descriptor):
        """FUTEX_WAIT on the low half of the change counter: 0 when it was woken."""
        place = mapped(descriptor)
        counter = ctypes.c_uint32.from_address(place + 256)
        return libc.syscall(202 if os.uname().machine == "x86_64" else 98, ctypes.c_void_p(place + 256), 0,
                            counter.value, None, None, 0)

    for change in (lambda: client.call("Put", arena="a", key="k", value=1), lambda: client.call("DropArena", name="a")):
        _, descriptor = opened(client)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if wait(descriptor) == 0 else 1)
        eventually(lambda: sleeping(pid), "it waits")
        client.call("Put", arena="other", key="k", value=1)
        equal(os.waitpid(pid, os.WNOHANG)[0], 0, "another arena's change does not wake it")
        change()
        found = []
        eventually(lambda: found.extend(os.waitpid(pid, os.WNOHANG)) or found[-2], "it is woken")
        equal(found[-1], 0, "its status")
        os.close(descriptor)


def sleeping(pid):
    """In the system call futex, which is all that the child ever waits in."""
    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] in ("202", "98")
    except PermissionError as error:
        raise Skip("can't look into /proc/PID/syscall") from error


run()
