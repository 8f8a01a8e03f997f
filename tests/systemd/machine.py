"""Boots a real systemd as process 1 of a container, with holdfast installed in it, for the tests of a script.

    machine = Machine.booted()
    machine.run("systemctl", "start", "holdfastd.service")
    with machine.client() as client: ...

The container has this machine's /usr with a staged installation laid over it, and /etc, /var and /run of its own. Tests
run outside: they enter it for commands, and connect through /proc/<process 1>/root, where the sockets are seen. Skips
where no container can be booted, and says why."""

import atexit
import glob
import json
import os
import shutil
import subprocess
import tempfile
import time

import tap
from tap import Skip, equal, eventually, run, test  # noqa: F401: scripts import them from here
from varlink import Client, VarlinkError, expect_error  # noqa: F401

DEADLINE = 60
SERVICE = "holdfastd.service"
SOCKET = "/run/holdfast/holdfast.sock"

# Nothing but systemd itself and its journal: systemctl, run as root, needs no D-Bus.
MASKED = ("dbus.socket", "dbus.service", "systemd-logind.service", "systemd-user-sessions.service",
          "console-getty.service", "systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service",
          "systemd-udevd.service")

USERS = {"alice": 2001, "bob": 2002}  # alice is in the group holdfast


def need_container():
    if os.geteuid() != 0:
        raise Skip("booting a container needs root")
    if not shutil.which("systemd-nspawn"):
        raise Skip("systemd-nspawn is not installed")
    if os.environ.get("HOLDFAST_SANITIZED", "none") != "none":
        raise Skip("a sanitizer does not work in the service's sandbox")
    if os.environ.get("HOLDFAST_PREFIX") != "/usr":
        raise Skip("built for another place than /usr")


def install(build, stage):
    """What `meson install` would do, with /lib where it really is."""
    done = subprocess.run([os.environ["MESON"], "install", "-C", build, "--no-rebuild", "--destdir", stage],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise AssertionError(f"meson install ended with {done.returncode}:\n{done.stdout}")
    if os.path.isdir(f"{stage}/lib"):
        shutil.copytree(f"{stage}/lib", f"{stage}/usr/lib", dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(f"{stage}/lib")


class Machine:
    """installed: with this build in it, else without any holdfast; binds: {path outside: path inside}; copies: directories
    of this machine that are there, too, and may be changed."""

    _booted = None

    def __init__(self, installed=True, binds=None, copies=()):
        need_container()
        self.directory = tempfile.mkdtemp(prefix="holdfast-machine-")
        os.chmod(self.directory, 0o755)
        self.stage = os.path.join(self.directory, "stage")
        self.root = os.path.join(self.directory, "root")
        self.log_path = os.path.join(self.directory, "log")
        self.name = f"holdfast-{os.getpid()}-{id(self) % 10000}"
        self.nspawn = None
        self.pid1 = None
        atexit.register(self.remove)
        os.makedirs(f"{self.stage}/usr")
        if installed:
            install(os.environ["HOLDFAST_BUILD"], self.stage)
        self.make_root()
        self.boot(binds or {}, copies)

    @classmethod
    def booted(cls, **arguments):
        """One for all tests of a script, which share it. Where it can't be had, all of them are skipped."""
        if cls._booted is None:
            try:
                cls._booted = cls(**arguments)
            except Skip as skip:
                cls._booted = skip
        if isinstance(cls._booted, Skip):
            raise cls._booted
        return cls._booted

    # Boot and end

    def make_root(self):
        for name in ("usr", "etc", "var", "run", "tmp", "root", "proc", "sys", "dev"):
            os.makedirs(f"{self.root}/{name}")
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if os.path.isdir(f"/usr/{name}"):
                os.symlink(f"usr/{name}", f"{self.root}/{name}")
        for name in ("os-release", "nsswitch.conf", "ld.so.cache"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", f"{self.root}/etc/{name}")
        if os.path.isdir(f"{self.stage}/etc"):
            shutil.copytree(f"{self.stage}/etc", f"{self.root}/etc", dirs_exist_ok=True)
        self.write("/etc/machine-id", "")
        people = "".join(f"{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n" for name, uid in USERS.items())
        groups = "".join(f"{name}:x:{uid}:\n" for name, uid in USERS.items())
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
                                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" + people)
        self.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n" + groups)

    def boot(self, binds, copies):
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
                   f"--directory={self.root}", f"--overlay=/usr:{self.stage}/usr:/usr",
                   f"--machine={self.name}", "--boot"]
        command += [f"--bind={outside}:{inside}" for outside, inside in binds.items()]
        for path in copies:
            os.makedirs(f"{self.directory}/copies{path}")
            os.makedirs(f"{self.root}{path}")
            command.append(f"--overlay={path}:{self.directory}/copies{path}:{path}")
        command += ["systemd.firstboot=off", "systemd.unit=multi-user.target"]
        command += [f"systemd.mask={unit}" for unit in MASKED]
        with open(self.log_path, "wb") as log:
            self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        deadline = time.monotonic() + DEADLINE
        state = ""
        while state not in ("running", "degraded"):
            if self.nspawn.poll() is not None or time.monotonic() > deadline:
                with open(self.log_path, errors="replace") as log:
                    told = log.read().strip().splitlines()
                raise Skip(f"no container boots here: {told[0] if told else state or 'no answer'}")
            self.pid1 = self.pid1 or self.leader()
            state = self.run("systemctl", "is-system-running", check=False).strip() if self.pid1 else ""
            time.sleep(0.02)

    def leader(self):
        """Process 1 of the container, as a number out here: the child of nspawn that is 1 in its own namespace."""
        try:
            with open(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children") as file:
                children = file.read().split()
            for child in children:
                with open(f"/proc/{child}/status") as file:
                    told = dict(line.split(":", 1) for line in file.read().splitlines())
                numbers = told["NSpid"].split()
                if len(numbers) > 1 and numbers[-1] == "1" and told["Name"].strip() == "systemd":
                    return int(child)
        except OSError:
            pass
        return None

    def remove(self):
        if self.nspawn is not None and self.nspawn.poll() is None:
            if self.pid1:
                self.run("systemctl", "poweroff", "--force", "--no-block", check=False)
            try:
                self.nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        # What nspawn leaves behind where /run is no file system of its own.
        for path in glob.glob(f"/run/systemd/nspawn/*/{self.name}"):
            try:
                os.rmdir(path)
            except OSError:
                pass

    # Commands and files

    def run(self, *command, check=True, user=None, **options):
        """Runs a command inside and returns what it prints. user: a name of USERS."""
        enter = ["nsenter", f"--target={self.pid1}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
                 f"--wd=/proc/{self.pid1}/root"]
        if user is not None:
            enter += ["setpriv", f"--reuid={USERS[user]}", f"--regid={USERS[user]}", f"--groups={self.groups(user)}"]
        done = subprocess.run(enter + list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=DEADLINE * 2,
                              env={"PATH": "/usr/sbin:/usr/bin", "SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"}, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def fails(self, *command, user=None):
        """Runs a command that must fail, and returns what it prints."""
        printed = self.run("sh", "-c", '"$@"; echo "status $?"', "sh", *command, user=user)
        if printed.endswith("status 0\n"):
            raise AssertionError(f"{' '.join(command)} did not fail:\n{printed}")
        return printed

    def systemctl(self, *arguments, **options):
        return self.run("systemctl", *arguments, **options)

    def write(self, path, text):
        path = f"{self.root}{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def drop_in(self, unit, text, name="test"):
        """Settings of a unit for one test, under /run; to be read by daemon-reload. An empty text removes them."""
        path = f"/run/systemd/system/{unit}.d/{name}.conf"
        if text:
            self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1"', "sh", path, text)
        else:
            self.run("rm", "-f", path)
        self.systemctl("daemon-reload")

    def groups(self, user):
        own = [USERS[user]]
        if user == "alice":
            own.append(self.group("holdfast"))
        return ",".join(str(number) for number in own)

    def group(self, name):
        with open(f"{self.root}/etc/group", encoding="utf-8") as file:
            for line in file:
                fields = line.split(":")
                if fields[0] == name:
                    return int(fields[2])
        raise AssertionError(f"there is no group {name}")

    # The service

    def outside(self, path):
        """A path inside as it is reached from out here."""
        return f"/proc/{self.pid1}/root{path}"

    def client(self, socket=SOCKET, **options):
        return Client(self.outside(socket), **options)

    def call(self, method, parameters=None, socket=SOCKET, **fields):
        with self.client(socket) as client:
            return client.call(method, parameters, **fields)

    def pages(self, method, socket=SOCKET, **fields):
        """All replies of a call with more."""
        with self.client(socket) as client:
            return list(client.call_more(method, **fields))

    def status(self, socket=SOCKET):
        return self.call("GetStatus", socket=socket)["status"]

    def property(self, name, unit=SERVICE):
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def main_pid(self, unit=SERVICE):
        """0 where the service does not run."""
        return int(self.property("MainPID", unit))

    def signal(self, name, unit=SERVICE, whom="main"):
        self.systemctl("kill", f"--signal={name}", f"--kill-who={whom}", unit)

    def wait_restarted(self, before, unit=SERVICE):
        """Until another process than before is in service; returns its number."""
        def again():
            pid = self.main_pid(unit)
            return pid if pid not in (0, before) and self.property("ActiveState", unit) == "active" else None
        return eventually(again, f"{unit} is in service again", DEADLINE)

    def journal(self, *arguments):
        """The entries of the journal as dictionaries."""
        self.run("journalctl", "--sync")
        printed = self.run("journalctl", "--output=json", "--no-pager", *arguments)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]

    def told(self):
        """What the services have said, for a failure."""
        try:
            return self.run("journalctl", "--no-pager", "--lines=60", "--unit=holdfast*", check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)


def _explain():
    machine = Machine._booted
    return f"the journal:\n{machine.told()}" if isinstance(machine, Machine) else ""


tap.explain.append(_explain)
