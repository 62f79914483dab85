"""The state folder on a small file system that runs full: what cannot be done is refused and leaves
nothing, what runs waits, and with room again all goes on."""
import errno
import os
import shutil
import subprocess

import pytest
import vdi

SIZE_MIB = 96


class FullDisk:
    """A daemon whose state folder is a file system of its own."""

    def __init__(self, binary, settings=None):
        self.daemon = vdi.Daemon(binary, settings)
        self.state = self.daemon.state
        self.state.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs",
                        self.state], check=True)
        self.ballast = self.state / "ballast"

    def free(self):
        stat = os.statvfs(self.state)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave=0):
        """Take all room but so many bytes. A guest and the daemon may write meanwhile, and give room back."""
        def taken():
            fd = os.open(self.ballast, os.O_WRONLY | os.O_CREAT)
            try:
                if (more := self.free() - leave) > 0:
                    os.posix_fallocate(fd, 0, os.fstat(fd).st_size + more)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
            finally:
                os.close(fd)
            return self.free() <= leave
        vdi.wait_until(taken, 5, "a full disk")

    def make_room(self):
        self.ballast.unlink(missing_ok=True)

    def done(self):
        self.make_room()
        try:
            self.daemon.done()
        finally:
            self.daemon.clean_up()
            subprocess.run(["umount", "-l", self.state], check=True)
            shutil.rmtree(self.daemon.root, ignore_errors=True)


@pytest.fixture(scope="module")
def disk(build, vdi_user, guest_image):
    """With the image `guest`, the network `lan` and a desktop `ada`."""
    disk = FullDisk(build / "vdi-hostd/vdi-hostd")
    try:
        disk.daemon.start()
        disk.daemon.import_image(guest_image)
        disk.daemon.call("network.create", name="lan", cidr="10.79.0.0/24")
        disk.daemon.create_desktop("ada", "lan")
        yield disk
    finally:
        disk.done()


@pytest.fixture(autouse=True)
def room(disk):
    yield
    disk.make_room()
    disk.daemon.call("desktop.stop", desktop="ada", mode="force")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def every(daemon, method):
    """All pages of a list."""
    page = daemon.call(method)
    items = page["items"]
    while page["next"]:
        page = daemon.call(method, cursor=page["next"])
        items += page["items"]
    return items


def whole(daemon):
    """What must be the same before and after something that was refused."""
    return {
        "desktops": [(d["name"], d["owner"]) for d in daemon.call("desktop.list")["items"]],
        "images": [(i["id"], i["state"]) for i in daemon.call("image.list")["items"]],
        "networks": [(n["name"], n["state"]) for n in every(daemon, "network.list")],
        "files": {name: files(daemon.state / name) for name in ("images", "overlays", "tmp")},
        "links": vdi.our_links(),
    }


def refused(daemon, method, **params):
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call(method, **params)
    assert caught.value.kind == "limit", (caught.value.kind, str(caught.value))
    assert caught.value.data.get("field") in (None, "")
    return str(caught.value)


@pytest.mark.parametrize("leave_mib", (16, 4, 0))
def test_import(disk, tmp_path, leave_mib):
    daemon = disk.daemon
    before = whole(daemon)
    source = tmp_path / "disk.raw"
    source.write_bytes(os.urandom(24 << 20))
    disk.fill(leave_mib << 20)
    with pytest.raises(vdi.RpcError) as caught:
        daemon.import_image(source, "big")
    assert caught.value.kind == "limit", (caught.value.kind, str(caught.value))
    assert "space" in str(caught.value) or "full" in str(caught.value)
    assert whole(daemon) == before
    vdi.wait_until(lambda: disk.free() >= (leave_mib << 20) - (1 << 20), 5, "the room")
    assert "running" not in [job["state"] for job in daemon.call("job.list")["items"]]
    disk.make_room()
    daemon.import_image(source, "big")
    daemon.call("image.delete", image="big")
    assert whole(daemon) == before


def test_bomb_in_an_image(disk, tmp_path):
    """A disk whose clusters are compressed is a bomb of its own; room is kept by who watches the tool."""
    daemon = disk.daemon
    before = whole(daemon)
    subprocess.run(f"yes bomb | head -c 400M > {tmp_path}/raw && qemu-img convert -c -f raw -O qcow2 "
                   f"{tmp_path}/raw {tmp_path}/bomb", shell=True, check=True)
    assert (tmp_path / "bomb").stat().st_size < 8 << 20
    with pytest.raises(vdi.RpcError) as caught:
        daemon.import_image(tmp_path / "bomb", "bomb")
    assert caught.value.kind == "limit" and "full" in str(caught.value)
    assert whole(daemon) == before


@pytest.mark.parametrize("piped", (False, True))
def test_bomb(disk, tmp_path, piped):
    """A small file that unpacks to more than there is room for ends before the disk is full."""
    daemon = disk.daemon
    before = whole(daemon)
    source = tmp_path / "bomb.zst"
    subprocess.run(f"yes bomb | head -c 400M | zstd -q -1 -o {source}", shell=True, check=True)
    assert source.stat().st_size < 1 << 20
    least = []
    with daemon.client(60) as client, open(source, "rb") as bomb:
        if piped:
            with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as run:
                job = client.call("image.import", fds=[run.stdout.fileno()], name="bomb")["job"]
        else:
            job = client.call("image.import", fds=[bomb.fileno()], name="bomb")["job"]
        while client.call("job.get", job=job)["state"] == "running":
            least.append(disk.free())
        ended = client.call("job.get", job=job)
    assert ended["error_kind"] == "limit" and "room" in ended["error"], ended
    assert not least or min(least) > 0
    assert whole(daemon) == before


def write_until_paused(daemon, ip):
    """Fills the guest's disk; the blocks that the guest says are on it, each in a cluster of the
    overlay of its own."""
    def answer(number):
        """A paused guest answers no more; one that is slow is asked again."""
        if daemon.desktop("ada")["state"] == "paused":
            return ["paused"]
        try:
            return vdi.guest_do(ip, f"write {number} block {number}", "sync", timeout=3)
        except OSError:
            return None
    written = []
    for number in range(128, 128 * 200, 128):
        said = vdi.wait_until(lambda number=number: answer(number), 20, "the guest to go on, or be paused")
        if said == ["paused"]:
            return written
        if said == ["ok", "ok"]:
            written.append(number)
    return pytest.fail("the guest wrote more than there was room for")


def test_guest_fills_the_store(disk):
    """The guest waits in the middle of its write, is told of, and loses nothing."""
    daemon = disk.daemon
    started = daemon.call("desktop.start", desktop="ada")
    ip = started["ip"]
    vdi.guest_wait(ip)
    boot = vdi.guest_do(ip, "boot")
    with daemon.client() as events:
        events.call("events.subscribe", topics=["desktop"])
        disk.fill(1 << 20)
        written = write_until_paused(daemon, ip)
        assert 0 < len(written) < 40
        ada = daemon.desktop("ada")
        assert "full" in ada["state_reason"] and "room" in ada["state_reason"]
        told = events.next_event()
        assert told and told["data"]["state"] == "paused" and "full" in told["data"]["reason"]
    assert ada["pid"] == started["pid"]
    # with no room it stops again, and says so again
    for _ in range(5):
        try:
            daemon.call("desktop.resume", desktop="ada")
        except vdi.RpcError as error:
            assert error.kind == "limit" and "full" in str(error), error
        vdi.wait_until(lambda: daemon.desktop("ada")["state"] == "paused", 5, "the next pause")
        assert "full" in daemon.desktop("ada")["state_reason"]
    # a daemon that comes anew finds out as well
    daemon.kill()
    daemon.start()
    ada = daemon.desktop("ada")
    assert ada["state"] == "paused" and ada["pid"] == started["pid"]
    vdi.wait_until(lambda: "room" in (daemon.desktop("ada")["state_reason"] or ""), 5, "the reason")
    disk.make_room()
    resumed = daemon.call("desktop.resume", desktop="ada")
    assert (resumed["state"], resumed["state_reason"]) == ("running", None)
    vdi.guest_wait(ip)
    assert vdi.guest_do(ip, "boot") == boot
    late = written[-1] + 128  # the one that had to wait
    vdi.wait_until(lambda: vdi.guest_do(ip, f"read {late}") == f"block {late}", 10, "the late write")
    for number in written:
        assert vdi.guest_do(ip, f"read {number}") == f"block {number}"
    assert vdi.guest_do(ip, "write 7 after", "sync", "read 7") == ["ok", "ok", "after"]
    daemon.call("desktop.stop", desktop="ada", mode="force")
    overlay = next((daemon.state / "overlays").glob(f"{started['id']}-*.qcow2"))
    checked = subprocess.run(["qemu-img", "check", "-q", overlay], check=False)
    assert checked.returncode in (0, 3)  # 3: leaked clusters, no harm


def repeat_until_refused(client, method, each):
    """How often it was done before the database was full; `each` makes parameters of a number."""
    for number in range(5000):
        try:
            client.call(method, **each(number))
        except vdi.RpcError as error:
            assert error.kind == "limit" and "full" in str(error), (error.kind, str(error))
            return number
    return pytest.fail("5000 changes went into a full file system")


def use_up(daemon):
    """Go on until the database has no room left either, not for the smallest change; the networks
    that it took."""
    with daemon.client() as client:
        made = repeat_until_refused(client, "network.create",
                                    lambda number: {"name": f"n{number}", "kind": "user"})
        repeat_until_refused(client, "desktop.update",
                             lambda number: {"desktop": "ada", "owner": f"owner-{number}"})
    return [f"n{number}" for number in range(made)]


def delete(daemon, networks):
    with daemon.client() as client:
        for number in [client.send("network.delete", {"network": name}) for name in networks]:
            client.wait(number)


def test_database(disk):
    """What is refused changes nothing, what was taken stays, and the daemon goes on."""
    daemon = disk.daemon
    halves = daemon.halves()
    pid = daemon.call("desktop.start", desktop="ada")["pid"]
    disk.fill()
    taken = use_up(daemon)
    assert len(taken) > 20  # what has to be written down on a full disk has room of its own
    before = whole(daemon)
    assert {name for name, _ in before["networks"]} == {"lan", *taken}
    refused(daemon, "desktop.create", name="bob", image="guest", memory_mib=64)
    refused(daemon, "network.create", name="other", cidr="10.80.0.0/24")
    refused(daemon, "network.create", name="other", kind="user")
    assert whole(daemon) == before
    # reading, and what needs no row, works as ever
    assert daemon.screenshot("ada")[0][:4] == b"\x89PNG"
    assert daemon.call("host.stats")
    assert daemon.call("desktop.pause", desktop="ada")["state"] == "paused"
    assert daemon.call("desktop.resume", desktop="ada")["state"] == "running"
    assert daemon.halves() == halves
    # nor does a restart need room
    daemon.kill()
    daemon.start()
    assert whole(daemon) == before
    assert daemon.desktop("ada")["pid"] == pid and daemon.desktop("ada")["state"] == "running"
    disk.make_room()
    daemon.call("desktop.update", desktop="ada", owner="somebody")
    daemon.create_desktop("bob", "lan")
    daemon.call("desktop.delete", desktop="bob")
    assert daemon.call("desktop.stop", desktop="ada", mode="force")["state"] == "stopped"
    daemon.restart()
    assert daemon.desktop("ada")["owner"] == "somebody"
    delete(daemon, taken)


def test_stop_on_a_full_disk(disk):
    """A desktop can be ended, and one that ends by itself is known to have ended."""
    daemon = disk.daemon
    daemon.call("desktop.start", desktop="ada")
    disk.fill()
    assert daemon.call("desktop.stop", desktop="ada", mode="force")["state"] == "stopped"
    pid = daemon.call("desktop.start", desktop="ada")["pid"]
    vdi.kill_pid(pid)
    vdi.wait_until(lambda: daemon.desktop("ada")["state"] == "failed", 5, "failed")
    daemon.kill()
    daemon.start()
    assert daemon.desktop("ada")["state"] == "failed"
    disk.make_room()
    assert daemon.call("desktop.start", desktop="ada")["state"] == "running"
    daemon.call("desktop.stop", desktop="ada", mode="force")
