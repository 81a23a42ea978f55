"""Metrics that were stored by earlier versions are still read."""

import pytest

from clew_spec.evaluation import CoderMetrics, EvaluateSpec
from clew_spec.results import EvaluationResult

pytestmark = pytest.mark.science

FIRST = {
    "layer": 3,
    "tokens": 2032,
    "fvu": 0.41,
    "l0": 31.5,
    "dead": 120,
    "dead_fraction": 0.052,
    "ce_original": 2.91,
    "ce_spliced": 3.02,
    "ce_zero": 3.88,
    "loss_recovered": 0.887,
}
"""As the first version wrote them."""


def test_the_first_metrics_still_load() -> None:
    old = CoderMetrics.model_validate(FIRST)
    assert old.loss_recovered_zero == 0.887
    assert (old.kl, old.ce_mean, old.frequencies, old.intervals) == (None, None, None, {})
    assert CoderMetrics.model_validate_json(old.model_dump_json()) == old
    result = EvaluationResult.model_validate({"coders": [FIRST], "coder_ids": ["a"], "lineage": {"code_version": "1"}})
    assert result.coders == [old]
    assert result.all_replaced is None


def test_everything_is_measured_unless_told() -> None:
    spec = EvaluateSpec(coders="first")
    assert spec.mean_ablation
    assert spec.replace_all
