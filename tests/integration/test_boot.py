"""The host is restarted: what was to come back comes back, and only that."""
import sqlite3

import pytest
import vdi

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def daemon(make_daemon, tmp_path):
    daemon = make_daemon().start()
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    daemon.import_image(disk, "base")
    return daemon


def create(daemon, name, **params):
    return daemon.call("desktop.create", name=name, image="base", memory_mib=64, vcpus=1, **params)


def reboot(daemon):
    """Everything dies at once, and the kernel calls itself by another boot id."""
    desktops = daemon.call("desktop.list")["items"]
    daemon.kill()
    for desktop in desktops:
        if desktop["pid"]:
            vdi.kill_pid(desktop["pid"])
    with sqlite3.connect(daemon.state / "vdi-hostd.db") as db:
        db.execute("UPDATE desktop SET boot_id = ? WHERE boot_id != ''", (OTHER_BOOT,))
        db.execute("UPDATE meta SET value = ? WHERE key = 'autostart_boot_id'", (OTHER_BOOT,))
    db.close()
    daemon.start()


def states(daemon):
    return {d["name"]: d["state"] for d in daemon.call("desktop.list")["items"]}


def test_after_a_boot(daemon):
    create(daemon, "auto", autostart=True)
    create(daemon, "policy", restart="always", start=True)
    create(daemon, "plain", start=True)
    create(daemon, "stopped", restart="always", start=True)
    daemon.call("desktop.stop", desktop="stopped", mode="force")
    reboot(daemon)
    wanted = {"auto": "running", "policy": "running", "plain": "stopped", "stopped": "stopped"}
    vdi.wait_until(lambda: states(daemon) == wanted, 20, f"{wanted}, it is {states(daemon)}")
    assert "host was restarted" in daemon.desktop("plain")["state_reason"]

    # once a boot, not once a daemon: who stops a desktop on purpose keeps it stopped
    daemon.call("desktop.stop", desktop="auto", mode="force")
    daemon.restart()
    assert states(daemon) == {**wanted, "auto": "stopped"}
