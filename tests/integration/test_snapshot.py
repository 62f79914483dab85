"""Snapshots of desktops whose guest writes known data."""
import pathlib
import subprocess

import pytest
import vdi


def files(daemon, desktop):
    """The files in overlays/ that begin with the desktop's id."""
    identity = daemon.desktop(desktop)["id"]
    return sorted(p.name for p in (daemon.state / "overlays").iterdir()
                  if p.name.startswith(identity))


def check_chains(daemon, desktop):
    """Every file of the desktop's is a sound qcow2 file."""
    for name in files(daemon, desktop):
        done = subprocess.run(["qemu-img", "check", "-q", str(daemon.state / "overlays" / name)],
                              capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), f"{name}: {done.stdout}{done.stderr}"


def snapshots(daemon, desktop):
    return daemon.call("desktop.snapshot.list", desktop=desktop)["items"]


def tree(daemon, desktop):
    return [(s["name"], s["depth"], s["current"]) for s in snapshots(daemon, desktop)]


def take(daemon, desktop, name, **params):
    return daemon.call("desktop.snapshot.create", desktop=desktop, name=name, **params)


def revert(daemon, desktop, name):
    return daemon.call("desktop.snapshot.revert", desktop=desktop, snapshot=name)


@pytest.fixture
def ada(world):
    """A running desktop with a data disk; deleted in the end."""
    world.create_desktop("ada", "lan", data_disk_gib=1, start=True)
    ip = world.desktop("ada")["ip"]
    vdi.guest_wait(ip)
    yield ip
    world.call("desktop.delete", desktop="ada", force=True)


def write(ip, block, text):
    assert vdi.guest_do(ip, f"write {block} {text}", "sync") == ["ok", "ok"]


def read(ip, block):
    return vdi.guest_do(ip, f"read {block}")


def test_tree_of_a_running_desktop(world, ada):
    write(ada, 1, "first")
    pid = world.desktop("ada")["pid"]
    one = take(world, "ada", "one", description="before the change")
    assert (one["kind"], one["state"], one["parent"]) == ("quiesced", "ready", None)
    assert one["current"] and one["description"] == "before the change"
    assert world.desktop("ada")["pid"] == pid and read(ada, 1) == "first"
    write(ada, 1, "second")
    take(world, "ada", "two", quiesce="no")
    write(ada, 1, "third")
    assert tree(world, "ada") == [("one", 0, False), ("two", 1, True)]
    assert len(files(world, "ada")) == 6

    revert(world, "ada", "one")
    vdi.guest_wait(ada)
    assert read(ada, 1) == "first"
    assert tree(world, "ada") == [("one", 0, True), ("two", 1, False)]
    write(ada, 1, "another way")
    take(world, "ada", "three", quiesce="require")
    assert tree(world, "ada") == [("one", 0, False), ("two", 1, False), ("three", 1, True)]
    revert(world, "ada", "two")
    vdi.guest_wait(ada)
    assert read(ada, 1) == "second"
    world.call("desktop.stop", desktop="ada", mode="force")
    check_chains(world, "ada")
    assert len(files(world, "ada")) == 8
    with pytest.raises(vdi.RpcError) as failed:
        take(world, "ada", "two")
    assert failed.value.kind == "exists"


def test_of_a_stopped_desktop(world, ada):
    write(ada, 1, "first")
    world.call("desktop.stop", desktop="ada", mode="force")
    assert take(world, "ada", "one")["kind"] == "quiesced"
    world.call("desktop.start", desktop="ada")
    vdi.guest_wait(ada)
    assert read(ada, 1) == "first"
    write(ada, 1, "second")
    world.call("desktop.stop", desktop="ada", mode="force")
    revert(world, "ada", "one")
    assert world.desktop("ada")["state"] == "stopped"
    world.call("desktop.start", desktop="ada")
    vdi.guest_wait(ada)
    assert read(ada, 1) == "first"


def test_refusals(world):
    world.create_desktop("bob")
    for params, kind in (({"snapshot": "none"}, "not_found"),):
        with pytest.raises(vdi.RpcError) as failed:
            world.call("desktop.snapshot.revert", desktop="bob", **params)
        assert failed.value.kind == kind
    assert snapshots(world, "bob") == []
    depth = 0
    with pytest.raises(vdi.RpcError) as failed:
        for depth in range(20):
            take(world, "bob", f"s{depth}")
    assert failed.value.kind == "limit" and depth == 15 - 1
    world.call("desktop.delete", desktop="bob")
    assert list((world.state / "overlays").iterdir()) == []
