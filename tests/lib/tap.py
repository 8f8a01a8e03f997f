"""A test runner for scripts that meson runs with protocol 'tap'.

    @test("an update survives SIGKILL")
    def _(): ...

    run()

A test fails by an exception, and is skipped by raising Skip with the reason. Names on the command line choose the tests
whose claim contains one of them. Other modules hook in: after_each runs after every test and may raise, explain says
more about a failure."""

import os
import sys
import time
import traceback

_tests = []
after_each = []
explain = []


class Skip(Exception):
    """Something that the test needs is missing: the reason is reported."""


def test(claim):
    def register(function):
        _tests.append((claim, function))
        return function

    return register


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def eventually(condition, what, seconds=60, every=0.005):
    """Polls until the condition holds, and returns what it gave; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


def equal(found, expected, what="value"):
    if found != expected:
        raise AssertionError(f"{what} is {found!r}, not {expected!r}")


def _comment(text):
    for line in text.rstrip().splitlines():
        print(f"# {line}")


def _run_hooks():
    """All hooks run, whatever one of them says; the first failure is the one that counts."""
    failure = None
    for hook in after_each:
        try:
            hook()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _run_one(function):
    try:
        try:
            function()
        except BaseException as error:
            # Before the hooks: they tidy away what there is to say.
            for hook in explain:
                if not isinstance(error, Skip):
                    _comment(hook())
            try:
                _run_hooks()
            except Exception:
                _comment(traceback.format_exc())
            raise
        _run_hooks()
    except Skip as skip:
        return f" # SKIP {skip}", True
    except Exception:
        _comment(traceback.format_exc())
        return "", False
    return "", True


def run():
    wanted = sys.argv[1:]
    chosen = [(claim, function) for claim, function in _tests
              if not wanted or any(word in claim for word in wanted)]
    failed = 0
    print(f"1..{len(chosen)}", flush=True)
    for number, (claim, function) in enumerate(chosen, 1):
        suffix, passed = _run_one(function)
        failed += not passed
        name = claim.replace("#", r"\#")
        print(f"{'ok' if passed else 'not ok'} {number} - {name}{suffix}", flush=True)
    sys.exit(1 if failed else 0)
