"""Networks on VLANs of an uplink. tests/run runs these on Debian's kernel (tests/kernel/run): not every
kernel has 802.1Q. What is on the wire is seen at the other end of the uplink, tags and all."""
import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
import vdi
from spaces import ask_from_host, on_link, run, spaces, uplink, HOST, PEER  # noqa: F401

pytestmark = pytest.mark.kernel

# broadcasts a frame of an Ethernet type for experiments, as a desktop would
SEND = """
import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
link.send(b"\\xff" * 6 + link.getsockname()[4] + b"\\x88\\xb5" + sys.argv[1].encode().ljust(50))
"""

# "TAG TEXT" of each of those, 0 for none; packet(7): the kernel tells the tag beside the frame
HEAR = """
import socket, struct
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID, ETH_P_ALL = 263, 8, 0x10, 3
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
wire.bind(("eth0", ETH_P_ALL))
print("ready", flush=True)
while True:
    frame, aux, _, _ = wire.recvmsg(2000, 100)
    status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", aux[0][2])
    if frame[12:14] == b"\\x88\\xb5":
        print(tag & 0xfff if status & TP_STATUS_VLAN_VALID else 0, frame[14:].decode().strip(), flush=True)
"""


class Wire:
    """What passes at the other end of the uplink."""

    def __init__(self, space):
        self.ear = subprocess.Popen(space.argv(sys.executable, "-c", HEAR), stdout=subprocess.PIPE, text=True)
        assert self.ear.stdout.readline() == "ready\n"

    def sees(self, guest, text):
        """The tag of the frame that this guest sends."""
        guest.run(sys.executable, "-c", SEND, text)
        tag, what = self.ear.stdout.readline().split()
        assert what == text
        return int(tag)

    def close(self):
        self.ear.kill()
        self.ear.wait()


@pytest.fixture
def wire(uplink):
    made = Wire(uplink)
    yield made
    made.close()


@pytest.fixture
def switch(uplink):
    """VLANs 7 and 8 beyond the uplink, with a host in each: 10.70.0.1 and 10.80.0.1."""
    for tag in (7, 8):
        uplink.run("ip", "link", "add", "link", "eth0", "name", f"eth0.{tag}", "type", "vlan", "id", tag)
        uplink.run("ip", "link", "set", f"eth0.{tag}", "up")
        uplink.run("ip", "addr", "add", f"10.{tag}0.0.1/24", "dev", f"eth0.{tag}")
    return uplink


@pytest.fixture(scope="module")
def host(build, vdi_user, tmp_path_factory):
    """A daemon for all of them, with an image that desktops can be made of; nobody ever starts one."""
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    disk = tmp_path_factory.mktemp("image") / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
    daemon.import_image(disk)
    yield daemon
    daemon.done()


@pytest.fixture
def net(host):
    yield host
    host.delete_all()
    assert vdi.our_links() == [] and vdi.our_tables() == []


def create(net, tag, name=None):
    made = net.call("network.create", name=name or f"office{tag}", kind="bridged", uplink="up0", vlan=tag)
    assert (made["state"], made["vlan"], made["confirm_until"]) == ("active", tag, None)
    assert net.call("network.get", network=made["id"])["differences"] == []
    # the bridge's and the sub-interface's names have the same number
    return {**made, "link": made["bridge"].replace("vdibr", "vdivl")}


@contextlib.contextmanager
def looking_away(daemon):
    """What is done meanwhile the daemon sees all at once."""
    pid = daemon.halves()[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def plug(net, spaces, network, address):
    guest = spaces()
    name = network["name"]
    guest.plug(network["bridge"], net.create_desktop(f"on-{name}", name)["mac"], f"t{name}"[:15])
    guest.run("ip", "addr", "add", address, "dev", "eth0")
    return guest


def sub_interface(name):
    """(uplink, tag, bridge, up) as the kernel has it; None without it."""
    done = run("ip", "-j", "-d", "link", "show", name, check=False)
    if done.returncode:
        return None
    link = json.loads(done.stdout)[0]
    return link["link"], link["linkinfo"]["info_data"]["id"], link.get("master"), "UP" in link["flags"]


def test_two_vlans(net, spaces, switch, wire):
    before = on_link("up0")
    seven, eight = create(net, 7), create(net, 8)
    # the host keeps its own
    assert on_link("up0") == before and ask_from_host(PEER, 80) == HOST
    assert sub_interface(seven["link"]) == ("up0", 7, seven["bridge"], True)
    assert sub_interface(eight["link"]) == ("up0", 8, eight["bridge"], True)
    one, two = plug(net, spaces, seven, "10.70.0.5/24"), plug(net, spaces, eight, "10.80.0.5/24")
    assert (wire.sees(one, "one"), wire.sees(two, "two")) == (7, 8)
    assert one.pings("10.70.0.1") and two.pings("10.80.0.1")
    # neither the other VLAN nor the untagged LAN is reached, whatever the address
    two.run("ip", "addr", "add", "10.70.0.6/24", "dev", "eth0")
    two.run("ip", "addr", "add", "10.50.0.6/24", "dev", "eth0")
    assert not two.pings("10.70.0.1") and not two.pings("10.70.0.5") and not two.pings(PEER)
    with pytest.raises(vdi.RpcError, match="'office7' has that uplink and VLAN"):
        create(net, 7, "again")
    # neither a crash nor a restart touches them
    links = run("ip", "-o", "link", "show", "type", "vlan").stdout
    net.kill()
    assert one.pings("10.70.0.1")
    net.start()
    for name in ("office7", "office8"):
        shown = net.call("network.get", network=name)
        assert (shown["state"], shown["differences"]) == ("active", [])
    assert run("ip", "-o", "link", "show", "type", "vlan").stdout == links
    # one goes, the other stays
    net.call("desktop.delete", desktop="on-office7")
    net.call_when_free("network.delete", network="office7")
    assert sub_interface(seven["link"]) is None and two.pings("10.80.0.1")
    net.call("desktop.delete", desktop="on-office8")
    net.call_when_free("network.delete", network="office8")
    assert vdi.our_links() == [] and vdi.our_tables() == [] and on_link("up0") == before


@pytest.mark.slow
def test_put_back(net, spaces, switch):
    """By somebody's hand: gone, down, off its bridge, another VLAN under its name; its uplink down, or gone."""
    office = create(net, 7)
    link, bridge = office["link"], office["bridge"]
    guest = plug(net, spaces, office, "10.70.0.5/24")
    assert guest.pings("10.70.0.1")
    with net.client() as client:
        client.call("events.subscribe", topics=["network"])

        def until(state):
            event = client.next_event()
            while event and event["data"]["state"] != state:
                event = client.next_event()
            assert event, f"{state} never came\n{net.tail()}"
            return event["data"]

        for why, command in (
                (f"VLAN {link} is gone", f"ip link delete {link}"),
                (f"VLAN {link} is down", f"ip link set {link} down"),
                (f"VLAN {link} is no port of bridge {bridge}", f"ip link set {link} nomaster"),
                (f"{link} is not VLAN 7 of up0", f"ip link delete {link} && ip link add link up0 name {link} "
                 f"type vlan id 9 && ip link set {link} master {bridge} up")):
            with looking_away(net):
                run("sh", "-c", command)
            assert why in until("degraded")["reason"]
            until("active")
            assert sub_interface(link) == ("up0", 7, bridge, True)
            assert guest.pings("10.70.0.1"), why
        # the administrator takes the uplink down: that is said, and it goes on when it is up again
        run("ip", "link", "set", "up0", "down")
        vdi.wait_until(lambda: "up0 is down" in (net.call("network.get", network="office7")["state_reason"] or ""),
                       20, "the reason")
        run("ip", "link", "set", "up0", "up")
        until("active")
        assert vdi.wait_until(lambda: guest.pings("10.70.0.1"), 10, "the guest")
    # it goes for good
    run("ip", "link", "delete", "up0")
    vdi.wait_until(lambda: net.call("network.get", network="office7")["state"] == "degraded", 20, "degraded")
    vdi.wait_until(lambda: "up0" in net.call("network.get", network="office7")["state_reason"], 20, "the reason")
    net.call("desktop.delete", desktop="on-office7")
    net.call_when_free("network.delete", network="office7")


def test_vlan_that_is_taken(net, uplink):
    run("ip", "link", "add", "link", "up0", "name", "admin7", "type", "vlan", "id", "7")
    with pytest.raises(vdi.RpcError, match="up0 has VLAN 7 already, as link admin7") as refused:
        create(net, 7)
    assert refused.value.kind == "conflict"
    assert net.call("network.list")["items"] == [] and vdi.our_links() == [] and vdi.our_tables() == []
    run("ip", "link", "set", "up0", "down")
    with pytest.raises(vdi.RpcError, match="ip link set up0 up"):
        create(net, 8)
    assert vdi.our_links() == [] and sub_interface("admin7")


@pytest.mark.parametrize("first", ["the uplink", pytest.param("the VLAN", marks=pytest.mark.slow)])
def test_uplink_of_two_networks(net, spaces, switch, wire, first):
    """One network has the uplink itself, the other a VLAN of it."""
    before = on_link("up0")

    def create_plain():
        made = net.call("network.create", name="office", kind="bridged", uplink="up0", confirm_timeout_s=60)
        net.call("network.confirm", network="office")
        return made

    if first == "the uplink":
        plain, seven = create_plain(), create(net, 7)
    else:
        seven, plain = create(net, 7), create_plain()
    assert on_link(plain["bridge"]) == before and ask_from_host(PEER, 80) == HOST
    one, two = plug(net, spaces, plain, "10.50.0.5/24"), plug(net, spaces, seven, "10.70.0.5/24")
    assert (wire.sees(one, "one"), wire.sees(two, "two")) == (0, 7)
    assert one.pings(PEER) and two.pings("10.70.0.1")
    assert not one.pings("10.70.0.1") and not two.pings(PEER) and not two.pings("10.50.0.5")
    net.restart()
    for name in ("office", "office7"):
        shown = net.call("network.get", network=name)
        assert (shown["state"], shown["differences"]) == ("active", [])
    # the first goes: the other does not notice
    name, other, host = ("office", two, "10.70.0.1") if first == "the uplink" else ("office7", one, PEER)
    net.call("desktop.delete", desktop=f"on-{name}")
    net.call_when_free("network.delete", network=name)
    assert other.pings(host) and ask_from_host(PEER, 80) == HOST
    net.delete_all()
    assert on_link("up0") == before
