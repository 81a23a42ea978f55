"""What no prompt or model of this size has is refused before a job is queued."""

from typing import Any

import pytest
from tests.clew_api.seeds import SUMMARY

from clew_spec.errors import InvalidSpec
from clew_spec.graph import GraphSummary
from clew_spec.qk import QKSpec, require_positions

pytestmark = pytest.mark.science

GRAPH = GraphSummary.model_validate(SUMMARY)
LAST, TOP = len(GRAPH.tokens) - 1, GRAPH.n_layers - 1


def spec(**fields: Any) -> QKSpec:
    return QKSpec.model_validate({"graph": "g", "head": f"L{TOP}H3", "query": LAST, "key": 0} | fields)


def test_what_is_there_is_taken() -> None:
    for fields in ({}, {"key": LAST}, {"against": LAST}, {"head": "L0H0"}):
        require_positions(spec(**fields), GRAPH, 4)
    assert require_positions(spec(), GRAPH, 4) == (TOP, 3)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"head": f"L{TOP + 1}H0"}, "head"),
        ({"head": "L0H4"}, "head"),
        ({"query": LAST + 1}, "query"),
        ({"query": 0, "key": 1}, "key"),
        ({"query": 0, "against": 1}, "against"),
        ({"against": 0}, "against"),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        require_positions(spec(**fields), GRAPH, 4)
    assert refused.value.where == f"/spec/{where}"
