"""One JSON line for each thing that happened; plain text on a terminal.

What is bound by `structlog.contextvars` stands on every line: `request_id` in the API, `job_id` and `fence` of an
attempt in a worker.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from clew_lab.settings import Settings

HIDDEN = "***"
_SECRET = frozenset(
    {
        "password",
        "passwords",
        "secret",
        "secrets",
        "token",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "url",
    }
)
"""Words of a name whose value is never shown. A count of `tokens` is no secret."""
_SECRET_NAMES = ("api_key", "access_key", "secret_key", "private_key")
_IN_TEXT = (
    re.compile(r"(?<=\bclew_)[A-Za-z0-9]{16,}"),  # API keys
    re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)"),  # the user and the password of a URL
    re.compile(r"(?<=\bbearer )[^\s\"']+", re.IGNORECASE),
    re.compile(r"(?<=\bbasic )[A-Za-z0-9+/=]{8,}", re.IGNORECASE),
    re.compile(r"(?<=x-amz-signature=)\w+", re.IGNORECASE),  # whoever has it may read the object
    re.compile(r"(?<=x-amz-credential=)[^\s&\"']+", re.IGNORECASE),
    re.compile(r"(?<=password=)[^\s&\"']+", re.IGNORECASE),
)


def configure(service: str, settings: Settings | None = None) -> None:
    """Send structlog's and the standard library's messages to stderr alike. Call once, at the start of a process."""
    structlog.contextvars.bind_contextvars(service=service)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
        structlog.processors.format_exc_info,  # here, so that what an exception tells is looked through, too
        without_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    form = settings.log_format if settings is not None else "auto"
    people = sys.stderr.isatty() if form == "auto" else form == "console"
    last: Processor = (
        # the plain one: a richer one prints the values of variables, among them what nobody should read
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if people
        else structlog.processors.JSONRenderer(default=str)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level if settings is not None else "INFO")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # retries are told by those who retry


def _named(service: str) -> Processor:
    """Threads do not inherit context variables, so the name is given here."""

    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add


def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values under a secret's name, and what looks like a secret in any text, however deep it lies."""
    for name, value in event.items():
        event[name] = HIDDEN if _is_secret(name) else _clean(value)
    return event


def _is_secret(name: str) -> bool:
    lower = name.lower().replace("-", "_")
    return not _SECRET.isdisjoint(lower.split("_")) or any(part in lower for part in _SECRET_NAMES)


def _clean(value: Any) -> Any:
    match value:
        case str():
            for pattern in _IN_TEXT:
                value = pattern.sub(HIDDEN, value)
            return value
        case Mapping():
            return {key: HIDDEN if _is_secret(str(key)) else _clean(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_clean(inner) for inner in value]
        case BaseException():
            return _clean(str(value))
    return value
