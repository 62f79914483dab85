"""Networks on a real kernel with a real dnsmasq."""
import pathlib
import signal
import sys

import pytest
import vdi
from spaces import (ASK, OUTSIDE, OUTSIDE_HOST, SERVE, dnsmasq_pids, join, net, outside, run,  # noqa: F401
                    script, serve, spaces)


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


@pytest.fixture
def host():
    """Services of the host itself."""
    servers = []
    yield lambda port: serve(servers, [sys.executable, "-c", SERVE, "0.0.0.0", str(port)])
    for server in servers:
        server.kill()
        server.wait()


def test_the_host_is_closed_to_guests(net, spaces, script, outside, host):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    guest, _, _ = join(net, spaces, script, "one", "lan")
    host(2222)
    for address in ("10.77.0.1", OUTSIDE_HOST):
        assert guest.ask(address, 2222) is None
    assert outside.ask(OUTSIDE_HOST, 2222) == OUTSIDE


def guest_of(spaces, name="one", address="10.77.0.9"):
    """Somebody on the first network, with no desktop that it stands for."""
    space = spaces()
    space.plug("vdibr1", "52:54:00:12:34:56", f"t{name}")
    space.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    return space


def open_to(net, *openings):
    return net.call_when_free("network.update", network="lan", openings=list(openings))["openings"]


# which of these ports answer; all are asked at once, for one that is closed is silent
ASK_ALL = """
import select, socket, sys, time
asked = {}
for port in sys.argv[2:]:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((sys.argv[1], int(port)))
    asked[sock] = port
left, until = dict(asked), time.monotonic() + 2
while left and (wait := until - time.monotonic()) > 0:
    for sock in select.select([], left, [], wait)[1]:
        port = left.pop(sock)
        # the kernel answers for a port that is open; who says something may have to wait for a processor
        sock.setblocking(True)
        sock.settimeout(60)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and sock.recv(100):
            print(port)
"""


def reached(guest, *ports):
    return sorted(map(int, guest.run(sys.executable, "-c", ASK_ALL, "10.77.0.1", *ports).stdout.split()))


def test_openings(daemon, spaces, host):
    for port in (3128, 8000, 8005, 8011):
        host(port)
    proxy = {"protocol": "tcp", "ports": "3128"}
    made = daemon.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24", openings=[proxy])
    assert made["openings"] == [proxy]
    guest = guest_of(spaces)
    assert reached(guest, 3128, 8000) == [3128]
    # changed live, one list for another; the protocol is tcp unless it is said
    more = [{"protocol": "tcp", "ports": "8000-8010"}, {"protocol": "udp", "ports": "8011"}]
    assert open_to(daemon, {"ports": "8000-8010"}, more[1]) == more
    assert reached(guest, 3128, 8000, 8005, 8011) == [8000, 8005]
    shown = daemon.call("network.get", network="lan")
    assert (shown["openings"], shown["differences"]) == (more, [])
    # other changes leave it alone, a restart as well
    daemon.call_when_free("network.update", network="lan", mtu=1400)
    daemon.restart()
    assert daemon.call("network.get", network="lan")["openings"] == more
    assert reached(guest, 3128, 8005) == [8005]
    # somebody else's hand: an opening that is gone, a host that is open
    rules = run("nft", "-a", "list", "chain", "inet", "vdi-hostd", "net-vdibr1-input").stdout
    [line] = [line for line in rules.splitlines() if "8000-8010" in line]
    run("nft", "delete", "rule", "inet", "vdi-hostd", "net-vdibr1-input", "handle", line.split()[-1])
    vdi.wait_until(lambda: reached(guest, 8005), 5, "the opening to be back")
    run("nft", "flush", "chain", "inet", "vdi-hostd", "net-vdibr1-input")
    vdi.wait_until(lambda: not reached(guest, 3128), 5, "the host to be closed again")
    vdi.wait_until(lambda: daemon.call("network.get", network="lan")["state"] == "active", 5, "the network")
    assert open_to(daemon) == []
    assert reached(guest, 3128, 8000, 8005, 8011) == []


def test_bad_openings(daemon):
    for opening, field in (
            ({}, "ports"), ({"ports": "0"}, "ports"), ({"ports": "65536"}, "ports"), ({"ports": "10-9"}, "ports"),
            ({"ports": "x"}, "ports"), ({"ports": ""}, "ports"), ({"ports": 80}, "ports"), ({"ports": "1-"}, "ports"),
            ({"ports": "80", "protocol": "icmp"}, "protocol"), ({"ports": "80", "more": 1}, "more")):
        for openings in ([opening], [{"ports": "22"}, opening]):
            with pytest.raises(vdi.RpcError) as refused:
                daemon.call("network.create", name="lan", openings=openings)
            assert refused.value.code == -32602 and refused.value.field.split(".")[-1] == field, refused.value
    for params in ({"openings": [{"ports": "22"}] * 17}, {"kind": "user", "openings": [{"ports": "22"}]}):
        with pytest.raises(vdi.RpcError) as refused:
            daemon.call("network.create", name="lan", **params)
        assert refused.value.field == "openings"


@pytest.mark.parametrize("point", ["wish:after", "bridge:after"])
def test_openings_after_a_crash(daemon, spaces, host, point):
    """The old list or the new one, never anything between them; then what the daemon says there is."""
    host(3128)
    host(8005)
    daemon.call("network.create", name="lan", kind="isolated", cidr="10.77.0.0/24", openings=[{"ports": "3128"}])
    guest = guest_of(spaces)
    daemon.restart(env={"VDI_CRASH_AT": f"network-change:{point}"})
    with pytest.raises((ConnectionError, vdi.RpcError)):
        daemon.call_when_free("network.update", network="lan", openings=[{"ports": "8005"}])
    assert daemon.process.wait(60) != 0
    daemon.process = None
    assert reached(guest, 3128, 8005) in ([3128], [8005])
    daemon.start()
    shown = daemon.call("network.get", network="lan")
    assert (shown["state"], shown["differences"]) == ("active", [])
    # the wish was written down
    assert shown["openings"] == [{"protocol": "tcp", "ports": "8005"}]
    assert reached(guest, 3128, 8005) == [8005]


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
    net.call_when_free("network.delete", network="a")
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
    vdi.wait_until(lambda: net.call("network.get", network="lan")["state"] == "active", 10, "the network")
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
