"""A stock viewer opens the .vv file as it came and shows the guest's screen."""
import configparser
import os
import socket
import subprocess
import time

import pytest
import vdi

VIEWER = "remote-viewer"


@pytest.fixture(scope="module")
def booted(world):
    desktop = world.create_desktop("shown", "lan", start=True)
    vdi.guest_wait(desktop["ip"])
    return desktop


@pytest.fixture(scope="module")
def display(tmp_path_factory):
    """An X server without a screen; yields the environment of its clients."""
    home = tmp_path_factory.mktemp("home")
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24",
                               "-nolisten", "tcp", "-noreset"], pass_fds=[write],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    keep = {key: value for key, value in os.environ.items()
            if key in ("PATH", "LANG", "LC_ALL") or key.startswith("VDI_")}
    yield {**keep, "DISPLAY": f":{number}", "HOME": str(home), "XDG_RUNTIME_DIR": str(home),
           "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1", "GSETTINGS_BACKEND": "memory",
           "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    server.terminate()
    server.wait()


@pytest.fixture
def view(display, tmp_path):
    """view(text of a .vv file) -> the running viewer; ended after the test."""
    started = []

    def open_viewer(text):
        path = tmp_path / f"{len(started)}.vv"
        path.write_text(text)
        with open(tmp_path / "viewer.log", "ab") as log:
            viewer = subprocess.Popen([VIEWER, "--hotkeys=release-cursor=ctrl+alt", path],
                                      env=display, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        started.append(viewer)
        return viewer

    yield open_viewer
    for viewer in started:
        viewer.kill()
        viewer.wait()
    print((tmp_path / "viewer.log").read_text(errors="replace"))


def run(*argv, **kwargs):
    return subprocess.run(argv, capture_output=True, check=False, **kwargs)


def difference(display, guest, folder):
    """How many pixels of the guest's picture are others in the viewer's window; None while there is
    no such window. Two guests' banners differ by some hundred."""
    shot, guest_png, part = folder / "root.png", folder / "guest.png", folder / "part.png"
    guest_png.write_bytes(guest[0])
    if run("import", "-window", "root", str(shot), env=display).returncode != 0:
        return None
    # the viewer shows the picture in its own size below its menu: find where its blue begins
    found = run("convert", str(shot), "-fuzz", "5%", "-fill", "black", "+opaque", "#0000aa", "-trim",
                "-format", "%wx%h%O", "info:")
    geometry = found.stdout.decode()
    if not geometry.startswith(f"{guest[1]}x{guest[2]}+"):
        return None
    run("convert", str(shot), "-crop", geometry, "+repage", str(part))
    compared = run("compare", "-metric", "AE", "-fuzz", "10%", str(part), str(guest_png), "null:")
    return float(compared.stderr.split()[0])


def connect(world, name):
    answer = world.call("desktop.connect", desktop=name, protocol="spice")
    assert answer["protocol"] == "spice" and answer["file_name"].endswith(".vv")
    return answer["file"]


def parse(text):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return dict(parser["virt-viewer"])


def shows(world, display, name, folder):
    def same():
        found = difference(display, world.screenshot(name), folder)
        return found is not None and found < 20
    return same


def test_viewer_shows_the_guests_screen(world, booted, display, view, tmp_path):
    viewer = view(connect(world, "shown"))
    vdi.wait_until(shows(world, display, "shown", tmp_path), 40, "the viewer to show the screen", 0.5)
    assert viewer.poll() is None
    if "VDI_PICTURE" in os.environ:  # how the README's picture was made
        run("import", "-window", "root", "-trim", os.environ["VDI_PICTURE"], env=display)


def test_viewer_types_into_the_guest(world, booted, display, view, tmp_path):
    view(connect(world, "shown"))
    vdi.wait_until(shows(world, display, "shown", tmp_path), 40, "the viewer to show the screen", 0.5)
    before = world.screenshot("shown")[0]

    def heard():
        """A window that is slow to come may miss the first."""
        run("xdotool", "mousemove", "360", "250", "click", "1", env=display)
        run("xdotool", "key", "Return", env=display)
        return world.screenshot("shown")[0] != before
    vdi.wait_until(heard, 10, "the guest to hear a key", 0.5)


def test_screen_survives_the_daemon(world, booted, display, view, tmp_path):
    """The viewer's connection is QEMU's: a daemon that dies does not cut it."""
    viewer = view(connect(world, "shown"))
    vdi.wait_until(shows(world, display, "shown", tmp_path), 40, "the viewer to show the screen", 0.5)
    world.kill()
    world.start()
    time.sleep(2)
    assert viewer.poll() is None
    windows = run("xdotool", "search", "--name", "shown", "getwindowname", env=display).stdout
    assert b"shown" in windows


def test_connect_starts_a_stopped_desktop(world):
    world.create_desktop("asleep", "lan")
    file = parse(connect(world, "asleep"))
    assert world.desktop("asleep")["state"] == "running"
    assert file["type"] == "spice" and file["proxy"].startswith("http://")
    assert len(file["password"]) >= 16
    world.call("desktop.delete", desktop="asleep", force=True)


def proxy_says(file, token, rest=b""):
    """What the daemon's port answers to a CONNECT, up to 200 bytes."""
    host, port = file["proxy"].removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(f"CONNECT {token}:{file['port']} HTTP/1.0\r\nHost: {token}\r\n\r\n".encode() + rest)
        sock.settimeout(30)
        try:
            return sock.recv(200)
        except (socket.timeout, ConnectionResetError):
            return b""


def test_wrong_token_is_refused(world, booted):
    file = parse(connect(world, "shown"))
    good = proxy_says(file, file["host"])
    assert good.startswith(b"HTTP/1.0 200")
    wrong = file["host"][:-1] + ("0" if file["host"][-1] != "0" else "1")
    for token in (wrong, "", "x" * 1000, file["host"] + "0"):
        assert b"200" not in proxy_says(file, token)


def test_wrong_password_is_refused(world, booted, display, view, tmp_path):
    """The token opens the way, the ticket the screen: a viewer with another one sees nothing."""
    text = connect(world, "shown")
    right = parse(text)["password"]
    view(text.replace(right, "x" * len(right)))
    vdi.wait_until(lambda: run("xdotool", "search", "--onlyvisible", "--class", VIEWER,
                               env=display).stdout, 20, "the viewer to ask or to complain")
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert not shows(world, display, "shown", tmp_path)()
        time.sleep(0.5)
