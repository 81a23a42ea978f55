"""One stream of activations, many coders."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from clew.coders import Coder, save_coder
from clew.coders.store import CODER_FILES
from clew.data import Dataset
from clew.models import Model
from clew.reporting import Report, Silent, StopRequested
from clew.training.activations import activations, coder_key, route
from clew.training.checkpoint import CoderState, Memory, RunState, read_checkpoint, write_checkpoint
from clew.training.checks import check, check_finite, check_weights
from clew.training.gradients import loss_and_gradients
from clew.training.heldout import heldout_fvu
from clew.training.initial import first_coders
from clew.training.losses import sparsity_weight
from clew.training.optimizer import adam, hold, learned, prepare_gradients, rate_at, set_rate
from clew.training.stream import TokenStream
from clew.training.watch import calibrate, count_silence
from clew_spec.losses import LossSpec
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
) -> list[TrainedCoder]:
    """Train a coder for each of `spec.layers`, or each of `spec.coders` there, all from one forward pass a step.

    They are stored in `out/coders/L03`, ..., or `out/coders/L03.k16` where variants have names. The loss of each is
    its spec's. Adam works in the units of each layer's activations, so one learning rate serves all layers. The seed
    decides everything: a coder is the same whichever others are trained along, and a run that is resumed from a
    checkpoint ends with the same bits as one that never stopped (on one CPU thread). The model is the caller's, loaded
    in `spec.dtype`; coders are trained and stored in float32.

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
    on_heldout = partial(
        heldout_fvu,
        model,
        rows=dataset.heldout,
        tokens=spec.evaluate_tokens,
        rows_per_batch=stream.rows_per_step,
    )
    if resume is None:
        coders, units = first_coders(model, stream, spec, dataset, model_digest, tokenizer_digest, report)
        silence = {key: _no_silence(coder) for key, coder in coders.items() if _loss(coder).auxk}
        fvu = on_heldout(coders)
        check_finite(0, _named("heldout_fvu", fvu))
        states = {
            key: CoderState(config=coder.config, units=units[key], fvu_first=fvu[key], fvu_last=fvu[key])
            for key, coder in coders.items()
        }
        state = RunState(spec=spec, **digests, coders=states)
        memory: Memory = {}
        report.metric(0, _named("heldout_fvu", fvu))
    else:
        state, coders, silence, memory = read_checkpoint(resume, spec=spec, **digests, device=model.device)
        units = {key: of_coder.units for key, of_coder in state.coders.items()}
    optimizer = adam(coders, units, spec.optimizer)
    optimizer.state.update(memory)
    routes = {key: route(coder.layer, coder.hooks) for key, coder in coders.items()}

    def checkpoint() -> None:
        check_weights(state.step, coders)
        folder = out / "checkpoints" / f"{state.step:08d}"
        write_checkpoint(folder, state, coders, silence, optimizer)
        if on_checkpoint is not None:
            on_checkpoint(state.step, folder)

    def learn(key: str, x_ND: Tensor, y_ND: Tensor) -> dict[str, Tensor]:
        coder, loss = coders[key], _loss(coders[key])
        weight = sparsity_weight(loss, state.step)
        dead_F = silence[key] >= loss.auxk.dead_after_tokens if loss.auxk else None
        found = loss_and_gradients(coder, x_ND, y_ND, loss, weight, dead_F)
        prepare_gradients(coder, found.gradients, units[key], spec.optimizer)
        for name, parameter in learned(coder).items():
            parameter.grad = found.gradients[name]
        calibrate(coder, found.values_NK, step=state.step + 1)
        if key in silence:
            count_silence(silence[key], found.indices_NK, found.values_NK)
        # What was active can be far larger than the weights: it goes before the next coder learns.
        return {"fvu": found.fvu} | found.terms | {"l0": found.l0}

    speed = _Speed()
    while state.step < spec.steps:
        if report.stop_requested():
            checkpoint()
            raise StopRequested(state.step)

        tokens_BT = stream.batch(state.step)
        rate = rate_at(spec.optimizer, state.step, spec.steps)
        found: dict[str, dict[str, Tensor]] = {}
        for each, x_ND, y_ND in activations(model, tokens_BT, list(routes.values())):
            found |= {key: learn(key, x_ND, y_ND) for key in coders if routes[key] == each}
        set_rate(optimizer, rate)
        optimizer.step()
        for coder in coders.values():
            hold(coder, spec.optimizer)
        state.step += 1
        state.epoch, state.cursor = stream.position(state.step)
        speed.count(tokens_per_step)

        last = state.step == spec.steps
        metrics: dict[str, float] = {}
        if state.step % spec.log_every == 0 or last:
            for key, of_coder in found.items():
                metrics |= {f"{key}/{name}": float(value) for name, value in of_coder.items()}
            metrics |= {"lr": rate, "tokens_per_s": speed.lap()}
        if state.step % spec.evaluate_every == 0 or last:
            with speed.paused():
                fvu = on_heldout(coders)
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


def _loss(coder: Coder) -> LossSpec:
    return coder.config.loss or LossSpec()


def _no_silence(coder: Coder) -> Tensor:
    return torch.zeros(coder.config.n_features, dtype=torch.int64, device=coder.b_enc.device)


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
