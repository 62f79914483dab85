"""NICs whose packets the kernel moves. tests/run runs these on Debian's kernel (tests/kernel/run): not every
kernel has vhost-net. No guest boots, since that machine is slow."""
import os
import pathlib
import socket
import subprocess

import pytest

pytestmark = pytest.mark.kernel

DEVICE = "/dev/vhost-net"


@pytest.fixture
def started(make_daemon, tmp_path):
    """started(settings) -> a daemon with a desktop of two processors that boots nothing."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))

    def start(**network):
        daemon = make_daemon({"desktops": {"start_timeout_s": "120"}, "network": network}).start()
        assert daemon.call("host.info")["features"]["vhost_net"]
        daemon.import_image(disk)
        daemon.call("network.create", name="lan", cidr="10.77.0.0/24")
        daemon.create_desktop("ada", "lan", memory_mib=64, vcpus=2)
        daemon.call("desktop.nic.update", desktop="ada", nic=0, queues=2)
        return daemon
    return start


def in_use(daemon):
    nics = daemon.call("desktop.nic.list", desktop="ada")["items"]
    return [(nic["queues_in_use"], nic["vhost"]) for nic in nics]


def n_descriptors(pid):
    links = pathlib.Path(f"/proc/{pid}/fd").iterdir()
    return [os.readlink(link) for link in links].count(DEVICE)


def threads(pid):
    """The kernel's, named for whose they are; since Linux 6.4 they are the process's own."""
    names, proc = [], pathlib.Path("/proc")
    for comm in [*proc.glob("[0-9]*/comm"), *proc.glob(f"{pid}/task/*/comm")]:
        try:
            names.append(comm.read_text().strip())
        except OSError:
            pass  # it has ended
    return names.count(f"vhost-{pid}")


def test_used_by_itself(started):
    daemon = started()
    pid = daemon.call("desktop.start", desktop="ada")["pid"]
    assert in_use(daemon) == [(2, True)]
    assert b"vhost=on,vhostfds=" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    assert (n_descriptors(pid), threads(pid)) == (2, 2)

    daemon.call("desktop.nic.add", desktop="ada", network="lan", queues=2)
    assert (n_descriptors(pid), threads(pid)) == (4, 4)
    daemon.kill()
    daemon.start()
    assert in_use(daemon) == [(2, True), (2, True)]

    daemon.call("desktop.stop", desktop="ada", mode="force")
    assert threads(pid) == 0
    assert in_use(daemon) == [(None, None)] * 2


@pytest.mark.slow
def test_switched_off(started):
    daemon = started(vhost="off")
    pid = daemon.call("desktop.start", desktop="ada")["pid"]
    daemon.call("desktop.nic.add", desktop="ada", network="lan")
    assert in_use(daemon) == [(2, False), (1, False)]
    assert (n_descriptors(pid), threads(pid)) == (0, 0)


@pytest.mark.slow
def test_that_cannot_be_opened(started, tmp_path):
    daemon = started()
    # a socket in its place: no open() of one succeeds
    with socket.socket(socket.AF_UNIX) as other, daemon.client() as client:
        client.call("events.subscribe", topics=["desktop"])
        other.bind(str(tmp_path / "other"))
        subprocess.run(["mount", "--bind", tmp_path / "other", DEVICE], check=True)
        try:
            pid = daemon.call("desktop.start", desktop="ada")["pid"]
        finally:
            subprocess.run(["umount", DEVICE], check=True)
        said = [client.next_event()["data"]["reason"] for _ in range(3)]
    assert in_use(daemon) == [(2, False)]
    assert n_descriptors(pid) == 0
    assert [text for text in said if text and "NIC 0 does without vhost-net" in text]
    assert "NIC 0 does without vhost-net" in daemon.tail()
