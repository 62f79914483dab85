"""The store with many files: lists, lineage, garbage collection; part `store` of tests/bench/run."""
import os
import shutil
import sqlite3
import statistics
import subprocess
import time
import uuid

import vdi

ROUNDS = 5


def best(function, rounds=ROUNDS):
    """Milliseconds; the median of a few."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


class StoreBench:
    def __init__(self, binary, settings, n, row):
        self.daemon = vdi.Daemon(binary, settings)
        self.n, self.row = n, row
        self.overlays = self.daemon.state / "overlays"

    def clones(self):
        """One desktop by the API, the rest by rows and files like its own: that is not what is measured."""
        daemon = self.daemon.start(60)
        disk = daemon.root / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
        daemon.import_image(disk, "base")
        daemon.call("desktop.create", name="d-0", image="base")
        daemon.stop()
        first = next(self.overlays.iterdir())
        owner = (first.stat().st_uid, first.stat().st_gid)
        db = sqlite3.connect(daemon.state / "vdi-hostd.db")
        columns = [r[1] for r in db.execute("PRAGMA table_info(desktop)")]
        template = dict(zip(columns, db.execute("SELECT * FROM desktop").fetchone()))
        for i in range(1, self.n):
            ident = str(uuid.uuid4())
            row = {**template, "id": ident, "name": f"d-{i}", "slot": template["slot"] + i,
                   "system_file": f"{ident}-00000000.qcow2"}
            db.execute(f"INSERT INTO desktop ({', '.join(columns)}) VALUES "
                       f"({', '.join('?' * len(columns))})", [row[c] for c in columns])
            self.copy(first, self.overlays / row["system_file"], owner)
        db.commit()
        db.close()
        self.first = first
        self.owner = owner
        begin = time.perf_counter()
        daemon.start(120)
        self.row(f"start with {self.n:,} desktops", f"{time.perf_counter() - begin:.2f} s", "-", "-", "")

    @staticmethod
    def copy(source, target, owner):
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)
        os.chown(target, *owner)

    def job(self, method, **params):
        return self.daemon.call(method, wait=True, **params)["result"]

    def litter(self, folder):
        for i in range(self.n):
            self.copy(self.first, folder / f"stray-{i}.qcow2", self.owner)

    def compare(self, what, ours, baseline, name):
        self.row(what, f"{ours:.1f} ms", f"{name} {baseline:.1f} ms", f"{ours / baseline:.2f} x", "")

    def run(self):
        try:
            self.clones()
            daemon = self.daemon
            look = best(lambda: subprocess.run(["find", self.overlays, "-type", "f", "-printf", "%s %b\n"],
                                               check=True, stdout=subprocess.DEVNULL))
            base = next((daemon.state / "images").iterdir())
            info = best(lambda: subprocess.run(["qemu-img", "info", base], check=True,
                                               stdout=subprocess.DEVNULL))
            with daemon.client() as client:
                self.compare("image.list", best(lambda: client.call("image.list")), info, "qemu-img info")
                self.compare(f"image.chain, {self.n:,} clones",
                             best(lambda: client.call("image.chain", image="base")), info, "qemu-img info")
                self.compare(f"image.usage, {self.n:,} clones",
                             best(lambda: client.call("image.usage")), look, "find")
            self.litter(self.overlays)
            look = best(lambda: subprocess.run(["find", self.overlays, "-type", "f", "-printf", "%s %b\n"],
                                               check=True, stdout=subprocess.DEVNULL))
            dry = best(lambda: self.job("image.gc", dry_run=True, min_age_s=0))
            self.compare(f"gc, dry run, {2 * self.n:,} files", dry, look, "find")
            self.row("  the same by qemu-img info", f"{dry:.1f} ms", f"{info * 2 * self.n:,.0f} ms",
                     f"{info * 2 * self.n / dry:,.0f} x less", "")
            aside = daemon.root / "aside"
            aside.mkdir()
            self.litter(aside)
            plain = best(lambda: subprocess.run(["find", aside, "-type", "f", "-delete"], check=True), 1)
            begin = time.perf_counter()
            slowest = 0.0
            with daemon.client() as client, daemon.client() as other:
                number = client.send("image.gc", {"min_age_s": 0, "wait": True})
                pings = self.ping_until(client, other, number)
                slowest = max(pings)
            took = (time.perf_counter() - begin) * 1e3
            assert len(list(self.overlays.iterdir())) == self.n
            self.compare(f"gc of {self.n:,} of {2 * self.n:,} files", took, plain, "find -delete")
            self.row("  slowest answer meanwhile", f"{slowest:.1f} ms", "-", "-", "")
            return {"gc_ms": took, "delete_ms": plain, "dry_ms": dry, "find_ms": look,
                    "slowest_ms": slowest}
        finally:
            self.daemon.clean_up()

    @staticmethod
    def ping_until(client, other, number):
        """Answers to others while a job runs, in milliseconds each."""
        times = [0.0]
        client.sock.settimeout(0.001)
        while True:
            begin = time.perf_counter()
            other.call("host.ping")
            times.append((time.perf_counter() - begin) * 1e3)
            try:
                client.wait(number)
                return times
            except TimeoutError:
                continue
