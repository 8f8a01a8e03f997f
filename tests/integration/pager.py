"""holdfastctl's pager: when there is one, which, and what it is told."""

import os
import shutil
import subprocess
import tempfile

from daemon import Daemon, Skip, equal, run, test
from terminal import Terminal

PROGRAM = os.environ["HOLDFASTCTL"]
ENTRIES = 200


class Setting:
    """A daemon with a long list, and a pager that leaves word."""

    def __enter__(self):
        self.daemon = Daemon()
        self.daemon.call("CreateArena", name="a")
        self.daemon.call("Apply", arena="a", operations=[
            {"op": "put", "key": f"key{i:03}", "value": i} for i in range(ENTRIES)])
        self.directory = tempfile.TemporaryDirectory(prefix="holdfast-test-")
        self.word = os.path.join(self.directory.name, "word")
        self.pager = os.path.join(self.directory.name, "pager")
        with open(self.pager, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\nprintf "%s " "$LESS" "$LESSSECURE" "$@" >{self.word}\nexec cat\n')
        os.chmod(self.pager, 0o755)
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    def terminal(self, *arguments, **environment):
        for name in ("SUDO_UID", "PKEXEC_UID", "HOLDFAST_PAGER", "PAGER", "LESS"):
            environment.setdefault(name, None)
        return Terminal([PROGRAM, f"--socket={self.daemon.socket}", *arguments], environment=environment)

    def paged(self, *arguments, **environment):
        """Runs to the end: what the pager was told (None: there was none), and what was seen."""
        if os.path.exists(self.word):
            os.unlink(self.word)
        with self.terminal(*arguments, **environment) as terminal:
            equal(terminal.wait(), 0, "exit status")
            seen = terminal.seen
        if not os.path.exists(self.word):
            return None, seen
        with open(self.word, encoding="ascii") as file:
            return file.read().split(), seen


@test("a long list goes to $HOLDFAST_PAGER, else to $PAGER, with the flags for less, and nothing of it is lost")
def _():
    with Setting() as setting:
        word, seen = setting.paged("list", "a", HOLDFAST_PAGER=setting.pager + " one two", PAGER="false")
        equal(word, ["FRSXMK", "one", "two"])
        assert all(f"key{i:03}" in seen for i in range(ENTRIES)), seen
        word, _ = setting.paged("list", "a", PAGER=setting.pager)
        equal(word, ["FRSXMK"])


@test("tables, the status, the interface and --help are paged; values are not")
def _():
    with Setting() as setting:
        setting.daemon.call("TakeCheckpoint")
        for arguments in ([], ["status"], ["arenas"], ["checkpoints"], ["introspect"], ["--help"], ["put", "--help"],
                          ["-j", "arenas"]):
            word, seen = setting.paged(*arguments, PAGER=setting.pager)
            equal(word, ["FRSXMK"], f"pager of {arguments}")
            assert len(seen) > 20, seen
        for arguments in (["get", "a", "key000"], ["export", "a"], ["--version"]):
            equal(setting.paged(*arguments, PAGER=setting.pager)[0], None, f"pager of {arguments}")


@test("no pager with --no-pager, on a dumb terminal, in a pipe, and where the variable is empty or cat")
def _():
    with Setting() as setting:
        for arguments, environment in ((["--no-pager"], {}), ([], {"TERM": "dumb"}), ([], {"HOLDFAST_PAGER": ""}),
                                       ([], {"HOLDFAST_PAGER": "cat"})):
            word, seen = setting.paged("list", "a", *arguments, **{"PAGER": setting.pager, **environment})
            equal(word, None, f"pager with {arguments} {environment}")
            assert "key199" in seen, seen
        done = subprocess.run([PROGRAM, f"--socket={setting.daemon.socket}", "list", "a"], capture_output=True,
                              env={**os.environ, "PAGER": setting.pager}, check=True)
        equal((os.path.exists(setting.word), done.stdout.count(b"\n")), (False, ENTRIES + 1))


@test("a pager that is not there is passed over")
def _():
    with Setting() as setting:
        word, seen = setting.paged("arenas", PAGER="/nonexistent/pager")
        assert word is None and "ARENA" in seen, seen
        # Not even less: the output is copied.
        word, seen = setting.paged("list", "a", PAGER="/nonexistent/pager", PATH="/nonexistent")
        assert word is None and "key199" in seen, seen


@test("with somebody else's rights only less is run, and told to be careful")
def _():
    with Setting() as setting:
        with tempfile.TemporaryDirectory() as directory:
            os.symlink(setting.pager, os.path.join(directory, "less"))
            word, _ = setting.paged("list", "a", PAGER="/nonexistent/pager", SUDO_UID="1000",
                                    PATH=directory + ":" + os.environ["PATH"])
        equal(word, ["FRSXMK", "1"])


@test("leaving less early is no failure, and what fits on the screen needs no key")
def _():
    if shutil.which("less") is None:
        raise Skip("less is missing")
    with Setting() as setting:
        with setting.terminal("list", "a") as terminal:
            terminal.wait_for("lines 1-|byte")
            terminal.send("q")
            equal(terminal.wait(), 0)
            assert terminal.seen.count("key") < ENTRIES, terminal.seen
        _, seen = setting.paged("arenas")
        assert "ENTRIES" in seen, seen


@test("errors are told, with their status, and no pager holds them back")
def _():
    with Setting() as setting, setting.terminal("list", "nothing", PAGER=setting.pager) as terminal:
        equal(terminal.wait(), 1)
        assert "there is no arena 'nothing'" in terminal.seen, terminal.seen


run()
