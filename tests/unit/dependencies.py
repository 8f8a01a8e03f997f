"""Who may know whom: holds the #include lines of each folder against the rules of the architecture.

Downward only; the event loop, JSON trees, systemd and the rest each in their corner; the client library knows the
public headers alone."""

import fnmatch
import os
import re
import sys
from pathlib import PurePosixPath

from tap import run, test

SOURCE = os.environ["HOLDFAST_SOURCE"]

# Folder of the daemon -> folders whose headers it may include, its own and base aside.
FOLDERS = {
    "base": [],
    "arena": [],
    "checkpoint": ["arena"],
    "journal": ["arena"],
    "store": ["arena", "checkpoint", "journal"],
    "protocol": [],
    "methods": ["store", "checkpoint", "protocol"],
    "server": ["protocol"],
    "service": [],
}

# Headers of libraries that not everybody may use -> who may; * stops at a slash. (The files at the top, the manager's,
# own the event loop.)
LIBRARIES = {
    "event2/*": ["daemon/server/*", "daemon/service/*", "daemon/checkpoint/job*",
                 "daemon/checkpoint/verify*", "daemon/*.[ch]"],
    "event.h": [],
    "jansson.h": ["daemon/protocol/*", "daemon/methods/*", "daemon/checkpoint/catalog*", "client/*/*"],
    "systemd/*": ["daemon/service/*", "daemon/base/log.c"],
    "xxhash.h": ["client/lib/map-find.c", "daemon/base/checksum.c"],
    "zstd.h": ["daemon/checkpoint/*"],
    "ini.h": ["daemon/config-file.c"],
    "libsmartcols.h": ["client/ctl/*"],
}

# holdfastctl reads images without a daemon: what it needs of the daemon for that.
CTL_ALLOWED = ["base/*", "arena/*", "checkpoint/image-read*", "checkpoint/image-format.h"]


def sources(folder):
    """Paths below the source tree of all C files in the folder and below it."""
    for directory, _, names in os.walk(os.path.join(SOURCE, folder)):
        for name in sorted(names):
            if name.endswith((".c", ".h")):
                yield os.path.relpath(os.path.join(directory, name), SOURCE)


def includes(path):
    """(line number, "<" or '"', header) of each #include, those in disabled parts too."""
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if found:
                yield number, found[1], found[2]


def matches(path, patterns):
    return any(PurePosixPath(path).match(pattern) for pattern in patterns)


def check(folders, allowed):
    """allowed(path, header) says whether a header of ours may be included there."""
    seen, violations = 0, []
    for folder in folders:
        for path in sources(folder):
            seen += 1
            for number, kind, header in includes(path):
                if kind == '"' and not allowed(path, header):
                    violations.append(f"{path}:{number}: {header}")
    if violations:
        raise AssertionError("not allowed:\n" + "\n".join(violations))
    if not seen:
        raise AssertionError(f"no sources in {folders}: is the path right?")


def is_public(header):
    return header == "holdfast.h" or header.startswith("holdfast/")


def is_beside(path, header):
    """A header without a folder: beside the source, or made at build time."""
    folder = os.path.dirname(os.path.join(SOURCE, path))
    return "/" not in header and (os.path.exists(os.path.join(folder, header)) or
                                  not any(os.path.exists(os.path.join(SOURCE, "daemon", folder, header))
                                          for folder in ["", *FOLDERS]))


@test("folders of the daemon include downward only")
def _():
    for folder, others in FOLDERS.items():
        patterns = [f"{name}/*" for name in [folder, "base", *others]]
        check([f"daemon/{folder}"], lambda path, header: matches(header, patterns) or
              header.startswith("holdfast/") or is_beside(path, header))


@test("every folder of the daemon has its rule")
def _():
    found = {entry.name for entry in os.scandir(os.path.join(SOURCE, "daemon")) if entry.is_dir()}
    if found != set(FOLDERS):
        raise AssertionError(f"without a rule, or gone: {sorted(found ^ set(FOLDERS))}")


@test("the configuration and the command line know base alone")
def _():
    for name in ("config.c", "config.h", "config-file.c", "options.c", "options.h"):
        for number, kind, header in includes(f"daemon/{name}"):
            if kind == '"' and not matches(header, ["base/*", "config.h", "options.h"]):
                raise AssertionError(f"daemon/{name}:{number}: {header}")


@test("libraries are used where they belong")
def _():
    violations = []
    for path in [*sources("daemon"), *sources("client"), *sources("include")]:
        for number, _, header in includes(path):
            for pattern, users in LIBRARIES.items():
                if fnmatch.fnmatchcase(header, pattern) and not matches(path, users):
                    violations.append(f"{path}:{number}: {header}")
    if violations:
        raise AssertionError("not allowed:\n" + "\n".join(violations))


@test("public headers include public headers alone")
def _():
    check(["include"], lambda path, header: is_public(header))


@test("the client library includes public headers and its own alone")
def _():
    check(["client/lib"], lambda path, header: is_public(header) or is_beside(path, header))


@test("holdfastctl includes of the daemon only what it needs to read images")
def _():
    check(["client/ctl"], lambda path, header: is_public(header) or is_beside(path, header) or
          header.startswith("../lib/") or matches(header, CTL_ALLOWED))


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    run()
