"""What is read equals what the model computed; a pass continued from the middle equals a whole one."""

from typing import Any

import pytest
import torch
from tests.clew.toys import toy_model, toy_tokens
from torch import nn

from clew.models import Model, logits_from, mlp_activations, trace


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(n_layers=4, biases=True)


TOKENS_BT = torch.stack([toy_tokens(7, seed=s) for s in range(3)])


def _count_calls(modules: list[nn.Module]) -> tuple[list[int], list[Any]]:
    calls = [0] * len(modules)

    def counter(i: int) -> Any:
        def hook(*_: Any) -> None:
            calls[i] += 1

        return hook

    return calls, [module.register_forward_pre_hook(counter(i)) for i, module in enumerate(modules)]


def test_the_mlp_maps_what_was_read_to_what_was_written(model: Model) -> None:
    found = mlp_activations(model, TOKENS_BT, [3, 0, 2])
    assert list(found) == [3, 0, 2]
    whole = trace(model, TOKENS_BT, range(4))
    for layer, seen in found.items():
        assert not seen.x_BTD.requires_grad
        torch.testing.assert_close(model.anatomy.blocks[layer].mlp(seen.x_BTD), seen.y_BTD, atol=1e-14, rtol=0)
        torch.testing.assert_close(seen.x_BTD, whole.mlp_in[layer], atol=0, rtol=0)


def test_the_pass_stops_after_the_deepest_layer_and_leaves_no_hook(model: Model) -> None:
    blocks = [block.module for block in model.anatomy.blocks]
    calls, handles = _count_calls([*blocks, model.anatomy.unembed])
    mlp_activations(model, TOKENS_BT, [1])
    for handle in handles:
        handle.remove()
    assert calls == [1, 1, 0, 0, 0]
    assert not any(module._forward_hooks for module in model.hf.modules())


def test_a_row_is_read_the_same_alone_and_in_a_batch(model: Model) -> None:
    together = mlp_activations(model, TOKENS_BT, [2])[2].y_BTD
    alone = mlp_activations(model, TOKENS_BT[1:2], [2])[2].y_BTD
    torch.testing.assert_close(together[1:2], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layer", range(4))
def test_a_splice_equals_a_whole_pass_with_the_output_replaced(model: Model, layer: int) -> None:
    seen = trace(model, TOKENS_BT, range(4))
    torch.testing.assert_close(logits_from(model, seen, layer, seen.mlp_out[layer]), seen.logits_BTV, atol=0, rtol=0)

    other = torch.randn(seen.mlp_out[layer].shape, dtype=model.dtype, generator=torch.Generator().manual_seed(layer))
    handle = model.anatomy.blocks[layer].mlp.register_forward_hook(lambda *_: other)
    with torch.inference_mode():
        expected = model.hf(input_ids=TOKENS_BT, use_cache=False).logits
    handle.remove()
    torch.testing.assert_close(logits_from(model, seen, layer, other), expected, atol=1e-12, rtol=0)
    assert (expected - seen.logits_BTV).abs().max() > 1e-3


def test_a_splice_runs_nothing_below_its_layer(model: Model) -> None:
    seen = trace(model, TOKENS_BT, [2])
    calls, handles = _count_calls([block.module for block in model.anatomy.blocks])
    logits_from(model, seen, 2, seen.mlp_out[2])
    for handle in handles:
        handle.remove()
    assert calls == [0, 0, 0, 1]
