"""Live arenas go from one process to the next through the service manager's descriptor store: what is adopted, what is
not, and that nothing is lost either way."""

import fcntl
import glob
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, equal, eventually, expect_error, run, test  # noqa: E402
from keeper import (ARENA_CHANGES, ARENA_GENERATION, ARENA_VERSION, CONTROL, CONTROL_ADOPTIONS,  # noqa: E402
                    CONTROL_CONDEMNED, CONTROL_LINEAGE, KeptDaemon, get_number, set_number)

QUIET = ["Checkpoint.IntervalSec=0"]
JUMP = 1 << 32


def fill(client, names=("a", "b", "c"), count=200):
    for name in names:
        client.call("CreateArena", name=name, maxBytes=32 << 20, mode=0o640)
        client.call("Apply", arena=name, operations=[
            {"op": "put", "key": f"k{number}", "value": {"n": number, "text": name * 300}} for number in range(count)])
    client.call("Delete", arena=names[0], key="k3")


def contents(client):
    """{arena: (its attributes, {key: (value, revision)})}"""
    return {arena["name"]: ({k: v for k, v in arena.items() if k not in ("usedBytes", "entries")},
                            {e["key"]: (e["value"], e["revision"])
                             for page in client.call_more("List", arena=arena["name"]) for e in page["entries"]})
            for arena in client.call("ListArenas")["arenas"]}


def filled(**arguments):
    daemon = KeptDaemon(options=QUIET, **arguments)
    with daemon.client() as client:
        fill(client)
    return daemon.settle()


def same(found, expected, what):
    """Tells the first differences, not all that there is."""
    equal(sorted(found), sorted(expected), f"{what}: names")
    for name, (attributes, entries) in expected.items():
        equal(found[name][0], attributes, f"{what}: attributes of {name}")
        wrong = [(key, str(entries.get(key))[:60], str(found[name][1].get(key))[:60])
                 for key in set(entries) | set(found[name][1]) if entries.get(key) != found[name][1].get(key)]
        equal(wrong[:3], [], f"{what}: {len(wrong)} entries of {name} (key, expected, found)")


def expect(daemon, before, recovery="adopted", adopted=None, jump=False):
    """Compares what is there, and that updates go on with the right number."""
    with daemon.client() as client:
        status = client.call("GetStatus")["status"]
        same(contents(client), before[1], "what is there")
        equal(status["recovery"], recovery, "recovery")
        number = client.call("Put", arena=sorted(before[1])[0], key="next", value=1)["revision"]
    if not jump:
        equal(number, before[0] + 1, "the next revision")
    elif number <= before[0] + JUMP:
        raise AssertionError(f"revision {number} after {before[0]}")
    if adopted is not None:
        equal(int(re.findall(r"arenas \((\d+) adopted\)", daemon.log())[-1]), adopted, "arenas adopted")
    daemon.settle()


def state(daemon):
    with daemon.client() as client:
        return client.call("GetStatus")["status"]["revision"], contents(client)


def no_image(daemon):
    equal(glob.glob(daemon.path("images", "*.image")), [], "images")


@test("the control memfd and every arena are kept, and a stop writes no image")
def _():
    daemon = filled()
    equal(len(daemon.keeper.names()), 4)
    equal(sum(message.get("FDPOLL") == "0" for message in daemon.keeper.said), 4)
    before = state(daemon)
    generation = get_number(daemon.keeper.arenas()["a"], ARENA_GENERATION, "<Q")
    daemon.stop()
    no_image(daemon)
    daemon.start()
    equal(get_number(daemon.keeper.arenas()["a"], ARENA_GENERATION, "<Q"), generation + 1, "generation")
    expect(daemon, before, adopted=3)
    equal(len(daemon.keeper.names()), 4)
    equal(state(daemon)[0], before[0] + 1)
    daemon.stop()


@test("after SIGKILL nothing is read, revisions go on, and what is adopted is adopted again")
def _():
    daemon = filled()
    before = state(daemon)
    for _ in range(3):
        daemon.kill()
        daemon.start()
        expect(daemon, before, adopted=3)
        before = state(daemon)
        daemon.prove()
    daemon.stop()


@test("what is updated, created, changed and dropped between adoptions is there, and kept")
def _():
    daemon = filled()
    for round in range(4):
        with daemon.client() as client:
            client.call("CreateArena", name=f"new{round}", maxBytes=8 << 20)
            client.call("Put", arena=f"new{round}", key="k", value=round)
            client.call("ChangeArena", name="b", maxBytes=(64 + round) << 20, mode=0o600)
            client.call("DropArena", name="c" if round == 0 else f"new{round - 1}")
            client.call("Merge", arena="a", key="k1", patch={"round": round})
        before = state(daemon)
        daemon.settle()
        if round % 2:
            daemon.kill()
        else:
            daemon.stop()
        daemon.start()
        expect(daemon, before, adopted=3)
        equal(len(daemon.keeper.names()), 4)
        daemon.prove()
    before = state(daemon)
    daemon.kill()
    daemon.keeper.clear()  # the journal alone says the same
    daemon.start()
    same(state(daemon)[1], before[1], "what the journal has")
    equal(daemon.status()["recovery"], "journal")
    daemon.stop()


run()
