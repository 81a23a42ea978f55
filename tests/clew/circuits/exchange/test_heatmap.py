"""A heat map shows every patch, as strong as its effect, and text from elsewhere stays text."""

from typing import Any
from xml.etree import ElementTree

import pytest
from tests.clew.circuits.exchange.test_pictures import NASTY, SVG
from tests.clew.circuits.test_patching import CLEAN_T, CORRUPT_T, PLACES, found_of, model_of

from clew_spec.exchange import drawing, heatmap
from clew_spec.patching import PatchDocument, effect, effects

pytestmark = pytest.mark.science


def cells(document: PatchDocument) -> list[ElementTree.Element]:
    text = heatmap.svg(document)
    assert heatmap.svg(document) == text
    root = ElementTree.fromstring(text)  # noqa: S314
    return [cell for cell in root.findall(f"{SVG}rect") if len(cell)]


@pytest.mark.parametrize("head_positions", [False, True])
@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_every_patch_is_a_cell_of_its_strength(direction: Any, head_positions: bool) -> None:
    found = found_of(model_of("llama"), direction=direction, head_positions=head_positions)
    first = int((CLEAN_T != CORRUPT_T).nonzero()[0])
    shown = [
        each for of_place in found.maps for each in effects(of_place) if each.position is None or each.position >= first
    ]
    drawn = cells(found)
    assert len(drawn) == len(shown)
    for cell, each in zip(drawn, shown, strict=True):
        share = effect(each.score, direction)
        assert float(cell.get("fill-opacity") or -1) == pytest.approx(min(1, abs(share)), abs=1e-3)
        assert cell.get("fill") == (drawing.EXCITING if share >= 0 else drawing.INHIBITING)
        assert f"layer {each.layer}" in (cell[0].text or "")
    places = [(cell.get("x"), cell.get("y")) for cell in drawn]
    assert len({*places}) == len(places)
    assert len(found.maps) == len(PLACES)


def test_text_from_elsewhere_stays_text() -> None:
    found = found_of(model_of("llama"), places=["resid"])
    nasty = {"clean_tokens": [NASTY] * 7, "corrupt_tokens": [NASTY] * 7, "answer": NASTY, "wrong": NASTY}
    assert cells(found.model_copy(update={"summary": found.summary.model_copy(update=nasty)}))
