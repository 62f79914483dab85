"""Desktops that begin anew, and desktops that move to another version of their image: with a guest
that says which version it was started from, and writes on both of its disks."""
import subprocess

import pytest
import vdi

PARTITION = (1024 + 36864) << 10  # where block 0 of the guest's `read` is on its disk


@pytest.fixture(scope="module")
def world(build, vdi_user, guest_image, tmp_path_factory):
    """Two versions of the guest: block 7 says which."""
    folder = tmp_path_factory.mktemp("versions")
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    for text in ("one", "two"):
        path = folder / f"{text}.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", guest_image, path], check=True)
        with open(path, "r+b") as disk:
            disk.seek(PARTITION + 7 * 512)
            disk.write(text.encode() + b"\n")
        daemon.import_image(path)
    daemon.call("network.create", name="lan", cidr="10.77.0.0/24")
    yield daemon
    daemon.done()


@pytest.fixture(autouse=True)
def nothing_left(world):
    yield
    with world.client() as client:
        for desktop in client.call("desktop.list")["items"]:
            client.call("desktop.delete", desktop=desktop["id"], force=True)
    assert list((world.state / "overlays").iterdir()) == []


def create(world, name="ada", image="guest:1", data=True, **params):
    if data:
        params["data_disk_gib"] = 1
    return world.create_desktop(name, "lan", image=image, **params)["ip"]


def start(world, ip, name="ada"):
    world.call("desktop.start", desktop=name)
    vdi.guest_wait(ip)


def stop(world, name="ada"):
    world.call("desktop.stop", desktop=name, mode="force")


def refuse(world, kind, word, method, **params):
    with pytest.raises(vdi.RpcError) as caught:
        world.call(method, **params)
    assert caught.value.kind == kind and word in str(caught.value), caught.value


def files(world):
    return len(list((world.state / "overlays").iterdir()))


def recompose_all(world, **params):
    answer = world.call("image.recompose", wait=True, **params)
    return {item["desktop"]: item for item in answer["result"]["items"]}


def test_disposable(world):
    ip = create(world, disposable=True)
    start(world, ip)

    def leave_traces():
        assert vdi.guest_do(ip, "write 3 secret", "sync", "kwrite 3 kept", "ksync") == ["ok"] * 4
        assert vdi.guest_do(ip, "read 3", "kread 3", "read 7") == ["secret", "kept", "one"]

    def check():
        assert files(world) == 2
        start(world, ip)
        assert vdi.guest_do(ip, "read 3", "kread 3") == ["", "kept"]

    leave_traces()
    stop(world)
    check()
    # its QEMU is killed
    leave_traces()
    vdi.kill_pid(world.desktop("ada")["pid"])
    vdi.wait_until(lambda: world.desktop("ada")["state"] == "failed", 10, "its end to be noticed")
    check()
    # and while nobody looks
    leave_traces()
    pid = world.desktop("ada")["pid"]
    world.kill()
    vdi.kill_pid(pid)
    world.start()
    check()
    refuse(world, "conflict", "disposable", "desktop.snapshot.create", desktop="ada")
    # the next version counts from its next start, also when the first is retired by then
    item = world.call("desktop.recompose", desktop="ada", image="guest:2")
    assert (item["from"], item["to"], item["action"]) == ("guest:1", "guest:2", "next-start")
    refuse(world, "conflict", "ada", "image.delete", image="guest:2")
    assert world.desktop("ada")["next_image"] == "guest:2"
    leave_traces()
    # by the power button
    world.call("desktop.stop", desktop="ada")
    start(world, ip)
    assert vdi.guest_do(ip, "read 7", "read 3", "kread 3") == ["two", "", "kept"]
    desktop = world.desktop("ada")
    assert (desktop["image_version"], desktop["next_image"]) == (2, None)
    # one that is no longer disposable keeps what it has
    world.call("desktop.update", desktop="ada", disposable=False)
    assert vdi.guest_do(ip, "write 3 mine", "sync") == ["ok", "ok"]
    stop(world)
    start(world, ip)
    assert vdi.guest_do(ip, "read 3") == "mine"


def test_recompose(world):
    ip = create(world)
    start(world, ip)
    assert vdi.guest_do(ip, "write 3 old", "sync", "kwrite 3 kept", "ksync") == ["ok"] * 4
    plan = world.call("desktop.recompose", desktop="ada", image="guest", dry_run=True)
    assert plan["action"] == "refused" and "stop" in plan["error"]
    refuse(world, "conflict", "running", "desktop.recompose", desktop="ada", image="guest:2")
    stop(world)
    plan = world.call("desktop.recompose", desktop="ada", image="guest:2", dry_run=True)
    assert (plan["action"], plan["warning"], plan["error"]) == ("recompose", None, None)
    assert world.desktop("ada")["image_version"] == 1
    assert world.call("desktop.recompose", desktop="ada", image="guest:2")["action"] == "recompose"
    desktop = world.desktop("ada")
    assert (desktop["image_version"], desktop["previous_image"]) == (2, "guest:1")
    start(world, ip)
    assert vdi.guest_do(ip, "read 7", "read 3", "kread 3") == ["two", "", "kept"]
    assert vdi.guest_do(ip, "kwrite 4 new", "ksync") == ["ok", "ok"]
    # the way back is there, and in nobody's way
    refuse(world, "conflict", "ada", "image.delete", image="guest:1")
    refuse(world, "conflict", "running", "desktop.recompose.undo", desktop="ada")
    stop(world)
    refuse(world, "conflict", "confirm", "desktop.recompose", desktop="ada", image="guest:1")
    assert world.call("desktop.recompose.undo", desktop="ada")["image_version"] == 1
    assert world.desktop("ada")["previous_image"] is None and files(world) == 2
    refuse(world, "conflict", "no recompose", "desktop.recompose.confirm", desktop="ada")
    start(world, ip)
    assert vdi.guest_do(ip, "read 7", "read 3", "kread 3", "kread 4") == ["one", "old", "kept", "new"]
    # and once more, by the image, with the stop and the start
    items = recompose_all(world, image="guest:2", stop=True)
    assert (items["ada"]["action"], items["ada"]["error"]) == ("restart", None)
    vdi.guest_wait(ip)
    vdi.wait_until(lambda: vdi.guest_do(ip, "read 7") == "two", 30, "the other version")
    assert vdi.guest_do(ip, "read 3", "kread 4") == ["", "new"]
    assert files(world) == 3
    assert world.call("desktop.recompose.confirm", desktop="ada")["image_version"] == 2
    assert files(world) == 2
    assert vdi.guest_do(ip, "read 7", "kread 3") == ["two", "kept"]


def test_what_is_refused(world):
    create(world, "snap")
    world.call("desktop.snapshot.create", desktop="snap", name="monday")
    create(world, "bare", data=False)
    create(world, "there", image="guest:2")
    create(world, "new", disposable=True)
    create(world, "good")
    items = recompose_all(world, image="guest:2", dry_run=True)
    assert {name: item["action"] for name, item in items.items()} == {
        "snap": "refused", "bare": "refused", "there": "none", "new": "next-start",
        "good": "recompose"}
    assert "monday" in items["snap"]["error"]
    assert "data disk" in items["bare"]["error"] and "data disk" in items["bare"]["warning"]
    assert [world.desktop(name)["image_version"] for name in items].count(2) == 1
    items = recompose_all(world, image="guest:2", force=True)
    assert {name: item["error"] is None for name, item in items.items()} == {
        "snap": False, "bare": True, "there": True, "new": True, "good": True}
    assert world.desktop("bare")["image_version"] == 2
    assert world.desktop("good")["image_version"] == 2
    assert world.desktop("new")["next_image"] == "guest:2"
    # snapshots of after the move stand on what an undo would drop
    world.call("desktop.snapshot.create", desktop="good", name="tuesday")
    refuse(world, "conflict", "tuesday", "desktop.recompose.undo", desktop="good")
    refuse(world, "not_found", "nobody", "image.recompose", image="guest:1", desktops=["nobody"])
    refuse(world, "conflict", "another", "image.recompose", image="guest:2", **{
        "from": "guest:1", "desktops": ["there"]})
    assert list(recompose_all(world, image="guest:1", desktops=["there"], dry_run=True)) == ["there"]
    assert set(recompose_all(world, image="guest:2", dry_run=True, **{"from": "guest:1"})) == {
        "snap", "new"}
    world.call("image.retire", image="guest:1")
    try:
        refuse(world, "conflict", "retired", "desktop.recompose", desktop="there", image="guest:1")
        # who is disposable goes on with a retired version
        world.call("desktop.recompose", desktop="new", image="guest:2")
        world.call("desktop.update", desktop="new", disposable=False)
        world.call("desktop.update", desktop="new", disposable=True)
        world.call("desktop.start", desktop="new")
        assert world.desktop("new")["image_version"] == 1
    finally:
        world.call("image.publish", image="guest:1")
    refuse(world, "conflict", "confirm", "desktop.update", desktop="bare", disposable=True)
    refuse(world, "conflict", "snapshots", "desktop.update", desktop="snap", disposable=True)


def test_cancelled_midway(world):
    """The desktop that is being moved is moved wholly, those before it stay moved, the rest is as before."""
    names = ["ada", "bob", "eve"]
    ip = {name: create(world, name) for name in names}
    start(world, ip["ada"])
    job = world.call("image.recompose", image="guest:2", desktops=names, stop=True)["job"]
    vdi.wait_until(lambda: world.desktop("ada")["state"] != "running", 10, "the first to be stopped")
    world.call("job.cancel", job=job)
    ended = world.call("job.wait", job=job)
    assert ended["state"] == "cancelled" and "after 1 of 3" in ended["error"], ended
    first, *others = [world.desktop(name) for name in names]
    assert (first["image_version"], first["previous_image"]) == (2, "guest:1")
    vdi.guest_wait(ip["ada"])
    assert vdi.guest_do(ip["ada"], "read 7") == "two"
    assert [(one["image_version"], one["previous_image"], one["work"]) for one in others] == [
        (1, None, None)] * 2
    # a system and a data disk each, and the way back of the first
    assert files(world) == 7
    # the rest can be asked for again
    items = recompose_all(world, image="guest:2", desktops=names[1:])
    assert [items[name]["action"] for name in names[1:]] == ["recompose"] * 2
    assert {world.desktop(name)["image_version"] for name in names} == {2}
