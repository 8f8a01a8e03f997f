"""The counter of tests/run: what counts as passed, failed and skipped."""

import contextlib
import io

from summary import count_program, show
from tap import equal, run, test


def counted(result, stdout=""):
    counts = count_program({"name": "x", "result": result, "stdout": stdout})
    return counts["passed"], counts["failed"], counts["skipped"]


@test("every test of a TAP program counts")
def _():
    equal(counted("OK", "TAP version 13\n1..3\nok 1 - a\nok - b  (0.1s)\nok 3 - c # SKIP needs root\n"), (2, 0, 1))
    equal(counted("FAIL", "1..2\nok 1 - a\nnot ok 2 - b\n# why\n"), (1, 1, 0))


@test("a hash in a claim is no directive")
def _():
    equal(counted("OK", "1..1\nok 1 - issue \\# skip is a word\n"), (1, 0, 0))


@test("a program that crashes, or says less than it planned, is a failure")
def _():
    equal(counted("ERROR", "1..3\nok 1 - a\n"), (1, 1, 0))
    equal(counted("TIMEOUT", ""), (0, 1, 0))
    equal(counted("ERROR", ""), (0, 1, 0))


@test("a failure is not counted twice when the program also ends with an error")
def _():
    equal(counted("ERROR", "1..2\nok 1 - a\nnot ok 2 - b\n"), (1, 1, 0))


@test("a program without TAP counts as one test")
def _():
    equal(counted("OK", "all is well\n"), (1, 0, 0))
    equal(counted("FAIL", "it is not\n"), (0, 1, 0))
    equal(counted("SKIP"), (0, 0, 1))


@test("a program that should fail passes by failing, and fails by passing")
def _():
    equal(counted("EXPECTEDFAIL", "1..1\nnot ok 1 - a\n"), (1, 0, 0))
    equal(counted("UNEXPECTEDPASS"), (0, 1, 0))
    equal(counted("UNEXPECTEDPASS", "1..1\nok 1 - a\n"), (1, 1, 0))


@test("a plan of no tests is one that was skipped")
def _():
    equal(counted("SKIP", "1..0 # SKIP no compiler\n"), (0, 0, 1))


@test("of long output the failures and the end are shown")
def _():
    output = "not ok 1 - early\n" + "filler\n" * 1000 + "last words\n"
    caught = io.StringIO()
    with contextlib.redirect_stderr(caught):
        show({"name": "x", "result": "FAIL", "stdout": output}, "gcc")
    text = caught.getvalue()
    equal(["gcc: x: FAIL" in text, "not ok 1 - early" in text, text.endswith("last words\n")], [True] * 3, "parts")
    equal(len(text.splitlines()) < 400, True, "shortness")


if __name__ == "__main__":
    run()
