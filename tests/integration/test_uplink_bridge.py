"""Networks whose uplink is a bridge that the host has. The LAN beyond a port of that bridge is a namespace, with a
DHCP server of its own. VLANs of it: test_uplink_vlan.py."""
import json
import re
import subprocess
import sys

import pytest
import vdi
from frames import ALL, ether, tagged
from spaces import ask_from_host, net, on_link, run, script, spaces, HOST, PEER  # noqa: F401
from test_crash import steps_of
from test_hostile_guest import Sniffer, send
from test_vlan import looking_away

UDHCPD = """start {net}.100
end {net}.150
interface {link}
lease_file /dev/null
option subnet 255.255.255.0
option router {net}.2
"""

# broadcasts one frame of an Ethernet type for experiments
SEND = """
import socket
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
link.send(b"\\xff" * 6 + link.getsockname()[4] + b"\\x88\\xb5" + b"once".ljust(50))
"""

# how many of those come within a second of the first
COUNT = """
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
wire.bind(("eth0", 0x88b5))
print("ready", flush=True)
wire.settimeout(20)
n = 0
try:
    while True:
        wire.recv(2000)
        n += 1
        wire.settimeout(1)
except TimeoutError:
    print(n)
"""


def serve_dhcp(space, folder, link, part, more=""):
    config = folder / f"udhcpd.{link}"
    config.write_text(UDHCPD.format(net=part, link=link) + more + "\n")
    space.servers.append(subprocess.Popen(space.argv("busybox", "udhcpd", "-f", config), stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL))


def make_bridge(options=""):
    run("sh", "-c", f"ip link add br0 address 02:50:00:00:00:02 type bridge {options} && "
        f"ip link set up0 master br0 up && ip link set br0 up && ip addr add {HOST}/24 dev br0 && "
        f"ip route add default via {PEER} metric 77")


@pytest.fixture
def lan(spaces, tmp_path):
    """What is beyond up0, a port of the administrator's br0, which has the host's address."""
    space = spaces()
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", space.holder.pid)
    make_bridge()
    space.run("ip", "addr", "add", f"{PEER}/24", "dev", "eth0")
    space.run("ip", "link", "set", "eth0", "up")
    space.serve(PEER, 80)
    serve_dhcp(space, tmp_path, "eth0", PEER.rsplit(".", 1)[0])
    vdi.wait_until(lambda: "state forwarding" in run("bridge", "link", "show").stdout, 10, "the bridge's port")
    yield space
    for link in ("br0", "up0"):
        run("ip", "link", "delete", link, check=False)


def shown():
    """All that the host tells of br0 and its ports, but for what passes with time."""
    link = re.sub(r"_timer +[0-9.]+|state \w+|<.*>", "", run("ip", "-d", "link", "show", "br0").stdout)
    return link, on_link("br0"), *(run("bridge", what, "show").stdout for what in ("link", "vlan"))


def create(net, name="office", **params):
    made = net.call("network.create", name=name, kind="bridged", uplink="br0", **params)
    assert (made["state"], made["uplink"], made["confirm_until"], made["cidr"]) == ("active", "br0", None, None)
    assert net.call("network.get", network=name)["differences"] == []
    number = made["bridge"].removeprefix("vdibr")
    return {**made, "near": f"vdiup{number}", "far": f"vdidn{number}", "vlan_link": f"vdivl{number}"}


def plug(net, spaces, network, desktop):
    guest = spaces()
    guest.plug(network["bridge"], net.create_desktop(desktop, network["name"])["mac"], f"t{desktop}")
    return guest


def master_of(link):
    done = run("ip", "-j", "link", "show", link, check=False)
    return None if done.returncode else json.loads(done.stdout)[0].get("master")


def ends(network):
    return master_of(network["near"]), master_of(network["far"])


def drop(net, *names):
    for name in names:
        net.call_when_free("network.delete", network=name)


def count_one(guest, listener):
    """Copies that a listener hears of one broadcast."""
    ear = subprocess.Popen(listener.argv(sys.executable, "-c", COUNT), stdout=subprocess.PIPE, text=True)
    assert ear.stdout.readline() == "ready\n"
    guest.run(sys.executable, "-c", SEND)
    return int(ear.communicate()[0])


def test_joined(net, spaces, script, lan):
    before = shown()
    office = create(net, confirm_timeout_s=60)
    # one more port is all that the host sees of it
    assert ends(office) == (office["bridge"], "br0")
    assert on_link("br0") == before[1] and on_link(office["bridge"]) == ([], [])
    assert ask_from_host(PEER, 80) == HOST
    assert net.call("network.confirm", network="office")["state"] == "active"
    one = plug(net, spaces, office, "one")
    got = one.dhcp(script)
    assert got and got["router"] == PEER, got
    assert one.ask(PEER, 80) == got["ip"] and one.pings(HOST)
    one.serve(got["ip"], 7000)
    assert lan.ask(got["ip"], 7000) == PEER and ask_from_host(got["ip"], 7000) == HOST
    # another network on the same bridge: they meet there, once
    lab = create(net, "lab")
    two = plug(net, spaces, lab, "two")
    assert two.dhcp(script) and two.ask(got["ip"], 7000)
    assert count_one(one, two) == 1 and count_one(two, lan) == 1
    # neither a crash nor a restart touches them
    links = run("ip", "-o", "link", "show", "type", "veth").stdout
    net.kill()
    assert one.ask(PEER, 80) == got["ip"]
    net.start()
    net.restart()
    for name in ("office", "lab"):
        now = net.call("network.get", network=name)
        assert (now["state"], now["differences"]) == ("active", [])
    assert run("ip", "-o", "link", "show", "type", "veth").stdout == links
    net.call("desktop.delete", desktop="one")
    drop(net, "office")
    assert ends(office) == (None, None) and two.pings(PEER)
    net.call("desktop.delete", desktop="two")
    drop(net, "lab")
    assert vdi.our_links() == [] and vdi.our_tables() == [] and shown() == before


def test_a_real_guest(daemon, guest_image, lan, tmp_path):
    """What it may send is decided at its tap, wherever its network leads."""
    address, own = "10.50.0.77", PEER.rsplit(".", 1)[0]
    daemon.import_image(guest_image)
    create(daemon)
    desktop = daemon.create_desktop("ada", "office")
    mac = desktop["mac"]
    vdi.kill_pid(lan.servers[-1].pid)
    serve_dhcp(lan, tmp_path, "eth0", own, f"static_lease {mac} {address}")
    daemon.call("desktop.start", desktop="ada")
    assert vdi.guest_wait(address)[1] == mac
    assert lan.ask(address, 7).split()[1] == mac
    before = daemon.call("desktop.stats", desktop="ada")["nics"][0]["drops"]
    wire = Sniffer("up0")
    hostile = [ether(ALL, "52:54:66:66:66:66", 0x0806, b"false"), tagged(ether(ALL, mac, 0x0806, b"tag"), (0x8100, 7)),
               # a bridge's own word, by which a guest could turn the LAN's spanning tree upside down
               ether("01:80:c2:00:00:00", mac, 38, b"\x42\x42\x03".ljust(38, b"\0"))]
    send({"ip": address}, *hostile)
    after = daemon.call("desktop.stats", desktop="ada")["nics"][0]["drops"]
    assert {why: after[why] - before[why] for why in after if after[why] != before[why]} == {
        "mac": 1, "vlan": 1, "ethertype": 1}
    assert lan.ask(address, 7)
    seen = [frame for _, _, frame in wire.frames()]
    assert seen and not [frame for frame in seen for bad in hostile if frame.startswith(bad)]
    daemon.call("desktop.delete", desktop="ada", force=True)
    drop(daemon, "office")


class Events:
    def __init__(self, net, client):
        self.net, self.client = net, client
        client.call("events.subscribe", topics=["network"])

    def until(self, state):
        event = self.client.next_event()
        while event and event["data"]["state"] != state:
            event = self.client.next_event()
        assert event, f"{state} never came\n{self.net.tail()}"
        return event["data"]


def walk(net, events, guest, office, hands):
    """Each of them is seen, told and put back."""
    for why, command in hands:
        with looking_away(net):
            run("sh", "-c", command)
        assert why in events.until("degraded")["reason"], command
        events.until("active")
        assert ends(office) == (office["bridge"], "br0")
        assert guest.pings(PEER), why


def test_put_back(net, spaces, script, lan):
    office = create(net)
    near, far = office["near"], office["far"]
    guest = plug(net, spaces, office, "one")
    assert guest.dhcp(script)
    with net.client() as client:
        events = Events(net, client)
        walk(net, events, guest, office, (
            (f"veth {near} is gone", f"ip link delete {far}"),
            (f"veth {near} is no port of bridge {office['bridge']}", f"ip link set {near} nomaster"),
            (f"veth {far} is no port of bridge br0", f"ip link set {far} nomaster"),
            (f"veth {far} is down", f"ip link set {far} down"),
            ("do not have the MTU of their bridges", "ip link set br0 mtu 1400"),
            (f"veth {near} is gone", f"ip link set {near} down && ip link set {near} name odd && ip link set odd up")))
        run("ip", "link", "set", "br0", "mtu", "1500")
        # the administrator takes it down: that is said, and it goes on when it is up again
        run("ip", "link", "set", "br0", "down")
        vdi.wait_until(lambda: "ip link set br0 up" in (net.call("network.get", network="office")["state_reason"] or ""),
                       20, "the reason")
        run("sh", "-c", f"ip link set br0 up && ip route add default via {PEER} metric 77")
        events.until("active")
        assert vdi.wait_until(lambda: guest.pings(PEER), 10, "the guest")
        # it goes, also while the daemon is started, and comes again
        run("ip", "link", "delete", "br0")
        assert "br0" in events.until("degraded")["reason"]
    net.restart()
    vdi.wait_until(lambda: net.call("network.get", network="office")["state"] == "degraded", 20, "degraded")
    assert net.call("network.get", network="office")["differences"] == ["uplink br0 is gone"]
    make_bridge()
    vdi.wait_until(lambda: net.call("network.get", network="office")["state"] == "active", 20, "the bridge")
    assert ends(office) == (office["bridge"], "br0") and guest.pings(PEER)
    # one that is gone for good does not keep the network
    run("ip", "link", "delete", "br0")
    net.call("desktop.delete", desktop="one")
    drop(net, "office")
    assert vdi.our_links() == [] and vdi.our_tables() == []


def test_a_link_by_its_name(net, spaces, lan):
    """The bridge is gone and a link with the host's address has its name: that is not taken over."""
    create(net)
    run("sh", "-c", f"ip link delete br0 && ip link add br0 type veth peer name br1 && ip link set br0 up && "
        f"ip addr add {HOST}/24 dev br0")
    before = on_link("br0")
    for again in (False, True):
        if again:
            net.restart()
        vdi.wait_until(lambda: "br0 is no bridge" in (net.call("network.get", network="office")["state_reason"] or ""),
                       20, "the reason")
        assert on_link("br0") == before and master_of("br0") is None
    drop(net, "office")
    assert on_link("br0") == before and vdi.our_links() == []


def test_mtu(net, spaces, script, lan):
    office = create(net, mtu=1400)
    guest = plug(net, spaces, office, "one")
    assert guest.dhcp(script)

    def mtus():
        return [json.loads(run("ip", "-j", "link", "show", link).stdout)[0]["mtu"]
                for link in (office["bridge"], office["near"], office["far"], "br0")]

    assert mtus() == [1400, 1400, 1500, 1500]
    net.call_when_free("network.update", network="office", mtu=1300)
    assert mtus() == [1300, 1300, 1500, 1500] and guest.pings(PEER)
    assert net.call("network.get", network="office")["differences"] == []
    # the bridge's own change, by its port's
    lan.run("ip", "link", "set", "eth0", "mtu", "9000")
    run("sh", "-c", "ip link set up0 mtu 9000 && ip link set br0 mtu 9000")
    vdi.wait_until(lambda: mtus() == [1300, 1300, 9000, 9000], 10, "the veths")


def refuse(net, kind, **params):
    with pytest.raises(vdi.RpcError) as refused:
        net.call("network.create", name="refused", kind="bridged", **params)
    assert refused.value.kind == kind or (kind == "invalid" and refused.value.code == -32602), refused.value
    return str(refused.value)


def test_refused(daemon, lan):
    before = shown()
    assert "make that the uplink: br0" in refuse(daemon, "conflict", uplink="up0")
    daemon.call("network.create", name="lab", kind="isolated")
    message = refuse(daemon, "invalid", uplink="vdibr1")
    assert "the bridge of network 'lab'; put desktops on that network" in message
    # a loop is not begun: there is a way from the bridge to be, made by somebody in advance
    run("sh", "-c", "ip link add vdibr2 type bridge && ip link add one type veth peer name two && "
        "ip link set one master vdibr2 && ip link set two master br0")
    assert "ip link delete one" in refuse(daemon, "conflict", uplink="br0")
    run("ip", "link", "delete", "one")
    run("ip", "link", "set", "br0", "down")
    assert "ip link set br0 up" in refuse(daemon, "conflict", uplink="br0")
    run("sh", "-c", f"ip link set br0 up && ip route add default via {PEER} metric 77")
    assert [n["name"] for n in daemon.call("network.list")["items"]] == ["lab"]
    assert vdi.our_links() == ["vdibr1"] and shown() == before


def points():
    for plan in ("network-create", "network-delete"):
        for step in steps_of(plan):
            for when in ("before", "after"):
                yield pytest.param(f"{plan}:{step}:{when}", marks=[] if step == "bridge" else pytest.mark.slow)


@pytest.mark.parametrize("point", points())
def test_killed_at(daemon, lan, point):
    before = shown()
    if "delete" in point:
        create(daemon)
    daemon.restart(env={"VDI_CRASH_AT": point})
    with pytest.raises((ConnectionError, vdi.RpcError)):
        if "delete" in point:
            daemon.call_when_free("network.delete", network="office")
        else:
            create(daemon)
    assert daemon.process.wait(60) != 0
    daemon.process = None
    daemon.start()
    if not daemon.call("network.list")["items"]:
        assert vdi.our_links() == [] and vdi.our_tables() == [] and shown() == before
        create(daemon)
    assert daemon.call("network.get", network="office")["differences"] == []
    drop(daemon, "office")
    assert vdi.our_links() == [] and vdi.our_tables() == [] and shown() == before
