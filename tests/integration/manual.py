"""The man pages: that they render without a warning, and that all there is is in them: every option and verb of the programs'
own tables, every key of the configuration, every member of the interface, every exit status and limit that a reader looks for."""

import os
import re
import shutil
import subprocess

from tap import Skip, equal, run, test

PAGES = dict((os.path.basename(path), path) for path in os.environ.get("HOLDFAST_MAN_PAGES", "").split(":") if path)
SOURCE = os.environ["HOLDFAST_SOURCE"]
NAMES = {"holdfastd.8", "holdfastd.conf.5", "holdfastctl.1", "io.holdfast.7", "libholdfast.3"}

# What scdoc writes between paragraphs; it changes nothing.
SCDOC = "skipping paragraph macro"


def need(*programs):
    if not PAGES:
        raise Skip("scdoc is missing: no man pages were made")
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(f"{program} is missing")


def rendered(page):
    """As a reader sees it, on one long line a paragraph."""
    done = subprocess.run(["mandoc", "-Tutf8", "-Owidth=1000", PAGES[page]], capture_output=True, text=True, check=True)
    return re.sub(r".\x08", "", done.stdout).replace("‐", "-").replace("−", "-")


def helped(program, *arguments):
    return subprocess.run([os.environ[program], *arguments, "--help"], capture_output=True, text=True, check=True).stdout


def contains(text, words, where):
    missing = [word for word in words if not re.search(r"(?<![\w-])" + re.escape(word) + r"(?![\w-])", text)]
    equal(missing, [], f"missing in {where}")


@test("there are five pages, and mandoc has nothing to warn of")
def _():
    need("mandoc")
    equal(set(PAGES), NAMES)
    for page in PAGES.values():
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False)
        found = [line for line in (done.stdout + done.stderr).splitlines() if SCDOC not in line]
        equal(found, [], "warnings")


@test("man renders each without a warning")
def _():
    need("man")
    for page in PAGES.values():
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], capture_output=True, text=True, check=True,
                              env={**os.environ, "MANPAGER": "cat", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        equal(done.stderr, "", f"warnings of {page}")
        assert "NAME" in done.stdout and "SEE ALSO" in done.stdout, done.stdout


@test("no mark of the source is left in what is read")
def _():
    need("mandoc")
    for page in PAGES:
        left = [line for line in rendered(page).splitlines()
                if re.search(r"\w_(?!\w)|(?<![\w$])_\w|\*\w+\*|\*--", line) and "map_*" not in line]
        equal(left, [], f"lines of {page}")


@test("every option of --help is in the program's page, and every option of the page in --help")
def _():
    need("mandoc")
    for program, page in (("HOLDFASTD", "holdfastd.8"), ("HOLDFASTCTL", "holdfastctl.1")):
        usage, text = helped(program), rendered(page)
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", usage)) | set(re.findall(r"^ +(-[a-zA-Z])\b", usage, re.M))
        assert len(options) >= 8, options
        contains(text, options, page)
        section = re.search(r"^OPTIONS$(.*?)^[A-Z]", text, re.M | re.S).group(1)
        contains(usage, set(re.findall(r"^ +(--?[a-z][a-z-]*)", section, re.M)), f"--help of {page}")


@test("every verb is in holdfastctl's page with its arguments and all options that it takes")
def _():
    need("mandoc")
    text = rendered("holdfastctl.1")
    commands = re.search(r"^COMMANDS$(.*?)^OPTIONS", text, re.M | re.S).group(1)
    verbs = re.findall(r"^  ([a-z]+)", helped("HOLDFASTCTL").split("\nOptions:")[0], re.M)
    assert len(verbs) >= 22, verbs
    for verb in verbs:
        usage = helped("HOLDFASTCTL", verb)
        entries = re.findall(rf"^ +{verb}\b.*$", commands, re.M)
        assert entries, f"no entry for {verb}"
        own = usage.split("\nOptions:")[1].split("\nOptions of every")[0] if "\nOptions:" in usage else ""
        arguments = re.findall(r"[A-Z]{2,}", usage.splitlines()[0].removeprefix("holdfastctl [OPTIONS...]"))
        contains(" ".join(entries), arguments, f"the entry of {verb}")
        for option in re.findall(r"--[a-z-]+", own):
            told = re.search(rf"^ +{option}\b.*\n +(.*)$", text, re.M)
            assert option in " ".join(entries) or told and verb in told.group(1), f"{verb} takes {option}: not told"


@test("every key of the configuration is in its page with its default, below its section")
def _():
    need("mandoc")
    text = rendered("holdfastd.conf.5")
    section, keys = None, 0
    with open(os.path.join(SOURCE, "etc/holdfastd.conf"), encoding="utf-8") as file:
        for line in file:
            if match := re.match(r"\[(\w+)\]", line):
                section = re.search(rf"^\[{match.group(1).upper()}\]$(.*?)^(\[|EXAMPLE)", text, re.M | re.S).group(1)
            elif match := re.match(r"#(\w+)=(.*)$", line):
                keys += 1
                assert re.search(rf"^ +{match[1]}=( \({re.escape(match[2])}\b|( \(at start\))?$)", section, re.M), line
    assert keys >= 24, keys


@test("what the configuration's table says of bounds and restarts is what the page says")
def _():
    need("mandoc")
    text = rendered("holdfastd.conf.5")
    with open(os.path.join(SOURCE, "daemon/config.c"), encoding="utf-8") as file:
        table = file.read()
    rows = re.findall(r'\{"\w+\.(\w+)",(.*?)\},\n', table, re.S)
    assert len(rows) >= 24, len(rows)
    for name, row in rows:
        entry = re.search(rf"^ +{name}=(.*?)(?=^ +\w+=( \(|$)|^\[|\Z)", text, re.M | re.S).group(1)
        equal("at start" in entry.splitlines()[0], "LIVE" not in row, f"'at start' at {name}=")
        most = re.search(r'\.most = "(\w+)"', row)
        if most and most[1] != "0777" and name != "WriteBytesPerSecMax":
            contains(entry, [most[1]], f"the entry of {name}=")


@test("every method, type, error and member of the interface is in its page, with what is said of it")
def _():
    need("mandoc")
    text = rendered("io.holdfast.7")
    words = re.sub(r"\s+", " ", text)
    with open(os.path.join(SOURCE, "daemon/protocol/io.holdfast.varlink"), encoding="utf-8") as file:
        description = file.read()
    names = set(re.findall(r"^(?:type|method|error) (\w+)", description, re.M))
    assert len(names) >= 40, names
    contains(text, names | set(re.findall(r"(\w+): ", re.sub("#.*", "", description))), "io.holdfast.7")
    for comment in re.findall(r"^ *#(?! ---) ?(.+)$", description, re.M):
        assert re.sub(r"\s+", " ", comment) in words, comment


@test("exit statuses, files, environment and signals are told")
def _():
    need("mandoc")
    daemon, ctl = rendered("holdfastd.8"), rendered("holdfastctl.1")
    for text, section, words in (
            (daemon, "EXIT STATUS", ("0", "64", "65", "71", "74", "75", "78")), (ctl, "EXIT STATUS", ("0", "1", "64", "69", "77")),
            (daemon, "SIGNALS", ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")),
            (ctl, "ENVIRONMENT", ("HOLDFAST_PAGER", "PAGER", "NO_COLOR", "TERM", "XDG_RUNTIME_DIR"))):
        contains(re.search(rf"^{section}$(.*?)^[A-Z]", text, re.M | re.S).group(1), words, section)
    variables = set()
    for folder, _, files in os.walk(os.path.join(SOURCE, "daemon")):
        for name in files:
            if name.endswith(".c"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    variables.update(re.findall(r'getenv\("([A-Z_]+)"\)', file.read()))
    contains(daemon, variables, "holdfastd.8")


@test("the program of libholdfast's page is what it says: C that compiles without a warning")
def _():
    need("mandoc", "cc")
    text = rendered("libholdfast.3")
    program = re.search(r"(#include <holdfast.h>\n\s+#include <stdio.h>.*?\n)\S", text, re.S).group(1)
    done = subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", "-I",
                           os.path.join(SOURCE, "include"), "-"], input=program, capture_output=True, text=True, check=False)
    equal(done.stderr, "", "what the compiler says")


run()
