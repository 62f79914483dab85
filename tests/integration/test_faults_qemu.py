"""A QEMU that will not start, dies, hangs or talks nonsense: its own desktop says so in words, and
nobody else notices."""
import pathlib
import shutil
import signal
import time

import pytest
import vdi

TOP = pathlib.Path(__file__).resolve().parents[2]
PROMPT = 4.5  # seconds; an answer that had to wait for a hung QEMU takes five or more
IN_TIME = 20  # seconds; a start that is given one of them would take thirty if it did not heed that


def copy_fake(daemon):
    fake = daemon.root / "qemu-fake"
    shutil.copy(TOP / "tests/fake/qemu.py", fake)
    fake.chmod(0o755)
    set_mode(daemon, "real")
    return fake


def set_mode(daemon, mode):
    (daemon.root / "mode").write_text(mode)
    (daemon.root / "mode").chmod(0o644)


def fakes(daemon):
    """Pids of the stand-ins."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(daemon.root / "qemu-fake").encode() in argv and vdi.is_alive(path.parent.name):
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def host(build, vdi_user, tmp_path_factory):
    """A daemon whose QEMU is the stand-in, with a desktop `bob` that runs on the real one."""
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd")
    daemon.settings["qemu"]["qemu_binary"] = str(copy_fake(daemon))
    daemon.start()
    try:
        disk = tmp_path_factory.mktemp("disk") / "disk.raw"
        disk.write_bytes(b"\0" * (1 << 20))
        daemon.import_image(disk, "base")
        for name in ("ada", "bob"):
            create(daemon, name)
        daemon.call("desktop.start", desktop="bob")
    except BaseException:
        daemon.clean_up()
        raise
    yield daemon
    set_mode(daemon, "real")
    daemon.done()


def create(daemon, name):
    daemon.create_desktop(name, image="base", memory_mib=64)


def check_others(daemon):
    """bob runs on and is answered for at once."""
    began = time.monotonic()
    states = {d["name"]: d["state"] for d in daemon.call("desktop.list")["items"]}
    assert states["bob"] == "running"
    assert daemon.screenshot("bob")[0][:4] == b"\x89PNG"
    assert time.monotonic() - began < PROMPT


# mode: the error's kind, what it says, and what a start is given: one second where that has to run out
FAULTS = {
    "ends": ("unavailable", "QEMU ended with status 3: the moon is in the wrong phase", None),
    "dies": ("unavailable", "QEMU ended with status 3: the disk fell out", None),
    "crashes": ("unavailable", "killed by signal 11", None),
    "hangs": ("timeout", "no greeting", 1),
    "silent": ("timeout", "no greeting", 1),
    "greets": ("timeout", "qmp_capabilities", 1),
    "garbage": ("corrupt", "no valid message", None),
    "flood": ("limit", "", None),
    "refuses": (None, "the guest is stubborn", None),
}


@pytest.mark.parametrize("mode", FAULTS)
def test_start(host, mode):
    kind, words, given = FAULTS[mode]
    pid = host.desktop("bob")["pid"]
    with host.client() as events, host.client() as client:
        events.call("events.subscribe", topics=["desktop"])
        set_mode(host, mode)
        began = time.monotonic()
        number = client.send("desktop.start", {"desktop": "ada", **({"timeout_s": given} if given else {})})
        check_others(host)
        with pytest.raises(vdi.RpcError) as caught:
            client.wait(number)
        assert time.monotonic() - began < IN_TIME
        told = []
        while not told or told[-1]["data"]["state"] != "failed":
            told.append(events.next_event())
            assert told[-1], told
    assert kind is None or caught.value.kind == kind, (caught.value.kind, str(caught.value))
    assert words in str(caught.value)
    ada = host.desktop("ada")
    assert ada["state"] == "failed" and words in ada["state_reason"] and ada["pid"] is None
    assert told[-1]["data"]["name"] == "ada" and words in told[-1]["data"]["reason"]
    assert fakes(host) == []
    # and it starts once QEMU is well again
    set_mode(host, "real")
    assert host.call("desktop.start", desktop="ada")["state"] == "running"
    host.call("desktop.stop", desktop="ada", mode="force")
    assert host.desktop("bob")["pid"] == pid


def test_missing(make_daemon, tmp_path):
    """A QEMU that is not there is named, and so is what to do about it."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    daemon = make_daemon({"qemu": {"qemu_binary": "/nowhere/qemu"}}).start()
    daemon.import_image(disk, "base")
    create(daemon, "ada")
    with pytest.raises(vdi.RpcError) as caught:
        daemon.call("desktop.start", desktop="ada")
    assert caught.value.kind == "unavailable"
    assert "/nowhere/qemu" in str(caught.value) and "qemu_binary" in str(caught.value)
    assert daemon.desktop("ada")["state"] == "failed"
    daemon.call("desktop.delete", desktop="ada")


def test_hangs_at_its_version(make_daemon):
    """A daemon does not wait for ever to be told which QEMU it has."""
    daemon = make_daemon()
    daemon.settings["qemu"]["qemu_binary"] = str(copy_fake(daemon))
    set_mode(daemon, "hangs")
    daemon.start(timeout=15)
    assert not daemon.call("host.info")["qemu_version"]
    vdi.wait_until(lambda: fakes(daemon) == [], 5, "the end of it")
    set_mode(daemon, "real")
    daemon.restart()
    assert daemon.call("host.info")["qemu_version"] == "7.2.0"


def test_monitor_goes_mad(host):
    """Nonsense from a QEMU that runs: the desktop is not given up, and can be ended."""
    set_mode(host, "turns")
    host.call("desktop.start", desktop="ada")
    reason = vdi.wait_until(lambda: host.desktop("ada")["state_reason"], 5, "a reason")
    assert "monitor is lost" in reason
    check_others(host)
    assert len(fakes(host)) == 1
    stopped = host.call("desktop.stop", desktop="ada", mode="force")
    assert stopped["state"] == "stopped"
    assert fakes(host) == []


def expect_error(client, number, kind):
    with pytest.raises(vdi.RpcError) as caught:
        client.wait(number)
    assert caught.value.kind == kind, (caught.value.kind, str(caught.value))


def test_hung(host):
    """SIGSTOP: what needs this QEMU's monitor ends by its deadline, all else is prompt."""
    set_mode(host, "real")
    pid = host.call("desktop.start", desktop="ada")["pid"]
    vdi.kill_pid(pid, sig=signal.SIGSTOP)
    with host.client() as client:
        began = time.monotonic()
        asked = [client.send("desktop.pause", {"desktop": "ada"}),
                 client.send("desktop.screenshot", {"desktop": "ada"})]
        check_others(host)
        assert host.desktop("ada")["pid"] == pid
        assert host.call("desktop.stats", desktop="ada")["name"] == "ada"
        # one operation at a time: the second is told so, and not kept waiting
        expect_error(client, client.send("desktop.resume", {"desktop": "ada"}), "busy")
        assert time.monotonic() - began < PROMPT
        for number in asked:
            expect_error(client, number, "timeout")
        expect_error(client, client.send("desktop.connect", {"desktop": "ada"}), "timeout")
        assert time.monotonic() - began < 60
    # what was asked is done late, and said as it is
    vdi.kill_pid(pid, sig=signal.SIGCONT)
    vdi.wait_until(lambda: host.desktop("ada")["state"] == "paused", 5, "the late pause")
    assert host.call("desktop.resume", desktop="ada")["state"] == "running"
    assert host.screenshot("ada")[0][:4] == b"\x89PNG"
    host.call("desktop.stop", desktop="ada", mode="force")


def test_hung_resume_and_stop(host):
    set_mode(host, "real")
    pid = host.call("desktop.start", desktop="ada")["pid"]
    host.call("desktop.pause", desktop="ada")
    vdi.kill_pid(pid, sig=signal.SIGSTOP)
    with host.client() as client:
        expect_error(client, client.send("desktop.resume", {"desktop": "ada"}), "timeout")
    assert host.desktop("ada")["state"] == "paused"
    # a stop by force waits for nothing, not for what was asked before either: that is cancelled before its
    # time has run out
    with host.client() as client:
        resume = client.send("desktop.resume", {"desktop": "ada"})
        stop = client.send("desktop.stop", {"desktop": "ada", "mode": "force"})
        expect_error(client, resume, "cancelled")
        assert client.wait(stop)["state"] == "stopped"
    assert not vdi.is_alive(pid)


def test_hung_while_the_daemon_restarts(host):
    """It is adopted all the same, and once it is back its state is known again."""
    set_mode(host, "real")
    pid = host.call("desktop.start", desktop="ada")["pid"]
    others = host.desktop("bob")["pid"]
    vdi.kill_pid(pid, sig=signal.SIGSTOP)
    host.kill()
    host.start()
    ada = host.desktop("ada")
    assert (ada["state"], ada["pid"]) == ("running", pid) and "monitor" in ada["state_reason"]
    assert host.desktop("bob")["pid"] == others
    check_others(host)
    vdi.kill_pid(pid, sig=signal.SIGCONT)
    vdi.wait_until(lambda: host.desktop("ada")["state_reason"] is None, 10, "a monitor that answers")
    assert host.call("desktop.pause", desktop="ada")["state"] == "paused"
    assert host.call("desktop.stop", desktop="ada", mode="force")["state"] == "stopped"


def test_killed(host):
    """Killed from outside: seen at once, and its last words are how it went."""
    set_mode(host, "real")
    pid = host.call("desktop.start", desktop="ada")["pid"]
    vdi.kill_pid(pid)
    ada = vdi.wait_until(lambda: (d := host.desktop("ada"))["state"] == "failed" and d, 3, "failed")
    assert "signal 9" in ada["state_reason"] and ada["pid"] is None
    assert host.call("desktop.start", desktop="ada")["state"] == "running"
    host.call("desktop.stop", desktop="ada", mode="force")
