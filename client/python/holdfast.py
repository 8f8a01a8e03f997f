"""The client of holdfast, a daemon that keeps application state in shared memory. Python 3.11, standard library alone.

    >>> import holdfast
    >>> daemon = holdfast.launch(directory)             # a daemon of the program's own; or connect() to the system's
    >>> client = daemon.connect()
    >>> _ = client.create_arena("sessions")
    >>> _ = client.put("sessions", "ann", {"seen": 1})
    >>> client.merge("sessions", "ann", {"cart": ["tea"]}).value
    {'seen': 1, 'cart': ['tea']}
    >>> client.take_checkpoint(label="noon")["state"]
    'complete'
    >>> with client.open_map("sessions") as sessions:   # reads the daemon's memory: no call
    ...     sessions.get("ann").value
    {'seen': 1, 'cart': ['tea']}
    >>> try:
    ...     client.get("sessions", "bob")
    ... except holdfast.RemoteError as error:
    ...     print(error.short, error.parameters["key"])
    NoSuchKey bob
    >>> client.close()
    >>> daemon.stop()                                   # its exit status
    0

Values are what the module json makes of them; Raw gives and takes their text, token for token. What the methods mean, and
which errors they answer, is told by the interface io.holdfast (`holdfastctl introspect`).

Errors: RemoteError is what the daemon answered; ConnectionLost, ProtocolError and TimeoutError are about the connection, and
a call that ended so may have been carried out all the same. A client belongs to one thread at a time."""

import array
import collections
import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time

__all__ = ["Client", "ConnectionLost", "Daemon", "Entry", "Error", "Map", "MemoryRefused", "ProtocolError", "Raw",
           "RemoteError", "Changed", "connect", "default_path", "launch", "xxh3"]

INTERFACE = "io.holdfast"
MESSAGE_MAX = 16 << 20
DESCRIPTORS_MAX = 16
SYSTEM_SOCKET = "/run/holdfast/holdfast.sock"


class Error(Exception):
    """Whatever this module raises of its own."""


class RemoteError(Error):
    """The daemon answered an error. name: in full; short: its last part; parameters: a dictionary."""

    def __init__(self, name, parameters):
        super().__init__(f"{name} {json.dumps(parameters)}")
        self.name = name
        self.short = name.rpartition(".")[2]
        self.parameters = parameters


class ConnectionLost(Error):
    """The connection ended. The next call connects anew."""


class ProtocolError(Error):
    """What the daemon sent makes no sense; the connection is closed."""


class MemoryRefused(Error):
    """What was handed over is not the memory of an arena that a reader may rely on."""


class Changed(Error):
    """The arena changed while it was iterated over."""


class Raw(str):
    """The text of a JSON value: to be put as it is, or, where raw=True was asked for, as the daemon keeps it."""


Entry = collections.namedtuple("Entry", "key value revision")
Entry.__doc__ = "An entry, or what an update left of one; value is None where only keys were asked for."


def default_path():
    """The socket that connect() uses: the user's own where there is one and the caller is not root, else the system's."""
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() != 0 and directory.startswith("/"):
        own = os.path.join(directory, "holdfast.sock")
        if os.path.exists(own):
            return own
    return SYSTEM_SOCKET


def connect(path=None, timeout=None):
    """Connects to the daemon. timeout: seconds that a call waits for the next part of its reply; None: for ever."""
    client = Client(path or default_path(), timeout)
    client._connect()
    return client


# --- JSON. The standard module has no way to write or to read a value as text; so texts are put in for marks.

def _dump(value):
    """A value as text: a Raw as it is, once it is known to be one JSON value."""
    if isinstance(value, Raw):
        json.loads(value)
        if "\0" in value:
            raise ValueError("a NUL in a JSON text")
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _dump_object(members):
    """An object of members that are not None, each written by _dump, or a list of objects that are dictionaries of them."""
    parts = []
    for name, value in members.items():
        if value is None:
            continue
        if isinstance(value, _Json):
            text = value.text
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[" + ",".join(_dump_object(item) for item in value) + "]"
        else:
            text = _dump(value)
        parts.append(f"{_dump(name)}:{text}")
    return "{" + ",".join(parts) + "}"


class _Json:
    """A value of the caller's: None means null, and not that it is left out."""

    def __init__(self, value):
        self.text = _dump(value)


_decoder = json.JSONDecoder()
_SPACE = " \t\n\r"


def _skip(text, at):
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _raw_members(text):
    """The members of an object, as texts. The text is known to be one JSON value."""
    members = {}
    at = _skip(text, 0)
    if text[at] != "{":
        raise ValueError("no object")
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = _decoder.raw_decode(text, at)
        members[name] = text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _raw_items(text):
    items = []
    at = _skip(text, 1)
    while text[at] != "]":
        _, end = _decoder.raw_decode(text, at)
        items.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return items


# --- the connection

class _Connection:
    """One socket: sends calls, receives replies, keeps the descriptors that come along. What is received has limits."""

    def __init__(self, path, timeout):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.input = bytearray()
        self.searched = 0
        self.descriptors = []
        try:
            self.socket.connect(path)  # waits where the backlog is full
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(timeout)

    def close(self):
        self.socket.close()
        while self.descriptors:
            os.close(self.descriptors.pop())

    def send(self, message):
        self.socket.sendall(message)

    def receive(self):
        """The next message, without its end."""
        while True:
            end = self.input.find(0, self.searched)
            if end >= 0:
                message = bytes(self.input[:end])
                del self.input[:end + 1]
                self.searched = 0
                return message
            self.searched = len(self.input)
            if self.searched > MESSAGE_MAX:
                raise ProtocolError(f"a message of more than {MESSAGE_MAX} bytes")
            self._fill()

    def _fill(self):
        size = array.array("i").itemsize
        data, ancillary, flags, _ = self.socket.recvmsg(256 * 1024, socket.CMSG_SPACE(DESCRIPTORS_MAX * size),
                                                        socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(content[:len(content) // size * size])
                self.descriptors.extend(found)
        if flags & socket.MSG_CTRUNC or len(self.descriptors) > DESCRIPTORS_MAX:
            raise ProtocolError("too many file descriptors")
        if not data:
            raise ConnectionLost("the daemon closed the connection")
        self.input += data

    def alive(self):
        """False once the daemon has closed it, or is gone."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        try:
            return not poll.poll(0) or self.socket.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False


def _parse_reply(message):
    """The text of a reply's parameters, and whether more follow."""
    try:
        text = message.decode()
        reply = json.loads(text)
        members = _raw_members(text)
        parameters = members.get("parameters", "{}")
        error = reply.get("error")
        if not isinstance(reply.get("parameters", {}), dict) or not isinstance(error, (str, type(None))):
            raise ValueError("no reply")
    except (ValueError, IndexError, RecursionError, AttributeError) as problem:
        raise ProtocolError(f"a reply that makes no sense: {message[:200]!r}") from problem
    if error is not None:
        raise RemoteError(error, reply.get("parameters", {}))
    return parameters, reply.get("continues") is True


class _Reply:
    """The parameters of a reply, checked as they are asked for."""

    def __init__(self, text):
        self.text = text

    def members(self):
        return json.loads(self.text)

    def member(self, name, kind):
        value = self.members().get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ProtocolError(f"a reply without {name}: {self.text[:200]}")
        return value

    def value(self, raw):
        if raw:
            return Raw(_raw_members(self.text).get("value", "null"))
        return self.members().get("value")

    def entries(self, raw, values=True):
        found = []
        members = _raw_members(self.text)
        for text in _raw_items(members["entries"]) if self.member("entries", list) else []:
            reply = _Reply(text)
            found.append(Entry(reply.member("key", str), reply.value(raw) if values else None,
                               reply.member("revision", int)))
        return found


class Client:
    """Calls to one daemon. In a `with` block it is closed at the end."""

    def __init__(self, path, timeout=None):
        self.path = path
        self.timeout = timeout
        self._connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection; another call would connect anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self):
        if self._connection is None or not self._connection.alive():
            self.close()
            self._connection = _Connection(self.path, self.timeout)
        return self._connection

    def _exchange(self, action):
        """Does something with the connection, which an error of its own leaves in no known state: it is closed then."""
        try:
            return action()
        except RemoteError:
            raise
        except BaseException as problem:
            self.close()
            if isinstance(problem, OSError) and not isinstance(problem, TimeoutError):
                raise ConnectionLost(str(problem)) from problem
            raise

    def _send(self, method, members, more=False):
        text = _dump_object({"method": method if "." in method else f"{INTERFACE}.{method}", "more": more or None,
                             "parameters": _Text(_dump_object(members))})
        message = text.encode() + b"\0"
        if len(message) > MESSAGE_MAX:
            raise ValueError(f"a call of {len(message)} bytes")
        connection = self._connect()
        self._exchange(lambda: connection.send(message))
        return connection

    def _receive(self, connection, descriptors=0):
        def action():
            parameters, continues = _parse_reply(connection.receive())
            if len(connection.descriptors) != descriptors:
                raise ProtocolError(f"{len(connection.descriptors)} file descriptors beside a reply")
            return _Reply(parameters), continues
        return self._exchange(action)

    def _call(self, method, descriptors=0, **members):
        connection = self._send(method, members)
        reply, continues = self._receive(connection, descriptors)
        if continues:
            self.close()
            raise ProtocolError("a reply continues where one was asked for")
        return reply

    def _stream(self, method, **members):
        """Yields the replies. Left before its end, the connection is closed: there is no way to stop the daemon."""
        connection = self._send(method, members, more=True)
        continues = True
        try:
            while continues:
                reply, continues = self._receive(connection)
                yield reply
        except RemoteError:
            continues = False
            raise
        finally:
            if continues:
                self.close()

    def call(self, method, **parameters):
        """Any method; one of io.holdfast where there is no dot in its name. Parameters that are None are left out.
        Returns the reply's parameters."""
        return self._call(method, **parameters).members()

    def stream(self, method, **parameters):
        """The same with "more": yields the parameters of each reply. Make no other call before its end."""
        for reply in self._stream(method, **parameters):
            yield reply.members()

    # Arenas

    def create_arena(self, name, max_bytes=None, mode=None, gid=None):
        return self._call("CreateArena", name=name, maxBytes=max_bytes, mode=mode, gid=gid).member("arena", dict)

    def change_arena(self, name, max_bytes=None, mode=None, gid=None):
        return self._call("ChangeArena", name=name, maxBytes=max_bytes, mode=mode, gid=gid).member("arena", dict)

    def drop_arena(self, name):
        self._call("DropArena", name=name)

    def list_arenas(self):
        return self._call("ListArenas").member("arenas", list)

    def open_arena(self, name):
        """A read-only file descriptor of the arena's memory, the caller's to close, and the arena."""
        reply = self._call("OpenArena", 1, name=name)
        arena = reply.member("arena", dict)
        if reply.member("fileDescriptor", int) != 0:
            self.close()
            raise ProtocolError("a file descriptor of another index")
        return self._connection.descriptors.pop(), arena

    def open_map(self, name):
        """Maps the arena's memory for reading: a Map, with a connection of its own."""
        return Map(self.path, name, self.timeout)

    # State. value, patch: anything that json can dump, or Raw; if_revision: 0 = only if there is no such entry.

    def put(self, arena, key, value, if_revision=None):
        """Returns the revision."""
        return self._call("Put", arena=arena, key=key, value=_Json(value), ifRevision=if_revision).member("revision", int)

    def get(self, arena, key, raw=False):
        reply = self._call("Get", arena=arena, key=key)
        return Entry(key, reply.value(raw), reply.member("revision", int))

    def get_many(self, arena, keys, raw=False):
        """The entries there are, all of one state, and the arena's revision."""
        reply = self._call("GetMany", arena=arena, keys=list(keys))
        return reply.entries(raw), reply.member("revision", int)

    def delete(self, arena, key, if_revision=None):
        return self._call("Delete", arena=arena, key=key, ifRevision=if_revision).member("revision", int)

    def merge(self, arena, key, patch, if_revision=None, raw=False):
        """RFC 7396; the entry as it is now."""
        reply = self._call("Merge", arena=arena, key=key, patch=_Json(patch), ifRevision=if_revision)
        return Entry(key, reply.value(raw), reply.member("revision", int))

    def increment(self, arena, key, by=1, if_revision=None):
        reply = self._call("Increment", arena=arena, key=key, by=by, ifRevision=if_revision)
        return Entry(key, reply.member("value", int), reply.member("revision", int))

    def apply(self, arena, operations):
        """operations: dictionaries with op, key, and value, by or ifRevision. All of them or none; the revision."""
        operations = [{name: _Json(value) if name == "value" else value for name, value in operation.items()}
                      for operation in operations]
        return self._call("Apply", arena=arena, operations=operations).member("revision", int)

    def list(self, arena, prefix=None, cursor=None, limit=None, values=True, raw=False):
        """One page, and the cursor of the next one, or None."""
        reply = self._call("List", arena=arena, prefix=prefix, cursor=cursor, limit=limit, values=None if values else False)
        return reply.entries(raw, values), reply.members().get("next")

    def list_all(self, arena, prefix=None, values=True, raw=False):
        """Yields all entries. Make no other call before its end."""
        for reply in self._stream("List", arena=arena, prefix=prefix, values=None if values else False):
            yield from reply.entries(raw, values)

    # Checkpoints

    def take_checkpoint(self, arenas=None, label=None, wait=True, progress=None):
        """progress: called with the checkpoint as it goes on."""
        if not wait:
            return self._call("TakeCheckpoint", arenas=arenas, label=label, wait=False).member("checkpoint", dict)
        return self._follow("TakeCheckpoint", progress, arenas=arenas, label=label)

    def _follow(self, method, progress, **members):
        checkpoint = None
        for reply in self._stream(method, **members):
            checkpoint = reply.member("checkpoint", dict)
            if progress is not None:
                progress(checkpoint)
        return checkpoint

    def list_checkpoints(self):
        return self._call("ListCheckpoints").member("checkpoints", list)

    def cancel_checkpoint(self, checkpoint):
        self._call("CancelCheckpoint", id=checkpoint)

    def delete_checkpoint(self, checkpoint):
        self._call("DeleteCheckpoint", id=checkpoint)

    def verify_checkpoint(self, checkpoint, progress=None):
        return self._follow("VerifyCheckpoint", progress, id=checkpoint)

    # The service

    def get_status(self):
        return self._call("GetStatus").member("status", dict)

    def get_metrics(self):
        """OpenMetrics text."""
        return self._call("GetMetrics").member("text", str)

    def reload(self):
        return self._call("Reload").member("ignored", list)


class _Text(_Json):
    def __init__(self, text):  # pylint: disable=super-init-not-called
        self.text = text


# --- a daemon of the program's own

# What a service manager set for this program and not for the daemon.
_FOREIGN = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM",
            "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY")


def launch(directory, options=(), program=None, log=None, deadline=600):
    """Starts a holdfastd that keeps its state in the directory and listens on holdfast.sock in it, and returns when it
    serves: after its recovery. It ends with this program, however that ends (or with the thread that launched it).

    options: for --option=, such as "Journal.Sync=never"; program: $HOLDFASTD, else holdfastd on the PATH; log: a file, or
    a descriptor; deadline: seconds."""
    program = program or os.environ.get("HOLDFASTD") or shutil.which("holdfastd")
    if not program:
        raise FileNotFoundError(errno.ENOENT, "there is no holdfastd on the PATH, and HOLDFASTD names none")
    directory = os.path.abspath(directory)
    os.makedirs(directory, 0o700, exist_ok=True)
    return Daemon(program, directory, options, log, deadline)


class Daemon:
    """A launched daemon; launch() makes it. In a `with` block it is stopped at the end."""

    def __init__(self, program, directory, options, log, deadline):
        self.socket = os.path.join(directory, "holdfast.sock")
        if len(os.fsencode(self.socket)) > 107:
            raise ValueError(f"{self.socket} is too long for a socket's path")
        environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        libc = ctypes.CDLL(None, use_errno=True)
        parent = os.getpid()

        def before_exec():
            libc.prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)

        self.process = subprocess.Popen(
            [program, "--config=/dev/null", f"--state-directory={directory}", f"--socket={self.socket}",
             "--option=Server.SocketMode=0600"] + [f"--option={option}" for option in options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=environment, process_group=0,
            preexec_fn=before_exec)
        try:
            self._wait_ready(deadline)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _wait_ready(self, deadline):
        """It opens its socket when its recovery is through. The socket must be this daemon's, and not another's that has
        the directory already: the kernel tells who listens."""
        end = time.monotonic() + deadline
        while not self._listens():
            if self.process.poll() is not None:
                raise Error(f"holdfastd ended with {self.process.returncode}")
            if time.monotonic() > end:
                raise TimeoutError("holdfastd does not serve yet")
            time.sleep(0.005)

    def _listens(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            try:
                probe.connect(self.socket)
                peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            except OSError:
                return False
        return struct.unpack("iII", peer)[0] == self.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def connect(self, timeout=None):
        return connect(self.socket, timeout)

    def stop(self, seconds=60):
        """SIGTERM, and SIGKILL where that takes too long; nothing is lost then either. Returns the status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        return self.process.returncode


# --- the hash of the index: XXH3 with a seed, 64 bits, as libxxhash's XXH3_64bits_withSeed

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b808"
    "4674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763f"
    "e39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0"
    "da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
_MASK = (1 << 64) - 1
_PRIME32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_PRIME64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_STRIPE = 64
_BLOCK_STRIPES = (len(_SECRET) - _STRIPE) // 8


def _u64(data, at):
    return int.from_bytes(data[at:at + 8], "little")


def _u32(data, at):
    return int.from_bytes(data[at:at + 4], "little")


def _swap64(value):
    return int.from_bytes(value.to_bytes(8, "little"), "big")


def _rotate(value, bits):
    return (value << bits | value >> 64 - bits) & _MASK


def _fold(a, b):
    product = a * b
    return product >> 64 ^ product & _MASK


def _avalanche64(value):
    value = (value ^ value >> 33) * _PRIME64[1] & _MASK
    value = (value ^ value >> 29) * _PRIME64[2] & _MASK
    return value ^ value >> 32


def _avalanche(value):
    value = (value ^ value >> 37) * 0x165667919E3779F9 & _MASK
    return value ^ value >> 32


def _mix(data, at, secret_at, seed):
    return _fold(_u64(data, at) ^ _u64(_SECRET, secret_at) + seed & _MASK,
                 _u64(data, at + 8) ^ _u64(_SECRET, secret_at + 8) - seed & _MASK)


def _hash_1_to_3(data, seed):
    size = len(data)
    combined = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
    return _avalanche64(combined ^ (_u32(_SECRET, 0) ^ _u32(_SECRET, 4)) + seed & _MASK)


def _hash_4_to_8(data, seed):
    size = len(data)
    seed ^= int.from_bytes((seed & 0xffffffff).to_bytes(4, "little"), "big") << 32
    value = _u32(data, size - 4) + (_u32(data, 0) << 32) ^ (_u64(_SECRET, 8) ^ _u64(_SECRET, 16)) - seed & _MASK
    value ^= _rotate(value, 49) ^ _rotate(value, 24)
    value = value * 0x9FB21C651E98DF25 & _MASK
    value ^= (value >> 35) + size
    value = value * 0x9FB21C651E98DF25 & _MASK
    return value ^ value >> 28


def _hash_9_to_16(data, seed):
    size = len(data)
    low = _u64(data, 0) ^ (_u64(_SECRET, 24) ^ _u64(_SECRET, 32)) + seed & _MASK
    high = _u64(data, size - 8) ^ (_u64(_SECRET, 40) ^ _u64(_SECRET, 48)) - seed & _MASK
    return _avalanche(size + _swap64(low) + high + _fold(low, high) & _MASK)


def _hash_17_to_128(data, seed):
    size = len(data)
    value = size * _PRIME64[0]
    for i in range((size - 1) // 32, -1, -1):
        value += _mix(data, 16 * i, 32 * i, seed) + _mix(data, size - 16 * (i + 1), 32 * i + 16, seed)
    return _avalanche(value & _MASK)


def _hash_129_to_240(data, seed):
    size = len(data)
    value = size * _PRIME64[0]
    for i in range(8):
        value += _mix(data, 16 * i, 16 * i, seed)
    value = _avalanche(value & _MASK)
    for i in range(8, size // 16):
        value += _mix(data, 16 * i, 16 * (i - 8) + 3, seed)
    return _avalanche(value + _mix(data, size - 16, 136 - 17, seed) & _MASK)


def _accumulate(lanes, data, at, secret, secret_at):
    values = struct.unpack_from("<8Q", data, at)
    keys = struct.unpack_from("<8Q", secret, secret_at)
    for i in range(8):
        key = values[i] ^ keys[i]
        lanes[i ^ 1] += values[i]
        lanes[i] += (key & 0xffffffff) * (key >> 32)
    lanes[:] = [lane & _MASK for lane in lanes]


def _hash_long(data, seed):
    size = len(data)
    secret = b"".join((_u64(_SECRET, i) + (seed if i % 16 == 0 else -seed) & _MASK).to_bytes(8, "little")
                      for i in range(0, len(_SECRET), 8))
    lanes = [_PRIME32[2], _PRIME64[0], _PRIME64[1], _PRIME64[2], _PRIME64[3], _PRIME32[1], _PRIME64[4], _PRIME32[0]]
    for stripe in range((size - 1) // _STRIPE):
        place = stripe % _BLOCK_STRIPES
        _accumulate(lanes, data, stripe * _STRIPE, secret, place * 8)
        if place == _BLOCK_STRIPES - 1 and (stripe + 1) * _STRIPE < size:
            for i, key in enumerate(struct.unpack_from("<8Q", secret, len(secret) - _STRIPE)):
                lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ key) * _PRIME32[0] & _MASK
    _accumulate(lanes, data, size - _STRIPE, secret, len(secret) - _STRIPE - 7)
    value = size * _PRIME64[0]
    for i in range(4):
        value += _fold(lanes[2 * i] ^ _u64(secret, 11 + 16 * i), lanes[2 * i + 1] ^ _u64(secret, 19 + 16 * i))
    return _avalanche(value & _MASK)


def xxh3(data, seed=0):
    """XXH3_64bits_withSeed."""
    size = len(data)
    if size > 240:
        return _hash_long(data, seed)
    if size > 128:
        return _hash_129_to_240(data, seed)
    if size > 16:
        return _hash_17_to_128(data, seed)
    if size > 8:
        return _hash_9_to_16(data, seed)
    if size > 3:
        return _hash_4_to_8(data, seed)
    if size > 0:
        return _hash_1_to_3(data, seed)
    return _avalanche64(seed ^ _u64(_SECRET, 56) ^ _u64(_SECRET, 64))


# --- reading an arena's memory. The layout, and what a reader must do, is told by include/holdfast/layout.h. The memory is
# neither trusted nor at rest: every offset is checked against the file's size, which never shrinks (the seal says so),
# every loop has a bound, and what was read counts only if the checks after it hold. Words are read whole, and an x86-64
# keeps reads in their order; elsewhere there is no map.

_PAGE = 4096
_KEY_MAX = 1024
_VALUE_MAX = 8 << 20
_NAME = slice(88, 160)
_STATE, _SEED, _GENERATION, _CHANGES, _ABORTS = 12, 48, 64, 256, 264
_REVISION, _BUCKETS, _DIRECTORIES = 320, 344, 512
_BUCKETS_MAX = 1 << 28
_CHAIN_MAX = 19  # buckets of 7 slots for 128 entries
_SLOT_ENTRY = (1 << 40) - 1
_LIVE = 1
_TRIES = 64
_LOOK_SECONDS = 0.05  # how often the connection is looked at
_F_GET_SEALS, _SEALS = 1034, 0x1 | 0x2  # F_SEAL_SEAL, F_SEAL_SHRINK
_SYS_FUTEX = 202


class _Torn(Exception):
    """What was read cannot be relied on, or the memory is damaged: try again, and at last ask the daemon."""


class _Memory:
    """One mapping. Unmapped with close(), or when nobody refers to it."""

    def __init__(self, descriptor, name):
        self.descriptor = descriptor
        self.size = 0
        self.address = None
        try:
            try:
                seals = fcntl.fcntl(descriptor, _F_GET_SEALS)
            except OSError:
                seals = 0
            if seals & _SEALS != _SEALS:
                raise MemoryRefused("it is not sealed against shrinking")
            self._map()
            self._check_header(name)
        except BaseException:
            self.close()
            raise

    def __del__(self):
        self.close()

    def close(self):
        self._unmap()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _unmap(self):
        if self.address is not None:
            for view in (self.words, self.halves, self.bytes):
                view.release()
            _libc().munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size))
            self.address = None

    def _map(self):
        size = os.fstat(self.descriptor).st_size // _PAGE * _PAGE
        if size < _PAGE:
            raise MemoryRefused("it is too short")
        address = _libc().mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, self.descriptor,
                               ctypes.c_long(0))
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mapping an arena")
        self._unmap()
        self.address, self.size = address, size
        self.bytes = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B").toreadonly()
        self.words = self.bytes.cast("Q")
        self.halves = self.bytes.cast("I")

    def grown(self):
        """Maps again where the file has grown; True then."""
        if os.fstat(self.descriptor).st_size // _PAGE * _PAGE <= self.size:
            return False
        self._map()
        return True

    def _check_header(self, name):
        if bytes(self.bytes[:8]) != b"HFARENA\0":
            raise MemoryRefused("no magic")
        if self.halves[2] != 1 or self.words[3] != 0:
            raise MemoryRefused("a layout that this reader does not know")
        found = bytes(self.bytes[_NAME]).partition(b"\0")[0]
        if found != name.encode():
            raise MemoryRefused(f"it is another arena: {found!r}")
        self.seed = self.words[_SEED // 8]
        self.generation = self.words[_GENERATION // 8]

    def current(self):
        return self.halves[_STATE // 4] == _LIVE and self.words[_GENERATION // 8] == self.generation

    def changes(self):
        return self.words[_CHANGES // 8]

    def still(self):
        """The change counter, of memory at rest."""
        changes = self.changes()
        if changes % 2:
            raise _Torn
        return changes

    def _check(self, offset, length):
        if offset + length > self.size:
            raise _Torn

    def buckets(self):
        count = self.words[_BUCKETS // 8]
        if not 0 < count <= _BUCKETS_MAX:
            raise _Torn
        return count

    def chain(self, number):
        """Yields the slots of a bucket's chain, with where they lie."""
        segment = number // 1024
        page = self.halves[_DIRECTORIES // 4 + segment // 1024]
        offset = page * _PAGE + segment % 1024 * 4
        self._check(offset, 4)
        page = self.halves[offset // 4] if page else 0
        offset = page * _PAGE + number % 1024 * 64
        if not page:
            raise _Torn
        for _ in range(_CHAIN_MAX):
            self._check(offset, 64)
            for at in range(offset, offset + 56, 8):
                slot = self.words[at // 8]
                if not slot:
                    return
                yield at, slot
            offset = self.words[offset // 8 + 7]
            if not offset:
                return
            if offset % 64:
                break
        raise _Torn

    def entry(self, at, slot):
        """The entry that the slot leads to: key, value and revision, whole."""
        aborts = self.words[_ABORTS // 8]
        offset = (slot & _SLOT_ENTRY) * 8
        self._check(offset, 16)
        revision = self.words[offset // 8]
        sizes = self.words[offset // 8 + 1]
        key_bytes, value_bytes = sizes >> 32 & 0xffff, sizes & 0xffffffff
        if not revision or not 0 < key_bytes <= _KEY_MAX or not 0 < value_bytes <= _VALUE_MAX:
            raise _Torn
        self._check(offset, 16 + key_bytes + value_bytes)
        middle = offset + 16 + key_bytes
        key, value = bytes(self.bytes[offset + 16:middle]), bytes(self.bytes[middle:middle + value_bytes])
        if self.words[offset // 8] != revision or self.words[at // 8] != slot or self.words[_ABORTS // 8] != aborts:
            raise _Torn
        return key, value, revision

    def find(self, key):
        """(value, revision), or None where there is no such entry, which only memory at rest can tell."""
        changes = self.changes()
        hashed = xxh3(key, self.seed)
        count = self.buckets()
        level = count.bit_length() - 1
        number = hashed & (2 << level) - 1
        if number >= count:
            number = hashed & (1 << level) - 1
        tag = hashed >> 6 & 0xffffff
        for at, slot in self.chain(number):
            if slot >> 40 != tag:
                continue
            found, value, revision = self.entry(at, slot)
            if found == key:
                return value, revision
        if changes % 2 or self.changes() != changes:
            raise _Torn
        return None

    def sleep(self, changes, seconds):
        """Until the low half of the change counter is another one, at most so long."""
        nanoseconds = int(seconds * 1e9)
        timeout = (ctypes.c_long * 2)(nanoseconds // 10**9, nanoseconds % 10**9)
        _libc().syscall(ctypes.c_long(_SYS_FUTEX), ctypes.c_void_p(self.address + _CHANGES), ctypes.c_long(0),
                        ctypes.c_uint(changes & 0xffffffff), timeout, None, ctypes.c_long(0))


def _libc():
    if not hasattr(_libc, "library"):
        _libc.library = ctypes.CDLL(None, use_errno=True)
        _libc.library.mmap.restype = ctypes.c_void_p
    return _libc.library


class Map:
    """Reads an arena from the daemon's memory; open_map() makes it. What it reads is never torn. It follows the arena when it
    grows, when the daemon restarts, when an arena of that name is made anew; while there is no daemon its reads raise
    ConnectionLost or what connecting raises, 50 ms after the daemon went at most. It belongs to one thread at a time."""

    def __init__(self, path, name, timeout=None):
        if os.uname().machine != "x86_64":
            raise MemoryRefused("an arena's memory is read on x86-64 only")
        self.name = name
        self._client = Client(path, timeout)
        self._memory = None
        self._closed = False
        self._looked = 0.0
        self._current()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._closed = True
        self._forget()
        self._client.close()

    def _forget(self):
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _current(self):
        if self._closed:
            raise ValueError("the map is closed")
        now = time.monotonic()
        if self._memory is not None and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            connection = self._client._connection
            if connection is None or not connection.alive():
                self._forget()
        if self._memory is not None and not self._memory.current():
            self._forget()
        if self._memory is None:
            descriptor, _ = self._client.open_arena(self.name)
            self._memory = _Memory(descriptor, self.name)
            self._looked = now
        return self._memory

    def _try(self, read, otherwise):
        for _ in range(_TRIES):
            memory = self._current()
            try:
                return read(memory)
            except _Torn:
                memory.grown()
        return otherwise()

    def get(self, key, raw=False):
        """An Entry; RemoteError NoSuchKey where there is none, as the daemon would answer."""
        text = _check_key(key)
        found = self._try(lambda memory: memory.find(text), lambda: self._asked([key]).get(key))
        if found is None:
            raise RemoteError(f"{INTERFACE}.NoSuchKey", {"arena": self.name, "key": key})
        return Entry(key, _value(found[0], raw), found[1])

    def _asked(self, keys):
        entries, _ = self._client.get_many(self.name, keys, raw=True)
        return {entry.key: (entry.value.encode(), entry.revision) for entry in entries}

    def get_many(self, keys, raw=False):
        """The entries there are, all of one state, and the arena's revision."""
        texts = [(key, _check_key(key)) for key in keys]

        def read(memory):
            changes = memory.still()
            revision = memory.words[_REVISION // 8]
            found = [(key, memory.find(text)) for key, text in texts]
            if memory.changes() != changes:
                raise _Torn
            return [Entry(key, _value(entry[0], raw), entry[1]) for key, entry in found if entry], revision

        return self._try(read, lambda: self._client.get_many(self.name, keys, raw))

    def entries(self, raw=False):
        """Yields all entries, in no order, all of one state; Changed where the arena changes before the end."""
        def begin(memory):
            return memory, memory.still(), memory.buckets()

        def give_up():
            raise Changed("the arena does not stand still")

        memory, changes, count = self._try(begin, give_up)
        try:
            for number in range(count):
                found = [memory.entry(at, slot) for at, slot in memory.chain(number)]
                if memory.changes() != changes:
                    raise _Torn
                for key, value, revision in found:
                    yield Entry(_text(key), _value(value, raw), revision)
                if memory is not self._memory:
                    raise _Torn
            if memory.changes() != changes or self._current() is not memory:
                raise _Torn
        except (_Torn, ValueError) as problem:  # ValueError: unmapped between two entries
            if isinstance(problem, ValueError) and memory.address is not None:
                raise
            if memory.address is not None:
                memory.grown()
            raise Changed("the arena changed meanwhile") from None

    def revision(self):
        """The arena's: that of its last update."""
        return self.get_many([])[1]

    def wait(self, revision, timeout=None):
        """The arena's revision as soon as it is another than that one. TimeoutError after so many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            memory = self._current()
            changes = memory.changes()
            now = memory.words[_REVISION // 8]
            if changes % 2 == 0 and now != revision and memory.changes() == changes:
                return now
            left = 0.1 if end is None else min(0.1, end - time.monotonic())
            if left <= 0:
                raise TimeoutError("the arena did not change")
            memory.sleep(changes, left)


def _check_key(key):
    text = key.encode()
    if not 0 < len(text) <= _KEY_MAX:
        raise ValueError(f"a key of {len(text)} bytes")
    return text


def _text(data):
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        raise ProtocolError("a key that is not UTF-8") from problem


def _value(data, raw):
    try:
        text = data.decode()
        return Raw(text) if raw else json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ProtocolError("a value that is no JSON") from problem
