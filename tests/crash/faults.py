"""Faults: the Nth call of open, write, fsync, malloc and so on fails, once or for good, for N = 1, 2, ... until a whole
scenario passes without reaching it. The scenario: a start from an image and a journal, updates of every kind, reads, a
checkpoint, an arena made and dropped, a stop. However that goes, the daemon does not crash or hang; a start that is
refused says why; what was acknowledged is there after the next start, what was refused is not, what was answered
NotDurable or not at all is there whole or not at all; no descriptor stays open; and updates are accepted again once the
fault is over.

Modes: "once" (and the stop meets it too), "good" (for good, until it is over; then all must heal), "kill" (for good,
and the process is killed in the middle of it).

HOLDFAST_FAULT_STRIDE: every how many-th N is tried; 1 is all. HOLDFAST_FAULT_OFFSET: where it begins.
HOLDFAST_FAULT_CALLS: only these, as "open,malloc"."""

import collections
import concurrent.futures
import copy
import os
import shutil
import signal
import socket
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import wide  # noqa: E402
from daemon import Daemon, DaemonEnded, VarlinkError, equal, eventually, run, test  # noqa: E402
from faults import CALLS, Fault, library  # noqa: E402

SANITIZED = os.environ.get("HOLDFAST_SANITIZED", "none") != "none"
STRIDE = int(os.environ.get("HOLDFAST_FAULT_STRIDE", "37" if SANITIZED else "11"))
OFFSET = int(os.environ.get("HOLDFAST_FAULT_OFFSET", "0"))
CHOSEN = os.environ.get("HOLDFAST_FAULT_CALLS", ",".join(CALLS)).split(",")
# Half a minute or more is what a daemon may take to see that things are well again (the next try of a checkpoint).
HEALS = 100
# An answer that takes longer waits for the end of the fault.
PATIENCE = 0.3
# So many connections may break before the fault is over: each leaves it open whether an update was made.
BROKEN_MAX = 6
# A start may be refused, and a stop may tell that not everything was durable: sysexits.h.
REFUSED = {os.EX_OSERR, os.EX_IOERR, os.EX_TEMPFAIL}
# How libraries end a process where there is no memory: glibc for the variables that a thread has in a library that it
# loads; a sanitizer for a thread that begins.
LIBRARY_ABORTS = ("cannot allocate memory for thread-local data: ABORT\n", "CHECK failed: sanitizer_linux_libcdep.cpp")
MODES = ("once", "good", "kill")
OPTIONS = ["Journal.SegmentBytesMax=1M", "Checkpoint.CaptureBytesMax=64K", "Checkpoint.IntervalSec=0",
           "Checkpoint.AtStop=no", "Arenas.ArenaBytesMax=128M"]

# What each call may fail with, and in which modes: an interrupted or a short call is no fault for good.
ERRORS = {
    "open": {"EMFILE": MODES, "EIO": ("once", "good"), "EACCES": ("once",)},
    "read": {"EIO": MODES, "short": ("once",), "EINTR": ("once",)},
    "pread": {"EIO": MODES, "short": ("once", "good"), "EINTR": ("once",)},
    "write": {"EIO": MODES, "short": ("once", "good"), "EAGAIN": ("once",)},
    "pwrite": {"ENOSPC": MODES, "EIO": MODES, "short": ("once", "good"), "EINTR": ("once",)},
    "fsync": {"EIO": MODES, "ENOSPC": ("once",)},
    "fdatasync": {"EIO": MODES, "ENOSPC": ("once",)},
    "rename": {"EIO": MODES, "ENOSPC": ("once", "good")},
    "link": {"EIO": MODES},
    "unlink": {"EIO": MODES},
    "mkdir": {"ENOSPC": MODES},
    "ftruncate": {"ENOMEM": MODES, "ENOSPC": ("once", "good")},
    "fallocate": {"ENOSPC": MODES},
    "mmap": {"ENOMEM": MODES},
    "memfd_create": {"EMFILE": MODES, "ENOMEM": ("once",)},
    "fork": {"EAGAIN": MODES, "ENOMEM": ("once",)},
    "pipe": {"EMFILE": MODES},
    "accept": {"EMFILE": MODES, "EAGAIN": ("once",), "ENOMEM": ("once",)},
    "recv": {"EAGAIN": ("once",), "short": ("once", "good"), "ENOMEM": ("once",)},
    "send": {"EAGAIN": ("once",), "short": ("once", "good"), "ENOMEM": ("once",)},
    "malloc": {"ENOMEM": MODES},
    "aio": {"EAGAIN": MODES, "EINTR": ("once",)},
}

ACKNOWLEDGED, REFUSAL, UNKNOWN = "acknowledged", "refused", "unknown"


class Worlds:
    """The states that may be there: {arena: {key: value}}. Every update whose fate is unknown doubles them."""

    def __init__(self, state):
        self.states = [state]

    def update(self, outcome, change):
        """change(state): makes the update; raises KeyError where it could not have been made."""
        if outcome == REFUSAL:
            return
        after = []
        for state in self.states:
            changed = copy.deepcopy(state)
            try:
                change(changed)
            except KeyError:
                if outcome == UNKNOWN:
                    after.append(state)
                continue  # acknowledged: so this was not the state
            after += [changed] if outcome == ACKNOWLEDGED else [changed, state]
        self.states = [state for i, state in enumerate(after) if state not in after[:i]]

    def check(self, found):
        if found not in self.states:
            expected = self.states[0] if len(self.states) == 1 else self.states
            raise AssertionError(f"the state is none of the {len(self.states)} it may be:\n{shorten(found)}\n"
                                 f"expected:\n{shorten(expected)}")


def shorten(value):
    if isinstance(value, dict):
        return {key: shorten(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shorten(member) for member in value]
    return f"{value[:5]}... ({len(value)})" if isinstance(value, str) and len(value) > 20 else value


def contents(client):
    """What a daemon without faults has."""
    found = {}
    for arena in client.call("ListArenas")["arenas"]:
        entries = {}
        for part in client.call_more("List", arena=arena["name"]):
            entries.update((entry["key"], entry["value"]) for entry in part["entries"])
        found[arena["name"]] = entries
    return found


class Caller:
    """A client that goes on whatever happens: a fault for good ends when the daemon waits for that."""

    def __init__(self, daemon, fault):
        self.daemon = daemon
        self.fault = fault
        self.client = None
        self.broken = 0

    def close(self):
        if self.client is not None:
            self.client.close()
            self.client = None

    def receive(self):
        """The reply. Not within the patience: the fault is over, and then it must come."""
        self.client.socket.settimeout(PATIENCE)
        try:
            return self.client.receive()
        except socket.timeout:
            self.fault.end()
        self.client.socket.settimeout(HEALS)
        try:
            return self.client.receive()
        except socket.timeout:
            raise AssertionError("the daemon hangs: no answer though the fault is over") from None

    def call(self, method, **parameters):
        """The outcome and the reply or error; a connection that breaks leaves it unknown."""
        try:
            if self.client is None:
                self.client = self.daemon.client()
            self.client.socket.settimeout(HEALS)
            self.client.send(method, parameters)
            return ACKNOWLEDGED, self.receive()
        except VarlinkError as error:
            return UNKNOWN if error.short == "NotDurable" else REFUSAL, error
        except (ConnectionError, EOFError) as error:
            self.close()
            self.broken += 1
            if self.broken == BROKEN_MAX:
                self.fault.end()
            if self.daemon.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.daemon.process.returncode}") from error
            return UNKNOWN, error


# The scenario: calls, and what each does to the state.

def put(key, value, arena="a"):
    def change(state):
        state[arena][key] = value
    return "Put", {"arena": arena, "key": key, "value": value}, change


def delete(key):
    def change(state):
        del state["a"][key]
    return "Delete", {"arena": "a", "key": key}, change


def merge(key, patch):
    def change(state):
        state["a"].setdefault(key, {})
        state["a"][key] = {**state["a"][key], **patch}
    return "Merge", {"arena": "a", "key": key, "patch": patch}, change


def increment(key, by):
    def change(state):
        state["a"][key] = state["a"].get(key, 0) + by
    return "Increment", {"arena": "a", "key": key, "by": by}, change


def apply(values):
    def change(state):
        state["a"].update(values)
    operations = [{"op": "put", "key": key, "value": value} for key, value in values.items()]
    return "Apply", {"arena": "a", "operations": operations}, change


def create(name):
    def change(state):
        if name in state:
            raise KeyError(name)
        state[name] = {}
    return "CreateArena", {"name": name}, change


def drop(name):
    def change(state):
        del state[name]
    return "DropArena", {"name": name}, change


def other(method, **parameters):
    return method, parameters, lambda state: None


SCENARIO = [
    put("new", [1, 2, {"x": "y"}]),
    put("old", "again"),
    delete("gone"),
    merge("document", {"b": 2}),
    increment("counter", 5),
    apply({f"many{i}": i for i in range(20)}),
    other("GetMany", arena="a", keys=["new", "old"]),
    create("c"),
    put("k", "v" * 300_000, arena="c"),
    other("TakeCheckpoint", label="one"),
    put("after", 1),
    put("large", "x" * 600_000),
    put("larger", "y" * 700_000),
    other("List", arena="a"),
    other("OpenArena", name="a"),
    put("k", "w" * 100_000, arena="c"),
    drop("c"),
    other("TakeCheckpoint"),
    other("ChangeArena", name="a", maxBytes=32 << 20),
    increment("counter", 1),
    create("d"),
    other("Reload"),
    put("last", True),
]


def directory():
    """Memory where there is a file system in it: hundreds of starts, and no disk that has to keep up."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Template:
    """A state directory with an image, a journal behind it, and what it holds."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="holdfast-faults-", dir=directory())
        daemon = Daemon(options=OPTIONS, directory=self.directory)
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            client.call("CreateArena", name="b", maxBytes=wide.MAX_BYTES)
            for method, fields, _ in wide.updates("b"):
                client.call(method, **fields)
            wide.wait_until_empty(daemon, client, "b")
            for key, value in {"old": "old", "gone": 1, "document": {"a": 1}, "counter": 1}.items():
                client.call("Put", arena="a", key=key, value=value)
            client.call("TakeCheckpoint")
            client.call("Put", arena="b", key="only in the journal", value=None)
            client.call("Increment", arena="a", key="counter", by=1)
            self.state = contents(client)
        daemon.kill()
        daemon.forget()

    def copy(self):
        to = tempfile.mkdtemp(prefix="holdfast-faults-", dir=directory())
        shutil.copytree(os.path.join(self.directory, "state"), os.path.join(to, "state"))
        return to

    def remove(self):
        shutil.rmtree(self.directory)


def descriptors(daemon, client):
    """What is open, without the two of each arena."""
    found = []
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{daemon.pid}/fd/{name}").split("/")[-1])
        except FileNotFoundError:
            pass
    for _ in client.call("ListArenas")["arenas"]:
        found.remove(next(name for name in found if name.startswith("memfd:holdfast-marks")))
        found.remove(next(name for name in found if name.startswith("memfd:") and "-capture" not in name and
                          "-control" not in name and "-marks" not in name))
    return found


class Result:
    def __init__(self):
        self.fired = False
        self.counts = {}
        self.descriptors = 0
        self.place = ""
        self.refused = False  # the start was
        self.healing = 0.0    # seconds until updates were accepted again
        self.seconds = 0.0


class Attempt:
    """One run of the scenario with one fault."""

    def __init__(self, template, text, mode, descriptors_most=None):
        self.result = Result()
        self.mode = mode
        self.most = descriptors_most
        self.worlds = Worlds(template.state)
        self.fault = Fault(text)
        self.directory = template.copy()
        self.daemon = Daemon(options=OPTIONS, directory=self.directory, environment=self.fault.environment, start=False)

    def run(self):
        begin = time.monotonic()
        try:
            self.fault.arm()
            if self.start():
                self.serve()
            self.result.fired = self.fault.fired > 0
            self.result.counts = {call: self.fault.count(call) for call in CALLS}
            self.result.place = self.fault.place(self.daemon.program)
            self.afterwards()
            if self.daemon.reported():
                raise AssertionError("a sanitizer reports")
            self.result.seconds = time.monotonic() - begin
            return self.result
        except Exception as error:
            place = self.fault.place(self.daemon.program)
            raise AssertionError(f"{self.fault.text} ({self.mode}): {error}\nfailed first in {place}\n"
                                 f"the log:\n{self.daemon.log()[-3000:]}") from error
        finally:
            self.daemon.forget()
            self.fault.__exit__()
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        """True when it serves. The wait for its socket ends a fault that keeps it from listening or accepting."""
        daemon = self.daemon
        daemon.launch()
        deadline = time.monotonic() + 60
        answered = time.monotonic() + 2
        while time.monotonic() < deadline:
            if daemon.process.poll() is not None:
                daemon.ended = True
                self.refuses()
                return False
            if time.monotonic() > answered:
                self.fault.end()
            try:
                with daemon.client(timeout=PATIENCE) as client:
                    client.call("org.varlink.service.GetInfo")
                return True
            except VarlinkError:
                return True  # it answers
            except (FileNotFoundError, ConnectionError, EOFError, socket.timeout):
                time.sleep(0.002)
        raise AssertionError("the daemon neither serves nor ends")

    def refuses(self):
        self.result.refused = True
        status = self.daemon.process.returncode
        if any(words in self.daemon.log() for words in LIBRARY_ABORTS):
            return
        # glibc's getgrnam() ends or crashes the process (nss_database.c) where it has no memory to begin with.
        if self.fault.call == "malloc" and self.fault.place(self.daemon.program).startswith("reload_group "):
            return
        if status not in REFUSED:
            raise AssertionError(f"the start ended with {status}")
        if self.fault.fired == 0:
            raise AssertionError("the start was refused for no reason")
        # Writing the log may be what fails.
        if not self.daemon.log() and self.fault.call != "write":
            raise AssertionError("the start was refused without a word")

    def serve(self):
        caller = Caller(self.daemon, self.fault)
        for method, parameters, change in SCENARIO:
            outcome, _ = caller.call(method, **parameters)
            self.worlds.update(outcome, change)
        if self.mode == "kill":
            caller.close()
            self.daemon.kill()
            return
        if self.mode == "good":
            self.fault.end()
        if self.fault.fired:
            self.heals(caller)
        caller.close()
        self.counts_descriptors()
        self.stop()

    def heals(self, caller):
        begin = time.monotonic()

        def accepted():
            outcome, _ = caller.call("Put", arena="a", key="healed", value=1)
            self.worlds.update(outcome, lambda state: state["a"].update(healed=1))
            return outcome == ACKNOWLEDGED

        eventually(accepted, "updates are accepted again", HEALS)
        self.result.healing = time.monotonic() - begin
        eventually(lambda: caller.call("TakeCheckpoint")[0] == ACKNOWLEDGED, "checkpoints are taken again", HEALS)
        outcome, reply = caller.call("GetStatus")
        equal(outcome, ACKNOWLEDGED)
        equal(reply["status"]["state"], "serving", "the state")

    def counts_descriptors(self):
        """Without faults meanwhile, and without counting: the next call that counts is one of the stop."""
        self.fault.disarm()
        self.compare_descriptors()
        self.fault.arm()

    def compare_descriptors(self):
        if self.most is None:
            # A next segment stands ready, and what was under way is through.
            time.sleep(0.3)
            self.result.descriptors = len(self.descriptors())
            return
        try:
            eventually(lambda: len(self.descriptors()) <= self.most, "no descriptor stays open", 10)
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(self.descriptors())}, {self.most} without a fault") from None

    def descriptors(self):
        with self.daemon.client() as client:
            return descriptors(self.daemon, client)

    def stop(self):
        fired = self.fault.fired
        self.daemon.signal(signal.SIGTERM)
        status = self.daemon.wait()
        if status != 0 and (status not in REFUSED or self.fault.fired == fired):
            raise AssertionError(f"the stop ended with {status}")

    def afterwards(self):
        """A start without faults has what it must have, heals what is left to heal, and stops."""
        daemon = Daemon(options=OPTIONS, directory=self.directory)
        try:
            with daemon.client() as client:
                self.worlds.check(contents(client))
                eventually(lambda: client.call("GetStatus")["status"]["state"] == "serving", "it serves", HEALS)
                client.call("Put", arena="a", key="afterwards", value=1)
            daemon.stop()
        except DaemonEnded as error:
            raise AssertionError(f"the next start: {error}") from error
        finally:
            daemon.forget()


def attempt(template, call, number, error, mode, most):
    text = f"{call}:{number}:{error}" + ("" if mode == "once" else ":forever")
    return Attempt(template, text, mode, most).run()


class Series:
    """One call, error and mode: N grows until the scenario passes without reaching it."""

    def __init__(self, template, call, error, mode, phase, most):
        self.parts = (template, call, error, mode, most)
        self.first = 1 + (OFFSET + phase) % STRIDE
        self.results = []
        self.failures = []

    def run(self):
        template, call, error, mode, most = self.parts
        number = self.first
        while len(self.failures) < 3:
            try:
                result = attempt(template, call, number, error, mode, most)
            except AssertionError as failure:
                self.failures.append(failure)
                print("\n".join(f"# {line}" for line in str(failure).splitlines()), flush=True)
            else:
                if not result.fired:
                    break
                self.results.append(result)
                if result.seconds > 10:
                    print(f"# {call}:{number}:{error} ({mode}) took {result.seconds:.0f} s, {result.healing:.0f} s "
                          f"until updates were accepted again: {result.place}", flush=True)
            number += STRIDE
        return self


@test("a call that fails")
def _():
    library()
    template = Template()
    plain = attempt(template, "fork", 1_000_000, "EAGAIN", "once", None)
    plans = [(call, error, mode) for call in CHOSEN for error, modes in ERRORS[call].items() for mode in modes]
    # The longest first, so that no worker is left alone with it.
    plans.sort(key=lambda plan: -plain.counts[plan[0]])
    most = plain.descriptors
    series = [Series(template, *plan, phase * 7, most) for phase, plan in enumerate(plans)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(Series.run, series))
    template.remove()
    results = [result for one in done for result in one.results]
    failures = [failure for one in done for failure in one.failures]
    calls = collections.Counter()
    for one in done:
        calls[one.parts[1]] += len(one.results)
    print(f"# {len(results)} faults at {len({result.place for result in results})} places, "
          f"{sum(result.refused for result in results)} starts refused, "
          f"longest until healed {max((result.healing for result in results), default=0):.1f} s")
    print("# calls of the scenario, and faults: " +
          ", ".join(f"{call} {plain.counts[call]} {calls[call]}" for call in CALLS))
    equal(len(failures), 0, "the number of attempts that went wrong")
    if not results:
        raise AssertionError("no fault was reached")


run()
