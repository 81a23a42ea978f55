"""The estimate of each kind of job, and what of a job that is too large could be smaller."""

import math
from collections.abc import Iterator

from pydantic.main import IncEx

from clew_spec.attribution import AttributeSpec
from clew_spec.coders import CoderConfig
from clew_spec.connections import ConnectionsSpec
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.edges import EdgeSpec
from clew_spec.estimates import circuits, edges
from clew_spec.estimates.patching import patch
from clew_spec.estimates.report import DatasetFacts, Disk, Estimate, Facts, GraphFacts, Memory, Part
from clew_spec.estimates.sizes import (
    FLOAT32,
    RUNTIME_BYTES,
    TOKEN_BYTES,
    encoding_flops,
    forward_bytes,
    forward_flops,
    reconstructing_bytes,
    slots,
    stored_parameters,
    unembedding_flops,
)
from clew_spec.estimates.training import train
from clew_spec.evaluation import EvaluateSpec
from clew_spec.exporting import ExportCodersSpec
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.importing import ImportCodersSpec
from clew_spec.importing_graphs import ImportGraphSpec
from clew_spec.jobs import JobSpec
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.models import ImportModelSpec
from clew_spec.patching import PatchSpec
from clew_spec.paths import PathsSpec
from clew_spec.qk import QKSpec
from clew_spec.results import ModelConfig
from clew_spec.steering import SteerSpec
from clew_spec.training import TrainSpec

UNSEEN = "only a worker sees the model's files"
UNWEIGHED = "it depends on whether thresholds have to be found"
UNREAD = "it depends on text that is not read yet"
UNCOUNTED = "how many features ReLU and JumpReLU wake is known once the model has read the prompt"


_OF_LOSS: IncEx = {"loss": {"sparsity_weight", "sparsity_warmup_steps"}}
_OF_OPTIMIZER: IncEx = {"lr", "schedule", "warmup_steps", "decay_fraction", "betas", "weight_decay"}
_WEIGHTLESS: IncEx = {
    "name": True,
    "seed": True,
    "optimizer": _OF_OPTIMIZER,
    "coder": _OF_LOSS,
    "coders": {"__all__": _OF_LOSS},
}
"""What no estimate is made of, and sweeps change most: fields of specs."""


def decisive(spec: JobSpec) -> str:
    """What of a spec its estimate is made of: specs that agree in it have the same estimate, given the same facts."""
    return spec.model_dump_json(exclude=_WEIGHTLESS)


def estimate(spec: JobSpec, facts: Facts) -> Estimate:
    """What the job will take. ValueError where `facts` lack something that the spec refers to."""
    match spec:
        case ImportModelSpec() | ImportCodersSpec() | ImportGraphSpec():
            return Estimate.of(unknown=dict.fromkeys(("memory", "disk", "flops", "tokens", "time_s"), UNSEEN))
        case BuildDatasetSpec():
            return _build_dataset(spec)
        case TrainSpec():
            return train(spec, _model(facts), _dataset(facts), facts.device)
        case EvaluateSpec():
            return _evaluate(spec, _model(facts), _dataset(facts), facts.coders)
        case ExportCodersSpec():
            parameters = sum(map(stored_parameters, facts.coders))
            disk = Disk(
                published_bytes=parameters * FLOAT32,
                checkpoint_bytes=0,
                # The model is fetched where thresholds have to be found, and only then known here.
                worker_bytes=_inputs(facts.model, None, facts.coders) + parameters * FLOAT32,
            )
            return Estimate.of(disk=disk, unknown=dict.fromkeys(("memory", "flops", "tokens", "time_s"), UNWEIGHED))
        case PatchSpec():
            if facts.prompt_tokens is None:
                every = ("memory", "disk", "flops", "tokens", "time_s")
                return Estimate.of(unknown=dict.fromkeys(every, "it depends on the prompts' length"))
            return patch(spec, _model(facts), facts.prompt_tokens)
        case MeanEdgesSpec():
            return _mean_edges(spec, _model(facts), _dataset(facts), facts.coders)
        case AttributeSpec() | SteerSpec() | FaithfulnessSpec() | EdgeSpec() | QKSpec():
            return _of_prompt(spec, _model(facts), facts)
        case ConnectionsSpec():
            model, coders = _model(facts), facts.coders
            return Estimate.of(
                memory=circuits.connections_memory(model, coders),
                disk=Disk(published_bytes=0, checkpoint_bytes=0, worker_bytes=_inputs(model, None, coders)),
                flops=circuits.connections_flops(spec, model, coders),
                tokens=0,
            )
        case PathsSpec():
            graph = _graph(facts)
            return Estimate.of(
                memory=circuits.paths_memory(spec, graph),
                disk=Disk(published_bytes=0, checkpoint_bytes=0, worker_bytes=circuits.graph_bytes(graph)),
                flops=circuits.paths_flops(spec, graph),
                tokens=0,
            )


def smaller(spec: JobSpec, facts: Facts) -> Iterator[tuple[str, JobSpec]]:
    """The same job made smaller step by step, each with what was done, the gentlest first."""
    if isinstance(spec, EvaluateSpec):
        rows = spec.rows_per_batch
        while (rows := rows // 2) >= 1:
            yield f"rows_per_batch = {rows}", spec.model_copy(update={"rows_per_batch": rows})
    if isinstance(spec, PatchSpec):
        prompts = spec.prompts_per_batch
        while (prompts := prompts // 2) >= 1:
            yield f"prompts_per_batch = {prompts}", spec.model_copy(update={"prompts_per_batch": prompts})
    if isinstance(spec, TrainSpec):
        crosses = any(coder.kind == "cross-layer-transcoder" for _, coder in spec.variants)
        context = _dataset(facts).context
        # A cross-layer transcoder of fewer layers would be another one.
        tokens, layers = spec.tokens_per_step, 1 if crosses else len(spec.layers)
        while (tokens := tokens // 2) >= context:
            yield f"tokens_per_step = {tokens}", spec.model_copy(update={"tokens_per_step": tokens})
        starts = [("", spec)]
        if spec.tokens_per_step > context:
            one_row = spec.model_copy(update={"tokens_per_step": context})
            starts.append((f"tokens_per_step = {context} and ", one_row))
        for words, changed in starts:
            n = layers
            while n := n // 2:
                words_of_layers = f"{n} layers a job" if n > 1 else "one layer a job"
                yield words + words_of_layers, changed.model_copy(update={"layers": spec.layers[-n:]})


def _build_dataset(spec: BuildDatasetSpec) -> Estimate:
    unknown = dict.fromkeys(("memory", "flops", "time_s"), UNREAD)
    if spec.max_tokens is None:
        return Estimate.of(unknown=unknown | dict.fromkeys(("disk", "tokens"), UNREAD))
    packed = spec.max_tokens * TOKEN_BYTES
    return Estimate.of(
        disk=Disk(published_bytes=packed, checkpoint_bytes=0, worker_bytes=packed),
        tokens=spec.max_tokens,
        unknown=unknown,
    )


def _evaluate(spec: EvaluateSpec, model: ModelConfig, dataset: DatasetFacts, coders: list[CoderConfig]) -> Estimate:
    context, d_model = dataset.context, model.d_model
    n_rows = _heldout_rows(spec.tokens, dataset)
    rows = min(spec.rows_per_batch, n_rows)
    n_tokens = rows * context
    logits = n_tokens * model.vocab_size * FLOAT32
    of_row = 3 * context * model.vocab_size * FLOAT32  # cross-entropies are taken row by row
    spliced = 3 * n_tokens * d_model * FLOAT32
    forward = forward_bytes(model, rows, context, FLOAT32)
    coding = max(reconstructing_bytes(c.activation, c.n_features, n_tokens - rows, d_model) for c in coders)
    work = max(coding, spliced + forward, spliced + 2 * logits + of_row)
    # Each coder is counted alone and among all: how often a feature speaks, int64, and float64 means of what it writes.
    counts = 2 * sum(8 * coder.n_features + 4 * 8 * coder.d_out for coder in coders)
    where = "/spec/rows_per_batch"
    parts = [
        Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
        Part(name="model weights", bytes=model.n_parameters * FLOAT32, field="/spec/coders"),
        Part(name="coder weights", bytes=sum(map(stored_parameters, coders)) * FLOAT32, field="/spec/coders"),
        Part(name="counts and means", bytes=counts, field="/spec/coders"),
        Part(name="activations", bytes=4 * len(coders) * n_tokens * d_model * FLOAT32, field=where),
        Part(name="logits", bytes=logits, field=where),
        Part(name="a pass with one layer replaced", bytes=work, field=where),
    ]
    flops = forward_flops(model, model.n_layers, context) + unembedding_flops(model)
    for coder in coders:
        above = forward_flops(model, model.n_layers - 1 - coder.layer, context) + unembedding_flops(model)
        decoders = 1 + len(coder.later_layers)
        decoding = 2 * decoders * slots(coder.activation, coder.n_features) * coder.d_out
        flops += encoding_flops(coder.n_features, coder.d_in) + decoding + 2 * above
    return Estimate.of(
        memory=Memory(moment="a batch of held-out rows", parts=parts),
        disk=Disk(published_bytes=0, checkpoint_bytes=0, worker_bytes=_inputs(model, dataset, coders)),
        flops=n_rows * context * flops,
        tokens=n_rows * context,
    )


def _mean_edges(spec: MeanEdgesSpec, model: ModelConfig, dataset: DatasetFacts, coders: list[CoderConfig]) -> Estimate:
    memory = edges.mean_edges_memory(spec, model, coders, dataset.context)
    tokens = _heldout_rows(spec.tokens, dataset) * dataset.context
    return Estimate.of(
        memory=memory,
        disk=Disk(published_bytes=0, checkpoint_bytes=0, worker_bytes=_inputs(model, dataset, coders)),
        flops=edges.mean_edges_flops(spec, model, coders, tokens, dataset.context),
        tokens=tokens,
        unknown={"memory": UNCOUNTED} if memory is None else None,
    )


def _heldout_rows(tokens: int, dataset: DatasetFacts) -> int:
    """Rows that hold so many tokens, as far as there are any."""
    return min(math.ceil(tokens / dataset.context), dataset.heldout_tokens // dataset.context)


def _of_prompt(
    spec: AttributeSpec | SteerSpec | FaithfulnessSpec | EdgeSpec | QKSpec, model: ModelConfig, facts: Facts
) -> Estimate:
    """Of a prompt whose length is known, or of a graph's."""
    graph, coders = facts.graph, facts.coders
    inputs = _inputs(model, None, coders) + (circuits.graph_bytes(graph) if graph else 0)
    disk = Disk(published_bytes=0, checkpoint_bytes=0, worker_bytes=inputs)
    tokens = graph.tokens if graph else facts.prompt_tokens
    if tokens is None:
        return Estimate.of(disk=disk, unknown=dict.fromkeys(("memory", "flops", "time_s", "tokens"), UNREAD))
    memory: Memory | None
    match spec:
        case EdgeSpec():
            memory = edges.edge_memory(model, coders, _graph(facts))
            flops = edges.edge_flops(model, coders, _graph(facts))
        case QKSpec():
            memory = edges.qk_memory(spec, model, coders, _graph(facts))
            flops = edges.qk_flops(spec, model, coders, _graph(facts))
        case AttributeSpec():
            memory = circuits.attribute_memory(spec, model, coders, tokens)
            flops = circuits.attribute_flops(spec, model, coders, tokens)
        case SteerSpec():
            memory = circuits.steer_memory(spec, model, coders, tokens, graph)
            flops = circuits.steer_flops(spec, model, coders, tokens, graph)
        case FaithfulnessSpec():
            memory = circuits.faithfulness_memory(spec, model, coders, _graph(facts))
            flops = circuits.faithfulness_flops(spec, model, coders, _graph(facts))
    unknown = {"memory": UNCOUNTED} if memory is None else None
    return Estimate.of(memory=memory, disk=disk, flops=flops, tokens=tokens, unknown=unknown)


def _inputs(model: ModelConfig | None, dataset: DatasetFacts | None, coders: list[CoderConfig]) -> int:
    """Bytes of the files that a worker fetches: models and coders are stored in float32."""
    packed = (dataset.train_tokens + dataset.heldout_tokens) * TOKEN_BYTES if dataset else 0
    parameters = (model.n_parameters if model else 0) + sum(map(stored_parameters, coders))
    return parameters * FLOAT32 + packed


def _model(facts: Facts) -> ModelConfig:
    if facts.model is None:
        raise ValueError("nothing is known of the model")
    return facts.model


def _graph(facts: Facts) -> GraphFacts:
    if facts.graph is None:
        raise ValueError("nothing is known of the graph")
    return facts.graph


def _dataset(facts: Facts) -> DatasetFacts:
    if facts.dataset is None:
        raise ValueError("nothing is known of the dataset")
    return facts.dataset
