#!/usr/bin/env python3
"""vdictl against a scripted control API. VDICTL names the program."""

import base64
import fcntl
import json
import os
import pathlib
import pty
import shlex
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fake"))
from control_server import ControlServer, Fail, Hangup  # noqa: E402

VDICTL = os.environ["VDICTL"]


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.server = ControlServer(str(self.folder / "s"))
        self.addCleanup(self.server.close)
        self.env = {**os.environ, "VDI_SOCKET": self.server.path}

    def run_vdictl(self, *args, **options):
        return subprocess.run([VDICTL, *args], env=self.env, capture_output=True, timeout=120,
                              **options)

    def good(self, *args):
        done = self.run_vdictl(*args)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done)
        return done.stdout.decode()

    def bad(self, status, *args, **options):
        done = self.run_vdictl(*args, **options)
        self.assertEqual(done.returncode, status, done)
        self.assertRegex(done.stderr, rb"\Avdictl: [^\x00-\x1f\x7f]+\n\Z")
        return done.stderr.decode()

    def params(self, *args):
        self.good(*args)
        return self.server.calls[-1]


class Parameters(Case):
    def test_every_type(self):
        name, params = self.params(
            "desktop", "create", "web-1", "--image", "deb", "--memory", "2G", "--disk=1.5T",
            "--timeout", "5m", "--room", "1K", "--start", "--mode", "force", "--tags", "a",
            "--tags=b", "--policy", '{"usb": false}', "--any", "x", "--idempotency-key", "k")
        self.assertEqual(name, "desktop.create")
        self.assertEqual(params, {
            "name": "web-1", "image": "deb", "memory_mib": 2048, "disk_gib": 1536,
            "timeout_s": 300, "room": 1024, "start": True, "mode": "force", "tags": ["a", "b"],
            "policy": {"usb": False}, "any": "x", "idempotency_key": "k"})

    def test_other_forms(self):
        _, params = self.params("desktop", "create", "--image", "d", "--memory-mib", "64",
                                "--no-start", "--any", "[1]", "--", "n")
        self.assertEqual(params, {"name": "n", "image": "d", "memory_mib": 64, "start": False,
                                  "any": [1]})
        _, params = self.params("desktop", "create", "--name", "n", "--image", "d", "--start=no")
        self.assertEqual(params, {"name": "n", "image": "d", "start": False})

    def test_three_levels_and_dashes(self):
        self.assertEqual(self.params("network", "forward", "add", "n", "--port", "80"),
                         ("network.forward.add", {"network": "n", "port": 80}))
        self.assertEqual(self.params("user", "set-password", "u")[0], "user.set_password")
        self.assertEqual(self.params("user", "set_password", "u")[0], "user.set_password")

    def test_noun_alone(self):
        self.assertIn("'desktop' needs a verb", self.bad(2, "desktop"))
        self.assertIn("no command 'x y'", self.bad(2, "x", "y", "z"))
        self.bad(2, "--bogus")

    def test_usage(self):
        for args in (["desktop", "create"], ["desktop", "create", "n"],
                     ["desktop", "create", "n", "m", "--image", "d"],
                     ["desktop", "create", "n", "--name", "m", "--image", "d"],
                     ["desktop", "create", "n", "--image"],
                     ["desktop", "create", "n", "--image", "d", "--image", "e"],
                     ["desktop", "create", "n", "--image", "d", "--memory", "2X"],
                     ["desktop", "create", "n", "--image", "d", "--memory", "2048"],
                     ["desktop", "create", "n", "--image", "d", "--memory-mib", "2G"],
                     ["desktop", "create", "n", "--image", "d", "--timeout", "5y"],
                     ["desktop", "create", "n", "--image", "d", "--start=maybe"],
                     ["desktop", "create", "n", "--image", "d", "--no-start=true"],
                     ["desktop", "create", "n", "--image", "d", "--policy", "{"],
                     ["desktop", "create", "n", "--image", "d", "--image\x1b[31m", "x"],
                     ["desktop", "create", "\udcff", "--image", "d"],
                     ["desktop", "list", "x"], ["desktop", "nosuch"], ["nosuch", "list"],
                     ["desktop"], ["call"], ["call", "a", "{", "x"], ["call", "a", "{"],
                     ["completion", "fish"], ["desktop", "list", "--socket"],
                     ["host", "info", "--output", "x"], ["help", "nosuch"]):
            with self.subTest(args=args):
                self.bad(2, *args)
        self.assertEqual(self.server.calls, [])


class Statuses(Case):
    def test_kinds(self):
        for kind, status in (("not_found", 3), ("denied", 4), ("conflict", 5), ("busy", 5),
                             ("exists", 5), ("io", 1), ("unavailable", 1), ("nonsense", 1)):
            def fail(params, server, kind=kind):
                raise Fail(kind, "because \x1b]0;owned\x07")
            self.server.answers["host.info"] = fail
            self.assertIn("because \\x1b", self.bad(status, "host", "info"))

    def test_protocol(self):
        def fail(params, server):
            raise Fail(code=-32602)
        self.server.answers["host.info"] = fail
        self.bad(2, "host", "info")

    def test_unreachable(self):
        self.bad(6, "--socket", str(self.folder / "none"), "host", "info")
        self.bad(2, "--socket", "x" * 200, "host", "info")

        def hang_up(params, server):
            raise Hangup
        self.server.answers["host.info"] = hang_up
        self.bad(6, "host", "info")

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([VDICTL, "call", "host.info"], env=self.env, stdout=full,
                                  stderr=subprocess.PIPE, timeout=120)
        self.assertEqual(done.returncode, 1)


class Output(Case):
    def test_table(self):
        pages = [{"items": [{"id": "1", "name": "a", "state": "running", "ip": None,
                             "disk_bytes": 8 << 30, "policy": {}}], "next": "c"},
                 {"items": [{"id": "2", "name": "long-name", "state": "st\x1b[2Jop\u202e",
                             "ip": None, "disk_bytes": 512, "policy": {}}], "next": None}]
        self.server.answers["desktop.list"] = lambda p, s: pages[1 if "cursor" in p else 0]
        self.assertEqual(self.good("desktop", "list"),
                         "NAME       STATE                DISK\n"
                         "a          running              8.0 GiB\n"
                         "long-name  st\\x1b[2Jop\\u{202e}  512 B\n")
        self.assertEqual(json.loads(self.good("desktop", "list", "--json")),
                         {"items": pages[0]["items"] + pages[1]["items"], "next": None})
        self.assertEqual(json.loads(self.good("desktop", "list", "--limit", "1", "--json")),
                         pages[0])

    def test_narrow_terminal(self):
        self.server.answers["desktop.list"] = {"items": [
            {"name": "a" * 20, "state": "running", "ip": "192.0.2.1"}], "next": None}
        for columns, last in ((20, b"NAME"), (29, b"STATE"), (80, b"IP")):
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            subprocess.run([VDICTL, "desktop", "list"], env=self.env, stdout=slave, timeout=120)
            self.assertEqual(os.read(master, 65536).split(b"\r\n")[0].split()[-1], last)
            os.close(slave)
            os.close(master)

    def test_empty_list(self):
        self.server.answers["desktop.list"] = {"items": [], "next": None}
        self.assertEqual(self.good("desktop", "list"), "")

    def test_object(self):
        self.server.answers["desktop.get"] = {
            "name": "a", "ip": None, "on": True, "n": 3, "list": [1, "b\n"],
            "policy": {"usb": False, "\x1b": "\x07"}}
        self.assertEqual(self.good("desktop", "get", "a"),
                         "name: a\nip: -\non: yes\nn: 3\nlist: 1, b\\x0a\n"
                         "policy:\n  usb: no\n  \\x1b: \\x07\n")
        self.assertEqual(json.loads(self.good("--json", "desktop", "get", "a")),
                         self.server.answers["desktop.get"])

    def test_objects_within(self):
        """A table where all of them fit into one; else nothing of them is left out."""
        nics = [{"nic": 0, "network": "lan", "groups": []}, {"nic": 1, "network": "lab", "groups": ["a", "b"]}]
        self.server.answers["desktop.get"] = {"name": "a", "nics": nics, "on": True}
        self.assertEqual(self.good("desktop", "get", "a"),
                         "name: a\nnics:\n  NIC  NETWORK  GROUPS\n  0    lan      -\n  1    lab      a, b\non: yes\n")
        nics[1]["counters"] = {"rx": 1}
        self.assertEqual(self.good("desktop", "get", "a"),
                         'name: a\nnics:\n  {"nic":0,"network":"lan","groups":[]}\n'
                         '  {"nic":1,"network":"lab","groups":["a","b"],"counters":{"rx":1}}\non: yes\n')

    def test_text(self):
        self.server.answers["desktop.console.log"] = {"text": "one\n\ttwo\x1b[0m\r"}
        self.assertEqual(self.good("desktop", "console", "log", "a"),
                         "one\n\ttwo\\x1b[0m\\x0d\n")

    def test_picture(self):
        png = bytes(range(256)) * 3
        self.server.answers["desktop.screenshot"] = {
            "png": base64.b64encode(png).decode(), "width": 1, "height": 1}
        target = self.folder / "x.png"
        self.good("desktop", "screenshot", "a", "--output", str(target))
        self.assertEqual(target.read_bytes(), png)
        self.assertEqual(self.run_vdictl("desktop", "screenshot", "a").stdout, png)
        self.bad(3, "desktop", "screenshot", "a", "--output", "/nonexistent/x")
        self.server.answers["desktop.screenshot"]["png"] = "!"
        self.bad(1, "desktop", "screenshot", "a", "--output", str(target))

    def test_viewer_file(self):
        self.server.answers["desktop.connect"] = {"file": "[virt-viewer]\n", "file_name": "a.vv"}
        self.assertEqual(self.good("desktop", "connect", "a"), "[virt-viewer]\n")
        target = self.folder / "a.vv"
        target.write_text("something longer than that was here")
        target.chmod(0o644)
        self.good("desktop", "connect", "a", f"--output={target}")
        self.assertEqual(target.read_text(), "[virt-viewer]\n")
        self.assertEqual(stat.S_IMODE(target.stat().st_mode), 0o600)
        self.assertIn("file_name", self.good("desktop", "connect", "a", "--json"))

    def test_call(self):
        self.server.answers["x.y"] = {"a": [1]}
        self.assertEqual(self.good("call", "x.y", '{"b": 1}'), '{"a":[1]}\n')
        self.assertEqual(self.server.calls[-1], ("x.y", {"b": 1}))
        self.good("call", "x.y")
        self.assertEqual(self.server.calls[-1], ("x.y", {}))

    def test_large_answer(self):
        self.server.answers["x.y"] = "a" * 9_000_000
        self.assertEqual(len(self.good("call", "x.y")), 9_000_003)


class Jobs(Case):
    def setUp(self):
        super().setUp()
        self.image = self.folder / "i.qcow2"
        self.image.write_bytes(b"image")
        self.job = {"id": "j1", "state": "running", "done": 0, "total": 100, "unit": "bytes",
                    "result": None, "error": None, "error_kind": None}
        self.server.answers["image.import"] = {"job": "j1"}
        self.server.answers["job.get"] = self.get
        self.looks = 0

    def get(self, params, server):
        self.looks += 1
        if self.looks == 3:
            self.job.update(state="done", done=100, result={"name": "deb", "version": 1})
        return dict(self.job)

    def imports(self, *more):
        return ["image", "import", "deb", "--path", str(self.image), *more]

    def test_followed(self):
        self.assertEqual(self.good(*self.imports()), "name: deb\nversion: 1\n")
        self.assertEqual(self.server.calls[0], ("image.import", {"name": "deb"}))
        self.assertEqual(self.server.files, [b"image"])

    def test_json(self):
        self.assertEqual(json.loads(self.good(*self.imports("--json")))["state"], "done")

    def test_no_wait(self):
        self.assertEqual(self.good(*self.imports("--no-wait")), "j1\n")
        self.assertEqual(self.server.calls, [("image.import", {"name": "deb"})])
        self.assertEqual(self.good(*self.imports("--no-wait", "--json")), '{"job":"j1"}\n')

    def test_failed(self):
        self.job.update(state="failed", error="no \x1broom", error_kind="limit")
        self.assertIn("no \\x1broom", self.bad(1, *self.imports()))
        self.job.update(error_kind="conflict")
        self.bad(5, *self.imports())

    def test_no_regular_file(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        for path, status in ((fifo, 2), (self.folder, 2), ("/dev/zero", 2),
                             ("/nonexistent", 3)):
            with self.subTest(path=path):
                self.bad(status, "image", "import", "deb", "--path", str(path))
        self.assertEqual(self.server.calls, [])

    def test_stdin(self):
        """A file or a pipe goes along as it is, anything else is refused."""
        command = [VDICTL, "image", "import", "deb", "--path", "-"]
        with open(self.image, "rb") as image:
            subprocess.run(command, env=self.env, stdin=image, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(command, env=self.env, input=b"piped", check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(self.server.files, [b"image", b"piped"])
        calls = len(self.server.calls)
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"neither a file nor a pipe", done.stderr)
        self.assertEqual(len(self.server.calls), calls)

    def export(self, path, *more):
        return ["image", "export", "deb", "--path", str(path), *more]

    def test_file_to_write(self):
        self.server.answers["image.export"] = {"job": "j1"}
        self.good(*self.export(self.folder / "new"))
        self.assertEqual((self.folder / "new").read_bytes(), b"exported")
        self.assertEqual((self.folder / "new").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.server.calls[0], ("image.export", {"image": "deb"}))
        # what is there is not replaced by mistake
        self.looks, calls = 0, len(self.server.calls)
        self.assertIn("--force", self.bad(5, *self.export(self.image)))
        for path, status in ((self.folder, 1), ("/dev/full", 2), ("/nonexistent/file", 3)):
            self.bad(status, *self.export(path, "--force"))
        self.assertEqual(len(self.server.calls), calls)
        self.assertEqual(self.image.read_bytes(), b"image")
        self.good(*self.export(self.image, "--force"))
        self.assertEqual(self.image.read_bytes(), b"exported")

    def test_failed_write(self):
        """A file that was made for it goes again; one that was there stays."""
        def refuse(params, server):
            raise Fail("limit")

        self.server.answers["image.export"] = refuse
        self.bad(1, *self.export(self.folder / "new"))
        self.server.answers["image.export"] = {"job": "j1"}
        self.job.update(state="failed", error="no room", error_kind="limit")
        self.bad(1, *self.export(self.folder / "new"))
        self.assertFalse((self.folder / "new").exists())
        self.bad(1, *self.export(self.image, "--force"))
        self.assertTrue(self.image.exists())

    def test_stdout(self):
        """Nothing but the file's bytes come out of it."""
        self.server.answers["image.export"] = {"job": "j1"}
        self.assertEqual(self.good(*self.export("-")), "exported")
        self.looks = 0
        self.assertEqual(self.good(*self.export("-", "--json", "--no-wait")), "exported")
        done = subprocess.run([VDICTL, *self.export("-")], env=self.env, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"neither a file nor a pipe", done.stderr)

    def cancelled(self, params, server):
        self.job.update(state="cancelled", error="stopped on request")
        return dict(self.job)

    def test_interrupt(self):
        self.server.answers["job.get"] = lambda p, s: dict(self.job)
        self.server.answers["job.cancel"] = self.cancelled
        run = subprocess.Popen([VDICTL, *self.imports()], env=self.env, stderr=subprocess.PIPE)
        while len(self.server.calls) < 4:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=120)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(errors, b"vdictl: stopped on request\n")
        self.assertIn(("job.cancel", {"job": "j1"}), self.server.calls)

    def test_bar(self):
        master, slave = pty.openpty()
        self.job.update(done=50)
        run = subprocess.Popen([VDICTL, *self.imports()], env=self.env, stderr=slave,
                               stdout=subprocess.PIPE)
        run.communicate(timeout=120)
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 65536):
                shown += part
        except OSError:  # that is how the end of a terminal looks
            os.close(master)
        self.assertEqual(run.returncode, 0)
        self.assertIn(b" 50%  50 B of 100 B", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"))


class Watch(Case):
    def test_events(self):
        event = {"seq": 1, "time": "2026-01-01T00:00:00.000Z", "topic": "desktop",
                 "subject": "d1", "data": {"state": "run\x1bning"}}
        line = json.dumps({"jsonrpc": "2.0", "method": "event", "params": event})
        self.server.after["events.subscribe"] = line.encode() + b"\nnonsense\n"
        done = self.run_vdictl("watch", "desktop", "job", "--since", "4")
        self.assertEqual(self.server.calls,
                         [("events.subscribe", {"topics": ["desktop", "job"], "since": 4})])
        self.assertEqual(done.stdout, b"2026-01-01T00:00:00.000Z  desktop  d1"
                                      b"  state=run\\x1bning\n")
        self.assertEqual(done.returncode, 1, done)
        done = self.run_vdictl("events", "subscribe", "--json")
        self.assertEqual(json.loads(done.stdout), event)


class Help(Case):
    def test_all(self):
        for args in ([], ["help"], ["--help"]):
            text = self.good(*args)
            self.assertIn("usage: vdictl", text)
            self.assertRegex(text, r"  desktop create +Make a desktop\.\n")
            self.assertNotIn("\x1b", text)

    def test_noun_and_verb(self):
        text = self.good("network", "--help")
        self.assertRegex(text, r"\A  network forward add +Do it.\n\Z")
        for args in (["desktop", "create", "--help"], ["help", "desktop", "create"]):
            text = self.good(*args)
            self.assertIn("usage: vdictl desktop create NAME [--flag value ...]", text)
            self.assertIn("--memory-mib integer, --memory 2G (64 or more); default 2048", text)
            self.assertIn("--timeout-s integer, --timeout 5m", text)
            self.assertIn("--mode enum (graceful, force)", text)
            self.assertIn("--start, --no-start", text)
            self.assertIn("--image ref; required", text)

    def test_without_daemon(self):
        done = self.run_vdictl("--socket", "/nonexistent", "help")
        self.assertEqual(done.returncode, 6)
        self.assertIn(b"usage: vdictl", done.stdout)
        self.assertEqual(self.run_vdictl("--version", "--socket", "/x").returncode, 0)


class Completion(Case):
    def complete(self, *words):
        return self.good("__complete", *words).split()

    def test_words(self):
        self.assertIn("desktop", self.complete(""))
        self.assertIn("watch", self.complete("w"))
        self.assertEqual(self.complete("net"), ["network"])
        self.assertEqual(self.complete("network", ""), ["forward"])
        self.assertEqual(self.complete("host", ""), ["info"])
        self.assertEqual(self.complete("desktop", "create", "n", "--mem"),
                         ["--memory-mib", "--memory"])
        self.assertEqual(self.complete("desktop", "create", "n", "--mode", ""),
                         ["graceful", "force"])

    def test_names(self):
        self.server.answers["desktop.list"] = {"items": [{"name": "a1"}, {"name": "b;rm"},
                                                         {"name": "a2"}]}
        self.server.answers["image.list"] = {"items": [{"name": "deb"}]}
        self.assertEqual(self.complete("desktop", "get", ""), ["a1", "a2"])
        self.assertEqual(self.complete("desktop", "create", "n", "--image", "d"), ["deb"])

    def test_script(self):
        folder = shlex.quote(str(pathlib.Path(VDICTL).parent))
        script = (f'PATH={folder}:$PATH; source <(vdictl completion bash); '
                  'COMP_WORDS=(vdictl desktop cre); COMP_CWORD=2; _vdictl; '
                  'echo "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script], env=self.env, capture_output=True,
                              timeout=120)
        self.assertEqual((done.stdout, done.stderr), (b"create\n", b""))


if __name__ == "__main__":
    unittest.main()
