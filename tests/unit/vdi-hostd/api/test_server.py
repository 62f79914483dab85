#!/usr/bin/env python3
"""The control socket from outside: well-formed, malformed and hostile clients.

usage: test_server.py SERVE    (the program built from serve.c)
"""
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SERVE = sys.argv[1]
with open(SERVE, "rb") as program:
    SANITIZED = b"__asan_init" in program.read()
tests = []


def test(f):
    tests.append(f)
    return f


class Daemon:
    def __init__(self, folder, patience_ms=60000, group=None):
        self.socket = os.path.join(folder, "control.sock")
        args = [SERVE, self.socket, os.path.join(folder, "db"), str(patience_ms)]
        self.process = subprocess.Popen(args + ([group] if group else []), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline() == "ready\n"

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=60)
        if how == signal.SIGTERM:
            assert self.process.returncode == 0, (self.process.returncode, err)
        return err

    def memory_kib(self):
        if SANITIZED:  # what was freed stays in quarantine
            return 0
        with open(f"/proc/{self.process.pid}/status") as f:
            return int([l for l in f if l.startswith("VmRSS")][0].split()[1])


class Client:
    def __init__(self, daemon, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(daemon.socket)
        self.buffer = b""
        self.id = 0

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    def line(self):
        """The next line as JSON, or None at the end."""
        while b"\n" not in self.buffer:
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                assert self.buffer == b"", self.buffer
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def ask(self, method, params=None):
        self.id += 1
        request = {"jsonrpc": "2.0", "id": self.id, "method": method}
        if params is not None:
            request["params"] = params
        self.send(request)
        answer = self.line()
        assert answer["id"] == self.id, answer
        return answer

    def result(self, method, params=None):
        answer = self.ask(method, params)
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method, params=None):
        return self.ask(method, params)["error"]

    def raw(self, data):
        self.send(data + b"\n")
        return self.line()

    def close(self):
        self.sock.close()


def is_alive(daemon):
    client = Client(daemon)
    assert client.result("test.ping") == {}
    client.close()


PING = b'{"jsonrpc":"2.0","id":%d,"method":"test.ping"}\n'


@test
def ids_come_back_as_they_were(d):
    c = Client(d)
    for id in ("x", "", "\u00e4", 7, -3, 1.5, None, 2**62):
        c.send({"jsonrpc": "2.0", "id": id, "method": "test.ping"})
        answer = c.line()
        assert answer == {"jsonrpc": "2.0", "id": id, "result": {}}, answer


@test
def malformed_requests(d):
    c = Client(d)
    faults = [
        (b"{", -32700), (b"nonsense", -32700), (b"{} {}", -32700), (b'{"a":1,"a":2}', -32700),
        (b"\xff\xfe", -32700), (b'"\\u0000"', -32700), (b"\0", -32700), (b"[" * 100000, -32700),
        (b'{"a":' * 40 + b"1" + b"}" * 40, -32700),
        (b"1", -32600), (b"[]", -32600), (b"null", -32600), (b"{}", -32600), (b'"text"', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"test.ping"}', -32600),
        (b'{"id":1,"method":"test.ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"test.ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"test.ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"no.such"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":""}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"test.ping","params":[1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"test.ping","params":5}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"test.ping","params":"x"}', -32602),
    ]
    for text, code in faults:
        answer = c.raw(text)
        assert answer["error"]["code"] == code, (text[:60], answer)
        assert answer["jsonrpc"] == "2.0" and "id" in answer
    for good in (b'{"jsonrpc":"2.0","id":1,"method":"test.ping","params":[]}',
                 b'{"jsonrpc":"2.0","id":1,"method":"test.ping","params":null}',
                 b'{"jsonrpc":"2.0","id":1,"method":"test.ping","params":{}}\r'):
        assert c.raw(good)["result"] == {}


@test
def parameters_are_checked(d):
    c = Client(d)
    for params, field in (({}, "text"), ({"text": 1}, "text"), ({"text": "a", "x": 1}, "x"),
                          ({"text": "a", "times": 0}, "times"), ({"text": "a", "times": "1"}, "times"),
                          ({"text": "a", "times": 1.5}, "times"), ({"text": "a" * 5000}, "text"),
                          ({"text": None}, "text")):
        error = c.error("test.echo", params)
        assert (error["code"], error["data"]["kind"], error["data"]["field"]) == \
            (-32602, "invalid", field), error
    assert c.result("test.echo", {"text": "a"}) == {"lines": ["a"]}
    error = c.error("test.broken")
    assert error["code"] == -32603 and error["data"]["kind"] == "internal", error


@test
def one_byte_at_a_time(d):
    c = Client(d)
    for byte in PING % 5:
        c.send(bytes([byte]))
    assert c.line()["id"] == 5


@test
def pipelining_and_answers_out_of_order(d):
    c = Client(d)
    c.send(b'{"jsonrpc":"2.0","id":"slow","method":"test.late","params":{"ms":1000}}\n' +
           b"".join(PING % i for i in range(1000)))
    ids = [c.line()["id"] for _ in range(1001)]
    assert ids == list(range(1000)) + ["slow"]


@test
def notifications_get_no_answer(d):
    c = Client(d)
    c.send(b'{"jsonrpc":"2.0","method":"test.ping"}\n{"jsonrpc":"2.0","method":"no.such"}\n'
           b'{"jsonrpc":"2.0","method":"test.echo","params":{"bad":1}}\n' + PING % 1)
    assert c.line()["id"] == 1


@test
def batches(d):
    c = Client(d)
    ping = {"jsonrpc": "2.0", "method": "test.ping"}
    answers = c.raw(json.dumps([dict(ping, id=1), ping, 7, dict(ping, id=2, method="no.such"),
                                dict(ping, id=3, method="test.late")]).encode())
    assert sorted((a["id"] or 0, a.get("error", {}).get("code", 0)) for a in answers) == \
        [(0, -32600), (1, 0), (2, -32601), (3, 0)], answers
    c.send([ping, ping])  # nothing but notifications: no answer at all
    assert c.result("test.ping") == {}
    assert c.raw(json.dumps([ping] * 1001).encode())["error"]["code"] == -32600
    assert len(c.raw(json.dumps([dict(ping, id=i) for i in range(1000)]).encode())) == 1000
    big = dict(ping, method="test.echo", params={"text": "x" * 100, "times": 10000})
    answers = c.raw(json.dumps([dict(big, id=i) for i in range(100)]).encode())
    assert len(answers) == 100
    kinds = [a["error"]["data"]["kind"] if "error" in a else "fine" for a in answers]
    assert kinds[0] == "fine" and kinds[-1] == "limit", kinds


@test
def a_line_without_end(d):
    before = d.memory_kib()
    c = Client(d)
    try:
        c.send(b"x" * (2 << 20))
    except OSError:
        pass
    answer = c.line()
    assert answer is None or answer["error"]["data"]["kind"] == "limit", answer
    assert answer is None or c.line() is None
    is_alive(d)
    assert d.memory_kib() - before < 8192


@test
def half_close(d):
    c = Client(d)
    c.send(PING % 1 + PING % 2)
    c.sock.shutdown(socket.SHUT_WR)
    assert [c.line()["id"], c.line()["id"], c.line()] == [1, 2, None]


@test
def a_client_that_leaves_before_its_answer(d):
    for _ in range(50):
        c = Client(d)
        c.send(b'{"jsonrpc":"2.0","id":1,"method":"test.late","params":{"ms":50}}\n' * 20 +
               b'[{"jsonrpc":"2.0","id":1,"method":"test.late","params":{"ms":20}}]\n')
        c.close()
    time.sleep(0.2)
    is_alive(d)


@test
def too_much_under_way_waits(d):
    c = Client(d)
    late = b'{"jsonrpc":"2.0","id":1,"method":"test.late","params":{"ms":200}}\n'
    began = time.monotonic()
    c.send(late * 512)
    for _ in range(512):
        assert c.line()["result"]
    assert time.monotonic() - began > 0.39  # two rounds of 256


@test
def a_client_that_never_reads(d):
    before = d.memory_kib()
    c = Client(d)
    c.sock.setblocking(False)
    line = b'{"jsonrpc":"2.0","id":1,"method":"test.echo","params":{"text":"%s","times":1000}}\n' % \
        (b"x" * 100)
    deadline = time.monotonic() + 60
    closed = False
    while not closed and time.monotonic() < deadline:
        try:
            c.sock.send(line * 100)
        except BlockingIOError:
            time.sleep(0.02)
            is_alive(d)
        except OSError:
            closed = True
    assert closed, "it was not closed"
    assert d.memory_kib() - before < 40 << 10, d.memory_kib() - before
    is_alive(d)


a_client_that_never_reads.patience_ms = 300


@test
def a_thousand_connections(d):
    clients, turned_away = [], 0
    for _ in range(1000):
        try:
            clients.append(Client(d))
        except BlockingIOError:  # the queue of the listener is full for a moment
            time.sleep(0.01)
    for c in clients:
        try:
            c.send(PING % 1)
            answer = c.line()
        except OSError:
            answer = {}
        if not answer or "result" not in answer:
            turned_away += 1
            assert not answer or answer["error"]["data"]["kind"] == "limit", answer
    assert len(clients) - turned_away == 384, (len(clients), turned_away)
    assert clients[0].result("test.ping") == {}  # those inside notice nothing
    if os.geteuid() == 0:  # another account still gets in, to hear who it is
        assert ask_as("nobody", d)["error"]["data"]["kind"] == "denied"
    for c in clients:
        c.close()
    time.sleep(0.2)
    is_alive(d)


def ask_as(account, daemon):
    """One ping under another account; the first line that comes back."""
    os.chmod(daemon.socket, 0o666)
    entry = pwd.getpwnam(account)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            c = Client(daemon)
            try:
                c.send(PING % 1)
            except OSError:
                pass  # turned away already; why can still be read
            os.write(writer, json.dumps(c.line()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return json.loads(text)


@test
def others_are_denied(d):
    if os.geteuid() != 0:
        print("   (skipped: needs root to become somebody else)")
        return
    assert ask_as("nobody", d)["error"]["data"]["kind"] == "denied"
    is_alive(d)


@test
def the_group_administers(d):
    if os.geteuid() != 0:
        print("   (skipped: needs root to become somebody else)")
        return
    st = os.stat(d.socket)
    assert st.st_mode & 0o777 == 0o660 and st.st_gid == pwd.getpwnam("daemon").pw_gid, st
    assert ask_as("daemon", d)["result"] == {}
    assert ask_as("nobody", d)["error"]["data"]["kind"] == "denied"


the_group_administers.group = "daemon"


@test
def lists_come_in_pages(d):
    c = Client(d)
    seen, cursor = [], None
    while True:
        page = c.result("test.list", {"limit": 3, **({"cursor": cursor} if cursor else {})})
        assert len(page["items"]) <= 3
        seen += [i["id"] for i in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"id{i}" for i in range(10)], seen
    assert len(c.result("test.list")["items"]) == 10
    for params, field in (({"limit": 0}, "limit"), ({"limit": "1"}, "limit"), ({"cursor": 1}, "cursor"),
                          ({"cursor": "gone"}, "cursor"), ({"limit": 1001}, "limit")):
        assert c.error("test.list", params)["data"]["field"] == field


@test
def idempotency(d):
    c = Client(d)
    first = c.result("test.make", {"idempotency_key": "k1"})
    assert c.result("test.make", {"idempotency_key": "k1"}) == first
    assert c.result("test.make", {"idempotency_key": "k2"}) != first
    assert c.result("test.make") != c.result("test.make")
    error = c.error("test.late", {"idempotency_key": "k1"})
    assert error["data"]["kind"] == "conflict", error
    for key in ("", "x" * 65, 7, None):
        assert c.error("test.make", {"idempotency_key": key})["data"]["field"] == "idempotency_key"
    late = '{"jsonrpc":"2.0","id":%d,"method":"test.late","params":{"ms":100,"idempotency_key":"k3"}}\n'
    c.send((late % 1 + late % 2).encode())
    assert c.line()["error"]["data"]["kind"] == "busy"
    assert c.line()["result"] == {"late": True}
    assert c.result("test.late", {"ms": 100, "idempotency_key": "k3"}) == {"late": True}
    error = c.error("test.late", {"ms": 101, "idempotency_key": "k3"})
    assert error["data"]["kind"] == "conflict", error
    # an answer that may not be kept is made anew
    assert c.result("test.secret", {"idempotency_key": "k4"}) != \
        c.result("test.secret", {"idempotency_key": "k4"})
    # a bad request does not use its key up
    assert c.error("test.late", {"ms": -1, "idempotency_key": "k5"})["data"]["field"] == "ms"
    assert c.result("test.late", {"ms": 1, "idempotency_key": "k5"})


@test
def files_come_with_lines(d):
    c = Client(d)
    with tempfile.TemporaryFile() as f:
        f.write(b"12345")
        f.flush()
        line = b'{"jsonrpc":"2.0","id":1,"method":"test.file"}\n'
        socket.send_fds(c.sock, [line], [f.fileno()])
        assert c.line()["result"] == {"size": 5}
        c.send(line)
        assert c.line()["error"]["data"]["kind"] == "not_found"
        before = len(os.listdir(f"/proc/{d.process.pid}/fd"))
        for _ in range(100):  # to a method that wants none
            socket.send_fds(c.sock, [PING % 1], [f.fileno()] * 8)
            assert c.line()["result"] == {}
        assert len(os.listdir(f"/proc/{d.process.pid}/fd")) <= before


@test
def jobs(d):
    c, other = Client(d), Client(d)
    c.send(b'{"jsonrpc":"2.0","id":1,"method":"test.job","params":{"wait":true}}\n')
    running = []
    while not running:
        running = [j for j in other.result("job.list")["items"] if j["state"] == "running"]
    other.send({"jsonrpc": "2.0", "id": 2, "method": "job.wait", "params": {"job": running[0]["id"]}})
    time.sleep(0.05)
    c2 = Client(d)
    c2.result("test.end")
    ended, waited = c.line()["result"], other.line()["result"]
    assert ended == waited and ended["state"] == "done" and ended["result"] == {"answer": 42}, ended
    assert c.error("job.cancel", {"job": ended["id"]})["data"]["kind"] == "conflict"
    id = c.result("test.job")["job"]
    assert c.result("job.cancel", {"job": id})["state"] == "cancelled"
    assert c.result("job.wait", {"job": id})["error_kind"] == "cancelled"
    for method in ("job.get", "job.cancel", "job.wait"):
        assert c.error(method, {"job": "none"})["data"]["kind"] == "not_found"
    id = c.result("test.job")["job"]  # a waiter whose connection goes away, and a stop meanwhile
    other.send({"jsonrpc": "2.0", "id": 3, "method": "job.wait", "params": {"job": id}})
    other.close()
    c.send({"jsonrpc": "2.0", "id": 4, "method": "job.wait", "params": {"job": id}})
    time.sleep(0.05)


@test
def events(d):
    stream, c = Client(d), Client(d)
    assert c.error("events.subscribe", {"topics": ["none"]})["data"]["field"] == "topics"
    start = stream.result("events.subscribe", {"topics": ["host"]})["seq"]
    c.result("test.tell", {"text": "a"})
    event = stream.line()
    assert event["method"] == "event" and "id" not in event
    assert event["params"]["data"] == {"text": "a"} and event["params"]["topic"] == "host", event
    assert event["params"]["seq"] > start
    stream.close()
    c.result("test.tell", {"text": "b", "times": 3000})
    again = Client(d)
    again.result("events.subscribe", {"since": event["params"]["seq"]})
    seqs = [again.line()["params"]["seq"] for _ in range(3000)]
    assert seqs == list(range(seqs[0], seqs[0] + 3000)) and seqs[0] == event["params"]["seq"] + 1
    c.result("test.tell", {"text": "c"})
    assert again.line()["params"]["data"] == {"text": "c"}
    none = Client(d)
    none.result("events.subscribe", {"topics": ["image"], "since": 0})
    c.result("test.tell", {"text": "d"})
    none.sock.settimeout(0.1)
    try:
        raise AssertionError(none.line())
    except TimeoutError:
        pass


@test
def a_slow_subscriber_misses_nothing(d):
    stream, c = Client(d), Client(d)
    stream.result("events.subscribe", {})
    before = d.memory_kib()
    for _ in range(10):
        c.result("test.tell", {"text": "x" * 4000, "times": 1000})
    assert d.memory_kib() - before < 8192, d.memory_kib() - before
    seqs = [stream.line()["params"]["seq"] for _ in range(10000)]
    assert seqs == list(range(seqs[0], seqs[0] + 10000))


@test
def discover(d):
    doc = Client(d).result("rpc.discover")
    assert doc["openrpc"] == "1.2.6" and doc["info"]["title"]
    methods = {m["name"]: m for m in doc["methods"]}
    echo = methods["test.echo"]
    assert [p["name"] for p in echo["params"]] == ["text", "times"]
    assert echo["params"][0]["required"] and not echo["params"][1]["required"]
    assert echo["paramStructure"] == "by-name" and echo["x-role"] == "user"
    assert echo["x-flags"] == ["named"] and methods["test.list"]["x-flags"] == ["list"]
    assert methods["test.job"]["params"][-1]["name"] == "idempotency_key"
    assert "next" in methods["test.list"]["result"]["schema"]["properties"]


@test
def floods(d):
    c = Client(d)
    junk = os.urandom(1 << 16).replace(b"\n", b" ") + b"\n"
    for _ in range(50):
        c.send(junk)
        assert c.line()["error"]["code"] == -32700
    n = 20000
    began = time.monotonic()
    lines = PING % 1 * n
    pid = os.fork()
    if pid == 0:
        c.sock.sendall(lines)
        os._exit(0)
    for _ in range(n):
        assert c.line()["result"] == {}
    os.waitpid(pid, 0)
    print(f"   ({n / (time.monotonic() - began):.0f} requests a second, Python reading)")


@test
def sockets_left_over_and_sockets_alive(d):
    folder = os.path.dirname(d.socket)
    other = os.path.join(folder, "other")
    os.mkdir(other)
    second = subprocess.run([SERVE, d.socket, os.path.join(other, "db"), "0"],
                            capture_output=True, text=True)
    assert second.returncode == 1 and "busy" in second.stderr, second
    same = subprocess.run([SERVE, os.path.join(other, "s"), os.path.join(folder, "db"), "0"],
                          capture_output=True, text=True)
    assert same.returncode == 1 and "busy" in same.stderr and str(d.process.pid) in same.stderr
    is_alive(d)
    file = os.path.join(other, "file")
    open(file, "w").close()
    third = subprocess.run([SERVE, file, os.path.join(other, "db"), "0"],
                           capture_output=True, text=True)
    assert third.returncode == 1 and "no socket" in third.stderr and os.path.exists(file), third
    killed = Daemon(other)
    killed.stop(signal.SIGKILL)
    assert os.path.exists(killed.socket)
    again = Daemon(other)
    is_alive(again)
    again.stop()
    assert not os.path.exists(again.socket)


def main():
    failed = 0
    for f in tests:
        folder = tempfile.mkdtemp(prefix="vdi-api-")
        os.chmod(folder, 0o755)
        daemon = Daemon(folder, getattr(f, "patience_ms", 60000), getattr(f, "group", None))
        try:
            assert daemon.ready, daemon.process.stderr.read()
            f(daemon)
            daemon.stop()
            print("ok  ", f.__name__, flush=True)
        except Exception as e:
            failed += 1
            print("FAIL", f.__name__, type(e).__name__, str(e)[:2000], flush=True)
            if daemon.process.poll() is None:
                daemon.process.kill()
            print(daemon.process.stderr.read() if not daemon.process.stderr.closed else "")
        finally:
            shutil.rmtree(folder)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed != 0)


main()
