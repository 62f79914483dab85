"""Backups of desktops whose guests write known data: what is restored is what the guest had read at
that moment, whether the desktop ran or not, was started again or killed in between."""
import os
import subprocess

import pytest
import vdi


@pytest.fixture(scope="module")
def guest(world):
    """A running desktop with a data disk of its own beside the one that it boots from."""
    world.create_desktop("ada", "lan", start=True, data_disk_gib=1)
    vdi.guest_wait(world.desktop("ada")["ip"])
    return world


def ip(daemon, name="ada"):
    return daemon.desktop(name)["ip"]


def write(daemon, **blocks):
    """Text into blocks of the guest's data partition: b5="text"."""
    for block, text in blocks.items():
        assert vdi.guest_do(ip(daemon), f"write {block[1:]} {text}") == "ok"
    assert vdi.guest_do(ip(daemon), "sync") == "ok"


def backup(daemon, **params):
    job = daemon.call("desktop.backup", desktop="ada", wait=True, **params)
    assert job["state"] == "done"
    return job["result"]


def disk_of(daemon, result):
    """The system disk that a backup holds, read by qemu-img alone."""
    raw = daemon.root / "raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw",
                    daemon.state / "backups" / f"{result['backup']}-system.qcow2", raw], check=True)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def block_of(text):
    return (text + b"\n").ljust(512, b"\0")


def restored(daemon, result, name="eve", **params):
    """Restore, compare with the backup byte by byte, and see what a guest in it reads."""
    job = daemon.call("backup.restore", backup=result["backup"], name=name, network="lan", wait=True,
                      **params)
    desktop = job["result"]["desktop_id"]
    for disk in ("system", "data"):
        ours = daemon.state / "backups" / f"{result['backup']}-{disk}.qcow2"
        if not ours.exists():
            continue
        same = [path for path in (daemon.state / "overlays").glob(f"{desktop}-*") if subprocess.run(
            ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", ours, path],
            stdout=subprocess.DEVNULL).returncode == 0]
        assert len(same) == 1, disk
        info = subprocess.run(["qemu-img", "info", "-f", "qcow2", same[0]], check=True,
                              capture_output=True, text=True).stdout
        assert "backing file" not in info
    return daemon.desktop(name)


def boot(daemon, name="eve"):
    daemon.call("desktop.start", desktop=name)
    vdi.guest_wait(ip(daemon, name))
    return ip(daemon, name)


def delete(daemon, name="eve"):
    daemon.call("desktop.delete", desktop=name, force=True)


def delete_backups(daemon):
    for one in reversed(daemon.call("backup.list")["items"]):
        daemon.call("backup.delete", backup=one["id"])
    assert list((daemon.state / "backups").iterdir()) == []


def test_full_and_incremental(guest):
    write(guest, b1="first", b2="old")
    full = backup(guest)
    assert full["full"] and "first" in full["reason"] and full["parent"] is None
    assert full["quiesced"]
    write(guest, b2="new", b3="more")
    second = backup(guest)
    assert not second["full"] and second["parent"] == full["backup"] and second["reason"] is None
    write(guest, b2="newest")
    third = backup(guest)
    assert not third["full"] and third["parent"] == second["backup"]
    # what was written since is little beside the whole
    assert third["stored_bytes"] < full["stored_bytes"] / 2
    for result, blocks in ((full, ["first", "old", ""]), (third, ["first", "newest", "more"])):
        restored(guest, result)
        address = boot(guest)
        assert vdi.guest_do(address, "read 1", "read 2", "read 3") == blocks
        delete(guest)
    middle = disk_of(guest, second)
    assert block_of(b"first") in middle and block_of(b"new") in middle
    assert block_of(b"newest") not in middle
    one = guest.call("backup.get", backup="latest:ada")
    assert one["id"] == third["backup"] and one["state"] == "ready" and one["data_disk_bytes"] == 1 << 30
    for path in (guest.state / "backups").iterdir():
        assert path.stat().st_mode & 0o777 == 0o440
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)
    assert guest.call("backup.verify", backup="latest:ada", wait=True)["result"]["files"] == 3
    # one that others stand on stays
    with pytest.raises(vdi.RpcError) as error:
        guest.call("backup.delete", backup=full["backup"])
    assert error.value.kind == "conflict" and second["backup"] in str(error.value)


def test_across_restarts(guest):
    """What was written is known after an orderly stop of QEMU, and of the daemon as well."""
    write(guest, b2="before")
    guest.call("desktop.stop", desktop="ada")
    stopped = backup(guest)
    assert not stopped["full"] and stopped["quiesced"]
    assert guest.desktop("ada")["state"] == "stopped"
    guest.restart()
    boot(guest, "ada")
    write(guest, b2="after")
    guest.restart()
    running = backup(guest)
    assert not running["full"]
    # a block: the text, its end of line, and zeros up to the next one
    for result, text, other in ((stopped, b"before", b"after"), (running, b"after", b"before")):
        disk = disk_of(guest, result)
        assert block_of(text) in disk and block_of(other) not in disk


def test_zeros(guest):
    """What became zeros since is zeros in the backup, and not what it was before."""
    write(guest, b4="something")
    assert block_of(b"something") in disk_of(guest, backup(guest))
    write(guest, b4="")
    result = backup(guest)
    assert not result["full"]
    assert block_of(b"something") not in disk_of(guest, result)


def test_killed(guest):
    """QEMU is killed: what was written is not known any more, and the next backup is full."""
    vdi.kill_pid(guest.desktop("ada")["pid"])
    vdi.wait_until(lambda: guest.desktop("ada")["state"] == "failed", 10, "the end of QEMU")
    boot(guest, "ada")
    result = backup(guest)
    assert result["full"] and "killed" in result["reason"]
    assert not backup(guest)["full"]
    assert backup(guest, full=True)["full"]


def test_snapshot_between(guest):
    guest.call("desktop.snapshot.create", desktop="ada", name="between")
    result = backup(guest)
    assert result["full"] and "snapshot" in result["reason"]
    assert not backup(guest)["full"]


def same_as_now(guest, result):
    """Does it hold what the desktop, which is stopped, has on its disks?"""
    desktop = guest.desktop("ada")["id"]
    tops = list((guest.state / "overlays").glob(f"{desktop}-*"))
    for disk in ("system", "data"):
        ours = guest.state / "backups" / f"{result['backup']}-{disk}.qcow2"
        assert any(subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", ours, top],
                                  stdout=subprocess.DEVNULL).returncode == 0 for top in tops), disk


def idle(guest):
    vdi.wait_until(lambda: guest.desktop("ada")["work"] is None, 30, "a merge")


def cancel_and_refuse_another(daemon, method, **params):
    """How the job ends; a backup that is asked for in the same breath finds the desktop busy."""
    with daemon.client() as client:
        first, second = client.send(method, params), client.send("desktop.backup", {"desktop": "ada"})
        job = client.wait(first)["job"]
        with pytest.raises(vdi.RpcError) as error:
            client.wait(second)
        assert error.value.kind == "busy"
        try:
            client.call("job.cancel", job=job)
        except vdi.RpcError as over:
            assert over.kind == "conflict", over
        return client.call("job.wait", job=job)["state"]


@pytest.mark.parametrize("how", ("export", "snapshot"))
def test_merged_between(guest, how, tmp_path):
    """Layers came and went: what the marks say of it is true, or they are not there."""
    backup(guest, quiesce="no")
    write(guest, b5=f"before {how}")
    if how == "export":
        with open(tmp_path / "raw", "w+b") as file, guest.client() as client:
            client.call("image.export", fds=[file.fileno()], desktop="ada", format="raw", wait=True)
    else:
        guest.call("desktop.snapshot.create", desktop="ada", name="gone", quiesce="no")
        write(guest, b6="in it")
        guest.call("desktop.snapshot.delete", desktop="ada", snapshot="gone", wait=True)
    idle(guest)
    write(guest, b7=f"after {how}")
    guest.call("desktop.stop", desktop="ada", mode="force")
    result = backup(guest)
    same_as_now(guest, result)
    assert not result["full"]
    boot(guest, "ada")


def test_cancelled(guest):
    def cancelled():
        """None when it was done before that."""
        before = guest.call("backup.list")["items"], set((guest.state / "backups").iterdir())
        state = cancel_and_refuse_another(guest, "desktop.backup", desktop="ada", full=True)
        if state == "done":
            return None
        assert (guest.call("backup.list")["items"], set((guest.state / "backups").iterdir())) == before
        return state
    assert vdi.wait_until(cancelled, 20, "one that is cancelled in time") == "cancelled"
    # what was known is still known
    assert not backup(guest)["full"]


def test_stopped_meanwhile(guest):
    job = guest.call("desktop.backup", desktop="ada", full=True)["job"]
    guest.call("desktop.stop", desktop="ada", mode="force")
    job = guest.call("job.wait", job=job)
    assert job["state"] == "done" or "was not backed up" in job["error"]
    boot(guest, "ada")


def test_damaged(guest):
    result = backup(guest, full=True)
    path = guest.state / "backups" / f"{result['backup']}-system.qcow2"
    with open(path, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damage")
    with pytest.raises(vdi.RpcError) as error:
        guest.call("backup.verify", backup=result["backup"], wait=True)
    assert error.value.kind == "corrupt"
    assert guest.call("backup.get", backup=result["backup"])["state"] == "broken"
    with pytest.raises(vdi.RpcError):
        guest.call("backup.restore", backup=result["backup"], name="eve", wait=True)
    # nothing is built upon it
    assert backup(guest)["parent"] != result["backup"]


def test_outlives_its_desktop(guest):
    result = backup(guest)
    delete(guest, "ada")
    restored(guest, result, "ada2")
    boot(guest, "ada2")
    for params, kind in (({"name": "ada2"}, "exists"), ({"name": "x", "network": "none"}, "not_found"),
                         ({"name": "x", "backup": "none"}, "not_found"),
                         ({"name": "x", "image": "none"}, "not_found")):
        with pytest.raises(vdi.RpcError) as error:
            guest.call("backup.restore", **{"backup": result["backup"], **params})
        assert error.value.kind == kind
    delete(guest, "ada2")
    delete_backups(guest)


def test_outlives_its_image(guest, guest_image):
    """The version it was made from is gone: what the restored one counts as a clone of has to be said."""
    guest.import_image(guest_image)
    guest.create_desktop("fay", "lan", image="guest:2", start=True)
    vdi.guest_wait(ip(guest, "fay"))
    assert vdi.guest_do(ip(guest, "fay"), "write 1 kept", "sync") == ["ok", "ok"]
    result = guest.call("desktop.backup", desktop="fay", wait=True)["result"]
    delete(guest, "fay")
    guest.call("image.delete", image="guest:2")
    with pytest.raises(vdi.RpcError) as error:
        guest.call("backup.restore", backup=result["backup"], name="eve")
    assert error.value.kind == "invalid" and "is gone" in str(error.value)
    assert guest.call("desktop.list")["items"] == []
    desktop = restored(guest, result, image="guest:1")
    assert (desktop["image"], desktop["image_version"]) == ("guest", 1)
    assert vdi.guest_do(boot(guest), "read 1") == "kept"
    # it is a clone in name only, and yet the version cannot go while it is there
    with pytest.raises(vdi.RpcError) as error:
        guest.call("image.delete", image="guest:1")
    assert error.value.kind == "conflict" and "eve" in str(error.value)
    delete(guest)
    delete_backups(guest)


@pytest.fixture
def bare(make_daemon, tmp_path):
    """A desktop on a store of 64 MiB, with a disk that boots nothing."""
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M,mode=755", "tmpfs", root], check=True)
    for path in (tmp_path, *list(tmp_path.parents)[:-1]):
        path.chmod(path.stat().st_mode | 0o055)
    daemon = make_daemon(root=root).start()
    disk = tmp_path / "disk.raw"
    disk.write_bytes(os.urandom(12 << 20))
    daemon.import_image(disk, "base")
    daemon.call("desktop.create", name="ada", image="base", memory_mib=64, vcpus=1)
    yield daemon
    daemon.call("desktop.delete", desktop="ada", force=True)
    daemon.stop()
    daemon.state = root / "gone"
    subprocess.run(["umount", "-l", root], check=True)


def test_full_store(bare):
    """A backup that has no room is refused and leaves nothing; so is a restore."""
    first = backup(bare)
    (bare.state / "hog").write_bytes(bytes(20 << 20))
    for method, params in (("desktop.backup", {"desktop": "ada", "full": True}),
                           ("backup.restore", {"backup": first["backup"], "name": "eve"})):
        with pytest.raises(vdi.RpcError) as error:
            bare.call(method, wait=True, **params)
        assert error.value.kind == "limit", method
    assert [b["id"] for b in bare.call("backup.list")["items"]] == [first["backup"]]
    assert len(list((bare.state / "backups").iterdir())) == 1


@pytest.mark.parametrize("point", ("mark:before", "files:before", "row:before", "row:after"))
def test_killed_deleting(bare, point):
    first = backup(bare)
    bare.restart(env={"VDI_CRASH_AT": f"backup-delete:{point}"})
    with pytest.raises(ConnectionError):
        bare.call("backup.delete", backup=first["backup"])
    bare.process.wait(60)
    bare.process = None
    bare.start()
    there = [b["state"] for b in bare.call("backup.list")["items"]]
    files = list((bare.state / "backups").iterdir())
    assert (there, len(files)) == ((["ready"], 1) if point == "mark:before" else ([], 0))


def test_grows_after_a_kill(bare):
    """What a kill left of the marks is no reason why a disk could not grow."""
    bare.call("desktop.start", desktop="ada")
    backup(bare, quiesce="no")
    bare.call("desktop.stop", desktop="ada", mode="force")
    bare.call("desktop.start", desktop="ada")
    vdi.kill_pid(bare.desktop("ada")["pid"])
    vdi.wait_until(lambda: bare.desktop("ada")["state"] == "failed", 10, "the end of QEMU")
    bare.call("desktop.update", desktop="ada", disk_gib=2)
    result = backup(bare, quiesce="no")
    assert result["full"]
    one = bare.call("backup.get", backup=result["backup"])
    assert one["system_disk_bytes"] == 2 << 30
