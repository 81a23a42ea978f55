"""Laws of the arithmetic: more asked for is never less taken, parts add up, and smaller is smaller."""

from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from clew_spec.attribution import AttributeSpec
from clew_spec.chunks import PRE_ACTIVATIONS
from clew_spec.coders import CoderConfig, TopK
from clew_spec.connections import ConnectionsSpec
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.edges import EdgeSpec
from clew_spec.estimates import DatasetFacts, Estimate, Facts, GraphFacts, decisive, estimate, smaller
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
from clew_spec.steering import FeatureEdit, SteerSpec
from clew_spec.training import TrainSpec

MODEL = ModelConfig(
    architecture="LlamaForCausalLM",
    n_layers=24,
    d_model=128,
    d_mlp=512,
    n_heads=8,
    n_kv_heads=4,
    vocab_size=1000,
    max_context=512,
    n_parameters=6_000_000,
)
CODER = CoderConfig(
    activation=TopK(k=8),
    n_features=512,
    d_in=128,
    d_out=128,
    layer=3,
    model_digest="",
    tokenizer_digest="",
    dataset_digest="",
    bos="none",
)
FACTS = Facts(
    model=MODEL,
    dataset=DatasetFacts(context=64, train_tokens=10**6, heldout_tokens=10**5),
    coders=[CODER],
    graph=GraphFacts(tokens=9, nodes=2000, edges=10**5, rows=200, targets=3),
    prompt_tokens=9,
)
ACTIVATIONS: list[dict[str, Any]] = [
    {"kind": "relu"},
    {"kind": "topk", "k": 4},
    {"kind": "batchtopk", "k": 4},
    {"kind": "jumprelu"},
]
trains = st.builds(
    lambda layers, features, activation, steps, tokens, kind, optimizer: {
        "layers": list(range(layers)),
        "coder": {"kind": kind, "n_features": features, "activation": activation},
        "steps": steps,
        "tokens_per_step": tokens,
        "optimizer": {"kind": optimizer},
    },
    layers=st.integers(1, 12),
    features=st.integers(8, 20_000),
    activation=st.sampled_from(ACTIVATIONS),
    steps=st.integers(1, 10**6),
    tokens=st.integers(64, 20_000),
    kind=st.sampled_from(["transcoder", "skip-transcoder", "cross-layer-transcoder"]),
    optimizer=st.sampled_from(["adam", "adafactor"]),
)


def of(fields: dict[str, Any], device: str) -> Estimate:
    spec = TrainSpec.model_validate({"name": "a", "model": "m", "dataset": "d", **fields})
    return estimate(spec, FACTS.model_copy(update={"device": device}))


@given(fields=trains, device=st.sampled_from(["cpu", "cuda"]))
def test_more_asked_for_is_never_less_taken(fields: dict[str, Any], device: str) -> None:
    said = of(fields, device)
    assert (said.memory_bytes or 0) <= (of(fields, "cuda").memory_bytes or 0)
    assert said.memory is not None
    assert said.memory_bytes == sum(part.bytes for part in said.memory.parts)
    assert all(part.bytes >= 0 for part in said.memory.parts)
    coder = fields["coder"]
    all_at_once = 2 * coder["n_features"] * fields["tokens_per_step"] <= PRE_ACTIVATIONS[device]
    for name, more in (
        ("layers", [*fields["layers"], len(fields["layers"])]),
        ("coder", coder | {"n_features": 2 * coder["n_features"]}),
        ("steps", 2 * fields["steps"]),
        ("tokens_per_step", 2 * fields["tokens_per_step"]),
    ):
        larger = of(fields | {name: more}, device)
        for what in ("memory_bytes", "disk_bytes", "flops", "tokens"):
            # Of more features, fewer tokens may be encoded at once, and all that there is of each.
            if (name, what) == ("coder", "memory_bytes") and not all_at_once:
                continue
            assert getattr(larger, what) >= getattr(said, what), (name, what)


@given(
    fields=trains,
    lr=st.floats(1e-6, 1),
    seed=st.integers(0, 2**32 - 1),
    weight=st.floats(1e-6, 10),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_specs_that_agree_in_what_is_decisive_have_the_same_estimate(
    fields: dict[str, Any], lr: float, seed: int, weight: float, schedule: str, device: str
) -> None:
    spec = TrainSpec.model_validate({"name": "a", "model": "m", "dataset": "d", **fields})
    losses = [coder.loss for _, coder in spec.variants]
    weighed = [loss.sparsity != "none" for loss in losses]
    changed = spec.model_dump(mode="json") | {"name": "b", "seed": seed}
    changed["optimizer"] |= {"lr": lr, "schedule": schedule, "warmup_steps": 7, "betas": [0.5, 0.5]}
    for coder, has in zip(changed["coders"] or [changed["coder"]], weighed, strict=True):
        coder["loss"] |= {"sparsity_weight": weight, "sparsity_warmup_steps": 3} if has else {}
    other = TrainSpec.model_validate(changed)
    facts = FACTS.model_copy(update={"device": device})
    assert decisive(other) == decisive(spec)
    assert estimate(other, facts) == estimate(spec, facts)
    longer = spec.model_copy(update={"steps": spec.steps + 1})
    assert decisive(longer) != decisive(spec)


@given(fields=trains)
def test_smaller_is_smaller_and_names_what_was_changed(fields: dict[str, Any]) -> None:
    spec = TrainSpec.model_validate({"name": "a", "model": "m", "dataset": "d", **fields})
    needed = estimate(spec, FACTS).memory_bytes or 0
    for words, other in smaller(spec, FACTS):
        assert (estimate(other, FACTS).memory_bytes or 0) <= needed
        assert isinstance(other, TrainSpec)
        TrainSpec.model_validate(other.model_dump())
        assert other.tokens_per_step >= 64
        assert (f"tokens_per_step = {other.tokens_per_step}" in words) == (
            other.tokens_per_step != fields["tokens_per_step"]
        )
        assert ("a job" in words) == (len(other.layers) < len(spec.layers))
        assert spec.coder.kind != "cross-layer-transcoder" or other.layers == spec.layers


def test_every_kind_of_job_is_answered_and_every_null_explained() -> None:
    specs: list[JobSpec] = [
        ImportModelSpec(name="m", path="/m"),
        BuildDatasetSpec(name="d", model="m"),
        BuildDatasetSpec(name="d", model="m", max_tokens=100),
        TrainSpec(name="a", model="m", dataset="d", layers=[0], steps=1),
        EvaluateSpec(coders="c"),
        AttributeSpec(name="g", coders="c", prompt="p"),
        ImportCodersSpec(name="c", path="/c", model="m", bos="none"),
        ExportCodersSpec(coders="c", format="saelens"),
        ImportGraphSpec(name="g", path="/g.json", model="m", bos="none"),
        FaithfulnessSpec(graph="g"),
        PatchSpec(model="m", clean="a", corrupt="b"),
        EdgeSpec(graph="g", source="token@1", target="logit"),
        QKSpec(graph="g", head="L3H1", query=5, key=2),
        MeanEdgesSpec(coders="c", layer=3, feature=5),
        ConnectionsSpec(coders="c", layer=3, feature=0),
        PathsSpec(graph="g"),
        SteerSpec(graph="g", edits=[FeatureEdit(layer=0, feature=0, operation="ablate")]),
    ]
    assert {type(spec) for spec in specs} == set(get_args(get_args(JobSpec)[0]))
    for spec in specs:
        said = estimate(spec, FACTS).timed([])
        nulls = {name for name in ("memory", "disk", "flops", "tokens", "time_s") if getattr(said, name) is None}
        assert nulls == set(said.unknown)
        assert Estimate.model_validate_json(said.model_dump_json()) == said
        assert (said.memory is None) == (said.memory_bytes is None)
        assert (said.disk is None) == (said.disk_bytes is None)
