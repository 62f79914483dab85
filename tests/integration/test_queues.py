"""NICs of several queues in front of a real guest; the kernel moves their packets where it can."""
import json
import os
import pathlib
import re
import subprocess

import pytest
import vdi


@pytest.fixture(scope="module")
def desk(world):
    """Two processors and a NIC of two queues, which runs."""
    world.call("network.create", name="queues-b", cidr="10.64.0.0/24", kind="isolated")
    world.create_desktop("queues", "lan", vcpus=2)
    world.call("desktop.nic.update", desktop="queues", nic=0, queues=2)
    desktop = world.call("desktop.start", desktop="queues")
    vdi.guest_wait(desktop["ip"])
    return desktop


def nics(world):
    return world.call("desktop.nic.list", desktop="queues")["items"]


def has_vhost(world):
    return world.call("host.info")["features"]["vhost_net"]


def ask(ip, *commands):
    """As vdi.guest_do, and once more when nothing comes: a guest whose two processors are emulated stands
    still for some seconds now and then on a busy machine, however many queues it has."""
    def attempt():
        try:
            return vdi.guest_do(ip, *commands, timeout=20)
        except TimeoutError:
            return None
    return vdi.wait_until(attempt, 60, "the guest to answer")


def check_reaches(ip, *hosts):
    vdi.wait_until(lambda: all(ask(ip, f"ping {host}") == "ok" for host in hosts), 30, f"the guest to reach {hosts}")


def shell(ip, command):
    """What a command line in the guest prints, as one line."""
    ask(ip, "remember -", f"later echo done $({command}) >/tmp/remembered")
    vdi.wait_until(lambda: ask(ip, "recall").startswith("done"), 30, f"the guest to run {command}", 0.3)
    return ask(ip, "recall")


def queues_in_guest(ip, name):
    return len(re.findall(r"\brx-\d", shell(ip, f"ls /sys/class/net/{name}/queues")))


def tap(nic):
    """The tap of the only desktop that has one, as `ip` shows it."""
    links = json.loads(subprocess.check_output(["ip", "-json", "-details", "link"]))
    return next((link for link in links if re.fullmatch(rf"vdi\d+n{nic}", link["ifname"])), None)


def device_fds(pid, path):
    links = pathlib.Path(f"/proc/{pid}/fd").iterdir()
    return [os.readlink(link) for link in links].count(path)


def interrupts(ip):
    """{queue: how many}: each queue of eth0 has an interrupt of its own."""
    counts = re.findall(r"\d+: +(\d+) +(\d+) +\S+ +\S+ +virtio\d+-input\.(\d)",
                        shell(ip, "grep virtio.*-input /proc/interrupts"))
    return {queue: int(first) + int(second) for first, second, queue in counts}


def both_are_used(ip):
    """Connections are spread over them."""
    before = interrupts(ip)
    assert set(before) == {"0", "1"}

    def used():
        for _ in range(20):
            vdi.guest_wait(ip)
        now = interrupts(ip)
        return all(now[queue] > before[queue] for queue in now)
    vdi.wait_until(used, 30, "both queues to be used")


def test_two_queues(world, desk):
    nic, = nics(world)
    assert (nic["queues"], nic["queues_in_use"], nic["vhost"]) == (2, 2, has_vhost(world))
    assert world.desktop("queues")["nics"] == [nic]
    assert device_fds(desk["pid"], "/dev/net/tun") == 2
    assert queues_in_guest(desk["ip"], "eth0") == 2

    both_are_used(desk["ip"])


def test_a_deleted_tap_comes_back_with_both(world, desk):
    first = tap(0)
    subprocess.check_call(["ip", "link", "delete", first["ifname"]])
    vdi.wait_until(lambda: tap(0) and world.call("network.get", network="lan")["differences"] == [], 10,
                   "the tap")
    assert tap(0)["ifindex"] != first["ifindex"]
    vdi.guest_wait(desk["ip"])
    both_are_used(desk["ip"])


def test_guarded_and_limited_all_the_same(world, desk):
    def drops():
        nic, = world.call("desktop.stats", desktop="queues")["nics"]
        return nic["drops"]["ipv4"] + nic["drops"]["arp"]
    before = drops()
    # a source address for each, so that they go by both queues
    said = shell(desk["ip"], "for i in $(seq 200 220); do ip addr add 10.77.0.$i/32 dev eth0; "
                      "ping -c 1 -W 1 -I 10.77.0.$i 10.77.0.1 & done; wait; "
                      "for i in $(seq 200 220); do ip addr del 10.77.0.$i/32 dev eth0; done")
    assert said.count("100% packet loss") == 21
    assert drops() - before >= 21

    world.call("desktop.nic.update", desktop="queues", nic=0, to_guest_kbit=50000, from_guest_kbit=50000)
    text = subprocess.check_output(["tc", "-json", "-s", "qdisc", "show", "dev", tap(0)["ifname"]])
    limit, = [qdisc for qdisc in json.loads(text) if qdisc["kind"] == "tbf"]
    assert limit["root"]  # of the device: nothing passes by it, whatever the queue
    check_reaches(desk["ip"], "10.77.0.1")
    world.call("desktop.nic.update", desktop="queues", nic=0, to_guest_kbit=0, from_guest_kbit=0)


def test_plugged_in_and_kept_over_a_crash(world, desk):
    # no more than processors
    nic = world.call("desktop.nic.add", desktop="queues", network="queues-b", queues=8)["nics"][1]
    assert (nic["queues"], nic["queues_in_use"], nic["vhost"]) == (8, 2, has_vhost(world))
    vdi.wait_until(lambda: "eth1" in ask(desk["ip"], "nics"), 30, "the NIC to be seen", 0.3)
    assert ask(desk["ip"], "lease eth1") == nic["ip"]
    assert queues_in_guest(desk["ip"], "eth1") == 2
    check_reaches(desk["ip"], "10.64.0.1")
    assert device_fds(desk["pid"], "/dev/net/tun") == 4

    # what is wished for does not touch what runs
    world.call("desktop.nic.update", desktop="queues", nic=1, queues=1)
    world.kill()
    world.start()
    assert [(nic["queues"], nic["queues_in_use"]) for nic in nics(world)] == [(2, 2), (1, 2)]
    assert world.desktop("queues")["pid"] == desk["pid"]
    check_reaches(desk["ip"], "10.64.0.1", "10.77.0.1")

    world.call("desktop.nic.remove", desktop="queues", nic=1)
    vdi.wait_until(lambda: not tap(1), 5, "its tap to go")
    assert device_fds(desk["pid"], "/dev/net/tun") == 2


def test_nothing_is_left(world, desk):
    world.call("desktop.delete", desktop="queues", force=True)
    assert not tap(0)
