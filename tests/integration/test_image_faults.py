"""Imports whose tool is killed, hangs or is missing, whose source changes under their hands, and that are
called off: told in words and by events, and nothing is left of them."""
import os
import re
import signal
import subprocess
import time

import pytest
import vdi

SIZE = 64 << 20


@pytest.fixture(scope="module")
def host(build, vdi_user):
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    yield daemon
    daemon.done()


@pytest.fixture(scope="module")
def content():
    return os.urandom(SIZE)


@pytest.fixture
def source(tmp_path, content):
    """A raw disk that anybody may read and root alone may write: no copy is made of it first."""
    for path in (tmp_path, *list(tmp_path.parents)[:-1]):
        path.chmod(path.stat().st_mode | 0o055)
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    path.chmod(0o644)
    return path


@pytest.fixture(autouse=True)
def whole(host):
    """The store before a test is the store after it."""
    def state():
        return {
            "images": [(i["id"], i["state"]) for i in host.call("image.list")["items"]],
            "files": {name: sorted(p.name for p in (host.state / name).iterdir())
                      for name in ("images", "tmp")},
            "tools": tools(),
        }

    before = state()
    yield
    for image in host.call("image.list")["items"]:
        host.call("image.delete", image=image["id"])
    assert state() == before


def tools():
    return [pid for (pid, _), name in vdi.our_processes().items() if name == "qemu-img"]


def begin(host, path, name="image", **params):
    """The job of an import by descriptor."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with host.client() as client:
            return client.call("image.import", fds=[fd], name=name, **params)["job"]
    finally:
        os.close(fd)


def catch_tool(host, sig):
    """A signal to qemu-img as soon as it runs; its pid."""
    (pid,) = vdi.wait_until(tools, 10, "qemu-img", 0.001)
    vdi.kill_pid(pid, sig=sig)
    return pid


def test_killed(host, source):
    job = begin(host, source)
    catch_tool(host, signal.SIGKILL)
    ended = host.call("job.wait", job=job)
    assert ended["state"] == "failed"
    assert "signal 9" in ended["error"], ended["error"]
    assert ended["error_kind"] in ("io", "unavailable")


def test_hung_and_cancelled(host, source):
    """A tool that stands still holds nobody up, and a cancel ends it."""
    job = begin(host, source)
    pid = catch_tool(host, signal.SIGSTOP)
    assert host.call("host.ping") is not None
    assert host.call("job.get", job=job)["state"] == "running"
    with pytest.raises(vdi.RpcError) as caught:
        host.call("image.delete", image="image")
    assert caught.value.kind in ("busy", "conflict", "not_found")
    host.call("job.cancel", job=job)
    assert host.call("job.wait", job=job)["state"] == "cancelled"
    assert not vdi.is_alive(pid)


@pytest.mark.parametrize("after_s", (0, 0.02, 0.05, 0.1, 0.2, 0.4))
def test_cancelled(host, source, after_s):
    """Wherever it was: cancelled and gone, or done before that."""
    job = begin(host, source)
    time.sleep(after_s)
    try:
        host.call("job.cancel", job=job)
    except vdi.RpcError as error:
        assert error.kind == "conflict", error  # it was over
    state = host.call("job.wait", job=job)["state"]
    names = [i["name"] for i in host.call("image.list")["items"]]
    assert (state, names) in (("cancelled", []), ("done", ["image"]))


def test_daemon_killed(host, source):
    """With its tool in the middle: neither the tool nor its files outlive the next start."""
    job = begin(host, source)
    pid = catch_tool(host, signal.SIGSTOP)
    host.kill()
    host.start()
    assert host.call("job.get", job=job)["state"] == "failed"
    vdi.wait_until(lambda: not vdi.is_alive(pid), 3, "the old tool to end")


def test_daemon_killed_while_unpacking(host, tmp_path):
    """The half that was unpacked goes with the next start."""
    read, write = os.pipe()
    job = host.call("image.import", fds=[read], name="image")["job"]
    os.close(read)
    os.write(write, b"x" * 5000)
    vdi.wait_until(lambda: host.call("job.get", job=job)["done"], 5, "progress")
    assert list((host.state / "tmp").iterdir())
    host.kill()
    host.start()
    os.close(write)
    assert host.call("job.get", job=job)["state"] == "failed"


def test_missing(make_daemon, source):
    daemon = make_daemon({"qemu": {"qemu_img_binary": "/nowhere/qemu-img"}}).start()
    with pytest.raises(vdi.RpcError) as caught:
        daemon.import_image(source)
    assert caught.value.kind == "unavailable"
    assert "/nowhere/qemu-img" in str(caught.value) and "qemu_img_binary" in str(caught.value)
    assert daemon.call("image.list")["items"] == []
    assert list((daemon.state / "tmp").iterdir()) == []


def test_progress(host, source):
    """A subscriber sees the import begin, advance and end; then the image."""
    with host.client() as events:
        events.call("events.subscribe", topics=["job", "image"])
        job = begin(host, source, publish=True)
        # by little and little, so that there is something to tell however fast the disk is
        pid = catch_tool(host, signal.SIGSTOP)
        while vdi.is_alive(pid):
            vdi.kill_pid(pid, sig=signal.SIGSTOP)
            time.sleep(0.3)
            vdi.kill_pid(pid, sig=signal.SIGCONT)
            time.sleep(0.02)
        told, ends = [], {"image", "done"}
        while ends:
            told.append(events.next_event())
            assert told[-1], told
            ends -= {told[-1]["topic"], told[-1]["data"]["state"]}
    jobs = [event["data"] for event in told if event["topic"] == "job"]
    assert {data["id"] for data in jobs} == {job}
    assert jobs[0]["state"] == "running" and jobs[-1]["state"] == "done"
    done = [data["done"] for data in jobs]
    assert done == sorted(done) and len(set(done)) > 2
    assert jobs[-1]["unit"] == "bytes" and jobs[-1]["done"] == jobs[-1]["total"] >= SIZE
    assert len({data["total"] for data in jobs if data["total"]}) == 1
    (image,) = [event for event in told if event["topic"] == "image"]
    assert image["data"]["state"] == "published"
    assert image["subject"] == jobs[-1]["result"]["image"]


def imported(host, tmp_path):
    """The bytes of the only image."""
    (image,) = host.call("image.list")["items"]
    raw = tmp_path / "result.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw",
                    host.state / "images" / f"{image['id']}.qcow2", raw], check=True)
    return raw.read_bytes()


def test_swapped(host, source, content, tmp_path):
    """Another file in its place: what was opened at first is what is imported."""
    job = host.call("image.import", name="image", path=str(source))["job"]
    other = tmp_path / "other"
    other.symlink_to("/etc/shadow")
    os.rename(other, source)
    assert host.call("job.wait", job=job)["state"] == "done"
    assert imported(host, tmp_path) == content


def test_cut_short_meanwhile(host, source, content, tmp_path):
    """A source that somebody else may write is copied first; one that shrinks meanwhile is refused."""
    os.chown(source, 12345, 12345)
    job = begin(host, source)
    os.truncate(source, 1 << 20)
    ended = host.call("job.wait", job=job)
    if ended["state"] == "done":  # the copy was made before that, or after it
        assert imported(host, tmp_path) in (content, content[:1 << 20])
    else:
        assert ended["error_kind"] == "corrupt"
        assert re.search("shr|trunc|short|chang", ended["error"]), ended["error"]


def test_rewritten_meanwhile(host, source, tmp_path):
    """The header of a copied source turns hostile after the first look: seen on the copy, or too late."""
    os.chown(source, 12345, 12345)
    hostile = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(96)
    for _ in range(5):
        with open(source, "r+b") as disk:
            disk.write(bytes(512))
        job = begin(host, source)
        with open(source, "r+b") as disk:
            disk.write(hostile)
        ended = host.call("job.wait", job=job)
        assert ended["state"] == "done" or ended["error_kind"] in ("corrupt", "unsupported", "limit")
    for image in host.call("image.list")["items"]:
        path = host.state / "images" / f"{image['id']}.qcow2"
        text = subprocess.run(["qemu-img", "info", "-f", "qcow2", path], check=True,
                              capture_output=True, text=True).stdout
        assert "backing file" not in text and "data file" not in text
