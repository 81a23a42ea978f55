"""Documents that share a row and do not attend to each other are read as if each stood alone."""

import pytest
import torch
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import toy_tokens
from torch import Tensor

from clew.data import Batch
from clew.data.dataset import Rows, positions_in
from clew.models import hook_activations, logits_from, trace
from clew.training.activations import Activations, route

pytestmark = pytest.mark.science

LENGTHS = [[5, 1, 10], [16], [3, 13]]
CONTEXT = 16


def packed() -> tuple[Tensor, Tensor, list[Tensor]]:
    tokens_BT = toy_tokens(3 * CONTEXT).view(3, CONTEXT)
    segments_BT = torch.stack(
        [torch.cat([torch.full((n,), i, dtype=torch.int16) for i, n in enumerate(row)]) for row in LENGTHS]
    )
    alone = [text for row, lengths in zip(tokens_BT, LENGTHS, strict=True) for text in row.split(lengths)]
    return tokens_BT, segments_BT, alone


def test_positions_count_from_the_beginning_of_each_document() -> None:
    _, segments_BT, _ = packed()
    assert positions_in(segments_BT).tolist() == [[p for n in row for p in range(n)] for row in LENGTHS]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_document_among_others_is_the_document_alone(family: str) -> None:
    """To float32: there is a softmax in some families that stays in it."""
    model = family_model(family)
    tokens_BT, segments_BT, alone = packed()
    batch = Rows((tokens_BT.int(),), (segments_BT,), "document").batch(slice(None))
    places = [(layer, hook) for layer in range(LAYERS) for hook in ("mlp.in", "mlp.out", "resid")]
    found = hook_activations(model, batch.tokens_BT, places, batch.positions_BT)
    seen = trace(model, batch.tokens_BT, [1], batch.positions_BT)
    expected = [hook_activations(model, text[None], places) for text in alone]
    for place in places:
        each = torch.cat([of_text[place][0] for of_text in expected])
        torch.testing.assert_close(found[place].flatten(0, 1), each, rtol=1e-5, atol=1e-5)
    logits = torch.cat([model.hf(input_ids=text[None], use_cache=False).logits[0] for text in alone])
    torch.testing.assert_close(seen.logits_BTV.flatten(0, 1), logits, rtol=1e-5, atol=1e-5)
    spliced_BTD = torch.zeros_like(seen.mlp_out[1])
    again = [trace(model, text[None], [1]) for text in alone]
    continued = torch.cat([logits_from(model, each, 1, torch.zeros_like(each.mlp_out[1]))[0] for each in again])
    torch.testing.assert_close(logits_from(model, seen, 1, spliced_BTD).flatten(0, 1), continued, rtol=1e-5, atol=1e-5)


def test_what_each_document_begins_with_is_neither_learnt_from_nor_counted() -> None:
    model = family_model("llama")
    tokens_BT, segments_BT, alone = packed()
    place = route(2, ("mlp.in", "mlp.out"))
    for rows, texts in (
        (Rows((tokens_BT.int(),), (segments_BT,), "document"), alone),
        (Rows((tokens_BT.int(),), (segments_BT,), "row"), list(tokens_BT)),
    ):
        ((_, x_ND, y_ND),) = Activations(model, rows.batch([0, 1, 2]), [place])
        expected = [hook_activations(model, text[None], place) for text in texts]
        for found, each in ((x_ND, place[0]), (y_ND, place[1])):
            by_hand = torch.cat([of_text[each][0, 1:] for of_text in expected])
            torch.testing.assert_close(found, by_hand, rtol=1e-5, atol=1e-5)
    assert [len(part) for part in Batch(tokens_BT).parts(2)] == [2, 1]
