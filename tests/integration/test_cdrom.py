"""The ISO library and the CD drive: a guest that was started from a disc sees discs come and go."""
import os
import pathlib
import stat
import subprocess

import pytest
import vdi

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def guest_iso():
    """The guest as a disc. tests/run builds it outside of the namespace, where packages can be had."""
    if "VDI_GUEST_ISO" in os.environ:
        return pathlib.Path(os.environ["VDI_GUEST_ISO"])
    done = subprocess.run([TOP / "tests/guest/build", "--iso"], check=True, stdout=subprocess.PIPE,
                          text=True)
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="module")
def daemon(build, vdi_user, tmp_path_factory):
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    blank = tmp_path_factory.mktemp("blank") / "blank.raw"
    blank.write_bytes(b"\0" * (1 << 20))
    daemon.import_image(blank, "blank")
    daemon.call("network.create", name="lan", cidr="10.77.0.0/24")
    yield daemon
    daemon.done()


def make_disc(path, label, *options):
    content = path.with_suffix(".d")
    content.mkdir()
    (content / "label.txt").write_text(label * 100)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", label, *options, "-o", path, content],
                   check=True, stderr=subprocess.DEVNULL)
    return path


def import_iso(daemon, path, name, **params):
    fd = os.open(path, os.O_RDONLY)
    try:
        with daemon.client() as client:
            return client.call("iso.import", fds=[fd], name=name, wait=True, **params)
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def discs(daemon, guest_iso, tmp_path_factory):
    folder = tmp_path_factory.mktemp("discs")
    import_iso(daemon, guest_iso, "guest")
    for name in ("red", "blue"):
        import_iso(daemon, make_disc(folder / f"{name}.iso", name.upper()), name)
    return folder


def files(daemon, folder):
    return sorted(path.name for path in (daemon.state / folder).iterdir())


def open_discs(daemon, desktop):
    """Which files of the library its QEMU has open."""
    pid = daemon.desktop(desktop)["pid"]
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    names = {iso["id"]: iso["name"] for iso in daemon.call("iso.list")["items"]}
    return sorted({names.get(os.path.basename(link)[:36], link)
                   for link in links if "/isos/" in link})


def is_busy(daemon, desktop):
    try:
        daemon.call("desktop.update", desktop=desktop, memory_mib=384)
        return False
    except vdi.RpcError as error:
        return error.kind == "busy"


def test_library(daemon, discs):
    items = {iso["name"]: iso for iso in daemon.call("iso.list")["items"]}
    assert {"guest", "red", "blue"} <= set(items)
    red = items["red"]
    assert red["state"] == "ready" and red["size_bytes"] == (discs / "red.iso").stat().st_size
    path = daemon.state / "isos" / f"{red['id']}.iso"
    assert path.read_bytes() == (discs / "red.iso").read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert daemon.call("iso.get", iso="red") == daemon.call("iso.get", iso=red["id"]) == red
    with pytest.raises(vdi.RpcError) as caught:
        import_iso(daemon, discs / "red.iso", "red")
    assert caught.value.kind == "exists"
    right = subprocess.run(["sha256sum", discs / "red.iso"], check=True, capture_output=True,
                           text=True).stdout.split()[0]
    assert red["sha256"] == right
    import_iso(daemon, discs / "red.iso", "summed", sha256=right)
    daemon.call("iso.delete", iso="summed")
    with pytest.raises(vdi.RpcError) as caught:
        import_iso(daemon, discs / "red.iso", "summed", sha256="0" * 64)
    assert caught.value.kind == "corrupt" and right in str(caught.value)
    assert files(daemon, "isos") == sorted(i["id"] + ".iso" for i in daemon.call("iso.list")["items"])
    assert files(daemon, "tmp") == []


def cut(path, source):
    path.write_bytes(source.read_bytes()[:-4096])


WRONG = {
    "no disc": (lambda path, source: path.write_bytes(os.urandom(1 << 20)), "unsupported"),
    "empty": (lambda path, source: path.write_bytes(b""), "unsupported"),
    "cut off": (cut, "corrupt"),
    "fifo": (lambda path, source: os.mkfifo(path), "unsupported"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_no_disc(daemon, discs, tmp_path, kind):
    make, error = WRONG[kind]
    before = files(daemon, "isos")
    path = tmp_path / "x.iso"
    make(path, discs / "red.iso")
    for folder in (path, *list(path.parents)[:-1]):
        folder.chmod(folder.stat().st_mode | 0o055)
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("iso.import", name="x", path=str(path), wait=True)
    assert caught.value.kind == error, caught.value
    assert files(daemon, "isos") == before and files(daemon, "tmp") == []


def test_stopped(daemon, discs):
    daemon.create_desktop("idle", image="blank", iso="red", memory_mib=64)
    assert daemon.desktop("idle")["iso"] == "red"
    assert daemon.call("desktop.cdrom.insert", desktop="idle", iso="blue")["iso"] == "blue"
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("iso.delete", iso="blue")
    assert caught.value.kind == "conflict" and "idle" in str(caught.value)
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("desktop.cdrom.insert", desktop="idle", iso="green")
    assert caught.value.kind == "not_found"
    daemon.call("desktop.start", desktop="idle")
    assert open_discs(daemon, "idle") == ["blue"]
    daemon.restart()
    assert daemon.call("desktop.cdrom.eject", desktop="idle")["iso"] is None
    assert open_discs(daemon, "idle") == []
    daemon.call("desktop.delete", desktop="idle", force=True)


def test_guest_started_from_a_disc(daemon, discs):
    desktop = daemon.create_desktop("live", "lan", image="blank", iso="guest", memory_mib=384)
    assert desktop["boot"] == "disk"
    daemon.call("desktop.update", desktop="live", boot="cdrom")
    daemon.call("desktop.start", desktop="live")
    ip = desktop["ip"]
    vdi.guest_wait(ip)
    assert vdi.guest_do(ip, "disc") == "GUEST"
    for name in ("red", "blue", "red"):
        assert daemon.call("desktop.cdrom.insert", desktop="live", iso=name)["iso"] == name
        assert open_discs(daemon, "live") == [name]
        vdi.wait_until(lambda name=name: vdi.guest_do(ip, "disc") == name.upper(), 10,
                       "the guest to see the disc")
    # while it is mounted the tray is locked, and the guest is asked in vain
    assert vdi.guest_do(ip, "hold") == "ok"
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("desktop.cdrom.eject", desktop="live")
    assert caught.value.kind == "timeout" and "locked" in str(caught.value), caught.value
    assert daemon.desktop("live")["iso"] == "red" and open_discs(daemon, "live") == ["red"]
    # what it lets go of in time goes
    with daemon.client() as client:
        number = client.send("desktop.cdrom.insert", {"desktop": "live", "iso": "blue"})
        vdi.wait_until(lambda: is_busy(daemon, "live"), 5, "the change to be under way")
        assert vdi.guest_do(ip, "let") == "ok"
        assert client.wait(number)["iso"] == "blue"
    vdi.wait_until(lambda: vdi.guest_do(ip, "disc") == "BLUE", 10, "the guest to see the disc")
    assert vdi.guest_do(ip, "hold") == "ok"
    # force asks nobody; nor does a stop by force wait for who waits for the guest
    assert daemon.call("desktop.cdrom.insert", desktop="live", iso="red", force=True)["iso"] == "red"
    vdi.guest_do(ip, "let")
    vdi.wait_until(lambda: vdi.guest_do(ip, "disc") == "RED", 10, "the guest to see the disc")
    assert daemon.call("desktop.cdrom.eject", desktop="live")["iso"] is None
    assert open_discs(daemon, "live") == []
    vdi.wait_until(lambda: vdi.guest_do(ip, "disc").startswith("error"), 10, "an empty drive")
    assert daemon.call("desktop.cdrom.insert", desktop="live", iso="red")["state"] == "running"
    vdi.wait_until(lambda: vdi.guest_do(ip, "disc") == "RED", 10, "the guest to see the disc")
    assert vdi.guest_do(ip, "hold") == "ok"
    with daemon.client() as client:
        number = client.send("desktop.cdrom.eject", {"desktop": "live"})
        vdi.wait_until(lambda: is_busy(daemon, "live"), 5, "the eject to be under way")
        daemon.call("desktop.stop", desktop="live", mode="force")
        with pytest.raises(vdi.RpcError) as caught:
            client.wait(number)
        # it ends with QEMU: had the stop waited for it, it had run out of its time
        assert caught.value.kind != "timeout", caught.value
    assert daemon.desktop("live")["iso"] == "red"
    daemon.call("desktop.delete", desktop="live")
