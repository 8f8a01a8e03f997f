"""holdfastd's command line and configuration, as an administrator meets them."""

import os
import signal
import subprocess
import tempfile

from daemon import DEADLINE, Daemon, DaemonEnded, equal, eventually, run, test

PROGRAM = os.environ["HOLDFASTD"]


def holdfastd(*arguments, **environment):
    return subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEADLINE, env={**os.environ, **environment})


def with_config(text, *arguments):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "test.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return holdfastd(f"--config={path}", *arguments)


def says(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError(f"{part!r} is not in {text!r}")


@test("--version and --help answer on stdout and end with 0")
def _():
    result = holdfastd("--version")
    equal((result.returncode, result.stderr), (0, ""))
    says(result.stdout, "holdfastd ")
    result = holdfastd("--help")
    equal((result.returncode, result.stderr), (0, ""))
    for option in ("config", "state-directory", "socket", "option", "recover", "check-config", "version", "help"):
        says(result.stdout, f"--{option}")


@test("a mistake on the command line ends with 64 and is named")
def _():
    for arguments, part in ((["--frobnicate"], "frobnicate"), (["start"], "start"), (["--recover=all"], "all"),
                            (["--config"], "config"), (["--socket="], "socket")):
        result = holdfastd(*arguments)
        equal(result.returncode, 64, f"status of {arguments}")
        says(result.stderr, part)
        equal(result.stdout, "", "stdout")


@test("--check-config is silent and ends with 0 where all is well")
def _():
    result = with_config("[Checkpoint]\nKeep=2\n", "--check-config", "--option=Journal.Sync=never")
    equal((result.returncode, result.stdout, result.stderr), (0, "", ""))


@test("a wrong value ends with 78 and names file, line and key, with and without --check-config")
def _():
    for more in (["--check-config"], []):
        result = with_config("# x\n[Checkpoint]\nKeep=none\n", *more)
        equal(result.returncode, 78, "status")
        says(result.stderr, "test.conf:3: Checkpoint.Keep=none")


@test("a wrong --option ends with 78 and is named")
def _():
    for option in ("Checkpoint.Keep=none", "Checkpoint.Keap=1", "Keep=1", "Checkpoint.Keep"):
        result = with_config("", f"--option={option}")
        equal(result.returncode, 78, f"status for {option}")
        says(result.stderr, "--option", option.partition("=")[0])


@test("a file that --config names has to be there")
def _():
    result = holdfastd("--config=/nonexistent/holdfastd.conf", "--check-config")
    equal(result.returncode, 78, "status")
    says(result.stderr, "/nonexistent/holdfastd.conf")


@test("an unknown key is warned of and no obstacle")
def _():
    result = with_config("[Checkpoint]\nKeap=2\n", "--check-config")
    equal(result.returncode, 0, "status")
    says(result.stderr, "test.conf:2", "Keap=")


@test("$CONFIGURATION_DIRECTORY says where the configuration lies")
def _():
    with tempfile.TemporaryDirectory() as directory:
        os.mkdir(os.path.join(directory, "holdfastd.conf.d"))
        with open(os.path.join(directory, "holdfastd.conf.d", "10.conf"), "w", encoding="utf-8") as file:
            file.write("[Checkpoint]\nKeep=none\n")
        result = holdfastd("--check-config", CONFIGURATION_DIRECTORY=directory)
        equal(result.returncode, 78, "status")
        says(result.stderr, f"{directory}/holdfastd.conf.d/10.conf:2")


@test("it starts, answers, and SIGTERM ends it with 0 and without its socket")
def _():
    daemon = Daemon()
    info = daemon.call("org.varlink.service.GetInfo")
    says(" ".join(info["interfaces"]), "io.holdfast")
    equal(daemon.status()["pid"], daemon.pid, "pid")
    equal(os.stat(daemon.state).st_mode & 0o7777, 0o700, "mode of the state directory")
    daemon.stop()
    equal(os.path.exists(daemon.socket), False, "the socket's existence")


@test("SIGINT ends it as SIGTERM does")
def _():
    daemon = Daemon()
    daemon.signal(signal.SIGINT)
    equal(daemon.wait(), 0, "status")


@test("the socket has the configured mode, whatever the umask")
def _():
    for mode in ("0600", "0666"):
        with Daemon(config=f"[Server]\nSocketMode={mode}\n") as daemon:
            equal(os.stat(daemon.socket).st_mode & 0o7777, int(mode, 8), "mode")


@test("an option comes before the file, a drop-in before the main file")
def _():
    daemon = Daemon(config="[Server]\nSocketMode=0600\n[Arenas]\nArenasMax=1\n", start=False)
    os.mkdir(daemon.config_path + ".d")
    with open(os.path.join(daemon.config_path + ".d", "10.conf"), "w", encoding="utf-8") as file:
        file.write("[Server]\nSocketMode=0640\n")
    daemon.start()
    equal(os.stat(daemon.socket).st_mode & 0o7777, 0o640, "mode")
    daemon.stop()
    daemon.options.append("Server.SocketMode=0660")
    with daemon.start():
        equal(os.stat(daemon.socket).st_mode & 0o7777, 0o660, "mode")


@test("a second daemon on the same state is refused and leaves the first alone")
def _():
    with Daemon() as first:
        second = Daemon(directory=first.directory, start=False)
        second.socket = os.path.join(first.directory, "other-socket")
        try:
            second.start()
        except DaemonEnded as ended:
            if ended.status <= 0:
                raise
        else:
            raise AssertionError("two daemons serve one state")
        equal(first.status()["state"], "serving", "state of the first")
        eventually(lambda: not os.path.exists(second.socket), "the second left no socket")


if __name__ == "__main__":
    run()
