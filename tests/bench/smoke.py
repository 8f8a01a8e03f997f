"""tests/bench/run at tiny sizes: that every row is measured, the results are written, and a row can be measured again alone.
What comes out of it is no measurement."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

from tap import Skip, equal, run, test

RUN = os.path.join(os.environ["HOLDFAST_SOURCE"], "tests", "bench", "run")
BUILD = os.environ["HOLDFAST_BUILD"]


def bench(directory, *arguments):
    if shutil.which("redis-server") is None and shutil.which("redis-check-rdb") is None:
        raise Skip("needs redis-tools or redis-server")
    if not os.path.exists(os.path.join(BUILD, "tests/bench/load")):
        raise Skip("the load is not built")
    done = subprocess.run([sys.executable, RUN, "--smoke", f"--build={BUILD}", f"--results={directory}/results",
                           f"--directory={directory}", *arguments], capture_output=True, text=True, check=False)
    if "a protocol may not be built in" in done.stderr + done.stdout:
        raise Skip("needs libhiredis-dev")
    if done.returncode != 0:
        raise AssertionError(done.stdout[-4000:] + done.stderr[-4000:])
    with open(f"{directory}/results/results.json", encoding="utf-8") as file:
        return json.load(file), set(os.listdir(directory)), set(os.listdir(f"{directory}/results"))


@test("every row is measured, the rest is tidied up, and a row alone is merged into the results")
def _():
    with tempfile.TemporaryDirectory(prefix="holdfast-test-") as directory:
        results, left, files = bench(directory)
        equal(results["failures"], {}, "failures")
        equal(left, {"results"}, "what is left")
        equal(files, {"results.json", "results.md", "latency.svg", "pause.svg", "memory.svg"}, "files")
        again, _, _ = bench(directory, "--only=import-lines")
        equal(list(again["rows"]), list(results["rows"]), "rows")
        changed = [name for name in results["rows"] if results["rows"][name] != again["rows"][name]]
        equal(changed, ["import-lines"], "rows that are new")


run()
