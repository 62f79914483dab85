"""Networks on a real kernel with a real dnsmasq. Guests are network namespaces: a veth on the
bridge with the MAC of a desktop that is never started, busybox for DHCP, sockets for the rest."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import vdi

OUTSIDE_HOST, OUTSIDE = "10.200.0.1", "10.200.0.2"

# prints what the server said, and sets the address up
DHCP_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
echo "BOUND ip=$ip subnet=$subnet router=$router dns=$dns serverid=$serverid"
ip addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route replace default via "$router"
"""

# one connection: the peer's address goes back to it
SERVE = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    conn, peer = server.accept()
    conn.sendall(peer[0].encode())
    conn.close()
"""

ASK = """
import socket, sys
try:
    conn = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
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

    def dhcp(self, script, tries=5):
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
        return self.run("busybox", "ping", "-c", 1, "-W", 2, address, check=False).returncode == 0

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


def test_dhcp_and_dns(net, spaces, script):
    made = net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    assert (made["state"], made["gateway"], made["bridge"]) == ("active", "10.77.0.1", "vdibr1")
    one, desktop, got = join(net, spaces, script, "one", "lan")
    assert got["ip"] == "10.77.0.2"
    assert got["subnet"] == "255.255.255.0"
    assert got["router"] == got["dns"] == got["serverid"] == "10.77.0.1"
    assert one.pings("10.77.0.1")
    leases = net.call("network.leases", network="lan")["leases"]
    assert [(lease["ip"], lease["mac"]) for lease in leases] == [("10.77.0.2", desktop["mac"])]
    two, _, got = join(net, spaces, script, "two", "lan")
    assert got["ip"] == "10.77.0.3"
    assert "10.77.0.2" in two.resolves("one", "10.77.0.1")
    # guests of one network reach each other
    one.serve("10.77.0.2", 7000)
    assert two.ask("10.77.0.2", 7000) == "10.77.0.3"


def test_strangers_get_no_address(net, spaces, script):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    stranger = spaces()
    stranger.plug("vdibr1", "52:54:00:12:34:56", "tstranger")
    assert stranger.dhcp(script, tries=2) is None


def test_nat(net, spaces, script, outside):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    guest, _, got = join(net, spaces, script, "one", "lan")
    # the world sees the host, and cannot begin anything itself
    assert guest.ask(OUTSIDE, 80) == OUTSIDE_HOST
    assert guest.pings(OUTSIDE)
    guest.serve(got["ip"], 7000)
    assert outside.ask(got["ip"], 7000) is None
    assert not outside.pings(got["ip"])
    # the host itself may
    done = run(sys.executable, "-c", ASK, got["ip"], 7000)
    assert done.stdout.strip() == "10.77.0.1"
    # a made-up source address goes nowhere
    guest.run("ip", "addr", "flush", "dev", "eth0")
    guest.run("ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
    guest.run("ip", "route", "replace", "default", "via", "10.77.0.1", "dev", "eth0", "onlink")
    assert guest.ask(OUTSIDE, 80) is None


def test_the_host_is_closed_to_guests(net, spaces, script, outside):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    guest, _, _ = join(net, spaces, script, "one", "lan")
    servers = []
    try:
        serve(servers, [sys.executable, "-c", SERVE, "0.0.0.0", "2222"])
        for address in ("10.77.0.1", OUTSIDE_HOST):
            assert guest.ask(address, 2222) is None
        assert outside.ask(OUTSIDE_HOST, 2222) == OUTSIDE
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_networks_are_apart(net, spaces, script, outside):
    for name, kind, cidr in (("a", "nat", "10.77.0.0/24"), ("b", "nat", "10.78.0.0/24"),
                             ("c", "isolated", "10.79.0.0/24")):
        net.call("network.create", name=name, kind=kind, cidr=cidr)
    a, _, _ = join(net, spaces, script, "one", "a")
    b, _, at_b = join(net, spaces, script, "two", "b")
    c, _, at_c = join(net, spaces, script, "three", "c")
    c.run("ip", "route", "replace", "default", "via", "10.79.0.1")
    b.serve(at_b["ip"], 7000)
    c.serve(at_c["ip"], 7000)
    for space in (a, c):
        assert space.ask(at_b["ip"], 7000) is None
        assert not space.pings(at_b["ip"])
    assert a.ask(at_c["ip"], 7000) is None
    # what happens to one is nothing to the others
    net.call("desktop.delete", desktop="one")
    net.call("network.delete", network="a")
    assert b.ask(OUTSIDE, 80) == OUTSIDE_HOST


def test_isolated_does_not_leak(net, spaces, script, outside):
    # another network makes the host forward; this one must not profit
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    net.call("network.create", name="cell", kind="isolated", cidr="10.79.0.0/24")
    guest, _, got = join(net, spaces, script, "one", "cell")
    other, _, at_other = join(net, spaces, script, "two", "cell")
    assert got["router"] == ""
    assert guest.pings("10.79.0.1")
    guest.run("ip", "route", "replace", "default", "via", "10.79.0.1")
    assert guest.ask(OUTSIDE, 80) is None
    assert not guest.pings(OUTSIDE)
    other.serve(at_other["ip"], 7000)
    assert guest.ask(at_other["ip"], 7000) == got["ip"]
    assert at_other["ip"] in guest.resolves("two", "10.79.0.1")
    # and names are no way out either
    resolv = pathlib.Path(f"/proc/{dnsmasq_pids(net)[0]}/root/etc/resolv.conf")
    assert resolv.exists()
    for pid in dnsmasq_pids(net):
        argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert (b"--no-resolv" in argv) == (b"--interface=vdibr2" in argv)


def test_an_address_is_given_on(net, spaces, script):
    """The lease of a desktop that is gone does not keep its address from the next."""
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/29")
    for number in range(5):
        join(net, spaces, script, f"d{number}", "lan")
    with pytest.raises(vdi.RpcError) as refused:
        net.create_desktop("more", "lan")
    assert refused.value.kind == "limit"
    net.call("desktop.delete", desktop="d2")
    _, made, _ = join(net, spaces, script, "next", "lan")
    assert made["ip"] == "10.77.0.4"


def test_dnsmasq_dies(net, spaces, script):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    [pid] = dnsmasq_pids(net)
    vdi.kill_pid(pid)
    vdi.wait_until(lambda: dnsmasq_pids(net) not in ([], [pid]), 10, "another dnsmasq")
    vdi.wait_until(lambda: net.call("network.get", network="lan")["state"] == "active", 10,
                   "the network to be active again")
    join(net, spaces, script, "one", "lan")


def test_the_daemon_dies(net, spaces, script, outside):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    guest, _, _ = join(net, spaces, script, "one", "lan")
    [pid] = dnsmasq_pids(net)
    net.kill()
    assert guest.ask(OUTSIDE, 80) == OUTSIDE_HOST
    assert guest.dhcp(script)
    net.start()
    assert dnsmasq_pids(net) == [pid]
    assert net.call("network.get", network="lan")["state"] == "active"
    join(net, spaces, script, "two", "lan")
    # what somebody took away meanwhile is put back
    net.kill()
    run("nft", "delete", "table", "inet", "vdi-hostd")
    run("ip", "link", "delete", "vdibr1")
    vdi.kill_pid(pid, sig=signal.SIGTERM)
    net.start()
    assert vdi.our_links() == ["vdibr1"]
    assert net.call("network.get", network="lan")["state"] == "active"
    three, _, _ = join(net, spaces, script, "three", "lan")
    assert three.ask(OUTSIDE, 80) == OUTSIDE_HOST


def test_ranges_of_the_host_are_refused(net, outside):
    with pytest.raises(vdi.RpcError) as refused:
        net.call("network.create", name="lan", kind="nat", cidr="10.200.0.0/25")
    assert refused.value.kind == "conflict"
    assert "10.200.0.0/24" in str(refused.value) and "out0" in str(refused.value)
    made = net.call("network.create", name="lan", kind="isolated")
    assert made["cidr"] != "10.200.0.0/24"
    assert not vdi.our_links() or vdi.our_links() == [made["bridge"]]
