"""What a coder may be: said before anything is tried."""

from typing import Any

import pytest
from pydantic import ValidationError

from clew_spec.coders import CoderConfig, CoderSpec, TopK
from clew_spec.training import TrainSpec

TRAIN: dict[str, Any] = {"name": "a", "model": "m", "dataset": "d", "layers": [0], "steps": 1}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"coder": {"activation": {"kind": "batchtopk", "k": 9}, "n_features": 8}}, "above n_features"),
        ({"coder": {"hook_in": "mlp.out"}}, "cannot read and write mlp.out"),
        ({"coder": {"kind": "sae", "hook_out": "resid"}}, "an SAE writes what it reads"),
        ({"coder": {"hook_in": "attn.out"}}, "hook_in"),
        ({"coder": {"activation": {"kind": "gelu"}}}, "activation"),
        ({"coder": {"loss": {"sparsity": "l0"}}}, "only activation jumprelu"),
        ({"coder": {"loss": {"sparsity_weight": 1.0}}}, "needs `sparsity`"),
        ({"optimizer": {"weight_decay": 0.1}}, "needs kind = adamw"),
        ({"coders": [{"name": "a"}, {"name": "a"}]}, "distinct"),
        ({"coder": {"n_features": 9, "activation": {"k": 2}}, "coders": [{"name": "a"}]}, "not both"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainSpec.model_validate(TRAIN | fields)


def test_older_specs_and_configurations_still_read() -> None:
    spec = TrainSpec.model_validate(TRAIN | {"coder": {"activation": {"k": 4}}})
    assert spec.variants == [(None, CoderSpec(activation=TopK(k=4)))]
    assert (spec.coder.hook_in, spec.coder.writes) == ("mlp.in", "mlp.out")
    assert CoderSpec(kind="sae", hook_in="resid").writes == "resid"
    old = {"kind": "transcoder", "activation": {"kind": "topk", "k": 4}, "n_features": 8, "d_in": 2, "d_out": 3}
    old |= {"layer": 1, "model_digest": "", "tokenizer_digest": "", "dataset_digest": "", "bos": "none"}
    config = CoderConfig.model_validate(old)
    assert (config.centred, config.loss) == (False, None)
    with pytest.raises(ValidationError, match="cannot be centred"):
        CoderConfig.model_validate(old | {"centred": True})
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
