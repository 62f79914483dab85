"""What may come between while a desktop's disks are kept or merged: a daemon or a QEMU that is killed,
a full store, somebody who changes his mind. The guest's data and the chains are whole afterwards."""
import signal

import pytest
import vdi
from test_full_disk import FullDisk
from test_snapshot import (bulk, check_chains, check_values, files, read, restart, revert,
                           snapshots, take, write)


@pytest.fixture
def daemon(make_daemon, guest_image):
    daemon = make_daemon().start()
    daemon.import_image(guest_image)
    daemon.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    return daemon


@pytest.fixture
def ada(daemon):
    daemon.create_desktop("ada", "lan", data_disk_gib=1, start=True)
    ip = daemon.desktop("ada")["ip"]
    vdi.guest_wait(ip)
    return ip


def settled(daemon, desktop):
    """Nothing is under way: neither a job nor a snapshot that is on its way."""
    running = [job for job in daemon.call("job.list")["items"] if job["state"] == "running"]
    states = {s["state"] for s in snapshots(daemon, desktop)}
    return not running and not states & {"creating", "deleting"}


def patiently(daemon, method, **params):
    """What the daemon does of its own accord may come first."""
    def attempt():
        try:
            return daemon.call(method, **params)
        except vdi.RpcError as error:
            assert error.kind == "busy", error
            return None
    return vdi.wait_until(attempt, 20, method)


def kill_at(daemon, point, method, **params):
    daemon.restart(env={"VDI_CRASH_AT": point})
    with daemon.client() as client, pytest.raises((ConnectionError, vdi.RpcError)):
        client.call(method, **params)
    assert daemon.process.wait(60) != 0
    daemon.process = None


MERGE_POINTS = ["merge:copy:before", "merge:copy:after", "merge:finalize:before",
                "merge:finalize:after", "merge:row:before", "merge:files:after", "merge:row:after"]


@pytest.mark.parametrize("way", ["stream", "commit"])
def test_daemon_killed_in_a_merge(daemon, ada, way):
    """Of a desktop that runs: QEMU goes on with what it was told, and the next daemon with the rest."""
    for number, point in enumerate(MERGE_POINTS):
        before, after = f"before-{number}", f"after-{number}"
        bulk(ada, 100, 40, before)
        take(daemon, "ada", "one")
        bulk(ada, 110, 2, after)
        if way == "stream":
            take(daemon, "ada", "two")
        kill_at(daemon, point, "desktop.snapshot.delete", desktop="ada", snapshot="one", wait=True)
        # a commit's last moment holds the guest's requests back
        if (way, point) != ("commit", "merge:finalize:before"):
            write(ada, 20000, f"alone-{number}")
        daemon.start()
        vdi.wait_until(lambda: settled(daemon, "ada"), 30, f"{point} to be settled")
        values = {100: before, 110: after}
        check_values(ada, values)
        left = [s["name"] for s in snapshots(daemon, "ada")]
        assert way == "stream" or left == [], point  # a commit that was begun is gone on with
        for name in left:
            patiently(daemon, "desktop.snapshot.delete", desktop="ada", snapshot=name, wait=True)
        assert snapshots(daemon, "ada") == [] and len(files(daemon, "ada")) == 2, point
        check_values(ada, values)
        write(ada, 1, f"goes-on-{number}")
    restart(daemon, "ada", ada)
    check_values(ada, {1: f"goes-on-{number}", **values})


MEMORY_POINTS = [f"snapshot-take:{step}" for step in
                 ("halt:after", "switch:after", "memory:before", "memory:after", "run:after")]


def test_daemon_killed_while_memory_is_saved(daemon, ada):
    """Nobody was told of a snapshot, so there is none; the guest, which stood still, goes on."""
    write(ada, 1, "first")
    boot = vdi.guest_do(ada, "boot")
    for point in MEMORY_POINTS:
        kill_at(daemon, point, "desktop.snapshot.create", desktop="ada", name="one", memory=True)
        daemon.start()
        vdi.wait_until(lambda: settled(daemon, "ada") and not snapshots(daemon, "ada"), 30, point)
        vdi.wait_until(lambda: daemon.desktop("ada")["state"] == "running", 5, point)
        assert vdi.guest_do(ada, "boot") == boot and read(ada, 1) == "first"
        write(ada, 1, "first")
        assert len(files(daemon, "ada")) == 2, point
        assert list((daemon.state / "states").iterdir()) == []
    restart(daemon, "ada", ada)
    assert read(ada, 1) == "first"


def slow_merge(daemon, ip, way):
    """The job of a merge that takes its time, and what the disk holds."""
    bulk(ip, 100, 100, "lower")
    take(daemon, "ada", "one")
    bulk(ip, 13100, 90, "upper")
    if way == "stream":
        take(daemon, "ada", "two")
    answer = daemon.call("desktop.snapshot.delete", desktop="ada", snapshot="one", rate_mib_s=1)
    def copying():
        job = daemon.call("job.get", job=answer["job"])
        assert job["state"] == "running", job
        return job["done"] > 0
    vdi.wait_until(copying, 20, "the merge to copy")
    return answer["job"], {100: "lower", 13100: "upper", 13100 + 128 * 89: "upper"}


@pytest.mark.parametrize("way", ["stream", "commit"])
def test_qemu_killed_in_a_merge(daemon, ada, way):
    """It is gone on with by itself, in a QEMU of its own, while the desktop is off and when it is
    started again."""
    job, values = slow_merge(daemon, ada, way)
    writer_value = "written while it was merged"
    write(ada, 1, writer_value)
    vdi.kill_pid(daemon.desktop("ada")["pid"], sig=signal.SIGKILL)
    vdi.wait_until(lambda: daemon.desktop("ada")["state"] == "failed", 10, "its end")
    vdi.wait_until(lambda: patient_start(daemon), 20, "its start")
    vdi.guest_wait(ada)
    check_values(ada, {1: writer_value, **values})
    assert daemon.call("job.wait", job=job)["state"] == "done"
    assert [s["name"] for s in snapshots(daemon, "ada")] == (["two"] if way == "stream" else [])
    restart(daemon, "ada", ada)
    check_values(ada, {1: writer_value, **values})


def patient_start(daemon):
    try:
        return daemon.call("desktop.start", desktop="ada")
    except vdi.RpcError as error:
        assert error.kind == "busy", error
        return None


@pytest.mark.parametrize("way", ["stream", "commit"])
def test_cancelled(daemon, ada, way):
    job, values = slow_merge(daemon, ada, way)
    daemon.call("job.cancel", job=job)
    assert daemon.call("job.wait", job=job)["state"] == "cancelled"
    check_values(ada, values)
    states = {s["name"]: s["state"] for s in snapshots(daemon, "ada")}
    if way == "stream":
        # as if nothing had been asked for
        assert states == {"one": "ready", "two": "ready"}
        revert(daemon, "ada", "one")
        vdi.guest_wait(ada)
        assert read(ada, 100) == "lower" and read(ada, 13100) != "upper"
    else:
        with pytest.raises(vdi.RpcError) as failed:
            revert(daemon, "ada", "one")
        assert failed.value.kind == "conflict" and states == {"one": "deleting"}
    daemon.call("desktop.snapshot.delete", desktop="ada", snapshot="one", wait=True)
    assert "one" not in [s["name"] for s in snapshots(daemon, "ada")]
    restart(daemon, "ada", ada)
    assert read(ada, 100) == "lower"


@pytest.fixture
def small(build, vdi_user, guest_image):
    """A daemon on a small file system, with a desktop that runs; its guest."""
    disk = FullDisk(build / "vdi-hostd/vdi-hostd")
    try:
        disk.daemon.start()
        disk.daemon.import_image(guest_image)
        disk.daemon.call("network.create", name="lan", cidr="10.79.0.0/24")
        disk.daemon.create_desktop("ada", "lan", start=True)
        vdi.guest_wait(disk.daemon.desktop("ada")["ip"])
        yield disk
    finally:
        disk.done()


def test_full_store_in_a_merge(small):
    """It fails, nothing is lost, and with room it is done."""
    daemon, ip = small.daemon, small.daemon.desktop("ada")["ip"]
    bulk(ip, 100, 60, "lower")
    take(daemon, "ada", "one")
    bulk(ip, 10000, 4, "upper")
    take(daemon, "ada", "two")
    values = {100: "lower", 100 + 128 * 59: "lower", 10000: "upper"}
    small.fill(1 << 20)
    with pytest.raises(vdi.RpcError, match="No space left"):
        daemon.call("desktop.snapshot.delete", desktop="ada", snapshot="one", wait=True)
    assert {s["name"]: s["state"] for s in snapshots(daemon, "ada")} == \
        {"one": "ready", "two": "ready"}
    small.make_room()
    check_values(ip, values)
    patiently(daemon, "desktop.snapshot.delete", desktop="ada", snapshot="one", wait=True)
    check_values(ip, values)
    daemon.call("desktop.stop", desktop="ada", mode="force")
    check_chains(daemon, "ada")
    daemon.call("desktop.start", desktop="ada")
    vdi.guest_wait(ip)
    check_values(ip, values)


def test_full_store_when_taken(small):
    daemon = small.daemon
    before = files(daemon, "ada")
    small.fill()
    with pytest.raises(vdi.RpcError) as failed:
        take(daemon, "ada", "one")
    assert failed.value.kind == "limit", failed.value
    small.make_room()
    assert snapshots(daemon, "ada") == [] and files(daemon, "ada") == before
    take(daemon, "ada", "one")
