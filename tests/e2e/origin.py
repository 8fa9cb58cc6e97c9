#!/usr/bin/python3
"""A scriptable origin server: the misbehaviour a test wants stands in the URL.

    /tweak?status=503&body=1k&after=300&reset=1     see TWEAKS
    /echo          what arrived, as JSON: method, target, headers, trailers, body length and sha256
    /bytes/N       N bytes (k, m, g allowed), with Content-Length
    /upload        reads the body, answers like /echo; ?gate_read=KEY waits for the gate first
    /sse           server-sent events; events 1 and 2 wait for the gates "sse0" and "sse1"
    /websocket     a raw RFC 6455 upgrade, then every byte comes back; ?push=TEXT comes with the 101
    /health/...    200, or what Origin.health says: a status, or a dict with status, text, json, and hang, eof, reset,
                   close (1: the connection ends with the answer), gate (KEY)
    /_log          everything seen so far, as JSON (Origin.seen in the same process)

HTTP/1.1 is spoken on plain streams so that every wrong byte can be produced; HTTP/2 through
python3-h2.  Runs in a thread of its own inside pytest, or alone: origin.py --port 9000 --name blue.
"""
import argparse
import asyncio
import base64
import hashlib
import json
import socket
import struct
import threading
from urllib.parse import parse_qsl, urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

TWEAKS = {
    "status": "status code of the answer (200)",
    "body": "size of the body: 100, 1k, 64m (0)",
    "text": "the body itself",
    "header": "NAME:VALUE, may come several times",
    "delay": "before the head: 200ms, 2s",
    "gate": "before the head, wait until Origin.open(KEY)",
    "body_gate": "after the first `after` body bytes, wait until Origin.open(KEY)",
    "piece": "write the body in pieces of this size",
    "slow": "wait this long between two pieces",
    "after": "body bytes before the misbehaviour (reset, hang, truncate, goaway, body_gate)",
    "reset": "1: RST the connection; HTTP/2: RST_STREAM (code=N, default INTERNAL_ERROR)",
    "hang": "1: never go on",
    "truncate": "1: close before the body is complete",
    "close": "1: no length, the end of the connection ends the body",
    "eof": "1: close without a byte of an answer",
    "chunked": "1: chunked coding",
    "trailers": "1: trailers x-checksum and x-late (chunked)",
    "early": "1: answer before the request body was read",
    "drop": "1: with early: close at once instead of reading the rest of the body",
    "continue": "0: send no 100 although it was asked for",
    "hints": "N: so many 103s before the answer",
    "double": "1: a second, unasked answer behind the first",
    "garbage": "1: an ssh banner instead of HTTP",
    "raw": "urlsafe base64: these bytes instead of an answer; then=close|reset|keep|hang",
    "times": "misbehave only for the first N requests with the same key=K, then answer 200",
    "goaway": "HTTP/2, 1: GOAWAY below this stream, then close",
}
BLOCK = bytes(range(256)) * 256


def size(text):
    """'64k' -> 65536"""
    unit = {"k": 1024, "m": 1024**2, "g": 1024**3}.get(text[-1:].lower())
    return int(text[:-1]) * unit if unit else int(text)


def seconds(text):
    """'200ms' -> 0.2"""
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    return float(text[:-1]) if text.endswith("s") else float(text)


def pattern(offset, length):
    """The body every answer is made of, from any offset."""
    start = offset % len(BLOCK)
    if start + length <= len(BLOCK):
        return BLOCK[start : start + length]
    return (BLOCK * ((start + length) // len(BLOCK) + 1))[start : start + length]


def pattern_sha256(length):
    digest = hashlib.sha256()
    for offset in range(0, length, len(BLOCK)):
        digest.update(pattern(offset, min(len(BLOCK), length - offset)))
    return digest.hexdigest()


def raw(data):
    """bytes -> the value of raw= in a URL"""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Gone(Exception):
    """The peer closed or reset."""


class Seen:
    """One request as it arrived."""

    def __init__(self, origin, connection, protocol):
        self.origin = origin
        self.connection = connection  # serial number of the connection
        self.protocol = protocol
        self.raw = b""  # request line and header, HTTP/1.1 only
        self.method = self.target = ""
        self.headers = []
        self.trailers = []
        self.length = 0
        self.body = b""  # the first 64 KiB
        self.digest = hashlib.sha256()
        self.complete = False  # the whole request was read
        self.gone = False  # the peer left, or reset, before the answer was complete
        self.answered = False

    @property
    def path(self):
        return self.target.split("?")[0]

    @property
    def query(self):
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def values(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name, default=None):
        values = self.values(name)
        return values[0] if values else default

    def add(self, data):
        self.length += len(data)
        self.digest.update(data)
        if len(self.body) < 65536:
            self.body += data[: 65536 - len(self.body)]

    def json(self):
        return {
            "origin": self.origin.name,
            "version": self.origin.version,
            "protocol": self.protocol,
            "connection": self.connection,
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "trailers": self.trailers,
            "length": self.length,
            "sha256": self.digest.hexdigest(),
            "body": self.body[:1024].decode("latin-1"),
            "complete": self.complete,
        }


class Origin:
    """A server on 127.0.0.1 (or a Unix socket); start() and stop() are called on the event loop."""

    def __init__(self, name="blue", version="v1", port=0, unix=None, ssl=None, h2=False):
        self.name, self.version, self.port, self.unix = name, version, port, unix
        self.ssl, self.h2 = ssl, h2
        self.seen = []
        self.accepted = 0  # connections so far
        self.open_connections = set()
        self.received = bytearray()  # every byte of every connection, up to 4 MiB
        self.health = {}  # path -> status or dict, see the top
        self.fault = None  # (Seen) -> the query /tweak would have, or "": a release that went bad
        self.greeting = b""  # sent unasked on every new connection
        self.answers = {}  # path -> bytes sent instead of an answer, then the end (HTTP/1.1)
        self.max_streams = 100  # HTTP/2
        self.refuse_streams = 0  # HTTP/2: so many streams are answered REFUSED_STREAM
        self._gates = {}
        self._counts = {}
        self._server = None

    async def start(self):
        async def handle(reader, writer):
            await self._connection(reader, writer)

        args = {"limit": 1 << 18, "ssl": self.ssl}
        if self.unix:
            self._server = await asyncio.start_unix_server(handle, self.unix, **args)
        else:
            self._server = await asyncio.start_server(
                handle, "127.0.0.1", self.port, backlog=4096, **args
            )
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        if self._server:
            self._server.close()
            self._server = None
        await self.drop()

    async def drop(self):
        """Resets all connections, idle ones too."""
        for writer in list(self.open_connections):
            abort(writer)

    @property
    def address(self):
        return f"unix:{self.unix}" if self.unix else f"127.0.0.1:{self.port}"

    def paths(self):
        return [s.path for s in self.seen]

    def find(self, path):
        """All requests seen with this path."""
        return [s for s in self.seen if s.path == path]

    def open(self, key):
        self._gate(key).set()

    def shut(self, key):
        self._gate(key).clear()

    def _gate(self, key):
        return self._gates.setdefault(key, asyncio.Event())

    async def gate(self, key):
        await self._gate(key).wait()

    def faulty(self, r):
        """The tweaks of this request: none when the release is well, or a probe asks."""
        if self.fault is None or r.path.startswith("/health"):
            return {}
        return dict(parse_qsl(self.fault(r), keep_blank_values=True))

    def misbehaves(self, query):
        """times=N&key=K: the first N with this key only."""
        if "times" not in query:
            return True
        key = query.get("key", "")
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key] <= int(query["times"])

    def count(self, data):
        if len(self.received) < 4 << 20:
            self.received += data

    def health_of(self, path):
        """(how, status, body, content type) of a health path's answer"""
        how = self.health.get(path, 200)
        how = how if isinstance(how, dict) else {"status": how}
        if "json" in how:
            return how, how.get("status", 200), json.dumps(how["json"]).encode(), "application/json"
        return how, how.get("status", 200), how.get("text", "well\n").encode(), "text/plain"

    def identity(self):
        return [("X-Origin", self.name), ("X-Version", self.version)]

    async def _connection(self, reader, writer):
        self.accepted += 1
        self.open_connections.add(writer)
        sock = writer.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(self.greeting)
        codec = H2(self, reader, writer) if self.h2 else H1(self, reader, writer)
        try:
            await codec.run()
        except (Gone, ConnectionError, asyncio.IncompleteReadError, OSError, ValueError,
                asyncio.LimitOverrunError):
            pass
        finally:
            self.open_connections.discard(writer)
            codec.ended()
            writer.close()


def abort(writer):
    """Closes with a RST."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    writer.transport.abort()


class H1:
    """One HTTP/1.1 connection."""

    def __init__(self, origin, reader, writer):
        self.origin, self.reader, self.writer = origin, reader, writer
        self.serial = origin.accepted
        self.now = None

    async def run(self):
        while await self.one():
            pass

    def ended(self):
        if self.now and not self.now.answered:
            self.now.gone = True

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def line(self):
        data = await self.reader.readuntil(b"\n")
        self.origin.count(data)
        return data

    async def one(self):
        """One request; false: the connection ends here."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = await self.line()
            head += data
        r = self.now = Seen(self.origin, self.serial, "HTTP/1.1")
        r.raw = head
        lines = head.decode("latin-1").split("\r\n")
        r.method, r.target, _ = (lines[0].split(" ") + ["", ""])[:3]
        r.headers = [tuple(x.strip() for x in line.split(":", 1)) for line in lines[1:] if line]
        self.origin.seen.append(r)
        keep = await self.answer(r, r.query)
        r.answered = True
        return keep

    async def read_body(self, r, q):
        if r.complete:
            return
        if "100-continue" in r.values("expect") and q.get("continue") != "0":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "gate_read" in q:
            await self.origin.gate(q["gate_read"])
        if "chunked" in (r.header("transfer-encoding") or ""):
            while True:
                n = int((await self.line()).split(b";")[0], 16)
                if n == 0:
                    break
                await self.read_exactly(r, n)
                await self.line()
            while (line := await self.line()) != b"\r\n":
                name, value = line.decode("latin-1").split(":", 1)
                r.trailers.append((name, value.strip()))
        else:
            await self.read_exactly(r, int(r.header("content-length") or 0))
        r.complete = True

    async def read_exactly(self, r, n):
        while n:
            data = await self.reader.read(min(n, 1 << 18))
            if not data:
                raise Gone
            self.origin.count(data)
            r.add(data)
            n -= len(data)

    async def whole(self, r, status, body, extra=(), content_type="text/plain"):
        """An ordinary answer."""
        fields = [("Content-Type", content_type), ("Content-Length", str(len(body))), *extra]
        await self.send(self.head(status, fields) + (b"" if r.method == "HEAD" else body))
        return True

    def head(self, status, fields):
        text = f"HTTP/1.1 {status} Whatever\r\n"
        for name, value in self.origin.identity() + list(fields):
            text += f"{name}: {value}\r\n"
        return text.encode("latin-1") + b"\r\n"

    async def answer(self, r, q):
        path = r.path
        if fault := self.origin.faulty(r):
            return await self.tweak(r, fault)
        if path in self.origin.answers:
            await self.read_body(r, q)
            await self.send(self.origin.answers[path])
            return False
        if path == "/tweak":
            return await self.tweak(r, q)
        if path.startswith("/bytes/"):
            await self.read_body(r, q)
            n = size(path.split("/")[2])
            await self.send(self.head(200, [("Content-Length", str(n))]))
            if r.method != "HEAD":
                await self.body(r, n, q, lambda data: data)
            return True
        if path == "/websocket":
            return await self.websocket(r, q)
        if path == "/sse":
            return await self.sse(r)
        await self.read_body(r, q)
        if path.startswith("/health"):
            return await self.health(r)
        if path == "/_log":
            body = json.dumps([s.json() for s in self.origin.seen]).encode()
            return await self.whole(r, 200, body, content_type="application/json")
        if path in ("/echo", "/upload"):
            return await self.whole(r, 200, json.dumps(r.json()).encode(), (), "application/json")
        return await self.whole(r, 200, f"hello from {self.origin.name}\n".encode())

    async def body(self, r, n, q, coding):
        """n bytes of the pattern, in pieces; what `after` asks for happens on the way."""
        at = 0
        stop = min(size(q["after"]), n) if "after" in q else n
        piece = size(q.get("piece", "64k"))
        while at < stop:
            data = pattern(at, min(piece, stop - at))
            await self.send(coding(data))
            at += len(data)
            if "slow" in q:
                await asyncio.sleep(seconds(q["slow"]))
        if "body_gate" in q:
            await self.origin.gate(q["body_gate"])
        if q.get("reset"):
            abort(self.writer)
            raise Gone
        if q.get("hang"):
            await self.hang()
        if q.get("truncate"):
            raise Gone
        while at < n:
            data = pattern(at, min(piece, n - at))
            await self.send(coding(data))
            at += len(data)

    async def health(self, r):
        how, status, body, kind = self.origin.health_of(r.path)
        if "gate" in how:
            await self.origin.gate(how["gate"])
        if how.get("hang"):
            await self.hang()
        if how.get("reset"):
            abort(self.writer)
        if how.get("eof") or how.get("reset"):
            raise Gone
        extra = [("Connection", "close")] if how.get("close") else []
        await self.whole(r, status, body, extra, kind)
        return not how.get("close")

    async def hang(self):
        """Until the peer leaves."""
        while data := await self.reader.read(1 << 16):
            self.origin.count(data)
        raise Gone

    async def tweak(self, r, q):
        if not self.origin.misbehaves(q):
            await self.read_body(r, q)
            return await self.whole(r, 200, b"at last\n")
        if not q.get("early"):
            await self.read_body(r, q)
        if "gate" in q:
            await self.wait_or_gone(self.origin.gate(q["gate"]))
        if "delay" in q:
            await self.wait_or_gone(asyncio.sleep(seconds(q["delay"])))
        for _ in range(int(q.get("hints", 0))):
            await self.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        if "after" not in q:
            if q.get("reset"):
                abort(self.writer)
                return False
            if q.get("hang"):
                await self.hang()
            if q.get("eof"):
                return False
        if q.get("garbage"):
            await self.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
            return False
        if "raw" in q:
            return await self.raw(q)
        keep = await self.composed(r, q)
        if q.get("double"):
            await self.send(self.head(200, [("Content-Length", "6")]) + b"twice\n")
        if q.get("early") and not r.complete:
            if q.get("drop"):
                return False
            await self.read_body(r, q)
        return keep

    async def wait_or_gone(self, coroutine):
        """Waits, but notices a peer that leaves."""
        task = asyncio.ensure_future(coroutine)
        peek = asyncio.ensure_future(self.reader.read(0 if self.reader._buffer else 1))
        done, _ = await asyncio.wait({task, peek}, return_when=asyncio.FIRST_COMPLETED)
        if task in done and peek not in done:
            peek.cancel()
            await asyncio.gather(peek, return_exceptions=True)
            return
        data = peek.result()
        if not data and self.reader.at_eof() and task not in done:
            task.cancel()
            raise Gone
        self.reader._buffer[:0] = data  # a pipelined request: put it back
        await task

    async def raw(self, q):
        data = q["raw"] + "=" * (-len(q["raw"]) % 4)
        await self.send(base64.urlsafe_b64decode(data))
        then = q.get("then", "close")
        if then == "reset":
            abort(self.writer)
        if then == "hang":
            await self.hang()
        return then == "keep"

    async def composed(self, r, q):
        text = q.get("text", "").encode()
        n = size(q["body"]) if "body" in q else len(text)
        status = int(q.get("status", 200))
        pairs = parse_qsl(urlsplit(r.target).query, keep_blank_values=True)
        fields = [tuple(v.split(":", 1)) for k, v in pairs if k == "header"]
        chunked = q.get("chunked") or q.get("trailers")
        if chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif q.get("close"):
            fields.append(("Connection", "close"))
        elif status not in (204, 304) or "body" in q:
            fields.append(("Content-Length", str(n)))
        await self.send(self.head(status, fields))
        if r.method == "HEAD" or status in (204, 304):
            return True

        def coding(data):
            return b"%x\r\n%s\r\n" % (len(data), data) if chunked else data

        if text:
            await self.send(coding(text))
        else:
            await self.body(r, n, q, coding)
        if q.get("trailers"):
            await self.send(b"0\r\nX-Checksum: abc\r\nX-Late: yes\r\n\r\n")
        elif chunked:
            await self.send(b"0\r\n\r\n")
        return not q.get("close")

    async def sse(self, r):
        await self.read_body(r, {})
        fields = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        await self.send(self.head(200, fields))
        for n in range(3):
            event = f"data: {n}\n\n".encode()
            await self.send(b"%x\r\n%s\r\n" % (len(event), event))
            if n < 2:
                await self.origin.gate(f"sse{n}")
        await self.send(b"0\r\n\r\n")
        return True

    async def websocket(self, r, q):
        await self.read_body(r, q)
        key = r.header("sec-websocket-key")
        if (r.header("upgrade") or "").lower() != "websocket" or not key:
            return await self.whole(r, 400, b"no upgrade\n")
        magic = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        if q.get("accept") == "bad":
            accept = base64.b64encode(b"0" * 20).decode()
        text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        text += f"Sec-WebSocket-Accept: {accept}\r\nX-Origin: {self.origin.name}\r\n"
        if r.header("sec-websocket-protocol"):
            protocol = r.header("sec-websocket-protocol").split(",")[0]
            text += f"Sec-WebSocket-Protocol: {protocol}\r\n"
        await self.send(text.encode() + b"\r\n" + q.get("push", "").encode())
        while data := await self.reader.read(1 << 16):
            self.origin.count(data)
            r.add(data)
            await self.send(data)
        return False


class H2:
    """One HTTP/2 connection; each request is a task of its own."""

    def __init__(self, origin, reader, writer):
        self.origin, self.reader, self.writer = origin, reader, writer
        self.serial = origin.accepted
        config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        self.h2 = h2.connection.H2Connection(config)
        self.streams = {}
        self.window = asyncio.Event()

    async def run(self):
        setting = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
        self.h2.local_settings[setting] = self.origin.max_streams
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        await self.flush()
        while data := await self.reader.read(1 << 16):
            self.origin.count(data)
            try:
                events = self.h2.receive_data(data)
            except h2.exceptions.ProtocolError:
                await self.flush()
                return
            for event in events:
                self.event(event)
            await self.flush()

    def ended(self):
        for stream in self.streams.values():
            if not stream.seen.answered:
                stream.seen.gone = True
            stream.task.cancel()

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    def event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            if self.origin.refuse_streams > 0:
                self.origin.refuse_streams -= 1
                self.h2.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
                return
            self.streams[event.stream_id] = H2Stream(self, event)
        elif isinstance(event, h2.events.DataReceived):
            stream = self.streams.get(event.stream_id)
            if stream:
                stream.seen.add(event.data)
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.streams[event.stream_id].seen.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream = self.streams.get(event.stream_id)
            if stream:
                stream.seen.complete = True
                stream.whole.set()
        elif isinstance(event, h2.events.StreamReset):
            stream = self.streams.pop(event.stream_id, None)
            if stream:
                stream.seen.gone = not stream.seen.answered
                stream.task.cancel()
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.window.set()
        elif isinstance(event, h2.events.ConnectionTerminated):
            pass


class H2Stream:
    def __init__(self, codec, event):
        self.codec, self.id = codec, event.stream_id
        r = self.seen = Seen(codec.origin, codec.serial, "HTTP/2")
        pseudo = {n: v for n, v in event.headers if n.startswith(":")}
        r.method, r.target = pseudo.get(":method", ""), pseudo.get(":path", "")
        r.headers = [(n, v) for n, v in event.headers]
        codec.origin.seen.append(r)
        self.whole = asyncio.Event()
        self.task = asyncio.ensure_future(self.guard())

    async def guard(self):
        try:
            await self.answer(self.seen, self.seen.query)
            self.seen.answered = True
        except (h2.exceptions.ProtocolError, ConnectionError, Gone):
            self.seen.gone = True
        except asyncio.CancelledError:
            pass

    async def head(self, status, fields=(), end=False):
        fields = [(n.lower(), v) for n, v in self.codec.origin.identity() + list(fields)]
        self.codec.h2.send_headers(self.id, [(":status", str(status)), *fields], end_stream=end)
        await self.codec.flush()

    async def send(self, data, end=False):
        h = self.codec.h2
        while data:
            room = min(h.local_flow_control_window(self.id), h.max_outbound_frame_size)
            if room <= 0:
                self.codec.window.clear()
                await self.codec.window.wait()
                continue
            h.send_data(self.id, data[:room], end_stream=end and len(data) <= room)
            end = end and len(data) > room
            data = data[room:]
            await self.codec.flush()
        if end:
            h.end_stream(self.id)
            await self.codec.flush()

    async def body(self, n, end, slow=None, piece=65536):
        for at in range(0, n, piece):
            await self.send(pattern(at, min(piece, n - at)))
            if slow:
                await asyncio.sleep(slow)
        if end:
            await self.send(b"", end=True)

    async def answer(self, r, q):
        origin = self.codec.origin
        if fault := origin.faulty(r):
            return await self.tweak(r, fault)
        if r.path == "/tweak":
            return await self.tweak(r, q)
        if r.path.startswith("/bytes/"):
            n = size(r.path.split("/")[2])
            await self.head(200, [("content-length", str(n))], end=r.method == "HEAD")
            return None if r.method == "HEAD" else await self.body(n, True)
        if r.path == "/sse":
            await self.head(200, [("content-type", "text/event-stream")])
            for n in range(3):
                await self.send(f"data: {n}\n\n".encode())
                if n < 2:
                    await origin.gate(f"sse{n}")
            return await self.send(b"", end=True)
        await self.whole.wait()
        if r.path.startswith("/health"):
            how, status, body, kind = origin.health_of(r.path)
            if "gate" in how:
                await origin.gate(how["gate"])
            if how.get("hang"):
                await asyncio.Event().wait()
            if how.get("reset") or how.get("eof"):
                return await self.reset({})
            await self.head(status, [("content-type", kind), ("content-length", str(len(body)))])
            return await self.send(body, end=True)
        body = f"hello from {origin.name}\n".encode()
        if r.path in ("/echo", "/upload"):
            body = json.dumps(r.json()).encode()
        await self.head(200, [("content-length", str(len(body)))], end=r.method == "HEAD")
        return None if r.method == "HEAD" else await self.send(body, end=True)

    async def tweak(self, r, q):
        origin = self.codec.origin
        if not origin.misbehaves(q):
            await self.head(200)
            return await self.send(b"at last\n", end=True)
        if not q.get("early"):
            await self.whole.wait()
        if "gate" in q:
            await origin.gate(q["gate"])
        if "delay" in q:
            await asyncio.sleep(seconds(q["delay"]))
        if q.get("hang") and "after" not in q:
            await asyncio.Event().wait()
        if q.get("goaway"):
            self.codec.h2.close_connection(last_stream_id=self.id - 2 if self.id > 1 else 0)
            await self.codec.flush()
            return self.codec.writer.close()
        if q.get("reset") and "after" not in q:
            return await self.reset(q)
        for _ in range(int(q.get("hints", 0))):
            self.codec.h2.send_headers(self.id, [(":status", "103"), ("link", "</style.css>")])
        text = q.get("text", "").encode()
        n = size(q.get("body", "0"))
        pairs = parse_qsl(urlsplit(r.target).query, keep_blank_values=True)
        fields = [tuple(v.split(":", 1)) for k, v in pairs if k == "header"]
        empty = r.method == "HEAD" or (not n and not text and not q.get("trailers"))
        if q.get("truncate"):
            fields.append(("content-length", str(n + 10)))
        await self.head(int(q.get("status", 200)), fields, end=empty)
        if empty:
            return None
        stop = min(size(q["after"]), n) if "after" in q else n
        await self.send(text)
        await self.body(stop, False, seconds(q.get("slow", "0s")), size(q.get("piece", "64k")))
        if "body_gate" in q:
            await origin.gate(q["body_gate"])
        if q.get("reset"):
            return await self.reset(q)
        if q.get("hang"):
            await asyncio.Event().wait()
        for at in range(stop, n, 65536):
            await self.send(pattern(at, min(65536, n - at)))
        if q.get("trailers"):
            trailers = [("x-checksum", "abc"), ("x-late", "yes")]
            self.codec.h2.send_headers(self.id, trailers, end_stream=True)
            return await self.codec.flush()
        return await self.send(b"", end=True)

    async def reset(self, q):
        self.codec.h2.reset_stream(self.id, int(q.get("code", 2)))
        await self.codec.flush()


class LoopThread:
    """An event loop in a thread of its own, for everything asynchronous the tests need."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine, timeout=30):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def call(self, function, *args):
        """Calls a plain function on the loop and returns its result."""

        async def wrap():
            return function(*args)

        return self.run(wrap())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--name", default="blue")
    parser.add_argument("--version", default="v1")
    parser.add_argument("--h2", action="store_true", help="HTTP/2 with prior knowledge")
    args = parser.parse_args()

    async def serve():
        await Origin(args.name, args.version, args.port, h2=args.h2).start()
        print(f"{args.name} {args.version} on 127.0.0.1:{args.port}", flush=True)
        await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
