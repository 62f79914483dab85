"""Desktops on a real QEMU with a real guest: their life, their network, and a daemon that dies."""
import json
import os
import signal
import socket
import subprocess
import threading
import zlib

import pytest
import vdi


@pytest.fixture(scope="module")
def booted(world):
    """A desktop whose guest has answered; tests leave it running."""
    desktop = world.create_desktop("booted", "lan", start=True)
    vdi.guest_wait(desktop["ip"])
    return desktop


@pytest.fixture
def idle(world, request):
    """A desktop that is not started, for tests that need no booted guest."""
    name = "idle-" + str(zlib.crc32(request.node.name.encode()))
    yield world.create_desktop(name, "lan")
    if any(d["name"] == name for d in world.call("desktop.list")["items"]):
        world.call("desktop.delete", desktop=name, force=True)


def link_numbers():
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    return {link["ifname"]: link["ifindex"] for link in links}


def taps():
    return [name for name in vdi.our_links() if not name.startswith("vdibr")]


def colours(png):
    """How many pixels of each colour a picture has."""
    out = subprocess.run(["convert", "png:-", "-depth", "8", "rgb:-"], input=png, check=True,
                         capture_output=True).stdout
    return len({out[i : i + 3] for i in range(0, len(out), 3)})


# ---- the life of a desktop ----

def test_create_says_what_it_made(world, idle):
    assert idle["state"] == "stopped"
    assert idle["image"] == "guest" and idle["network"] == "lan"
    assert idle["memory_mib"] == 256 and idle["vcpus"] == 1
    assert idle["pid"] is None and idle["started_at"] is None
    assert idle["ip"].startswith("10.77.0.")
    assert world.desktop(idle["name"]) == world.desktop(idle["id"]) == idle


def test_overlay_is_a_clean_clone(world, idle):
    """What our own writer wrote, as qemu-img sees it."""
    overlays = [p for p in (world.state / "overlays").iterdir() if idle["id"] in p.name]
    assert len(overlays) == 1
    assert overlays[0].stat().st_size < 1 << 20
    check = subprocess.run(["qemu-img", "check", "-f", "qcow2", overlays[0]], check=False,
                           capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def test_start_stop_start(world, idle):
    name = idle["name"]
    first = world.call("desktop.start", desktop=name)
    assert first["state"] == "running" and vdi.is_alive(first["pid"])
    assert first["started_at"].endswith("Z")
    # started already: the same answer, the same process
    assert world.call("desktop.start", desktop=name)["pid"] == first["pid"]
    stopped = world.call("desktop.stop", desktop=name, mode="force")
    assert stopped["state"] == "stopped" and stopped["pid"] is None
    assert not vdi.is_alive(first["pid"])
    assert world.call("desktop.stop", desktop=name)["state"] == "stopped"
    again = world.call("desktop.start", desktop=name)
    assert again["state"] == "running" and again["pid"] != first["pid"]
    assert again["ip"] == idle["ip"] and again["mac"] == idle["mac"]


def test_graceful_stop_presses_the_power_button(world):
    desktop = world.create_desktop("polite", "lan", start=True)
    vdi.guest_wait(desktop["ip"])
    assert world.call("desktop.stop", desktop="polite", timeout_s=60)["state"] == "stopped"
    # the guest's init said so, which it does not when it is switched off
    assert "Requesting system poweroff" in world.console("polite")
    world.call("desktop.delete", desktop="polite")


def test_stop_forces_a_deaf_guest(world, idle):
    """A guest in its boot loader does not hear the button; the deadline switches it off."""
    pid = world.call("desktop.start", desktop=idle["name"])["pid"]
    assert world.call("desktop.stop", desktop=idle["name"], timeout_s=1)["state"] == "stopped"
    assert not vdi.is_alive(pid)


def test_guest_that_powers_itself_off(world):
    desktop = world.create_desktop("tired", "lan", start=True)
    vdi.guest_wait(desktop["ip"])
    with world.client() as client:
        client.call("events.subscribe", topics=["desktop"])
        qmp_powerdown(world, desktop)
        event = client.next_event()
    assert (event["data"]["was"], event["data"]["state"]) == ("running", "stopped")
    vdi.wait_until(lambda: world.desktop("tired")["state"] == "stopped", 5, "the stopped state")
    assert not vdi.is_alive(desktop["pid"])
    world.call("desktop.delete", desktop="tired")


def qmp_powerdown(world, desktop):
    """The button pressed behind the daemon's back: by the guest agent's socket."""
    [path] = [p for p in (world.runtime / "desktops").rglob("agent.sock")
              if serves(p, desktop["pid"])]
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(60)
        agent.connect(str(path))
        agent.sendall(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":1}}\n')
        data = b""
        while b'"return": 1' not in data:
            data += agent.recv(4096)
        agent.sendall(b'{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}\n')


def serves(path, pid):
    """Does this process have the listening socket at this path?"""
    inodes = [line.split()[6] for line in open("/proc/net/unix").read().splitlines()
              if line.endswith(str(path))]
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return any(f"socket:[{inode}]" in links for inode in inodes)


def test_reset_boots_again(world, booted):
    before = vdi.guest_do(booted["ip"], "boot")
    assert world.call("desktop.reset", desktop="booted")["state"] == "running"
    vdi.wait_until(lambda: vdi.guest_who(booted["ip"]) and
                   vdi.guest_do(booted["ip"], "boot") != before, 60, "another boot id")
    assert world.desktop("booted")["pid"] == booted["pid"]


def test_pause_and_resume(world, booted):
    assert world.call("desktop.pause", desktop="booted")["state"] == "paused"
    assert vdi.guest_who(booted["ip"], 1) is None
    used = world.call("desktop.stats", desktop="booted")["cpu_ms"]
    assert world.call("desktop.resume", desktop="booted")["state"] == "running"
    assert vdi.guest_wait(booted["ip"])[0] == "booted"
    assert world.call("desktop.stats", desktop="booted")["cpu_ms"] > used


def test_disk_keeps_what_was_written(world):
    """Across a stop by force after sync, and apart from other clones of the same image."""
    one = world.create_desktop("keeper", "lan", start=True)
    vdi.guest_wait(one["ip"])
    assert vdi.guest_do(one["ip"], "write 3 remember me", "sync") == ["ok", "ok"]
    world.call("desktop.stop", desktop="keeper", mode="force")
    two = world.create_desktop("stranger", "lan", start=True)
    world.call("desktop.start", desktop="keeper")
    vdi.guest_wait(one["ip"])
    vdi.guest_wait(two["ip"])
    assert vdi.guest_do(one["ip"], "read 3") == "remember me"
    assert vdi.guest_do(two["ip"], "read 3") == ""
    for name in ("keeper", "stranger"):
        world.call("desktop.delete", desktop=name, force=True)


def test_guest_gets_what_was_ordered(world):
    desktop = world.create_desktop("big", "lan", memory_mib=512, vcpus=2, disk_gib=1, start=True)
    vdi.guest_wait(desktop["ip"])
    memory, cpus, disk = vdi.guest_do(desktop["ip"], "memory", "cpus", "disk")
    assert 400 << 10 < int(memory) <= 512 << 10
    assert int(cpus) == 2
    assert int(disk) == 1 << 30
    world.call("desktop.delete", desktop="big", force=True)


def test_delete_leaves_nothing(world):
    before = (vdi.our_processes(), vdi.our_links(), world.leftovers())
    for name in ("gone-1", "gone-2"):
        world.create_desktop(name, "lan", start=True)
    assert len(vdi.our_processes()) == len(before[0]) + 2
    with pytest.raises(vdi.RpcError) as refused:
        world.call("desktop.delete", desktop="gone-1")
    assert refused.value.kind == "conflict"
    world.call("desktop.delete", desktop="gone-1", force=True)
    world.call("desktop.stop", desktop="gone-2", mode="force")
    world.call("desktop.delete", desktop="gone-2")
    assert (vdi.our_processes(), vdi.our_links(), world.leftovers()) == before
    with pytest.raises(vdi.RpcError) as gone:
        world.desktop("gone-1")
    assert gone.value.kind == "not_found"


def test_refusals(world, booted):
    cases = [
        ("exists", "desktop.create", {"name": "booted", "image": "guest"}),
        ("not_found", "desktop.create", {"name": "x", "image": "nosuch"}),
        ("not_found", "desktop.create", {"name": "x", "image": "guest", "network": "nosuch"}),
        ("not_found", "desktop.start", {"desktop": "nosuch"}),
        ("conflict", "image.delete", {"image": "guest"}),
        ("conflict", "network.delete", {"network": "lan"}),
    ]
    before = world.call("desktop.list")
    for kind, method, params in cases:
        with pytest.raises(vdi.RpcError) as refused:
            world.call(method, **params)
        assert refused.value.kind == kind, (method, params, refused.value)
    assert world.call("desktop.list") == before


def test_one_operation_at_a_time(world, idle):
    """Both asked in one breath: one wins, the other hears `busy`, and the end is orderly."""
    with world.client() as client:
        first = client.send("desktop.start", {"desktop": idle["name"]})
        second = client.send("desktop.delete", {"desktop": idle["name"], "force": True})
        assert client.wait(first)["state"] == "running"
        with pytest.raises(vdi.RpcError) as refused:
            client.wait(second)
    assert refused.value.kind == "busy"


# ---- what one sees of it ----

def test_screenshot_shows_the_screen(world, booted):
    vdi.wait_until(lambda: colours(world.screenshot("booted")[0]) == 3, 20,
                   "the banner's three colours", 0.5)
    png, width, height = world.screenshot("booted")
    assert (width, height) == (720, 400)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")


def test_screenshots_are_taken_of_the_one_asked_for(world, booted, idle):
    world.call("desktop.start", desktop=idle["name"])
    assert world.screenshot(idle["name"])[0] != world.screenshot("booted")[0]


def test_console_log(world, booted):
    assert f"guest: ready hostname=booted address={booted['ip']}" in world.console("booted")
    tail = world.call("desktop.console.log", desktop="booted", max_bytes=10)["text"]
    assert 0 < len(tail.encode()) <= 30  # what is no UTF-8 stands as '?'
    assert world.console("booted").endswith(tail)


def test_stats(world, booted):
    stats = world.call("desktop.stats", desktop="booted")
    assert stats["state"] == "running" and stats["cpu_ms"] > 500
    assert 64 << 20 < stats["memory_bytes"] < 1 << 30
    assert stats["disk_allocated_bytes"] < 32 << 20


def test_qemu_runs_with_no_privilege_and_no_port(world, booted, idle):
    other = world.call("desktop.start", desktop=idle["name"])
    uids = set()
    for pid in (booted["pid"], other["pid"]):
        status = dict(line.split(":\t", 1) for line in
                      open(f"/proc/{pid}/status", encoding="utf-8").read().splitlines())
        uids.add(status["Uid"])
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert all(int(status[key], 16) == 0 for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb"))
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        listing = subprocess.run(["ss", "-lntuHp"], capture_output=True, text=True, check=True)
        assert f"pid={pid}," not in listing.stdout
    assert len(uids) == 2


# ---- its network ----

def test_guest_reaches_its_network_and_back(world, booted):
    name, mac, address = vdi.guest_who(booted["ip"])
    assert (name, mac, address) == ("booted", booted["mac"], booted["ip"])
    assert vdi.guest_do(booted["ip"], "ping 10.77.0.1") == "ok"
    leases = world.call("network.leases", network="lan")["leases"]
    assert [l["ip"] for l in leases if l["mac"] == booted["mac"]] == [booted["ip"]]


def test_two_guests_reach_each_other(world, booted):
    other = world.create_desktop("neighbour", "lan", start=True)
    vdi.guest_wait(other["ip"])
    assert vdi.guest_do(booted["ip"], f"ping {other['ip']}", f"get {other['ip']} 7",
                        "resolve neighbour") \
        == ["ok", f"neighbour {other['mac']} {other['ip']}", other["ip"]]
    world.call("desktop.delete", desktop="neighbour", force=True)


@pytest.fixture
def outside():
    """Another host beyond this one: a namespace at the end of a cable, without a way back to the
    guests' addresses. Yields (its address, the address that it sees us under)."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec sleep 600"],
                              stdout=subprocess.PIPE)
    holder.stdout.readline()
    inside = ["nsenter", "--net", "--target", str(holder.pid)]
    for command in (["ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0",
                     "netns", str(holder.pid)],
                    ["ip", "addr", "add", "198.51.100.1/24", "dev", "up0"],
                    ["ip", "link", "set", "up0", "up"],
                    ["ip", "route", "add", "default", "via", "198.51.100.2"],
                    inside + ["ip", "addr", "add", "198.51.100.2/24", "dev", "far0"],
                    inside + ["ip", "link", "set", "far0", "up"]):
        subprocess.run(command, check=True)
    server = subprocess.Popen(inside + [
        "/usr/bin/python3", "-c",
        "import socket\n"
        "s = socket.create_server(('198.51.100.2', 99))\n"
        "print('up', flush=True)\n"
        "while True:\n"
        "    c, a = s.accept()\n"
        "    c.sendall(('seen as ' + a[0] + '\\n').encode())\n"
        "    c.close()\n"], stdout=subprocess.PIPE)
    server.stdout.readline()
    yield "198.51.100.2", "198.51.100.1"
    for process in (server, holder):
        process.kill()
        process.wait()
        process.stdout.close()
    subprocess.run(["ip", "link", "delete", "up0"], check=False, capture_output=True)


def test_nat_goes_out_under_the_hosts_address(booted, outside):
    far, near = outside
    assert vdi.guest_do(booted["ip"], f"ping {far}", f"get {far} 99") == ["ok", f"seen as {near}"]


def test_isolated_does_not_go_out(world, outside):
    world.call("network.create", name="closed", kind="isolated", cidr="10.78.0.0/24")
    desktop = world.create_desktop("hermit", "closed", start=True)
    vdi.guest_wait(desktop["ip"])
    assert vdi.guest_do(desktop["ip"], f"ping {outside[0]}", f"get {outside[0]} 99") \
        == ["error: ping failed", "error: get failed"]
    world.call("desktop.delete", desktop="hermit", force=True)
    world.call_when_free("network.delete", network="closed")


# ---- what breaks ----

@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSEGV])
def test_qemu_that_dies_is_failed_at_once(world, idle, sig):
    desktop = world.call("desktop.start", desktop=idle["name"])
    with world.client() as client:
        client.call("events.subscribe", topics=["desktop"])
        vdi.kill_pid(desktop["pid"], sig=sig)
        event = client.next_event()
    assert (event["subject"], event["data"]["state"]) == (idle["id"], "failed")
    failed = world.desktop(idle["name"])
    assert failed["state"] == "failed" and failed["pid"] is None
    assert signal.strsignal(sig).split()[0].lower() in failed["state_reason"].lower() \
        or str(int(sig)) in failed["state_reason"], failed["state_reason"]
    assert world.call("desktop.start", desktop=idle["name"])["state"] == "running"


def test_qemu_missing(make_daemon, guest_image):
    daemon = make_daemon({"qemu": {"accel": "tcg", "qemu_binary": "/nonexistent/qemu"}}).start()
    before = taps()
    daemon.import_image(guest_image)
    daemon.create_desktop("orphan")
    with pytest.raises(vdi.RpcError) as refused:
        daemon.call("desktop.start", desktop="orphan")
    assert "/nonexistent/qemu" in str(refused.value)
    assert daemon.desktop("orphan")["state"] == "failed"
    assert taps() == before


def test_killed_daemon_finds_its_desktops(world):
    """SIGKILL while three desktops run: all adopted, same processes, guests never notice."""
    names = ["steady-1", "steady-2", "steady-3"]
    desktops = [world.create_desktop(name, "lan", start=True) for name in names]
    boots = []
    for desktop in desktops:
        vdi.guest_wait(desktop["ip"])
        boots.append(vdi.guest_do(desktop["ip"], "boot"))
    world.call("desktop.pause", desktop=names[2])
    before = [world.desktop(name) for name in names]
    links = link_numbers()

    lost, stop = [], threading.Event()

    def keep_asking():
        while not stop.wait(0.2):
            for desktop in desktops[:2]:
                if vdi.guest_who(desktop["ip"]) is None:
                    lost.append(desktop["name"])

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        world.kill()
        world.start()
        after = [world.desktop(name) for name in names]
    finally:
        stop.set()
        asking.join()
    assert after == before
    assert [d["state"] for d in after] == ["running", "running", "paused"]
    # no link was made anew: what a slow guest might only seem to miss
    assert not lost and link_numbers() == links
    assert world.call("desktop.resume", desktop=names[2])["state"] == "running"
    for desktop, boot in zip(desktops, boots):
        vdi.guest_wait(desktop["ip"])
        assert vdi.guest_do(desktop["ip"], "boot") == boot
    # adopted means held: its end is seen, and it can be stopped and deleted
    vdi.kill_pid(before[0]["pid"])
    vdi.wait_until(lambda: world.desktop(names[0])["state"] == "failed", 3, "the failed state")
    assert world.call("desktop.stop", desktop=names[1], timeout_s=60)["state"] == "stopped"
    for name in names:
        world.call("desktop.delete", desktop=name, force=True)


@pytest.mark.parametrize("half", [0, 1])
def test_either_half_dying_ends_the_other(world, booted, half):
    halves = world.halves()
    assert len(halves) == 2
    vdi.kill_pid(halves[half])
    for pid in halves:
        vdi.wait_until(lambda: not vdi.is_alive(pid), 10, "the other half to end")
    world.process.wait(60)
    world.process = None
    world.start()
    assert world.desktop("booted")["pid"] == booted["pid"]
    assert vdi.guest_wait(booted["ip"])[0] == "booted"


def test_desktop_that_died_meanwhile(world, idle):
    desktop = world.call("desktop.start", desktop=idle["name"])
    world.kill()
    vdi.kill_pid(desktop["pid"])
    world.start()
    failed = world.desktop(idle["name"])
    assert failed["state"] == "failed" and failed["state_reason"] and failed["pid"] is None
    assert world.call("desktop.start", desktop=idle["name"])["state"] == "running"


def test_orderly_stop_leaves_desktops_running(world, booted):
    assert world.stop() == 0
    assert vdi.guest_who(booted["ip"])[0] == "booted"
    world.start()
    assert world.desktop("booted")["pid"] == booted["pid"]


def test_second_daemon_is_refused(world):
    second = subprocess.run(world.argv(), capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode != 0
    assert second.stderr
    assert world.call("host.ping") is not None


def test_data_disk(world):
    """Two disks, each with what was written to it; also after another start."""
    ada = world.create_desktop("two-disks", "lan", data_disk_gib=2)
    assert ada["data_disk_bytes"] == 2 << 30 and ada["work"] is None
    for start in range(2):
        ip = world.call("desktop.start", desktop="two-disks")["ip"]
        vdi.guest_wait(ip)
        if start == 0:
            assert vdi.guest_do(ip, "write 9 on the system disk", "kwrite 9 on the data disk",
                                "kwrite 4194303 at its end", "sync", "ksync") == ["ok"] * 5
            assert vdi.guest_do(ip, "kwrite 4194304 behind it").startswith("error")
        assert vdi.guest_do(ip, "read 9", "kread 9", "kread 4194303") == [
            "on the system disk", "on the data disk", "at its end"]
        world.call("desktop.stop", desktop="two-disks", mode="force")
    overlays = world.state / "overlays"
    assert len(list(overlays.glob(f"{ada['id']}-*.qcow2"))) == 2
    world.call("desktop.delete", desktop="two-disks")
    assert not list(overlays.glob(f"{ada['id']}-*"))
