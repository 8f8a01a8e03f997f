"""The Debian packages: built, looked at by lintian, and installed, upgraded, removed and purged in a container that has this
machine's /usr and a copy of its package database."""

import glob
import os
import re
import shutil
import subprocess
import tempfile

from machine import Machine, SERVICE, SOCKET, Skip, equal, need_container, run, test

SOURCE = os.environ["HOLDFAST_SOURCE"]
PROPERTIES = ("ActiveState", "UnitFileState")

built = None  # the directory of the packages, or why there are none


def build():
    global built
    if built is None:
        try:
            built = make()
        except Skip as skip:
            built = skip
    if isinstance(built, Skip):
        raise built
    return built.name


def make():
    for program in ("dpkg-buildpackage", "dh"):
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    directory = tempfile.TemporaryDirectory(prefix="holdfast-package-")
    done = subprocess.run([os.path.join(SOURCE, "etc/debian/build"), directory.name], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                               "DEB_BUILD_OPTIONS": f"noautodbgsym parallel={os.cpu_count()}"})
    if done.returncode != 0:
        if "Unmet build dependencies" in done.stdout or "unmet build dependencies" in done.stdout:
            raise Skip(re.search(r".*nmet build dependencies.*", done.stdout)[0])
        raise AssertionError(f"etc/debian/build ended with {done.returncode}:\n{done.stdout}")
    upgrade(directory.name)
    return directory


def upgrade(directory):
    """The same packages as of a later version, in the directory later."""
    os.mkdir(f"{directory}/later")
    for package in glob.glob(f"{directory}/*.deb"):
        tree = f"{directory}/tree"
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
        with open(f"{tree}/DEBIAN/control", encoding="utf-8") as file:
            control = re.sub(r"^(Version: .*|Depends: .*libholdfast0 \(= [^)]*)", r"\1.later", file.read(),
                             flags=re.MULTILINE)
        with open(f"{tree}/DEBIAN/control", "w", encoding="utf-8") as file:
            file.write(control)
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, f"{directory}/later"], check=True,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)


def machine():
    need_container()
    m = Machine.booted(installed=False, binds={build(): "/packages"}, copies=["/var/lib/dpkg"])
    return m


def dpkg(m, *arguments):
    return m.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *arguments)


@test("etc/debian/build makes packages in which lintian finds no error")
def _():
    directory = build()
    names = sorted(os.path.basename(path).split("_")[0] for path in glob.glob(f"{directory}/*.deb"))
    equal(names, ["holdfast", "libholdfast-dev", "libholdfast0", "python3-holdfast"], "the packages")
    if not shutil.which("lintian"):
        raise Skip("lintian is not installed")
    done = subprocess.run(["lintian", "--allow-root", "--fail-on=error", *glob.glob(f"{directory}/*.changes")],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in done.stdout.splitlines():
        print(f"# {line}")
    equal(done.returncode, 0, "lintian's status")


@test("installing the package starts the service")
def _():
    m = machine()
    # Images for containers often forbid packages to start services.
    m.run("sh", "-c", "printf '#!/bin/sh\\nexit 0\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d")
    m.run("sh", "-c", ": >/var/lib/dpkg/statoverride")  # of users that are not here
    m.run("sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --install /packages/*.deb")
    for unit in ("holdfastd.socket", SERVICE):
        equal([m.property(name, unit) for name in PROPERTIES], ["active", "enabled"], unit)
    equal(m.status()["state"], "serving", "the state")
    equal(m.run("stat", "-c", "%U %a", "/var/lib/holdfast").strip(), "holdfast 700", "the state directory")
    m.run("holdfastctl", "create", "kept")
    m.run("holdfastctl", "put", "kept", "key", '{"n":1}')
    m.systemctl("start", "holdfastd@one.socket", "holdfastd@one.service")


@test("an upgrade keeps the state in memory, and the socket that clients wait in")
def _():
    m = machine()
    instance = "holdfastd@one.service"
    before = [m.main_pid(), m.main_pid(instance), m.run("stat", "-c", "%i", SOCKET)]
    m.run("sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --install /packages/later/*.deb")
    after = [m.main_pid(), m.main_pid(instance), m.run("stat", "-c", "%i", SOCKET)]
    equal([old == new for old, new in zip(before, after)], [False, False, True], "same processes and socket")
    equal(m.status()["recovery"], "adopted", "how the state came back")
    equal(m.run("holdfastctl", "get", "kept", "key").strip(), '{"n":1}', "the state")
    equal(m.call("ListCheckpoints")["checkpoints"], [], "images")


@test("removing the package keeps the state on disk, and installing it again finds it")
def _():
    m = machine()
    dpkg(m, "--no-triggers", "--remove", "holdfast")
    equal(m.run("sh", "-c", "pgrep -x holdfastd || true").strip(), "", "daemons after the removal")
    m.run("test", "-d", "/var/lib/holdfast/journal")
    m.run("test", "-f", "/etc/holdfast/holdfastd.conf")
    m.run("sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --install /packages/later/holdfast_*.deb")
    equal(m.run("holdfastctl", "get", "kept", "key").strip(), '{"n":1}', "the state")


@test("purging removes state, configuration and user")
def _():
    m = machine()
    m.write("/etc/holdfast/holdfastd.conf.d/mine.conf", "[Arenas]\nArenasMax=9\n")
    dpkg(m, "--no-triggers", "--purge", "holdfast")
    left = m.run("sh", "-c", "ls -d /var/lib/holdfast* /etc/holdfast* /run/holdfast/holdfast.sock "
                             "/etc/systemd/system/*/holdfast* 2>/dev/null || true")
    equal(left.split(), [], "what is left")
    equal(m.run("sh", "-c", "getent passwd holdfast; getent group holdfast; true"), "", "user and group")
    equal(m.run("sh", "-c", "pgrep -x holdfastd || true").strip(), "", "daemons")


run()
