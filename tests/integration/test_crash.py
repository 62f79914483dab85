"""The daemon is killed at every step of every plan. After the next start everything is wholly done or
wholly undone, and nothing is orphaned. The steps are read from the tables in the source, so that a new
step is walked as well."""
import gzip
import os
import pathlib
import re
import subprocess

import pytest
import vdi

TOP = pathlib.Path(__file__).resolve().parents[2]

# plan: (source file, name of its table)
PLANS = {
    "image-import": ("vdi-hostd/image/import.c", "import_plan"),
    "iso-import": ("vdi-hostd/image/iso_import.c", "import_plan"),
    "desktop-cdrom": ("vdi-hostd/desktop/cdrom.c", "cdrom_plan"),
    "image-export": ("vdi-hostd/disk/export.c", "export_plan"),
    "desktop-recompose": ("vdi-hostd/disk/recompose.c", "recompose_plan"),
    "desktop-recompose-undo": ("vdi-hostd/disk/recompose.c", "undo_plan"),
    "desktop-recompose-confirm": ("vdi-hostd/disk/recompose.c", "confirm_plan"),
    "image-capture": ("vdi-hostd/disk/capture.c", "capture_plan"),
    "desktop-backup": ("vdi-hostd/disk/backup.c", "backup_plan"),
    "backup-restore": ("vdi-hostd/disk/restore.c", "restore_plan"),
    "network-create": ("vdi-hostd/network/plans.c", "create_plan"),
    "network-delete": ("vdi-hostd/network/plans.c", "delete_plan"),
    "network-change": ("vdi-hostd/network/plans.c", "change_plan"),
    "network-unforward": ("vdi-hostd/network/forward_change.c", "unforward_plan"),
    "desktop-create": ("vdi-hostd/desktop/create.c", "create_plan"),
    "desktop-start": ("vdi-hostd/desktop/start.c", "start_plan"),
    "desktop-stop": ("vdi-hostd/desktop/stop.c", "stop_plan"),
    "desktop-delete": ("vdi-hostd/desktop/delete.c", "delete_plan"),
    "snapshot-take": ("vdi-hostd/disk/take.c", "take_plan"),
    "snapshot-revert": ("vdi-hostd/disk/revert.c", "revert_plan"),
    "nic-add": ("vdi-hostd/desktop/nic_change.c", "add_plan"),
    "nic-update": ("vdi-hostd/desktop/nic_change.c", "update_plan"),
    "nic-remove": ("vdi-hostd/desktop/nic_change.c", "remove_plan"),
}


# what changes several things within one step
POINTS = ["desktop-renew:row:after", "desktop-renew:old:after", "desktop-renew:new:after"]


def steps_of(plan):
    source, table = PLANS[plan]
    text = (TOP / source).read_text()
    body = re.search(rf"struct plan_step {table}\[\] = \{{(.*?)\n\}};", text, re.S)[1]
    return re.findall(r'\{\s*"([a-z]+)"', body)


def points():
    return [f"{plan}:{step}:{when}" for plan in PLANS for step in steps_of(plan)
            for when in ("before", "after")] + POINTS


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk that boots nothing: QEMU runs all the same. It is packed, so that an import has all its work."""
    path = tmp_path_factory.mktemp("disk") / "disk.raw.gz"
    path.write_bytes(gzip.compress(b"\0" * (1 << 20)))
    for folder in (path, *list(path.parents)[:-1]):
        folder.chmod(folder.stat().st_mode | 0o055)
    return path


@pytest.fixture(scope="module")
def disc(tmp_path_factory):
    path = tmp_path_factory.mktemp("disc") / "disc.iso"
    content = path.with_suffix(".txt")
    content.write_text("a disc\n")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", path, content],
                   check=True, stderr=subprocess.DEVNULL)
    return path


@pytest.fixture
def daemon(make_daemon, disk):
    # nothing hears the power button here: a stop that is gone on with gives up soon
    daemon = make_daemon({"desktops": {"stop_timeout_s": "1"}})
    daemon.start()
    daemon.import_image(disk, "base")
    daemon.call("network.create", name="lan", cidr="10.77.0.0/24", cidr6="fd77::/64")
    return daemon


def create(client, **params):
    return client.call("desktop.create", **{"name": "ada", "image": "base", "network": "lan",
                                            "memory_mib": 64, "vcpus": 1, **params})


def forward(client):
    return client.call("network.forward.add", desktop="ada", host_port=8080, port=80)


def unforward(client):
    items = client.call("network.forward.list")["items"]
    client.call("network.forward.delete", forward=items[0]["id"] if items else "none")


def create_forwarded(client):
    create(client)
    forward(client)


def take(client):
    client.call("desktop.snapshot.create", desktop="ada", name="monday")


def create_and_take(client):
    create(client)
    take(client)


# what leads to the plan, and the plan itself
PREPARE = {
    "network-change": create,
    "network-unforward": create_forwarded,
    "snapshot-take": lambda client: create(client, start=True),
    "snapshot-revert": create_and_take,
    "desktop-start": create,
    "desktop-stop": lambda client: create(client, start=True),
    "desktop-delete": create,
    "network-delete": lambda client: client.call("network.create", name="other", cidr="10.78.0.0/24"),
}
RUN = {
    "network-change": lambda client, disk: forward(client),
    "network-unforward": lambda client, disk: unforward(client),
    "snapshot-take": lambda client, disk: take(client),
    "snapshot-revert": lambda client, disk: client.call("desktop.snapshot.revert", desktop="ada",
                                                        snapshot="monday"),
    "network-create": lambda client, disk: client.call("network.create", name="other",
                                                       cidr="10.78.0.0/24"),
    "network-delete": lambda client, disk: client.call("network.delete", network="other"),
    "desktop-create": lambda client, disk: create(client),
    "desktop-start": lambda client, disk: client.call("desktop.start", desktop="ada"),
    "desktop-stop": lambda client, disk: client.call("desktop.stop", desktop="ada", mode="force"),
    "desktop-delete": lambda client, disk: client.call("desktop.delete", desktop="ada"),
}


def with_two_nics(client, **params):
    create(client)
    client.call("desktop.nic.add", desktop="ada", network="lan")
    if params:
        client.call("desktop.start", desktop="ada")


# nobody lets go of a NIC here while it runs
PREPARE["nic-add"] = lambda client: create(client, start=True)
PREPARE["nic-update"] = lambda client: with_two_nics(client, start=True)
PREPARE["nic-remove"] = with_two_nics
RUN["nic-add"] = lambda client, disk: client.call("desktop.nic.add", desktop="ada", network="lan")
RUN["nic-update"] = lambda client, disk: client.call("desktop.nic.update", desktop="ada", nic=1,
                                                     to_guest_kbit=9000, link="down")
RUN["nic-remove"] = lambda client, disk: client.call("desktop.nic.remove", desktop="ada", nic=1)


def import_disk(client, disk):
    fd = os.open(disk, os.O_RDONLY)
    try:
        client.call("image.import", fds=[fd], name="second", wait=True)
    finally:
        os.close(fd)


RUN["image-import"] = import_disk


def import_disc(client, name):
    fd = os.open(FILES["disc"], os.O_RDONLY)
    try:
        client.call("iso.import", fds=[fd], name=name, wait=True)
    finally:
        os.close(fd)


def insert_one_of_two(client):
    import_disc(client, "one")
    import_disc(client, "two")
    create(client, iso="one", start=True)


def import_two(client):
    """A second version, and a desktop on the first."""
    fd = os.open(FILES["disk"], os.O_RDONLY)
    client.call("image.import", fds=[fd], name="base", publish=True, wait=True)
    os.close(fd)
    create(client, image="base:1", data_disk_gib=1)


def recompose(client):
    client.call("desktop.recompose", desktop="ada", image="base:2")


def prepare_renew(client):
    import_two(client)
    client.call("desktop.update", desktop="ada", disposable=True)
    recompose(client)


def prepare_end(client):
    import_two(client)
    recompose(client)


PREPARE["desktop-recompose"] = import_two
PREPARE["desktop-recompose-undo"] = PREPARE["desktop-recompose-confirm"] = prepare_end
PREPARE["desktop-renew"] = prepare_renew
RUN["desktop-recompose"] = lambda client, disk: recompose(client)
RUN["desktop-recompose-undo"] = lambda client, disk: client.call("desktop.recompose.undo",
                                                                 desktop="ada")
RUN["desktop-recompose-confirm"] = lambda client, disk: client.call("desktop.recompose.confirm",
                                                                    desktop="ada")
RUN["desktop-renew"] = RUN["desktop-start"]
FILES = {}  # paths of a disc and a disk, once they are there
PREPARE["desktop-cdrom"] = insert_one_of_two
RUN["iso-import"] = lambda client, disk: import_disc(client, "one")
RUN["desktop-cdrom"] = lambda client, disk: client.call("desktop.cdrom.insert", desktop="ada", iso="two")


def export_disk(client, disk):
    with open(disk.parent / "exported", "w+b") as file:
        client.call("image.export", fds=[file.fileno()], image="base", format="raw", wait=True)
        assert file.read() == b"\0" * (1 << 20)


RUN["image-export"] = export_disk


def create_and_back_up(client):
    create(client)
    client.call("desktop.backup", desktop="ada", wait=True)


PREPARE["image-capture"] = lambda client: create(client, start=True)
PREPARE["desktop-backup"] = lambda client: create(client, start=True)
PREPARE["backup-restore"] = create_and_back_up
RUN["image-capture"] = lambda client, disk: client.call("image.capture", desktop="ada", wait=True,
                                                        quiesce="no")
RUN["desktop-backup"] = lambda client, disk: client.call("desktop.backup", desktop="ada", wait=True,
                                                         quiesce="no")
RUN["backup-restore"] = lambda client, disk: client.call("backup.restore", backup="latest:ada",
                                                         name="eve", wait=True)


def qemus():
    return sorted(pid for (pid, _), name in vdi.our_processes().items() if name.startswith("qemu-system"))


def files(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def discs_of(pid):
    """What QEMU has open of the ISO library."""
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return sorted({os.path.basename(link) for link in links if "/isos/" in link})


def snapshots(daemon, desktop):
    return daemon.call("desktop.snapshot.list", desktop=desktop["id"])["items"]


def check_nics(desktop):
    """What the daemon says of its NICs is what QEMU and the host have."""
    slot = {nic["nic"] for nic in desktop["nics"]}
    taps = {int(link.rsplit("n", 1)[1]) for link in vdi.our_links() if re.fullmatch(r"vdi\d+n\d", link)}
    assert taps == (slot if desktop["pid"] else set())


def check_whole(daemon):
    """What the daemon says is what the host holds, no more and no less."""
    desktops = daemon.call("desktop.list")["items"]
    assert [d["state"] for d in desktops if d["state"] not in ("running", "stopped")] == []
    assert qemus() == sorted(d["pid"] for d in desktops if d["pid"])
    kept = [(s["state"], d["id"]) for d in desktops for s in snapshots(daemon, d)]
    assert [state for state, _ in kept if state != "ready"] == []
    assert sorted(f[:36] for f in files(daemon.state / "overlays")) == sorted(
        [d["id"] for d in desktops
         for has in (True, d["data_disk_bytes"], d["previous_image"]) if has] +
        [identity for _, identity in kept])
    images = daemon.call("image.list")["items"]
    assert "importing" not in [i["state"] for i in images]
    assert files(daemon.state / "images") == sorted(i["id"] + ".qcow2" for i in images)
    isos = daemon.call("iso.list")["items"]
    assert [i["state"] for i in isos] == ["ready"] * len(isos)
    assert files(daemon.state / "isos") == sorted(i["id"] + ".iso" for i in isos)
    for desktop in desktops:
        if desktop["pid"]:
            ids = [i["id"] + ".iso" for i in isos if i["name"] == desktop["iso"]]
            assert discs_of(desktop["pid"]) == ids
        check_nics(desktop)
    backups = daemon.call("backup.list")["items"]
    assert [b["state"] for b in backups] == ["ready"] * len(backups)
    assert files(daemon.state / "backups") == sorted(b["id"] + "-system.qcow2" for b in backups)
    assert files(daemon.state / "tmp") == []
    networks = daemon.call("network.list")["items"]
    bridges = [link for link in vdi.our_links() if link.startswith("vdibr")]
    assert bridges == sorted(n["bridge"] for n in networks)
    servers = [pid for (pid, _), name in vdi.our_processes().items() if name == "dnsmasq"]
    assert len(servers) == len(networks)
    assert [n["state"] for n in networks] == ["active"] * len(networks)
    assert [daemon.call("network.get", network=n["id"])["differences"] for n in networks] == [[]] * len(networks)
    forwards = daemon.call("network.forward.list")["items"]
    rules = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    # of both families, or none
    assert rules.count("tcp . 8080 : ") == 2 * len(forwards)


def settled(daemon, plan):
    """No operation is under way any more."""
    with daemon.client() as client:
        desktops = client.call("desktop.list")["items"]
        for desktop in desktops:
            try:
                client.call("desktop.update", desktop=desktop["id"], memory_mib=64)
            except vdi.RpcError:
                return False
    if "making" in [b["state"] for b in daemon.call("backup.list")["items"]]:
        return False
    if any(d["work"] for d in desktops):
        return False
    # what was held still is merged after a while
    if plan == "image-capture" and len(files(daemon.state / "overlays")) != len(desktops):
        return False
    return not {"starting", "stopping"} & {d["state"] for d in desktops}


@pytest.mark.parametrize("point", points())
def test_killed_at(daemon, disk, disc, point):
    plan = point.split(":")[0]
    FILES.update(disc=disc, disk=disk)
    with daemon.client() as client:
        PREPARE.get(plan, lambda client: None)(client)
    daemon.restart(env={"VDI_CRASH_AT": point})
    with daemon.client() as client, pytest.raises((ConnectionError, vdi.RpcError)):
        RUN[plan](client, disk)
    assert daemon.process.wait(60) != 0
    daemon.process = None
    daemon.start()
    vdi.wait_until(lambda: settled(daemon, plan), 10, "operations to settle")
    check_whole(daemon)
    # and the same thing can be done now, or is done
    with daemon.client() as client:
        try:
            RUN[plan](client, disk)
        except vdi.RpcError as error:
            assert error.kind in ("exists", "not_found", "conflict"), error
    vdi.wait_until(lambda: settled(daemon, plan), 10, "merges")
    check_whole(daemon)
