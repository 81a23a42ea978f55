"""One stream of activations, many coders."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from clew.coders import Coder, save_coder
from clew.coders.store import CODER_FILES
from clew.data import Dataset
from clew.models import Model
from clew.reporting import Report, Silent, StopRequested
from clew.training.activations import coder_key, route
from clew.training.checkpoint import CoderState, Memory, RunState, read_checkpoint, write_checkpoint
from clew.training.checks import check, check_finite, check_losses, check_weights
from clew.training.harvest import Harvest
from clew.training.heldout import heldout_fvu
from clew.training.initial import first_coders
from clew.training.learner import Learner, Told
from clew.training.optimizer import rate_at
from clew.training.stream import TokenStream
from clew_spec.results import Lineage, TrainedCoder
from clew_spec.training import TrainSpec

OnCheckpoint = Callable[[int, Path], None]


def train(
    model: Model,
    dataset: Dataset,
    spec: TrainSpec,
    *,
    model_digest: str,
    tokenizer_digest: str,
    lineage: Lineage,
    out: Path,
    on_checkpoint: OnCheckpoint | None = None,
    resume: Path | None = None,
    report: Report | None = None,
    prefetch: bool | None = None,
) -> list[TrainedCoder]:
    """Train a coder for each of `spec.layers`, or each of `spec.coders` there, all from one forward pass a step.

    They are stored in `out/coders/L03`, ..., or `out/coders/L03.k16` where variants have names. The loss of each is
    its spec's. Adam works in the units of each layer's activations, so one learning rate serves all layers. The seed
    decides everything: a coder is the same whichever others are trained along, and a run that is resumed from a
    checkpoint ends with the same bits as one that never stopped (on one CPU thread). The model is the caller's, loaded
    in `spec.dtype`; coders are trained and stored in float32, multiplied with in bfloat16 where that is the dtype.
    `prefetch` reads the next step's activations while coders learn; if not given, on CUDA. The bits are the same.

    `on_checkpoint(step, folder)` is given a complete folder under `out/checkpoints`, its own from then on. Metrics of
    step s are reported before its checkpoint: `L03/fvu`, `L03/l0` and each term of the loss, of the batch that step s
    learnt from, `lr`, `tokens_per_s`; `L03/heldout_fvu` after it.

    Raises:
        InvalidSpec: a layer, the batch or the dataset does not fit the model; `resume` is of another run; or the loss,
            a weight or a held-out FVU is no longer finite, which no checkpoint ever holds.
        StopRequested: the report asked to stop; a checkpoint of the last complete step has been handed over, unless its
            `step` is None: then there was nothing yet to keep.
    """
    report = report or Silent()
    check(model, dataset, spec, tokenizer_digest)
    context = dataset.manifest.context
    digests = {"model_digest": model_digest, "dataset_digest": dataset.manifest.digest}
    stream = TokenStream(dataset.train, rows_per_step=spec.tokens_per_step // context, seed=spec.seed)
    tokens_per_step = stream.rows_per_step * context
    silence: dict[str, Tensor] = {}
    memory: dict[str, Memory] = {}
    if resume is None:
        coders, units = first_coders(model, stream, spec, dataset, model_digest, tokenizer_digest, report)
    else:
        state, coders, silence, memory = read_checkpoint(resume, spec=spec, **digests, device=model.device)
        units = {key: of_coder.units for key, of_coder in state.coders.items()}
    sets = writing_together(coders)
    low_precision = spec.dtype == "bfloat16"
    learners = [
        Learner(
            {key: coders[key] for key in keys},
            units,
            spec.optimizer,
            low_precision=low_precision,
            silence=silence,
            memory=memory,
        )
        for keys in sets
    ]

    def on_heldout() -> dict[str, float]:
        together = [learner.coders for learner in learners]
        return heldout_fvu(model, together, dataset.heldout, tokens=spec.evaluate_tokens)

    if resume is None:
        fvu = on_heldout()
        check_finite(0, _named("heldout_fvu", fvu))
        states = {
            key: CoderState(config=coder.config, units=units[key], fvu_first=fvu[key], fvu_last=fvu[key])
            for key, coder in coders.items()
        }
        state = RunState(spec=spec, **digests, coders=states)
        report.metric(0, _named("heldout_fvu", fvu))

    def checkpoint() -> None:
        check_weights(state.step, coders)
        folder = out / "checkpoints" / f"{state.step:08d}"
        silent = {key: each for learner in learners for key, each in learner.silence.items()}
        remembered = {key: each for learner in learners for key, each in learner.memory().items()}
        write_checkpoint(folder, state, coders, silent, remembered)
        if on_checkpoint is not None:
            on_checkpoint(state.step, folder)

    def learn(rate: float, *, last: bool) -> dict[str, Told]:
        """One step of every coder. Where memory runs out, those that have not learnt go on in smaller parts."""
        told: dict[str, Told] = {}
        while len(told) < len(coders):
            waiting = [learner for learner in learners if not learner.coders.keys() <= told.keys()]
            try:
                for learner in waiting:
                    learner.begin(state.step, rate=rate, shrink=harvest.shrink)
                for each, x_ND, y_ND in harvest.step(state.step, last=last):
                    for learner in waiting:
                        if each in learner.routes:
                            told |= learner.at(each, x_ND, y_ND)
            except torch.OutOfMemoryError:
                if any(learner.half_learnt for learner in learners) or not harvest.slower():
                    raise
                state.shrink = harvest.shrink
                report.log(
                    f"memory ran out in step {state.step}: from here on nothing is read ahead, and a batch is taken in "
                    f"{state.shrink} times as many parts",
                    "warning",
                )
                if model.device.type == "cuda":
                    torch.cuda.empty_cache()
        return told

    speed = _Speed()
    routes = [route(coder.layer, coder.hooks) for coder in coders.values()]
    ahead = model.device.type == "cuda" if prefetch is None else prefetch
    with Harvest(model, stream, routes, ahead=ahead and state.shrink == 1, shrink=state.shrink) as harvest:
        while state.step < spec.steps:
            if report.stop_requested():
                checkpoint()
                raise StopRequested(state.step)

            rate = rate_at(spec.optimizer, state.step, spec.steps)
            last = state.step + 1 == spec.steps
            told = learn(rate, last=last)
            state.step += 1
            state.epoch, state.cursor = stream.position(state.step)
            speed.count(tokens_per_step)
            check_losses(state.step, told, lambda: stream.row_numbers(state.step - 1))

            metrics: dict[str, float] = {}
            if state.step % spec.log_every == 0 or last:
                for key, of_coder in told.items():
                    terms = {"fvu": of_coder.fvu} | of_coder.terms | {"l0": of_coder.l0}
                    metrics |= {f"{key}/{name}": float(value) for name, value in terms.items()}
                metrics |= {"lr": rate, "tokens_per_s": speed.lap()}
            if state.step % spec.evaluate_every == 0 or last:
                with speed.paused():
                    harvest.settle()
                    fvu = on_heldout()
                for key, of_state in state.coders.items():
                    of_state.fvu_last = fvu[key]
                metrics |= _named("heldout_fvu", fvu)
            check_finite(state.step, metrics)
            if metrics:
                report.metric(state.step, metrics)
            report.progress("training", state.step * tokens_per_step, spec.steps * tokens_per_step, "tokens")
            if state.step % spec.checkpoint_every == 0 and not last:
                with speed.paused():
                    checkpoint()
    return _store(out, state, coders, lineage)


def writing_together(coders: Mapping[str, Coder]) -> list[list[str]]:
    """Keys of coders whose losses are one: each per-layer coder alone, a cross-layer transcoder's all together."""
    sets: dict[str, list[str]] = {}
    for key, coder in coders.items():
        crosses = coder.config.kind == "cross-layer-transcoder"
        sets.setdefault(key.partition(".")[2] if crosses else key, []).append(key)
    return list(sets.values())


class _Speed:
    """Tokens a second of the steps themselves."""

    def __init__(self) -> None:
        self._tokens, self._since = 0, time.perf_counter()

    def count(self, tokens: int) -> None:
        self._tokens += tokens

    def lap(self) -> float:
        now = time.perf_counter()
        rate = self._tokens / (now - self._since)
        self._tokens, self._since = 0, now
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start


def _named(metric: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{key}/{metric}": value for key, value in values.items()}


def _store(out: Path, state: RunState, coders: dict[str, Coder], lineage: Lineage) -> list[TrainedCoder]:
    trained = []
    for layer in state.spec.layers:
        for variant, _ in state.spec.variants:
            key = coder_key(layer, variant)
            digest = save_coder(coders[key], out / "coders" / key, lineage)
            trained.append(
                TrainedCoder(
                    layer=layer,
                    variant=variant,
                    digest=digest,
                    config=coders[key].config,
                    files=[f"coders/{key}/{file}" for file in CODER_FILES],
                    fvu_first=state.coders[key].fvu_first,
                    fvu_last=state.coders[key].fvu_last,
                )
            )
    return trained
