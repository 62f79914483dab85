"""A real guest on a bridged network, whose addresses a DHCP server of the LAN gives: it sends from what that one
acknowledged, or from what the administrator fixed, and from nothing else."""
import contextlib
import ipaddress
import json
import re
import socket
import sqlite3
import struct
import subprocess

import frames
import pytest
import vdi
from frames import ALL, arp, dhcp, nd, udp
from spaces import run, Space, HOST, PEER
from test_hostile_guest import Sniffer
from test_uplink_bridge import make_bridge

LAN = PEER.rsplit(".", 1)[0]
NOBODY = f"{LAN}.250"

UDHCPD = """start {lan}.100
end {lan}.150
interface eth0
lease_file /dev/null
min_lease 1
option subnet 255.255.255.0
option router {peer}
option lease {seconds}
"""


class Office:
    """A daemon with `ada` on `office`, joined to br0; beyond br0's port up0 a namespace with the LAN's server."""

    def __init__(self, daemon, space, folder):
        self.daemon, self.space, self.folder = daemon, space, folder
        self.server = None
        self.mac = None

    def serve_dhcp(self, address=None, seconds=600):
        """In place of the one before; @address: for ada."""
        self.serve_none()
        config = self.folder / "udhcpd.conf"
        config.write_text(UDHCPD.format(lan=LAN, peer=PEER, seconds=seconds) +
                          (f"static_lease {self.mac} {address}\n" if address else ""))
        self.server = subprocess.Popen(self.space.argv("busybox", "udhcpd", "-f", config), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)

    def serve_none(self):
        if self.server:
            self.server.kill()
            self.server.wait()
        self.server = None

    def ip(self):
        return self.daemon.desktop("ada")["ip"]

    def ask_again(self):
        """The guest asks for its address, as after a link that was down, until somebody answers."""
        command = "until udhcpc -q -n -i eth0 -s /bin/lease -t 10 -T 1; do :; done; echo asked >/tmp/remembered"
        assert vdi.guest_do(self.ip(), "remember nothing", f"later {command}") == ["ok", "ok"]

    def wait_for(self, address):
        vdi.wait_until(lambda: self.ip() == address, 20, f"{address}; there is {self.ip()}\n{self.daemon.tail()}")
        assert vdi.guest_wait(address)[1] == self.mac

    def differences(self, network="office"):
        return self.daemon.call("network.get", network=network)["differences"]

    def drops(self):
        return self.daemon.call("desktop.stats", desktop="ada")["nics"][0]["drops"]

    def send(self, hostile, lawful=()):
        """What is lawful gets to the LAN, and of the rest nothing does. {reason: how many were dropped}"""
        before, wire, seen = self.drops(), Sniffer("up0"), []
        ip = self.ip()
        lawful = [*lawful, udp(ALL, self.mac, ip, 9, f"{LAN}.255", 9, b"the last")]
        wanted = [*hostile, *lawful]
        done = vdi.guest_do(ip, "uptime", *(f"send eth0 {frame.hex()}" for frame in wanted))
        assert done[1:] == ["ok"] * len(wanted)

        def arrived():
            seen.extend(frame for _, _, frame in wire.frames())
            return all(any(got.startswith(frame) for got in seen) for frame in lawful)
        vdi.wait_until(arrived, 10, "the lawful ones")
        assert [frame.hex() for frame in hostile if any(got.startswith(frame) for got in seen)] == []
        after = self.drops()
        return {why: after[why] - before[why] for why in after if after[why] != before[why]}

    def wait_told(self, reason):
        """An event of the desktop, from the daemon's beginning on."""
        with self.daemon.client() as client:
            client.call("events.subscribe", topics=["desktop"], since=0)
            while event := client.next_event(10):
                if reason in (event["data"]["reason"] or ""):
                    return
        raise AssertionError(f"{reason} was never told\n{self.daemon.tail()}")

    def claim(self):
        """The gateway's address, to all of the LAN."""
        return arp(ALL, self.mac, 2, self.mac, PEER, PEER)


@pytest.fixture(scope="module")
def office(build, vdi_user, guest_image, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        space = Space()
        stack.callback(space.close)
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", space.holder.pid)
        for link in ("up0", "br0"):
            stack.callback(run, "ip", "link", "delete", link, check=False)
        make_bridge()
        space.run("ip", "addr", "add", f"{PEER}/24", "dev", "eth0")
        space.run("ip", "link", "set", "eth0", "up")
        vdi.wait_until(lambda: "state forwarding" in run("bridge", "link", "show").stdout, 10, "the bridge's port")
        daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
        stack.callback(daemon.clean_up)
        office = Office(daemon, space, tmp_path_factory.mktemp("office"))
        office.serve_dhcp()
        stack.callback(office.serve_none)
        daemon.import_image(guest_image)
        assert daemon.call("network.create", name="office", kind="bridged", uplink="br0")["source_guard"] is True
        office.mac = daemon.create_desktop("ada", "office", start=True)["mac"]
        yield office
        daemon.done()


def take_the_group():
    """Somebody listens already; closed, nobody does."""
    somebody = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    bind = struct.pack("=BBH", 0, 0, socket.htons(30308)) + struct.pack("=HHB3x", 5, 1, 1)
    somebody.send(struct.pack("=IHHII", 16 + len(bind), 4 << 8 | 1, 5, 1, 0) + bind)
    error, = struct.unpack_from("=i", somebody.recv(4096), 16)
    assert error == 0
    return somebody


def test_unheard(make_daemon):
    """Where it cannot be had it is refused, or done without and said."""
    with contextlib.closing(take_the_group()):
        daemon = make_daemon().start()
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "up")
    try:
        with pytest.raises(vdi.RpcError) as refused:
            daemon.call("network.create", name="office", kind="bridged", uplink="br0", source_guard=True)
        assert refused.value.kind == "busy" and "is not heard" in str(refused.value)
        assert daemon.call("network.create", name="office", kind="bridged", uplink="br0")["source_guard"] is False
        with daemon.client() as client:
            client.call("events.subscribe", topics=["network"], since=0)
            assert "made without source_guard" in client.next_event()["data"]["reason"]
        daemon.call("network.create", name="lan", kind="nat")
        for kind in ("nat", "isolated"):
            with pytest.raises(vdi.RpcError) as refused:
                daemon.call("network.create", name="refused", kind=kind, source_guard=True)
            assert refused.value.field == "source_guard"
        daemon.restart()
        assert daemon.call("network.update", network="office", source_guard=True)["source_guard"] is True
        daemon.call_when_free("network.delete", network="office")
    finally:
        run("ip", "link", "delete", "br0", check=False)


def test_learned(office):
    """What the server gives is known, and is what it sends from."""
    ip = vdi.wait_until(office.ip, 60, "an address")
    assert vdi.guest_wait(ip)[1:] == (office.mac, ip)
    assert vdi.guest_do(ip, f"ping {PEER}") == "ok" and office.space.ask(ip, 7).split()[1] == office.mac
    assert [nic["ip"] for nic in office.daemon.desktop("ada")["nics"]] == [ip]
    lease, = office.daemon.call("network.leases", network="office")["leases"]
    assert (lease["mac"], lease["ip"], lease["hostname"]) == (office.mac, ip, "ada") and lease["expires_at"]
    office.wait_told(f"the address {ip} from the DHCP server {PEER}")
    assert office.differences() == []


def test_spoofed(office):
    """The gateway's address, a neighbour's, nobody's; IPv6 identifiers that are not its MAC's."""
    ip, mac = office.ip(), office.mac
    own6, own_global, other6 = frames.link_local(mac), "2001:db8:7::" + frames.link_local(mac)[6:], "2001:db8:7::bad"
    host_mac = json.loads(run("ip", "-j", "link", "show", "br0").stdout)[0]["address"]

    def advert(address):
        return nd(mac, own6, "ff02::1", 136, struct.pack("!I", 0x20 << 24) + frames.address(address), (2, mac))
    hostile = {
        "arp": [office.claim(), arp(host_mac, mac, 2, mac, PEER, HOST), arp(ALL, mac, 1, mac, HOST, PEER),
                arp(ALL, mac, 1, mac, NOBODY, NOBODY), arp(ALL, mac, 2, host_mac, ip, ip)],
        "ipv4": [udp(ALL, mac, false, 9, HOST, 9, b"false") for false in (PEER, HOST, NOBODY, "192.0.2.1", "0.0.0.0")],
        "ipv6": [udp(ALL, mac, false, 9, "ff02::1", 9, b"false") for false in (other6, "fe80::bad", "fd00::1")],
        "nd": [advert(other6), advert("fe80::bad")],
        "dhcp": [dhcp(mac, ip, "255.255.255.255", host_mac, 5, wish=NOBODY, server=ip, ports=(67, 68))]}
    lawful = [arp(ALL, mac, 1, mac, "0.0.0.0", NOBODY), arp(ALL, mac, 1, mac, ip, PEER), advert(own_global),
              *(udp(ALL, mac, own, 9, "ff02::1", 9, b"honest") for own in (own6, own_global)),
              # it may ask for an address at any time
              dhcp(mac, "0.0.0.0", "255.255.255.255", mac, 1)]
    dropped = office.send([frame for frames_ in hostile.values() for frame in frames_], lawful)
    assert dropped == {why: len(frames_) for why, frames_ in hostile.items()}


def test_another_address(office):
    """The server has it move: the new one counts, the old one no more."""
    old, new = office.ip(), f"{LAN}.77"
    office.serve_dhcp(new)
    office.ask_again()
    office.wait_for(new)
    assert office.space.ask(new, 7) and not office.space.ask(old, 7)
    assert office.send([udp(ALL, office.mac, old, 9, HOST, 9, b"old")]) == {"ipv4": 1}
    assert office.differences() == []


def test_off_and_on(office):
    ip = office.ip()
    office.daemon.call_when_free("network.update", network="office", source_guard=False)
    assert office.differences() == []
    assert office.send([], [office.claim()]) == {}
    office.daemon.call_when_free("network.update", network="office", source_guard=True)
    assert office.differences() == [] and office.ip() == ip
    assert office.send([office.claim()]) == {"arp": 1}
    assert office.space.ask(ip, 7)


def test_fixed(office):
    learned, fixed = office.ip(), f"{LAN}.80"
    assert vdi.guest_do(learned, f"later ip addr add {fixed}/24 dev eth0") == "ok"
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, ip=fixed)
    office.wait_for(fixed)
    assert vdi.guest_who(learned, 2) is None and office.differences() == []
    with pytest.raises(vdi.RpcError) as refused:
        office.daemon.call("desktop.create", name="bob", image="guest", network="office", ip=fixed)
    assert refused.value.kind == "conflict" and "'ada'" in str(refused.value)
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, ip="")
    office.wait_for(learned)
    assert vdi.guest_who(fixed, 2) is None
    # what nobody said stays what it is
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, to_guest_kbit=0)
    assert office.ip() == learned


def test_group_members(office):
    """Rules that name a group know the address, and whichever it is then."""
    def members():
        sets = json.loads(run("nft", "-j", "list", "table", "bridge", "vdi-hostd").stdout)["nftables"]
        named = [entry["set"] for entry in sets if re.fullmatch("members-[0-9]+-4", entry.get("set", {}).get("name", ""))]
        return [a_set["elem"] for a_set in named if "elem" in a_set]
    office.daemon.call("firewall.create", name="friends", rules=[{"direction": "in"}, {"direction": "out"}])
    office.daemon.call("firewall.create", name="meet", rules=[{"direction": "in", "remote_group": "friends"}])
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, firewall=["friends", "meet"])
    # its two, and the one at the end of all
    assert members() == [[office.ip()]] * 3
    for address in (f"{LAN}.81", f"{LAN}.77"):
        office.serve_dhcp(address)
        office.ask_again()
        office.wait_for(address)
        assert members() == [[address]] * 3
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, firewall=[])


def test_killed(office):
    """What was known is known again, also when it is renewed while nobody hears that."""
    ip = office.ip()
    office.serve_none()
    office.ask_again()
    office.daemon.kill()
    office.serve_dhcp(ip)
    assert office.space.ask(ip, 7)
    vdi.wait_until(lambda: vdi.guest_do(ip, "recall") == "asked", 20, "the guest", 0.3)
    assert vdi.guest_do(ip, f"ping {PEER}") == "ok"
    office.daemon.start()
    assert office.ip() == ip and office.differences() == []
    assert office.send([office.claim()]) == {"arp": 1}
    # it hears again
    other = f"{LAN}.82"
    office.serve_dhcp(other)
    office.ask_again()
    office.wait_for(other)
    # killed between the row and the kernel: the row counts
    for address in (f"{LAN}.84", other):
        office.daemon.kill()
        with contextlib.closing(sqlite3.connect(office.daemon.state / "vdi-hostd.db")) as db, db:
            db.execute("UPDATE nic SET learned_ip = ?", (int(ipaddress.ip_address(address)),))
        office.daemon.start()
        assert office.ip() == address and office.differences() == []
        if address == other:
            vdi.guest_wait(other)
        else:
            assert vdi.guest_who(other, 1) is None


def test_put_back(office):
    ip = office.ip()
    run("nft", "delete", "table", "bridge", "vdi-hostd")
    vdi.wait_until(lambda: "hook postrouting" in run("nft", "list", "table", "bridge", "vdi-hostd", check=False).stdout
                   and office.differences() == [], 20, "the table")
    assert office.send([office.claim()]) == {"arp": 1} and office.space.ask(ip, 7)
    other = f"{LAN}.83"
    office.serve_dhcp(other)
    office.ask_again()
    office.wait_for(other)


def test_moved(office):
    """What it had elsewhere is forgotten; where all may pass it needs none, and has to ask when it does."""
    office.daemon.call("network.create", name="lab", kind="bridged", uplink="br0", source_guard=False)
    ip = office.ip()
    office.serve_none()
    office.ask_again()
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, network="lab")
    assert office.ip() is None and vdi.guest_wait(ip) and office.differences("lab") == []
    assert office.daemon.call("network.leases", network="office")["leases"] == []
    office.daemon.call_when_free("network.update", network="lab", source_guard=True)
    assert vdi.guest_who(ip, 1) is None
    office.serve_dhcp(ip)
    office.wait_for(ip)
    assert office.differences("lab") == []
    office.serve_none()
    office.ask_again()
    office.daemon.call_when_free("desktop.nic.update", desktop="ada", nic=0, network="office")
    assert office.ip() is None and vdi.guest_who(ip, 1) is None
    office.serve_dhcp(ip)
    office.wait_for(ip)
    office.daemon.call_when_free("network.delete", network="lab")


def test_its_end(office):
    """The server is gone and the lease over: the address may be another's by now."""
    ip = office.ip()
    office.serve_dhcp(ip, seconds=4)
    office.ask_again()
    vdi.wait_until(lambda: office.ip() is None, 40, "its end")
    office.serve_none()
    assert vdi.guest_who(ip, 2) is None
    assert office.daemon.call("network.leases", network="office")["leases"] == [] and office.differences() == []
    office.wait_told("its lease has ended")
