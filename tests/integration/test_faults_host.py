"""What a desktop stands on is taken away: its tap, its bridge, its network's dnsmasq, one half of the
daemon. Desktops go on, and the host is put right again."""
import pathlib
import re
import signal
import subprocess

import pytest
import vdi


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk that boots nothing."""
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    path.write_bytes(b"\0" * (1 << 20))
    return path


@pytest.fixture
def host(make_daemon, disk):
    """A daemon with two running desktops on a network, and no guests in them."""
    daemon = make_daemon().start()
    daemon.import_image(disk, "base")
    daemon.call("network.create", name="lan", cidr="10.81.0.0/24")
    for name in ("ada", "bob"):
        daemon.create_desktop(name, "lan", image="base", memory_mib=64, start=True)
    return daemon


def ip(*args):
    return subprocess.run(["ip", *args], check=True, capture_output=True, text=True).stdout


def taps():
    return [name for name in vdi.our_links() if not name.startswith("vdibr")]


def bridge(daemon):
    return daemon.call("network.get", network="lan")["bridge"]


def pids(daemon):
    return {d["name"]: d["pid"] for d in daemon.call("desktop.list")["items"]}


def dnsmasqs():
    return [pid for (pid, _), name in vdi.our_processes().items() if name == "dnsmasq"]


def network_is(daemon, state):
    return daemon.call("network.get", network="lan")["state"] == state


def check_life(daemon, name):
    """All that can be done to a desktop can be done."""
    assert daemon.screenshot(name)[0][:4] == b"\x89PNG"
    for method, state in (("stop", "stopped"), ("start", "running"), ("pause", "paused"),
                          ("resume", "running")):
        params = {"mode": "force"} if method == "stop" else {}
        assert daemon.call(f"desktop.{method}", desktop=name, **params)["state"] == state


def test_tap_deleted(host):
    """They come back under the QEMUs that had them; test_watch.py looks at what guests see of it."""
    before, had = pids(host), taps()
    for tap in had:
        ip("link", "delete", tap)
    vdi.wait_until(lambda: taps() == had, 10, "the taps")
    assert pids(host) == before
    assert {d["state"] for d in host.call("desktop.list")["items"]} == {"running"}
    for name in ("ada", "bob"):
        check_life(host, name)
    assert len(taps()) == 2


def test_bridge_deleted(host):
    """Desktops can be ended without it; a start says what is missing, or has it made again; a
    restart of the daemon makes it again."""
    before = pids(host)
    name = bridge(host)
    ip("link", "delete", name)
    assert pids(host) == before
    assert host.screenshot("ada")[0][:4] == b"\x89PNG"
    assert host.call("desktop.stop", desktop="bob", mode="force")["state"] == "stopped"
    try:
        host.call("desktop.start", desktop="bob")
    except vdi.RpcError as error:
        assert name in str(error) or "lan" in str(error)
    host.restart()
    # the taps of before may be looked at once more
    vdi.wait_until(lambda: network_is(host, "active"), 10, "an active network")
    assert host.desktop("ada")["pid"] == before["ada"]
    assert "10.81.0.1/24" in ip("addr", "show", name)
    assert host.call("desktop.start", desktop="bob")["state"] == "running"

    def all_on_it():
        on_bridge = ip("link", "show", "master", name)
        return len(taps()) == 2 and all(tap in on_bridge for tap in taps())
    vdi.wait_until(all_on_it, 10, "both taps on the bridge")


@pytest.fixture
def guest(make_daemon, guest_image):
    """A daemon with a guest that runs."""
    daemon = make_daemon().start()
    daemon.import_image(guest_image)
    daemon.call("network.create", name="lan", cidr="10.82.0.0/24")
    daemon.create_desktop("ada", "lan", start=True)
    vdi.guest_wait(daemon.desktop("ada")["ip"])
    return daemon


def test_guest(guest):
    """What a guest sees of it."""
    dnsmasq_killed(guest)
    bridge_deleted(guest)


def bridge_deleted(daemon):
    """A guest whose bridge was taken away while no daemon watched it is on the network again after
    the next start; test_watch.py takes it from a daemon that runs."""
    ada = daemon.desktop("ada")
    name = bridge(daemon)
    boot = vdi.guest_do(ada["ip"], "boot")
    daemon.kill()
    ip("link", "delete", name)
    assert vdi.guest_who(ada["ip"], 1) is None
    daemon.start()
    vdi.guest_wait(ada["ip"])
    assert vdi.guest_do(ada["ip"], "boot") == boot
    assert vdi.guest_do(ada["ip"], "ping 10.82.0.1") == "ok"


def dnsmasq_killed(daemon):
    """Started again; in between the network says so; guests keep their addresses."""
    ada = daemon.desktop("ada")
    (old,) = dnsmasqs()
    with daemon.client() as events:
        events.call("events.subscribe", topics=["network"])
        vdi.kill_pid(old)
        # more than one try, where the machine is slow
        told = []
        while not told or told[-1]["state"] != "active":
            event = events.next_event()
            assert event, told
            told.append(event["data"])
        assert told[0]["state"] == "degraded" and "dnsmasq" in str(told[0])
    (new,) = dnsmasqs()
    assert new != old
    vdi.wait_until(lambda: network_is(daemon, "active"), 10, "an active network")
    vdi.wait_until(lambda: vdi.guest_do(ada["ip"], "resolve ada").startswith(ada["ip"]), 10, "its name")
    assert vdi.guest_who(ada["ip"])[2].split("/")[0] == ada["ip"]
    # a new desktop gets its address of it as well
    other = daemon.create_desktop("eva", "lan", start=True)
    vdi.guest_wait(other["ip"])
    daemon.call("desktop.delete", desktop="eva", force=True)


def test_dnsmasq_killed_again_and_again(host):
    """Not a loop: it takes longer each time, and the daemon answers all the while."""
    for _ in range(3):
        (pid,) = vdi.wait_until(lambda: dnsmasqs() and network_is(host, "active") and dnsmasqs(), 10,
                                "a dnsmasq")
        vdi.kill_pid(pid)
        assert host.call("host.ping") is not None
        # the first repair may be over before it is looked at
        vdi.wait_until(lambda: network_is(host, "degraded") or dnsmasqs() not in ([], [pid]), 5,
                       "a degraded network, or one that is mended")
    vdi.wait_until(lambda: network_is(host, "active"), 15, "an active network")


@pytest.mark.parametrize("half", (0, 1), ids=("privileged", "unprivileged"))
def test_one_half_killed(host, half):
    """The other ends as well, desktops go on, and the next daemon has them all."""
    before = pids(host)
    halves = host.halves()
    assert len(halves) == 2
    vdi.kill_pid(halves[half])
    host.process.wait(60)
    host.process = None
    vdi.wait_until(lambda: not any(vdi.is_alive(pid) for pid in halves), 5, "both halves to end")
    assert all(vdi.is_alive(pid) for pid in before.values())
    host.start()
    assert pids(host) == before
    assert {d["state"] for d in host.call("desktop.list")["items"]} == {"running"}
    vdi.wait_until(lambda: len(dnsmasqs()) == 1 and network_is(host, "active"), 10, "the network")
    for name in before:
        check_life(host, name)


@pytest.mark.parametrize("half", (0, 1), ids=("privileged", "unprivileged"))
def test_one_half_killed_in_the_middle(host, half):
    """Of a start and a new network: wholly done or wholly undone."""
    host.call("desktop.stop", desktop="ada", mode="force")
    bob = host.desktop("bob")["pid"]
    with host.client() as client:
        client.send("desktop.start", {"desktop": "ada"})
        client.send("network.create", {"name": "other", "cidr": "10.83.0.0/24"})
        vdi.kill_pid(host.halves()[half])
        with pytest.raises((ConnectionError, TimeoutError)):
            client.sock.settimeout(60)
            while True:
                client.read_message()
    host.process.wait(60)
    host.process = None
    host.start()
    ada = vdi.wait_until(lambda: (d := host.desktop("ada"))["state"] != "starting" and d, 10, "ada")
    assert ada["state"] in ("running", "stopped", "failed")
    running = {pid for pid in pids(host).values() if pid}
    assert bob in running
    # what was undone may be about to end
    vdi.wait_until(lambda: running == {pid for (pid, _), name in vdi.our_processes().items()
                                       if name.startswith("qemu-system")}, 5, "those that run, and no others")
    networks = host.call("network.list")["items"]
    vdi.wait_until(lambda: len(dnsmasqs()) == len(networks), 5, "a dnsmasq each")
    assert host.call("desktop.start", desktop="ada")["state"] == "running"


# ---- without root ----

SOMEBODY = (61234, 61234)


@pytest.fixture
def rootless(make_daemon, disk):
    daemon = make_daemon(user=SOMEBODY).start()
    daemon.import_image(disk, "base")
    return daemon


def test_rootless(rootless):
    """An ordinary user's daemon: no second half, no network but QEMU's own, all else as ever."""
    halves = rootless.halves()
    assert len(halves) == 1
    for kind in ("nat", "isolated"):
        with pytest.raises(vdi.RpcError) as caught:
            rootless.call("network.create", name="lan", kind=kind)
        assert caught.value.kind == "unsupported" and "root" in str(caught.value)
    rootless.call("network.create", name="own", kind="user")
    ada = rootless.create_desktop("ada", "own", image="base", memory_mib=64, start=True)
    assert ada["state"] == "running"
    status = pathlib.Path(f"/proc/{ada['pid']}/status").read_text()
    assert re.search(r"^Uid:((?:\s+61234){4})$", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert rootless.screenshot("ada")[0][:4] == b"\x89PNG"
    assert vdi.our_links() == [] and dnsmasqs() == []
    for stop in (rootless.kill, rootless.stop):
        stop()
        assert vdi.is_alive(ada["pid"])
        rootless.start()
        assert rootless.desktop("ada")["pid"] == ada["pid"]
        assert rootless.desktop("ada")["state"] == "running"
    check_life(rootless, "ada")
    pid = rootless.desktop("ada")["pid"]
    vdi.kill_pid(pid, sig=signal.SIGSEGV)
    vdi.wait_until(lambda: rootless.desktop("ada")["state"] == "failed", 3, "failed")


def test_rootless_guest(make_daemon, guest_image):
    daemon = make_daemon(user=SOMEBODY).start()
    daemon.import_image(guest_image)
    daemon.call("network.create", name="own", kind="user")
    daemon.create_desktop("ada", "own", start=True)
    vdi.wait_until(lambda: "10.0.2." in daemon.console("ada"), 40, "the guest's address on its console")
    assert daemon.call("desktop.stop", desktop="ada", timeout_s=30)["state"] == "stopped"
