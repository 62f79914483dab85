#!/usr/bin/python3
"""Stands where QEMU should: it does to its start and its monitor what the file `mode` beside it says.
`real` is QEMU itself. In the way of tests, never of people."""
import json
import os
import pathlib
import re
import signal
import socket
import sys
import time

REAL = "/usr/bin/qemu-system-x86_64"
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""},
                    "capabilities": []}}
ANSWERS = {"query-status": {"running": False, "status": "prelaunch", "singlestep": False}}


def die(words):
    print(words, file=sys.stderr, flush=True)
    sys.exit(3)


def listener():
    text = next(arg for arg in sys.argv if arg.startswith("socket,id=qmp,"))
    return socket.socket(fileno=int(re.search(r"\bfd=(\d+)", text)[1]))


def send(peer, message):
    peer.sendall(json.dumps(message).encode() + b"\r\n")


def flood(peer):
    while True:
        peer.sendall(b"x" * 65536)


def commands(peer):
    for line in peer.makefile():
        yield json.loads(line)


def serve(peer, mode):
    """One conversation; returns when the other side has left."""
    if mode == "garbage":
        peer.sendall(b"\x00\xff}{ this is no greeting\r\n")
    elif mode == "flood":
        flood(peer)
    elif mode != "silent":
        send(peer, GREETING)
    for command in commands(peer):
        name = command["execute"]
        if mode in ("greets", "garbage", "silent"):
            continue
        if mode == "refuses" and name == "cont":
            send(peer, {"error": {"class": "GenericError", "desc": "the guest is stubborn"},
                        "id": command["id"]})
            continue
        if mode == "crashes" and name == "cont":
            os.kill(os.getpid(), signal.SIGSEGV)
        send(peer, {"return": ANSWERS.get(name, {}), "id": command["id"]})
        if name == "quit":
            sys.exit(0)
        if mode == "dies" and name == "qmp_capabilities":
            die("first words\nthe disk fell out")
        if mode == "turns" and name == "cont":
            peer.sendall(b"\x00\xff}{ out of my mind\r\n")
            return


def main():
    mode = (pathlib.Path(__file__).parent / "mode").read_text().strip()
    if "--version" in sys.argv and mode != "hangs":
        print("QEMU emulator version 7.2.0 (fake)")
        return
    if mode == "real":
        os.execv(REAL, [REAL, *sys.argv[1:]])
    if mode == "ends":
        die("cannot set up the machine:\nthe moon is in the wrong phase")
    if mode == "hangs":
        time.sleep(600)
    monitor = listener()
    while True:
        peer, _ = monitor.accept()
        try:
            serve(peer, mode)
        except OSError:
            pass  # the other side had enough
        peer.close()


main()
