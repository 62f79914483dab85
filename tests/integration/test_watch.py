"""What others take away from a network is put back, said so in an event, while a guest's traffic goes on."""
import contextlib
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
    ("mac", "ip link set vdibr1 address 02:00:00:00:00:66"),
    ("inet table", "nft delete table inet vdi-hostd"),
    ("bridge table", "nft delete table bridge vdi-hostd"),
    ("ruleset", "nft flush ruleset"),
    ("tap off the bridge", "ip link set {tap} nomaster"),
    ("tap down", "ip link set {tap} down"),
    ("tap isolated", "bridge link set dev {tap} isolated on"),
    ("tap", "ip link delete {tap}"),
])
def test_put_back(world, guest, what, argv):
    assert vdi.guest_who(guest["ip"])
    reason = taken_away(world, what, *argv.format(tap=tap_of(guest)).split())
    print(what, ":", reason)
    assert vdi.wait_until(lambda: vdi.guest_who(guest["ip"]), 10, f"the guest, after {what}")


def test_deleted_taps_come_back_under_their_nics(world, guest):
    """Two NICs lose their taps at once: each gets its own again, with its limits, and the guest, which
    never saw a cable pulled, goes on under the same QEMU."""
    world.call("network.create", name="other", kind="isolated", cidr="10.78.0.0/24")
    nic = world.call("desktop.nic.add", desktop="watched", network="other", to_guest_kbit=20000)["nics"][-1]

    def has_lease():
        # it may be given while the guest's own answer to us is late: then it is asked once more
        with contextlib.suppress(TimeoutError):
            return vdi.guest_do(guest["ip"], "lease eth1") == nic["ip"]
    vdi.wait_until(has_lease, 60, "a lease")
    pid = world.call("desktop.get", desktop="watched")["pid"]
    taps = [tap_of(guest), f"{tap_of(guest)[:-1]}{nic['nic']}"]
    for tap in taps:
        run("ip", "link", "delete", tap)
    for name in ("lan", "other"):
        vdi.wait_until(lambda: world.call("network.get", network=name)["differences"] == [], 10, name)
    assert "tbf" in run("tc", "qdisc", "show", "dev", taps[1]).stdout
    assert vdi.wait_until(lambda: vdi.guest_who(guest["ip"]), 10, "the guest")
    vdi.wait_until(lambda: vdi.guest_do(guest["ip"], "ping 10.78.0.1") == "ok", 10, "its other NIC")
    assert world.call("desktop.get", desktop="watched")["pid"] == pid
    world.call("desktop.nic.remove", desktop="watched", nic=nic["nic"])
    world.call_when_free("network.delete", network="other")


@pytest.mark.parametrize("argv", [
    "tc qdisc delete dev {tap} root",
    "tc qdisc replace dev {tap} root handle 7d1: tbf rate 1gbit burst 1mb latency 1ms",
    "tc qdisc delete dev {tap} ingress",
    "ip link delete ifb-{tap}",
])
def test_limits_are_put_back(world, guest, argv):
    world.call("desktop.nic.update", desktop="watched", nic=0, to_guest_kbit=50000, from_guest_kbit=40000)
    tap = tap_of(guest)
    reason = taken_away(world, argv, *argv.format(tap=tap).split())
    assert "limited" in reason
    [port] = [p for p in lan(world)["actual"]["ports"] if p["name"] == tap]
    assert (port["to_guest_kbit"], port["from_guest_kbit"]) == (50000, 40000)
    world.call("desktop.nic.update", desktop="watched", nic=0, to_guest_kbit=0, from_guest_kbit=0)


def test_tap_deleted_while_no_daemon_runs(world, guest):
    world.kill()
    run("ip", "link", "delete", tap_of(guest))
    world.start()
    assert vdi.wait_until(lambda: vdi.guest_who(guest["ip"]), 20, "the guest")
    assert lan(world)["differences"] == []


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
