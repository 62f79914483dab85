"""Addresses of both families, names, reservations, and a dnsmasq that hangs."""
import ipaddress
import os
import pathlib
import signal
import sys

import pytest
import vdi
from spaces import (dnsmasq_pids, join, net, outside, run, script, spaces)  # noqa: F401

# a DHCPv6 client (RFC 8415) in as few words as can be: Solicit, Request; prints the address
DHCPV6 = """
import os, socket, struct, sys
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
duid = struct.pack("!HH", 3, 1) + mac
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
s.bind(("::", 546)); s.settimeout(3)
to = ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0"))
def option(code, data):
    return struct.pack("!HH", code, len(data)) + data
def parse(data):
    found = {}
    while data:
        code, size = struct.unpack("!HH", data[:4])
        found[code], data = data[4:4 + size], data[4 + size:]
    return found
def ask(kind, more):
    s.sendto(bytes([kind]) + b"abc" + option(1, duid) + option(8, b"\\0\\0") + more, to)
    while True:
        data = s.recv(2000)
        if data[1:4] == b"abc":
            return parse(data[4:])
ia = struct.pack("!III", 1, 0, 0)
offer = ask(1, option(3, ia))
reply = ask(3, option(2, offer[2]) + option(3, offer[3]) + option(6, struct.pack("!H", 23)))
address = parse(reply[3][12:])[5][:16]
print(socket.inet_ntop(socket.AF_INET6, address),
      socket.inet_ntop(socket.AF_INET6, reply[23][:16]) if 23 in reply else "-")
"""


def dhcp6(space, mac):
    """(address, name server); asked again, as clients do: a dnsmasq that was just started may not listen yet."""
    def attempt():
        done = space.run(sys.executable, "-c", DHCPV6, mac, check=False)
        return done.stdout.split() if done.returncode == 0 else None
    return vdi.wait_until(attempt, 10, "an answer by DHCPv6")


def wait_link_local(space):
    vdi.wait_until(lambda: "fe80" in (text := space.run("ip", "-6", "addr", "show", "dev", "eth0").stdout)
                   and "tentative" not in text, 5, "a link-local address")


def test_ipv6(net, spaces, script, outside):
    made = net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24", cidr6="auto")
    range6 = ipaddress.ip_network(made["cidr6"])
    assert range6.prefixlen == 64 and range6.subnet_of(ipaddress.ip_network("fd00::/8"))
    assert made["gateway6"] == str(range6[1])
    one, desktop, _ = join(net, spaces, script, "one", "lan")
    wait_link_local(one)
    # the router announces itself, and the address goes with the IPv4 one
    vdi.wait_until(lambda: "default" in one.run("ip", "-6", "route").stdout, 15, "a router")
    assert dhcp6(one, desktop["mac"]) == [str(range6[2]), str(range6[1])], net.tail()
    one.run("ip", "addr", "add", f"{range6[2]}/64", "dev", "eth0", "nodad")
    assert one.run("busybox", "ping6", "-c", 1, "-W", 2, range6[1], check=False).returncode == 0
    leases = net.call("network.leases", network="lan")["leases"]
    assert {lease["ip"] for lease in leases} == {"10.77.0.2", str(range6[2])}
    assert "10.77.0.2" in one.resolves("one", "10.77.0.1")
    assert str(range6[2]) in one.run("busybox", "nslookup", "-type=aaaa", "one", "10.77.0.1").stdout
    assert net.call("network.get", network="lan")["differences"] == []
    # out through the host's address
    run("ip", "addr", "add", "fd99::1/64", "dev", "out0", "nodad")
    outside.run("ip", "addr", "add", "fd99::2/64", "dev", "eth0", "nodad")
    assert one.run("busybox", "ping6", "-c", 1, "-W", 2, "fd99::2", check=False).returncode == 0
    # the same address after dnsmasq and the daemon died
    net.kill()
    for pid in dnsmasq_pids(net):
        vdi.kill_pid(pid)
    net.start()
    assert dhcp6(one, desktop["mac"]) == [str(range6[2]), str(range6[1])], net.tail()


def test_isolated_ipv6_has_no_router(net, spaces, script):
    net.call("network.create", name="cell", kind="isolated", cidr="10.79.0.0/24", cidr6="fd00:1:2:3::/64")
    space, desktop, _ = join(net, spaces, script, "one", "cell")
    wait_link_local(space)
    assert dhcp6(space, desktop["mac"])[0] == "fd00:1:2:3::2"
    vdi.wait_until(lambda: "fd00:1:2:3::/64" in space.run("ip", "-6", "route").stdout, 15, "the range")
    assert "default" not in space.run("ip", "-6", "route").stdout


@pytest.mark.parametrize("cidr6", ["fd00::/48", "fd00::1/64", "fe80::/64", "ff02::/64", "::/64", "10.0.0.0/8",
                                   "x", "", "fd00::/64x"])
def test_bad_ipv6_ranges(daemon, cidr6):
    with pytest.raises(vdi.RpcError) as refused:
        daemon.call("network.create", name="lan", cidr6=cidr6)
    assert refused.value.code == -32602 and refused.value.field == "cidr6"


def test_ipv6_overlap(daemon):
    daemon.call("network.create", name="lan", cidr6="fd00:1::/64")
    run("ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth8")
    run("ip", "link", "set", "eth9", "up")
    run("ip", "addr", "add", "fd00:2::7/56", "dev", "eth9", "nodad")
    try:
        for cidr6, what in (("fd00:1::/64", "lan"), ("fd00:2:0:1::/64", "eth9")):
            with pytest.raises(vdi.RpcError) as refused:
                daemon.call("network.create", name="other", cidr6=cidr6)
            assert refused.value.kind == "conflict" and what in str(refused.value)
    finally:
        run("ip", "link", "delete", "eth9")


def test_reservations(net, spaces, script):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/28")
    printer = net.call("network.reserve", network="lan", mac="52:54:00:AA:00:01", ip="10.77.0.9", name="printer")
    assert (printer["mac"], printer["ip"]) == ("52:54:00:aa:00:01", "10.77.0.9")
    kept = net.call("network.reserve", network="lan", name="ada")
    assert kept["ip"] == "10.77.0.2"
    assert [r["ip"] for r in net.call("network.reservations", network="lan")["items"]] == ["10.77.0.9", "10.77.0.2"]
    # nobody else gets them
    space = spaces()
    space.plug("vdibr1", "52:54:00:aa:00:01", "tprinter")
    assert space.dhcp(script)["ip"] == "10.77.0.9"
    assert net.create_desktop("bob", "lan")["ip"] == "10.77.0.3"
    assert net.create_desktop("ada", "lan")["ip"] == "10.77.0.2"
    assert "10.77.0.9" in space.resolves("printer", "10.77.0.1")
    for params in ({"ip": "10.77.0.9", "name": "x"}, {"ip": "10.77.0.3", "name": "x"},
                   {"mac": "52:54:00:aa:00:01"}, {"name": "printer"}, {"name": "bob"}):
        with pytest.raises(vdi.RpcError) as refused:
            net.call("network.reserve", network="lan", **params)
        assert refused.value.kind == "conflict", params
    for params in ({"ip": "10.77.0.1", "name": "x"}, {"ip": "10.78.0.9", "name": "x"}, {"ip": "10.77.0.15", "name": "x"},
                   {"ip": "10.77.0.5"}, {"mac": "53:54:00:aa:00:01"}, {"mac": "zz:54:00:aa:00:01"}):
        with pytest.raises(vdi.RpcError) as refused:
            net.call("network.reserve", network="lan", **params)
        assert refused.value.code == -32602, params
    # they outlive the daemon
    net.restart()
    assert len(net.call("network.reservations", network="lan")["items"]) == 2
    net.call("network.unreserve", reservation=printer["ip"])
    with pytest.raises(vdi.RpcError):
        net.call("network.unreserve", reservation=printer["id"])
    made = [net.create_desktop(f"d{n}", "lan")["ip"] for n in range(11)]
    assert "10.77.0.9" in made and len(set(made)) == 11
    with pytest.raises(vdi.RpcError) as refused:
        net.create_desktop("more", "lan")
    assert refused.value.kind == "limit" and "no free address" in str(refused.value)
    # until the network grows
    net.call_when_free("network.update", network="lan", cidr="10.77.0.0/24")
    assert net.create_desktop("more", "lan")["ip"] == "10.77.0.15"


def test_dnsmasq_hangs(net, spaces, script):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    net.call("network.create", name="mute", kind="nat", cidr="10.78.0.0/24", dns=False)
    before = dnsmasq_pids(net)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    vdi.wait_until(lambda: len(now := dnsmasq_pids(net)) == 2 and not set(now) & set(before), 30, "others")
    vdi.wait_until(lambda: net.call("network.get", network="lan")["state"] == "active", 10, "lan")
    space, _, got = join(net, spaces, script, "one", "lan")
    assert space.resolves("one", "10.77.0.1")
    space, _, got = join(net, spaces, script, "two", "mute")
    assert got["dns"] == "" and not space.resolves("two", "10.78.0.1")


def test_dnsmasq_missing(make_daemon, tmp_path):
    binary = tmp_path / "dnsmasq"
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:-1]:
        folder.chmod(folder.stat().st_mode | 0o055)
    daemon = make_daemon({"network": {"dnsmasq_binary": str(binary)}}).start()
    assert not daemon.call("host.info")["features"]["dnsmasq"]
    with pytest.raises(vdi.RpcError) as refused:
        daemon.call("network.create", name="lan")
    assert refused.value.kind == "unavailable" and "dnsmasq" in str(refused.value)
    assert vdi.our_links() == [] and vdi.our_tables() == []
    binary.symlink_to("/usr/sbin/dnsmasq")
    assert daemon.call("network.create", name="lan")["state"] == "active"
    # lost later, it is tried again until it is there
    binary.unlink()
    [pid] = dnsmasq_pids(daemon)
    vdi.kill_pid(pid)
    vdi.wait_until(lambda: daemon.call("network.get", network="lan")["state"] == "degraded", 5, "degraded")
    binary.symlink_to("/usr/sbin/dnsmasq")
    vdi.wait_until(lambda: daemon.call("network.get", network="lan")["state"] == "active", 20, "active")
    assert pathlib.Path(f"/proc/{dnsmasq_pids(daemon)[0]}").exists()
