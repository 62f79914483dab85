"""What the daemon finds on Debian's kernel (tests/kernel/run), and a desktop that runs there."""
import ctypes
import os
import pathlib

import pytest
import vdi

pytestmark = pytest.mark.kernel


def test_features(daemon):
    """A stock kernel has all that is probed for."""
    features = daemon.call("host.info")["features"]
    of_the_machine = {"kvm_device", "cgroup_memory", "cgroup_cpu", "landlock"}
    assert {name for name, has in features.items() if not has} <= of_the_machine, features
    assert features["vlan"] and features["bridge_vlan_filtering"] and features["vhost_net"]


@pytest.fixture
def without_log():
    """A kernel that has no nft_log: the module goes, and is not to be had again. Modules are loaded in the
    machine's first root, of which /dev is what is seen here."""
    setting, loader = pathlib.Path("/proc/sys/kernel/modprobe"), pathlib.Path("/dev/modprobe-but-log")
    before = setting.read_text()
    loader.write_text(f"""#!/bin/sh\ncase "$*" in *nft-expr*-log) exit 1 ;; esac\nexec {before.strip()} "$@"\n""")
    loader.chmod(0o755)
    setting.write_text(str(loader))
    ctypes.CDLL(None).syscall(ctypes.c_long(176), b"nft_log", os.O_NONBLOCK)  # delete_module
    assert "nft_log " not in pathlib.Path("/proc/modules").read_text()
    yield
    setting.write_text(before)
    loader.unlink()


def test_without_log(without_log, daemon):
    """What source guard needs is missing, and nothing else is."""
    features = daemon.call("host.info")["features"]
    assert not features["nft_log"]
    assert features["nftables"] and features["nftables_bridge"]
    daemon.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    assert daemon.call("network.get", network="lan")["differences"] == []


@pytest.mark.slow
def test_desktop_starts(world):
    """Emulated on an emulated machine its guest would take very long to boot: QEMU runs, its NIC is there."""
    made = world.create_desktop("one", "lan", start=True)
    assert made["state"] == "running" and made["ip"] == "10.77.0.2"
    assert world.call("network.get", network="lan")["differences"] == []
    assert [name for name in vdi.our_links() if not name.startswith("vdibr")]
    world.call("desktop.stop", desktop="one", mode="force")
    assert [name for name in vdi.our_links() if not name.startswith("vdibr")] == []
