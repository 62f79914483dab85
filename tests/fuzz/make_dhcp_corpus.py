#!/usr/bin/env python3
"""Write the corpus of fuzz_dhcp: answers of DHCP servers as packets, and as nfnetlink_log tells them."""
import os
import struct

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "dhcp")
MAC = bytes([0x52, 0x54, 0, 0, 0, 0xA])
PAD, END = b"\0", b"\xff"
OVERLOAD_FILE, OVERLOAD_SNAME = 1, 2
PACKET, CONFIG = 4 << 8, 4 << 8 | 1
PACKET_HDR, IFINDEX_OUTDEV, PAYLOAD = 1, 5, 9


def option(code, value):
    return struct.pack("BB", code, len(value)) + value


ACK = option(53, b"\5")
SERVER = option(54, bytes([10, 9, 8, 2]))
HOUR = option(51, struct.pack(">I", 3600))
REST = option(1, b"\xff\xff\xff\0") + option(3, bytes([10, 9, 8, 1])) + option(15, b"office")


def bootp(options, file=b"", sname=b"", padded=0):
    head = struct.pack(">BBBB4sHH", 2, 1, 6, 0, b"id..", 0, 0) + bytes(4) + bytes([10, 9, 8, 10]) + bytes(8)
    message = head + MAC + bytes(10) + sname.ljust(64, PAD) + file.ljust(128, PAD) + b"\x63\x82\x53\x63" + options
    return message.ljust(padded, PAD)


def packet(message, in_front=b""):
    udp = struct.pack(">HHHH", 67, 68, 8 + len(message), 0) + message
    head = 20 + len(in_front)
    return struct.pack(">BBHHHBBH", 0x40 | head // 4, 0, head + len(udp), 1, 0, 64, 17, 0) + bytes(
        [10, 9, 8, 2, 255, 255, 255, 255]) + in_front + udp


def attribute(kind, value):
    return (struct.pack("=HH", 4 + len(value), kind) + value).ljust((len(value) + 7) & ~3, PAD)


def told(*attributes, kind=PACKET):
    body = struct.pack("=BBH", 7, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


GOOD = packet(bootp(ACK + SERVER + HOUR + REST + END, padded=300))
LOGGED = told(attribute(PACKET_HDR, b"\x08\0\4\0"), attribute(IFINDEX_OUTDEV, struct.pack(">I", 3)),
              attribute(PAYLOAD, GOOD))

INPUTS = {
    "ack": GOOD,
    "ack-no-end": packet(bootp(HOUR + SERVER + ACK)),
    "ack-pads": packet(bootp(PAD * 3 + ACK + PAD + HOUR + PAD + SERVER + END + ACK, padded=548)),
    "ip-options": packet(bootp(ACK + SERVER + HOUR + END), b"\x94\4\0\0"),
    "overload-file": packet(bootp(option(52, bytes([OVERLOAD_FILE])) + END, file=ACK + HOUR + END)),
    "overload-both": packet(bootp(HOUR + option(52, bytes([OVERLOAD_FILE | OVERLOAD_SNAME])) + END,
                                  file=SERVER + END, sname=PAD * 61 + ACK)),
    "overload-over": packet(bootp(option(52, bytes([OVERLOAD_FILE])) + END, file=PAD * 126 + ACK[:2])),
    "over-the-end": packet(bootp(ACK + HOUR + b"\x0c\xff" + b"a")),
    "bootp": packet(bootp(b"")),
    "logged": LOGGED,
    "logged-twice": LOGGED + LOGGED,
    "logged-other": told(attribute(PAYLOAD, GOOD), kind=CONFIG) + told(attribute(PACKET_HDR, bytes(4))),
    "logged-empty": told(attribute(PAYLOAD, b"")),
    "logged-too-long": told(struct.pack("=HH", 0xFFFF, PAYLOAD) + GOOD),
    "logged-too-short": told(struct.pack("=HH", 2, PAYLOAD) + GOOD),
}

if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    for name, data in INPUTS.items():
        with open(os.path.join(FOLDER, name), "wb") as f:
            f.write(data)
