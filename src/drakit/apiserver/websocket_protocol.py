"""The WebSocket of a connection, which also takes the name that Kubernetes gave to tunnelled SPDY.

`SPDY/3.1+portforward.k8s.io` is no token as the RFC has it, since it contains a slash, and the library
refuses it. So the library does not see it: the offer is taken out of the request and put back for those who
choose.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_HEADER = "Sec-WebSocket-Protocol"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, for one connection."""

    def handle_connect(self, event: Request) -> None:
        offered = [name.strip() for line in event.headers.get_all(_HEADER) for name in line.split(",")]
        if not any("/" in name for name in offered):
            super().handle_connect(event)
            return
        del event.headers[_HEADER]
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["subprotocols"] = offered  # the application is about to start, and has not yet
