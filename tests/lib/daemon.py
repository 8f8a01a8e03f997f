"""Runs a real holdfastd for a test, on a temporary directory.

    with Daemon(options=["Journal.Sync=never"]) as daemon, daemon.client() as client:
        client.call("CreateArena", name="a")
        daemon.kill()
        daemon.start()

The program is $HOLDFASTD. Whatever a test leaves running is killed after it, and at the end of the script however that
comes; a daemon that ended by itself, and a report of a sanitizer, fail the test."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import tap
from tap import Skip, equal, eventually, need_root, run, test  # noqa: F401: scripts import them from here
from varlink import Client, VarlinkError, expect_error, message  # noqa: F401

# A sanitized daemon on a busy machine is slow; a daemon that hangs is found all the same.
DEADLINE = 120

# What a service manager would have set, for itself and not for our daemon.
FOREIGN = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID",
           "JOURNAL_STREAM", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY")

REPORTS = ("runtime error:", "ERROR: AddressSanitizer", "ERROR: LeakSanitizer")

_daemons = []


def in_memory():
    """From now on temporary directories lie in memory where that can be: for tests that do not look at the disk."""
    if os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"


def for_others(program, directory):
    """A copy of a program where other users can run it, too: a checkout may lie where they see nothing."""
    copy = os.path.join(directory, os.path.basename(program))
    shutil.copy(program, copy)
    os.chmod(copy, 0o755)
    return copy


class DaemonEnded(Exception):
    """The daemon ended where it should have started; status as of subprocess: negative for a signal."""

    def __init__(self, status, log):
        super().__init__(f"holdfastd ended with {status}:\n{log}")
        self.status = status
        self.log = log


class Daemon:
    """options: of --option; arguments: more of the command line; config: the text of the configuration file;
    environment: variables to set, None unsets; directory: an existing one, kept, instead of a temporary one;
    wrapper: a command line in front of the program's; started unless start is False."""

    def __init__(self, options=(), arguments=(), config="", environment=None, directory=None, wrapper=(),
                 program=None, start=True):
        self.program = program or os.environ.get("HOLDFASTD")
        if not self.program:
            raise RuntimeError("HOLDFASTD does not say where the daemon's program is")
        self.temporary = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="holdfast-test-")
        self.state = os.path.join(self.directory, "state")
        self.socket = os.path.join(self.directory, "socket")
        self.log_path = os.path.join(self.directory, "log")
        self.config_path = os.path.join(self.directory, "holdfastd.conf")
        self.options = list(options)
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.wrapper = list(wrapper)
        self.process = None
        self.ended = True  # on purpose, or not started
        self.configure(config)
        _daemons.append(self)
        if start:
            try:
                self.start()
            except BaseException:
                self.ended = True
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and self.process is not None and not self.ended:
            self.stop()
        return False

    # Configuration and state

    def configure(self, config):
        """Replaces the configuration file; read at the next start or reload."""
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(config)

    def log(self):
        """All that it has said so far, over all starts."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def path(self, *names):
        """A path below the state directory."""
        return os.path.join(self.state, *names)

    def command_line(self):
        return (self.wrapper + [self.program, f"--config={self.config_path}", f"--state-directory={self.state}",
                                f"--socket={self.socket}"] +
                [f"--option={option}" for option in self.options] + self.arguments)

    # Life

    @property
    def pid(self):
        return self.process.pid

    def launch(self, **popen):
        """Starts the program and does not wait for it. popen: more arguments of subprocess.Popen."""
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        environment.update(self.environment)
        environment = {name: value for name, value in environment.items() if value is not None}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, **popen)
        self.ended = False
        return self

    def start(self, **popen):
        """Starts and waits until the socket answers. Raises DaemonEnded."""
        before = len(self.log())
        self.launch(**popen)
        eventually(lambda: self._answers(before), "the daemon answers", DEADLINE, every=0.001)
        return self

    def _answers(self, log_before):
        if self.process.poll() is not None:
            self.ended = True
            raise DaemonEnded(self.process.returncode, self.log()[log_before:])
        try:
            with self.client() as client:
                client.call("org.varlink.service.GetInfo")
        except (FileNotFoundError, ConnectionError, EOFError):
            return False
        return True

    def client(self, **arguments):
        return Client(self.socket, **arguments)

    def call(self, method, parameters=None, **fields):
        """One call on a connection of its own."""
        with self.client() as client:
            return client.call(method, parameters, **fields)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=DEADLINE):
        """Waits for its end, which the test expects, and returns the status."""
        self.ended = True
        return self.process.wait(seconds)

    def stop(self, status=0):
        """SIGTERM, and a clean end."""
        self.signal(signal.SIGTERM)
        found = self.wait()
        if found != status:
            raise AssertionError(f"holdfastd ended with {found}, not {status}:\n{self.log()[-4000:]}")

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self):
        self.stop()
        return self.start()

    def status(self):
        return self.call("GetStatus")["status"]

    def remove(self):
        """Kills what runs and removes the temporary directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def reported(self):
        """True when a sanitizer has said something."""
        return any(report in self.log() for report in REPORTS)

    def forget(self):
        """Removes it before the test's end, where there are very many of them."""
        self.ended = True
        self.remove()
        _daemons.remove(self)


def _tidy():
    """After each test: everything goes; says so where a daemon did what no test asked of it."""
    complaints = []
    while _daemons:
        daemon = _daemons.pop()
        log = daemon.log()
        if not daemon.ended and daemon.process.poll() is not None:
            complaints.append(f"holdfastd ended by itself with {daemon.process.returncode}")
        if daemon.reported():
            complaints.append("a sanitizer reports")
        if complaints:
            complaints.append(log[-8000:])
        daemon.remove()
    if complaints:
        raise AssertionError("\n".join(complaints))


def _explain():
    return "\n".join(f"the log in {daemon.directory}:\n{daemon.log()[-8000:]}" for daemon in _daemons)


def _at_exit():
    for daemon in _daemons:
        daemon.remove()


tap.after_each.append(_tidy)
tap.explain.append(_explain)
atexit.register(_at_exit)
# So that atexit is run; meson ends tests that take too long this way.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
