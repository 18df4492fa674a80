"""A minimal S3 server for clients in the same process: it accepts every body."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from filehandoff.typing_backports import override

OPTIONS: dict[str, Any] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "anyone",
    "aws_secret_access_key": "anything",
}


class TakesAll(BaseHTTPRequestHandler):
    """Keeps the body of the last PUT to each path."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        """Store the body."""
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"0"')
        self.end_headers()

    @override
    def log_message(self, *_args: object) -> None:
        pass


def start(objects: dict[str, bytes]) -> ThreadingHTTPServer:
    """Create a server on a free port of the loopback; the caller runs `serve_forever`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (TakesAll,), {"objects": objects}))
    server.daemon_threads = True
    return server
