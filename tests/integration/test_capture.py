"""A desktop whose guest wrote known data becomes a version of its image, and goes on; and its disk is
exported meanwhile."""
import os
import subprocess

import pytest
import vdi
from test_backup import cancel_and_refuse_another


@pytest.fixture(scope="module")
def guest(world):
    world.create_desktop("ada", "lan", start=True, data_disk_gib=1)
    vdi.guest_wait(world.desktop("ada")["ip"])
    return world


def ip(daemon, name="ada"):
    return daemon.desktop(name)["ip"]


def write(daemon, **blocks):
    for block, text in blocks.items():
        assert vdi.guest_do(ip(daemon), f"write {block[1:]} {text}") == "ok"
    assert vdi.guest_do(ip(daemon), "sync") == "ok"


def idle(daemon, name="ada"):
    """What was held still for it is merged again."""
    vdi.wait_until(lambda: daemon.desktop(name)["work"] is None, 30, "the layers to be merged")


def capture(daemon, desktop="ada", **params):
    result = daemon.call("image.capture", desktop=desktop, wait=True, **params)["result"]
    vdi.wait_until(lambda: not layers_of(daemon, desktop), 30, "the frozen layers to be merged")
    idle(daemon, desktop)
    return result


def layers_of(daemon, name):
    """Files of the system disk beside the one that is written to and those of snapshots."""
    snapshots = len(daemon.call("desktop.snapshot.list", desktop=name)["items"])
    chain = [path for path in (daemon.state / "overlays").glob(daemon.desktop(name)["id"] + "-*")]
    disks = 2 if name == "ada" else 1
    return len(chain) - disks * (1 + snapshots)


def export(daemon, path, desktop="ada", **params):
    with open(path, "w+b") as file, daemon.client() as client:
        job = client.call("image.export", fds=[file.fileno()], desktop=desktop, wait=True, **params)
    idle(daemon, desktop)
    return job["result"]


def reads(daemon, image, *blocks):
    """What a clone of the version reads."""
    daemon.create_desktop("eve", "lan", image=image, start=True)
    vdi.guest_wait(ip(daemon, "eve"))
    answer = vdi.guest_do(ip(daemon, "eve"), *[f"read {block}" for block in blocks])
    daemon.call("desktop.delete", desktop="eve", force=True)
    return answer


def block_of(text):
    return (text + b"\n").ljust(512, b"\0")


def raw_of(daemon, image):
    path = daemon.root / "raw"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    daemon_export = {"image": image, "format": "raw", "wait": True}
    with daemon.client() as client:
        client.call("image.export", fds=[fd], **daemon_export)
    os.close(fd)
    data = path.read_bytes()
    path.unlink()
    return data


def test_linked(guest):
    boot = vdi.guest_do(ip(guest), "boot")
    write(guest, b1="first")
    made = capture(guest, publish=True, trim=True, description="one more")
    assert made["linked"] and made["quiesced"] and (made["name"], made["version"]) == ("guest", 2)
    # it never stopped, and what it writes now is its own
    assert vdi.guest_do(ip(guest), "boot") == boot
    write(guest, b1="later")
    image = guest.call("image.get", image="guest:2")
    assert image["state"] == "published" and image["parent"] and image["description"] == "one more"
    assert len(guest.call("image.chain", image="guest:2")["files"]) == 2
    path = guest.state / "images" / (image["id"] + ".qcow2")
    assert path.stat().st_mode & 0o777 == 0o440
    assert subprocess.run(["sha256sum", path], check=True, capture_output=True,
                          text=True).stdout.split()[0] == image["sha256"]
    assert reads(guest, "guest:2", 1) == "first"
    assert vdi.guest_do(ip(guest), "read 1") == "later"


def test_linked_within_the_depth(guest):
    """Clones of clones of clones, up to the image's depth; then a version stands on nothing."""
    for name, linked, files in (("eve", True, 3), ("zoe", False, 1)):
        version = guest.call("image.get", image="guest")["version"]
        guest.create_desktop(name, image=f"guest:{version}")
        made = capture(guest, name, publish=True)
        assert made["linked"] == linked and made["quiesced"]
        assert len(guest.call("image.chain", image=made["image"])["files"]) == files
        assert guest.desktop(name)["state"] == "stopped"
    assert block_of(b"first") in raw_of(guest, "guest")
    for name in ("eve", "zoe"):
        guest.call("desktop.delete", desktop=name)


def test_flattened_under_another_name(guest):
    write(guest, b2="second")
    made = capture(guest, name="golden", flatten=True)
    assert not made["linked"] and (made["name"], made["version"]) == ("golden", 1)
    image = guest.call("image.get", image="golden")
    assert image["state"] == "draft" and image["parent"] is None
    data = raw_of(guest, "golden")
    assert block_of(b"later") in data and block_of(b"second") in data
    path = guest.state / "images" / (image["id"] + ".qcow2")
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)


def test_with_snapshots(guest):
    """Several files of its own are made into one."""
    guest.call("desktop.snapshot.create", desktop="ada", name="one")
    write(guest, b3="third")
    made = capture(guest)
    assert not made["linked"]
    data = raw_of(guest, made["image"])
    assert block_of(b"third") in data and block_of(b"second") in data


def test_shut_down_for_it(guest):
    boot = vdi.guest_do(ip(guest), "boot")
    made = capture(guest, shutdown=True, flatten=True)
    assert made["quiesced"]
    vdi.wait_until(lambda: guest.desktop("ada")["state"] == "running", 20, "it to run again")
    vdi.guest_wait(ip(guest))
    assert vdi.guest_do(ip(guest), "boot") != boot


def test_export_while_it_runs(guest, tmp_path):
    """Each disk, flattened and as a chain that unpacks into one that can be opened."""
    write(guest, b4="fourth")
    result = export(guest, tmp_path / "disk.raw", format="raw")
    assert result["quiesced"]
    write(guest, b4="later")
    assert block_of(b"fourth") in (tmp_path / "disk.raw").read_bytes()
    result = export(guest, tmp_path / "disk.tar", chain=True)
    subprocess.run(["tar", "-C", tmp_path, "-xf", tmp_path / "disk.tar"], check=True)
    top = tmp_path / "ada" / "overlays" / result["files"][0]
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", top, tmp_path / "out"], check=True)
    assert block_of(b"later") in (tmp_path / "out").read_bytes()
    result = export(guest, tmp_path / "data", disk="data")
    assert result["virtual_size_bytes"] == 1 << 30


def test_busy_and_cancelled(guest):
    def cancelled():
        """None when it was done before that."""
        images = guest.call("image.list")["items"]
        state = cancel_and_refuse_another(guest, "image.capture", desktop="ada", flatten=True)
        idle(guest)
        if state == "done":
            return None
        assert guest.call("image.list")["items"] == images
        return state
    assert vdi.wait_until(cancelled, 20, "one that is cancelled in time") == "cancelled"
    assert list((guest.state / "tmp").iterdir()) == []
    # and it is free for the next
    idle(guest)
    capture(guest, name="again")


def test_refused(guest):
    for params, kind in (({"desktop": "none"}, "not_found"), ({"name": "Not a name"}, None)):
        with pytest.raises(vdi.RpcError) as error:
            guest.call("image.capture", **{"desktop": "ada", **params})
        assert kind is None or error.value.kind == kind
