"""libholdfast from outside: what it exports is what its header declares, the header stands alone, and the library knows
nothing of the daemon's inside."""

import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
from tap import equal, run, test  # noqa: E402

LIBRARY = os.environ["LIBHOLDFAST"]
HEADER = os.path.join(ROOT, "include/holdfast.h")


def output(*command, **arguments):
    return subprocess.run(command, check=True, capture_output=True, text=True, **arguments).stdout


@test("the library exports what the header declares and nothing else")
def _():
    with open(HEADER, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    declared = set(re.findall(r"\b(holdfast_\w+)\(", text))
    exported = {line.split()[-1].split("@")[0] for line in output("nm", "-D", "--defined-only", LIBRARY).splitlines()
                if line.split()[-2] != "A"}
    assert len(declared) > 40, declared
    equal(sorted(exported), sorted(declared))


@test("the library has its soname")
def _():
    equal(re.findall(r"SONAME.*\[(.*)\]", output("readelf", "-d", LIBRARY)), ["libholdfast.so.0"])


@test("the headers that are installed stand alone, in C and in C++")
def _():
    for header, languages in (("holdfast.h", (["c", "-std=c99"], ["c++", "-std=c++11"])),
                              ("holdfast/layout.h", (["c", "-std=c11"], ["c", "-std=gnu17"]))):
        for language, standard in languages:
            output("cc", "-x", language, standard, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic",
                   f"-I{os.path.join(ROOT, 'include')}", "-", input=f"#include <{header}>\n")


@test("the library includes its own headers, the public ones and the system's")
def _():
    folder = os.path.join(ROOT, "client/lib")
    names = sorted(os.listdir(folder))
    for name in (name for name in names if name.endswith((".c", ".h"))):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            included = re.findall(r'^#include "(.*)"', file.read(), re.MULTILINE)
        equal([header for header in included if header not in names], [], f"foreign headers of {name}")


run()
