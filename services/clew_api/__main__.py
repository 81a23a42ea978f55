"""`python -m clew_api`: serve until told to stop."""

import socket

import uvicorn

from clew_api.app import create_app
from clew_api.lab import Lab
from clew_lab import logs
from clew_lab.settings import settings

GRACE_S = 10
"""How long requests under way may take once the server is told to stop."""


class Server(uvicorn.Server):
    """Streams never end by themselves, and a server that waits for them would never stop: they are ended first."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        lab: Lab | None = getattr(self.config.loaded_app.state, "lab", None)
        if lab is not None:
            lab.bell.close()
        await super().shutdown(sockets)


def main() -> None:
    configured = settings()
    logs.configure("api")
    app = create_app(configured)
    config = uvicorn.Config(
        app,
        host=configured.api_host,
        port=configured.api_port,
        log_config=None,
        access_log=False,  # the application writes a line of its own
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
    )
    server = Server(config)
    server.run()
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
