#!/usr/bin/python3
"""Memory per idle TLS connection.

    make bench-memory            (N=10000, WORKERS=1)

Starts teal with one worker, opens N TLS connections that each make one HTTP/2 or HTTP/1.1 request and then
idle, and prints how much teal's resident memory grew for each. Loopback only; bounded by N.
"""

import os
import resource
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
# HEADERS, END_STREAM | END_HEADERS, stream 1: :method GET, :scheme https, :path /, :authority localhost
REQUEST_H2 = bytes.fromhex("00000e010500000001") + b"\x82\x87\x84\x01\x09localhost"
REQUEST_H1 = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def start(teal, folder, port):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2",
         "-keyout", f"{folder}/key.pem", "-out", f"{folder}/chain.pem"],
        check=True, stderr=subprocess.DEVNULL)
    with open(f"{folder}/teal.conf", "w") as f:
        f.write(f"""
listen = ( {{ address = "127.0.0.1:{port}";
             tls = {{ certificates = ( {{ chain = "chain.pem"; key = "key.pem"; }} ); }}; }} );
services = ( {{ name = "api"; blue = {{ backends = [ "127.0.0.1:1" ]; }}; }} );
admin = {{ socket = "admin.sock"; }};
state = {{ directory = "."; }};
timeouts = {{ idle = "10m"; }};
workers = 1;
""")
    process = subprocess.Popen([teal, "-c", f"{folder}/teal.conf"], stderr=subprocess.PIPE)
    line = b""
    while b"ready" not in line:
        line = process.stderr.readline()
        if not line:
            sys.exit("teal did not start")
    return process


def connect(context, port, request):
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
    s.sendall(request)
    s.settimeout(10)
    s.recv(65536)
    return s


def measure(teal, name, alpn, request, n):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = start(teal, folder, port)
        try:
            connections = [connect(context, port, request) for _ in range(100)]  # warm: pools, tables
            before = rss_kib(process.pid)
            for i in range(n):
                connections.append(connect(context, port, request))
                if i % 1000 == 999:
                    print(f"\r{name}: {i + 1} of {n}", end="", file=sys.stderr, flush=True)
            deadline = time.monotonic() + 3  # what was only passing may go back to the pools
            grown = rss_kib(process.pid) - before
            while time.monotonic() < deadline and grown > 0:
                select.select([], [], [], 0.2)
                grown = rss_kib(process.pid) - before
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
            print(f"{name}: {n} idle TLS connections: {grown / n:.2f} KiB each ({grown / 1024:.1f} MiB)")
            for s in connections:
                s.close()
        finally:
            process.terminate()
            process.communicate(timeout=60)


def main():
    teal = sys.argv[1] if len(sys.argv) > 1 else "build/teal"
    n = int(os.environ.get("N", "10000"))
    # teal keeps 8,192 descriptors for connections to backends
    want = n + 8700
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < want:
        sys.exit(f"open files are limited to {hard}: N={n} needs {want} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measure(teal, "HTTP/1.1", "http/1.1", REQUEST_H1, n)
    measure(teal, "HTTP/2", "h2", PREFACE + REQUEST_H2, n)


if __name__ == "__main__":
    main()
