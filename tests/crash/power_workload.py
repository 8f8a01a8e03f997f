"""What the power-cut campaign records: clients with every kind of update, checkpoints, kills and restarts of one daemon
with Sync=always. Each update is noted with the positions in the record at which it was sent and answered."""

import atexit
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import traceback

import wide
from daemon import Daemon, VarlinkError
from updates import Deleted, Update, merged, number_gaps

LIBRARY = os.environ.get("HOLDFAST_RECORD_LIBRARY")
OPTIONS = ["Journal.Sync=always", "Journal.SegmentBytesMax=1M", "Checkpoint.Keep=2", "Checkpoint.IntervalSec=0",
           "Checkpoint.AtStop=no", "Checkpoint.CaptureBytesMax=256K"]
CLIENTS = 5
ROUNDS = 6
UPDATES_PER_ROUND = 60
SHARED = ("left", "right")
MAX_BYTES = 8 << 20
KILL = signal.SIGRTMIN + 5  # between two entries of the record


def scratch():
    """Where states are built: in memory, where there is room, since only the daemon's logic is looked at."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Worker:
    """A client with keys of its own, so that it knows what each of its updates gives."""

    def __init__(self, workload, number):
        self.workload = workload
        self.number = number
        self.dice = random.Random(f"{workload.seed} {number}")
        self.values = {name: {} for name in SHARED}
        self.serial = 0
        self.temporary = f"t{number}"
        self.in_temporary = False
        self.client = None
        self.pending = None

    def key(self):
        return f"{self.number}.{self.dice.randrange(12)}"

    def text(self):
        size = self.dice.choice((10, 100, 500, 3000)) if self.dice.random() < 0.97 else 60_000
        return f"{self.dice.random()}".ljust(size, "x")

    def document(self):
        return {"n": self.dice.randrange(1000), "inner": {"text": self.text(), "null": None}, "list": [1, 2.5, "x"]}

    def update(self, method, arena, changed, attributes=None, /, **fields):
        """One call, and its place in the order of things. changed: key -> value."""
        update = Update(self.workload.position(), method, arena, dict(changed), attributes)
        self.pending = update
        self.workload.updates.append(update)
        answer = self.client.call(method, fields)
        update.acknowledged = self.workload.position()
        self.pending = None
        if method in ("CreateArena", "DropArena"):
            self.workload.unnumbered.append(update)
            return
        update.revision = answer["arena"]["revision"] if "arena" in answer else answer["revision"]
        self.remember(update)

    def remember(self, update):
        if update.arena in self.values:
            for key, value in update.entries.items():
                self.values[update.arena][key] = value

    def value(self, arena, key):
        return self.values[arena].get(key, Deleted)

    # Every kind of update

    def put(self):
        arena, key, value = self.dice.choice(SHARED), self.key(), self.document()
        self.update("Put", arena, {key: value}, arena=arena, key=key, value=value)

    def delete(self):
        arena, key = self.dice.choice(SHARED), self.key()
        if self.value(arena, key) is Deleted:
            return self.put()
        return self.update("Delete", arena, {key: Deleted}, arena=arena, key=key)

    def merge(self):
        arena, key = self.dice.choice(SHARED), self.key()
        patch = {"merged": self.serial, "inner": {"text": None, "more": self.text()}, "n": None}
        before = self.value(arena, key)
        value = merged(None if before is Deleted else before, patch)
        self.update("Merge", arena, {key: value}, arena=arena, key=key, patch=patch)

    def increment(self):
        arena, key, by = self.dice.choice(SHARED), f"count.{self.number}", self.dice.randrange(1, 9)
        before = self.value(arena, key)
        value = by + (0 if before is Deleted else before)
        self.update("Increment", arena, {key: value}, arena=arena, key=key, by=by)

    def apply(self):
        arena = self.dice.choice(SHARED)
        operations, changed = [], {}
        for _ in range(self.dice.choice((2, 3, 12))):
            key = self.key()
            if changed.get(key, self.value(arena, key)) is not Deleted and self.dice.random() < 0.3:
                operations.append({"op": "delete", "key": key})
                changed[key] = Deleted
            else:
                changed[key] = self.document()
                operations.append({"op": "put", "key": key, "value": changed[key]})
        self.update("Apply", arena, changed, arena=arena, operations=operations)

    def arena(self):
        """Creates, fills, changes and drops an arena whose name comes again."""
        name = self.temporary
        if not self.in_temporary:
            with self.workload.unnumbered_lock:
                self.update("CreateArena", name, {}, {"maxBytes": MAX_BYTES, "mode": 0o600}, name=name,
                            maxBytes=MAX_BYTES)
            self.in_temporary = True
        elif self.dice.random() < 0.4:
            key, value = self.key(), self.document()
            self.update("Put", name, {key: value}, arena=name, key=key, value=value)
        elif self.dice.random() < 0.4:
            attributes = {"maxBytes": MAX_BYTES + 4096 * self.dice.randrange(64), "mode": 0o640}
            self.update("ChangeArena", name, {}, attributes, name=name, **attributes)
        else:
            with self.workload.unnumbered_lock:
                self.update("DropArena", name, {}, name=name)
            self.in_temporary = False

    def last_words(self):
        """What can be looked up afterwards: it may be cut short by a kill."""
        self.serial += 1
        key = f"serial.{self.number}"
        self.update("Put", "left", {key: self.serial}, arena="left", key=key, value=self.serial)

    # A round

    def run(self, client):
        kinds = (self.put, self.delete, self.merge, self.increment, self.apply, self.arena)
        weights = (5, 2, 3, 3, 3, 4)
        self.client = client
        with client:
            for _ in range(UPDATES_PER_ROUND):
                self.dice.choices(kinds, weights)[0]()
            self.last_words()
            self.workload.arrived()
            try:
                while not self.workload.over.is_set():
                    self.last_words()
                    time.sleep(0.001)
            except (EOFError, ConnectionError):
                pass

    def settle(self, client):
        """After a kill: did the last one happen?"""
        update, self.pending = self.pending, None
        if update is None:
            return
        try:
            found = client.call("Get", arena=update.arena, key=f"serial.{self.number}")
        except VarlinkError as error:
            if error.short != "NoSuchKey":
                raise
            return
        if found["value"] == self.serial:
            update.revision = found["revision"]
            update.acknowledged = self.workload.position()
            self.remember(update)


class Workload:
    def __init__(self, seed):
        self.seed = seed
        self.dice = random.Random(seed)
        self.updates = []
        # Updates whose revision is not told, of this round; one at a time, so that their order is known.
        self.unnumbered, self.unnumbered_lock = [], threading.Lock()
        # The daemon on a real disk, whose syncs take their time; the record not.
        self.root = tempfile.mkdtemp(prefix="holdfast-power-")
        self.directory = tempfile.mkdtemp(prefix="holdfast-power-", dir=scratch())
        atexit.register(self.remove, os.getpid())
        self.record = os.path.join(self.directory, "record")
        self.workers = [Worker(self, number) for number in range(CLIENTS)]
        self.partial = set()  # names of images that do not hold all arenas
        self.lock = threading.Lock()
        self.waiting = 0
        self.over = threading.Event()
        self.failures = []

    def remove(self, pid):
        if os.getpid() == pid:
            shutil.rmtree(self.directory, ignore_errors=True)
            shutil.rmtree(self.root, ignore_errors=True)

    def position(self):
        return os.stat(self.record).st_size

    def arrived(self):
        with self.lock:
            self.waiting += 1

    def run(self):
        daemon = Daemon(OPTIONS, directory=self.root, start=False,
                        environment={"LD_PRELOAD": LIBRARY, "HOLDFAST_RECORD": self.record,
                                     "HOLDFAST_RECORD_ROOT": self.root})
        for number in range(ROUNDS):
            daemon.start()
            with daemon.client() as client:
                for worker in self.workers:
                    worker.settle(client)
                before = len(self.updates)
                if number == 0:
                    self.create(client)
                    self.widen(daemon, client)
                self.begin_round(client)
            self.round(daemon, killed=number % 3 != 2)
            if self.failures:
                raise AssertionError("\n".join(self.failures))
            number_gaps(self.updates[before:], self.unnumbered)
            self.unnumbered.clear()

    def begin_round(self, client):
        """An update with a revision before all others."""
        update = Update(self.position(), "Put", "left", {"round": 0})
        update.revision = client.call("Put", arena="left", key="round", value=0)["revision"]
        update.acknowledged = self.position()
        self.updates.append(update)

    def create(self, client):
        for name, most in [*((name, MAX_BYTES) for name in SHARED), ("wide", wide.MAX_BYTES)]:
            update = Update(self.position(), "CreateArena", name, attributes={"maxBytes": most, "mode": 0o600})
            client.call("CreateArena", name=name, maxBytes=most)
            update.acknowledged = self.position()
            update.revision = client.call("GetStatus")["status"]["revision"]
            self.updates.append(update)

    def widen(self, daemon, client):
        """From here on blocks are written while others are made ready."""
        for method, fields, changed in wide.updates("wide"):
            entries = {key: Deleted if value is None else value for key, value in changed.items()}
            update = Update(self.position(), method, "wide", entries)
            update.revision = client.call(method, **fields)["revision"]
            update.acknowledged = self.position()
            self.updates.append(update)
        wide.wait_until_empty(daemon, client, "wide")

    def round(self, daemon, killed):
        self.waiting = 0
        self.over.clear()
        threads = [threading.Thread(target=self.guard, args=(worker.run, daemon.client(timeout=60)))
                   for worker in self.workers]
        for thread in threads:
            thread.start()
        with daemon.client(timeout=60) as client:
            while self.waiting < CLIENTS and not self.failures:
                arenas = self.dice.choice((None, None, None, ["left"]))
                taken = client.call("TakeCheckpoint", arenas=arenas)["checkpoint"]
                if arenas:
                    self.partial.add(f"{taken['id']}.image")
                time.sleep(self.dice.uniform(0, 0.05))
            if killed:
                # Often while a checkpoint runs.
                client.send("TakeCheckpoint", {"wait": True})
                time.sleep(self.dice.uniform(0, 0.03))
                daemon.signal(KILL)
                daemon.wait()
            self.over.set()
            for thread in threads:
                thread.join()
        if not killed:
            daemon.stop()

    def guard(self, function, *arguments):
        try:
            function(*arguments)
        except BaseException:
            self.failures.append(traceback.format_exc())
