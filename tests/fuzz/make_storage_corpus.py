#!/usr/bin/env python3
"""Write the corpora of fuzz_chain, fuzz_format and fuzz_decompress: small inputs, whole and broken."""
import bz2
import gzip
import lzma
import os
import struct
import subprocess

from make_qcow2_corpus import FORMAT, SEEDS, extension, qcow2

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
NAMES = ["overlays/top", "overlays/a", "overlays/b", "images/a", "images/b", "images/c", "images/d", "backups/a"]
REGULAR, FIFO, SUBFOLDER, LINK, HARD_LINK = range(5)


def layer(name, backing=None, kind=REGULAR, other=0, form=b"qcow2"):
    """One file of a chain, as fuzz_chain reads it."""
    extensions = extension(FORMAT, form) + extension(0) if backing else b""
    data = b"" if kind else qcow2(extensions=extensions, backing=backing.encode() if backing else b"")
    return struct.pack("<BBH", kind, NAMES.index(name) + len(NAMES) * other, len(data)) + data


def below(name):
    return layer("overlays/top", "../" + name)


CHAIN = {
    "alone": layer("overlays/top"),
    "clone": below("images/a") + layer("images/a"),
    "deep": below("overlays/a") + layer("overlays/a", "../images/a") + layer("images/a", "../images/b")
    + layer("images/b"),
    "too-deep": below("overlays/a") + layer("overlays/a", "../overlays/b")
    + layer("overlays/b", "../images/a") + layer("images/a", "../images/b") + layer("images/b"),
    "itself": below("overlays/top"),
    "circle": below("images/a") + layer("images/a", "../overlays/top"),
    "two-names": below("images/a") + layer("images/a", kind=HARD_LINK, other=0),
    "missing": below("images/a"),
    "outside": layer("overlays/top", "/etc/passwd"),
    "climbing": layer("overlays/top", "../images/../../etc/passwd"),
    "protocol": layer("overlays/top", 'json:{"driver":"nbd"}'),
    "raw-below": layer("overlays/top", "../images/a", form=b"raw") + layer("images/a"),
    "fifo-below": below("images/a") + layer("images/a", kind=FIFO),
    "folder-below": below("images/a") + layer("images/a", kind=SUBFOLDER),
    "link-below": below("images/a") + layer("images/a", kind=LINK),
    "fifo": layer("overlays/top", kind=FIFO),
    "backup": below("backups/a") + layer("backups/a"),
}


def vdi(size, head=b"<<< Oracle VM VirtualBox Disk Image >>>\n"):
    return (head.ljust(64, b"\0") + b"\x7f\x10\xda\xbe").ljust(0x170, b"\0") + struct.pack("<Q", size)


def vmdk(sectors, at, text=b""):
    head = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, sectors, 128, at, 20, 512, 21, 26, 128)
    return head.ljust(512, b"\0") + text


IMAGES = {
    **{name: SEEDS[name] for name in ("v3", "backing", "data-file", "encrypted", "huge", "short")},
    "raw": b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa",
    "half-a-sector": bytes(700),
    "vmdk": vmdk(2048, 1, b"# Disk DescriptorFile\nversion=1\n"),
    "vmdk-parent": vmdk(2048, 1, b'parentFileNameHint="/etc/passwd"\n'),
    "vmdk-other-files": vmdk(0, 1, b'RW 2048 FLAT "/etc/passwd" 0\n'),
    "vmdk-far": vmdk(2048, 1 << 62),
    "vmdk-huge": vmdk(1 << 63, 1),
    "vmdk-text": b"# Disk DescriptorFile\nversion=1\n",
    "cowd": b"COWD" + bytes(100),
    "vdi": vdi(1 << 20),
    "vdi-huge": vdi((1 << 64) - 1),
    "vdi-empty": vdi(0),
    "vhdx": b"vhdxfile" + bytes(600),
    "vhd": b"conectix" + bytes(600),
    "qed": b"QED\0" + bytes(60),
    "luks": b"LUKS\xba\xbe\0\1" + bytes(60),
    "parallels": b"WithoutFreeSpace" + bytes(60),
    "tar": (b"disk.vmdk".ljust(257, b"\0") + b"ustar\x0000").ljust(512, b"\0"),
    "gzip": gzip.compress(b"x"),
    "bzip2": bz2.compress(b"x"),
    "zip": b"PK\3\4" + bytes(30),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(30),
    "empty": b"",
}

TEXT = b"some text, " * 20 + bytes(300) + bytes(range(256))


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def xz(data, **options):
    return lzma.compress(data, lzma.FORMAT_XZ, **options)


def streams():
    big = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    for name, pack in (("gzip", gzip.compress), ("xz", xz), ("zstd", zstd)):
        packed = pack(TEXT)
        yield name, packed
        yield name + "-two", packed + pack(b"")
        yield name + "-garbage", packed + b"something else"
        yield name + "-padded", packed + bytes(8)
        yield name + "-broken", packed[:30] + bytes([packed[30] ^ 0x55]) + packed[31:]
        yield name + "-zeros", pack(bytes(1 << 20))
        yield name + "-wrong-sum", packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]
    yield "xz-large-window", xz(TEXT, filters=big)
    yield "xz-none", xz(TEXT, check=lzma.CHECK_NONE)
    yield "zstd-skipped", struct.pack("<II", 0x184D2A50, 4) + b"skip" + zstd(TEXT)
    # a frame that says of itself that it has 2^60 bytes, in a window of 2 GiB
    yield "zstd-claims", b"\x28\xb5\x2f\xfd\xc0\xa8" + struct.pack("<Q", 1 << 60) + b"\1\0\0"
    yield "plain", TEXT


def write(name, seeds):
    folder = os.path.join(FOLDER, name)
    os.makedirs(folder, exist_ok=True)
    for seed, data in seeds.items():
        with open(os.path.join(folder, seed), "wb") as out:
            out.write(data)


def main():
    write("chain", CHAIN)
    write("format", IMAGES)
    # each as a whole, and in the smallest steps; one as what it is not
    packed = {}
    for name, data in streams():
        packed[name] = b"\0" + data
        packed[name + "-slow"] = b"\x0c" + data
    packed["xz-as-gzip"] = b"\x81" + xz(TEXT)
    packed["gzip-as-zstd"] = b"\x83" + gzip.compress(TEXT)
    packed["text-as-xz"] = b"\x82" + TEXT
    write("decompress", packed)


if __name__ == "__main__":
    main()
