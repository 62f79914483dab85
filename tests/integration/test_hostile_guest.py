"""A guest that lies about who it is: nothing of it reaches another desktop or the host, all of it is
counted, and what it sends honestly afterwards passes."""
import collections
import contextlib
import ipaddress
import json
import socket
import struct
import subprocess

import frames
import pytest
import vdi
from frames import ALL, arp, dhcp, ether, igmp, link_local, mld, nd, tagged, udp

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
    world.call_when_free("network.delete", network="lan")
    world.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24", cidr6="fd00:77::/64")
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


def soon(guest, wanted):
    """What honest traffic gets: {command: what is in the answer}, asked again where a busy machine was too slow."""
    for command, part in wanted.items():
        vdi.wait_until(lambda command=command, part=part: part in vdi.guest_do(guest["ip"], command), 10, command)


def attack(world, pair, script, **least):
    """Have the script run in the guest that lies. What the neighbour and the host saw meanwhile, when
    at least so many packets were dropped for these reasons."""
    evil, victim, tap, bridge = pair
    before = counted(world)["drops"]
    at_victim, at_host = Sniffer(tap), Sniffer(bridge)
    vdi.guest_do(evil["ip"], "remember before", f"later {script}; echo after >/tmp/remembered")

    def done():
        assert vdi.guest_wait(victim["ip"])[1] == victim["mac"]
        now = counted(world)["drops"]
        return all(now[why] - before[why] >= n for why, n in least.items())
    vdi.wait_until(done, 40, f"the drops: {least}", 0.5)
    # honest again
    assert vdi.guest_wait(evil["ip"])
    vdi.wait_until(lambda: vdi.guest_do(evil["ip"], "recall") == "after", 10, "the script to end", 0.3)
    assert vdi.guest_who(evil["ip"])[1:] == (evil["mac"], evil["ip"])
    soon(evil, {"ping 10.77.0.1": "ok", f"ping {victim['ip']}": "ok", f"get {victim['ip']} 7": victim["mac"]})
    soon(victim, {f"get {evil['ip']} 7": evil["mac"]})
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
              ") >/tmp/udhcpd.conf; timeout 120 udhcpd -f /tmp/udhcpd.conf")
    before = counted(world)["drops"]["dhcp"]
    sniffer = Sniffer(pair[2])
    assert vdi.guest_do(evil["ip"], "later " + script) == "ok"

    def answered():
        assert vdi.guest_do(victim["ip"], "lease eth0") == victim["ip"]
        return counted(world)["drops"]["dhcp"] > before
    vdi.wait_until(answered, 20, "the rogue server to answer", 0.5)
    vdi.guest_do(evil["ip"], "later killall udhcpd")
    offers = [mac for out, mac, frame in sniffer.frames()
              if out and ipv4(frame) and ipv4(frame)[1:] == (socket.IPPROTO_UDP, 67)]
    assert offers and evil["mac"] not in offers  # dnsmasq's alone
    soon(evil, {f"ping {victim['ip']}": "ok"})


# ---- frames that no honest kernel sends ----

Side = collections.namedtuple("Side", "mac ip ip6 link_local")


def side(mac, v4):
    offset = int(ipaddress.ip_address(v4)) - int(ipaddress.ip_address("10.77.0.0"))
    return Side(mac, v4, str(ipaddress.ip_address("fd00:77::") + offset), link_local(mac))


def sides(pair):
    """Who lies, the neighbour, the host."""
    evil, victim, _, bridge = pair
    return (side(evil["mac"], evil["ip"]), side(victim["mac"], victim["ip"]),
            side(links()[bridge]["address"], "10.77.0.1"))


def target(address, flags=0):
    return struct.pack("!I", flags << 24) + frames.address(address)


def false_macs(me, other, host):
    return {"mac": [udp(other.mac, EVIL_MAC, me.ip, 9, other.ip, 9), udp(ALL, other.mac, other.ip, 9, "10.77.0.255", 9),
                    udp(other.mac, host.mac, host.ip, 53, other.ip, 9),
                    arp(ALL, host.mac, 2, host.mac, host.ip, other.ip),
                    nd(host.mac, host.link_local, "ff02::1", 134, bytes(12))]}, \
        [udp(other.mac, me.mac, me.ip, 9, other.ip, 9, b"honest")]


def vlan_tags(me, other, _):
    inner = udp(other.mac, me.mac, me.ip, 9, other.ip, 9, b"tagged")
    return {"vlan": [tagged(inner, *tags) for tags in (
        [(0x8100, 1)], [(0x8100, 0)], [(0x8100, 4094)], [(0x88a8, 7)],
        [(0x8100, 1), (0x8100, 7)], [(0x88a8, 1), (0x8100, 7)])]}, \
        [udp(other.mac, me.mac, me.ip, 9, other.ip, 9, b"honest")]


def ethertypes(me, other, _):
    return {"ethertype": [ether(other.mac, me.mac, kind, b"odd") for kind in (0x88cc, 0x8863, 0x888e, 0x8035)] +
            [ether(ALL, me.mac, 38, b"\x42\x42\x03")]}, \
        [udp(ALL, me.mac, me.ip, 9, "10.77.0.255", 9, b"honest")]


def poisoned_arp(me, other, host):
    return {"arp": [arp(other.mac, me.mac, 2, me.mac, host.ip, other.ip), arp(ALL, me.mac, 2, me.mac, host.ip, host.ip),
                    arp(host.mac, me.mac, 2, me.mac, other.ip, host.ip), arp(ALL, me.mac, 1, me.mac, other.ip, other.ip),
                    arp(other.mac, me.mac, 2, EVIL_MAC, me.ip, other.ip),
                    arp(other.mac, me.mac, 2, host.mac, host.ip, other.ip)]}, \
        [arp(ALL, me.mac, 1, me.mac, me.ip, other.ip), arp(other.mac, me.mac, 2, me.mac, me.ip, other.ip)]


def false_ipv4(me, other, host):
    return {"ipv4": [udp(other.mac, me.mac, liar, 9, other.ip, 9)
                     for liar in (other.ip, host.ip, "10.77.0.250", "192.0.2.1", "127.0.0.1", "0.0.0.0")]}, \
        [udp(other.mac, me.mac, me.ip, 9, other.ip, 9, b"honest")]


def false_ipv6(me, other, host):
    return {"ipv6": [udp(other.mac, me.mac, liar, 9, other.ip6, 9)
                     for liar in (other.ip6, other.link_local, host.ip6, host.link_local, "2001:db8::1", "::")]}, \
        [udp(other.mac, me.mac, liar, 9, other.ip6, 9, b"honest") for liar in (me.ip6, me.link_local)]


def rogue_router(me, other, _):
    advert = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    return {"ra": [nd(me.mac, me.link_local, "ff02::1", 134, advert, (1, me.mac)),
                   nd(me.mac, me.link_local, other.link_local, 134, advert, (1, me.mac), to=other.mac),
                   nd(me.mac, me.link_local, other.link_local, 137,
                      bytes(4) + frames.address(me.link_local) + frames.address("2001:db8::1"), to=other.mac),
                   mld(me.mac, me.link_local, 130, "ff02::77"), igmp(me.mac, me.ip, 0x11, "239.1.2.3")]}, \
        [nd(me.mac, me.link_local, "ff02::2", 133, bytes(4), (1, me.mac)),
         mld(me.mac, me.link_local, 131, "ff02::77"), igmp(me.mac, me.ip, 0x16, "239.1.2.3")]


def poisoned_nd(me, other, host):
    def advert(whose, *options, to="ff02::1"):
        return nd(me.mac, me.link_local, to, 136, target(whose, 0x20), *options)
    return {"nd": [advert(whose, (2, me.mac)) for whose in (host.link_local, host.ip6, other.ip6, other.link_local)] +
            [nd(me.mac, me.link_local, other.link_local, 136, target(host.link_local, 0xe0), (2, me.mac), to=other.mac),
             nd(me.mac, me.link_local, host.link_local, 136, target(other.ip6, 0x60), (2, me.mac), to=host.mac),
             advert(me.ip6, (2, EVIL_MAC)), advert(me.ip6, (14, me.mac), (2, EVIL_MAC)),
             nd(me.mac, me.link_local, "ff02::1", 135, target(other.ip6), (1, EVIL_MAC)),
             nd(me.mac, me.link_local, "ff02::1", 135, target(other.ip6), (1, host.mac)),
             nd(me.mac, me.link_local, "ff02::2", 133, bytes(4), (1, other.mac))],
            "ipv6": [nd(me.mac, host.link_local, "ff02::1", 135, target(other.ip6), (1, me.mac))]}, \
        [advert(me.ip6, (2, me.mac)), nd(me.mac, me.link_local, "ff02::1", 135, target(other.ip6), (1, me.mac))]


def rogue_dhcp(me, other, host):
    solicit = struct.pack("!B3xHH", 1, 1, 10) + b"\0\3\0\1" + frames.mac_bytes(me.mac)
    every = "33:33:00:01:00:02"
    return {"dhcp": [dhcp(me.mac, me.ip, "255.255.255.255", other.mac, 2, wish="10.77.0.66", server=me.ip, ports=(67, 68)),
                     dhcp(me.mac, me.ip, other.ip, other.mac, 5, wish="10.77.0.66", server=me.ip, ports=(67, 68), to=other.mac),
                     dhcp(me.mac, me.ip, other.ip, other.mac, 6, server=me.ip, ports=(67, 68), to=other.mac),
                     udp(other.mac, me.mac, me.link_local, 547, other.link_local, 546, b"\2" + solicit[1:]),
                     udp(other.mac, me.mac, me.link_local, 547, other.link_local, 546, b"\7" + solicit[1:]),
                     # in the neighbour's name: it would lose its address
                     dhcp(me.mac, "0.0.0.0", "255.255.255.255", other.mac, 4, wish=other.ip, server=host.ip),
                     dhcp(me.mac, me.ip, host.ip, other.mac, 7, server=host.ip, to=host.mac),
                     dhcp(me.mac, me.ip, host.ip, other.mac, 1, relay=me.ip, to=host.mac)]}, \
        [dhcp(me.mac, "0.0.0.0", "255.255.255.255", me.mac, 1),
         udp(every, me.mac, me.link_local, 546, "ff02::1:2", 547, solicit)]


def send(evil, *wanted):
    done = vdi.guest_do(evil["ip"], "uptime", *(f"send eth0 {frame.hex()}" for frame in wanted))
    assert done[1:] == ["ok"] * len(wanted)


def drops_since(world, before):
    now = counted(world)["drops"]
    return {why: now[why] - before[why] for why in now if now[why] != before[why]}


@pytest.mark.parametrize("what", [false_macs, vlan_tags, ethertypes, poisoned_arp, false_ipv4, false_ipv6, rogue_router,
                                  poisoned_nd, rogue_dhcp])
def test_frames(world, pair, what):
    """None of them gets anywhere, each is counted as what it is; the like that is lawful passes."""
    evil, victim, tap, bridge = pair
    hostile, lawful = what(*sides(pair))
    before = counted(world)["drops"]
    sniffers, seen = [Sniffer(tap), Sniffer(bridge)], set()
    # the lawful ones last: once they are there, all that was sent before is through
    send(evil, *(frame for frames_ in hostile.values() for frame in frames_), *lawful)

    def arrived():
        for sniffer in sniffers:
            seen.update(frame for _, _, frame in sniffer.frames())
        return all(frame in seen for frame in lawful)
    vdi.wait_until(arrived, 10, "the lawful ones")
    assert drops_since(world, before) == {why: len(frames_) for why, frames_ in hostile.items()}
    for why, frames_ in hostile.items():
        for frame in frames_:
            # a tag is told beside the frame
            assert frame not in seen and frame[:12] + frame[16:] not in seen, f"{why}: {frame.hex()}"
    if what is rogue_dhcp:
        assert vdi.guest_do(victim["ip"], "lease eth0") == victim["ip"]
    soon(evil, {f"ping {victim['ip']}": "ok", "ping 10.77.0.1": "ok"})


def seen_of(sniffer, marks):
    """Which of these marks came in a frame to the other side of the link?"""
    frames_ = [frame for out, _, frame in sniffer.frames() if out]
    return {mark for mark in marks if any(mark in frame for frame in frames_)}


def test_isolated(world, pair):
    evil, victim, tap, bridge = pair
    me, other, host = sides(pair)
    near = {b"unicast4": udp(other.mac, me.mac, me.ip, 9, other.ip, 9, b"unicast4"),
            b"unicast6": udp(other.mac, me.mac, me.ip6, 9, other.ip6, 9, b"unicast6"),
            b"broadcast": udp(ALL, me.mac, me.ip, 9, "10.77.0.255", 9, b"broadcast"),
            b"multicast4": udp("01:00:5e:00:00:fb", me.mac, me.ip, 9, "224.0.0.251", 9, b"multicast4"),
            b"multicast6": udp("33:33:00:00:00:01", me.mac, me.link_local, 9, "ff02::1", 9, b"multicast6")}
    # by the host's MAC, and by way of its address
    forged = {b"forged": udp(other.mac, host.mac, host.ip, 9, other.ip, 9, b"forged")}
    around = {b"around4": udp(host.mac, me.mac, me.ip, 9, other.ip, 9, b"around4"),
              b"around6": udp(host.mac, me.mac, me.ip6, 9, other.ip6, 9, b"around6")}
    everything = {**near, **forged, **around}

    def try_all():
        before = counted(world)["drops"]
        at_victim, at_host = Sniffer(tap), Sniffer(bridge)
        send(evil, *everything.values())
        assert vdi.guest_do(evil["ip"], "ping 10.77.0.1") == "ok"
        assert drops_since(world, before) == {"mac": 1, "detour": 2}
        # what is for all reaches the host in any case
        assert sum(b"cast" in frame for out, _, frame in at_host.frames() if not out) >= 3
        return seen_of(at_victim, everything)
    assert try_all() == set(near)
    world.call_when_free("network.update", network="lan", isolate_ports=True)
    assert try_all() == set()
    assert vdi.guest_do(evil["ip"], f"ping {victim['ip']}") != "ok"
    world.call_when_free("network.update", network="lan", isolate_ports=False)
    assert try_all() == set(near)
    assert vdi.guest_do(evil["ip"], f"ping {victim['ip']}") == "ok"


@pytest.mark.parametrize("lawful", [True, False], ids=["lawful", "forged"])
def test_flood_at_a_limit(world, pair, lawful):
    """Over its NIC's limit it loses what it sends itself, forged or not; the neighbour hears others."""
    evil, victim, tap, _ = pair
    me, other, _ = sides(pair)
    count = 2000
    frame = udp(other.mac, me.mac if lawful else EVIL_MAC, me.ip, 9, other.ip, 9, b"flood" * 200)
    world.call_when_free("desktop.nic.update", desktop="evil", nic=0, from_guest_kbit=2000)
    before = counted(world)["drops"]
    sniffer = Sniffer(tap)
    with socket.create_connection((evil["ip"], 8), 20) as sock:
        sock.sendall(f"send eth0 {frame.hex()} {count}\n".encode())
        assert vdi.guest_wait(victim["ip"])[1] == victim["mac"]
        assert vdi.guest_do(victim["ip"], "ping 10.77.0.1") == "ok"
        assert sock.makefile().readline() == "ok\n"
    world.call_when_free("desktop.nic.update", desktop="evil", nic=0, from_guest_kbit=0)
    vdi.wait_until(lambda: vdi.guest_do(evil["ip"], "ping 10.77.0.1") == "ok", 10, "the flood's end")
    heard = sum(out and b"floodflood" in seen for out, _, seen in sniffer.frames())
    dropped = drops_since(world, before)
    if lawful:
        assert 0 < heard < count and not dropped
    else:
        assert heard == 0 and 0 < dropped.pop("mac") < count and not dropped


def test_flood_of_exchanges(world, pair):
    """A port after the other, at the neighbour and at the host: it uses up what is its own."""
    evil, victim, *_ = pair
    me, other, host = sides(pair)
    port_at = 14 + 20 + 2
    for to, why in ((other, "flood_out"), (host, "flood_host")):
        world.call_when_free("network.firewall", network="lan", groups=["open"] if to is other else [])
        before = counted(world)["drops"]
        frame = udp(to.mac, me.mac, me.ip, 9, to.ip, 1000)
        assert vdi.guest_do(evil["ip"], f"send eth0 {frame.hex()} 6000 {port_at}") == "ok"
        assert 0 < drops_since(world, before)[why] < 6000
        # the neighbour's go on and begin
        soon(victim, {"ping 10.77.0.1": "ok", "resolve evil": evil["ip"], f"get {evil['ip']} 7": evil["mac"]})
        assert counted(world, "victim")["drops"][why] == 0
        # and its own, when it has stopped
        vdi.wait_until(lambda: vdi.guest_do(evil["ip"], "ping 10.77.0.1") == "ok", 10, "its own to begin")
    world.call_when_free("network.firewall", network="lan", groups=[])


def later(guest, script):
    """What the script says, when it has; run in the guest."""
    vdi.guest_do(guest["ip"], "remember nothing", f"later ({script}) >/tmp/said; mv /tmp/said /tmp/remembered")
    return vdi.wait_until(lambda: (said := vdi.guest_do(guest["ip"], "recall")) != "nothing" and said, 20, script, 0.3)


def test_flood_of_halves(world, pair):
    """Pieces of packets that never become whole: the host keeps them, and the neighbour's find room."""
    evil, victim, *_ = pair
    me, other, host = sides(pair)
    half = frames.first_half(host.mac, me.mac, me.ip6, host.ip6, bytes(1400))
    id_at = 14 + 40 + 6
    before = counted(world)["drops"]
    assert vdi.guest_do(evil["ip"], f"send eth0 {half.hex()} 8000 {id_at}") == "ok"
    assert 0 < drops_since(world, before)["flood_out"] < 8000
    ping = "ping -c 1 -W 10 -s 3000"
    later(victim, f"ip addr add {other.ip6}/64 dev eth0; sleep 2; echo done")
    for address in (host.ip, host.ip6):
        assert later(victim, f"{ping} {address} | grep -c ttl=") == "1"
    later(victim, f"ip addr del {other.ip6}/64 dev eth0; echo done")
    assert counted(world, "victim")["drops"]["flood_out"] == 0
    # and its own, when it has stopped
    vdi.wait_until(lambda: later(evil, f"{ping} {host.ip} | grep -c ttl=") == "1", 10, "its own")


def test_names_over_tcp(world, pair):
    """It holds all connections that dnsmasq will have at a time, but for what it may."""
    evil, victim, *_ = pair
    host = sides(pair)[2]
    question = r"\0\26ab\1\0\0\1\0\0\0\0\0\0\4evil\0\0\1\0\1"
    ask = f"printf '{question}' | nc -w 10 {host.ip} 53 | wc -c"
    assert int(later(victim, ask)) > 24
    before = counted(world)["drops"]
    assert later(evil, f"for i in $(seq 24); do sleep 60 | nc {host.ip} 53 & done; echo held") == "held"
    vdi.wait_until(lambda: drops_since(world, before).get("flood_host", 0) >= 20, 10, "those that are over")
    for _ in range(3):
        assert int(later(victim, ask)) > 24
    soon(evil, {"ping 10.77.0.1": "ok", "resolve victim": victim["ip"]})
    assert counted(world, "victim")["drops"]["flood_host"] == 0
    assert later(evil, "killall sleep; echo let go") == "let go"
    vdi.wait_until(lambda: int(later(evil, ask)) > 24, 20, "its own, when those are over")


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
