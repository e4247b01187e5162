"""A registry with one image, for those who log in."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


def _blobs(archive: Path) -> tuple[str, dict[str, bytes]]:
    """The digest of the image's manifest, and all that the archive has by digest."""
    with tarfile.open(archive) as tar:
        data = [tar.extractfile(member).read() for member in tar if member.isfile()]  # type: ignore[union-attr]
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    blobs = {f"sha256:{hashlib.sha256(item).hexdigest()}": item for item in data}
    return index["manifests"][0]["digest"], blobs


@contextmanager
def registry(archive: Path, username: str, password: str) -> Iterator[str]:
    """`localhost:PORT`, where any name leads to the image of the OCI archive."""
    manifest, blobs = _blobs(archive)
    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, _, name = self.path.rpartition("/")
            is_manifest = kind.endswith("/manifests")
            digest = manifest if is_manifest and not name.startswith("sha256:") else name
            body = blobs.get(digest, b"")
            if self.headers.get("Authorization") != wanted:
                status, body = 401, b""
            else:
                status = 200 if body or self.path == "/v2/" else 404
            self.send_response(status)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            kind = json.loads(body)["mediaType"] if is_manifest and body else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
