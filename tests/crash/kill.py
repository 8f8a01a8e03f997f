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
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, equal, run, test  # noqa: E402
from keeper import KeptDaemon  # noqa: E402
from oracle import Oracle  # noqa: E402
from varlink import VarlinkError  # noqa: E402
from writers import Writers, fill  # noqa: E402

KILLS = int(os.environ.get("HOLDFAST_KILLS", "34"))
ADOPTING_KILLS = int(os.environ.get("HOLDFAST_KILLS", "10"))
SEED = int(os.environ.get("HOLDFAST_SEED", str(time.time_ns() % 10**9)))
WRITERS = 4
# So that segments change and images are retired many times in a run, and that a child takes some tenths of a second.
OPTIONS = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no", "Checkpoint.Keep=2", "Checkpoint.JournalBytesMax=2M",
           "Journal.SegmentBytesMax=16M", "Checkpoint.WriteBytesPerSecMax=32M", "Checkpoint.CaptureBytesMax=1M"]


class Campaign:
    make = Daemon
    jump = 1 << 32  # by how much revisions must be ahead of all that is there

    def __init__(self, sync, kills):
        self.dice = random.Random(f"{SEED} {sync}")
        self.kills, self.killed = kills, {"load": 0, "child": 0, "recovery": 0}
        self.serials = [1] * WRITERS
        self.images = set()
        self.daemon = self.make(options=OPTIONS + [f"Journal.Sync={sync}"])
        self.oracle = Oracle(WRITERS)
        with self.daemon.client() as client:
            fill(client, self.oracle, WRITERS)

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
        writers = Writers(self.daemon.socket, self.dice, self.serials)
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
        self.images.update(os.listdir(self.daemon.path("images")))
        return writers.finish()

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
        if len(self.images) < self.kills // 20:
            raise AssertionError(f"only {len(self.images)} images in {self.kills} kills: hardly a checkpoint came to its end")
        self.daemon.restart()
        self.compare([([], [], serial) for serial in self.serials], jump=0)
        print(f"# {self.killed} kills, {len(self.images)} images, {updates} updates answered, {open_ones} not, of which {kept} were "
              f"found; seed {SEED}")
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
