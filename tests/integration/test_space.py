"""Room in the store: what a guest does that ran out of it, and what is begun no more when little is
left. On a small file system of its own, with a real guest that writes."""
import contextlib
import time

import pytest
import vdi
from test_full_disk import FullDisk, write_until_paused

MIB = 1 << 20


@pytest.fixture(scope="module")
def disk(build, vdi_user, guest_image):
    disk = FullDisk(build / "vdi-hostd/vdi-hostd")
    try:
        disk.daemon.start()
        disk.daemon.import_image(guest_image)
        disk.daemon.call("network.create", name="lan", cidr="10.81.0.0/24")
        disk.daemon.create_desktop("ada", "lan")
        yield disk
    finally:
        disk.done()


def state_of(daemon):
    return daemon.desktop("ada")["state"]


def check(ip, written):
    """All that the guest was told is on its disk, and the write that had to wait."""
    late = written[-1] + 128
    vdi.wait_until(lambda: vdi.guest_do(ip, f"read {late}") == f"block {late}", 10, "the late write")
    for number in written:
        assert vdi.guest_do(ip, f"read {number}") == f"block {number}"


def start(daemon):
    started = daemon.call("desktop.start", desktop="ada")
    vdi.guest_wait(started["ip"])
    return started["pid"], started["ip"], vdi.guest_do(started["ip"], "boot")


def test_goes_on_by_itself(disk):
    daemon = disk.daemon
    pid, ip, boot = start(daemon)
    with daemon.client() as events:
        events.call("events.subscribe", topics=["desktop"])
        disk.fill(MIB)
        written = write_until_paused(daemon, ip)
        assert written
        # a little room is not enough to be let run into the same again
        disk.make_room()
        disk.fill(8 * MIB)
        time.sleep(4.5)
        assert state_of(daemon) == "paused"
        disk.make_room()
        vdi.wait_until(lambda: state_of(daemon) == "running", 10, "the desktop to go on")
        told = [events.next_event()["data"] for _ in range(2)]
    assert [event["state"] for event in told] == ["paused", "running"]
    assert "full" in told[0]["reason"] and "by itself" in told[0]["reason"]
    assert daemon.desktop("ada")["state_reason"] is None
    vdi.guest_wait(ip)
    check(ip, written)
    assert vdi.guest_do(ip, "boot") == boot and daemon.desktop("ada")["pid"] == pid
    daemon.call("desktop.delete", desktop="ada", force=True)
    daemon.create_desktop("ada", "lan")


def test_goes_on_under_the_next_daemon(disk):
    daemon = disk.daemon
    pid, ip, boot = start(daemon)
    disk.fill(MIB)
    written = write_until_paused(daemon, ip)
    # who pauses it on purpose has it stay so, whatever daemon
    assert daemon.call("desktop.pause", desktop="ada")["state_reason"] is None
    daemon.kill()
    daemon.start()
    disk.make_room()
    time.sleep(4.5)
    assert state_of(daemon) == "paused"
    disk.fill(0)
    with contextlib.suppress(vdi.RpcError):  # it may meet the error before the answer is there
        daemon.call("desktop.resume", desktop="ada")
    vdi.wait_until(lambda: state_of(daemon) == "paused", 10, "the next pause")
    daemon.kill()
    daemon.start()
    vdi.wait_until(lambda: "full" in (daemon.desktop("ada")["state_reason"] or ""), 5, "the reason")
    disk.make_room()
    vdi.wait_until(lambda: state_of(daemon) == "running", 10, "the desktop to go on")
    vdi.guest_wait(ip)
    check(ip, written)
    assert vdi.guest_do(ip, "boot") == boot and daemon.desktop("ada")["pid"] == pid
    daemon.call("desktop.stop", desktop="ada", mode="force")


def test_watermarks(disk, tmp_path):
    """Told of once each, and nothing new is begun."""
    daemon = disk.daemon
    disk.make_room()
    total = daemon.call("host.stats")["store_total_bytes"]
    # of what is free now
    part = disk.free() * 100 // total
    low, critical = part // 2, part // 4
    assert critical > 3
    daemon.settings["store"] = {"space_low_percent": low, "space_critical_percent": critical,
                                "space_critical_mib": 0}
    daemon.restart()

    def percent(number):
        return number * total // 100 // 4096 * 4096

    def level():
        return daemon.call("host.stats")["store_level"]

    with daemon.client() as events:
        events.call("events.subscribe", topics=["host"])
        assert level() == "ok"
        disk.fill(percent(low - 2))
        assert (level(), level()) == ("low", "low")
        daemon.call("desktop.start", desktop="ada")
        disk.fill(percent(critical - 2))
        # memory takes as much room as a guest has of it
        with pytest.raises(vdi.RpcError) as caught:
            daemon.call("desktop.snapshot.create", desktop="ada", name="monday", memory=True)
        assert caught.value.kind == "limit" and "image gc" in str(caught.value)
        assert daemon.call("desktop.snapshot.list", desktop="ada")["items"] == []
        assert (state_of(daemon), daemon.desktop("ada")["work"]) == ("running", None)
        assert list((daemon.state / "states").iterdir()) == []
        daemon.call("desktop.stop", desktop="ada", mode="force")
        with pytest.raises(vdi.RpcError) as caught:
            daemon.call("desktop.start", desktop="ada")
        assert caught.value.kind == "limit"
        assert "MiB more" in str(caught.value) and "image gc" in str(caught.value)
        source = tmp_path / "disk.raw"
        source.write_bytes(b"\0" * MIB)
        with pytest.raises(vdi.RpcError) as caught:
            daemon.import_image(source, "more")
        assert caught.value.kind == "limit" and "image gc" in str(caught.value)
        assert level() == "critical"
        disk.make_room()
        assert (level(), level()) == ("ok", "ok")
        assert daemon.call("desktop.start", desktop="ada")["state"] == "running"
        told = [events.next_event()["data"] for _ in range(3)]
        assert [event["what"] for event in told] == ["space_low", "space_critical", "space_ok"]
        assert all(event["total_bytes"] == total for event in told)
    daemon.call("desktop.stop", desktop="ada", mode="force")
