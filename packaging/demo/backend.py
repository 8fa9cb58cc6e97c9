#!/usr/bin/python3
"""A demo backend: says its color and version, answers health checks.  Standard library only.

backend.py PORT COLOR VERSION

SIGUSR1 breaks it: every request fails with 500, while its health checks still say that all is well.
"""
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{color} {version}</title>
<meta name="viewport" content="width=device-width">
<style>
  body {{ margin: 0; display: grid; place-items: center; min-height: 100vh;
         background: {background}; color: white; font: 18px/1.5 system-ui, sans-serif; }}
  h1 {{ font-size: 12vmin; margin: 0; }}
</style>
<main><h1>{color} {version}</h1><p>{path}: reload to see who answers next</p></main>
</html>
"""
BACKGROUNDS = {"blue": "#1d4ed8", "green": "#15803d"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    color = version = ""
    broken = False

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        while length > 0:
            piece = self.rfile.read(min(length, 65536))
            if not piece:
                return
            length -= len(piece)
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while (size := int(self.rfile.readline().split(b";")[0], 16)) > 0:
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        kind, text = "text/plain", f"hello from {self.color} {self.version}\n"
        if self.path.startswith("/health/"):
            text = "ok\n"
        elif "text/html" in (self.headers.get("Accept") or ""):
            kind = "text/html"
            path = self.path.replace("&", "&amp;").replace("<", "&lt;")
            text = PAGE.format(
                color=self.color,
                version=self.version,
                background=BACKGROUNDS.get(self.color, "#444"),
                path=path,
            )
        status = 200
        if self.broken and not self.path.startswith("/health/"):
            status, kind, text = 500, "text/plain", f"{self.color} {self.version} is broken\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Version", f"{self.color} {self.version}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, format, *args):  # the access log is teal's
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        pass


def main():
    port, Handler.color, Handler.version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGUSR1, lambda *_: setattr(Handler, "broken", True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C goes to the whole group: run.sh stops us
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
