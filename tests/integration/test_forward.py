"""Port forwards: from outside to a desktop, and who else wants the port."""
import contextlib
import socket
import sys

import pytest
import vdi
from spaces import (OUTSIDE, OUTSIDE6, OUTSIDE_HOST, OUTSIDE_HOST6, join, net, outside, outside6, run,  # noqa: F401
                    script, serve, spaces)


@pytest.fixture
def guest(net, spaces, script, outside):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    space, made, got = join(net, spaces, script, "one", "lan")
    space.serve(got["ip"], 80)
    return space


@pytest.fixture
def guest6(net, spaces, script, outside6):
    """The same with IPv6, inside and outside."""
    net.call("network.create", name="lan", kind="nat", cidr="10.77.3.0/24", cidr6="fd77::/64")
    space, _, got = join(net, spaces, script, "one", "lan")
    has_address(space, "fd77::2")
    space.run("ip", "route", "replace", "default", "via", "fd77::1", "dev", "eth0")
    for address in (got["ip"], "::"):
        space.serve(address, 80)
    return space


def has_address(space, address):
    """As DHCPv6 would give it."""
    space.run("ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")


def add(net, **params):
    return net.call_when_free("network.forward.add", **{"desktop": "one", "port": 80, **params})


def refused(net, kind, **params):
    with pytest.raises(vdi.RpcError) as error:
        add(net, **params)
    assert error.value.kind == kind, error.value
    return str(error.value)


def test_forward_leads_to_the_desktop(net, guest, outside):
    assert outside.ask(OUTSIDE_HOST, 8080) is None
    made = add(net, host_port=8080)
    assert (made["desktop"], made["ip"], made["protocol"]) == ("one", "10.77.0.2", "tcp")
    # the desktop sees who really asks
    assert outside.ask(OUTSIDE_HOST, 8080) == OUTSIDE
    assert net.call("network.forward.list")["items"] == [made]
    assert net.call("network.get", network="lan")["differences"] == []
    # it outlives the daemon, and comes back when somebody was at the rules
    net.kill()
    assert outside.ask(OUTSIDE_HOST, 8080) == OUTSIDE
    run("nft", "delete", "table", "inet", "vdi-hostd")
    net.start()
    assert outside.ask(OUTSIDE_HOST, 8080) == OUTSIDE
    net.call_when_free("network.forward.delete", forward=made["id"])
    assert outside.ask(OUTSIDE_HOST, 8080) is None
    assert net.call("network.forward.list")["items"] == []


def test_ports_have_one_owner(net, guest):
    add(net, host_port=8000, count=10, port=8000)
    message = refused(net, "conflict", host_port=8009)
    assert "'one'" in message
    refused(net, "conflict", host_port=7990, count=11)
    refused(net, "conflict", host_port=8005, host_address=OUTSIDE_HOST)
    add(net, host_port=8009, protocol="udp")
    add(net, host_port=8010, host_address=OUTSIDE_HOST)
    add(net, host_port=8010, host_address="10.77.0.1")
    # what listens on the host keeps its port
    for family, kind, name in ((socket.AF_INET, socket.SOCK_STREAM, "tcp"),
                               (socket.AF_INET6, socket.SOCK_STREAM, "tcp"),
                               (socket.AF_INET, socket.SOCK_DGRAM, "udp")):
        with socket.socket(family, kind) as sock:
            sock.bind(("", 9000))
            if name == "tcp":
                sock.listen()
            assert "9000" in refused(net, "conflict", host_port=8999, count=2, protocol=name)
            refused(net, "conflict", host_port=9000, host_address=OUTSIDE_HOST, protocol=name)
    # but for what only the host itself reaches
    with socket.create_server(("127.0.0.1", 9000)):
        add(net, host_port=9000)


def test_bad_forwards(net, guest):
    net.create_desktop("alone")
    for params in ({"host_port": 0}, {"host_port": 65536}, {"host_port": 65535, "count": 2},
                   {"host_port": 80, "port": 65535, "count": 2}, {"host_port": 80, "count": 2000},
                   {"host_port": 80, "host_address": "fd00::1"}, {"host_port": 80, "host_address": "x"}):
        with pytest.raises(vdi.RpcError) as error:
            add(net, **params)
        assert error.value.code == -32602, params
    refused(net, "conflict", desktop="alone", host_port=80)
    refused(net, "not_found", desktop="nobody", host_port=80)
    with pytest.raises(vdi.RpcError) as error:
        net.call_when_free("network.forward.delete", forward="nothing")
    assert error.value.kind == "not_found"


def test_forward_goes_with_its_desktop(net, guest, outside):
    add(net, host_port=8080)
    net.call("desktop.delete", desktop="one")
    vdi.wait_until(lambda: net.call("network.forward.list")["items"] == [], 5, "the forward to go")
    assert ". 8080" not in run("nft", "list", "ruleset").stdout
    # and with its network, with the daemon dead in between
    net.create_desktop("two", "lan")
    add(net, desktop="two", host_port=8081)
    net.call("desktop.delete", desktop="two")
    net.call_when_free("network.delete", network="lan")
    assert vdi.our_tables() == []


UDP_SERVE = """
import socket, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    _, peer = server.recvfrom(99)
    server.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
"""

UDP_ASK = """
import socket, sys
client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(3)
client.connect((sys.argv[1], int(sys.argv[2])))
for _ in range(10):
    client.send(b"x")
    try:
        sys.exit(print(client.recv(99).decode()))
    except TimeoutError:
        pass
sys.exit("no answer")
"""


def ask_udp(space, address, port):
    return space.run(sys.executable, "-c", UDP_ASK, address, port).stdout.strip()


def serve_udp(space, port):
    serve(space.servers, space.argv(sys.executable, "-c", UDP_SERVE, port))


def test_udp(net, guest, outside):
    add(net, host_port=5000, port=5000, count=3, protocol="udp")
    serve_udp(guest, 5002)
    assert ask_udp(outside, OUTSIDE_HOST, 5002) == OUTSIDE


# ---- both families ----

def test_both_families(net, guest6, outside):
    made = add(net, host_port=8080)
    assert (made["ip"], made["ip6"], made["host_address"]) == ("10.77.3.2", "fd77::2", None)
    six = add(net, host_port=8081, host_address="FD99:0::1")
    assert (six["ip"], six["ip6"], six["host_address"]) == (None, "fd77::2", OUTSIDE_HOST6)
    four = add(net, host_port=8082, host_address=OUTSIDE_HOST)
    assert (four["ip"], four["ip6"], four["host_address"]) == ("10.77.3.2", None, OUTSIDE_HOST)
    add(net, host_port=5000, port=5000, count=3, protocol="udp")
    serve_udp(guest6, 5002)

    def all_lead():
        assert [outside.ask(OUTSIDE_HOST, port) for port in (8080, 8082)] == [OUTSIDE] * 2
        assert [outside.ask(OUTSIDE_HOST6, port) for port in (8080, 8081)] == [OUTSIDE6] * 2
        assert ask_udp(outside, OUTSIDE_HOST, 5002) == OUTSIDE
        assert ask_udp(outside, OUTSIDE_HOST6, 5002) == OUTSIDE6
        assert net.call("network.get", network="lan")["differences"] == []
    all_lead()
    assert outside.ask(OUTSIDE_HOST, 8081) is None and outside.ask(OUTSIDE_HOST6, 8082) is None
    # one family's rule taken away by somebody, then all of them while the daemon is dead
    run("nft", "delete", "element", "inet", "vdi-hostd", "redirect6-any", "{ tcp . 8080 }")
    vdi.wait_until(lambda: outside.ask(OUTSIDE_HOST6, 8080), 5, "the rule to be back")
    vdi.wait_until(lambda: net.call("network.get", network="lan")["state"] == "active", 5, "the network")
    net.kill()
    run("nft", "flush", "ruleset")
    net.start()
    all_lead()
    # the network grows to the front: the desktop's place in it is another, and so its IPv6 address
    net.call_when_free("network.update", network="lan", cidr="10.77.0.0/22")
    shown = {f["host_port"]: (f["ip"], f["ip6"]) for f in net.call("network.forward.list")["items"]}
    assert shown == {8080: ("10.77.3.2", "fd77::302"), 8081: (None, "fd77::302"), 8082: ("10.77.3.2", None),
                     5000: ("10.77.3.2", "fd77::302")}
    guest6.run("ip", "addr", "flush", "dev", "eth0", "to", "fd77::2")
    has_address(guest6, "fd77::302")
    all_lead()
    for forward in net.call("network.forward.list")["items"]:
        net.call_when_free("network.forward.delete", forward=forward["id"])
    rules = run("nft", "list", "ruleset").stdout
    assert not [port for port in (8080, 8081, 8082, 5001) if f". {port}" in rules]


@contextlib.contextmanager
def listener(kind, address, port, v6only=False):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield


def test_ports_of_both_families(net, guest6):
    add(net, host_port=8000)
    for host in (OUTSIDE_HOST6, OUTSIDE_HOST):
        assert "'one'" in refused(net, "conflict", host_port=8000, host_address=host)
    # of one family each
    add(net, host_port=8001, host_address=OUTSIDE_HOST6)
    refused(net, "conflict", host_port=8001, host_address="fd99::0:1")
    refused(net, "conflict", host_port=8001)
    add(net, host_port=8001, host_address=OUTSIDE_HOST)
    add(net, host_port=8001, host_address="fd77::1")
    for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        for address in ("::", "0.0.0.0", f"::ffff:{OUTSIDE_HOST}", OUTSIDE_HOST6):
            with listener(kind, address, 9000):
                assert "9000" in refused(net, "conflict", host_port=8999, count=2, protocol=name)
        with listener(kind, OUTSIDE_HOST6, 9000):
            refused(net, "conflict", host_port=9000, host_address=OUTSIDE_HOST6, protocol=name)
            add(net, host_port=9000, host_address=OUTSIDE_HOST, protocol=name)
            add(net, host_port=9000, host_address="fd77::1", protocol=name)
        with listener(kind, OUTSIDE_HOST, 9001):
            refused(net, "conflict", host_port=9001, host_address=OUTSIDE_HOST, protocol=name)
            add(net, host_port=9001, host_address=OUTSIDE_HOST6, protocol=name)
        with listener(kind, "::", 9002):
            refused(net, "conflict", host_port=9002, host_address=OUTSIDE_HOST, protocol=name)
        with listener(kind, "0.0.0.0", 9002):
            add(net, host_port=9002, host_address=OUTSIDE_HOST6, protocol=name)
        with listener(kind, "::1", 9003):
            add(net, host_port=9003, protocol=name)
    # a network without IPv6 takes none of its ports
    net.call("network.create", name="old", kind="nat", cidr="10.78.0.0/24")
    net.create_desktop("two", "old")
    with listener(socket.SOCK_STREAM, OUTSIDE_HOST6, 9004):
        add(net, desktop="two", host_port=9004)
        refused(net, "conflict", host_port=9004)
    add(net, host_port=9004, host_address=OUTSIDE_HOST6)
    for host in ("::", "0.0.0.0", "::1", "127.0.0.1", "fe80::1", "ff02::1", "224.0.0.1", "::ffff:10.200.0.1",
                 "fd99::1/64", "10.200.0.1/24", "x", "", "fd99::1%out0"):
        with pytest.raises(vdi.RpcError) as error:
            add(net, host_port=9005, host_address=host)
        assert (error.value.code, error.value.field) == (-32602, "host_address"), host
    with pytest.raises(vdi.RpcError) as error:
        add(net, desktop="two", host_port=9005, host_address=OUTSIDE_HOST6)
    assert error.value.code == -32602 and "no IPv6" in str(error.value)
