"""What the dashboard was written against is what the API offers."""

import json

import pytest

from clew_api.app import routes_alone
from tests.browser.conftest import DASHBOARD


@pytest.mark.lab
def test_openapi_is_up_to_date() -> None:
    stored = json.loads((DASHBOARD / "openapi.json").read_text())
    assert stored == json.loads(json.dumps(routes_alone().openapi())), "run `make types` and commit what it writes"


@pytest.mark.lab
def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((DASHBOARD / "package-lock.json").read_text())
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []
