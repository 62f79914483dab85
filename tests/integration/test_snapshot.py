"""Snapshots of desktops whose guest writes known data."""
import socket
import subprocess
import threading
import time

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
    world.call_when_free("desktop.delete", desktop="ada", force=True)


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


def delete(daemon, desktop, name, **params):
    with daemon.client(120) as client:
        job = client.call("desktop.snapshot.delete", desktop=desktop, snapshot=name, wait=True,
                          **params)
    assert job["state"] == "done", job
    return job


class Writer(threading.Thread):
    """A guest that never stops writing: block N of a few gets an ever higher number, which is on the
    disk when `stop` returns."""

    def __init__(self, ip, blocks=range(10, 20)):
        super().__init__(daemon=True)
        self.ip, self.blocks, self.values, self.stopping = ip, blocks, {}, False
        self.start()

    def run(self):
        number = 0
        with socket.create_connection((self.ip, 8), 30) as sock:
            file = sock.makefile("rw")
            while not self.stopping:
                for block in self.blocks:
                    number += 1
                    file.write(f"write {block} {number}\n")
                    file.flush()
                    assert file.readline() == "ok\n"
                    self.values[block] = str(number)

    def stop(self):
        self.stopping = True
        self.join(120)
        assert not self.is_alive() and self.values
        return self.values


def check_values(ip, values):
    for block, value in values.items():
        assert read(ip, block) == value, block


def bulk(ip, first, count, text):
    """Many blocks at once."""
    assert vdi.guest_do(ip, f"fill {first} {count} {text}", "sync") == ["ok", "ok"]


def restart(daemon, desktop, ip):
    daemon.call("desktop.stop", desktop=desktop, mode="force")
    check_chains(daemon, desktop)
    daemon.call("desktop.start", desktop=desktop)
    vdi.guest_wait(ip)


def test_live_merges_while_the_guest_writes(world, ada):
    write(ada, 1, "first")
    take(world, "ada", "one")
    write(ada, 2, "second")
    take(world, "ada", "two")
    write(ada, 3, "third")
    take(world, "ada", "three")
    writer = Writer(ada)
    pid = world.desktop("ada")["pid"]
    # an inner one by stream, the one below the top by whichever is cheaper, the lowest
    for name in ("two", "three", "one"):
        delete(world, "ada", name)
    values = writer.stop()
    assert world.desktop("ada")["pid"] == pid
    assert snapshots(world, "ada") == [] and len(files(world, "ada")) == 2
    check_values(ada, {1: "first", 2: "second", 3: "third", **values})
    assert vdi.guest_do(ada, "sync") == "ok"
    restart(world, "ada", ada)
    check_values(ada, {1: "first", 2: "second", 3: "third", **values})


def test_merges_of_a_stopped_desktop_and_of_branches(world, ada):
    write(ada, 1, "first")
    take(world, "ada", "root")
    write(ada, 1, "left")
    take(world, "ada", "left")
    revert(world, "ada", "root")
    vdi.guest_wait(ada)
    write(ada, 1, "right")
    write(ada, 2, "right, too")
    take(world, "ada", "right")
    # several stand on it: its row goes, its file stays
    before = files(world, "ada")
    delete(world, "ada", "root")
    assert files(world, "ada") == before
    assert tree(world, "ada") == [("left", 0, False), ("right", 0, True)]
    world.call("desktop.stop", desktop="ada", mode="force")
    # the other branch goes, and with it what nobody else needs
    delete(world, "ada", "left")
    assert tree(world, "ada") == [("right", 0, True)]
    assert len(files(world, "ada")) == 4
    world.call("desktop.start", desktop="ada")
    vdi.guest_wait(ada)
    write(ada, 1, "lost")
    revert(world, "ada", "right")
    vdi.guest_wait(ada)
    check_values(ada, {1: "right", 2: "right, too"})
    world.call("desktop.stop", desktop="ada", mode="force")
    delete(world, "ada", "right")
    assert world.desktop("ada")["state"] == "stopped" and world.desktop("ada")["pid"] is None
    assert len(files(world, "ada")) == 2
    check_chains(world, "ada")
    world.call("desktop.start", desktop="ada")
    vdi.guest_wait(ada)
    check_values(ada, {1: "right", 2: "right, too"})


def test_flatten_to_stand_alone(world, ada):
    write(ada, 1, "first")
    take(world, "ada", "one")
    write(ada, 2, "second")
    with world.client(120) as client:
        job = client.call("desktop.flatten", desktop="ada", all=True, wait=True)
    assert job["state"] == "done" and job["total"] > 0, job
    restart(world, "ada", ada)
    check_values(ada, {1: "first", 2: "second"})
    names = [str(world.state / "overlays" / name) for name in files(world, "ada")]
    backings = [subprocess.run(["qemu-img", "info", "-U", "--output=json", name], check=True,
                               capture_output=True, text=True).stdout for name in names]
    assert not [text for text in backings if "../images/" in text]
    revert(world, "ada", "one")
    vdi.guest_wait(ada)
    assert read(ada, 1) == "first" and read(ada, 2) != "second"


@pytest.fixture
def set_depth(world):
    """Changes the budget of the image that all stand on, which gets its own back in the end."""
    image = world.call("image.list")["items"][0]
    name = f"{image['name']}:{image['version']}"
    yield lambda files: world.call("image.update", image=name, depth_max=files)
    world.call("image.update", image=name, depth_max=image["depth_max"])


def flattens(daemon):
    """How the jobs ended, or not yet, that merge files of no snapshot."""
    return [job["state"] for job in daemon.call("job.list")["items"]
            if job["kind"] == "desktop.flatten"]


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_too_deep_is_flattened_by_itself(world, ada, set_depth, running):
    """A snapshot more than the image's budget, and the files that nobody needs are merged."""
    before = flattens(world)
    nameless = set(files(world, "ada"))
    write(ada, 1, "first")
    take(world, "ada", "root")
    write(ada, 2, "second")
    take(world, "ada", "left")
    revert(world, "ada", "root")
    # two stand on its files, so they stay when it goes; then one, and they are left over
    delete(world, "ada", "root")
    revert(world, "ada", "left")
    vdi.guest_wait(ada)
    write(ada, 3, "third")
    if not running:
        assert vdi.guest_do(ada, "sync") == "ok"
        world.call("desktop.stop", desktop="ada", mode="force")
    pid = world.desktop("ada")["pid"]
    # the image, that file, and one each for left, more and what is written now
    set_depth(5)
    take(world, "ada", "more")
    time.sleep(0.5)
    assert flattens(world) == before and nameless < set(files(world, "ada"))
    take(world, "ada", "again")
    vdi.wait_until(lambda: not nameless & set(files(world, "ada")), 20, "the flattening")
    vdi.wait_until(lambda: world.desktop("ada")["work"] is None, 10, "its end")
    assert flattens(world).count("done") == before.count("done") + 1
    assert len(files(world, "ada")) == 8 and world.desktop("ada")["pid"] == pid
    assert [name for name, _, _ in tree(world, "ada")] == ["left", "more", "again"]
    if not running:
        check_chains(world, "ada")
        world.call("desktop.start", desktop="ada")
        vdi.guest_wait(ada)
    check_values(ada, {1: "first", 2: "second", 3: "third"})
    revert(world, "ada", "left")
    vdi.guest_wait(ada)
    check_values(ada, {1: "first", 2: "second"})
    assert read(ada, 3) != "third"


def test_with_memory(world, ada):
    """The guest goes on where it was: same boot, and what it had in memory alone."""
    write(ada, 1, "first")
    boot = vdi.guest_do(ada, "boot")
    assert vdi.guest_do(ada, "remember apple") == "ok"
    one = take(world, "ada", "one", memory=True)
    assert one["kind"] == "memory" and one["size_bytes"] > 1 << 20
    assert world.desktop("ada")["state"] == "running"
    assert vdi.guest_do(ada, "recall", "boot") == ["apple", boot]
    write(ada, 1, "second")
    assert vdi.guest_do(ada, "remember pear") == "ok"
    world.call("desktop.stop", desktop="ada", mode="force")
    world.call("desktop.update", desktop="ada", memory_mib=320)

    revert(world, "ada", "one")
    desktop = world.desktop("ada")
    assert (desktop["state"], desktop["memory_mib"]) == ("running", 256)
    vdi.guest_wait(ada)
    assert vdi.guest_do(ada, "recall", "boot") == ["apple", boot]
    check_values(ada, {1: "first"})
    # once more from a desktop that runs, and away with it while it does
    revert(world, "ada", "one")
    vdi.guest_wait(ada)
    assert vdi.guest_do(ada, "recall", "boot") == ["apple", boot]
    delete(world, "ada", "one")
    assert list((world.state / "states").iterdir()) == []
    check_values(ada, {1: "first"})


def half_an_exchange(daemon):
    """What a killed daemon leaves with the agent: a question, and half of another."""
    path, = (daemon.runtime / "desktops").glob("*/agent.sock")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(str(path))
        agent.sendall(b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 7}}\n'
                      b'{"execute": "guest-pi')


def test_quiesced_right_after_memory(world, ada):
    """A guest that just stood still answers, whatever was begun with its agent before."""
    for n in range(4):
        assert take(world, "ada", f"memory{n}", memory=True)["kind"] == "memory"
        if n % 2:
            half_an_exchange(world)
        assert take(world, "ada", f"rest{n}", quiesce="require")["kind"] == "quiesced"
    revert(world, "ada", "memory3")
    vdi.guest_wait(ada)
    assert take(world, "ada", "restored", quiesce="require")["kind"] == "quiesced"


def test_memory_of_what_has_none(world):
    world.create_desktop("bob")
    with pytest.raises(vdi.RpcError) as failed:
        take(world, "bob", "one", memory=True)
    assert failed.value.kind == "conflict"
    world.call("desktop.delete", desktop="bob")
