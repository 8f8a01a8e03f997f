"""The rows of the comparison: what each measures, of whom, and what must come out.

A row is a function of the bench (tests/bench/run) and its plan (sizes, rounds, seconds) that hands over comparisons as
they are complete, so that what is measured is kept where a later step fails. In every round the two sides take turns."""

import json
import os
import subprocess
import sys
import threading
import time

import peers
from peers import Failed, Load, run_load
from report import AtLeast, AtMost, Comparison, median

MIB = 1 << 20
GIB = 1 << 30
VALUE_BYTES = 1000  # a value of the large states, where nothing else is said
ENTRY_BYTES = {1000: 1080, 100: 163}  # of arena that an entry with such a value takes, index included
RING_BYTES = 64 * MIB


class NotBuilt(Exception):
    """A program of the row is not part of this build: the row is left out, and that is no failure."""


ROWS = {}  # name -> (function, seconds it may take in the full run)


def row(seconds):
    def register(function):
        ROWS[function.__name__.replace("_", "-")] = (function, seconds)
        return function

    return register


def size_name(size):
    return f"{size // GIB} GiB" if size % GIB == 0 else f"{size // MIB} MiB"


def at_full_size(bench, must):
    """What must come out at 4 GiB says nothing of smaller states."""
    return must if bench.plan.size >= 4 * GIB else None


def entries_of(size, value_bytes=VALUE_BYTES):
    return size // ENTRY_BYTES[value_bytes]


def alternate(bench, *sides):
    """Calls each side in turn, so many times as there are rounds; a list of results for each."""
    results = [[] for _ in sides]
    for number in range(bench.plan.rounds):
        for side, result in zip(sides, results):
            result.append(side())
        bench.progress(number)
    return results


# --- calls a second

SHAPES = (("put", 1, 1), ("get", 1, 1), ("put", 50, 1), ("get", 50, 1), ("put", 50, 16), ("get", 50, 16), ("apply", 1, 1))


def shape_name(shape):
    command, connections, pipelined = shape
    if command == "apply":
        return "Apply of 100 puts, 1 client"
    clients = f"{command.capitalize()}, {connections} client{'s' if connections > 1 else ''}"
    return clients + (f", {pipelined} pipelined" if pipelined > 1 else "")


def rates(bench, shapes, sync, fsync, what, must):
    """Both with the same durability. must: AtLeast of a ratio, or None: only told."""
    plan = bench.plan
    with bench.using(peers.Holdfast(bench, sync)) as ours, bench.using(peers.Redis(bench, fsync)) as theirs:
        for side in (ours, theirs):
            side.fill(plan.keys, 100)

        def rate(side, shape):
            command, connections, pipelined = shape
            return run_load(bench.load, side, command, connections=connections, pipelined=pipelined, keys=plan.keys,
                            seconds=f"{plan.load_seconds}s")["rate"]

        results = {shape: ([], []) for shape in shapes}
        for number in range(plan.rounds):
            for shape in shapes:
                for side, result in zip((ours, theirs), results[shape]):
                    result.append(rate(side, shape))
            bench.progress(number)
        for shape, (mine, other) in results.items():
            peer = {"put": "SET", "get": "GET", "apply": "SET, pipelined by 100"}[shape[0]]
            yield Comparison(f"{shape_name(shape)}{what}", f"Redis {peer}", "/s", mine, other, must=must)


@row(900)
def throughput(bench):
    """Nothing synced, both with a log."""
    yield from rates(bench, SHAPES, "never", "no", "", AtLeast(1.0))


@row(600)
def without_log(bench):
    """The same against a Redis that keeps no log at all."""
    shapes = [shape for shape in SHAPES if shape[0] != "get"]
    yield from rates(bench, shapes, "never", None, "; Redis without a log", None)


@row(600)
def durable(bench):
    """Each answer is on stable storage."""
    yield from rates(bench, [("put", 1, 1), ("put", 50, 1)], "always", "always", ", every one synced", AtLeast(1.0))


@row(600)
def import_lines(bench):
    """JSON lines through holdfastctl import, the same entries through redis-cli --pipe."""
    lines = bench.plan.import_lines
    files = write_import_files(bench.directory("import"), lines)
    with bench.using(peers.Holdfast(bench)) as ours, bench.using(peers.Redis(bench)) as theirs:

        def run(side, command, path):
            side.empty()
            with open(path, "rb") as file:
                began = time.monotonic()
                subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, check=True, timeout=peers.SECONDS_MAX)
                return lines / (time.monotonic() - began)

        mine, other = alternate(
            bench,
            lambda: run(ours, [bench.holdfastctl, f"--socket={ours.socket}", "-q", "import", "a", "-"], files[0]),
            lambda: run(theirs, ["redis-cli", "-s", theirs.socket, "--pipe"], files[1]))
        if theirs.call("DBSIZE") != lines or ours.client.call("GetStatus")["status"]["entries"] != lines:
            raise Failed("not all lines were imported")
    yield Comparison(f"import of {lines:,} JSON lines", "redis-cli --pipe", "lines/s", mine, other, must=AtLeast(0.7))


def write_import_files(directory, lines):
    paths = [os.path.join(directory, name) for name in ("lines.json", "commands")]
    with open(paths[0], "w", encoding="ascii") as ours, open(paths[1], "w", encoding="ascii", newline="") as theirs:
        for number in range(lines):
            value = f"{number * 2654435761 % (1 << 64):020d}" * 5
            ours.write(f'{{"key":"key:{number:012d}","value":"{value}"}}\n')
            theirs.write(f"*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012d}\r\n$100\r\n{value}\r\n")
    return paths


@row(300)
def entry_memory(bench):
    """What an entry costs, all included, after so many were put."""
    for value_bytes in (10, 100, 1000):
        mine, other = [], []
        for _ in range(bench.plan.rounds_of_fills):
            for kind, result in ((peers.Holdfast, mine), (peers.Redis, other)):
                with bench.using(kind(bench)) as side:
                    before = side.state_memory()
                    side.fill(bench.plan.memory_keys, value_bytes)
                    result.append((side.state_memory() - before) / bench.plan.memory_keys)
        yield Comparison(f"memory for an entry, 16-byte key and {value_bytes:,}-byte value", "Redis used_memory", "bytes",
                         mine, other, less=True, must=AtLeast(1.0))


@row(600)
def map_get(bench):
    """Reads of single entries from shared memory (tests/bench/map.py)."""
    if not os.path.exists(bench.bench_map):
        raise NotBuilt("bench-map")
    done = subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "map.py"), bench.build, "--json",
                           f"--entries={bench.plan.memory_keys}", f"--seconds={bench.plan.load_seconds}",
                           f"--rounds={bench.plan.rounds}"], check=True, capture_output=True, text=True,
                          timeout=peers.SECONDS_MAX)
    numbers = json.loads(done.stdout)
    for name, peer, must in (("holdfast", "lmdb", 2), ("holdfast", "redis", 50), ("holdfast, updated meanwhile", "holdfast", 0.5),
                             ("holdfast, two processes", "holdfast", 1.8)):
        if peer in numbers:
            title = {"lmdb": "LMDB mdb_get", "redis": "Redis GET, 1 client", "holdfast": "one reader, no updates"}[peer]
            yield Comparison(f"shared-memory get{name.removeprefix('holdfast')}", title, "/s", numbers[name], numbers[peer],
                             must=AtLeast(must))


# --- checkpoints of a large state

@row(1200)
def pause(bench):
    """Checkpoints under a steady load, by size of the state."""
    points, ours_by_size = [], {}
    for size in bench.plan.pause_sizes:
        mine, other = pauses(bench, size)
        ours_by_size[size] = mine
        points.append({"size": size, "holdfast": mine, "redis": other})
        bench.keep("pause", points)
        note = f"p80 {percentile(mine, 0.8) * 1e3:.2f} ms, longest {max(mine) * 1e3:.2f} ms"
        yield Comparison(f"pause of a checkpoint, {size_name(size)}", "Redis latest_fork_usec", "ms",
                         [1e3 * value for value in mine], [1e3 * value for value in other], less=True, paired=False,
                         must=at_full_size(bench, AtLeast(50.0)) if size == bench.plan.size else None, note=note)
        yield Comparison(f"pause of a checkpoint, {size_name(size)}: median", "", "ms",
                         [1e3 * value for value in mine], must=AtMost(1.0))
    first, last = min(ours_by_size), max(ours_by_size)
    yield Comparison(f"pause at {size_name(last)} / pause at {size_name(first)}", "", "",
                     [median(ours_by_size[last]) / median(ours_by_size[first])], must=AtMost(2.0))


def pauses(bench, size):
    """Of both, in turn, in as many blocks as there are rounds; under a load on the one that is measured."""
    plan = bench.plan
    sides = bench.filled(size, with_redis=peers.meminfo("MemAvailable") > 2.4 * size + GIB)
    results = {side.name: [] for side in sides}
    for number in range(plan.rounds):
        for side in sides:
            with Load(bench.load, side, rate=plan.steady_rate, connections=4, keys=entries_of(size),
                      value_bytes=VALUE_BYTES, seed=number + 1) as load:
                time.sleep(0.2)
                results[side.name] += [side.pause() for _ in range(plan.checkpoints // plan.rounds)]
                load.end()
        bench.progress(number)
    return results["holdfast"], results.get("Redis", [])


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


@row(900)
def latency(bench):
    """Updates in an open loop, before and during a checkpoint."""
    plan = bench.plan
    sides = bench.filled(plan.size)
    found = {side.name: [] for side in sides}
    for number in range(plan.rounds):
        for side in sides:
            found[side.name].append(latency_round(bench, side, number))
        bench.progress(number)
    what = f"{plan.rate:,} updates/s, {size_name(plan.size)}"

    def values(name, function):
        return [function(phases) for phases in found[name]]

    def compare(text, unit, function, must):
        return Comparison(f"{text}, {what}", "Redis with BGSAVE", unit, values("holdfast", function),
                          values("Redis", function), less=True, must=must)

    yield compare("p50 before a checkpoint", "ms", lambda p: p["before"]["p50"] / 1e3, None)
    yield compare("p50 during it", "ms", lambda p: p["during"]["p50"] / 1e3, None)
    yield compare("p99 before it", "ms", lambda p: p["before"]["p99"] / 1e3, None)
    yield compare("p99 during it", "ms", lambda p: p["during"]["p99"] / 1e3, None)
    yield compare("p99 during / p99 before", "", lambda p: p["during"]["p99"] / p["before"]["p99"],
                  AtMost(1.5))
    yield compare("p99.9 during it", "ms", lambda p: p["during"]["p999"] / 1e3, AtMost(5.0))
    yield compare("longest during it", "ms", lambda p: p["during"]["max"] / 1e3, at_full_size(bench, AtLeast(10.0)))


def latency_round(bench, side, number):
    plan = bench.plan
    series = os.path.join(bench.directory("series"), f"{side.name}-{number}")
    with Load(bench.load, side, rate=plan.rate, connections=10, keys=entries_of(plan.size), value_bytes=VALUE_BYTES,
              seed=number + 1, series=series) as load:
        time.sleep(plan.before_seconds / 2)  # its pages are touched again
        load.phase("before")
        time.sleep(plan.before_seconds)
        load.phase("during")
        side.checkpoint()
        load.phase("after")
        time.sleep(plan.before_seconds / 2)
        phases = load.end()
    if number == plan.rounds // 2:
        with open(series, encoding="ascii") as file:
            windows = [[float(word) for word in line.split()] for line in file]
        bench.keep(f"latency-{side.name}", {"begin": phases["during"]["beginSeconds"],
                                            "end": phases["after"]["beginSeconds"], "windows": windows})
    return phases


@row(900)
def memory(bench):
    """What a checkpoint takes above the state, at as many updates as go through."""
    plan = bench.plan
    sides = bench.filled(plan.size)
    mine, other = alternate(bench, *[lambda side=side: memory_round(bench, side, plan.size) / MIB for side in sides])
    bound = (RING_BYTES + 16 * MIB + plan.size / 200) / MIB
    yield Comparison(f"memory above the state during a checkpoint at full rate, {size_name(plan.size)}",
                     "Redis with BGSAVE", "MiB", mine, other, less=True, must=AtMost(bound))


class MemoryWatch(threading.Thread):
    """The machine's memory above what it was, every 20 ms."""

    def __init__(self, before):
        super().__init__(daemon=True)
        self.before, self.samples, self.stop = before, [], threading.Event()
        self.began = time.monotonic()

    def run(self):
        while not self.stop.is_set():
            self.samples.append((time.monotonic() - self.began, peers.machine_memory() - self.before))
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()


def memory_round(bench, side, size, keep=True):
    """The peak, in bytes; and the course for the plot."""
    with Load(bench.load, side, connections=4, pipelined=4, keys=entries_of(size), value_bytes=VALUE_BYTES) as load:
        time.sleep(1)
        overhead = side.overhead()
        with MemoryWatch(peers.machine_memory() - overhead) as watch:
            time.sleep(0.2)
            began = time.monotonic() - watch.began
            side.checkpoint()
            ended = time.monotonic() - watch.began
            time.sleep(0.5)
        load.end()
    if keep:
        bench.keep(f"memory-{side.name}", {"begin": began, "end": ended, "samples": watch.samples[:: max(1, len(watch.samples) // 1000)]})
    return max(value for at, value in watch.samples if began <= at <= ended)


@row(900)
def saved(bench):
    """State bytes a second, nothing else going on."""
    plan = bench.plan
    ours, theirs = bench.filled(plan.size)
    state = entries_of(plan.size) * (16 + VALUE_BYTES)  # keys and values: the same bytes in both
    image = []

    def checkpoint():
        os.sync()
        took, taken = ours.checkpoint()
        image.append(taken["imageBytes"])
        return state / took / 1e6, taken["imageBytes"] / took / 1e6

    def bgsave():
        os.sync()
        return state / theirs.checkpoint()[0] / 1e6

    mine, other, raw = alternate(bench, checkpoint, bgsave, lambda: dd_rate(bench, image[-1]))
    yield Comparison(f"keys and values saved, {size_name(plan.size)}", "BGSAVE", "MB/s", [pair[0] for pair in mine], other,
                     must=AtLeast(5.0))
    yield Comparison(f"image bytes written, {size_name(plan.size)}", "dd conv=fsync", "MB/s", [pair[1] for pair in mine], raw,
                     must=AtLeast(0.8))


def dd_rate(bench, size):
    path = os.path.join(bench.directory("dd"), "file")
    os.sync()
    began = time.monotonic()
    subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size // MIB + 1}", "conv=fsync", "status=none"],
                   check=True, timeout=peers.SECONDS_MAX)
    took = time.monotonic() - began
    os.unlink(path)
    return size / took / 1e6


@row(1500)
def restart(bench):
    """From the start of the program to the first answer."""
    for value_bytes, caches in ((VALUE_BYTES, ("warm", "cold")), (100, ("warm",))):
        ours, theirs = bench.filled(bench.plan.size, value_bytes=value_bytes)
        theirs.checkpoint()
        for cache in caches:
            mine, other = alternate(bench, *[lambda side=side, cold=cache == "cold": side.start_again(cold)
                                                         for side in (ours, theirs)])
            yield Comparison(f"start to first answer, {size_name(bench.plan.size)} of {value_bytes:,}-byte values, page cache {cache}",
                             "Redis and its RDB", "s", mine, other, less=True, must=at_full_size(bench, AtLeast(10.0)) if cache == "warm" else None)


# --- growth

@row(900)
def growth(bench):
    """The same at one size after another: how each grows. No peer, no comparison; the table has the exponents."""
    points = []
    for size in bench.plan.growth_sizes:
        points.append(growth_point(bench, size))
        bench.keep("growth", points)
    yield from ()


def growth_point(bench, size):
    plan = bench.plan
    ours, = bench.filled(size, with_redis=False)
    durations = [ours.checkpoint()[0] for _ in range(3)]
    with Load(bench.load, ours, rate=plan.steady_rate, connections=4, keys=entries_of(size), value_bytes=VALUE_BYTES) as load:
        pause_times = [ours.pause() for _ in range(5)]
        load.end()
    done = run_load(bench.load, ours, "put", connections=50, keys=entries_of(size), value_bytes=VALUE_BYTES,
                    seconds=f"{plan.load_seconds}s")
    return {"size": size, "checkpoint": median(durations), "pause": median(pause_times), "update": 1 / done["rate"],
            "memory": memory_round(bench, ours, size, keep=False)}
