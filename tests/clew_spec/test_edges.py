"""Names of nodes: what the pattern lets through is read, and means one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from clew_spec.edges import EdgeSpec, NamedNode, NodeName, read_node
from clew_spec.errors import InvalidSpec

pytestmark = pytest.mark.science

small = st.integers(0, 9999)


@given(small, small, small)
def test_a_name_says_which_node_it_is(layer: int, feature: int, position: int) -> None:
    said = {
        f"{feature}": NamedNode(id=feature),
        f"L{layer}/F{feature}@{position}": NamedNode(None, "feature", layer, position, feature),
        f"L{layer}/error@{position}": NamedNode(None, "error", layer, position),
        f"L{layer}/bias@{position}": NamedNode(None, "bias", layer, position),
        f"token@{position}": NamedNode(None, "token", -1, position),
        f"position@{position}": NamedNode(None, "position", -1, position),
        "logit": NamedNode(),
        f"logit@{layer}": NamedNode(rank=layer),
    }
    for name, node in said.items():
        assert read_node(name) == node
        assert EdgeSpec(graph="g", source=name, target=name).source == name


@given(st.text(max_size=12) | st.from_regex(r"L[0-9٣]+/(F|error|bias)[0-9]*@?[0-9٣]*\n?", fullmatch=True))
def test_what_the_pattern_refuses_is_not_read_either(name: str) -> None:
    try:
        TypeAdapter(NodeName).validate_python(name)
    except ValidationError:
        with pytest.raises(InvalidSpec, match="is no node"):
            read_node(name)
    else:
        read_node(name)
