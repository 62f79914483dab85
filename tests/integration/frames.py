"""Frames as a guest may send them, honest or not."""
import socket
import struct

ALL = "ff:ff:ff:ff:ff:ff"
HOP_BY_HOP, IGMP, UDP, FRAGMENT, ICMPV6 = 0, 2, 17, 44, 58


def mac_bytes(mac):
    return bytes.fromhex(mac.replace(":", ""))


def address(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def link_local(mac):
    """The address that derives from a MAC (EUI-64)."""
    raw = mac_bytes(mac)
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] +
                            b"\xff\xfe" + raw[3:])


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ether(to, source, kind, payload):
    return mac_bytes(to) + mac_bytes(source) + struct.pack("!H", kind) + payload


def tagged(frame, *tags):
    """With VLAN tags, the outer one first: (0x8100 or 0x88a8, VLAN)."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


def arp(to, source, operation, sender, sender_ip, target_ip):
    return ether(to, source, 0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac_bytes(sender) +
                 address(sender_ip) + mac_bytes(to) + address(target_ip))


def ip(to, source, sender, target, protocol, payload):
    ends = address(sender) + address(target)
    if ":" in sender:
        return ether(to, source, 0x86dd, struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + ends + payload)
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol)
    return ether(to, source, 0x0800, head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + payload)


def udp(to, source, sender, port, target, target_port, payload=b"payload."):
    """IPv4 may do without a checksum; IPv6 has one."""
    size = 8 + len(payload)
    body = struct.pack("!HHHH", port, target_port, size, 0) + payload
    if ":" in sender:
        pseudo = address(sender) + address(target) + struct.pack("!II", size, UDP)
        body = body[:6] + struct.pack("!H", checksum(pseudo + body) or 0xffff) + payload
    return ip(to, source, sender, target, UDP, body)


def first_half(to, source, sender, target, payload):
    """Of a datagram over IPv6; the rest is yet to come."""
    return ip(to, source, sender, target, FRAGMENT, struct.pack("!BBHI", UDP, 0, 1, 0) + payload)


def igmp(source, sender, kind, group):
    body = bytes([kind, 0, 0, 0]) + address(group)
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ip(multicast_mac("224.0.0.1"), source, sender, "224.0.0.1", IGMP, body)


def icmpv6(sender, target, payload):
    """The payload with its checksum."""
    pseudo = address(sender) + address(target) + struct.pack("!II", len(payload), ICMPV6)
    return payload[:2] + struct.pack("!H", checksum(pseudo + payload)) + payload[4:]


def mld(source, sender, kind, group):
    """Behind the option that routers look at it, as all of these are (RFC 2711)."""
    body = icmpv6(sender, "ff02::1", bytes([kind]) + bytes(7) + address(group))
    return ip(multicast_mac("ff02::1"), source, sender, "ff02::1", HOP_BY_HOP,
              bytes([ICMPV6, 0, 5, 2, 0, 0, 1, 0]) + body)


def multicast_mac(target):
    raw = address(target)
    if ":" in target:
        return "33:33:" + raw[12:].hex(":")
    return "01:00:5e:" + bytes([raw[1] & 0x7f, *raw[2:]]).hex(":")


def nd(source, sender, target, kind, body=b"", *options, to=None):
    """Neighbour discovery: kind and what follows the checksum; options are (type, MAC)."""
    payload = struct.pack("!BBH", kind, 0, 0) + body + b"".join(
        bytes([option, 1]) + mac_bytes(mac) for option, mac in options)
    return ip(to or multicast_mac(target), source, sender, target, ICMPV6, icmpv6(sender, target, payload))


def dhcp(source, sender, target, client, kind, relay="0.0.0.0", wish=None, server=None, to=ALL,
         ports=(68, 67)):
    """From a client, or with other ports from a server. client: the MAC that it is for."""
    options = bytes([53, 1, kind])
    if wish:
        options += bytes([50, 4]) + address(wish)
    if server:
        options += bytes([54, 4]) + address(server)
    answer = ports[0] == 67
    payload = struct.pack("!BBBBIHH12s4s6s202xI", 2 if answer else 1, 1, 6, 0, 0x7a7a7a7a, 0, 0x8000,
                          (bytes(4) + address(wish) + bytes(4)) if answer and wish else b"", address(relay),
                          mac_bytes(client), 0x63825363) + options + b"\xff"
    return udp(to, source, sender, ports[0], target, ports[1], payload)
