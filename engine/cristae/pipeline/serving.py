"""Serving: the page of `view` on this machine's own address, for this person's browser alone. Nothing is fetched from elsewhere.

/                                   the page
/views.json                         what there is to look at
/plane?view&axis&index&frame        uint8 image, padded to whole words, then uint32 labels; their shape in a header
/column?view&frame&name             uint32 labels, then float32 values
/row.json?view&frame&label          what the table says of an object
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from cristae.errors import CristaeError, InvalidConfiguration
from cristae.pipeline.viewing import View, column, facts_of, plane, row

LOOPBACK = "127.0.0.1"
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:"
"""What the page may do: draw itself and ask this server."""


def server_of(views: Sequence[View], port: int = 0) -> ThreadingHTTPServer:
    """A server of the page for these views, on the loopback address; port 0 takes a free one.

    Raises
    ------
    InvalidConfiguration : if the port is taken.
    """

    class Page(_Page):
        shown = tuple(views)

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Page)
    except (OSError, OverflowError) as error:
        raise InvalidConfiguration(f"--port {port} cannot be used ({error}); leave it out for a free one") from None


def address_of(server: ThreadingHTTPServer) -> str:
    """Where a browser finds it."""
    return f"http://{LOOPBACK}:{server.server_address[1]}/"


class _Page(BaseHTTPRequestHandler):
    shown: tuple[View, ...] = ()

    def do_GET(self) -> None:
        # A page from elsewhere that has this machine's address under its own name is none of ours.
        if self.headers.get("Host", "").partition(":")[0] not in (LOOPBACK, "localhost"):
            return self.answer(403, b"this page is for this machine alone", "text/plain")
        asked = urlsplit(self.path)
        words = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        try:
            return self.answer(200, *self.content(asked.path, words))
        except (KeyError, ValueError, IndexError):
            return self.answer(404, b"there is no such thing here", "text/plain")
        except CristaeError as error:
            return self.answer(404, str(error).encode(), "text/plain; charset=utf-8")

    def content(self, path: str, words: dict[str, str]) -> tuple[bytes, str, dict[str, str]]:
        if path == "/":
            page = (files("cristae.pipeline") / "shipped" / "view.html").read_bytes()
            return page, "text/html; charset=utf-8", {}
        if path == "/views.json":
            return _json([facts_of(view) for view in self.shown])
        view = self.shown[int(words["view"])]
        frame = int(words["frame"])
        if path == "/plane":
            image, labels = plane(view, words["axis"], int(words["index"]), frame)
            padded = image.tobytes() + bytes(-image.size % 4)
            rows, columns = image.shape
            return padded + labels.astype("<u4").tobytes(), "application/octet-stream", {"X-Shape": f"{rows},{columns}"}
        if path == "/column":
            labels, values = column(view, frame, words["name"])
            return labels.astype("<u4").tobytes() + values.astype("<f4").tobytes(), "application/octet-stream", {}
        if path == "/row.json":
            return _json(row(view, frame, int(words["label"])))
        raise KeyError(path)

    def answer(self, code: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's talk."""


def _json(value: Any) -> tuple[bytes, str, dict[str, str]]:
    return json.dumps(value, default=_plain, allow_nan=False).encode(), "application/json", {}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
