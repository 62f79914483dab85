"""What tests of networks stand on. Guests are network namespaces: a veth on the bridge with the MAC of
a desktop that is never started, busybox for DHCP, sockets for the rest."""
import contextlib
import os
import pathlib
import subprocess
import sys

import pytest
import vdi

OUTSIDE_HOST, OUTSIDE = "10.200.0.1", "10.200.0.2"
OUTSIDE_HOST6, OUTSIDE6 = "fd99::1", "fd99::2"
HOST, PEER = "10.50.0.1", "10.50.0.2"

# prints what the server said, and sets the address up
DHCP_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
echo "BOUND ip=$ip subnet=$subnet router=$router dns=$dns serverid=$serverid"
ip -4 addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route replace default via "$router"
"""

# one connection: the peer's address goes back to it
SERVE = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print("ready", flush=True)
while True:
    conn, peer = server.accept()
    conn.sendall(peer[0].encode())
    conn.close()
"""

ASK = """
import socket, sys
try:
    # the kernel answers for a port that is open; who says something may have to wait for a processor
    conn = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
    conn.settimeout(60)
    print(conn.recv(100).decode())
except OSError as error:
    sys.exit(str(error))
"""


def run(*argv, check=True):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Space:
    """A network namespace, held by a process that sleeps."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        vdi.wait_until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, 5,
                       "the namespace")
        self.run("ip", "link", "set", "lo", "up")
        self.servers = []

    def argv(self, *argv):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *map(str, argv)]

    def run(self, *argv, check=True):
        return run(*self.argv(*argv), check=check)

    def plug(self, bridge, mac, host_end):
        run("ip", "link", "add", host_end, "type", "veth", "peer", "name", "eth0", "address", mac,
            "netns", self.holder.pid)
        run("ip", "link", "set", host_end, "master", bridge, "up")
        self.run("ip", "link", "set", "eth0", "up")

    def dhcp(self, script, tries=30):
        """{ip, subnet, router, dns} as the server gave them, or None."""
        done = self.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", tries, "-T", 1,
                        "-s", script, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("BOUND"):
                return dict(word.split("=", 1) for word in line.split()[1:])
        return None

    def serve(self, address, port):
        serve(self.servers, self.argv(sys.executable, "-c", SERVE, address, port))

    def ask(self, address, port):
        """What the server says who we are; None if it cannot be reached."""
        done = self.run(sys.executable, "-c", ASK, address, port, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def pings(self, address):
        return self.run("busybox", "ping", "-c", 1, "-W", 3, address, check=False).returncode == 0

    def resolves(self, name, server):
        done = self.run("busybox", "nslookup", name, server, check=False)
        return done.stdout if done.returncode == 0 else None

    def close(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.holder.kill()
        self.holder.wait()


def serve(servers, argv):
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    servers.append(server)
    assert server.stdout.readline() == "ready\n"


@pytest.fixture
def spaces():
    with contextlib.ExitStack() as stack:
        def make():
            space = Space()
            stack.callback(space.close)
            return space
        yield make


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "dhcp"
    path.write_text(DHCP_SCRIPT)
    path.chmod(0o755)
    return path


@pytest.fixture
def net(daemon, tmp_path):
    """A daemon with an image that desktops can be made of; nobody ever starts one."""
    disk = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
    daemon.import_image(disk)
    return daemon


@pytest.fixture
def outside(spaces):
    """The rest of the world: behind another link of the host's."""
    space = spaces()
    run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns",
        space.holder.pid)
    run("ip", "addr", "add", f"{OUTSIDE_HOST}/24", "dev", "out0")
    run("ip", "link", "set", "out0", "up")
    space.run("ip", "addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
    space.run("ip", "link", "set", "eth0", "up")
    # it even knows the way to the guests, which must not help it
    space.run("ip", "route", "add", "10.0.0.0/8", "via", OUTSIDE_HOST)
    space.serve(OUTSIDE, 80)
    yield space
    run("ip", "link", "delete", "out0", check=False)


@pytest.fixture
def outside6(outside):
    """The same with IPv6."""
    run("ip", "addr", "add", f"{OUTSIDE_HOST6}/64", "dev", "out0", "nodad")
    outside.run("ip", "addr", "add", f"{OUTSIDE6}/64", "dev", "eth0", "nodad")
    return outside


@pytest.fixture
def uplink(spaces):
    """The administrator's way in: with addresses of both families and routes."""
    space = spaces()
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", space.holder.pid)
    run("ip", "link", "set", "up0", "up")
    run("ip", "addr", "add", f"{HOST}/24", "dev", "up0")
    run("ip", "addr", "add", "fd50::1/64", "dev", "up0", "nodad")
    run("ip", "route", "add", "default", "via", PEER, "metric", "77")
    run("ip", "route", "add", "10.51.0.0/16", "via", PEER)
    space.run("ip", "addr", "add", f"{PEER}/24", "dev", "eth0")
    space.run("ip", "link", "set", "eth0", "up")
    space.serve(PEER, 80)
    yield space
    run("ip", "link", "delete", "up0", check=False)


def on_link(link):
    """Addresses (but link-local ones) and routes of a link."""
    addresses = run("ip", "-o", "addr", "show", "dev", link, "scope", "global").stdout.split()
    routes = run("ip", "route", "show", "dev", link).stdout
    routes = [line.replace(" linkdown", "").strip() for line in routes.splitlines()]
    return sorted(word for word in addresses if "/" in word), sorted(routes)


def ask_from_host(address, port):
    done = run(sys.executable, "-c", ASK, address, port, check=False)
    return done.stdout.strip() or None


def join(net, spaces, script, desktop, network):
    """A desktop's stand-in on its network, with its address."""
    made = net.create_desktop(desktop, network)
    space = spaces()
    space.plug(net.call("network.get", network=network)["bridge"], made["mac"], f"t{desktop}")
    got = space.dhcp(script)
    assert got and got["ip"] == made["ip"], f"{got}\n{net.tail()}"
    return space, made, got


def dnsmasq_pids(daemon):
    return [pid for (pid, _), name in vdi.our_processes().items() if name == "dnsmasq"
            and str(daemon.runtime).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
