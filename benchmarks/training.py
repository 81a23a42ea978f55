"""Training against sparsify and SAELens: SmolLM2-135M in float32, 4,096 tokens a step in rows of 256, 9,216 features.

Every side is a process with two threads, given the same token ids in the same order. A step of ours is all that it is
by default; held-out evaluation and checkpoints, which the peers do not have, fall outside the steps that are counted.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.child import Child
from benchmarks.rows import Row
from benchmarks.scoring import heldout_fvus, sparsify_coder
from benchmarks.subject import CONTEXT, ROWS_PER_STEP, SEED, STEPS, Subject, prepare
from clew.coders import load_coder
from clew_spec.coders import CoderSpec, TopK
from clew_spec.errors import Unavailable
from clew_spec.training import CoderVariant, OptimizerSpec, TrainSpec

LAYER = 10
N_LAYERS, D_MODEL = 30, 576
K = 32
FOUR_KS = (16, 32, 64, 128)
SPARSIFY, SAELENS = "eai-sparsify 1.3.3", "sae-lens 6.54.12"
PEER_LR, PEER_WARM_UP = 1e-3, 10
VOID_FVU = 0.9
"""A coder with a larger FVU has learnt too little to be compared."""
MEMORY_STEPS = 6
"""Ours logs at the fifth."""
NEVER = 10_000
TINY = 2
"""Layers, rows a step and steps of a run whose numbers mean nothing."""


def one_layer(bench: Bench) -> Row:
    """A TopK transcoder at layer 10."""
    ours, peer = _against(bench, "sparsify", layers=[LAYER], coder=_coder(bench), repetitions=7)
    return Row.of("training/one-layer", ours, peer, peer_name=SPARSIFY, op=">=", target=2.0, unit="tokens/s")


def all_layers(bench: Bench) -> Row:
    """A TopK transcoder at each of 30 layers, from one stream."""
    layers = list(range(TINY if bench.tiny else N_LAYERS))
    ours, peer = _against(bench, "sparsify", layers=layers, coder=_coder(bench), repetitions=3)
    return Row.of("training/all-layers", ours, peer, peer_name=SPARSIFY, op=">=", target=1.5, unit="tokens/s")


def sae(bench: Bench) -> Row:
    """A TopK SAE at the output of layer 10's MLP."""
    coder = CoderSpec(kind="sae", hook_in="mlp.out", n_features=_n_features(bench), activation=TopK(k=K))
    ours, peer = _against(bench, "saelens", layers=[LAYER], coder=coder, repetitions=7)
    return Row.of("training/sae", ours, peer, peer_name=SAELENS, op=">=", target=1.5, unit="tokens/s")


def four_coders(bench: Bench) -> Row:
    """Four transcoders at layer 10 on one stream, over the time of one."""
    subject = prepare(bench.cache)
    four = [CoderVariant(name=f"k{k}", **dict(_coder(bench, k))) for k in FOUR_KS]
    with _ours(bench, "ours-four") as ours_four, _ours(bench, "ours-one") as ours_one:
        ours_four.ask("setup", **_ours_setup(bench, subject, layers=[LAYER], coders=four))
        ours_one.ask("setup", **_ours_setup(bench, subject, layers=[LAYER], coder=_coder(bench)))
        of_four, of_one = bench.interleave(ours_four, ours_one, bench.repetitions(7))
    return Row.of(
        "training/four-coders",
        of_four,
        of_one,
        peer_name=f"ours, k={K} alone",
        op="<=",
        target=1.9,
        unit="s/step",
        note=f"k = {', '.join(map(str, FOUR_KS))}",
    )


def quality(bench: Bench) -> Row:
    """Held-out FVU after 100 steps: each side's weights, scored by the same evaluator on positions >= 1."""
    subject = prepare(bench.cache)
    steps = TINY if bench.tiny else STEPS
    bench.watch.expect(2 * steps)
    with _ours(bench) as ours:
        ours.ask("setup", **_ours_setup(bench, subject, layers=[LAYER], coder=_coder(bench), steps=steps))
        bench.steps_of(ours, steps)
        our_coder = load_coder(Path(ours.ask("finish")["coder"]))
    with bench.peer("sparsify") as peer:
        peer.ask("setup", **_peer_setup(bench, subject, layers=[LAYER], steps=steps))
        bench.steps_of(peer, steps)
        peer_coder = sparsify_coder(Path(peer.ask("finish")["coder"]), our_coder.config)
    fvu = heldout_fvus(subject, {"ours": our_coder, "peer": peer_coder})
    return Row.of(
        "training/quality",
        fvu["ours"],
        fvu["peer"],
        peer_name=SPARSIFY,
        compare="difference",
        op="<=",
        target=0.01,
        unit="FVU",
        void=None if max(fvu.values()) < VOID_FVU else f"an FVU is not below {VOID_FVU}",
        note=f"{steps} steps on the same tokens; ours: its defaults, lr {OptimizerSpec().lr:g} in units of the layer; "
        f"peer: Adam, lr {PEER_LR:g}, {PEER_WARM_UP} warm-up steps, zero decoder. Ours cannot be put in those terms: "
        "it has no such start, and its rate is in units of the layer",
    )


def memory(bench: Bench) -> Row:
    """The most that training adds to what model and text take, in fresh processes."""
    subject = prepare(bench.cache)
    steps = TINY if bench.tiny else MEMORY_STEPS
    bench.watch.expect(2 * steps)
    added = {}
    for name, side, arguments in (
        ("ours", _ours(bench), _ours_setup(bench, subject, layers=[LAYER], coder=_coder(bench))),
        ("peer", bench.peer("sparsify"), _peer_setup(bench, subject, layers=[LAYER])),
    ):
        with side:
            loaded = side.ask("setup", **arguments)["rss_bytes"]
            peak = bench.steps_of(side, steps)[-1]["peak_bytes"]
        if loaded is None:
            raise Unavailable("memory is read from /proc, which this system does not have", hint="run it on Linux")
        added[name] = (peak - loaded) / 2**20
    return Row.of(
        "training/memory",
        added["ours"],
        added["peer"],
        peer_name=SPARSIFY,
        op="<=",
        target=1.0,
        unit="MiB",
        note=f"VmHWM after {steps} steps minus VmRSS after load; VmHWM counts from the end of the load where the "
        "system allows that; peer: micro_acc_steps 1, its default",
    )


MEASURES: Mapping[str, Callable[[Bench], Row]] = {
    "one-layer": one_layer,
    "all-layers": all_layers,
    "sae": sae,
    "four-coders": four_coders,
    "quality": quality,
    "memory": memory,
}


def _against(
    bench: Bench, name: str, *, layers: list[int], coder: CoderSpec, repetitions: int
) -> tuple[list[float], list[float]]:
    """Tokens a second of the counted steps of ours and of a peer; tokens are those that the model reads."""
    subject = prepare(bench.cache)
    with _ours(bench) as ours, bench.peer(name) as peer:
        ours.ask("setup", **_ours_setup(bench, subject, layers=layers, coder=coder))
        peer.ask("setup", **_peer_setup(bench, subject, layers=layers))
        found = bench.interleave(ours, peer, bench.repetitions(repetitions))
    tokens = _rows_per_step(bench) * CONTEXT
    of_ours, of_peer = ([tokens / seconds for seconds in side] for side in found)
    return of_ours, of_peer


def _ours(bench: Bench, name: str = "ours") -> Child:
    return bench.ours("benchmarks.our_training", name)


def _ours_setup(bench: Bench, subject: Subject, *, steps: int = STEPS, **of_spec: Any) -> dict[str, Any]:
    spec = TrainSpec(
        name="benchmark",
        model="smollm2-135m",
        dataset="pydoc",
        steps=steps,
        tokens_per_step=_rows_per_step(bench) * CONTEXT,
        seed=SEED,
        evaluate_every=NEVER,
        checkpoint_every=NEVER,
        **of_spec,
    )
    return {
        "model": str(subject.model),
        "dataset": str(subject.dataset),
        "out": str(bench.cache / "runs" / "ours"),
        "spec": spec.model_dump(),
        **subject.identity(),
    }


def _peer_setup(bench: Bench, subject: Subject, *, layers: list[int], steps: int = STEPS) -> dict[str, Any]:
    return {
        "model": str(subject.model),
        "tokens": str(subject.tokens),
        "out": str(bench.cache / "runs" / "peer"),
        "layers": layers,
        "d_model": D_MODEL,
        "n_features": _n_features(bench),
        "k": K,
        "rows_per_step": _rows_per_step(bench),
        "steps": steps,
        "lr": PEER_LR,
        "warmup_steps": PEER_WARM_UP,
    }


def _coder(bench: Bench, k: int = K) -> CoderSpec:
    return CoderSpec(n_features=_n_features(bench), activation=TopK(k=k))


def _n_features(bench: Bench) -> int:
    return 256 if bench.tiny else 9216


def _rows_per_step(bench: Bench) -> int:
    return TINY if bench.tiny else ROWS_PER_STEP
