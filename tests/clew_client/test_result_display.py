"""What came of a job is told in a few lines, of results of every version."""

import io
from typing import Any

from rich.console import Console

from clew_client.result_display import result_parts

CODER: dict[str, Any] = {
    "layer": 3,
    "tokens": 2032,
    "fvu": 0.4123,
    "l0": 31.5,
    "dead": 120,
    "dead_fraction": 0.05,
    "ce_original": 2.914,
    "ce_spliced": 3.021,
    "ce_zero": 3.88,
}
NEW = CODER | {"loss_recovered_zero": 0.889, "kl": 0.1172, "agreement": 0.8613, "dense": 17}
OLD = CODER | {"loss_recovered": 0.889}
ALL = {
    "layers": [{"layer": 3, "fvu": 0.5, "l0": 30.0}, {"layer": 4, "fvu": 0.5, "l0": 30.0}],
    "tokens": 2032,
    "ce_original": 2.914,
    "ce_spliced": 4.25,
    "ce_zero": 9.5,
    "ce_mean": 7.25,
    "loss_recovered_zero": 0.797,
    "kl": 1.43,
    "agreement": 0.522,
    "intervals": {"kl": {"low": 1.31, "high": 1.55}},
}


def shown(**result: Any) -> list[str]:
    out = io.StringIO()
    full = {"kind": "evaluation", "coder_ids": [], "lineage": {"code_version": "1"}} | result
    console = Console(file=out, width=200)
    for part in result_parts(full):
        console.print(part)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_an_evaluation_is_a_row_per_coder_and_a_line_for_all_at_once() -> None:
    title, summary, heads, row, all_ = shown(coders=[NEW], all_replaced=ALL)
    assert title == "Result"
    assert summary == "2,032 held-out tokens, CE 2.914 nats without coders"
    assert heads == "layer FVU L0 CE recovered (zero) KL agreement dead dense"
    assert row == "3 0.4123 31.5 3.021 0.889 0.1172 0.8613 120 17"
    assert all_ == (
        "All 2 layers replaced: CE 4.25 (zeros 9.5, means 7.25), recovered 0.797 of zeros' loss, KL 1.43 ± 0.12,"
        " agreement 0.522"
    )


def test_the_first_evaluations_are_shown_as_far_as_they_were_measured() -> None:
    assert shown(coders=[OLD])[-1] == "3 0.4123 31.5 3.021 0.889 - - 120 -"
