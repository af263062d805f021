"""A local web server with the failures of real servers."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """The files that are served, the failures, and the requests.

    Attributes:
        url: of the server.
        files: path -> content.
        ranges: whether parts of a file are served.
        names_versions: whether files have an ETag.
        cuts: path -> after how many bytes of each answer the connection is closed, one entry an answer.
        pages: paths that are answered with a web page and status 200.
        lengths: path -> Content-Length that is sent in place of the right one, "" for none.
        asked: (path, Range header) of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    names_versions: bool = True
    cuts: dict[str, list[int]] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)
    pages: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)


def serve(server: Server) -> ThreadingHTTPServer:
    """Start serving on a free port; `shutdown` and `server_close` end it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # the connection ends with the answer

        def do_GET(self):
            asked = self.headers.get("Range", "")
            server.asked.append((self.path, asked))
            if self.path in server.pages:
                return self._answer(200, b"<!DOCTYPE html><html>moved</html>", {"Content-Type": "text/html"})
            content = server.files.get(self.path.partition("?")[0])
            if content is None:
                return self.send_error(404)
            etag = '"' + hashlib.sha1(content).hexdigest() + '"'
            headers = {"Content-Type": "application/octet-stream"}
            headers.update({"ETag": etag} if server.names_versions else {})
            start = 0
            if asked and server.ranges and self.headers.get("If-Range", etag) == etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._answer(206 if start else 200, content[start:], headers)

        def _answer(self, status, body, headers):
            self.send_response(status)
            headers["Content-Length"] = server.lengths.get(self.path, str(len(body)))
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            cuts = server.cuts.get(self.path)
            self.wfile.write(body[: cuts.pop(0)] if cuts else body)

        def log_message(self, *args):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    web.handle_error = lambda *_: None  # clients that close the connection early
    server.url = f"http://127.0.0.1:{web.server_address[1]}"
    threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return web
