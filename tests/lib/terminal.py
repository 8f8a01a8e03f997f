"""A program on a terminal of its own, and what a person would see there.

    with Terminal([program, "top"], size=(24, 80)) as terminal:
        terminal.wait_for("updates")
        terminal.send("q")
        equal(terminal.wait(), 0)

`screen` plays the sequences that the project's tools write (cursor, erasing, alternate screen, colours) and fails at others, so
that a tool does not come to need what a plain terminal lacks."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

SEQUENCE = re.compile(r"\x1b\[([?]?)([0-9;]*)([A-Za-z])")


class Screen:
    """A grid of characters; `left` is what was written while the alternate screen was off."""

    def __init__(self, lines, columns):
        self.alternate, self.cursor_shown, self.left = False, True, ""
        self.line = self.column = 0
        self.resize(lines, columns)

    def resize(self, lines, columns):
        self.lines, self.columns = lines, columns
        self.rows = [[" "] * columns for _ in range(lines)]

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.rows)

    def scroll(self):
        self.rows = self.rows[1:] + [[" "] * self.columns]
        self.line = self.lines - 1

    def put(self, character):
        if not self.alternate:
            self.left += character
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.line += 1
            if self.line >= self.lines:
                self.scroll()
        else:
            if self.column >= self.columns:
                self.column, self.line = 0, self.line + 1
                if self.line >= self.lines:
                    self.scroll()
            self.rows[self.line][self.column] = character
            self.column += 1

    def erase_line(self, start):
        self.rows[self.line][start:] = [" "] * (self.columns - start)

    def sequence(self, private, numbers, final):
        first = int(numbers.split(";")[0] or 0)
        if private and final in "hl":
            if first == 1049:
                self.alternate = final == "h"
                self.resize(self.lines, self.columns)
            elif first == 25:
                self.cursor_shown = final == "h"
            else:
                raise AssertionError(f"mode {first}")
        elif final == "H":
            line, _, column = numbers.partition(";")
            self.line, self.column = min(int(line or 1), self.lines) - 1, min(int(column or 1), self.columns) - 1
        elif final == "K":
            self.erase_line(min(self.column, self.columns))
        elif final == "J":
            self.erase_line(min(self.column, self.columns))
            for row in range(self.line + 1, self.lines):
                self.rows[row] = [" "] * self.columns
        elif final != "m":
            raise AssertionError(f"sequence {private}{numbers}{final}")

    def feed(self, text):
        """Plays the text; returns what is left of it: a sequence that is not whole yet."""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self.put(text[at])
                at += 1
                continue
            match = SEQUENCE.match(text, at)
            if match is None:
                if len(text) - at > 32:
                    raise AssertionError(f"no sequence: {text[at:at + 32]!r}")
                return text[at:]
            self.sequence(*match.groups())
            at = match.end()
        return ""


class Terminal:
    """seen: all that was written, as text. play: whether `screen` follows it."""

    def __init__(self, command, size=(24, 80), environment=None, play=False, stdin=True):
        self.leader, follower = pty.openpty()
        self.seen, self.rest, self.pending = "", "", b""
        self.screen = Screen(*size) if play else None
        self._set_size(size)
        self.follower = follower  # kept, so that its settings can be looked at when the program is gone
        self.initial = self.settings()
        variables = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(environment or {})}
        variables = {name: value for name, value in variables.items() if value is not None}
        self.process = subprocess.Popen(
            command, stdin=follower if stdin else subprocess.DEVNULL, stdout=follower, stderr=follower, env=variables,
            start_new_session=True, preexec_fn=self._own_terminal)

    @staticmethod
    def _own_terminal():
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's is not for it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.leader)
        os.close(self.follower)
        return False

    def _set_size(self, size):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def resize(self, size):
        if self.screen:
            self.screen.resize(*size)
        self._set_size(size)

    def settings(self):
        return termios.tcgetattr(self.follower)

    def read(self, seconds=0.05):
        """Takes what is there, waiting a little for it; False if there was nothing."""
        if not select.select([self.leader], [], [], seconds)[0]:
            return False
        self.pending += os.read(self.leader, 65536)
        text = self.pending.decode("utf-8", "ignore" if len(self.pending) > 65536 else "surrogateescape")
        if text and "\udc80" <= text[-1] <= "\udcff":
            return True  # half a character
        self.pending = b""
        self.seen += text
        if self.screen:
            self.rest = self.screen.feed(self.rest + text)
        return True

    def wait_for(self, what, seconds=60):
        """Until the text (a pattern, or what a function of this says) is on the screen, or was written."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.screen.text() if self.screen else self.seen
            if what(self) if callable(what) else re.search(what, shown):
                return shown
            if time.monotonic() > deadline:
                raise AssertionError(f"{what!r} is not seen:\n{shown}\n({self.seen[-2000:]!r})")
            if not self.read() and self.process.poll() is not None and not self.read():
                shown = self.screen.text() if self.screen else self.seen
                if what(self) if callable(what) else re.search(what, shown):
                    return shown
                raise AssertionError(f"ended with {self.process.returncode}, {what!r} not seen:\n{self.seen[-2000:]!r}")

    def send(self, keys):
        os.write(self.leader, keys.encode())

    def wait(self, seconds=60):
        """Its end, with all that it wrote until then; the exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end:\n{self.seen[-2000:]!r}")
        while self.read(0):
            pass
        return self.process.returncode
