"""What others take away from a network is put back, said so in an event, while a guest's traffic goes on."""
import json

import pytest
import vdi
from spaces import run


@pytest.fixture(scope="module")
def guest(world):
    made = world.create_desktop("watched", "lan", start=True)
    vdi.guest_wait(made["ip"])
    return made


def lan(world):
    return world.call("network.get", network="lan")


def taken_away(world, what, *argv):
    """Runs a command that breaks the network; the events until it is whole again."""
    with world.client() as client:
        client.call("events.subscribe", topics=["network"])
        run(*argv)
        seen = []
        while not seen or seen[-1]["data"]["state"] != "active":
            event = client.next_event()
            assert event, f"{what}: {seen}\n{world.tail()}"
            seen.append(event)
    states = [event["data"]["state"] for event in seen]
    assert states[0] == "degraded", (what, seen)
    assert "put back" in seen[0]["data"]["reason"], seen
    vdi.wait_until(lambda: lan(world)["state"] == "active", 5, "the network to be active")
    assert lan(world)["differences"] == [], what
    return seen[0]["data"]["reason"]


def tap_of(guest):
    return next(name for name in vdi.our_links() if "n" in name[3:] and not name.startswith("vdibr"))


@pytest.mark.parametrize("what, argv", [
    ("bridge", "ip link delete vdibr1"),
    ("address", "ip addr flush dev vdibr1"),
    ("another address", "ip addr add 10.123.0.1/24 dev vdibr1"),
    ("down", "ip link set vdibr1 down"),
    ("inet table", "nft delete table inet vdi-hostd"),
    ("bridge table", "nft delete table bridge vdi-hostd"),
    ("ruleset", "nft flush ruleset"),
    ("tap off the bridge", "ip link set {tap} nomaster"),
    ("tap down", "ip link set {tap} down"),
])
def test_put_back(world, guest, what, argv):
    assert vdi.guest_who(guest["ip"])
    reason = taken_away(world, what, *argv.format(tap=tap_of(guest)).split())
    print(what, ":", reason)
    assert vdi.wait_until(lambda: vdi.guest_who(guest["ip"]), 10, f"the guest, after {what}")


def test_get_names_the_difference(world, guest):
    """What the kernel tells nobody is seen by who looks, and put back with the next repair."""
    run("bridge", "link", "set", "dev", tap_of(guest), "isolated", "on")
    assert lan(world)["differences"] == [f"tap {tap_of(guest)} is isolated from others"]
    taken_away(world, "the table", "nft", "delete", "table", "bridge", "vdi-hostd")


def test_get_shows_the_truth(world, guest):
    shown = lan(world)
    assert shown["actual"]["exists"] and shown["actual"]["up"]
    assert "10.77.0.1/24" in shown["actual"]["addresses"]
    [port] = [p for p in shown["actual"]["ports"] if p["name"] == tap_of(guest)]
    before = port["counters"]["rx_packets"]
    vdi.guest_who(guest["ip"])
    [port] = [p for p in lan(world)["actual"]["ports"] if p["name"] == tap_of(guest)]
    assert port["counters"]["rx_packets"] > before


def test_nothing_happens_of_itself(world, guest):
    """Desktops that come and go are no repair."""
    with world.client() as client:
        client.call("events.subscribe", topics=["network"])
        world.create_desktop("coming", "lan", start=True)
        world.call("desktop.stop", desktop="coming", mode="force")
        world.call("desktop.delete", desktop="coming")
        event = client.next_event(1)
    assert event is None, json.dumps(event)
