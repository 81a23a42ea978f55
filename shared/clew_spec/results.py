"""What a finished job adds to the catalogue."""

from typing import Annotated, Any, Literal

from pydantic import Field

from clew_spec.base import Digest, Spec
from clew_spec.coders import CoderConfig
from clew_spec.connections import ConnectionsSummary
from clew_spec.edges import EdgeSplit
from clew_spec.evaluation import AllReplaced, CoderMetrics
from clew_spec.faithfulness import Faithfulness
from clew_spec.formats import Calibration, ExportFormat
from clew_spec.graph import GraphSummary
from clew_spec.mean_edges import MeanEdges
from clew_spec.patching import PatchEffect, PatchSummary
from clew_spec.paths import PathsSummary
from clew_spec.qk import QKScore
from clew_spec.steering import EditedActivation, NextToken, Prediction


class Lineage(Spec):
    """Where a thing came from. Together with the spec it names everything that determined the result."""

    code_version: str
    seed: int | None = None
    model_digest: str | None = None
    tokenizer_digest: str | None = None
    dataset_digest: str | None = None
    coder_digests: list[str] = []
    parents: list[str] = []
    """UUIDs of the catalogue records this was made from."""
    tokens: int | None = None
    """How many tokens of the dataset's training split a coder learned from, row after row in the seed's order."""
    source: dict[str, Any] | None = None
    """Of what came from elsewhere: its format, and the sha256 of each file by name."""


class ModelConfig(Spec):
    architecture: str
    n_layers: int
    d_model: int
    d_mlp: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    max_context: int
    n_parameters: int


class AnatomyProof(Spec):
    """How far the anatomy's own arithmetic is from the model's logits."""

    max_abs_logit_difference: float
    logit_scale: float
    """Largest |logit| on the probe, for comparison."""
    dtype: str
    tokens: int


class ModelResult(Spec):
    kind: Literal["model"] = "model"
    name: str
    digest: Digest
    """sha256 over the names and contents of the model's files; of JSON, without what tells only how it was saved."""
    tokenizer_digest: Digest
    config: ModelConfig
    proof: AnatomyProof
    files: list[str]
    """Artifact names, such as `model/config.json`."""
    lineage: Lineage


class DatasetResult(Spec):
    kind: Literal["dataset"] = "dataset"
    name: str
    digest: Digest
    tokenizer_digest: Digest
    context: int
    bos: str
    train_tokens: int
    heldout_tokens: int
    n_documents: int
    source: dict[str, Any]
    """What was read: the source's spec, package versions, sha256 of the text."""
    files: list[str]
    lineage: Lineage


class TrainedCoder(Spec):
    layer: int
    variant: str | None = None
    """Its name where a layer has several coders: it goes by `{name of the set}.{variant}` then."""
    digest: Digest
    config: CoderConfig
    files: list[str]
    fvu_first: float | None = None
    """Held-out FVU before the first step; null of a coder that was imported."""
    fvu_last: float | None = None

    @property
    def trained_fvu(self) -> tuple[float, float]:
        """Held-out FVU before the first step and after the last, of a coder that was trained."""
        assert self.fvu_first is not None
        assert self.fvu_last is not None
        return self.fvu_first, self.fvu_last


class CodersResult(Spec):
    kind: Literal["coders"] = "coders"
    name: str
    coders: list[TrainedCoder]
    steps: int | None = None
    """Null, as the tokens, of coders that were imported."""
    tokens_seen: int | None = None
    lineage: Lineage


class ExportResult(Spec):
    """Coders in another project's format. The catalogue gets no record: the files are the job's artifacts."""

    kind: Literal["export"] = "export"
    name: str
    format: ExportFormat
    calibration: list[Calibration]
    """Of those coders whose TopK became thresholds."""
    files: list[str]
    """What the other project reads, below `export/`; and `report.json`, with the calibration."""
    lineage: Lineage


class EvaluationResult(Spec):
    kind: Literal["evaluation"] = "evaluation"
    coders: list[CoderMetrics]
    coder_ids: list[str]
    all_replaced: AllReplaced | None = None
    """Of a set of several coders."""
    lineage: Lineage


class GraphResult(Spec):
    kind: Literal["graph"] = "graph"
    name: str
    digest: Digest
    summary: GraphSummary
    files: list[str]
    lineage: Lineage


class SteerResult(Spec):
    """The catalogue gets no record of it: what is found is here."""

    kind: Literal["steering"] = "steering"
    prompt: str
    tokens: list[str]
    bos: str
    frozen: bool
    next_tokens: list[NextToken]
    """The most likely ones before or after, by the larger of their probabilities."""
    kl: float
    """KL(before || after) of the next token's distribution, nats."""
    activations: list[EditedActivation]
    text_before: str | None
    """What follows the prompt without the edits; null where nothing was generated."""
    text_after: str | None
    prediction: Prediction | None
    """Null without a graph."""
    lineage: Lineage


class FaithfulnessResult(Spec):
    """Found again by the graph, which is among its job's parents."""

    kind: Literal["faithfulness"] = "faithfulness"
    name: str
    """Of the graph."""
    graph_digest: Digest
    faithfulness: Faithfulness
    files: list[str]
    """`faithfulness.json`, the same numbers."""
    lineage: Lineage


class PatchResult(Spec):
    """The catalogue gets no record of it."""

    kind: Literal["patching"] = "patching"
    summary: PatchSummary
    strongest: list[PatchEffect]
    """Of each kind of place those whose patch moves the metric farthest."""
    files: list[str]
    """`patch.json`, a `PatchDocument` with every place; `patch.svg`, the same as a picture."""
    lineage: Lineage


class EdgeResult(Spec):
    """Found again by the graph, which is its job's parent: the strongest parts are here, all in the file."""

    kind: Literal["edge"] = "edge"
    name: str
    """Of the graph."""
    graph_digest: Digest
    tokens: list[str]
    split: EdgeSplit
    files: list[str] = []
    """`edge.json`, an `EdgeDocument`; of jobs before there was one, nothing."""
    lineage: Lineage


class QKResult(Spec):
    """Found again by the graph, which is its job's parent: the strongest pairs are here, all that were asked for in the
    file."""

    kind: Literal["qk"] = "qk"
    name: str
    """Of the graph."""
    graph_digest: Digest
    tokens: list[str]
    qk: QKScore
    files: list[str]
    """`qk.json`, a `QKDocument`."""
    lineage: Lineage


class MeanEdgesResult(Spec):
    """The catalogue gets no record of it: the strongest are here, all that were asked for in the file."""

    kind: Literal["mean-edges"] = "mean-edges"
    mean_edges: MeanEdges
    files: list[str] = []
    """`mean-edges.json`, a `MeanEdgesDocument`; of jobs before there was one, nothing."""
    lineage: Lineage


class ConnectionsResult(Spec):
    """The catalogue gets no record of it: the strongest are here, all in the file."""

    kind: Literal["connections"] = "connections"
    name: str
    """Of the coders."""
    connections: ConnectionsSummary
    files: list[str]
    """`connections.json`, a `ConnectionsDocument`."""
    lineage: Lineage


class PathsResult(Spec):
    """Found again by the graph, which is its job's parent: the strongest are here, all in the file."""

    kind: Literal["paths"] = "paths"
    name: str
    """Of the graph."""
    graph_digest: Digest
    n_paths: int
    """In the file."""
    paths: PathsSummary
    files: list[str]
    """`paths.json`, a `PathsDocument`."""
    lineage: Lineage


Result = Annotated[
    ModelResult
    | DatasetResult
    | CodersResult
    | EvaluationResult
    | GraphResult
    | ExportResult
    | SteerResult
    | FaithfulnessResult
    | PatchResult
    | EdgeResult
    | QKResult
    | MeanEdgesResult
    | ConnectionsResult
    | PathsResult,
    Field(discriminator="kind"),
]
