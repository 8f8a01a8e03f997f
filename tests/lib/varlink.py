"""A Varlink client for tests. It is strict where a daemon must be right (a reply holds what a reply may hold, and
nothing else) and permissive in what it sends: raw bytes, pipelines, whatever a test wants to try."""

import array
import json
import socket

INTERFACE = "io.holdfast"


class VarlinkError(Exception):
    """The daemon answered an error: name is its full name, short the last part of it."""

    def __init__(self, name, parameters):
        super().__init__(f"{name} {json.dumps(parameters)}")
        self.name = name
        self.short = name.rpartition(".")[2]
        self.parameters = parameters


class expect_error:
    """with expect_error("NoSuchKey") as caught: ...; then caught.parameters."""

    def __init__(self, short):
        self.short = short
        self.parameters = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            raise AssertionError(f"no error where {self.short} was expected")
        if not isinstance(error, VarlinkError):
            return False
        if self.short not in (error.short, error.name):
            raise AssertionError(f"{error} where {self.short} was expected") from error
        self.parameters = error.parameters
        return True


def _full_name(method):
    return method if "." in method else f"{INTERFACE}.{method}"


def message(method, parameters=None, **flags):
    """A call as a dictionary; flags: more, oneway, upgrade."""
    call = {"method": _full_name(method)}
    if parameters is not None:
        call["parameters"] = parameters
    call.update({name: value for name, value in flags.items() if value})
    return call


class Client:
    """One connection. Not for several threads at once. terminator: b"\\n" speaks a message a line."""

    def __init__(self, path, timeout=120, terminator=b"\0"):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.terminator = terminator
        self.descriptors = []  # received, in their order; the caller's to close
        self._input = bytearray()
        self._searched = 0
        try:
            # Waits where the backlog is full; with a timeout set it would fail at once.
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # Raw

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send_message(self, value):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        self.send_bytes(text.encode() + self.terminator)

    def receive_bytes(self):
        """The next message without its terminator; EOFError where the connection ends before one."""
        while True:
            end = self._input.find(self.terminator, self._searched)
            if end >= 0:
                taken = bytes(self._input[:end])
                del self._input[:end + 1]
                self._searched = 0
                return taken
            self._searched = len(self._input)
            self._receive_more()

    def _receive_more(self):
        size = array.array("i").itemsize
        data, ancillary, flags, _ = self.socket.recvmsg(
            256 * 1024, socket.CMSG_SPACE(16 * size), socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(content[:len(content) // size * size])
                self.descriptors.extend(found)
        if flags & socket.MSG_CTRUNC:
            raise AssertionError("descriptors were cut off")
        if not data:
            raise EOFError("the daemon closed the connection")
        self._input += data

    def receive_message(self):
        """The next reply as a dictionary."""
        reply = json.loads(self.receive_bytes().decode())
        if not isinstance(reply, dict):
            raise AssertionError(f"a reply that is no object: {reply!r}")
        extra = set(reply) - {"parameters", "continues", "error"}
        if extra:
            raise AssertionError(f"a reply with {sorted(extra)}")
        if "error" in reply and "continues" in reply:
            raise AssertionError("an error that continues")
        return reply

    def at_end(self):
        """True when the daemon has closed the connection and nothing is left to be read."""
        try:
            self.receive_bytes()
        except (EOFError, ConnectionResetError):
            return True
        return False

    # Calls. Pipelining: several sends, then as many receives.

    def send(self, method, parameters=None, **flags):
        self.send_message(message(method, parameters, **flags))

    def receive(self):
        """The parameters of the next reply; raises VarlinkError."""
        parameters, continues = self._receive_part()
        if continues:
            raise AssertionError("a reply continues where no more was asked for")
        return parameters

    def _receive_part(self):
        reply = self.receive_message()
        parameters = reply.get("parameters", {})
        if "error" in reply:
            raise VarlinkError(reply["error"], parameters)
        return parameters, reply.get("continues", False)

    def call(self, method, parameters=None, **fields):
        """call("Get", arena="a", key="k") or call("Get", {"arena": ...})."""
        self.send(method, {**(parameters or {}), **fields})
        return self.receive()

    def call_more(self, method, parameters=None, **fields):
        """Yields the parameters of all replies."""
        self.send(method, {**(parameters or {}), **fields}, more=True)
        continues = True
        while continues:
            part, continues = self._receive_part()
            yield part

    def oneway(self, method, parameters=None, **fields):
        """Nothing comes back."""
        self.send(method, {**(parameters or {}), **fields}, oneway=True)
