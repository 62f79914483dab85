"""Networks on VLANs of a bridge that the host has, on Debian's kernel: by the bridge's filter, and without it."""
import json

import pytest
import vdi
from spaces import ask_from_host, run, script, spaces, HOST, PEER  # noqa: F401
from test_uplink_bridge import Events, create, drop, ends, lan, master_of, plug, serve_dhcp, shown  # noqa: F401
from test_vlan import host, looking_away, net  # noqa: F401

pytestmark = pytest.mark.kernel


@pytest.fixture
def vlans(lan, tmp_path):
    """VLANs 7 and 8 beyond up0, with a host and a DHCP server in each: 10.70.0.2, 10.80.0.2."""
    for tag in (7, 8):
        lan.run("ip", "link", "add", "link", "eth0", "name", f"eth0.{tag}", "type", "vlan", "id", tag)
        lan.run("ip", "link", "set", f"eth0.{tag}", "up")
        lan.run("ip", "addr", "add", f"10.{tag}0.0.2/24", "dev", f"eth0.{tag}")
        serve_dhcp(lan, tmp_path, f"eth0.{tag}", f"10.{tag}0.0")
    return lan


@pytest.fixture
def filtering(vlans):
    """br0 filters VLANs, and its port to the LAN carries 7 and 8, as an administrator would have it."""
    run("sh", "-c", "ip link set br0 type bridge vlan_filtering 1 && bridge vlan add dev up0 vid 7 && "
        "bridge vlan add dev up0 vid 8")
    return vlans


def vlans_of(link):
    shown = json.loads(run("bridge", "-j", "vlan", "show", "dev", link).stdout)
    return [(vlan["vlan"], vlan.get("flags", [])) for port in shown for vlan in port["vlans"]]


ALONE_IN_7 = [(7, ["PVID", "Egress Untagged"])]


def test_filtered_vlans(net, spaces, script, filtering):
    before = shown()
    seven, eight, plain = create(net, "seven", vlan=7), create(net, "eight", vlan=8), create(net, "plain")
    assert vlans_of(seven["far"]) == ALONE_IN_7
    assert vlans_of(plain["far"]) == [(1, ["PVID", "Egress Untagged"])]
    assert master_of(seven["vlan_link"]) is None and ends(seven) == (seven["bridge"], "br0")
    guests = [plug(net, spaces, network, network["name"]) for network in (seven, eight, plain)]
    got = [guest.dhcp(script) for guest in guests]
    assert [a["router"] for a in got] == ["10.70.0.2", "10.80.0.2", PEER]
    assert guests[0].pings("10.70.0.2") and guests[1].pings("10.80.0.2")
    assert guests[2].ask(PEER, 80) == got[2]["ip"] and ask_from_host(PEER, 80) == HOST
    # whatever its address, one does not reach another VLAN
    guests[1].run("ip", "addr", "add", "10.70.0.6/24", "dev", "eth0")
    assert not guests[1].pings("10.70.0.2") and not guests[1].pings(got[0]["ip"])
    with pytest.raises(vdi.RpcError, match="'seven' has that uplink and VLAN"):
        create(net, "again", vlan=7)
    links = run("ip", "-o", "link", "show", "type", "veth").stdout
    net.restart()
    for name in ("seven", "eight", "plain"):
        assert net.call("network.get", network=name)["differences"] == []
    assert run("ip", "-o", "link", "show", "type", "veth").stdout == links and guests[0].pings("10.70.0.2")
    for name in ("seven", "eight", "plain"):
        net.call("desktop.delete", desktop=name)
        drop(net, name)
    assert vdi.our_links() == [] and vdi.our_tables() == [] and shown() == before


def test_vlan_put_back(net, spaces, script, filtering):
    office = create(net, vlan=7)
    far = office["far"]
    guest = plug(net, spaces, office, "one")
    assert guest.dhcp(script)
    others = vlans_of("up0"), vlans_of("br0")
    with net.client() as client:
        events = Events(net, client)
        for command in (f"bridge vlan del dev {far} vid 7", f"bridge vlan add dev {far} vid 8",
                        f"bridge vlan add dev {far} vid 8 pvid untagged",
                        f"ip link set {far} nomaster && ip link set {far} master br0"):
            with looking_away(net):
                run("sh", "-c", command)
            assert f"veth {far} is not in VLAN 7 of bridge br0 alone" in events.until("degraded")["reason"], command
            events.until("active")
            assert vlans_of(far) == ALONE_IN_7 and guest.pings("10.70.0.2")
        # a bridge that filters no more, and does again: the network goes with it
        run("ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "0")
        events.until("active")
        assert ends(office) == (None, None) and master_of(office["vlan_link"]) == office["bridge"]
        assert vdi.wait_until(lambda: guest.pings("10.70.0.2"), 10, "the guest")
        run("ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
        events.until("active")
        assert ends(office) == (office["bridge"], "br0") and master_of(office["vlan_link"]) is None
        assert vlans_of(far) == ALONE_IN_7
        assert vdi.wait_until(lambda: guest.pings("10.70.0.2"), 10, "the guest")
    assert (vlans_of("up0"), vlans_of("br0")) == others


def test_no_default_vlan(net, spaces, script, filtering):
    """A bridge that gives its ports no VLAN: that is said as long as it is so, and nothing is tried again and
    again, since it is the administrator's to change."""
    run("ip", "link", "set", "br0", "type", "bridge", "vlan_default_pvid", "0")
    made = net.call("network.create", name="office", kind="bridged", uplink="br0")
    far = made["bridge"].replace("vdibr", "vdidn")
    guest = plug(net, spaces, made, "one")

    def said():
        return net.call("network.get", network="office")["differences"]

    assert not guest.pings("10.70.0.2")
    difference, = said()
    assert f"bridge vlan add dev {far} vid VLAN pvid untagged" in difference and "--vlan" in difference
    # a repair of something else is over, and the looks that follow begin none
    with net.client() as client:
        client.call("events.subscribe", topics=["network"])
        run("ip", "link", "set", far, "down")
        told = [client.next_event(60) for _ in range(2)]
        assert [event and event["data"]["state"] for event in told] == ["degraded", "active"]
        for command in ("add", "del"):
            run("bridge", "vlan", command, "dev", far, "vid", "99")
            assert client.next_event(3) is None and said() == [difference]
    # it clears when somebody does that, and is said again when it is so again
    run("bridge", "vlan", "add", "dev", far, "vid", "7", "pvid", "untagged")
    assert said() == [] and guest.dhcp(script)["router"] == "10.70.0.2" and guest.pings("10.70.0.2")
    net.restart()
    assert said() == [] and vlans_of(far) == ALONE_IN_7 and guest.pings("10.70.0.2")
    run("bridge", "vlan", "del", "dev", far, "vid", "7")
    assert said() == [difference]
    # and a network with a VLAN of its own needs nobody
    seven = create(net, "seven", vlan=7)
    assert vlans_of(seven["far"]) == ALONE_IN_7
    net.call("desktop.delete", desktop="one")
    drop(net, "office", "seven")
    assert vdi.our_links() == [] and vdi.our_tables() == []


def test_unfiltered_vlan(net, spaces, script, vlans):
    """Where the bridge does not filter, a VLAN is a sub-interface of it."""
    before = shown()
    office, plain = create(net, vlan=7), create(net, "plain")
    assert master_of(office["vlan_link"]) == office["bridge"] and ends(office) == (None, None)
    guest, other = plug(net, spaces, office, "one"), plug(net, spaces, plain, "two")
    got = guest.dhcp(script)
    assert got and got["router"] == "10.70.0.2" and other.dhcp(script)["router"] == PEER
    assert guest.pings("10.70.0.2") and other.pings(PEER)
    guest.serve(got["ip"], 7000)
    assert vlans.ask(got["ip"], 7000) == "10.70.0.2" and ask_from_host(PEER, 80) == HOST
    net.restart()
    assert net.call("network.get", network="office")["differences"] == [] and guest.pings("10.70.0.2")
    net.call("desktop.delete", desktop="one")
    net.call("desktop.delete", desktop="two")
    drop(net, "office", "plain")
    assert vdi.our_links() == [] and shown() == before


@pytest.mark.slow
def test_bridge_in_a_vrf(net, spaces, script, lan):
    """Where the host routes what comes by its bridge is of no matter to who is joined to it."""
    run("sh", "-c", "ip link add vrf0 type vrf table 50 && ip link set vrf0 up && ip link set br0 master vrf0")
    office = create(net)
    guest = plug(net, spaces, office, "one")
    assert guest.dhcp(script) and guest.pings(PEER)
    assert ends(office) == (office["bridge"], "br0") and master_of("br0") == "vrf0"
    net.call("desktop.delete", desktop="one")
    drop(net, "office")
    assert master_of("br0") == "vrf0" and vdi.our_links() == []
    run("ip", "link", "delete", "vrf0")
