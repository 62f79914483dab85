"""Firewall groups, with real guests: the rules hold at their taps."""
import socket

import pytest
import vdi
from spaces import run


def ask(address, port, timeout=1.5):
    """Does the guest's service on TCP 7 or 8 answer the host?"""
    try:
        with socket.create_connection((address, port), timeout) as sock:
            if port == 7:
                return bool(sock.recv(1))
            return True
    except OSError:
        return False


def opens(address, *ports):
    """They answer; a guest on a busy machine takes its time."""
    return vdi.wait_until(lambda: all(ask(address, port, 5) for port in ports), 10, f"{address} to answer at {ports}")


@pytest.fixture(scope="module")
def guests(world):
    made = [world.create_desktop(name, "lan", start=True) for name in ("one", "two")]
    for guest in made:
        vdi.guest_wait(guest["ip"])
    return made


def rules(*rows):
    return [dict(zip(("direction", "protocol", "ports", "remote", "remote_group"), row)) for row in rows]


def test_builtins(world):
    groups = {g["name"]: g for g in world.call("firewall.list")["items"]}
    assert {"open", "closed", "desktop", "web"} <= set(groups)
    assert all(g["builtin"] for g in groups.values())
    for method, params in (("firewall.delete", {}), ("firewall.update", {"rules": []})):
        with pytest.raises(vdi.RpcError) as refused:
            world.call(method, firewall="web", **params)
        assert refused.value.kind == "conflict"


def test_groups_hold(world, guests):
    one = guests[0]
    world.call("firewall.create", name="seven",
               rules=rules(("in", "tcp", "7"), ("in", "tcp", "9000-9010"), ("out", "any")))
    assert opens(one["ip"], 7) and opens(one["ip"], 8)
    shown = world.call_when_free("network.firewall", network="lan", groups=["seven"])
    assert shown["firewall"] == ["seven"]
    assert opens(one["ip"], 7) and not ask(one["ip"], 8)
    assert world.call("network.get", network="lan")["differences"] == []
    # changed live, for all that have it
    world.call("firewall.update", firewall="seven", rules=rules(("in", "tcp", "8"), ("out", "any")))
    assert not ask(one["ip"], 7) and opens(one["ip"], 8)
    world.call("firewall.update", firewall="seven", rules=rules(("in", "tcp", "7", "10.99.0.0/16"), ("out", "any")))
    assert not ask(one["ip"], 7)
    world.call("firewall.update", firewall="seven", rules=rules(("in", "tcp", "7", "10.77.0.1"), ("out", "any")))
    assert opens(one["ip"], 7)
    # what one of several lets through passes
    world.call_when_free("network.firewall", network="lan", groups=["closed", "seven"])
    assert opens(one["ip"], 7) and not ask(one["ip"], 8)
    with pytest.raises(vdi.RpcError) as refused:
        world.call("firewall.delete", firewall="seven")
    assert refused.value.kind == "conflict"
    # they outlive the daemon, a restart of a desktop, and somebody's flush
    world.kill()
    assert opens(one["ip"], 7) and not ask(one["ip"], 8)
    world.start()
    assert opens(one["ip"], 7) and not ask(one["ip"], 8)
    run("nft", "flush", "ruleset")
    vdi.wait_until(lambda: not ask(one["ip"], 8), 5, "the rules to be back")
    assert opens(one["ip"], 7)
    world.call_when_free("desktop.stop", desktop="two", mode="force")
    world.call("desktop.start", desktop="two")
    vdi.guest_wait(guests[1]["ip"])
    assert not ask(guests[1]["ip"], 8)
    world.call_when_free("network.firewall", network="lan", groups=[])
    assert opens(one["ip"], 7) and opens(one["ip"], 8)
    world.call("firewall.delete", firewall="seven")


def test_groups_of_one_nic(world, guests):
    """Besides its network's, live; the other desktops there have theirs alone."""
    one, two = guests
    world.call("firewall.create", name="eight", rules=rules(("in", "tcp", "8")))
    world.call_when_free("network.firewall", network="lan", groups=["closed"])
    assert not ask(one["ip"], 8) and not ask(two["ip"], 8)

    def give(*groups):
        return world.call_when_free("desktop.nic.update", desktop="one", nic=0, firewall=groups)["nics"][0]
    assert give("eight")["firewall"] == ["eight"]
    assert world.call("desktop.nic.list", desktop="one")["items"][0]["firewall"] == ["eight"]
    assert opens(one["ip"], 8) and not ask(one["ip"], 7) and not ask(two["ip"], 8)
    assert world.call("network.get", network="lan")["differences"] == []
    # the rules change, for it as well
    world.call("firewall.update", firewall="eight", rules=rules(("in", "tcp", "7-8")))
    assert opens(one["ip"], 8) and opens(one["ip"], 7) and not ask(two["ip"], 7)
    with pytest.raises(vdi.RpcError) as refused:
        world.call("firewall.delete", firewall="eight")
    assert refused.value.kind == "conflict"
    # they outlive a flush, the daemon and a restart of the desktop
    run("nft", "flush", "ruleset")
    vdi.wait_until(lambda: not ask(two["ip"], 8), 5, "the rules to be back")
    assert opens(one["ip"], 8)
    world.kill()
    world.start()
    assert opens(one["ip"], 8) and not ask(two["ip"], 8)
    world.call_when_free("desktop.stop", desktop="one", mode="force")
    world.call("desktop.start", desktop="one")
    vdi.guest_wait(one["ip"])
    assert opens(one["ip"], 8) and not ask(two["ip"], 8)
    assert world.call("network.get", network="lan")["differences"] == []
    # three in all
    for call, params in (("desktop.nic.update", {"desktop": "one", "nic": 0, "firewall": ["eight", "web", "desktop"]}),
                         ("network.firewall", {"network": "lan", "groups": ["closed", "web", "desktop"]})):
        with pytest.raises(vdi.RpcError) as refused:
            world.call_when_free(call, **params)
        assert refused.value.kind == "limit"
    for groups, kind in ((["nothing"], "not_found"), (["web", "web"], "invalid")):
        with pytest.raises(vdi.RpcError) as refused:
            give(*groups)
        assert refused.value.kind == kind or kind == "invalid" and refused.value.code == -32602
    assert opens(one["ip"], 8)
    # closed again, then alone
    assert give()["firewall"] == []
    assert not ask(one["ip"], 8)
    world.call_when_free("network.firewall", network="lan", groups=[])
    give("eight")
    assert opens(one["ip"], 8) and opens(two["ip"], 8)
    world.call("firewall.update", firewall="eight", rules=rules(("in", "tcp", "7")))
    assert not ask(one["ip"], 8) and opens(one["ip"], 7) and opens(two["ip"], 8)
    nic, = world.call("desktop.stats", desktop="one")["nics"]
    assert nic["drops"]["group_in"] > 0
    give()
    assert opens(one["ip"], 8)
    world.call("firewall.delete", firewall="eight")


def test_members(world, guests):
    """A rule may mean the desktops that have a group."""
    one, two = guests

    def assert_mates():
        vdi.wait_until(lambda: one["mac"] in vdi.guest_do(two["ip"], f"get {one['ip']} 7"), 10, "the other to answer")
    world.call("firewall.create", name="team")
    world.call("firewall.create", name="mates", rules=rules(("in", "tcp", "7", None, "team"), ("out", "any")))
    world.call("firewall.create", name="host", rules=rules(("in", "tcp", "8", "10.77.0.1"),))
    world.call_when_free("network.firewall", network="lan", groups=["team", "mates", "host"])
    assert not ask(one["ip"], 7) and opens(one["ip"], 8)
    assert_mates()
    # taken out of the team, nobody is a mate
    world.call_when_free("network.firewall", network="lan", groups=["mates", "host"])
    assert one["mac"] not in vdi.guest_do(two["ip"], f"get {one['ip']} 7")
    world.call_when_free("network.firewall", network="lan", groups=[])
    assert_mates()
    for name in ("mates", "team", "host"):
        world.call("firewall.delete", firewall=name)


@pytest.mark.parametrize("rule, field", [
    ({}, "direction"), ({"direction": "up"}, "direction"), ({"direction": "in", "protocol": "sctp"}, "protocol"),
    ({"direction": "in", "ports": "80"}, "ports"), ({"direction": "in", "protocol": "tcp", "ports": "0"}, "ports"),
    ({"direction": "in", "protocol": "tcp", "ports": "90-80"}, "ports"),
    ({"direction": "in", "protocol": "tcp", "ports": "x"}, "ports"),
    ({"direction": "in", "protocol": "tcp", "ports": "1-65536"}, "ports"),
    ({"direction": "in", "remote": "10.0.0.0/33"}, "remote"), ({"direction": "in", "remote": "x"}, "remote"),
    ({"direction": "in", "remote": "10.0.0.0/8", "remote_group": "open"}, "remote"),
    ({"direction": "in", "more": 1}, "more")])
def test_bad_rules(world, rule, field):
    with pytest.raises(vdi.RpcError) as refused:
        world.call("firewall.create", name="bad", rules=[rule])
    assert refused.value.code == -32602 and refused.value.field.split(".")[-1] == field, refused.value


def test_bad_groups(world):
    for params, kind in (({"groups": ["nothing"]}, "not_found"), ({"groups": ["open", "open"]}, "invalid"),
                         ({"groups": ["open", "web", "closed", "desktop"]}, "invalid")):
        with pytest.raises(vdi.RpcError) as refused:
            world.call_when_free("network.firewall", network="lan", **params)
        assert refused.value.kind == kind or kind == "invalid" and refused.value.code == -32602
    with pytest.raises(vdi.RpcError) as refused:
        world.call("firewall.create", name="open")
    assert refused.value.kind == "exists"
    with pytest.raises(vdi.RpcError) as refused:
        world.call("firewall.create", name="self", rules=rules(("in", "any", None, None, "nobody")))
    assert refused.value.kind == "not_found"
