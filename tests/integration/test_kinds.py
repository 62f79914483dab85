"""Networks that lead elsewhere: on an uplink, routed, over several hosts. The uplink is a veth to the
namespace that plays the outside."""
import os
import subprocess
import sys

import pytest
import vdi
from spaces import (SERVE, ask_from_host, join, net, on_link, outside, run, script, serve,  # noqa: F401
                    spaces, uplink, HOST, OUTSIDE, OUTSIDE_HOST, PEER)


def mac_of(link):
    return run("ip", "-o", "link", "show", "dev", link).stdout.split("link/ether ")[1].split()[0]


def test_bridged(net, spaces, uplink):
    before = on_link("up0")
    assert len(before[0]) == 2 and len(before[1]) == 3
    made = net.call("network.create", name="office", kind="bridged", uplink="up0", confirm_timeout_s=60)
    assert made["state"] == "unconfirmed" and made["confirm_until"]
    assert (made["cidr"], made["uplink"]) == (None, "up0")
    # the host is reached as before, through the bridge
    assert on_link("up0") == ([], []) and on_link("vdibr1") == before
    assert ask_from_host(PEER, 80) == HOST
    assert net.call("network.confirm", network="office")["state"] == "active"
    assert net.call("network.confirm", network="office")["confirm_until"] is None
    # a guest is on the office's network, with addresses of its own
    desktop = net.create_desktop("one", "office")
    assert desktop["ip"] is None
    guest = spaces()
    guest.plug("vdibr1", desktop["mac"], "tone")
    guest.run("ip", "addr", "add", "10.50.0.7/24", "dev", "eth0")
    assert guest.ask(PEER, 80) == "10.50.0.7"
    assert net.call("network.get", network="office")["differences"] == []
    # neither a restart nor a crash changes anything of it
    net.restart()
    assert on_link("vdibr1") == before
    net.kill()
    assert ask_from_host(PEER, 80) == HOST and guest.ask(PEER, 80) == "10.50.0.7"
    net.start()
    assert net.call("network.get", network="office")["state"] == "active"
    # one that somebody took out of the bridge is put back
    run("ip", "link", "set", "up0", "nomaster")
    vdi.wait_until(lambda: guest.ask(PEER, 80), 10, "the uplink")
    vdi.wait_until(lambda: net.call("network.get", network="office")["state"] == "active", 5, "the network")
    # and so is the uplink's MAC, which is the bridge's
    run("ip", "link", "set", "vdibr1", "address", "02:00:00:00:00:66")
    vdi.wait_until(lambda: mac_of("vdibr1") == mac_of("up0"), 5, "its MAC")
    vdi.wait_until(lambda: net.call("network.get", network="office")["state"] == "active", 5, "the network")
    assert ask_from_host(PEER, 80) == HOST and guest.ask(PEER, 80) == "10.50.0.7"
    net.call("desktop.delete", desktop="one")
    net.call_when_free("network.delete", network="office")
    assert on_link("up0") == before
    assert ask_from_host(PEER, 80) == HOST


def test_nobody_confirms(daemon, uplink):
    before = on_link("up0")
    with daemon.client() as client:
        client.call("events.subscribe", topics=["network"])
        # long enough to be seen
        daemon.call("network.create", name="office", kind="bridged", uplink="up0", confirm_timeout_s=10)
        assert on_link("vdibr1") == before
        states = []
        while "deleted" not in states:
            states.append(client.next_event()["data"]["state"])
    assert states == ["unconfirmed", "taken-back", "deleted"]
    assert on_link("up0") == before and vdi.our_links() == []
    assert daemon.call("network.list")["items"] == []


@pytest.mark.parametrize("how", ["crash", "stop", "privileged half"])
def test_the_daemon_ends_before_the_confirmation(daemon, uplink, how):
    before = on_link("up0")
    daemon.call("network.create", name="office", kind="bridged", uplink="up0", confirm_timeout_s=600)
    if how == "crash":
        daemon.kill()
    elif how == "stop":
        daemon.stop()
    else:
        vdi.kill_pid(daemon.halves()[0])
        daemon.process.wait(60)
        daemon.process = None
    # nobody has to start a daemon for that
    vdi.wait_until(lambda: on_link("up0") == before, 5, "the uplink to be put back")
    assert ask_from_host(PEER, 80) == HOST
    daemon.start()
    assert daemon.call("network.list")["items"] == []
    assert vdi.our_links() == []


def test_the_daemon_hangs_before_the_confirmation(daemon, uplink):
    import signal
    before = on_link("up0")
    daemon.call("network.create", name="office", kind="bridged", uplink="up0", confirm_timeout_s=1)
    pid = daemon.halves()[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        vdi.wait_until(lambda: on_link("up0") == before, 8, "the guard to put the uplink back")
    finally:
        os.kill(pid, signal.SIGCONT)
    vdi.wait_until(lambda: daemon.call("network.list")["items"] == [], 5, "the network to go")


def refuse(daemon, why, **params):
    with pytest.raises(vdi.RpcError) as refused:
        daemon.call("network.create", name="office", **{"kind": "bridged", "uplink": "up0", **params})
    assert refused.value.kind == why or (why == "invalid" and refused.value.code == -32602), refused.value
    return str(refused.value)


def test_bad_uplinks(daemon, uplink):
    before = on_link("up0")
    for name in ("nothing", "lo", "vdibr9", "a/b", "x" * 16, "", ".."):
        refuse(daemon, "invalid", uplink=name)
    refuse(daemon, "invalid", cidr="10.60.0.0/24")
    refuse(daemon, "invalid", cidr6="auto")
    refuse(daemon, "invalid", vni=5, underlay=HOST, peers=[PEER])
    refuse(daemon, "invalid", kind="nat")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "up0", "master", "br0")
    assert "br0" in refuse(daemon, "conflict")
    run("ip", "link", "delete", "br0")
    daemon.call("network.create", name="first", kind="bridged", uplink="up0")
    assert "'first'" in refuse(daemon, "conflict")
    daemon.call("network.confirm", network="first")
    # one that vanishes leaves a network that says so, and can be deleted
    run("ip", "link", "delete", "up0")
    vdi.wait_until(lambda: daemon.call("network.get", network="first")["state"] == "degraded", 5, "degraded")
    assert "up0" in daemon.call("network.get", network="first")["state_reason"]
    daemon.call_when_free("network.delete", network="first")
    assert vdi.our_links() == [] and before[0]


def test_vlan_needs_the_kernel(net, uplink):
    if net.call("host.info")["features"]["vlan"]:
        pytest.skip("this kernel has 802.1Q VLAN devices: nothing has to be refused")
    message = refuse(net, "unsupported", vlan=7)
    assert "802.1Q" in message
    assert vdi.our_links() == [] and vdi.our_tables() == []


def test_routed(net, spaces, script, outside):
    net.call("network.create", name="lan", kind="routed", cidr="10.77.0.0/24")
    guest, _, got = join(net, spaces, script, "one", "lan")
    assert got["router"] == "10.77.0.1"
    # nobody's address is changed on the way, either way
    assert guest.ask(OUTSIDE, 80) == "10.77.0.2"
    guest.serve("10.77.0.2", 7000)
    assert outside.ask("10.77.0.2", 7000) == OUTSIDE
    # but the host's services stay closed, and false addresses stay here
    serve(guest.servers, [sys.executable, "-c", SERVE, "0.0.0.0", "2222"])
    assert guest.ask("10.77.0.1", 2222) is None and guest.ask(OUTSIDE_HOST, 2222) is None
    guest.run("ip", "addr", "flush", "dev", "eth0")
    guest.run("ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
    guest.run("ip", "route", "replace", "default", "via", "10.77.0.1", "dev", "eth0", "onlink")
    assert guest.ask(OUTSIDE, 80) is None


# ---- two hosts ----

@pytest.fixture
def hosts(make_daemon, spaces, tmp_path):
    """A daemon here and one in another namespace, with a wire between them."""
    other = spaces()
    run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", other.holder.pid)
    run("ip", "addr", "add", "192.168.77.1/24", "dev", "wire0")
    run("ip", "link", "set", "wire0", "up")
    other.run("ip", "addr", "add", "192.168.77.2/24", "dev", "wire0")
    other.run("ip", "link", "set", "wire0", "up")
    here, there = make_daemon(), make_daemon()
    plain = there.argv
    there.argv = lambda: other.argv(*plain())
    disk = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
    for daemon in (here, there):
        daemon.start()
        daemon.import_image(disk)
    yield here, there, other
    # each looks for what is left of anybody's
    here.delete_all()
    here.stop()
    run("ip", "link", "delete", "wire0", check=False)


def test_vxlan(hosts, spaces, script):
    here, there, other = hosts
    if not here.call("host.info")["features"]["vxlan"]:
        pytest.skip("this kernel has no VXLAN")
    for daemon, own, peer, gateway, part in ((here, 1, 2, 1, "10.88.0.10-10.88.0.99"),
                                             (there, 2, 1, 2, "10.88.0.100-10.88.0.199")):
        made = daemon.call("network.create", name="wide", kind="isolated", cidr="10.88.0.0/24",
                           gateway=f"10.88.0.{gateway}", range=part, vni=77, underlay=f"192.168.77.{own}",
                           peers=[f"192.168.77.{peer}"])
        assert made["state"] == "active" and made["peers"] == [f"192.168.77.{peer}"]
    a, b = spaces(), spaces()
    desktop = here.create_desktop("one", "wide")
    a.plug("vdibr1", desktop["mac"], "tone")
    assert a.dhcp(script)["ip"] == desktop["ip"] == "10.88.0.10"
    desktop = there.create_desktop("two", "wide")
    other.run("ip", "link", "add", "ttwo", "type", "veth", "peer", "name", "eth0", "address", desktop["mac"],
              "netns", b.holder.pid)
    other.run("ip", "link", "set", "ttwo", "master", "vdibr1", "up")
    b.run("ip", "link", "set", "eth0", "up")
    got = b.dhcp(script)
    assert got["ip"] == desktop["ip"] == "10.88.0.100" and got["serverid"] == "10.88.0.2"
    assert a.pings("10.88.0.100") and b.pings("10.88.0.10")
    # each host is one of its own there: it is reached, and reaches the other's desktops
    assert a.pings("10.88.0.2") and b.pings("10.88.0.1")
    assert run("busybox", "ping", "-c", 1, "-W", 2, "10.88.0.100", check=False).returncode == 0
    # frames are cut to what the wire takes
    assert int(here.call("network.get", network="wide")["actual"]["mtu"]) <= 1450
    b.serve("10.88.0.100", 7000)
    assert a.ask("10.88.0.100", 7000) == "10.88.0.10"
    # a peer that is taken out hears no more
    here.call_when_free("network.update", network="wide", peers=["192.168.77.9"])
    there.call_when_free("network.update", network="wide", peers=["192.168.77.9"])
    assert here.call("network.get", network="wide")["differences"] == []
    a.run("ip", "neigh", "flush", "all")
    assert not a.pings("10.88.0.100")
    here.call_when_free("network.update", network="wide", peers=["192.168.77.2"])
    there.call_when_free("network.update", network="wide", peers=["192.168.77.1"])
    # who was not found a moment ago is not asked for at once
    vdi.wait_until(lambda: a.pings("10.88.0.100"), 10, "the peer")
    # and what is taken away comes back
    run("ip", "link", "delete", "vdivx1")
    vdi.wait_until(lambda: a.pings("10.88.0.100"), 10, "the VXLAN")


@pytest.mark.parametrize("params, field", [
    ({"vni": 5}, "underlay"), ({"vni": 5, "underlay": HOST}, "peers"), ({"peers": [PEER]}, "vni"),
    ({"vni": 5, "underlay": HOST, "peers": []}, "peers"), ({"vni": 5, "underlay": HOST, "peers": ["x"]}, "peers"),
    ({"vni": 5, "underlay": HOST, "peers": [HOST]}, "peers"), ({"vni": 5, "underlay": "x", "peers": [PEER]}, "underlay"),
    ({"vni": 1 << 24}, "vni"), ({"gateway": "10.77.0.0", "cidr": "10.77.0.0/24"}, "gateway"),
    ({"gateway": "10.78.0.1", "cidr": "10.77.0.0/24"}, "gateway"), ({"mtu": 100}, "mtu"), ({"mtu": 10000}, "mtu"),
    ({"mtu": 1000, "cidr6": "auto"}, "mtu"), ({"vlan": 5}, "vlan"), ({"cidr": "10.77.0.0/24", "range": "10.77.0.9"}, "range"),
    ({"cidr": "10.77.0.0/24", "range": "10.77.0.9-10.77.0.8"}, "range"),
    ({"cidr": "10.77.0.0/24", "range": "10.78.0.9-10.78.0.10"}, "range")])
def test_bad_settings(daemon, params, field):
    with pytest.raises(vdi.RpcError) as refused:
        daemon.call("network.create", name="lan", **params)
    assert refused.value.code == -32602 and refused.value.field == field, refused.value
    assert daemon.call("network.list")["items"] == []


# ---- changes ----

def test_update(net, spaces, script):
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    one, _, _ = join(net, spaces, script, "one", "lan")
    two, _, at = join(net, spaces, script, "two", "lan")
    changed = net.call_when_free("network.update", network="lan", mtu=1400, dns=False)
    assert (changed["mtu"], changed["dns"], changed["state"]) == (1400, False, "active")
    shown = net.call("network.get", network="lan")
    assert shown["actual"]["mtu"] == 1400 and shown["differences"] == []
    assert one.resolves("two", "10.77.0.1") is None
    assert one.pings("10.77.0.1") and one.dhcp(script)["dns"] == ""
    net.call_when_free("network.update", network="lan", dns=True, cidr="10.77.0.0/20", range="10.77.1.1-10.77.1.9")
    vdi.wait_until(lambda: one.resolves("two", "10.77.0.1"), 10, "the name")
    assert net.create_desktop("three", "lan")["ip"] == "10.77.1.1"
    assert two.dhcp(script)["subnet"] == "255.255.240.0"
    for params, kind in (({"cidr": "10.78.0.0/24"}, "invalid"), ({"cidr": "10.77.0.0/29"}, "conflict"),
                         ({"peers": ["10.0.0.1"]}, "invalid"), ({"mtu": 9}, "invalid"),
                         ({"cidr": "10.76.0.0/15"}, "invalid")):
        with pytest.raises(vdi.RpcError) as refused:
            net.call_when_free("network.update", network="lan", **params)
        assert refused.value.kind == kind or kind == "invalid" and refused.value.code == -32602, params
    assert net.call("network.get", network="lan")["cidr"] == "10.77.0.0/20"
    # what was changed stays so
    net.restart()
    shown = net.call("network.get", network="lan")
    assert (shown["cidr"], shown["mtu"], shown["differences"]) == ("10.77.0.0/20", 1400, [])
