"""Beside the firewalls that administrators use, the real ones: with the lines that docs/networks.md gives
for each, guests get addresses and reach out, and port forwards lead in; their reloads take nothing of
ours, and we touch nothing of theirs. Their settings are copies, mounted for this process alone."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import vdi
from spaces import (OUTSIDE, OUTSIDE_HOST, SERVE, net, outside, run, script, serve,  # noqa: F401
                    spaces)

GUEST, GATEWAY, PORT, CLOSED = "10.77.0.2", "10.77.0.1", 8022, 9999


@pytest.fixture
def private(tmp_path):
    """private(FOLDER...): what is changed in there is gone after the test."""
    with contextlib.ExitStack() as stack:
        def make(*folders):
            for folder in folders:
                copy = tmp_path / folder.strip("/").replace("/", "-")
                shutil.copytree(folder, copy, symlinks=True)
                run("mount", "--bind", copy, folder)
                stack.callback(run, "umount", folder)
        yield make


@pytest.fixture
def site(net, spaces, script, outside):
    """A nat network with a guest that serves, a port of the host's that leads to it, and one that is
    the host's own."""
    net.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    made = net.create_desktop("one", "lan")
    guest, servers = spaces(), []
    guest.plug("vdibr1", made["mac"], "tone")
    net.call_when_free("network.forward.add", desktop="one", port=22, host_port=PORT)
    serve(servers, [sys.executable, "-c", SERVE, "0.0.0.0", str(CLOSED)])
    yield guest
    for server in servers:
        server.kill()
        server.wait()


def joins(guest, script, **params):
    got = guest.dhcp(script, **params)
    return bool(got) and got["ip"] == GUEST


def check_works(net, guest, outside):
    """Both ways, and the host guarded as before, whatever the other firewall lets through."""
    def whole():
        shown = net.call("network.get", network="lan")
        return shown["state"] == "active" and shown["differences"] == []
    # a reload is seen a moment later
    vdi.wait_until(whole, 10, "the network")
    assert guest.ask(OUTSIDE, 80) == OUTSIDE_HOST
    assert outside.ask(OUTSIDE_HOST, PORT) == OUTSIDE
    assert guest.ask(GATEWAY, CLOSED) is None


def foreign_tables():
    """All tables but ours, without what packets counted."""
    tables = re.split(r"^(?=table )", run("nft", "list", "ruleset").stdout, flags=re.M)
    return [re.sub(r"packets \d+ bytes \d+", "", table) for table in tables if "vdi-hostd" not in table]


def test_ufw(private, net, site, script, outside):
    if not shutil.which("ufw"):
        pytest.skip("ufw is not installed")
    private("/etc/ufw", "/etc/default", "/lib/ufw")
    run("ufw", "--force", "enable")
    try:
        # as it comes, it lets guests neither ask for an address nor out
        assert not joins(site, script, tries=3)
        for line in ("allow in on vdibr1", "route allow in on vdibr1", "route allow out on vdibr1"):
            run("ufw", *line.split())
        assert joins(site, script)
        site.serve(GUEST, 22)
        check_works(net, site, outside)
        run("ufw", "reload")
        before = foreign_tables()
        check_works(net, site, outside)
        # a network that comes and goes leaves its rules as they were
        net.call("network.create", name="other", kind="nat", cidr="10.78.0.0/24")
        net.call_when_free("network.delete", network="other")
        assert foreign_tables() == before
    finally:
        run("ufw", "disable")
    check_works(net, site, outside)


# over this machine's files those in $0; what is written stays in memory
MOUNTS = """
set -e
mount -t tmpfs tmpfs /run
for folder in usr etc var; do
    mkdir -p /run/upper/$folder /run/work/$folder
    mount -t overlay overlay /$folder \
        -o lowerdir=$0/$folder:/$folder,upperdir=/run/upper/$folder,workdir=/run/work/$folder
done
mkdir /run/dbus
echo ready
exec sleep infinity
"""


@pytest.fixture
def firewall_cmd():
    """firewall_cmd(ARGUMENT...), once firewalld answers. It stands in a mount namespace of its own with its
    files: to install it would switch it on where there is systemd."""
    if "VDI_FIREWALLD" not in os.environ:
        pytest.skip("VDI_FIREWALLD is not set: tests/unpack firewalld prints it")
    started = []
    serve(started, ["unshare", "--mount", "sh", "-c", MOUNTS, os.environ["VDI_FIREWALLD"]])
    inside = ["nsenter", f"--mount=/proc/{started[0].pid}/ns/mnt"]

    def call(*argv, check=True):
        return run(*inside, "firewall-cmd", *argv, check=check)

    try:
        # in the system bus's place one of the kind that needs no user of its own
        bus = "/run/dbus/system_bus_socket"
        for argv in (["dbus-daemon", "--session", "--nofork", f"--address=unix:path={bus}"],
                     ["firewalld", "--nofork", "--nopid"]):
            started.append(subprocess.Popen([*inside, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            vdi.wait_until(pathlib.Path(f"/proc/{started[0].pid}/root{bus}").exists, 10, "the bus")
        vdi.wait_until(lambda: call("--state", check=False).returncode == 0, 30, "firewalld")
        yield call
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def test_firewalld(firewall_cmd, net, site, script, outside):
    assert not joins(site, script, tries=3)
    firewall_cmd("--permanent", "--zone=trusted", "--add-interface=vdibr1")
    firewall_cmd("--reload")
    assert joins(site, script)
    site.serve(GUEST, 22)
    before = foreign_tables()
    check_works(net, site, outside)
    for how in ("--reload", "--complete-reload"):
        firewall_cmd(how)
        check_works(net, site, outside)
    net.call("network.create", name="other", kind="nat", cidr="10.78.0.0/24")
    net.call_when_free("network.delete", network="other")
    assert foreign_tables() == before
