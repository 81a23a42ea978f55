"""Real servers on this machine, as children of this process: Postgres, Valkey and SeaweedFS from their wheels.

Nothing but loopback is listened on, every password is generated, and every server can be replaced by one of your own.
"""

from clew_local.servers.stack import Endpoints, Stack

__all__ = ["Endpoints", "Stack"]
