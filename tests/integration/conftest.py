"""Fixtures. Run by tests/run inside namespaces of its own (network, mounts, processes), as root:
nothing here may reach the host's network. VDI_BUILD names the build folder, VDI_GUEST an image of
tests/guest that is there already, VDI_FIREWALLD what tests/unpack made of firewalld."""
import os
import pathlib
import pwd
import subprocess

import pytest
import vdi

# run by meson, against a scripted daemon
collect_ignore = ["test_vdictl.py"]

TOP = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="tests marked slow, too")
    parser.addoption("--kernel", action="store_true",
                     help="only the tests marked kernel: for tests/kernel/run")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: only with tests/run --slow")
    config.addinivalue_line("markers", "kernel: on Debian's kernel, which has what this one may lack")


def pytest_collection_modifyitems(config, items):
    """Slow tests are left out, not skipped: a skip is for what this host cannot do. So are those that
    are run on another kernel."""
    slow, kernel = config.getoption("--slow"), config.getoption("--kernel")
    items[:] = [item for item in items if (slow or not item.get_closest_marker("slow"))
                and kernel == bool(item.get_closest_marker("kernel"))]


@pytest.fixture(scope="session", autouse=True)
def private_network():
    """Nothing but loopback: a daemon under test makes bridges and firewall tables."""
    if os.geteuid() != 0:
        pytest.exit("the integration tests need root: sudo tests/run", 2)
    links = {name for _, name in vdi.socket.if_nameindex()}
    if links != {"lo"} and os.readlink("/proc/self/ns/net") == os.readlink("/proc/1/ns/net"):
        pytest.exit("run these in a network namespace of their own: tests/run does", 2)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(scope="session")
def build():
    path = pathlib.Path(os.environ.get("VDI_BUILD", TOP / "build"))
    if not (path / "vdi-hostd/vdi-hostd").exists():
        pytest.exit(f"no vdi-hostd in {path}: build it, or name another folder by VDI_BUILD", 2)
    return path


@pytest.fixture(scope="session")
def guest_image():
    """The guest's disk. tests/run builds it outside of the namespace, where packages can be had."""
    if "VDI_GUEST" in os.environ:
        return pathlib.Path(os.environ["VDI_GUEST"])
    done = subprocess.run([TOP / "tests/guest/build"], check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="session")
def vdi_user():
    try:
        return pwd.getpwnam("vdi")
    except KeyError:
        pytest.exit("no user 'vdi': useradd --system --user-group vdi", 2)


@pytest.fixture
def make_daemon(build, vdi_user):
    """make_daemon(settings) -> a Daemon that is not yet started; all are taken down at the end."""
    made = []

    def make(settings=None, **kwargs):
        daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd", settings, **kwargs)
        made.append(daemon)
        return daemon

    yield make
    for daemon in reversed(made):
        daemon.done()


@pytest.fixture
def daemon(make_daemon):
    """A running daemon with nothing in it."""
    return make_daemon().start()


@pytest.fixture(scope="module")
def world(build, vdi_user, guest_image):
    """A running daemon with the image `guest` and the network `lan`, shared by a module's tests."""
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    try:
        daemon.import_image(guest_image)
        daemon.call("network.create", name="lan", kind="nat", cidr="10.77.0.0/24")
    except BaseException:
        daemon.clean_up()
        raise
    yield daemon
    daemon.done()
