"""The kill campaign: four writers with every kind of update, checkpoints now and then, SIGKILL of the daemon at random
moments (under load, while a child writes an image, while it recovers), restart, and a comparison with the oracle: every
acknowledged update is there, no Apply is there in part, unacknowledged ones are there whole or not at all and in the order
in which they were sent, and no revision is ever given twice or below one that was seen.

A SIGKILL is no power cut: what was written lies in the page cache, so nothing acknowledged may be missing under
Sync=interval and never either.

The same again under a service manager that keeps the arenas (tests/lib/keeper.py): they are adopted, those caught in the
middle of an update are made anew, and now and then what was kept is lost, or was adopted too often.

HOLDFAST_KILLS: how many under each Sync=. HOLDFAST_SEED: repeats the updates and the moments, as far as the machine does."""

import collections
import multiprocessing
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, equal, run, test  # noqa: E402
from keeper import KeptDaemon  # noqa: E402
from oracle import ACCOUNTS, BALANCE, MARKERS, Oracle  # noqa: E402
from varlink import Client, VarlinkError  # noqa: E402

KILLS = int(os.environ.get("HOLDFAST_KILLS", "34"))
ADOPTING_KILLS = int(os.environ.get("HOLDFAST_KILLS", "10"))
SEED = int(os.environ.get("HOLDFAST_SEED", str(time.time_ns() % 10**9)))
WRITERS = 4
PIPELINE = MARKERS // 4
# So that segments change and images are retired many times in a run, and that a child takes about half a second.
OPTIONS = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Checkpoint.Keep=2", "Checkpoint.JournalBytesMax=2M",
           "Journal.SegmentBytesMax=16M", "Checkpoint.WriteBytesPerSecMax=8M", "Checkpoint.CaptureBytesMax=1M"]


def private_operation(dice, serial):
    """An operation on a key that is one writer's own. What it leaves behind tells which one it was."""
    key = f"k{dice.randrange(60)}"
    kind = dice.randrange(10)
    if kind < 5:
        return {"op": "put", "key": key, "value": {"s": serial, "text": "x" * dice.randrange(10, 3000)}}
    if kind < 7:
        return {"op": "merge", "key": key, "value": {"m": serial, "s": None, "deep": {str(serial % 5): serial}}}
    if kind < 8:
        return {"op": "delete", "key": key}
    return {"op": "increment", "key": f"n{dice.randrange(5)}", "by": dice.randrange(1, 9)}


def transfer(dice, number, serial):
    """Moves an amount between two accounts that all writers share. The marker is the writer's own, and tells whether
    it happened and as which revision."""
    one, other = dice.sample(range(ACCOUNTS), 2)
    amount = dice.randrange(1, 100)
    return [{"op": "increment", "key": f"account{one}", "by": -amount},
            {"op": "put", "key": f"m{number}.{serial % MARKERS}", "value": serial},
            {"op": "put", "key": f"last{dice.randrange(4)}", "value": [number, serial]},
            {"op": "increment", "key": f"account{other}", "by": amount}]


def single(operation):
    """The same operation as a method of its own."""
    parameters = {name: value for name, value in operation.items() if name != "op"}
    if operation["op"] == "merge":
        parameters["patch"] = parameters.pop("value")
    return operation["op"].capitalize(), parameters


def next_call(dice, number, serial):
    """A random update as (method, parameters)."""
    kind = dice.randrange(100)
    if kind < 55:
        method, parameters = single(private_operation(dice, serial))
        return method, {"arena": f"w{number}", **parameters}
    if kind < 75:
        return "Apply", {"arena": "bank", "operations": transfer(dice, number, serial)}
    if kind < 90:
        return "Apply", {"arena": f"w{number}",
                         "operations": [private_operation(dice, serial) for _ in range(dice.randrange(1, 30))]}
    name = f"t{number}"  # comes and goes; what fails since it is not there, or is there, fails as the oracle expects
    if kind < 95:
        return "Put", {"arena": name, "key": f"k{dice.randrange(9)}", "value": [serial]}
    if kind < 97:
        return "CreateArena", {"name": name, "maxBytes": dice.randrange(1, 5) << 20}
    if kind < 98:
        return "ChangeArena", {"name": name, "maxBytes": dice.randrange(5, 9) << 20, "mode": dice.choice((0o600, 0o660))}
    return "DropArena", {"name": name}


def write(socket_path, number, dice, serial, results):
    """A writer: updates until the daemon is gone. Sends back [(method, parameters, reply or error)] and, as
    [(method, parameters)], what was sent and not answered."""
    answered, sent = [], []
    try:
        with Client(socket_path) as client:
            while True:
                sent = [next_call(dice, number, serial + i) for i in range(dice.randrange(1, PIPELINE + 1))]
                serial += len(sent)
                for call in sent:
                    client.send(*call)
                while sent:
                    try:
                        answer = client.receive()
                    except VarlinkError as error:
                        answer = error.short
                    answered.append((*sent.pop(0), answer))
    except (ConnectionError, EOFError, FileNotFoundError):
        pass
    results.send((answered, sent, serial))


class Campaign:
    make = Daemon
    jump = 1 << 32  # by how much revisions must be ahead of all that is there

    def __init__(self, sync, kills):
        self.dice = random.Random(f"{SEED} {sync}")
        self.kills, self.killed = kills, {"load": 0, "child": 0, "recovery": 0}
        self.serials = [1] * WRITERS
        self.daemon = self.make(options=OPTIONS + [f"Journal.Sync={sync}"])
        self.oracle = Oracle(WRITERS)
        self.fill()

    def fill(self):
        with self.daemon.client() as client:
            for name in ["bank", "ballast"] + [f"w{number}" for number in range(WRITERS)]:
                client.call("CreateArena", name=name, maxBytes=32 << 20)
                self.oracle.created(name, 32 << 20)
            accounts = [{"op": "put", "key": f"account{i}", "value": BALANCE} for i in range(ACCOUNTS)]
            ballast = [{"op": "put", "key": f"k{i}", "value": "y" * 4000} for i in range(500)]
            for arena, operations in (("bank", accounts), ("ballast", ballast)):
                revision = client.call("Apply", arena=arena, operations=operations)["revision"]
                self.oracle.shared_update(revision, arena, operations)

    def checkpoint(self, client):
        """Sometimes; True if a child runs now."""
        if self.dice.random() < 0.5:
            return False
        try:
            return client.call("TakeCheckpoint", wait=False)["checkpoint"]["state"] == "running"
        except VarlinkError as error:
            if error.short != "CheckpointFailed":
                raise
            raise AssertionError(f"a checkpoint failed: {error}") from error

    def load(self):
        """Writers write, then the daemon is killed. Returns what they tell."""
        context = multiprocessing.get_context("fork")
        ends, processes = [], []
        for number in range(WRITERS):
            end, theirs = context.Pipe(duplex=False)
            dice = random.Random(self.dice.random())
            process = context.Process(target=write, daemon=True, args=(
                self.daemon.socket, number, dice, self.serials[number], theirs))
            process.start()
            theirs.close()
            ends.append(end)
            processes.append(process)
        with self.daemon.client() as client:
            time.sleep(self.dice.random() * 0.3)
            self.checkpoint(client)
            time.sleep(self.dice.random() * 0.25)
            status = client.call("GetStatus")["status"]
            # What is seen here need not be durable, but its number must not come again.
            self.oracle.see(status["revision"])
            if self.daemon.process.poll() is not None:
                raise AssertionError("the daemon ended by itself")
            self.daemon.kill()
        self.killed["child" if status.get("runningCheckpoint") else "load"] += 1
        told = [end.recv() for end in ends]
        for process in processes:
            process.join()
        return told

    def recover(self):
        """Starts it again, and now and then kills it before it answers."""
        while sum(self.killed.values()) < self.kills and self.dice.random() < 0.3:
            self.daemon.launch()
            time.sleep(self.dice.random() * 0.06)
            if self.daemon.process.poll() is not None:
                raise AssertionError("the daemon ended by itself")
            self.daemon.kill()
            self.killed["recovery"] += 1
        self.daemon.start()

    def compare(self, told, jump):
        """What was seen and is not there (an update may be seen before it is written) is behind too."""
        with self.daemon.client() as client:
            status = client.call("GetStatus")["status"]
            equal(status["state"], "serving", "the state after a kill")
            kept = self.oracle.check(client, told)
        if status["revision"] < max(self.oracle.seen, self.oracle.kept + jump):
            raise AssertionError(f"revisions go on from {status['revision']}; {self.oracle.seen} was seen, and "
                                 f"{self.oracle.kept} is there")
        return kept

    def run(self):
        updates = open_ones = kept = 0
        while sum(self.killed.values()) < self.kills:
            told = self.load()
            self.serials = [serial for _, _, serial in told]
            self.recover()
            updates += sum(len(answered) for answered, _, _ in told)
            open_ones += sum(len(unanswered) for _, unanswered, _ in told)
            kept += self.compare(told, self.jump)
        if updates < 10 * self.kills:
            raise AssertionError(f"only {updates} updates between {self.kills} kills: no load")
        self.daemon.restart()
        self.compare([([], [], serial) for serial in self.serials], jump=0)
        print(f"# {self.killed} kills, {updates} updates answered, {open_ones} not, of which {kept} were found; seed {SEED}")
        self.tell()
        self.daemon.stop()

    def tell(self):
        pass


class AdoptingCampaign(Campaign):
    make = KeptDaemon
    jump = 0  # whether there must be one is told by what was adopted

    def __init__(self, sync, kills):
        self.found = collections.Counter()
        super().__init__(sync, kills)

    def recover(self):
        """Most of the time as if there had been a minute of service; now and then the store is lost."""
        fate = self.dice.random()
        if fate < 0.1:
            self.daemon.keeper.clear()
        elif fate < 0.8:
            self.daemon.prove()
        before = len(self.daemon.log())
        super().recover()
        said = self.daemon.log()[before:]
        anew, what = said.count("made anew"), self.daemon.status()["recovery"]
        self.found[what] += 1
        self.found["made anew"] += anew
        self.jump = 0 if what == "adopted" and not anew else 1 << 32

    def tell(self):
        if self.found["adopted"] < self.found.total() // 4:
            raise AssertionError(f"hardly ever adopted: {self.found}")
        print(f"# {dict(self.found)}")


@test("Sync=always: what was acknowledged survives every SIGKILL, and nothing is there in part")
def _():
    Campaign("always", KILLS).run()


@test("Sync=interval: what was acknowledged survives every SIGKILL, and nothing is there in part")
def _():
    Campaign("interval", KILLS).run()


@test("Sync=never: what was acknowledged survives every SIGKILL, and nothing is there in part")
def _():
    Campaign("never", KILLS).run()


@test("Sync=always, arenas kept: nothing acknowledged is lost by adopting, and nothing is there in part")
def _():
    AdoptingCampaign("always", ADOPTING_KILLS).run()


@test("Sync=interval, arenas kept: nothing acknowledged is lost by adopting, and nothing is there in part")
def _():
    AdoptingCampaign("interval", ADOPTING_KILLS).run()


@test("Sync=never, arenas kept: nothing acknowledged is lost by adopting, and nothing is there in part")
def _():
    AdoptingCampaign("never", ADOPTING_KILLS).run()


run()
