"""What a guest prints may not fill the disk."""
import vdi


def test_a_log_that_grows_large_keeps_its_end(make_daemon, tmp_path):
    daemon = make_daemon().start()
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    daemon.import_image(disk, "base")
    daemon.call("desktop.create", name="ada", image="base", memory_mib=64, vcpus=1, start=True)
    logs = list((daemon.state / "desktops").rglob("*.log"))
    assert len(logs) == 2
    for log in logs:
        # as QEMU does it: appending
        with open(log, "ab") as file:
            for number in range(6 * 1024):
                file.write(b"%08d " % number + b"x" * 1014 + b"\n")
        vdi.wait_until(lambda log=log: log.stat().st_size < 1 << 20, 10, f"{log} to be shortened")
        assert log.read_bytes().splitlines()[-1].startswith(b"00006143 ")
    text = daemon.call("desktop.console.log", desktop="ada", max_bytes=2048)["text"]
    assert text.endswith("x\n") and "00006143" in text
