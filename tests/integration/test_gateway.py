"""The port that screens are reached at: what is no right request is refused, and whoever sits on it or
floods it keeps nobody else from a screen."""
import contextlib
import os
import re
import signal
import socket
import struct
import time

import pytest
import vdi

OK = b"HTTP/1.0 200 OK\r\n\r\n"
BAD, DENIED = b"HTTP/1.0 400 ", b"HTTP/1.0 403 "


@pytest.fixture(scope="module")
def host(build, vdi_user, tmp_path_factory):
    """A daemon with a running desktop that has a screen and no guest."""
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd", {"spice": {"ticket_ttl_s": "60"}}).start()
    try:
        disk = tmp_path_factory.mktemp("disk") / "disk.raw"
        disk.write_bytes(b"\0" * (1 << 20))
        daemon.import_image(disk, "base")
        daemon.create_desktop("ada", image="base", memory_mib=64)
        daemon.call("desktop.start", desktop="ada")
    except BaseException:
        daemon.clean_up()
        raise
    yield daemon
    daemon.done()


def way_to(daemon):
    """(port, token) as the client's file says."""
    text = daemon.call("desktop.connect", desktop="ada", protocol="spice")["file"]
    keys = dict(re.findall(r"^([a-z-]+)=(.*)$", text, re.M))
    return int(keys["proxy"].rsplit(":", 1)[1]), keys["host"]


def reach(port):
    return socket.create_connection(("127.0.0.1", port), 60)


def request(token, rest="HTTP/1.0\r\nHost: x\r\n\r\n"):
    return f"CONNECT {token}:61000 {rest}".encode()


def read_all(sock):
    """Until the other side closes; a reset ends it as well."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(4096):
            got += chunk
    return got


def read_exactly(sock, size):
    got = b""
    while len(got) < size:
        chunk = sock.recv(size - len(got))
        assert chunk, f"the connection ended after {got!r}"
        got += chunk
    return got


def link_to_spice(sock):
    """The first message of SPICE's link stage, for the main channel; the head of its answer."""
    body = struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
    sock.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(body)) + body)
    magic, major, _, size = struct.unpack("<4sIII", read_exactly(sock, 16))
    error = struct.unpack("<I", read_exactly(sock, size)[:4])[0]
    return magic, major, error


def reach_screen(port, token):
    """All the way to QEMU."""
    with reach(port) as sock:
        sock.sendall(request(token))
        assert read_exactly(sock, len(OK)) == OK
        assert link_to_spice(sock) == (b"REDQ", 2, 0)


WRONG = {
    "another method": (lambda token: b"GET / HTTP/1.0\r\n\r\n", BAD),
    "no method": (lambda token: b"\r\n\r\n", BAD),
    "lower case": (lambda token: request(token).lower(), BAD),
    "a short token": (lambda token: request(token[:-1]), BAD),
    "a long token": (lambda token: request(token + "0"), BAD),
    "another token": (lambda token: request("0" * len(token)), DENIED),
    "no port": (lambda token: f"CONNECT {token} HTTP/1.0\r\n\r\n".encode(), BAD),
    "a long port": (lambda token: f"CONNECT {token}:123456 HTTP/1.0\r\n\r\n".encode(), BAD),
    "no version": (lambda token: f"CONNECT {token}:61000\r\n\r\n".encode(), BAD),
    "a NUL": (lambda token: f"CONNECT {token}:61000 HTTP/1.0\r\nA: \0\r\n\r\n".encode(), BAD),
    "more than a request": (lambda token: request(token) + b"REDQ", BAD),
    "a huge header": (lambda token: request(token, "HTTP/1.0\r\nA: " + "a" * 100000), BAD),
    "a SPICE link": (lambda token: b"REDQ" + b"\0" * 3000, BAD),
    "TLS": (lambda token: b"\x16\x03\x01\x02\x00\x01" + b"\0" * 512, BAD),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_request(host, kind):
    make, answer = WRONG[kind]
    port, token = way_to(host)
    with reach(port) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(make(token))
        got = read_all(sock)
    # what was not read to its end may cost the answer, never bring another one
    assert got.startswith(answer) or (got == b"" and len(make(token)) > 2048)
    reach_screen(port, token)


def test_screen(host):
    """The right token gets to SPICE, as often as a client has channels."""
    port, token = way_to(host)
    for _ in range(4):
        reach_screen(port, token)


def test_slowly(host):
    """A request in single bytes is a request; meanwhile others pass it."""
    port, token = way_to(host)
    with reach(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(token):
            sock.send(bytes([byte]))
            time.sleep(0.002)
        reach_screen(port, token)
        assert read_exactly(sock, len(OK)) == OK
        assert link_to_spice(sock) == (b"REDQ", 2, 0)


def test_expired(make_daemon, tmp_path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    # long enough for a busy machine to use it before it ends
    daemon = make_daemon({"spice": {"ticket_ttl_s": "10"}}).start()
    daemon.import_image(disk, "base")
    daemon.create_desktop("ada", image="base", memory_mib=64)
    port, token = way_to(daemon)  # starts it
    reach_screen(port, token)
    time.sleep(10.1)
    with reach(port) as sock:
        sock.sendall(request(token))
        assert read_all(sock).startswith(DENIED)
    # a new one replaces the old one at once
    port, old = way_to(daemon)
    port, token = way_to(daemon)
    with reach(port) as sock:
        sock.sendall(request(old))
        assert read_all(sock).startswith(DENIED)
    reach_screen(port, token)


def test_stopped_meanwhile(host):
    port, token = way_to(host)
    host.call("desktop.stop", desktop="ada", mode="force")
    with reach(port) as sock:
        sock.sendall(request(token))
        assert read_all(sock).startswith(b"HTTP/1.0 503 ")
    reach_screen(*way_to(host))


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.halves()[1]}/fd"))


def test_idle_crowd(host):
    """Hundreds that sit on the port and say nothing, or half a line, keep nobody out."""
    port, token = way_to(host)
    held = descriptors(host)
    with contextlib.ExitStack() as crowd:
        for number in range(300):
            sock = crowd.enter_context(reach(port))
            if number % 2:
                sock.send(b"CONNECT ")
        began = time.monotonic()
        for _ in range(4):
            reach_screen(port, token)
        assert host.call("host.ping") is not None
        assert time.monotonic() - began < 8  # who waits for those that are silent waits for ten seconds
    vdi.wait_until(lambda: descriptors(host) <= held, 5, "the crowd's descriptors to be closed")


def test_silent_one_is_sent_away(host):
    port, token = way_to(host)
    began = time.monotonic()
    with reach(port) as sock:
        sock.send(b"CONNECT ")
        assert read_all(sock) == b""
    assert 5 < time.monotonic() - began < 60
    reach_screen(port, token)


def test_hung_qemu(host):
    """A QEMU that reads nothing costs its own clients their screen, nobody else anything."""
    port, token = way_to(host)
    pid = host.desktop("ada")["pid"]
    vdi.kill_pid(pid, sig=signal.SIGSTOP)
    try:
        with reach(port) as sock:
            sock.sendall(request(token))
            assert host.call("desktop.list")["items"][0]["state"] == "running"
        for _ in range(600):  # more than QEMU's socket holds
            with reach(port) as sock:
                sock.sendall(request(token))
        assert host.call("host.ping") is not None
    finally:
        vdi.kill_pid(pid, sig=signal.SIGCONT)
    vdi.wait_until(lambda: can_reach(host), 15, "a screen again", 0.5)


def can_reach(host):
    with contextlib.suppress(AssertionError, OSError, vdi.RpcError):
        reach_screen(*way_to(host))
        return True
    return False
