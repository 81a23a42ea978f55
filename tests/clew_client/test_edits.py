"""An edit of a feature as people write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew_client.edits import read_edit, written
from clew_spec.errors import InvalidSpec
from clew_spec.steering import FeatureEdit

places = st.fixed_dictionaries({"layer": st.integers(0, 200), "feature": st.integers(0, 10**7)})
spans = st.tuples(st.integers(1, 999), st.none() | st.integers(1, 999)).map(
    lambda pair: {"start": pair[0], "stop": None if pair[1] is None else pair[0] + pair[1]}
)
changes = st.one_of(
    st.just({"operation": "ablate"}),
    st.fixed_dictionaries(
        {
            "operation": st.sampled_from(["set", "scale", "add"]),
            "value": st.floats(allow_nan=False, allow_infinity=False),
        }
    ),
)


@given(places, spans, changes)
def test_what_is_written_is_read_again(place: dict[str, int], span: dict[str, int], change: dict[str, float]) -> None:
    edit = FeatureEdit.model_validate({**place, **span, **change})
    assert read_edit(written(edit)) == edit


def test_positions_are_one_several_or_all_that_follow() -> None:
    def positions(text: str) -> tuple[int, int | None]:
        edit = read_edit(text)
        return edit.start, edit.stop

    assert positions("L10/F123@3:ablate") == (3, 4)
    assert positions("L10/F123@0:ablate") == (0, 1)
    assert positions("L10/F123@3..7:scale=0") == (3, 8)
    assert positions("L10/F123@3..:set=-1.5e2") == (3, None)
    assert positions("L10/F123:add=.5") == (1, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "L1",
        "L1/F2@3",
        "F2@3:ablate",
        "L1/F2@3:ablate=1",
        "L1/F2@3:set",
        "L1/F2@5..3:ablate",
        "L-1/F2@3:ablate",
        "L1/F2@3:scale=nan",
        "L1/F2@3:scale=1e999",
        "L1/F2@3:scale=1,5",
        "L1/F2@٣:ablate",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        read_edit(text)
    assert "L10/F123@3..:scale=0" in str(refused.value)
