"""NICs that come, go, move and are limited while a real guest runs, and what it reaches through one."""
import concurrent.futures
import json
import re
import subprocess
import sys

import pytest

import vdi
from spaces import OUTSIDE_HOST6, SERVE, outside, outside6, serve, spaces  # noqa: F401


@pytest.fixture(scope="module")
def desk(world):
    world.call("network.create", name="nic-a", cidr="10.61.0.0/24", cidr6="fd61::/64")
    world.call("network.create", name="nic-b", cidr="10.62.0.0/24", kind="isolated")
    desktop = world.create_desktop("nics", "nic-a", start=True)
    vdi.guest_wait(desktop["ip"])
    return desktop


def nics_of(ip):
    """{MAC: (name, place on the bus, cable)} as the guest sees them."""
    found = re.findall(r"(\S+)=(\S+)@(\S+)/(\d?)", vdi.guest_do(ip, "nics"))
    return {mac: (name, place, cable) for name, mac, place, cable in found}


def tap_of(world, desktop, nic):
    pid = world.desktop(desktop)["pid"]
    links = json.loads(subprocess.check_output(["ip", "-json", "-details", "link"]))
    taps = [link for link in links if re.fullmatch(rf"vdi\d+n{nic}", link["ifname"])]
    assert pid
    return taps[-1] if taps else None


def add(world, **params):
    nics = world.call("desktop.nic.add", desktop="nics", **params)["nics"]
    return nics[-1]


def seen(desk, mac, timeout=15):
    return vdi.wait_until(lambda: nics_of(desk["ip"]).get(mac), timeout, "the guest to see it", 0.3)


def test_plugged_in_moved_and_taken_out(world, desk):
    nic = add(world, network="nic-b")
    assert (nic["nic"], nic["network"], nic["ip"]) == (1, "nic-b", "10.62.0.2")
    name, _, cable = seen(desk, nic["mac"])
    assert cable == "1"
    assert vdi.guest_do(desk["ip"], f"lease {name}") == nic["ip"]
    assert vdi.guest_do(desk["ip"], "ping 10.62.0.1") == "ok"

    # another network, at once: the old address is worth nothing there
    moved = world.call("desktop.nic.update", desktop="nics", nic=1, network="nic-a")["nics"][1]
    assert moved["mac"] == nic["mac"] and moved["ip"].startswith("10.61.0.")
    assert vdi.guest_do(desk["ip"], f"lease {name}") == moved["ip"]
    assert tap_of(world, "nics", 1)["master"] == tap_of(world, "nics", 0)["master"]

    left = world.call("desktop.nic.remove", desktop="nics", nic=1)["nics"]
    assert [n["nic"] for n in left] == [0]
    assert nic["mac"] not in nics_of(desk["ip"])
    vdi.wait_until(lambda: not tap_of(world, "nics", 1), 5, "its tap to go")
    assert world.call("desktop.nic.list", desktop="nics")["items"] == left


def test_it_stays_where_it_was_over_a_restart(world, desk):
    nic = add(world, network="nic-b")
    _, place, _ = seen(desk, nic["mac"])
    before = nics_of(desk["ip"])
    world.call("desktop.stop", desktop="nics", mode="force")
    world.call("desktop.start", desktop="nics")
    vdi.guest_wait(desk["ip"])
    assert nics_of(desk["ip"])[nic["mac"]][1] == place
    assert {mac: at[1] for mac, at in nics_of(desk["ip"]).items()} == {
        mac: at[1] for mac, at in before.items()}
    world.call("desktop.nic.remove", desktop="nics", nic=1)


def test_cable(world, desk):
    nic = add(world, network="nic-b", link="down")
    assert seen(desk, nic["mac"])[2] == "0"
    world.call("desktop.nic.update", desktop="nics", nic=1, link="up")
    vdi.wait_until(lambda: nics_of(desk["ip"])[nic["mac"]][2] == "1", 5, "the cable")
    world.call("desktop.nic.update", desktop="nics", nic=1, link="down")
    vdi.wait_until(lambda: nics_of(desk["ip"])[nic["mac"]][2] == "0", 5, "the cable")
    world.call("desktop.nic.remove", desktop="nics", nic=1)


def rates(tap):
    text = subprocess.check_output(["tc", "qdisc", "show", "dev", tap], text=True)
    return re.findall(r"rate (\S+)", text)


def test_limits_change_live(world, desk):
    tap = tap_of(world, "nics", 0)["ifname"]
    assert rates(tap) == []
    world.call("desktop.nic.update", desktop="nics", nic=0, to_guest_kbit=5000, from_guest_kbit=3000)
    assert rates(tap) == ["5Mbit"]
    got = world.call("desktop.nic.update", desktop="nics", nic=0, to_guest_kbit=7000)["nics"][0]
    assert (got["to_guest_kbit"], got["from_guest_kbit"]) == (7000, 3000)
    assert rates(tap) == ["7Mbit"]
    assert vdi.guest_do(desk["ip"], "ping 10.61.0.1") == "ok"
    world.call("desktop.nic.update", desktop="nics", nic=0, to_guest_kbit=0, from_guest_kbit=0)
    assert rates(tap) == []


def test_refusals(world, desk):
    for error, params in (("not_found", {"network": "none"}),
                          ("exists", {"network": "nic-b", "mac": desk["mac"]}),
                          ("invalid", {"network": "nic-b", "mac": "01:00:00:00:00:01"}),
                          ("invalid", {"network": "nic-b", "mac": "52:54:00:00:00:0g"}),
                          ("invalid", {"network": "nic-b", "to_guest_kbit": 7})):
        with pytest.raises(vdi.RpcError) as refused:
            world.call("desktop.nic.add", desktop="nics", **params)
        assert refused.value.kind == error or (error == "invalid" and refused.value.code == -32602)
    with pytest.raises(vdi.RpcError):
        world.call("desktop.nic.remove", desktop="nics", nic=5)
    assert len(world.desktop("nics")["nics"]) == 1


def test_eight_and_no_more(world):
    world.create_desktop("many", "nic-a")
    for _ in range(7):
        world.call("desktop.nic.add", desktop="many", network="nic-b")
    with pytest.raises(vdi.RpcError) as refused:
        world.call("desktop.nic.add", desktop="many", network="nic-b")
    assert refused.value.kind == "limit"
    # one with holes starts as well
    world.call("desktop.nic.remove", desktop="many", nic=0)
    world.call("desktop.nic.remove", desktop="many", nic=3)
    world.call("desktop.start", desktop="many")
    assert len({tap["ifname"] for tap in json.loads(subprocess.check_output(
        ["ip", "-json", "link"])) if re.fullmatch(r"vdi\d+n[124567]", tap["ifname"])}) >= 6
    world.call("desktop.delete", desktop="many", force=True)


# ---- doors between the guest, the host and the world ----

@pytest.fixture
def desk6(desk):
    """The same with its IPv6 address, as DHCPv6 would give it: it has no client."""
    vdi.guest_do(desk["ip"], "later ip addr add fd61::2/64 dev eth0")
    vdi.guest_wait("fd61::2")
    return {**desk, "ip6": "fd61::2"}


@pytest.fixture
def services():
    """Of the host, on TCP ports 3128 and 8000: they say who asks."""
    servers = []
    for address in ("0.0.0.0", "::"):
        for port in (3128, 8000):
            serve(servers, [sys.executable, "-c", SERVE, address, str(port)])
    yield
    for server in servers:
        server.kill()
        server.wait()


def reached(desk):
    """{(host's address, port): who asked} of those that answer; all at once, for one that is closed is silent."""
    asked = [(address, port) for address in ("10.61.0.1", "fd61::1") for port in (3128, 8000)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = pool.map(lambda to: vdi.guest_do(desk["ip"], f"get {to[0]} {to[1]}"), asked)
        return {to: answer for to, answer in zip(asked, answers) if answer != "error: get failed"}


def test_openings(world, desk6, services):
    def open_to(*openings):
        world.call_when_free("network.update", network="nic-a", openings=list(openings))
        return reached(desk6)
    assert open_to({"ports": "3128"}) == {("10.61.0.1", 3128): desk6["ip"], ("fd61::1", 3128): desk6["ip6"]}
    assert open_to() == {}


def test_ipv6_forward(world, desk6, outside6):
    assert outside6.ask(OUTSIDE_HOST6, 8007) is None
    made = world.call_when_free("network.forward.add", desktop="nics", host_port=8007, port=7,
                                host_address=OUTSIDE_HOST6)
    assert made["ip6"] == desk6["ip6"]
    assert outside6.ask(OUTSIDE_HOST6, 8007) == f"nics {desk6['mac']} {desk6['ip']}"
    world.call_when_free("network.forward.delete", forward=made["id"])
    assert outside6.ask(OUTSIDE_HOST6, 8007) is None
