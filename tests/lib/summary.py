"""Counts the single tests of a meson run and shows what failed.

    summary.py BUILD-DIRECTORY NAME EXIT-STATUS

Reads meson's testlog.json, which has a line for each program. Of programs that say TAP every test counts, of others the
program. A program that failed without saying which test (it crashed, took too long, ran other tests than planned) is one
more failure, and so is an exit status of meson that nothing in the log explains. Prints "PASSED FAILED SKIPPED" on stdout and
everything else on stderr."""

import collections
import json
import os
import re
import sys

TAP_LINE = re.compile(r"(?P<verdict>ok|not ok)\b(?P<rest>.*)")
PLAN = re.compile(r"1\.\.(\d+)\s*(?P<skip>#\s*skip)?", re.IGNORECASE)
DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip|todo)\b", re.IGNORECASE)
OUTPUT_LINES = 300

# Results of meson for programs as a whole.
PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def count_tap(output):
    """Counter of passed, failed, skipped, by TAP's rules; a plan of no tests is one that was skipped."""
    counts = collections.Counter()
    for line in output.splitlines():
        plan = PLAN.match(line)
        if plan and plan[1] == "0":
            counts["skipped"] += 1
        found = TAP_LINE.match(line)
        if not found:
            continue
        directive = DIRECTIVE.search(found["rest"])
        if directive:
            counts["skipped"] += 1
        elif found["verdict"] == "ok":
            counts["passed"] += 1
        else:
            counts["failed"] += 1
    return counts


def says_tap(record):
    return any(PLAN.match(line) for line in record.get("stdout", "").splitlines()[:20])


def count_program(record):
    result = record["result"]
    if result != "EXPECTEDFAIL" and says_tap(record):
        counts = count_tap(record["stdout"])
        if result not in PASSED | SKIPPED and not counts["failed"]:
            counts["failed"] += 1
        return counts
    kind = "passed" if result in PASSED else "skipped" if result in SKIPPED else "failed"
    return collections.Counter({kind: 1})


def show(record, run):
    """What a failed program said, the end of it if that is much."""
    lines = (record.get("stdout", "") + record.get("stderr", "")).splitlines()
    print(f"--- {run}: {record['name']}: {record['result']}", file=sys.stderr)
    if len(lines) > OUTPUT_LINES:
        failures = [line for line in lines[:-OUTPUT_LINES] if line.startswith("not ok")]
        lines = failures + [f"... {len(lines) - OUTPUT_LINES} lines ..."] + lines[-OUTPUT_LINES:]
    print("\n".join(lines), file=sys.stderr)


def main():
    directory, run, status = sys.argv[1], sys.argv[2], int(sys.argv[3])
    total = collections.Counter()
    try:
        with open(os.path.join(directory, "meson-logs", "testlog.json"), encoding="utf-8") as log:
            records = [json.loads(line) for line in log]
    except FileNotFoundError:
        records = []
    for record in records:
        counts = count_program(record)
        total += counts
        if counts["failed"]:
            show(record, run)
    if (status != 0 and not total["failed"]) or not records:
        print(f"--- {run}: meson ended with {status} after {len(records)} programs", file=sys.stderr)
        total["failed"] += 1
    print(total["passed"], total["failed"], total["skipped"])


if __name__ == "__main__":
    main()
