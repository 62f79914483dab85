"""A guest that lies about who it is: nothing of it reaches another desktop or the host, all of it is
counted, and what it sends honestly afterwards passes."""
import contextlib
import json
import socket
import struct
import subprocess

import pytest
import vdi

ETH_ALL = 0x0003
EVIL_MAC = "52:54:66:66:66:66"


class Sniffer:
    """Frames on a link of the host: [(to that link's other side?, source MAC, frame)]."""

    def __init__(self, link):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind((link, ETH_ALL))
        self.socket.setblocking(False)

    def frames(self):
        seen = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, address = self.socket.recvfrom(2048)
                seen.append((address[2] == socket.PACKET_OUTGOING, frame[6:12].hex(":"), frame))
        return seen


def links():
    return {link["ifname"]: link
            for link in json.loads(subprocess.check_output(["ip", "-json", "link"]))}


@pytest.fixture(scope="module")
def pair(world):
    """Who lies, and its neighbour, with the tap of that one and the bridge."""
    evil = world.create_desktop("evil", "lan", start=True)
    victim = world.create_desktop("victim", "lan", start=True)
    for guest in (evil, victim):
        vdi.guest_wait(guest["ip"])
    ports = [link for link in links().values() if link.get("master")]
    taps = {}
    for guest in (evil, victim):
        assert vdi.guest_do(guest["ip"], "ping 10.77.0.1") == "ok"
        fdb = json.loads(subprocess.check_output(["bridge", "-json", "fdb"]))
        taps[guest["name"]] = next(port for port in ports if any(
            entry["mac"] == guest["mac"] and entry["ifname"] == port["ifname"] for entry in fdb))
    tap = taps["victim"]
    return evil, victim, tap["ifname"], tap["master"]


def counted(world, name="evil"):
    nic, = world.call("desktop.stats", desktop=name)["nics"]
    return nic


def attack(world, pair, script, **least):
    """Have the script run in the guest that lies. What the neighbour and the host saw meanwhile, when
    at least so many packets were dropped for these reasons."""
    evil, victim, tap, bridge = pair
    before = counted(world)["drops"]
    at_victim, at_host = Sniffer(tap), Sniffer(bridge)
    vdi.guest_do(evil["ip"], "remember before", f"later {script}; echo after >/tmp/remembered")

    def done():
        assert vdi.guest_who(victim["ip"])[1] == victim["mac"]
        now = counted(world)["drops"]
        return all(now[why] - before[why] >= n for why, n in least.items())
    vdi.wait_until(done, 20, f"the drops: {least}", 0.5)
    # honest again
    assert vdi.guest_wait(evil["ip"], 20)
    vdi.wait_until(lambda: vdi.guest_do(evil["ip"], "recall") == "after", 10, "the script to end", 0.3)
    assert vdi.guest_who(evil["ip"])[1:] == (evil["mac"], evil["ip"])
    assert vdi.guest_do(evil["ip"], "ping 10.77.0.1", f"ping {victim['ip']}") == ["ok", "ok"]
    assert victim["mac"] in vdi.guest_do(evil["ip"], f"get {victim['ip']} 7")
    assert evil["mac"] in vdi.guest_do(victim["ip"], f"get {evil['ip']} 7")
    seen = at_victim.frames(), at_host.frames()
    # the looking itself works: this was seen of honest traffic
    assert any(out and mac == evil["mac"] for out, mac, _ in seen[0])
    assert any(not out and mac == evil["mac"] for out, mac, _ in seen[1])
    return seen


def ipv4(frame):
    """(source, protocol, UDP source port) or None"""
    if frame[12:14] != b"\x08\x00":
        return None
    head = 14 + 4 * (frame[14] & 15)
    port, = struct.unpack("!H", frame[head:head + 2]) if frame[23] == socket.IPPROTO_UDP else (0,)
    return socket.inet_ntoa(frame[26:30]), frame[23], port


@pytest.mark.parametrize("whose", ["nobody's", "the neighbour's", "the host's"])
def test_false_mac(world, pair, whose):
    evil, victim, _, bridge = pair
    mac = {"nobody's": EVIL_MAC, "the neighbour's": victim["mac"],
           "the host's": links()[bridge]["address"]}[whose]
    at_victim, at_host = attack(
        world, pair, f"ip link set eth0 address {mac}; ping -c 3 -W 1 {victim['ip']}; "
        f"ping -c 2 -W 1 10.77.0.1; ip link set eth0 address {evil['mac']}", mac=4)
    if whose == "nobody's":
        assert not [1 for _, source, _ in at_victim + at_host if source == mac]
    if whose == "the neighbour's":
        assert not [1 for out, source, _ in at_victim if out and source == mac]


def test_false_address(world, pair):
    """As the neighbour: in ARP to all, and in IPv4 to the host and to the neighbour itself."""
    evil, victim, _, bridge = pair
    ip = victim["ip"]
    at_victim, at_host = attack(
        world, pair, f"arp -s 10.77.0.1 {links()[bridge]['address']}; ip addr add {ip}/32 dev eth0; "
        f"arping -U -c 3 -I eth0 -s {ip} {ip}; arping -A -c 3 -I eth0 -s {ip} {ip}; "
        f"ping -c 3 -W 1 -I {ip} 10.77.0.1; ip addr del {ip}/32 dev eth0; arp -d 10.77.0.1",
        arp=6, ipv4=3)
    for _, mac, frame in at_victim + at_host:
        if mac != evil["mac"]:
            continue
        if frame[12:14] == b"\x08\x06":
            assert socket.inet_ntoa(frame[28:32]) == evil["ip"], frame.hex()
        elif ipv4(frame):
            assert ipv4(frame)[0] == evil["ip"], frame.hex()


def test_free_address(world, pair):
    """One that nobody has is not its own either."""
    evil, victim = pair[:2]
    at_victim, at_host = attack(
        world, pair, "ip addr add 10.77.0.250/24 dev eth0; "
        f"arping -c 3 -I eth0 -s 10.77.0.250 {victim['ip']}; ip addr del 10.77.0.250/24 dev eth0",
        arp=3)
    assert not [1 for _, mac, frame in at_victim + at_host
                if mac == evil["mac"] and socket.inet_aton("10.77.0.250") in frame[26:34]]


def test_rogue_dhcp(world, pair):
    evil, victim = pair[:2]
    script = ("touch /tmp/leases; (echo interface eth0; echo start 10.77.0.66; echo end 10.77.0.70; "
              "echo lease_file /tmp/leases; echo pidfile /tmp/pid; echo option router " + evil["ip"] +
              ") >/tmp/udhcpd.conf; timeout 12 udhcpd -f /tmp/udhcpd.conf")
    before = counted(world)["drops"]["dhcp"]
    sniffer = Sniffer(pair[2])
    assert vdi.guest_do(evil["ip"], "later " + script) == "ok"

    def answered():
        assert vdi.guest_do(victim["ip"], "lease eth0", timeout=20) == victim["ip"]
        return counted(world)["drops"]["dhcp"] > before
    vdi.wait_until(answered, 20, "the rogue server to answer", 0.5)
    offers = [mac for out, mac, frame in sniffer.frames()
              if out and ipv4(frame) and ipv4(frame)[1:] == (socket.IPPROTO_UDP, 67)]
    assert offers and evil["mac"] not in offers  # dnsmasq's alone
    assert vdi.guest_do(evil["ip"], f"ping {victim['ip']}") == "ok"


def test_counters(world, pair):
    """They belong to a NIC of a guest that runs."""
    victim = counted(world, "victim")
    assert victim["dropped_packets"] == sum(victim["drops"].values())
    assert victim["drops"]["mac"] == victim["drops"]["arp"] == victim["drops"]["dhcp"] == 0
    evil = counted(world)
    assert evil["from_guest_packets"] >= evil["dropped_packets"] >= 20
    assert evil["from_guest_bytes"] > 0 and evil["to_guest_bytes"] > 0 and evil["to_guest_packets"] > 0
    vdi.guest_do(pair[0]["ip"], f"get {pair[1]['ip']} 7")
    assert counted(world)["from_guest_bytes"] > evil["from_guest_bytes"]
    world.call("desktop.stop", desktop="evil", mode="force")
    gone = counted(world)
    assert gone["dropped_packets"] == gone["from_guest_bytes"] == 0
    assert set(gone["drops"].values()) == {0}
