"""Restarts and SIGKILL of the service under load: the next process adopts the arenas from systemd's descriptor store, clients
wait in the socket's backlog, and nothing that was acknowledged is lost (the oracle and the writers of the kill campaign).

HOLDFAST_KILLS: how many SIGKILLs. HOLDFAST_SEED: repeats the updates and the moments, as far as the machine does."""

import os
import random
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))
from machine import Machine, SERVICE, SOCKET, equal, run, test  # noqa: E402
from oracle import Oracle  # noqa: E402
from varlink import Client, VarlinkError  # noqa: E402
from writers import Writers, fill  # noqa: E402

KILLS = int(os.environ.get("HOLDFAST_KILLS", "20"))
SEED = int(os.environ.get("HOLDFAST_SEED", str(time.time_ns() % 10**9)))
WRITERS = 4
CONFIG = "/etc/holdfast/holdfastd.conf.d/test.conf"


def start(config):
    m = Machine.booted()
    m.systemctl("stop", SERVICE)
    m.write(CONFIG, config)
    m.run("sh", "-c", "rm -rf /var/lib/holdfast/*")
    m.systemctl("enable", "--now", "holdfastd.socket", SERVICE)
    return m


class Counter:
    """A client that counts up one key and begins again where its connection ends. It fails where nobody listens."""

    def __init__(self, path, key):
        self.path, self.key = path, key
        self.acknowledged, self.longest, self.connections, self.failure = 0, 0.0, 0, None
        self.stopping = False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.stopping:
                self.connections += 1
                self.count()
        except Exception as error:  # told by the test
            self.failure = error

    def count(self):
        try:
            with Client(self.path) as client:
                while not self.stopping:
                    began = time.monotonic()
                    client.call("Put", arena="counters", key=self.key, value=self.acknowledged + 1)
                    self.acknowledged += 1
                    self.longest = max(self.longest, time.monotonic() - began)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            pass

    def stop(self):
        self.stopping = True
        self.thread.join()
        if self.failure is not None:
            raise self.failure


@test("under load, a restart is a delay for clients and nothing else, and reads no image")
def _():
    m = start("")
    m.call("CreateArena", name="counters")
    counters = [Counter(m.outside(SOCKET), f"c{i}") for i in range(8)]
    took = []
    for _ in range(5):
        before, began = [counter.acknowledged for counter in counters], time.monotonic()
        m.systemctl("restart", SERVICE)
        took.append(time.monotonic() - began)
        equal(m.status()["recovery"], "adopted", "how the state came back")
        deadline = time.monotonic() + 30
        while any(counter.acknowledged <= old for counter, old in zip(counters, before)):
            if time.monotonic() > deadline:
                raise AssertionError(f"a client does not get on: {[counter.failure for counter in counters]}")
            time.sleep(0.01)
    for counter in counters:
        counter.stop()
    for counter in counters:
        found = m.call("Get", arena="counters", key=counter.key)["value"]
        # One more may have happened and not been answered.
        if found not in (counter.acknowledged, counter.acknowledged + 1):
            raise AssertionError(f"{counter.key} is {found}; {counter.acknowledged} were acknowledged")
        equal(counter.connections, 6, "connections of a client over five restarts")
    equal(m.call("ListCheckpoints")["checkpoints"], [], "images, with AtStop=auto")
    print(f"# systemctl restart: {', '.join(f'{seconds * 1000:.0f}' for seconds in took)} ms; a client waited at most "
          f"{max(counter.longest for counter in counters) * 1000:.0f} ms; "
          f"{sum(counter.acknowledged for counter in counters)} updates")


def entries(pages):
    return {entry["key"]: entry["value"] for page in pages for entry in page["entries"]}


def adopted(m):
    """(how the state came back, arenas, those of them that were adopted), of the last start."""
    told = m.journal("MESSAGE_ID=d4b758b8d175fd6f207ab0463d5ada64", f"_SYSTEMD_UNIT={SERVICE}")[-1]
    return told["RECOVERY"], int(told["ARENAS"]), int(told["ADOPTED"])


@test(f"{KILLS} times SIGKILL under load: the arenas are adopted, and nothing acknowledged is lost")
def _():
    m = start("[Checkpoint]\nIntervalSec=0\nKeep=2\nJournalBytesMax=2M\nWriteBytesPerSecMax=8M\nCaptureBytesMax=1M\n"
              "[Journal]\nSegmentBytesMax=16M\n")
    dice, oracle, serials = random.Random(SEED), Oracle(WRITERS), [1] * WRITERS
    with m.client() as client:
        fill(client, oracle, WRITERS)
    updates, all_arenas, all_taken, whole = 0, 0, 0, 0
    for kill in range(KILLS):
        writers = Writers(m.outside(SOCKET), dice, serials)
        with m.client() as client:
            time.sleep(dice.random() * 0.2)
            if dice.random() < 0.5:
                try:
                    client.call("TakeCheckpoint", wait=False)
                except VarlinkError as error:
                    raise AssertionError(f"a checkpoint failed: {error}") from error
            time.sleep(dice.random() * 0.1)
            oracle.see(client.call("GetStatus")["status"]["revision"])
        before = m.main_pid()
        m.signal("KILL")
        told = writers.finish()
        serials = [serial for _, _, serial in told]
        updates += sum(len(answered) for answered, _, _ in told)
        m.wait_restarted(before)
        with m.client() as client:
            oracle.check(client, told)
        recovery, arenas, taken = adopted(m)
        all_arenas, all_taken, whole = all_arenas + arenas, all_taken + taken, whole + (arenas == taken)
        equal(recovery, "adopted", f"how the state came back after kill {kill}")
        # More than two adoptions without a minute of service are one too many; a clean restart begins to count anew.
        if kill % 2:
            m.systemctl("reset-failed", SERVICE)  # and of starts in five minutes
            m.systemctl("restart", SERVICE)
            equal(m.status()["recovery"], "adopted", "how the state came back after a restart")
            with m.client() as client:
                oracle.check(client, [([], [], serial) for serial in serials])
    if updates < 10 * KILLS:
        raise AssertionError(f"only {updates} updates between {KILLS} kills: no load")
    # Rebuilt is what the kill met in the middle of an update, or before systemd had heard of it: the writers' arenas and
    # the bank, now this one, now that.
    if all_taken < 0.75 * all_arenas:
        raise AssertionError(f"only {all_taken} of {all_arenas} arenas were adopted")
    print(f"# {KILLS} kills: {whole} times all arenas adopted; {all_taken} of {all_arenas} arenas, the others rebuilt; "
          f"{updates} updates answered; seed {SEED}")


@test("a daemon with another layout of arenas makes them anew, and so does the one that comes back")
def _():
    m = start("")
    other = os.environ["HOLDFASTD_OTHER_LAYOUT"]
    m.call("CreateArena", name="a")
    for number in range(2000):
        m.call("Put", arena="a", key=f"k{number % 500}", value={"n": number})
    before = m.pages("List", arena="a")
    m.call("TakeCheckpoint", label="layout")
    m.call("Put", arena="a", key="after", value="the image")
    m.run("cp", "/usr/bin/holdfastd", "/usr/bin/holdfastd.released")
    for program in (other, f"{m.stage}/usr/bin/holdfastd.released"):
        # As an upgrade does it: the running one keeps its file.
        shutil.copy(program, f"{m.stage}/usr/bin/holdfastd.new")
        m.run("mv", "/usr/bin/holdfastd.new", "/usr/bin/holdfastd")
        m.systemctl("restart", SERVICE)
        recovery, arenas, taken = adopted(m)
        equal((arenas, taken), (1, 0), f"arenas, and those adopted ({recovery})")
        equal(m.call("Get", arena="a", key="after")["value"], "the image", "what is only in the journal")
        equal(entries(m.pages("List", arena="a")), {**entries(before), "after": "the image"}, "the entries")
        m.systemctl("restart", SERVICE)
        equal(adopted(m)[1:], (1, 1), "arenas, and those adopted by the same program")


run()
