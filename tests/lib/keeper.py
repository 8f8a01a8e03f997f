"""A service manager as far as a daemon sees one: takes what it notifies, keeps its descriptors (FDSTORE, FDSTOREREMOVE) and
hands them to the next process.

    with KeptDaemon() as daemon:
        ...
        daemon.kill()
        daemon.start()
        equal(daemon.status()["recovery"], "adopted")

Keeper.stored is a list of (name, fd); a test may change it as it likes between two starts."""

import array
import os
import socket
import struct
import sys
import threading

from daemon import Daemon
from tap import eventually

HAND_OVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hand_over.py")
CONTROL = "holdfast-control"
FDS_MAX = 16

# Places in the control memfd's header (daemon/journal/control.h).
CONTROL_LINEAGE, CONTROL_ADOPTIONS, CONTROL_CLEAN, CONTROL_CONDEMNED = 24, 40, 44, 48
# And in an arena's (include/holdfast/layout.h).
ARENA_VERSION, ARENA_STATE, ARENA_GENERATION, ARENA_NAME, ARENA_CHANGES = 8, 12, 64, 88, 256
ARENA_DROPPED = 2
# In the layout for tests these two lie elsewhere.
TEST_LAYOUT, TEST_ARENA_NAME, TEST_ARENA_CHANGES = 1000000, 48, 392


class Keeper:
    def __init__(self, directory):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(self.path)
        self.stored = []
        self.said = []  # all assignments, in their order
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_LEN(FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return
            fds = array.array("i")
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
            with self.lock:
                if data == b"stop":
                    return
                self._take(dict(line.split("=", 1) for line in data.decode().splitlines()), list(fds))

    def _take(self, message, fds):
        self.said.append(message)
        name = message.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in message:
            for fd in [fd for kept, fd in self.stored if kept == name]:
                os.close(fd)
            self.stored = [(kept, fd) for kept, fd in self.stored if kept != name]
        for fd in fds:
            if "FDSTORE" in message and not any(os.path.sameopenfile(fd, kept) for _, kept in self.stored):
                self.stored.append((name, fd))
            else:
                os.close(fd)

    def names(self):
        with self.lock:
            return [name for name, _ in self.stored]

    def arenas(self):
        """{name of the arena: fd}; without those that are no arena any more."""
        with self.lock:
            return {arena_name(fd): fd
                    for name, fd in self.stored if name.startswith("holdfast-") and name != CONTROL and os.pread(fd, 7, 0) == b"HFARENA"}

    def control(self):
        with self.lock:
            return next(fd for name, fd in self.stored if name == CONTROL)

    def remove(self, name):
        with self.lock:
            self._take({"FDSTOREREMOVE": "1", "FDNAME": name}, [])

    def clear(self):
        """As when a unit is stopped."""
        for name in set(self.names()):
            self.remove(name)

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"stop", self.path)
        self.thread.join()
        self.socket.close()
        os.unlink(self.path)
        for _, fd in self.stored:
            os.close(fd)
        self.stored = []


def layout_of(fd):
    return get_number(fd, ARENA_VERSION)


def arena_name(fd):
    return os.pread(fd, 64, TEST_ARENA_NAME if layout_of(fd) == TEST_LAYOUT else ARENA_NAME).rstrip(b"\0").decode()


def get_number(fd, offset, kind="<I"):
    return struct.unpack(kind, os.pread(fd, struct.calcsize(kind), offset))[0]


def set_number(fd, offset, value, kind="<I"):
    os.pwrite(fd, struct.pack(kind, value), offset)


class KeptDaemon(Daemon):
    """Started by a service manager that keeps its descriptors."""

    def __init__(self, start=True, **arguments):
        super().__init__(start=False, **arguments)
        self.keeper = Keeper(self.directory)
        self.environment["NOTIFY_SOCKET"] = self.keeper.path
        if start:
            try:
                self.start()
            except BaseException:
                self.ended = True
                raise

    def launch(self, **popen):
        with self.keeper.lock:
            stored = list(self.keeper.stored)
        self.wrapper = [sys.executable, HAND_OVER, ",".join(f"{name}={fd}" for name, fd in stored)]
        environment = self.environment
        # A preload library is not for the wrapper; ours take themselves out of the environment, too.
        self.environment = {"HAND_OVER_PRELOAD" if name == "LD_PRELOAD" else name: value
                            for name, value in environment.items()}
        try:
            return super().launch(pass_fds=[fd for _, fd in stored], **popen)
        finally:
            self.environment = environment

    def start(self, **popen):
        super().start(**popen)
        return self.settle()

    def settle(self):
        """Waits until everything that there is is kept."""
        names = {arena["name"] for arena in self.call("ListArenas")["arenas"]}
        eventually(lambda: CONTROL in self.keeper.names() and set(self.keeper.arenas()) == names,
                   f"the control memfd and {names} are kept")
        return self

    def prove(self):
        """As if it had served for a minute."""
        set_number(self.keeper.control(), CONTROL_ADOPTIONS, 0)

    def remove(self):
        if self.keeper is not None:
            self.keeper.close()
            self.keeper = None
        super().remove()
