"""Arenas of another layout version: a daemon of the one layout takes over what a daemon of the other left, out of images and
out of the service manager's descriptor store, both ways; a version that it does not know is refused by name."""

import ctypes
import glob
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, DaemonEnded, equal, eventually, run, test  # noqa: E402
from keeper import (ARENA_CHANGES, ARENA_VERSION, TEST_ARENA_CHANGES, TEST_LAYOUT, KeptDaemon, get_number,  # noqa: E402
                    layout_of, set_number)

QUIET = ["Checkpoint.IntervalSec=0"]
# The program under test may have been built with either.
BOTH = [os.environ["HOLDFASTD"], os.environ["HOLDFASTD_OTHER_LAYOUT"]]


def fill(client):
    client.call("CreateArena", name="many", maxBytes=64 << 20, mode=0o640)
    for first in range(0, 20000, 5000):
        client.call("Apply", arena="many", operations=[
            {"op": "put", "key": f"k{number}", "value": {"n": number, "text": "x" * (number % 97)}}
            for number in range(first, first + 5000)])
    client.call("CreateArena", name="large", maxBytes=32 << 20)
    for number in range(20):
        client.call("Put", arena="large", key=f"key {number} " + "y" * 900, value="z" * (1 << number))
    client.call("Delete", arena="many", key="k7")
    client.call("CreateArena", name="empty", maxBytes=1 << 20)


def contents(client):
    fixed = ("name", "maxBytes", "uid", "gid", "mode", "createdUSec", "revision", "entries")
    return {arena["name"]: ({name: arena[name] for name in fixed},
                            {e["key"]: (e["value"], e["revision"])
                             for page in client.call_more("List", arena=arena["name"], limit=10000) for e in page["entries"]})
            for arena in client.call("ListArenas")["arenas"]}


def same(found, expected):
    equal(sorted(found), sorted(expected), "arenas")
    for name, (attributes, entries) in expected.items():
        equal(found[name][0], attributes, f"attributes of {name}")
        if found[name][1] != entries:
            raise AssertionError(f"the entries of {name} differ")


def layouts(daemon):
    return sorted({layout_of(fd) for fd in daemon.keeper.arenas().values()})


@test("the two programs lay arenas out differently")
def _():
    found = []
    for program in BOTH:
        daemon = KeptDaemon(options=QUIET, program=program)
        daemon.call("CreateArena", name="a")
        daemon.settle()
        found += layouts(daemon)
        daemon.stop()
    equal(sorted(found), [1, TEST_LAYOUT])


@test("what the store hands over is read into the other layout, both ways, without an image, and its memory is given back")
def _():
    daemon = KeptDaemon(options=QUIET, program=BOTH[0])
    with daemon.client() as client:
        fill(client)
    daemon.settle()
    for step in range(1, 5):
        with daemon.client() as client:
            client.call("Put", arena="many", key=f"step {step}", value=step)
            before = contents(client)
        revision = daemon.status()["revision"]
        old = [os.dup(fd) for fd in daemon.keeper.arenas().values()]
        version = layouts(daemon)
        daemon.prove()
        if step % 2:
            daemon.kill()
        else:
            daemon.stop()
        daemon.program = BOTH[step % 2]
        daemon.start()
        with daemon.client() as client:
            same(contents(client), before)
        equal(daemon.status()["revision"], revision)
        equal(daemon.status()["recovery"], "adopted")
        equal(layouts(daemon) != version, True, "the layout is another one")
        equal(daemon.log().count("arena many: read from layout version"), step)
        eventually(lambda: sum(os.fstat(fd).st_blocks for fd in old) == 0, "the old memory is given back")
        for fd in old:
            os.close(fd)
        equal(len(daemon.keeper.names()), 4)
    equal(glob.glob(daemon.path("images", "*.image")), [])
    daemon.keeper.clear()
    daemon.stop()


@test("images of the other layout are read, with the journal behind them, both ways")
def _():
    daemon = Daemon(options=QUIET + ["Checkpoint.AtStop=no"], program=BOTH[0])
    with daemon.client() as client:
        fill(client)
    for step in range(1, 5):
        with daemon.client() as client:
            client.call("TakeCheckpoint")
            client.call("Put", arena="many", key=f"step {step}", value=step)
            client.call("Delete", arena="many", key=f"k{100 + step}")
            before = contents(client)
        daemon.kill()
        daemon.program = BOTH[step % 2]
        daemon.start()
        with daemon.client() as client:
            same(contents(client), before)
    daemon.stop()


@test("an arena caught in the middle of an update is made anew from an image of the other layout")
def _():
    daemon = KeptDaemon(options=QUIET, program=BOTH[0])
    with daemon.client() as client:
        fill(client)
    for step in range(1, 3):
        with daemon.client() as client:
            client.call("TakeCheckpoint")
            client.call("Put", arena="many", key=f"step {step}", value=step)
            before = contents(client)
        daemon.settle()
        daemon.kill()
        fd = daemon.keeper.arenas()["many"]
        place = TEST_ARENA_CHANGES if layout_of(fd) == TEST_LAYOUT else ARENA_CHANGES
        set_number(fd, place, get_number(fd, place, "<Q") + 1, "<Q")
        daemon.program = BOTH[step % 2]
        daemon.start()
        with daemon.client() as client:
            same(contents(client), before)
        equal("arena many: not adopted, but rebuilt from images and journal: it was in the middle of an update" in daemon.log(), True)
        daemon.prove()
    daemon.stop()


@test("an arena that does not fit the other layout any more gets more room")
def _():
    small, large = sorted(BOTH, key=lambda program: program == os.environ["HOLDFASTD_OTHER_LAYOUT"])
    daemon = Daemon(options=QUIET, program=small)
    with daemon.client() as client:
        client.call("CreateArena", name="full", maxBytes=4 << 20)
        count = 0
        try:
            while True:
                client.call("Apply", arena="full", operations=[
                    {"op": "put", "key": f"{count + i}", "value": i} for i in range(500)])
                count += 500
        except Exception as error:
            equal(getattr(error, "short", error), "ArenaFull")
        before = contents(client)["full"][1]
    daemon.stop()
    daemon.program = large
    daemon.start()
    with daemon.client() as client:
        equal(contents(client)["full"][1] == before, True, "all entries are there")
    daemon.stop()


# --- versions that nobody knows

def reseal(path, change):
    """Changes the head of an image and computes the checksums that follow from it anew, but for the blocks'."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits_withSeed.restype = ctypes.c_uint64
    library.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]

    def checksum(data, seed=0):
        return library.XXH3_64bits_withSeed(bytes(data), len(data), seed)

    with open(path, "r+b") as file:
        data = bytearray(file.read())
        change(data)
        footer = len(data) - 128
        (head_bytes, _, index, _, _, blocks, runs) = struct.unpack_from("<7Q", data, footer + 24)
        head = checksum(data[:head_bytes])
        seed = checksum(data[index:index + 64], head)
        seed = checksum(data[index + 64:index + 64 + 48 * blocks], seed)
        seed = checksum(data[index + 64 + 48 * blocks:index + 64 + 48 * blocks + 8 * runs], seed)
        struct.pack_into("<Q", data, footer + 32, head)
        struct.pack_into("<Q", data, footer + 56, seed)
        struct.pack_into("<Q", data, footer + 120, checksum(data[footer:footer + 120]))
        file.seek(0)
        file.write(data)


@test("an image of a layout version that is not known is refused with its version, and stays as it is")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        client.call("TakeCheckpoint")
    daemon.stop()
    path, = glob.glob(daemon.path("images", "*.image"))
    reseal(path, lambda data: None)
    daemon.restart() if daemon.process.poll() is None else daemon.start()
    daemon.stop()
    reseal(path, lambda data: struct.pack_into("<I", data, 12, 77))
    try:
        daemon.start()
    except DaemonEnded as ended:
        equal(ended.status, 65, "exit status")
        equal("layout version 77, which this program does not know" in ended.log, True, "the version is named")
    else:
        raise AssertionError("the daemon started")
    equal(glob.glob(daemon.path("images", "*")), [path])


@test("an image of an image version that is not known is refused with its version, and stays as it is")
def _():
    daemon = Daemon(options=QUIET + ["Checkpoint.AtStop=no"])
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        client.call("TakeCheckpoint")
        client.call("Put", arena="a", key="k", value="second")
        second = client.call("TakeCheckpoint")["checkpoint"]["path"]
    daemon.stop()

    def newer(data):
        struct.pack_into("<I", data, 8, 2)
        struct.pack_into("<I", data, len(data) - 128 + 8, 2)
    reseal(second, newer)
    before = sorted(glob.glob(daemon.path("images", "*")))

    def refused():
        try:
            daemon.start()
        except DaemonEnded as ended:
            equal(ended.status, 65, "exit status")
            equal("is of image version 2 (flags 0), this program reads version 1" in ended.log, True, "the version is named")
            # What would throw the image's state away is no advice.
            equal("--recover=cut" in ended.log, False)
            equal(sorted(glob.glob(daemon.path("images", "*"))), before)
        else:
            raise AssertionError("the daemon started")

    refused()
    daemon.arguments = ["--recover=cut"]
    refused()
    daemon.arguments = []
    os.rename(second, second + ".away")
    daemon.start()
    equal(daemon.call("Get", arena="a", key="k")["value"], "second", "from the older image and the journal")
    daemon.stop()
    # Without a journal, too, it is the version that is told, not what is missing.
    os.rename(second + ".away", second)
    for path in glob.glob(daemon.path("journal", "*.journal")):
        os.unlink(path)
    refused()


@test("an arena handed over in a layout that is not known is made anew from the journal")
def _():
    daemon = KeptDaemon(options=QUIET)
    with daemon.client() as client:
        fill(client)
        before = contents(client)
    daemon.settle()
    daemon.kill()
    set_number(daemon.keeper.arenas()["many"], ARENA_VERSION, 77)
    daemon.start()
    with daemon.client() as client:
        same(contents(client), before)
    equal("it is of a layout version that is not known" in daemon.log(), True)
    daemon.stop()


@test("holdfastctl reads images of the other layout")
def _():
    exported = []
    for program in BOTH:
        daemon = Daemon(options=QUIET, program=program)
        with daemon.client() as client:
            client.call("CreateArena", name="a")
            client.call("Apply", arena="a", operations=[{"op": "put", "key": f"k{i}", "value": i} for i in range(100)])
            client.call("TakeCheckpoint")
        path, = glob.glob(daemon.path("images", "*.image"))
        exported.append(sorted(subprocess.check_output(
            [os.environ["HOLDFASTCTL"], "image", "export", path, "--arena=a"], text=True).splitlines()))
        equal(len(exported[-1]), 100)
        subprocess.check_call([os.environ["HOLDFASTCTL"], "-q", "image", "verify", path], stdout=subprocess.DEVNULL)
        daemon.stop()
    equal(exported[0], exported[1])


run()
