#!/usr/bin/env python3
"""Write the corpus of fuzz_qcow2: heads of images, whole and broken, each under a kilobyte."""
import os
import struct
import sys

CLUSTER_BITS = 9
CLUSTER = 1 << CLUSTER_BITS


def qcow2(version=3, size=1 << 20, bits=CLUSTER_BITS, crypt=0, l1=32, l1_at=3 * CLUSTER,
          table_at=CLUSTER, tables=1, snapshots=0, features=0, order=4, length=104,
          extensions=b"", backing=b"", compression=0):
    backing_at = length + len(extensions) if backing else 0
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing_at, len(backing), bits,
                       size, crypt, l1, l1_at, table_at, tables, snapshots, 4 * CLUSTER)
    if version > 2:
        head += struct.pack(">QQQII", features, 0, 0, order, length) + bytes([compression])
    head = (head + b"\0" * 64)[:length] if version > 2 else head
    body = (head + extensions + backing).ljust(CLUSTER, b"\0")
    return body + struct.pack(">Q", 2 * CLUSTER)


def extension(kind, data=b""):
    return struct.pack(">II", kind, len(data)) + data.ljust((len(data) + 7) & ~7, b"\0")


FORMAT, DATA_FILE, LUKS = 0xE2792ACA, 0x44415441, 0x0537BE77
SEEDS = {
    "v3": qcow2(),
    "v2": qcow2(version=2),
    "compressed": qcow2(features=8, length=112, compression=1),
    "backing": qcow2(extensions=extension(FORMAT, b"raw") + extension(0), backing=b"/etc/passwd"),
    "data-file": qcow2(extensions=extension(DATA_FILE, b"/etc/passwd")),
    "data-bit": qcow2(features=4),
    "corrupt": qcow2(features=2),
    "dirty": qcow2(features=1),
    "unknown-bit": qcow2(features=1 << 40),
    "encrypted": qcow2(crypt=2),
    "luks": qcow2(extensions=extension(LUKS, b"\0" * 16)),
    "snapshots": qcow2(snapshots=3),
    "huge": qcow2(size=1 << 63),
    "wide-cluster": qcow2(bits=63),
    "far-tables": qcow2(l1_at=1 << 62, table_at=1 << 61),
    "endless": qcow2(extensions=extension(7) * 48),
    "short": qcow2()[:90],
    "vmdk": struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, 2048, 128, 1, 20, 512, 21, 26,
                        128).ljust(512, b"\0") + b'parentFileNameHint="/etc/passwd"\n',
    "vdi": (b"\0" * 64 + b"\x7f\x10\xda\xbe").ljust(0x170, b"\0") + struct.pack("<Q", 1 << 20),
    "vhdx": b"vhdxfile" + b"\0" * 32,
    "gzip": b"\x1f\x8b\x08\0",
    "empty": b"",
}


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "corpus", "qcow2")
    os.makedirs(folder, exist_ok=True)
    for name, data in SEEDS.items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)


if __name__ == "__main__":
    main()
