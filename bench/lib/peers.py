"""The proxies: how each is configured, started, asked once and stopped; and the origin behind them."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field

from lib.load import die_with_us, last_line
from lib.measure import family

TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "peers")
READY_SECONDS = 15
NO_H2 = "speaks no HTTP/2 to backends"


class Broken(Exception):
    """It did not start, or does not do what the case asks for."""


@dataclass(frozen=True)
class Peer:
    name: str
    package: str
    template: str
    argv: tuple  # {config} and {folder} are filled in
    version: tuple
    cannot: dict = field(default_factory=dict)  # what the origin is spoken to in: why not
    folders: tuple = ()

    @property
    def program(self):
        return shutil.which(self.argv[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

    def about(self):
        """The version, in a line."""
        done = subprocess.run([self.program, *self.version], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.search(r"\d+\.\d+(\.\d+)?[^\s,]*", done.stdout)
        return found[0] if found else last_line(done.stdout)


def peers(teal="build/teal"):
    return (
        Peer("teal", "", "teal.conf", (teal, "-c", "{config}"), ("-V",)),
        Peer("nghttpx", "nghttp2-proxy", "nghttpx.conf", ("nghttpx", "--conf={config}"), ("--version",)),
        Peer("haproxy", "haproxy", "haproxy.cfg", ("haproxy", "-db", "-f", "{config}"), ("-v",)),
        Peer("nginx", "nginx-light", "nginx.conf", ("nginx", "-e", "stderr", "-p", "{folder}", "-c", "{config}"), ("-v",),
             {"h2": NO_H2 + " but gRPC"}),
        Peer("h2o", "h2o", "h2o.conf", ("h2o", "-c", "{config}"), ("-v",), {"h2": NO_H2, "grpc": NO_H2}),
    )


def fill(text, words, values):
    """A template's text: lines that begin with @word are kept when words has it; @NAME@ is filled in."""
    lines = []
    for line in text.splitlines():
        found = re.match(r"@([a-z0-9]+) ", line)
        if found and found[1] not in words:
            continue
        lines.append(line[found.end():] if found else line)
    return re.sub(r"@([A-Z_]+)@", lambda m: str(values[m[1]]), "\n".join(lines)) + "\n"


def words_of(case):
    """Which lines of a template a case needs."""
    words = {case.front, case.back, "websocket" if case.websocket else "plain"}
    if case.upload > 16384:
        words.add("upload")
    if os.geteuid() == 0:
        words.add("root")
    return words


def free_ports(n):
    """n ports nobody has; below those that outgoing connections take."""
    ports, port = [], 15000 + os.getpid() % 5000
    while len(ports) < n:
        port += 1
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                ports.append(port)
            except OSError:
                pass
    return ports


def certificate(folder):
    """chain.pem, key.pem and both in both.pem: P-256, for 127.0.0.1."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "30", "-keyout",
                    f"{folder}/key.pem", "-out", f"{folder}/chain.pem"], check=True, stderr=subprocess.DEVNULL)
    with open(f"{folder}/both.pem", "w") as both:
        for name in ("chain.pem", "key.pem"):
            with open(f"{folder}/{name}") as f:
                both.write(f.read())
    # for programs that cannot be told on their own
    with open(f"{folder}/openssl.cnf", "w") as f:
        f.write("openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\nMinProtocol = TLSv1.3\n"
                "Ciphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519\n")


def stop(process, seconds=5):
    """SIGTERM, then SIGKILL; children too."""
    pids = family(process.pid)
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        process.wait()


# --- the origin --------------------------------------------------------------------------------------------------------------------
class Origin:
    """bench/origin on so many addresses of loopback, all with one port."""

    def __init__(self, program, folder, cores, n=1):
        self.port = free_ports(1)[0]
        self.addresses = [f"127.0.{1 + i // 250}.{1 + i % 250}:{self.port}" for i in range(n)] if n > 1 else [
            f"127.0.0.1:{self.port}"]
        control = f"{folder}/origin.sock"
        argv = [program, "--control", control]
        for address in self.addresses:
            argv += ["--listen", address]
        self.process = subprocess.Popen(["taskset", "-c", ",".join(map(str, cores))] + argv, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_us)
        for _ in self.addresses:
            line = self.process.stdout.readline()
            if not line.startswith("listening on "):
                stop(self.process)
                raise Broken(f"the origin did not start: {line.strip()}")
        self.control = socket.socket(socket.AF_UNIX)
        self.control.settimeout(10)
        self.control.connect(control)
        self.answers = self.control.makefile("r")

    def requests(self):
        """So many it was asked."""
        self.control.sendall(b"stats\n")
        return json.loads(self.answers.readline())["requests"]

    def close(self):
        self.control.close()
        stop(self.process)


# --- a proxy that runs -------------------------------------------------------------------------------------------------------------
class Proxy:
    """One proxy, on one core, configured for one case, that has answered once. Else Broken."""

    def __init__(self, peer, case, folder, core, origin, environment, limits):
        self.peer, self.case, self.port = peer, case, free_ports(1)[0]
        self.folder = os.path.join(folder, peer.name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        config = os.path.join(self.folder, peer.template)
        with open(os.path.join(TEMPLATES, peer.template)) as f:
            text = f.read()
        with open(config, "w") as f:
            f.write(fill(text, words_of(case), self._values(folder, origin, limits)))
        argv = [part.format(config=config, folder=self.folder) for part in peer.argv]
        argv[0] = peer.program or argv[0]
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["taskset", "-c", str(core)] + argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.folder, env=environment, preexec_fn=die_with_us)
        try:
            self._wait()
        except Exception:
            self.close()
            raise

    def _values(self, folder, origin, limits):
        pool = ", ".join(f'"{a}"' for a in origin.addresses)
        more = [f'  {{ name = "s{i}"; paths = [ "/s{i}" ]; blue = {{ backends = [ {pool} ]; }}; }},'
                for i in range(1, self.case.services)]
        return {"CASE": self.case.title, "PORT": self.port, "BACKEND_PORT": origin.port, "BACKENDS": pool,
                "SERVICES": "\n".join(more), "KEY": f"{folder}/key.pem", "CHAIN": f"{folder}/chain.pem",
                "PEM": f"{folder}/both.pem", "FILES": limits["files"], "CONNECTIONS": limits["connections"]}

    def _wait(self):
        """Until it answers as the case wants, with a deadline."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if self.process.poll() is not None:
                raise Broken(f"did not start: {self.said()}")
            try:
                self.ask()
                return
            except (OSError, Broken) as e:
                if time.monotonic() > deadline:
                    raise Broken(f"did not answer: {e}") from e
                time.sleep(0.02)

    def ask(self):
        """One request, whose answer must be the origin's, over the TLS that was agreed on."""
        with self._connect("http/1.1") as s:
            s.sendall(f"GET /?bytes={self.case.answer} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while chunk := s.recv(1 << 20):
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        if self.case.back == "grpc":  # the origin answers others alike, but a proxy for gRPC may not let them through
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Broken("answers " + head.split(b"\r\n")[0].decode("latin-1"))
        if b"x-version:" not in head.lower() or len(body) < self.case.answer:
            raise Broken("its answer is not the origin's")
        if self.case.front == "tls" and self.case.http == "h2":
            with self._connect("h2") as s:
                if s.selected_alpn_protocol() != "h2":
                    raise Broken("speaks no HTTP/2")

    def _connect(self, alpn):
        s = socket.create_connection(("127.0.0.1", self.port), 2)
        s.settimeout(5)
        if self.case.front != "tls":
            return s
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([alpn])
        try:
            s = context.wrap_socket(s)
        except OSError:
            s.close()
            raise
        if (s.version(), s.cipher()[0]) != ("TLSv1.3", "TLS_AES_128_GCM_SHA256"):
            with s:
                raise Broken(f"speaks {s.version()} {s.cipher()[0]}")
        return s

    def pids(self):
        return family(self.process.pid)

    def said(self):
        """The first complaint in its log, or its last word."""
        with open(self.log) as f:
            text = f.read()
        found = re.search(r"^.*\b(error|alert|emerg|fatal)\b.*$", text, re.M | re.I)
        return found[0].strip().replace(self.folder + "/", "")[:200] if found else last_line(text)

    def alive(self):
        return self.process.poll() is None

    def close(self):
        stop(self.process)
