"""The store as a whole, with a real daemon: versions that rot are found and refused, nothing that is needed
is ever removed, quotas hold, and a store that is read-only or gone says so and loses nothing."""
import json
import os
import pwd
import re
import subprocess

import pytest
import vdi

MIB = 1 << 20


@pytest.fixture
def daemon(make_daemon, tmp_path):
    """With the versions base:1 and base:2 and the desktops ada (on 1) and bob (on 2), all stopped."""
    daemon = make_daemon().start()
    disk = tmp_path / "disk.raw"
    disk.write_bytes(os.urandom(MIB) + b"\0" * (7 * MIB))
    for version in (1, 2):
        daemon.import_image(disk, "base")
        daemon.create_desktop("ada" if version == 1 else "bob", image=f"base:{version}", owner="ada")
    return daemon


def image_file(daemon, ref="base:1"):
    return daemon.state / "images" / (daemon.call("image.get", image=ref)["id"] + ".qcow2")


def flip(path, at=200_000):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))


def fails(daemon, kind, word, method, **params):
    with pytest.raises(vdi.RpcError, match=word) as error:
        daemon.call(method, **params)
    assert re.fullmatch(kind, error.value.kind or "invalid"), (error.value, error.value.kind)


def job(daemon, method, **params):
    return daemon.call(method, wait=True, **params)["result"]


def all_files(daemon):
    return sorted(str(p.relative_to(daemon.state)) for folder in ("images", "overlays")
                  for p in (daemon.state / folder).iterdir())


def test_flipped_byte(daemon):
    with daemon.client() as events:
        events.call("events.subscribe", topics=["image"])
        job(daemon, "image.verify", image="base:1")
        assert daemon.call("image.get", image="base:1")["verified_at"]
        flip(image_file(daemon))
        fails(daemon, "corrupt", "checksum", "image.verify", image="base:1", wait=True)
        event = vdi.wait_until(events.next_event, 5, "an event")
        assert event["data"]["state"] == "broken"
    assert "checksum" in daemon.call("image.get", image="base:1")["broken"]
    fails(daemon, "corrupt", "vdictl image verify base:1", "desktop.create", name="eve",
          image="base:1")
    # the others are as they were
    daemon.create_desktop("eve", image="base:2")
    flip(image_file(daemon))
    job(daemon, "image.verify", image="base:1")
    daemon.create_desktop("fay", image="base:1")


def test_lost_and_swapped(daemon):
    file = image_file(daemon)
    aside = daemon.root / "aside"
    file.rename(aside)
    fails(daemon, "corrupt", "broken", "image.verify", image="base:1", wait=True)
    fails(daemon, "not_found", "", "image.chain", image="base:1")
    assert [v["image"] for v in daemon.call("image.chain", image="base")["versions"]] == [
        "base:1", "base:2"]
    # another's file under its name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "../overlays/x.qcow2", "-F",
                    "qcow2", file, "8M"], check=True)
    os.chown(file, *[getattr(os.stat(aside), k) for k in ("st_uid", "st_gid")])
    fails(daemon, "corrupt", "broken", "image.verify", image="base:1", wait=True)
    kinds = {f["kind"] for f in job(daemon, "image.scrub")["findings"]}
    assert {"chain", "mode"} <= kinds
    aside.replace(file)
    job(daemon, "image.verify", image="base:1")
    assert job(daemon, "image.scrub", checksums=True)["findings"] == []


def test_chain_and_delete(daemon):
    answer = daemon.call("image.chain", image="base")
    assert [(v["image"], v["desktops"], v["parent"]) for v in answer["versions"]] == [
        ("base:1", 1, None), ("base:2", 1, None)]
    assert len(answer["files"]) == 1
    assert daemon.call("image.chain", image="base:1")["versions"] is None
    for i in range(9):
        daemon.create_desktop(f"more-{i}", image="base:1")
    fails(daemon, "conflict", "desktop ada.*more; delete", "image.delete", image="base:1")
    assert daemon.call("image.update", image="base:1", description="old", depth_max=2)["depth_max"] == 2


def test_gc(daemon):
    before = all_files(daemon)
    strays = [daemon.state / folder / name for folder, name in (
        ("overlays", "stray.qcow2"), ("images", "stray.qcow2"), ("backups", "stray"), ("states", "s"))]
    for stray in strays:
        stray.write_bytes(b"x" * 5000)
    (daemon.state / "overlays" / "README of mine").write_text("no file of the daemon's")
    assert job(daemon, "image.gc")["files"] == 0
    dry = job(daemon, "image.gc", dry_run=True, min_age_s=0)
    assert dry["files"] == 4 and dry["bytes"] >= 4 * 5000
    assert sorted(i["folder"] for i in dry["items"]) == ["backups", "images", "overlays", "states"]
    assert all(stray.exists() for stray in strays)
    assert daemon.call("image.usage")["reclaimable_bytes"] >= 4 * 5000
    assert job(daemon, "image.gc", min_age_s=0)["files"] == 4
    assert not any(stray.exists() for stray in strays)
    (daemon.state / "overlays" / "README of mine").unlink()
    assert all_files(daemon) == before
    assert daemon.call("image.usage")["reclaimable_bytes"] == 0


@pytest.mark.parametrize("point", [f"image-gc:{step}:{when}" for step in ("aside", "file")
                                   for when in ("before", "after")])
def test_gc_killed(daemon, point):
    before = all_files(daemon)
    (daemon.state / "overlays/stray.qcow2").write_bytes(b"x")
    daemon.restart(env={"VDI_CRASH_AT": point})
    with pytest.raises((ConnectionError, vdi.RpcError)):
        job(daemon, "image.gc", min_age_s=0)
    assert daemon.process.wait(60) != 0
    daemon.process = None
    daemon.start()
    assert list((daemon.state / "tmp").iterdir()) == []
    job(daemon, "image.gc", min_age_s=0)
    assert all_files(daemon) == before


def test_scrub_repairs(daemon):
    image_file(daemon).chmod(0o644)
    (daemon.state / "overlays/stray.qcow2").write_bytes(b"x")
    lost = image_file(daemon, "base:2")
    lost.rename(daemon.root / "lost")
    findings = job(daemon, "image.scrub", repair=True, min_age_s=0)["findings"]
    assert {(f["kind"], f["repaired"]) for f in findings} == {
        ("mode", True), ("unreachable", True), ("missing", True), ("chain", False)}
    assert image_file(daemon).stat().st_mode & 0o777 == 0o440
    assert daemon.call("image.get", image="base:2")["broken"]
    (daemon.root / "lost").rename(lost)
    assert job(daemon, "image.scrub", repair=True, checksums=True)["findings"] == []
    assert daemon.call("image.get", image="base:2")["broken"] is None


def test_quota(daemon):
    usage = daemon.call("image.usage", owner="ada", desktops=True)
    assert [o["counted_bytes"] for o in usage["owners"]] == [16 * MIB]
    assert sorted(d["desktop"] for d in usage["desktops"]) == ["ada", "bob"]
    daemon.call("quota.set", owner="ada", bytes=30 * MIB)
    assert daemon.call("quota.list")["items"] == [
        {"owner": "ada", "bytes": 30 * MIB, "used_bytes": 16 * MIB}]
    daemon.create_desktop("cleo", image="base:1", owner="ada")
    fails(daemon, "limit", "quota", "desktop.create", name="dan", image="base:1", owner="ada")
    fails(daemon, "limit", "quota", "desktop.create", name="dan", image="base:1", owner="ada",
          data_disk_gib=1)
    daemon.create_desktop("dan", image="base:1")
    fails(daemon, "limit", "quota", "desktop.update", desktop="dan", owner="ada")
    daemon.call("quota.set", owner="ada", gib=1)
    daemon.call("desktop.update", desktop="dan", owner="ada")
    daemon.call("quota.delete", owner="ada")
    fails(daemon, "not_found", "quota", "quota.delete", owner="ada")


class ReadOnly:
    """A daemon whose state folder, all but the database, can be made read-only while it runs."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.mounts = []
        daemon.state.mkdir(mode=0o700)
        self.mount("-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", daemon.state)
        for name in ("vdi-hostd.db", "vdi-hostd.db-wal", "vdi-hostd.db.lock"):
            there, here = daemon.root / name, daemon.state / name
            there.touch(0o600)
            here.touch(0o600)
            os.chown(there, *owner())
            self.mount("--bind", there, here)

    def mount(self, *args):
        subprocess.run(["mount", *args], check=True)
        self.mounts.append(args[-1])

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.daemon.state], check=True)

    def done(self):
        self.remount("rw")
        for target in reversed(self.mounts):
            subprocess.run(["umount", "-l", target], check=True)


def owner():
    user = pwd.getpwnam("vdi")
    return user.pw_uid, user.pw_gid


def test_read_only(build, vdi_user, tmp_path):
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd")
    store = ReadOnly(daemon)
    try:
        daemon.start()
        disk = tmp_path / "disk.raw"
        disk.write_bytes(b"\0" * MIB)
        daemon.import_image(disk, "base")
        daemon.create_desktop("ada", image="base")
        stray = daemon.state / "overlays/stray.qcow2"
        stray.write_bytes(b"x")
        before = all_files(daemon)
        store.remount("ro")
        fails(daemon, "io|denied", "[Rr]ead-only", "desktop.create", name="bob", image="base")
        fails(daemon, "io|denied", "[Rr]ead-only", "image.gc", min_age_s=0, wait=True)
        with pytest.raises(vdi.RpcError, match="[Rr]ead-only"):
            daemon.import_image(disk, "base")
        # looking is possible all the same
        job(daemon, "image.verify", image="base")
        assert [f["kind"] for f in job(daemon, "image.scrub", min_age_s=0)["findings"]] == ["unreachable"]
        assert all_files(daemon) == before
        store.remount("rw")
        daemon.create_desktop("bob", image="base")
        daemon.import_image(disk, "base")
        assert job(daemon, "image.gc", min_age_s=0)["files"] == 1
        assert job(daemon, "image.scrub", checksums=True)["findings"] == []
        daemon.done()
    finally:
        daemon.clean_up()
        store.done()


def test_store_gone(daemon):
    """Not mounted, say: everything that is known stays known, and all is well when it is back."""
    before = all_files(daemon)
    daemon.stop()
    for folder in ("images", "overlays"):
        (daemon.state / folder).rename(daemon.root / folder)
    daemon.start()
    assert len(daemon.call("image.list")["items"]) == 2
    fails(daemon, "not_found", "images/|overlays/|cannot open", "desktop.start", desktop="ada")
    fails(daemon, "not_found", "images|cannot open", "desktop.create", name="eve", image="base")
    assert job(daemon, "image.gc", min_age_s=0)["files"] == 0
    assert [f["kind"] for f in job(daemon, "image.scrub")["findings"]] == ["missing"] * 4
    daemon.stop()
    for folder in ("images", "overlays"):
        (daemon.state / folder).rmdir()
        (daemon.root / folder).rename(daemon.state / folder)
    daemon.start()
    assert all_files(daemon) == before
    assert job(daemon, "image.scrub", checksums=True)["findings"] == []
    daemon.create_desktop("eve", image="base")


def sizes(daemon, name):
    desktop = daemon.desktop(name)
    files = [p for p in (daemon.state / "overlays").iterdir() if p.name.startswith(desktop["id"])]
    real = sorted(json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", file],
                                            check=True, capture_output=True).stdout)["virtual-size"]
                  for file in files)
    assert real == sorted(s for s in (desktop["disk_bytes"], desktop["data_disk_bytes"]) if s)
    return desktop["disk_bytes"], desktop["data_disk_bytes"]


def test_grow(daemon):
    """Stopped and running; nothing grows over the quota, and a large disk needs a new L1 table."""
    gib = 1 << 30
    daemon.create_desktop("eve", image="base:1", owner="eve", data_disk_gib=1)
    fails(daemon, "invalid", "no data disk", "desktop.update", desktop="ada", data_disk_gib=2)
    daemon.call("desktop.update", desktop="eve", disk_gib=2)
    assert sizes(daemon, "eve") == (2 * gib, gib)
    fails(daemon, "invalid", "smaller", "desktop.update", desktop="eve", disk_gib=1)
    daemon.call("quota.set", owner="eve", gib=6000)
    daemon.call("desktop.start", desktop="eve")
    daemon.call("desktop.update", desktop="eve", disk_gib=3, data_disk_gib=5000)
    assert sizes(daemon, "eve") == (3 * gib, 5000 * gib)
    fails(daemon, "limit", "quota", "desktop.update", desktop="eve", disk_gib=1001)
    assert sizes(daemon, "eve") == (3 * gib, 5000 * gib)
    daemon.call("desktop.stop", desktop="eve", mode="force")
    fails(daemon, "limit", "quota", "desktop.update", desktop="eve", disk_gib=1001)
    daemon.call("desktop.start", desktop="eve")
    assert sizes(daemon, "eve") == (3 * gib, 5000 * gib)
    assert job(daemon, "image.scrub")["findings"] == []
