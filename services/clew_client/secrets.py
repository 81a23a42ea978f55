"""Secrets of the project: set, listed by name, deleted. None is ever read back."""

import json

from pydantic import TypeAdapter

from clew_client.transport import Transport, parse
from clew_spec.data_views import SecretView
from clew_spec.secrets import SecretName


class Secrets:
    """Part of a `Lab`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[SecretView]:
        found: list[SecretView] = self._transport.get(TypeAdapter(list[SecretView]), "secrets")
        return found

    def set(self, name: SecretName, value: str) -> SecretView:
        """In place of the one there was."""
        content = json.dumps({"value": value})
        response = self._transport.request("PUT", f"secrets/{name}", content=content, idempotent=True)
        view: SecretView = parse(SecretView, response)
        return view

    def delete(self, name: SecretName) -> None:
        self._transport.request("DELETE", f"secrets/{name}")
