"""Work on the disks of a desktop that is stopped: its QEMU is there, its guest is not, and nobody has
to wait for the work."""
import pytest
import vdi

BLOCKS = 110  # of 64 KiB each
OLD, NEW = 128, 128 * (2 + BLOCKS)  # where they begin


@pytest.fixture(scope="module")
def daemon(build, vdi_user, guest_image):
    # so slow that a merge is under way for a while
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd", {"desktops": {"merge_rate_mib_s": "1"}})
    daemon.start()
    try:
        daemon.import_image(guest_image)
        daemon.call("network.create", name="lan", cidr="10.82.0.0/24")
        yield daemon
    finally:
        daemon.done()


@pytest.fixture
def ada(daemon):
    """A desktop with a snapshot between what its guest has written, stopped."""
    ada = daemon.create_desktop("ada", "lan", start=True)
    vdi.guest_wait(ada["ip"])
    assert vdi.guest_do(ada["ip"], "write 1 first", "write 2 first", f"fill {OLD} {BLOCKS} old", "sync",
                        timeout=60) == ["ok"] * 4
    daemon.call("desktop.snapshot.create", desktop="ada", name="one")
    assert vdi.guest_do(ada["ip"], "write 2 second", f"fill {NEW} {BLOCKS} new", "sync",
                        timeout=60) == ["ok"] * 3
    daemon.call("desktop.stop", desktop="ada", mode="force")
    yield ada
    daemon.call("desktop.delete", desktop="ada", force=True)


def qemus():
    return [pid for (pid, _), name in vdi.our_processes().items() if name.startswith("qemu-system")]


def merge(daemon):
    """The job, once a QEMU has the disks; and that QEMU."""
    job = daemon.call("desktop.snapshot.delete", desktop="ada", snapshot="one")["job"]
    vdi.wait_until(qemus, 10, "a QEMU")
    (pid,) = qemus()
    return job, pid


def state_of(daemon, job):
    return daemon.call("job.get", job=job)["state"]


def finish(daemon, job):
    vdi.wait_until(lambda: state_of(daemon, job) != "running", 60, "the merge")
    ended = daemon.call("job.get", job=job)
    assert ended["state"] == "done", ended
    assert daemon.desktop("ada")["work"] is None
    assert daemon.call("desktop.snapshot.list", desktop="ada")["items"] == []


def check(ip):
    vdi.guest_wait(ip)
    last = 128 * (BLOCKS - 1)
    assert vdi.guest_do(ip, "read 1", "read 2", f"read {OLD}", f"read {OLD + last}", f"read {NEW}",
                        f"read {NEW + last}") == ["first", "second", "old", "old", "new", "new"]


def test_a_start_does_not_wait(daemon, ada):
    """The user clicks in the middle of a merge: same process, the merge goes on, nothing is lost."""
    job, pid = merge(daemon)
    now = daemon.desktop("ada")
    assert (now["state"], now["pid"], now["started_at"]) == ("stopped", None, None)
    assert "one" in now["work"]
    # nobody else gets at its disks, and a stop is nothing new
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("desktop.delete", desktop="ada")
    assert caught.value.kind == "busy" and now["work"] in str(caught.value)
    assert daemon.call("desktop.stop", desktop="ada", mode="force")["state"] == "stopped"
    assert qemus() == [pid]
    started = daemon.call("desktop.start", desktop="ada")
    assert started["pid"] == pid and started["state"] == "running"
    assert state_of(daemon, job) == "running"
    check(ada["ip"])
    finish(daemon, job)
    assert daemon.desktop("ada")["pid"] == pid
    check(ada["ip"])


def test_it_stops_beneath_the_merge(daemon, ada):
    """Begun while the guest runs, it ends without it; also when QEMU is killed in the middle."""
    daemon.call("desktop.start", desktop="ada")
    vdi.guest_wait(ada["ip"])
    job, pid = merge(daemon)
    vdi.wait_until(lambda: daemon.desktop("ada")["work"], 5, "the work")
    daemon.call("desktop.stop", desktop="ada", mode="force")
    assert daemon.desktop("ada")["state"] == "stopped"
    vdi.wait_until(lambda: qemus() and qemus() != [pid], 10, "a parked QEMU")
    # one that dies before it is ready is an error, as a start's would be
    done = daemon.call("job.get", job=job)["done"]
    vdi.wait_until(lambda: daemon.call("job.get", job=job)["done"] != done, 10, "it to be at work")
    vdi.kill_pid(qemus()[0])
    finish(daemon, job)
    assert daemon.desktop("ada")["state"] == "stopped" and qemus() == []
    daemon.call("desktop.start", desktop="ada")
    check(ada["ip"])


def test_a_daemon_that_is_killed(daemon, ada):
    """The next one ends the parked QEMU; the snapshot is there, or it is not, and the data in any
    case."""
    _, pid = merge(daemon)
    daemon.kill()
    assert qemus() == [pid]
    daemon.start()
    vdi.wait_until(lambda: pid not in qemus(), 10, "the end of the parked QEMU")
    vdi.wait_until(lambda: not daemon.desktop("ada")["work"], 60, "what it goes on with")
    assert daemon.desktop("ada")["state"] == "stopped" and qemus() == []
    daemon.call("desktop.start", desktop="ada")
    check(ada["ip"])
