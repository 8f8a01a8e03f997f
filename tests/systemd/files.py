"""The units and the catalogue as files: nothing is started."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import Skip, equal, run, test  # noqa: E402

SOURCE = os.environ["HOLDFAST_SOURCE"]
UNITS = os.path.join(os.environ["HOLDFAST_BUILD"], "systemd")
# The worst that `systemd-analyze security` may say of the services, in tenths, of 100. What is wanted is 10; systemd 252
# says 5, and other versions ask other questions.
EXPOSURE, EXPOSURE_252 = 10, 5


def analyze(*arguments):
    """systemd-analyze on a copy of the units, whose programs are there for sure. Returns its status and what it says."""
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze is not installed")
    with tempfile.TemporaryDirectory() as directory:
        for name in os.listdir(UNITS):
            if name.endswith((".service", ".socket")):
                with open(os.path.join(UNITS, name), encoding="utf-8") as file:
                    text = re.sub(r"^(Exec\w+=)\S+", r"\1/bin/true", file.read(), flags=re.MULTILINE)
                with open(os.path.join(directory, name.replace("@", "@x")), "w", encoding="utf-8") as file:
                    file.write(text)
        done = subprocess.run(["systemd-analyze", "--no-pager", *arguments], cwd=directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "SYSTEMD_UNIT_PATH": directory + ":"})
        return done.returncode, done.stdout


def version():
    """systemd's, as a number."""
    return int(re.search(r"\d+", analyze("--version")[1])[0])


def read(name):
    with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
        return file.read()


@test("the catalogue explains every message id of the header, and no other")
def _():
    ids = set(re.findall(r'^#define MESSAGE_ID_\w+ "([0-9a-f]{32})"$', read("daemon/base/message-ids.h"), re.MULTILINE))
    explained = re.findall(r"^-- ([0-9a-f]{32})$", read("systemd/holdfast.catalog"), re.MULTILINE)
    equal(len(explained), len(set(explained)), "explanations, each once")
    equal(set(explained), ids, "what is explained")
    if len(ids) < 7:
        raise AssertionError(f"only {len(ids)} message ids found")


@test("the catalogue names only fields that the header says go with the message")
def _():
    header = re.findall(r'/\*((?:(?!\*/).)*)\*/\s*#define MESSAGE_ID_\w+ "([0-9a-f]{32})"',
                        read("daemon/base/message-ids.h"), re.DOTALL)
    fields = {identity: set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", comment)) for comment, identity in header}
    for part in re.split(r"^-- ", read("systemd/holdfast.catalog"), flags=re.MULTILINE)[1:]:
        unknown = set(re.findall(r"@([A-Z_]+)@", part)) - fields[part[:32]]
        equal(unknown, set(), f"unknown fields in the explanation of {part.splitlines()[1]}")


@test("systemd-analyze verify has nothing to say of the units")
def _():
    for name in ("holdfastd.service", "holdfastd.socket", "holdfastd@x.service", "holdfastd@x.socket"):
        status, said = analyze("verify", "--man=no", name)
        # Of this system's other units, and keys that only newer versions know.
        lines = [line for line in said.splitlines() if "holdfast" in line and
                 not re.search(r"Unknown key '?FileDescriptorStorePreserve|Unknown key name 'FileDescriptorStorePreserve",
                               line)]
        equal(lines, [], f"what is said of {name}")
        if "Failed to" in said and "bus" in said:
            raise Skip(said.splitlines()[0])
        equal(status, 0, f"the status of verifying {name}")


@test(f"the services' exposure is at most {EXPOSURE / 10}, and by systemd 252 at most {EXPOSURE_252 / 10}")
def _():
    most = EXPOSURE_252 if version() == 252 else EXPOSURE
    for name in ("holdfastd.service", "holdfastd@x.service"):
        status, said = analyze("security", "--offline=yes", f"--threshold={most}", name)
        overall = [line for line in said.splitlines() if "Overall exposure level" in line]
        equal(len(overall), 1, f"lines with a level for {name} in:\n{said}")
        print(f"# {overall[0]}")
        if status != 0 or float(re.search(r": ([0-9.]+) ", overall[0])[1]) * 10 > most:
            raise AssertionError(f"status {status}:\n{said}")


run()
