"""A graph of the lab, in the forms that other programs and people take. Its picture is what is converted."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from clew_spec.api import GraphDetail
from clew_spec.errors import InvalidSpec
from clew_spec.exchange import drawing, networkx, neuronpedia
from clew_spec.exchange.difference import GraphDifference, difference
from clew_spec.exchange.supernodes import Supernode, supernodes
from clew_spec.graph import GraphDocument

if TYPE_CHECKING:
    import networkx as nx

GraphForm = Literal["json", "neuronpedia", "graphml", "svg", "png"]
ENDINGS: dict[GraphForm, str] = {
    "json": ".json",
    "neuronpedia": ".neuronpedia.json",
    "graphml": ".graphml",
    "svg": ".svg",
    "png": ".png",
}


class LabGraph:
    """`view` tells what it is and what was found out with it; `document` is its picture: the most influential nodes,
    all tokens and logits.

    The whole graph is the artifact `graph/graph.safetensors` of its job.
    """

    def __init__(self, view: GraphDetail, document: GraphDocument) -> None:
        self.view = view
        self.document = document

    def __repr__(self) -> str:
        return f"LabGraph({self.view.name!r}, {len(self.document.nodes)} of {self.view.summary.n_nodes} nodes)"

    def _repr_svg_(self) -> str:
        """How a notebook shows it."""
        return drawing.svg(self.document)

    def to_networkx(self) -> "nx.DiGraph[int]":
        """As `clew_spec.exchange.networkx.to_networkx`. Raises Unavailable without the extra `clew[exchange]`."""
        return networkx.to_networkx(self.document.summary, self.document.nodes, self.document.edges)

    def supernodes(self, similarity: float = 0.6) -> list[Supernode]:
        """Features of the picture that read and are read alike, as `clew_spec.exchange.supernodes` groups them."""
        return supernodes(self.document, similarity=similarity)

    def difference(self, after: "LabGraph") -> GraphDifference:
        """What is gained, lost and changed from this picture to that of another graph, by feature.

        Raises InvalidSpec for graphs of different coders, whose features have nothing in common.
        """
        ours, theirs = ({*graph.view.lineage.coder_digests} for graph in (self, after))
        if ours != theirs:
            raise InvalidSpec(
                f"graphs {self.view.name} and {after.view.name} are of different coders",
                expected="two graphs of the same coders",
                hint="feature 5 of one is not feature 5 of the other",
            )
        return difference(self.document, after.document)

    def to(self, form: GraphForm, *, model_name: str = "unknown", groups: Sequence[Supernode] = ()) -> bytes:
        """A whole file. `model_name`: by which Neuronpedia knows the model; `groups`: for its viewer, too. Raises
        Unavailable without the extra."""
        writers: dict[GraphForm, Callable[[], str | bytes]] = {
            "json": lambda: self.document.model_dump_json(),
            "neuronpedia": lambda: neuronpedia.of_document(self.document, scan=model_name, groups=groups).to_json(),
            "graphml": lambda: networkx.graphml(self.document),
            "svg": lambda: drawing.svg(self.document),
            "png": lambda: drawing.png(self.document),
        }
        made = writers[form]()
        return made.encode() if isinstance(made, str) else made
