"""Imports through both halves: every kind of file that is not an image, or not a safe one, is refused by
the name of its fault, and the store is as it was."""
import gzip
import lzma
import os
import pathlib
import socket
import stat
import struct
import subprocess

import pytest
import vdi


@pytest.fixture(scope="module")
def daemon(build, vdi_user):
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    yield daemon
    daemon.done()


@pytest.fixture
def folder(daemon, tmp_path):
    """Where the sources lie; what the store held before is what it holds after, but for new images."""
    for path in (tmp_path, *list(tmp_path.parents)[:-1]):
        path.chmod(path.stat().st_mode | 0o055)
    yield tmp_path
    images = daemon.call("image.list")["items"]
    assert "importing" not in [image["state"] for image in images]
    files = sorted(path.name for path in (daemon.state / "images").iterdir())
    assert files == sorted(image["id"] + ".qcow2" for image in images)
    assert list((daemon.state / "tmp").iterdir()) == []
    assert "qemu-img" not in vdi.our_processes().values()


def qemu_img(*args):
    subprocess.run(["qemu-img", *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def import_fd(daemon, path, name="image", flags=os.O_RDONLY | os.O_NONBLOCK, **params):
    fd = os.open(path, flags)
    try:
        return daemon.call("image.import", fds=[fd], name=name, wait=True, **params)
    finally:
        os.close(fd)


def poke(path, offset, layout, value):
    with open(path, "r+b") as image:
        image.seek(offset)
        image.write(struct.pack(layout, value))


def cut(path, size):
    os.truncate(path, size)


def qcow2(path, *options, size="8M"):
    qemu_img("create", "-q", "-f", "qcow2", *options, path, size)


def full_qcow2(path):
    raw = path.with_suffix(".raw")
    raw.write_bytes(os.urandom(4 << 20))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)


def broken(path, offset, layout, value):
    qcow2(path)
    poke(path, offset, layout, value)


def data_file(path):
    qcow2(path, "-o", f"data_file={path.with_suffix('.data')}")


def hidden_data_file(path):
    data_file(path)
    poke(path, 72, ">Q", 0)


def lost_end(path):
    full_qcow2(path)
    cut(path, 2 << 20)


def lost_header(path):
    qcow2(path)
    cut(path, 90)


def packed(path, *options):
    qcow2(path, *options)
    path.write_bytes(gzip.compress(path.read_bytes()))


HOSTILE = {
    "truncated header": (lost_header, "corrupt", "truncated"),
    "truncated data": (lost_end, "corrupt", "truncated"),
    "marked corrupt": (lambda p: broken(p, 72, ">Q", 2), "corrupt", "marked as corrupt"),
    "table outside": (lambda p: broken(p, 40, ">Q", 1 << 40), "corrupt", "L1 table"),
    "table inside the header": (lambda p: broken(p, 48, ">Q", 0), "corrupt", "refcount table"),
    "unknown feature": (lambda p: broken(p, 72, ">Q", 1 << 20), "unsupported", "incompatible features"),
    "encrypted": (lambda p: broken(p, 32, ">I", 2), "unsupported", "encrypted"),
    "huge": (lambda p: broken(p, 24, ">Q", 1 << 60), "limit", "virtual size"),
    "backing file": (lambda p: qcow2(p, "-u", "-b", "/etc/passwd", "-F", "raw"), "unsupported",
                     "/etc/passwd"),
    "backing by network": (lambda p: qcow2(p, "-u", "-b", "nbd://127.0.0.1:1/x", "-F", "raw"),
                           "unsupported", "nbd://127.0.0.1:1/x"),
    "backing by options": (lambda p: qcow2(p, "-u", "-b", 'json:{"driver":"file","filename":"/etc/passwd"}', "-F",
                                           "raw"), "unsupported", "json:"),
    "backing of a folder": (lambda p: qcow2(p, "-u", "-b", "fat:/etc", "-F", "raw"), "unsupported", "fat:/etc"),
    "data file": (data_file, "unsupported", "data file"),
    "data file without its bit": (hidden_data_file, "unsupported", "data file"),
    "empty": (lambda p: p.write_bytes(b""), "corrupt", "empty"),
    "packed": (lambda p: p.write_bytes(b"\x1f\x8b\x08\0" * 200), "corrupt", "gzip"),
    "packed backing file": (lambda p: packed(p, "-u", "-b", "/etc/passwd", "-F", "raw"), "unsupported",
                            "/etc/passwd"),
    "packed twice": (lambda p: p.write_bytes(gzip.compress(gzip.compress(bytes(1000)))), "unsupported",
                     "gzip"),
    "packed and cut": (lambda p: p.write_bytes(lzma.compress(os.urandom(10000))[:5000]), "corrupt",
                       "truncated"),
    "packed with more behind it": (lambda p: p.write_bytes(gzip.compress(bytes(1000)) + b"more"), "corrupt",
                                   "follows"),
    "archive": (lambda p: subprocess.run(["tar", "-cf", p, "-C", "/etc", "hostname"], check=True),
                "unsupported", "tar"),
    "descriptor of other files": (lambda p: p.write_text("# Disk DescriptorFile\n" * 30), "unsupported",
                                  "VMDK descriptor"),
    "directory": (pathlib.Path.mkdir, "unsupported", "directory"),
    "device": (lambda p: os.mknod(p, stat.S_IFCHR | 0o666, os.makedev(1, 5)), "unsupported", "device"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("how", ("descriptor", "path"))
def test_hostile(daemon, folder, kind, how):
    make, error, word = HOSTILE[kind]
    path = folder / "image"
    make(path)
    if how == "path":
        path.chmod(path.stat().st_mode | 0o055)
    with pytest.raises(vdi.RpcError) as caught:
        if how == "path":
            daemon.call("image.import", name="image", path=str(path), wait=True)
        else:
            import_fd(daemon, path)
    assert caught.value.kind == error and word in str(caught.value), caught.value


def test_paths(daemon, folder):
    """The daemon opens a path with its own rights, and only what the path itself names."""
    image = folder / "image"
    qcow2(image)
    (folder / "link").symlink_to(image)
    (folder / "secret").write_bytes(image.read_bytes())
    (folder / "secret").chmod(0o600)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    os.mkfifo(folder / "fifo")
    for name, kind, word in (("fifo", "unsupported", "FIFO"), ("link", "unsupported", "symbolic link"), ("gone", "not_found", "gone"),
                             ("secret", "denied", "Permission denied"), ("socket", "unsupported", "socket")):
        with pytest.raises(vdi.RpcError) as caught:
            daemon.call("image.import", name="image", path=str(folder / name), wait=True)
        assert caught.value.kind == kind and word in str(caught.value), caught.value
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("image.import", name="image", path="image", wait=True)
    assert caught.value.field == "path"
    listener.close()


def test_own_rights_suffice(daemon, folder):
    """A file that only its owner may read goes in by descriptor, and so does one at a path for all."""
    source = folder / "image"
    full_qcow2(source)
    found = []
    for mode, owner in ((0o600, 0), (0o600, 12345), (0o644, 0), (0o666, 12345)):
        source.chmod(mode)
        os.chown(source, owner, owner)
        found.append(import_fd(daemon, source, name="owned", description="of one"))
    assert daemon.call("image.import", name="owned", path=str(source), wait=True)
    images = [i for i in daemon.call("image.list")["items"] if i["name"] == "owned"]
    assert [i["version"] for i in images] == [1, 2, 3, 4, 5]
    for image in images:
        path = daemon.state / "images" / f"{image['id']}.qcow2"
        assert stat.S_IMODE(path.stat().st_mode) == 0o440
        qemu_img("compare", "-f", "qcow2", "-F", "qcow2", source, path)
        chain = daemon.call("image.chain", image=image["id"])["files"]
        assert [layer["file"] for layer in chain] == [path.name]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A disk of 48 MiB with some data, and the file as whose part it lies."""
    path = tmp_path_factory.mktemp("content") / "disk.raw"
    with open(path, "wb") as disk:
        disk.truncate(48 << 20)
        disk.seek(5 << 20)
        disk.write(os.urandom(3 << 20))
    return path


def same(daemon, content, name):
    """Is the newest version of that name this disk, and clean?"""
    image = max((i for i in daemon.call("image.list")["items"] if i["name"] == name),
                key=lambda i: i["version"])
    path = daemon.state / "images" / f"{image['id']}.qcow2"
    qemu_img("compare", "-f", "raw", "-F", "qcow2", content, path)
    qemu_img("check", "-q", "-f", "qcow2", path)
    # the zeros of a file that was never sparse take no room either
    assert image["file_size_bytes"] < 5 << 20


@pytest.mark.parametrize("tool", ("gzip -1", "xz -0", "zstd -q"))
@pytest.mark.parametrize("inner", ("raw", "qcow2", "vmdk"))
def test_packed(daemon, folder, content, tool, inner):
    """Whatever it is packed with and in whatever format; its checksum is that of the file as it is."""
    source, name = folder / "source", f"packed-{inner}"
    qemu_img("convert", "-f", "raw", "-O", inner, content, folder / "inner")
    with open(source, "wb") as out:
        subprocess.run([*tool.split(), "-c", folder / "inner"], check=True, stdout=out)
    right = subprocess.run(["sha256sum", source], check=True, capture_output=True, text=True).stdout[:64]
    import_fd(daemon, source, name=name, sha256=right, format=inner)
    same(daemon, content, name)
    source.chmod(0o644)
    daemon.call("image.import", name=name, path=str(source), wait=True)
    same(daemon, content, name)
    for wrong in ({"sha256": "0" * 64}, {"format": "vhdx"}):
        with pytest.raises(vdi.RpcError) as caught:
            import_fd(daemon, source, name=name, **wrong)
        assert caught.value.kind in ("corrupt", "unsupported")


@pytest.mark.parametrize("command", ("cat {}", "xz -0 -c {}", "zstd -q -c {}", "dd if={} bs=7k"))
def test_piped(daemon, folder, content, build, command):
    """`... | vdictl image import NAME --path -`"""
    run = f"{command.format(content)} 2>/dev/null | {build}/vdictl/vdictl --socket {daemon.socket} "
    subprocess.run(run + "image import piped --path -", shell=True, check=True, stdout=subprocess.DEVNULL)
    same(daemon, content, "piped")
    # and a file in the pipe's place
    subprocess.run(f"{build}/vdictl/vdictl --socket {daemon.socket} image import piped --path - < {content}",
                   shell=True, check=True, stdout=subprocess.DEVNULL)
    same(daemon, content, "piped")


def test_pipe_that_ends_early(daemon, folder, content):
    """What a packed stream says of its own end is believed, and what a qcow2 header says, too."""
    qemu_img("convert", "-f", "raw", "-O", "qcow2", content, folder / "inner")
    for command in (f"gzip -1 -c {content} | head -c 100000", f"head -c 2000000 {folder}/inner", "true"):
        with subprocess.Popen(command, shell=True, stdout=subprocess.PIPE) as run, \
                pytest.raises(vdi.RpcError) as caught:
            daemon.call("image.import", fds=[run.stdout.fileno()], name="image", wait=True)
        assert caught.value.kind == "corrupt", caught.value


def test_silent_pipe(daemon, folder):
    """Nobody is held up by it, its progress knows no total, and it can be cancelled."""
    read, write = os.pipe()
    job = daemon.call("image.import", fds=[read], name="silent")["job"]
    os.write(write, b"x" * 5000)
    shown = vdi.wait_until(lambda: next((j for j in [daemon.call("job.get", job=job)] if j["done"]), None), 5,
                           "progress")
    assert (shown["done"], shown["total"], shown["unit"]) == (5000, 0, "bytes")
    daemon.call("job.cancel", job=job)
    assert daemon.call("job.wait", job=job)["state"] == "cancelled"
    # neither end of it is anybody's any more
    os.close(read)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)


def test_write_only_descriptor(daemon, folder):
    qcow2(folder / "image")
    with pytest.raises(vdi.RpcError) as caught:
        import_fd(daemon, folder / "image", flags=os.O_WRONLY)
    assert caught.value.kind == "denied"


def test_checksum(daemon, folder):
    qcow2(folder / "image")
    right = subprocess.run(["sha256sum", folder / "image"], check=True, capture_output=True,
                           text=True).stdout.split()[0]
    import_fd(daemon, folder / "image", name="summed", sha256=right)
    with pytest.raises(vdi.RpcError) as caught:
        import_fd(daemon, folder / "image", name="summed", sha256="0" * 64)
    assert caught.value.kind == "corrupt" and right in str(caught.value)


@pytest.mark.parametrize("packed", (False, True))
def test_cancel(daemon, folder, packed):
    """A job that is stopped ends as such, wherever it was."""
    source = folder / "image"
    with open(source, "wb") as image:
        for _ in range(96):
            image.write(os.urandom(1 << 20))
    if packed:
        subprocess.run(["zstd", "-q", "-1", "--rm", source, "-o", folder / "packed"], check=True)
        source = folder / "packed"
    def cancelled():
        fd = os.open(source, os.O_RDONLY)
        job = daemon.call("image.import", fds=[fd], name="cancelled")["job"]
        os.close(fd)
        try:
            daemon.call("job.cancel", job=job)
        except vdi.RpcError as error:
            assert error.kind == "conflict", error  # it was over
        ended = daemon.call("job.wait", job=job)
        if ended["state"] == "done":
            daemon.call("image.delete", image=ended["result"]["image"])
            return None
        return ended["state"]
    assert vdi.wait_until(cancelled, 20, "one that is cancelled in time") == "cancelled"
    assert "cancelled" not in [i["name"] for i in daemon.call("image.list")["items"]]
