"""`python -m clew_api`: serve until told to stop."""

import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from clew_api.app import create_app
from clew_api.lab import Lab
from clew_lab import logs
from clew_lab.settings import settings

GRACE_S = 10
"""How long requests under way may take once the server is told to stop."""


class Server(uvicorn.Server):
    """Streams never end by themselves, and a server that waits for them would never stop: they are ended first.

    Logs are the application's own: one line a request.
    """

    def __init__(self, app: FastAPI, **options: Any) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, server_header=False, **options))
        self._state = app.state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        lab: Lab = self._state.lab
        lab.bell.close()
        await super().shutdown(sockets)


def main() -> None:
    configured = settings()
    logs.configure("api", configured)
    server = Server(
        create_app(configured),
        host=configured.api_host,
        port=configured.api_port,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        forwarded_allow_ips=configured.trusted_proxies,  # behind TLS, cookies are `Secure` by the proxy's word
    )
    server.run()
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
