"""Any valid spec, for tests that hold for every one of them."""

from typing import Any

from hypothesis import strategies as st

from clew_spec.attribution import AttributeSpec
from clew_spec.coders import BatchTopK, CoderSpec, JumpReLU, ReLU, TopK
from clew_spec.connections import ConnectionsSpec, head_of
from clew_spec.datasets import BuildDatasetSpec, HubSource, JsonlSource, ParquetSource, PydocSource, TextSource
from clew_spec.edges import EdgeSpec
from clew_spec.evaluation import EvaluateSpec
from clew_spec.exporting import ExportCodersSpec
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.importing import ImportCodersSpec
from clew_spec.importing_graphs import ImportGraphSpec
from clew_spec.jobs import JobRequest, Requests
from clew_spec.losses import AuxK, LossSpec
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.models import ImportModelSpec
from clew_spec.patching import PatchSpec
from clew_spec.paths import FeatureRoot, LogitRoot, PathsSpec
from clew_spec.qk import QKSpec
from clew_spec.training import OptimizerSpec, TrainSpec

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
refs = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", fullmatch=True)
packages = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
seeds = st.integers(0, 2**32 - 1)


def counts(low: int = 1, high: int = 10**6) -> st.SearchStrategy[int]:
    return st.integers(low, high)


coders = st.integers(1, 2**22).flatmap(
    lambda width: st.builds(
        CoderSpec,
        kind=st.sampled_from(["transcoder", "skip-transcoder", "sae"]),
        activation=st.one_of(
            st.builds(TopK, k=st.integers(1, width)),
            st.builds(BatchTopK, k=st.integers(1, width)),
            st.builds(JumpReLU, threshold=st.floats(0, 9)),
            st.builds(ReLU),
        ),
        n_features=st.just(width),
        loss=st.builds(
            LossSpec,
            fidelity=st.sampled_from(["fvu", "mse", "norm-scaled"]),
            sparsity=st.just("l1"),
            sparsity_weight=st.floats(0, 9),
            auxk=st.none() | st.builds(AuxK, k=counts()),
        ),
    )
)

optimizers = st.builds(
    OptimizerSpec,
    lr=st.floats(0, 1, exclude_min=True),
    warmup_steps=counts(0),
    decay_fraction=st.floats(0, 1),
    betas=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
)

sources = st.one_of(
    st.builds(PydocSource, packages=st.lists(packages, min_size=1, max_size=4)),
    st.builds(TextSource, path=words, separator=st.none() | st.sampled_from(["", "<|end|>", "* * *"])),
    st.builds(JsonlSource, path=words, field=words),
    st.builds(ParquetSource, path=words, field=words),
    st.builds(
        HubSource,
        repo=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}/[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        config=st.none() | st.just("sample-10BT"),
        split=st.sampled_from(["train", "test"]),
        revision=st.none() | st.sampled_from(["main", "refs/convert/parquet"]),
        field=words,
        shuffle_buffer=counts(0, 100_000),
    ),
)

specs: st.SearchStrategy[Any] = st.one_of(
    st.builds(ImportModelSpec, name=names, path=words),
    st.builds(
        BuildDatasetSpec,
        name=names,
        model=refs,
        source=sources,
        context=counts(8, 8192),
        bos=words,
        max_tokens=counts(),
        heldout_fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
        seed=seeds,
    ),
    st.builds(
        TrainSpec,
        name=names,
        model=refs,
        dataset=refs,
        layers=st.lists(st.integers(0, 200), min_size=1, max_size=20, unique=True),
        coder=coders,
        optimizer=optimizers,
        steps=counts(1, 10**7),
        tokens_per_step=counts(16),
        seed=seeds,
        dtype=st.sampled_from(["float32", "bfloat16"]),
    ),
    st.builds(
        ImportCodersSpec,
        name=names,
        path=words,
        format=st.sampled_from(["auto", "saelens", "paper"]),
        model=refs,
        bos=words,
        dataset=st.none() | refs,
        layer=st.none() | counts(0, 99),
        hook_in=st.sampled_from([None, "mlp.in", "mlp.normed"]),
        hook_out=st.sampled_from([None, "mlp.out"]),
    ),
    st.builds(
        ExportCodersSpec,
        coders=refs,
        format=st.sampled_from(["clew", "saelens", "sparsify", "circuit-tracer"]),
        model_name=words,
        dataset=st.none() | refs,
        tokens=counts(256),
    ),
    st.builds(
        ImportGraphSpec,
        name=names,
        path=words,
        format=st.sampled_from(["auto", "neuronpedia", "circuit-tracer"]),
        model=refs,
        bos=words,
        view_nodes=counts(1, 5000),
    ),
    st.builds(EvaluateSpec, coders=refs, dataset=st.none() | refs, tokens=counts(16), rows_per_batch=counts()),
    st.builds(
        FaithfulnessSpec,
        graph=refs,
        nodes=counts(2, 1000),
        ablation=st.sampled_from(["zero", "mean"]),
        paraphrases=st.lists(words, min_size=3, max_size=5) | st.just([]),
        seed=seeds,
    ),
    st.builds(EdgeSpec, graph=refs, source=st.sampled_from(["token@3", "L1/F5@2", "77"]), target=st.just("logit@1")),
    st.builds(
        QKSpec,
        graph=refs,
        head=st.sampled_from(["L0H1", "L12H11"]),
        query=counts(0),
        key=counts(0),
        against=st.none() | counts(0),
        top=counts(1, 5000),
    ),
    st.builds(
        MeanEdgesSpec,
        coders=refs,
        layer=counts(0, 99),
        feature=counts(0),
        dataset=st.none() | refs,
        tokens=counts(16),
        firings=counts(1, 1000),
        capped=st.booleans(),
    ),
    st.builds(
        PatchSpec,
        model=refs,
        clean=words,
        corrupt=words,
        answer=st.none() | words,
        places=st.lists(st.sampled_from(["resid", "head.out", "head.value"]), min_size=1, unique=True),
        layers=st.none() | st.lists(st.integers(0, 99), min_size=1, unique=True),
        metric=st.sampled_from(["logit-difference", "probability", "kl"]),
        prompts_per_batch=counts(1, 4096),
    ),
    st.builds(
        ConnectionsSpec,
        coders=refs,
        layer=counts(0, 99),
        feature=counts(0),
        upstream=counts(0, 1000),
        heads=st.none() | st.lists(st.from_regex(r"L[0-9]{1,2}H[0-9]", fullmatch=True), min_size=1, unique_by=head_of),
        tokens=counts(0, 1000),
    ),
    st.builds(
        PathsSpec,
        graph=refs,
        root=st.none()
        | st.builds(FeatureRoot, layer=counts(0), feature=counts(0), position=counts(0))
        | st.builds(LogitRoot, token=words, minus=st.none() | words),
        paths=counts(1, 5000),
        max_length=st.none() | counts(1, 64),
        through_features=st.booleans(),
    ),
    st.builds(
        AttributeSpec,
        name=names,
        coders=refs,
        prompt=words,
        bos=st.none() | words,
        max_logits=counts(1, 100),
        desired_logit_prob=st.floats(0, 1, exclude_min=True),
        max_nodes=counts(1, 100_000),
        position_0=st.sampled_from(["error", "features", "left-out"]),
        targets=st.none() | st.lists(words, min_size=1, max_size=3),
    ),
)

requests = st.builds(
    JobRequest,
    spec=specs,
    priority=st.sampled_from(["low", "normal", "high"]),
    max_retries=st.integers(0, 10),
    reuse=st.booleans(),
    visibility=st.sampled_from(["project", "lab"]),
    requests=st.builds(
        Requests,
        gpus=st.none() | st.integers(0, 1),
        gpu_memory_bytes=st.none() | st.integers(0, 2**40),
        cpus=st.none() | st.integers(0, 512),
        memory_bytes=st.none() | st.integers(0, 2**40),
    ),
)

EVALUATE = JobRequest(spec=EvaluateSpec(coders="demo"))
