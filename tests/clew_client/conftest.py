from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clew_client.contract import KEY, Contract, Serving

from clew_client import Lab, Retry

FAST = Retry(attempts=4, first_s=0.001, longest_s=0.002)


@pytest.fixture(scope="session")
def _serving() -> Iterator[Contract]:
    contract = Contract()
    with Serving(contract):
        yield contract


@pytest.fixture
def contract(_serving: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contract:
    """A contract server without a past, and the environment of a user who has no credentials stored."""
    monkeypatch.delenv("CLEW_URL", raising=False)
    monkeypatch.delenv("CLEW_KEY", raising=False)
    monkeypatch.setenv("CLEW_CONFIG", str(tmp_path / "credentials.json"))
    _serving.reset()
    return _serving


@pytest.fixture
def client(contract: Contract) -> Iterator[Lab]:
    with Lab(contract.url, KEY, retry=FAST, timeout_s=10) as lab:
        yield lab
