"""Desktops on a real QEMU with a real guest: their life, their network, and a daemon that dies."""
import pytest
import vdi


def test_smoke(world):
    made = world.create_desktop("first", "lan")
    assert made["state"] == "stopped"
    started = world.call("desktop.start", desktop="first")
    assert started["state"] == "running"
    print(started)
    print(vdi.guest_wait(started["ip"]))
