"""GetMetrics, read by the parser of Prometheus' own client for Python: what is counted is what was done, histograms of all
methods that were called, nothing of arenas that the caller may not read; and holdfastctl metrics."""

import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from daemon import Daemon, Skip, equal, eventually, expect_error, message, need_root, run, test  # noqa: E402

try:
    from prometheus_client.openmetrics import parser
except ImportError:
    parser = None
    # Debian's package is there for Debian's interpreter alone.
    if os.path.exists("/usr/bin/python3") and os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

QUIET = ["Checkpoint.IntervalSec=0", "Checkpoint.AtStop=no"]


def parsed(text):
    """{family: Metric}"""
    if parser is None:
        raise Skip("no python3-prometheus-client")
    families = list(parser.text_string_to_metric_families(text))
    found = {family.name: family for family in families}
    equal(len(found), len(families), "each family is there once")
    return found


def metrics(client):
    return parsed(client.call("GetMetrics")["text"])


def sample(found, family, suffix="", **labels):
    """The value of one sample; None: there is none."""
    values = [each.value for each in found[family].samples
              if each.name == family + suffix and all(each.labels.get(name) == labels[name] for name in labels)]
    assert len(values) <= 1, values
    return values[0] if values else None


def requests(found, method, suffix="_count"):
    return sample(found, "holdfast_request_duration_seconds", suffix, method=method)


def check_histogram(found, family, **labels):
    """Its buckets rise and end with all; the sum fits them. How many there are, and the sum."""
    buckets = [(float(each.labels["le"]), each.value) for each in found[family].samples
               if each.name == family + "_bucket" and all(each.labels[name] == labels[name] for name in labels)]
    equal(buckets, sorted(buckets), family)
    count, total = sample(found, family, "_count", **labels), sample(found, family, "_sum", **labels)
    equal(buckets[-1], (float("inf"), count), family)
    least = sum((value - before) * low for (low, before), (_, value) in zip([(0, 0), *buckets], buckets))
    assert least <= total + 1e-5 * count + 1e-9, (family, least, total)
    return count, total


@test("what is counted is what was done")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        for i in range(20):
            client.call("Put", arena="a", key=f"k{i}", value="x" * 100)
        for i in range(7):
            client.call("Get", arena="a", key=f"k{i}")
        with expect_error("NoSuchKey"):
            client.call("Get", arena="a", key="none")
        with expect_error("MethodNotFound"):
            client.call("io.holdfast.Nothing")
        made = client.call("TakeCheckpoint")["checkpoint"]
        found = metrics(client)
        status = client.call("GetStatus")["status"]
        for family, value in (("arenas", 1), ("entries", 20), ("revision", status["revision"]),
                              ("durable_revision", status["revision"]), ("used_bytes", status["usedBytes"]),
                              ("read_only", 0), ("connections", 1), ("images", 1), ("checkpoint_running", 0),
                              ("last_image_bytes", made["imageBytes"]), ("start_time_seconds", status["startedUSec"] / 1e6),
                              ("last_checkpoint_time_seconds", made["startedUSec"] / 1e6)):
            equal(round(sample(found, f"holdfast_{family}") * 1e6), round(value * 1e6), family)
        for family, value in (("updates", status["updates"]), ("reads", status["reads"]),
                              ("images_written_bytes", made["imageBytes"])):
            equal(sample(found, f"holdfast_{family}", "_total"), value, family)
        equal(sample(found, "holdfast_build", "_info", version=status["version"]), 1)
        equal([sample(found, "holdfast_checkpoints", "_total", state=state)
               for state in ("complete", "failed", "cancelled")], [1, 0, 0])
        equal([requests(found, method) for method in ("CreateArena", "Put", "Get", "none", "TakeCheckpoint", "Merge",
                                                      "GetMetrics")], [1, 20, 8, 1, 1, None, None])
        assert sample(found, "holdfast_journal_written_bytes", "_total") >= 20 * 512
        equal(requests(metrics(client), "GetMetrics"), 1, "it counts itself, once its reply has left")


@test("histograms hold together, and say how long it took")
def _():
    daemon = Daemon(options=QUIET)
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        begin = time.monotonic()
        for i in range(50):
            client.call("Increment", arena="a", key="n")
        seconds = time.monotonic() - begin
        found = metrics(client)
        count, total = check_histogram(found, "holdfast_request_duration_seconds", method="Increment")
        equal(count, 50)
        equal(check_histogram(found, "holdfast_journal_write_seconds")[0], 51)
        syncs, syncing = check_histogram(found, "holdfast_journal_sync_seconds")
        equal(syncs, 51)
        # One client: each update waits for a sync of its own, and is answered after it. (Each time is cut to
        # microseconds.)
        assert total <= seconds, (total, seconds)
        total += requests(found, "CreateArena", "_sum")
        assert total >= syncing - 51e-6, (total, syncing)
        made = client.call("TakeCheckpoint")["checkpoint"]
        found = metrics(client)
    equal(check_histogram(found, "holdfast_checkpoint_pause_seconds"), (1, made["pauseUSec"] / 1e6))
    equal(check_histogram(found, "holdfast_checkpoint_duration_seconds"), (1, made["durationUSec"] / 1e6))
    count, total = check_histogram(found, "holdfast_request_duration_seconds", method="TakeCheckpoint")
    assert count == 1 and total >= made["durationUSec"] / 1e6 * 0.9, (total, made)


@test("a read behind an update on the same connection leaves with it, and is counted so")
def _():
    daemon = Daemon(options=QUIET + ["Journal.Sync=always"])
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        for _ in range(50):
            client.send_bytes(b"".join(json.dumps(each).encode() + b"\0" for each in (
                message("Put", {"arena": "a", "key": "k", "value": 1}), message("Get", {"arena": "a", "key": "k"}))))
            client.receive()
            client.receive()
        found = metrics(client)
    equal((requests(found, "Put"), requests(found, "Get")), (50, 50))
    # Read in one turn, and sent in one.
    equal(requests(found, "Put", "_sum"), requests(found, "Get", "_sum"))


@test("calls that wait for room are counted from when they came")
def _():
    daemon = Daemon(options=QUIET + ["Checkpoint.CaptureBytesMax=64K", "Checkpoint.WriteBytesPerSecMax=8M",
                                     "Journal.Sync=never"])
    with daemon.client() as client:
        client.call("CreateArena", name="a")
        for begin in range(0, 8000, 1000):
            client.call("Apply", arena="a", operations=[
                {"op": "put", "key": f"k{i}", "value": "y" * 1000} for i in range(begin, begin + 1000)])
        client.call("TakeCheckpoint", wait=False)
        # More pages than the ring has room for.
        client.call("Apply", arena="a", operations=[
            {"op": "put", "key": f"k{i}", "value": "z" * 1000} for i in range(0, 8000, 4)])
        eventually(lambda: "runningCheckpoint" not in client.call("GetStatus")["status"], "it is over")
        held = client.call("GetStatus")["status"]["lastCheckpoint"]["heldUSec"] / 1e6
        found = metrics(client)
    assert held > 0.01, held
    assert requests(found, "Apply", "_sum") >= held * 0.9, (requests(found, "Apply", "_sum"), held)
    assert sample(found, "holdfast_held_seconds", "_total") >= held * 0.9


@test("of single arenas only those are told that the caller may read")
def _():
    need_root()
    daemon = Daemon(options=QUIET + ["Server.SocketMode=0666"])
    os.chmod(daemon.directory, 0o755)
    with daemon.client() as client:
        client.call("CreateArena", name="open", mode=0o644)
        client.call("CreateArena", name="closed", mode=0o600)
        client.call("Put", arena="closed", key="k", value="x" * 3000)
        equal(sorted(each.labels["arena"] for each in metrics(client)["holdfast_arena_used_bytes"].samples),
              ["closed", "open"])
        equal(sample(metrics(client), "holdfast_arena_entries", arena="closed"), 1)
    # Another user's call, in a process of its own.
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with os.fdopen(writing, "w") as out, daemon.client() as client:
            out.write(client.call("GetMetrics")["text"])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.wait()
    found = parsed(text)
    for family in ("holdfast_arena_used_bytes", "holdfast_arena_entries", "holdfast_arena_max_bytes"):
        equal([each.labels["arena"] for each in found[family].samples], ["open"], family)
    assert "closed" not in text


@test("holdfastctl prints the text as it is, or the reply as JSON")
def _():
    daemon = Daemon(options=QUIET)
    ctl = [os.environ["HOLDFASTCTL"], f"--socket={daemon.socket}"]
    text = subprocess.run([*ctl, "metrics"], capture_output=True, text=True, check=True).stdout
    assert text.endswith("\n# EOF\n"), text[-100:]
    assert "holdfast_arenas" in parsed(text)
    reply = subprocess.run([*ctl, "-j", "metrics"], capture_output=True, text=True, check=True).stdout
    assert reply.lstrip().startswith("{"), reply[:100]


if __name__ == "__main__":
    run()
