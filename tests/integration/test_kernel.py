"""What the daemon finds on Debian's kernel (tests/kernel/run), and a desktop that runs there."""
import pytest
import vdi

pytestmark = pytest.mark.kernel


def test_features(daemon):
    """A stock kernel has all that is probed for."""
    features = daemon.call("host.info")["features"]
    of_the_machine = {"kvm_device", "cgroup_memory", "cgroup_cpu", "landlock"}
    assert {name for name, has in features.items() if not has} <= of_the_machine, features
    assert features["vlan"] and features["bridge_vlan_filtering"] and features["vhost_net"]


@pytest.mark.slow
def test_desktop_starts(world):
    """Emulated on an emulated machine its guest would take very long to boot: QEMU runs, its NIC is there."""
    made = world.create_desktop("one", "lan", start=True)
    assert made["state"] == "running" and made["ip"] == "10.77.0.2"
    assert world.call("network.get", network="lan")["differences"] == []
    assert [name for name in vdi.our_links() if not name.startswith("vdibr")]
    world.call("desktop.stop", desktop="one", mode="force")
    assert [name for name in vdi.our_links() if not name.startswith("vdibr")] == []
