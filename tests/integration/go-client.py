"""The Go client: gofmt, go vet, and its own tests (client/go/*_test.go) under the race detector, against the real daemon.
Every test of it is one here. Needs Debian's golang-go and no network. HOLDFAST_GO_TESTS=REGEXP chooses tests."""

import json
import os
import shutil
import subprocess

from daemon import Skip, equal, run, test

SOURCE = os.path.join(os.environ["HOLDFAST_SOURCE"], "client", "go")
PROGRAMS = os.path.join(os.environ["HOLDFAST_SOURCE"], "tests", "go")
BUILD = os.environ["HOLDFAST_BUILD"]


def go(*arguments, directory=SOURCE):
    """Runs the tool so that it writes to the build directory alone and asks no network."""
    tool = shutil.which("go")
    if not tool:
        raise Skip("needs go (Debian's golang-go)")
    environment = {**os.environ, "GOCACHE": os.path.join(BUILD, "go-cache"), "GOPATH": os.path.join(BUILD, "go-path"),
                   "GOPROXY": "off", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "GOENV": "off"}
    return subprocess.run(["nice", tool, *arguments], cwd=directory, env=environment, capture_output=True, text=True,
                          check=False)


@test("go vet and gofmt have nothing to say")
def _():
    for directory in (SOURCE, PROGRAMS):
        result = go("vet", "./...", directory=directory)
        equal(result.returncode, 0, f"go vet, which says {result.stderr}:\nits status")
        if shutil.which("gofmt"):
            equal(subprocess.run(["gofmt", "-l", directory], capture_output=True, text=True, check=True).stdout, "",
                  "gofmt's list")


@test("the tests of the Go client pass under the race detector")
def _():
    result = go("test", "-race", "-count=1", "-json", "-timeout=10m", "-run", os.environ.get("HOLDFAST_GO_TESTS", "."),
                "./...")
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    ended = {line["Test"]: line["Action"] for line in lines
             if "Test" in line and line["Action"] in ("pass", "fail", "skip")}
    if result.returncode != 0:
        raise AssertionError("".join(line.get("Output", "") for line in lines)[-8000:] + result.stderr[-4000:])
    skipped = [name for name, action in ended.items() if action == "skip"]
    equal(skipped, [], "skipped tests")
    if "HOLDFAST_GO_TESTS" not in os.environ and len(ended) < 20:
        raise AssertionError(f"only {len(ended)} tests")
    print(f"# {len(ended)} tests")


run()
