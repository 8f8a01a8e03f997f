"""Completion for bash and zsh: against the tool's own tables, and against a running daemon: bash's function from a script, and
both shells on a terminal."""

import os
import re
import shutil
import subprocess
import time

from daemon import Daemon, Skip, equal, run, test
from terminal import Terminal

PROGRAM = os.environ["HOLDFASTCTL"]
DIRECTORY = os.path.join(os.environ["HOLDFAST_SOURCE"], "client/ctl/completion")
BASH, ZSH = os.path.join(DIRECTORY, "holdfastctl.bash"), os.path.join(DIRECTORY, "holdfastctl.zsh")

# Calls the function as readline does, with the words of the arguments; prints what it replies.
SCRIPT = """
source "$1" || exit
shift
COMP_LINE=$1 COMP_POINT=${#1}
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_holdfastctl "${COMP_WORDS[0]}" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def need(program):
    if shutil.which(program) is None:
        raise Skip(f"{program} is missing")


def parted(line):
    """As readline parts a line into words: at white space, and at = and : which are words of their own."""
    words = re.findall(r"(?:'[^']*'?|\"[^\"]*\"?|\\.|[^\s=:'\"\\])+|[=:]+", line)
    if not line or line[-1].isspace() or line[-1] in "=:":
        words.append("")
    return words


def bash(line):
    done = subprocess.run(["bash", "--norc", "-c", SCRIPT, "bash", BASH, line, *parted(line)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False)
    equal((done.returncode, done.stderr), (0, ""), f"status and stderr for {line!r}")
    return sorted(reply for reply in done.stdout.splitlines() if reply)


def helped(*arguments):
    return subprocess.run([PROGRAM, *arguments, "--help"], capture_output=True, text=True, check=True).stdout


def verbs():
    return re.findall(r"^  ([a-z]+)", helped().split("\nOptions:")[0], re.M)


def options_of(text):
    """As the completion writes them: with = behind those that take a value."""
    found = set()
    for letter, name, value in re.findall(r"^  (-[a-z]|  ) (--[a-z-]+|)(=?)", text, re.M):
        found |= {word for word in (letter.strip(), name + value) if word}
    return found


def filled():
    """A daemon with arenas, keys that a shell has to quote, and a checkpoint."""
    daemon = Daemon()
    for name in ("sessions", "sessions2", "cache"):
        daemon.call("CreateArena", name=name)
    for key in ("alice", "order:1", "order:2", "two words", "$(touch x)", "line\nbreak", "it's"):
        daemon.call("Put", arena="sessions", key=key, value=1)
    return daemon, daemon.call("TakeCheckpoint", label="a label")["checkpoint"]["id"]


@test("bash completes all verbs, and each verb's own options, and no others")
def _():
    equal(bash("holdfastctl "), sorted(verbs()))
    equal(bash("holdfastctl check"), ["checkpoint", "checkpoints"])
    common = options_of(helped("status").split("Options of every command:")[1])
    for verb in verbs():
        equal(set(bash(f"holdfastctl {verb} -")), options_of(helped(verb)), f"options of {verb}")
    equal(set(bash("holdfastctl -")), common)
    equal(bash("holdfastctl put --if"), ["--if-revision="])
    equal(bash("holdfastctl -- -"), [])


@test("zsh's function knows the same verbs and options")
def _():
    need("zsh")
    subprocess.run(["zsh", "-n", ZSH], check=True)
    with open(ZSH, encoding="utf-8") as file:
        text = file.read().split("\n_holdfastctl() {")
    listed = re.search(r"verbs=\((.*?)\n    \)", text[0], re.S).group(1)
    equal(re.findall(r"^ +'([a-z]+):", listed, re.M), verbs())
    arrays = {name: set(re.findall(r"'(--[a-z-]+=?)\[", body)) | ({"--quiet", "--help", "-q", "-h", "-j"} if name == "common" else set())
              for name, body in re.findall(r"local -a (\w+)=\((.*?)\)\n(?= *(?:local|\Z|\n))", text[1], re.S)}
    arrays["entry"] |= arrays["revision"]
    for verb in verbs():
        branch = re.search(rf"^ +(?:[a-z]+ \| )*{verb}(?: \| [a-z]+)*\) (_arguments .*?) ;;", text[1], re.M | re.S)
        body = branch.group(1) if branch else "_arguments $common"
        found = set(re.findall(r"'(--[a-z-]+=?)\[", body))
        for name in re.findall(r"\$(\w+)", body):
            found |= arrays[name]
        equal(found, options_of(helped(verb)), f"options of {verb}")


@test("bash completes arenas, keys, checkpoints and methods from the daemon that --socket= names")
def _():
    daemon, identity = filled()
    with daemon:
        for socket in (f"--socket={daemon.socket}", f"--socket {daemon.socket}", f"--socket='{daemon.socket}'"):
            tool = f"{PROGRAM} {socket}"
            equal(bash(f"{tool} drop "), ["cache", "sessions", "sessions2"])
            equal(bash(f"{tool} put ses"), ["sessions", "sessions2"])
        equal(bash(f"{PROGRAM} drop --socket={daemon.socket} ca"), ["cache"])
        equal(bash(f"{tool} checkpoint cache -q --label x ses"), ["sessions", "sessions2"])
        equal(bash(f"{tool} get sessions al"), ["alice"])
        equal(bash(f"{tool} get sessions alice t"), ["two\\ words"])
        equal(bash(f"{tool} get sessions 'two w"), ["two words"])
        equal(bash(f"{tool} get sessions two\\ w"), ["two\\ words"])
        # readline takes what stands behind the colon for the word.
        equal(bash(f"{tool} get sessions order:"), ["1", "2"])
        equal(bash(f"{tool} get sessions or"), ["order:1", "order:2"])
        equal(bash(f"{tool} put sessions alice "), [])
        equal(bash(f"{tool} verify 0"), [identity])
        equal(bash(f"{tool} cancel "), [])
        assert {"Get", "GetMany", "GetStatus"} <= set(bash(f"{tool} call Get"))
        equal(bash(f"{tool} image "), ["export", "info", "verify"])
        image = daemon.path("images", identity + ".image")
        equal(bash(f"{tool} image export {image} --arena=ses"), ["sessions", "sessions2"])
        equal(bash(f"{tool} --json=s"), ["short"])


@test("keys that a shell would act upon are quoted, and those that a line cannot hold are left out")
def _():
    daemon, _ = filled()
    with daemon:
        found = bash(f"{PROGRAM} --socket={daemon.socket} get sessions ")
        equal(found, sorted(["alice", "order:1", "order:2", "two\\ words", "\\$\\(touch\\ x\\)", "it\\'s"]))


@test("without a daemon, and with one that does not answer, nothing is completed and nothing is said, soon")
def _():
    equal(bash(f"{PROGRAM} --socket=/nonexistent/socket drop "), [])
    equal(bash("/nonexistent/holdfastctl drop "), [])
    daemon, _ = filled()
    with daemon:
        daemon.signal(19)
        started = time.monotonic()
        equal(bash(f"{PROGRAM} --socket={daemon.socket} get sessions a"), [])
        assert time.monotonic() - started < 30
        daemon.signal(18)


@test("a large arena does not hold the line up with more than a few hundred keys")
def _():
    with Daemon(options=["Journal.Sync=never"]) as daemon:
        daemon.call("CreateArena", name="large")
        for part in range(3):
            daemon.call("Apply", arena="large", operations=[
                {"op": "put", "key": f"key{part}-{i}", "value": 1} for i in range(10000)])
        equal(len(bash(f"{PROGRAM} --socket={daemon.socket} get large ke")), 200)


def shell(program, *arguments, **environment):
    environment["PATH"] = os.path.dirname(PROGRAM) + ":" + os.environ["PATH"]
    return Terminal([program, *arguments], size=(40, 200), environment={"TERM": "dumb", **environment})


def type_and_see(terminal, line, expected):
    """Types the line, has it completed, waits for what comes, and wipes the line (Ctrl-U)."""
    terminal.seen = ""
    terminal.send(line + "\t")
    terminal.wait_for(expected)
    terminal.send("\x15")


@test("bash on a terminal completes as it does for a person")
def _():
    daemon, identity = filled()
    with daemon, shell("bash", "--norc", "--noprofile", "-i", PS1="ready> ", INPUTRC="/dev/null") as terminal:
        terminal.send(f"source {BASH}; bind 'set bell-style none'\r")
        terminal.send("echo set''up\r")
        terminal.wait_for("setup")
        tool = f"holdfastctl --socket={daemon.socket} "
        type_and_see(terminal, "holdfastctl introsp", "introspect ")
        type_and_see(terminal, tool + "drop cac", "drop cache ")
        type_and_see(terminal, tool + "get sessions order", "order:")
        type_and_see(terminal, tool + "get sessions two", r"two\\ words ")
        type_and_see(terminal, tool + "verify 0", identity)
        type_and_see(terminal, tool + "create --max", "--max-bytes=$")
        type_and_see(terminal, tool + "list cache --json=sh", "--json=short ")


@test("zsh on a terminal completes as it does for a person")
def _():
    need("zsh")
    daemon, identity = filled()
    functions = os.path.join(daemon.directory, "functions")
    os.mkdir(functions)
    shutil.copy(ZSH, os.path.join(functions, "_holdfastctl"))
    with daemon, shell("zsh", "-f", "-i", PS1="ready> ", HOME=daemon.directory) as terminal:
        terminal.send(f"fpath=({functions} $fpath); autoload -U compinit; compinit -u -D; unsetopt beep list_beep\r")
        terminal.send("echo set''up\r")
        terminal.wait_for("setup")
        tool = f"holdfastctl --socket={daemon.socket} "
        type_and_see(terminal, "holdfastctl introsp", "introspect ")
        type_and_see(terminal, tool + "drop cac", "drop cache ")
        type_and_see(terminal, tool + "get sessions al", "sessions alice ")
        type_and_see(terminal, tool + "get sessions order", "order:")
        type_and_see(terminal, tool + "get sessions two", r"two\\ words ")
        type_and_see(terminal, tool + "verify 0", identity)
        type_and_see(terminal, tool + "create --max", "--max-bytes=")
        type_and_see(terminal, tool + "list cache --json=sh", "--json=short ")


run()
