"""Port forwards: from outside to a desktop, and who else wants the port."""
import socket
import sys

import pytest
import vdi
from spaces import (ASK, OUTSIDE, OUTSIDE_HOST, join, net, outside, run, script, spaces)  # noqa: F401


@pytest.fixture
def guest(net, spaces, script, outside):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    space, made, got = join(net, spaces, script, "one", "lan")
    space.serve(got["ip"], 80)
    return space


def add(net, **params):
    return net.call("network.forward.add", **{"desktop": "one", "port": 80, **params})


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
    net.call("network.forward.delete", forward=made["id"])
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
        net.call("network.forward.delete", forward="nothing")
    assert error.value.kind == "not_found"


def test_forward_goes_with_its_desktop(net, guest, outside):
    add(net, host_port=8080)
    net.call("desktop.delete", desktop="one")
    vdi.wait_until(lambda: net.call("network.forward.list")["items"] == [], 5, "the forward to go")
    assert "8080" not in run("nft", "list", "ruleset").stdout
    # and with its network, with the daemon dead in between
    net.create_desktop("two", "lan")
    add(net, desktop="two", host_port=8081)
    net.call("desktop.delete", desktop="two")
    net.call("network.delete", network="lan")
    assert vdi.our_tables() == []


def test_udp(net, guest, outside):
    add(net, host_port=5000, port=5000, count=3, protocol="udp")
    echo = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            "s.bind(('', 5002)); print('ready', flush=True);"
            "d, a = s.recvfrom(99); s.sendto(a[0].encode(), a)")
    from spaces import serve
    serve(guest.servers, guest.argv(sys.executable, "-c", echo))
    ask = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3);"
           f"s.connect(('{OUTSIDE_HOST}', 5002)); s.send(b'x'); print(s.recv(99).decode())")
    assert outside.run(sys.executable, "-c", ask).stdout.strip() == OUTSIDE
