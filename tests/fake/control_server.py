"""A scripted control API: answers as it is told, keeps what it was asked."""

import json
import os
import socket
import threading


def param(name, xtype, required=False, **schema):
    return {"name": name, "required": required, "description": f"about {name}",
            "schema": {"x-type": xtype, **schema}}


def method(name, params=(), flags=(), result=None, summary="Do it."):
    return {"name": name, "summary": summary, "params": list(params),
            "paramStructure": "by-name", "x-role": "admin", "x-flags": list(flags),
            "result": {"name": "result",
                       "schema": {"type": "object", "properties": result or {}}}}


KEY = param("idempotency_key", "string")
WAIT = param("wait", "boolean")
DESKTOP = {"id": {}, "name": {}, "state": {}, "ip": {}, "disk_bytes": {}, "policy": {}}

METHODS = [
    method("rpc.discover"),
    method("host.info", summary="Show the host."),
    method("host.\x1b[31mevil"),
    method("desktop.create", [
        param("name", "name", True), param("image", "ref", True),
        param("memory_mib", "integer", minimum=64, default=2048),
        param("disk_gib", "integer"), param("timeout_s", "integer"), param("room", "size"),
        param("start", "boolean"), param("mode", "enum", enum=["graceful", "force"]),
        param("tags", "strings"), param("policy", "object"), param("any", "any"), KEY],
        ["mutates", "named"], summary="Make a desktop."),
    method("desktop.list", [param("limit", "integer"), param("cursor", "string")], ["list"],
           {"items": {"type": "array", "items": {"properties": DESKTOP}}, "next": {}}),
    method("desktop.get", [param("desktop", "ref", True)], ["named"], DESKTOP),
    method("desktop.screenshot", [param("desktop", "ref", True)], ["named"],
           {"png": {}, "width": {}, "height": {}}),
    method("desktop.connect", [param("desktop", "ref", True)], ["named", "mutates"],
           {"file": {}, "file_name": {}}),
    method("desktop.console.log", [param("desktop", "ref", True)], ["named"], {"text": {}}),
    method("image.list", [param("limit", "integer"), param("cursor", "string")], ["list"]),
    method("image.import", [param("name", "name", True), param("path", "string"), WAIT, KEY],
           ["mutates", "job", "file", "named"], {"job": {}}),
    method("image.export", [param("image", "ref"), param("path", "string"),
                            param("force", "boolean"), WAIT, KEY],
           ["mutates", "job", "file", "file-out", "named"], {"job": {}}),
    method("network.forward.add", [param("network", "ref", True), param("port", "integer")],
           ["named", "mutates"]),
    method("user.set_password", [param("user", "ref", True)], ["named", "mutates"]),
    method("job.get", [param("job", "string", True)], ["named"]),
    method("job.cancel", [param("job", "string", True)], ["named"]),
    method("events.subscribe", [param("topics", "strings"), param("since", "integer")]),
]


class Fail(Exception):
    def __init__(self, kind=None, message="it failed", code=-32000):
        super().__init__(message)
        self.kind, self.code = kind, code


class Hangup(Exception):
    pass


class ControlServer:
    """`answers` maps a method's name to a result or to a function of (params, server)."""

    def __init__(self, path):
        self.path, self.answers, self.calls, self.files = path, {}, [], []
        self.after = {}  # raw bytes that follow an answer
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        os.unlink(self.path)

    def accept(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        pending = b""
        with peer:
            while True:
                data, fds, _, _ = socket.recv_fds(peer, 65536, 4)
                for fd in fds:
                    if b'"image.export"' in data:
                        with os.fdopen(fd, "wb") as file:
                            file.write(b"exported")
                        continue
                    with os.fdopen(fd, "rb") as file:
                        self.files.append(file.read())
                if not data:
                    return
                pending += data
                while b"\n" in pending:
                    line, pending = pending.split(b"\n", 1)
                    try:
                        peer.sendall(self.answer(json.loads(line)))
                    except (Hangup, BrokenPipeError):
                        return

    def answer(self, request):
        name, params = request["method"], request.get("params")
        if name == "rpc.discover":
            result = {"openrpc": "1.2.6", "info": {}, "methods": METHODS}
            return self.pack(request, result=result)
        self.calls.append((name, params))
        result = self.answers.get(name, {})
        try:
            result = result(params, self) if callable(result) else result
        except Fail as fail:
            error = {"code": fail.code, "message": str(fail)}
            if fail.kind:
                error["data"] = {"kind": fail.kind}
            return self.pack(request, error=error)
        return self.pack(request, result=result) + self.after.get(name, b"")

    @staticmethod
    def pack(request, **answer):
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode() + b"\n"
