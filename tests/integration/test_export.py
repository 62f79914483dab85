"""Images as files for other programs: every format, to a path, a descriptor and a pipe; what fails
leaves nothing half made."""
import fcntl
import os
import subprocess
import time

import pytest
import vdi

FORMATS = ("qcow2", "raw", "vmdk", "vhdx")


@pytest.fixture(scope="module")
def daemon(build, vdi_user, tmp_path_factory):
    daemon = vdi.Daemon(build / "vdi-hostd/vdi-hostd").start()
    source = tmp_path_factory.mktemp("disk") / "disk.raw"
    with open(source, "wb") as file:
        for _ in range(3):
            file.write(os.urandom(5 << 20))
            file.seek(40 << 20, os.SEEK_CUR)
        file.truncate(200 << 20)
    daemon.import_image(source, "base")
    daemon.source = source
    yield daemon
    daemon.done()


@pytest.fixture
def folder(daemon, vdi_user, tmp_path):
    """Where exports go: the daemon may write there. Nothing but what is whole is left in it."""
    for path in (tmp_path, *list(tmp_path.parents)[:-1]):
        path.chmod(path.stat().st_mode | 0o055)
    os.chown(tmp_path, vdi_user.pw_uid, vdi_user.pw_gid)
    yield tmp_path
    assert list((daemon.state / "tmp").iterdir()) == []
    assert "qemu-img" not in vdi.our_processes().values()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def compare(daemon, path, image_format):
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", image_format, daemon.source, path],
                   check=True, stdout=subprocess.DEVNULL)


def export(daemon, fds=(), image="base", wait=True, **params):
    with daemon.client() as client:
        return client.call("image.export", fds=fds, image=image, wait=wait, **params)


@pytest.mark.parametrize("image_format", FORMATS)
def test_to_a_path(daemon, folder, image_format):
    path = folder / "disk"
    job = export(daemon, path=str(path), format=image_format)
    assert job["state"] == "done" and job["unit"] == "bytes" and job["done"] == job["total"] > 0
    assert job["result"]["virtual_size_bytes"] == 200 << 20
    assert job["result"]["file_size_bytes"] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    compare(daemon, path, image_format)
    # holes stay holes
    assert path.stat().st_blocks * 512 < 40 << 20


def test_what_is_there_stays(daemon, folder):
    path = folder / "disk"
    path.write_text("precious")
    with pytest.raises(vdi.RpcError) as error:
        export(daemon, path=str(path))
    assert error.value.kind == "exists" and path.read_text() == "precious"
    export(daemon, path=str(path), force=True)
    compare(daemon, path, "qcow2")


@pytest.mark.parametrize("image_format", FORMATS)
def test_to_a_descriptor(daemon, folder, image_format):
    path = folder / "disk"
    path.write_bytes(os.urandom(1 << 20))
    # somebody else's file, which neither the daemon nor the tool could open
    os.chown(path, 0, 0)
    path.chmod(0o600)
    fd = os.open(path, os.O_RDWR)
    export(daemon, fds=[fd], format=image_format)
    os.close(fd)
    compare(daemon, path, image_format)


def test_to_a_redirection(daemon, folder):
    """Open for writing only, as a shell does it: it is made aside and copied."""
    path = folder / "disk"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    export(daemon, fds=[fd], format="raw")
    os.close(fd)
    compare(daemon, path, "raw")


def test_compressed(daemon, folder):
    export(daemon, path=str(folder / "disk"), compress=True)
    compare(daemon, folder / "disk", "qcow2")


def test_stdout(daemon, folder, build):
    """Through the command line into another program; nothing but the image comes out."""
    command = [str(build / "vdictl/vdictl"), "--socket", str(daemon.socket), "image", "export",
               "base", "--path", "-", "--format", "raw"]
    with open(folder / "disk", "wb") as file:
        one = subprocess.Popen(command, stdout=subprocess.PIPE)
        two = subprocess.Popen(["sh", "-c", "sleep 0.5; exec cat"], stdin=one.stdout, stdout=file)
        one.stdout.close()
        assert one.wait(60) == 0 and two.wait(60) == 0
    compare(daemon, folder / "disk", "raw")


def test_reader_goes_away(daemon, folder):
    reader, writer = os.pipe()
    job = export(daemon, fds=[writer], format="raw", wait=False)["job"]
    os.close(writer)
    os.read(reader, 65536)
    os.close(reader)
    job = daemon.call("job.wait", job=job)
    assert job["state"] == "failed" and "gone away" in job["error"]


def test_reader_sleeps(daemon, folder):
    """Nobody reads: the daemon works on, and the export can be cancelled."""
    reader, writer = os.pipe()
    job = export(daemon, fds=[writer], format="raw", wait=False)["job"]
    time.sleep(1)
    began = time.monotonic()
    for _ in range(20):
        daemon.call("image.get", image="base")
    assert time.monotonic() - began < 30  # who is held up waits for a reader, for ever
    # its flags are its owner's
    assert fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK == 0
    daemon.call("job.cancel", job=job)
    assert daemon.call("job.wait", job=job)["state"] == "cancelled"
    os.close(reader)
    os.close(writer)


def test_chain(daemon, folder):
    """The archive's names lead from file to file as they do in the store."""
    path = folder / "disk.tar"
    job = export(daemon, path=str(path), chain=True)
    assert job["result"]["format"] == "tar"
    subprocess.run(["tar", "-C", folder, "-xf", path], check=True)
    top = folder / "base" / "images" / job["result"]["files"][0]
    compare(daemon, top, "qcow2")
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", top], check=True)


def end_of(daemon, folder, job):
    """The job's state in the end; None, and nothing is left of it, when it was done before anybody came."""
    state = daemon.call("job.wait", job=job)["state"]
    if state == "done":
        (folder / "disk").unlink()
        return None
    return state


def test_cancelled(daemon, folder):
    def cancelled():
        job = export(daemon, path=str(folder / "disk"), format="vhdx", wait=False)["job"]
        try:
            daemon.call("job.cancel", job=job)
        except vdi.RpcError as error:
            assert error.kind == "conflict", error  # it was over
        return end_of(daemon, folder, job)
    assert vdi.wait_until(cancelled, 20, "one that is cancelled in time") == "cancelled"
    assert list(folder.iterdir()) == []


def test_daemon_stops(daemon, folder):
    """A crash in the middle leaves nothing at the path, and an end in good order neither."""
    def ended(how):
        job = export(daemon, path=str(folder / "disk"), compress=True, wait=False)["job"]
        assert how() in (None, 0)
        daemon.start()
        return end_of(daemon, folder, job)
    for how, state in ((daemon.kill, "failed"), (daemon.stop, "cancelled")):
        assert vdi.wait_until(lambda how=how: ended(how), 20, "one that ends in the middle") == state
        assert list(folder.iterdir()) == []


def test_full_disk(daemon, folder):
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M,mode=777", "tmpfs", small], check=True)
    try:
        for image_format in ("raw", "qcow2"):
            job = None
            with pytest.raises(vdi.RpcError) as error:
                job = export(daemon, path=str(small / "disk"), format=image_format)
            assert error.value.kind == "limit", job
            assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


REFUSED = {
    "no target": ({}, "invalid"),
    "relative": ({"path": "disk"}, "invalid"),
    "a folder": ({"path": "/tmp/"}, "invalid"),
    "no folder": ({"path": "/nonexistent/disk"}, "not_found"),
    "not ours": ({"path": "/proc/disk"}, None),
    "no such image": ({"image": "other", "path": "new"}, "not_found"),
    "archive of raw": ({"path": "new", "chain": True, "format": "raw"}, "invalid"),
    "packed raw": ({"path": "new", "compress": True, "format": "raw"}, "invalid"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(daemon, folder, what):
    params, kind = REFUSED[what]
    if params.get("path") == "new":
        params = {**params, "path": str(folder / "new")}
    with pytest.raises(vdi.RpcError) as error:
        export(daemon, **params)
    assert kind is None or error.value.kind == kind or (
        kind == "invalid" and error.value.code == -32602), error.value


def test_refused_descriptors(daemon, folder):
    path = folder / "disk"
    path.write_text("precious")
    for fd in (os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY | os.O_APPEND),
               os.open(path, os.O_PATH), os.open("/dev/full", os.O_WRONLY)):
        with pytest.raises(vdi.RpcError):
            export(daemon, fds=[fd])
        os.close(fd)
    assert path.read_text() == "precious"
