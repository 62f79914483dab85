"""What the integration tests stand on: the daemon as a process, its control API as a client sees it,
the guest's two TCP services, and what the host would still hold if something were left behind."""
import array
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# How many times as long as on a machine of its own something may take: tests run side by side on two
# processors. Nobody waits so long when all is well.
BUSY = 4
OUR_PROGRAMS = ("qemu-system-x86", "qemu-img", "dnsmasq", "vdi-hostd")


class RpcError(Exception):
    """An error answer; `kind` is its data.kind."""

    def __init__(self, error):
        super().__init__(error.get("message"))
        self.code = error.get("code")
        self.data = error.get("data") or {}
        self.kind = self.data.get("kind")
        self.field = self.data.get("field")


class Client:
    """One connection to the control socket. Answers may overtake each other; events are kept."""

    def __init__(self, path, timeout=240):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.buffer = b""
        self.next_id = 1
        self.answers = {}
        self.events = []

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send_line(self, line, fds=()):
        """Raw bytes and descriptors, for what a well-behaved client would never send."""
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self.sock.sendmsg([line], rights)
            line = line[sent:]
        self.sock.sendall(line)

    def send(self, method, params=None, fds=()):
        number = self.next_id
        self.next_id += 1
        text = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            text["params"] = params
        self.send_line(json.dumps(text).encode() + b"\n", fds)
        return number

    def read_message(self):
        while b"\n" not in self.buffer:
            chunk = self.sock.recv(1 << 16)
            if not chunk:
                raise ConnectionError("the daemon closed the connection")
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def wait(self, number):
        while number not in self.answers:
            message = self.read_message()
            if message.get("method") == "event":
                self.events.append(message["params"])
            else:
                self.answers[message["id"]] = message
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def call(self, method, fds=(), **params):
        return self.wait(self.send(method, params, fds))

    def next_event(self, timeout=60):
        """The next event of a subscribed connection, or None."""
        old = self.sock.gettimeout()
        self.sock.settimeout(timeout)
        try:
            while not self.events:
                message = self.read_message()
                if message.get("method") == "event":
                    self.events.append(message["params"])
                else:
                    self.answers[message["id"]] = message
            return self.events.pop(0)
        except socket.timeout:
            return None
        finally:
            self.sock.settimeout(old)


def wait_until(condition, timeout, what, pause=0.05):
    """The condition's first true value; a test failure that says what was awaited otherwise. `timeout` is
    what it may take on a machine that does nothing else."""
    timeout = max(BUSY * timeout, 30)
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout} s in vain for {what}"
        time.sleep(pause)


# ---- processes ----

def stat_of(pid):
    """(name, state, start time) of a process, or None."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return name, rest[0], int(rest[19])


def is_alive(pid):
    stat = stat_of(pid)
    return stat is not None and stat[1] not in "ZX"


def program_of(pid):
    """The file name of what a process runs, as it was started: a process may rename itself."""
    try:
        argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return os.path.basename(argv[0].decode(errors="replace"))


def our_processes():
    """{(pid, start time): program} of all living processes of the kinds that the daemon starts."""
    found = {}
    for entry in os.listdir("/proc"):
        stat = stat_of(entry) if entry.isdigit() else None
        if stat and stat[1] not in "ZX" and program_of(entry).startswith(OUR_PROGRAMS):
            found[(int(entry), stat[2])] = program_of(entry)
    return found


def our_links():
    text = subprocess.run(["ip", "-j", "link"], check=True, capture_output=True).stdout
    return sorted(link["ifname"] for link in json.loads(text) if link["ifname"].startswith("vdi"))


def our_tables():
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return sorted(line for line in done.stdout.splitlines() if "vdi" in line)


def our_cgroups():
    return sorted(str(p) for p in pathlib.Path("/sys/fs/cgroup").glob("**/vdi[0-9]*") if p.is_dir())


def kill_pid(pid, start_time=None, sig=signal.SIGKILL):
    """By pidfd, so that nobody else's process is ever hit."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        stat = stat_of(pid)
        if stat and (start_time is None or stat[2] == start_time):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, sig)
    finally:
        os.close(fd)


# ---- the daemon ----

class Daemon:
    """A vdi-hostd in folders of its own. `settings` is {section: {key: value}}."""

    def __init__(self, binary, settings=None, root=None, user=None):
        self.binary = str(binary)
        self.user = user  # (uid, gid) for rootless mode
        self.root = pathlib.Path(root or tempfile.mkdtemp(prefix="vdi-test-", dir="/tmp"))
        self.root.chmod(0o755)
        if user:
            os.chown(self.root, *user)
            # a checkout in root's home is closed to others
            self.binary = shutil.copy(self.binary, self.root)
        self.state, self.runtime = self.root / "state", self.root / "run"
        self.socket = self.runtime / "control.sock"
        self.log = self.root / "daemon.log"
        self.settings = {"qemu": {"accel": "tcg"}, "spice": {"spice_port": "0"},
                         "desktops": {"memory_reserve_mib": "0"},
                         # the room on this host's disk is no matter
                         "store": {"space_low_percent": "0", "space_critical_percent": "0",
                                   "space_critical_mib": "0"}}
        for section, keys in (settings or {}).items():
            self.settings.setdefault(section, {}).update(keys)
        self.process = None
        self.found = {"processes": our_processes(), "links": our_links(),
                      "tables": our_tables(), "cgroups": our_cgroups()}

    def write_config(self):
        path = self.root / "vdi-hostd.conf"
        path.write_text("".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
            for section, keys in self.settings.items()))
        return path

    def argv(self):
        return [self.binary, "--config", str(self.write_config()), "--state", str(self.state),
                "--runtime", str(self.runtime), "--socket", str(self.socket)]

    def spawn(self, env=None):
        """Start it without waiting."""
        identity = {"user": self.user[0], "group": self.user[1], "extra_groups": []} \
            if self.user else {}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={**os.environ, **(env or {})}, **identity)
        return self.process

    def start(self, timeout=30, env=None):
        self.spawn(env)
        wait_until(self.answers, timeout, f"the daemon; it said:\n{self.tail()}")
        return self

    def answers(self):
        assert self.process.poll() is None, \
            f"the daemon ended with {self.process.returncode}:\n{self.tail()}"
        try:
            with Client(self.socket, 20) as client:
                client.call("host.ping")
            return True
        except OSError:
            return False

    def tail(self, size=4000):
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def halves(self):
        """Pids: the privileged half (the process that was started), then its child."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        return [self.process.pid] + [p for p in pids if (stat_of(p) or " ")[0] == "vdi-hostd"]

    def stop(self, timeout=60):
        """SIGTERM; its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(timeout)
        self.process = None
        return status

    def kill(self):
        """SIGKILL to both halves at once: a crash."""
        halves = self.halves()
        for pid in reversed(halves):
            kill_pid(pid)
        self.process.wait(60)
        wait_until(lambda: not any(is_alive(pid) for pid in halves), 10, "both halves to be gone")
        self.process = None

    def restart(self, **kwargs):
        if self.process is not None:
            self.stop()
        return self.start(**kwargs)

    def client(self, timeout=240):
        return Client(self.socket, timeout)

    def call(self, method, **params):
        with self.client() as client:
            return client.call(method, **params)

    def call_when_free(self, method, timeout=60, **params):
        """The same once nothing else is under way there."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self.call(method, **params)
            except RpcError as error:
                if error.kind != "busy" or time.monotonic() > end:
                    raise
            time.sleep(0.05)

    # what tests need again and again

    def import_image(self, path, name="guest"):
        fd = os.open(path, os.O_RDONLY)
        try:
            with self.client() as client:
                return client.call("image.import", fds=[fd], name=name, publish=True, wait=True)
        finally:
            os.close(fd)

    def create_desktop(self, name, network=None, **params):
        params = {"image": "guest", "memory_mib": 256, "vcpus": 1, **params}
        if network:
            params["network"] = network
        return self.call("desktop.create", name=name, **params)

    def desktop(self, name):
        return self.call("desktop.get", desktop=name)

    def screenshot(self, name):
        answer = self.call("desktop.screenshot", desktop=name)
        return base64.b64decode(answer["png"]), answer["width"], answer["height"]

    def console(self, name):
        return self.call("desktop.console.log", desktop=name)["text"]

    def leftovers(self):
        """What the host holds now and did not hold before this daemon was first started."""
        left = {"processes": {k: v for k, v in our_processes().items()
                              if k not in self.found["processes"]}}
        for kind, now in (("links", our_links()), ("tables", our_tables()),
                          ("cgroups", our_cgroups())):
            left[kind] = [name for name in now if name not in self.found[kind]]
        for kind, folder in (("sockets", self.runtime / "desktops"),
                             ("logs", self.state / "desktops"),
                             ("overlays", self.state / "overlays")):
            left[kind] = [str(p) for p in folder.rglob("*")] if folder.exists() else []
        return {kind: names for kind, names in left.items() if names}

    def delete_all(self):
        with self.client() as client:
            for desktop in client.call("desktop.list")["items"]:
                self.call_when_free("desktop.delete", desktop=desktop["id"], force=True)
            for network in client.call("network.list")["items"]:
                self.call_when_free("network.delete", network=network["id"])

    def done(self):
        """Delete everything, stop, and fail if the host still holds anything. Cleans up by force
        in any case."""
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            self.delete_all()
            status = self.stop()
            left = self.leftovers()
            assert status == 0, f"the daemon ended with {status}:\n{self.tail()}"
            assert not left, f"left behind: {left}\n{self.tail()}"
        finally:
            self.clean_up()

    def clean_up(self):
        if self.process is not None:
            with contextlib.suppress(OSError, AssertionError):
                self.kill()
        for (pid, start_time) in our_processes().keys() - self.found["processes"].keys():
            kill_pid(pid, start_time)
        for name in set(our_links()) - set(self.found["links"]):
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        for line in set(our_tables()) - set(self.found["tables"]):
            subprocess.run(["nft", "delete", *line.split()], check=False, capture_output=True)
        if "VDI_KEEP" not in os.environ:
            shutil.rmtree(self.root, ignore_errors=True)


# ---- the guest (tests/guest) ----

def guest_who(ip, timeout=20):
    """(hostname, mac, address) as the guest says, or None."""
    try:
        with socket.create_connection((ip, 7), timeout) as sock:
            words = sock.makefile().readline().split()
        return tuple(words) if len(words) == 3 else None
    except OSError:
        return None


def guest_do(ip, *commands, timeout=60):
    """Answers of the guest's command port, one a command; see tests/guest/init/serve."""
    with socket.create_connection((ip, 8), timeout) as sock:
        file = sock.makefile("rw")
        answers = []
        for command in commands:
            file.write(command + "\n")
            file.flush()
            answers.append(file.readline().rstrip("\n"))
    return answers if len(answers) != 1 else answers[0]


def guest_wait(ip, timeout=60):
    return wait_until(lambda: guest_who(ip, 5), timeout, f"the guest at {ip} to answer", 0.2)
