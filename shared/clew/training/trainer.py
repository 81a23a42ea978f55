"""One stream of activations, many coders."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clew.coders import Coder, save_coder
from clew.coders.store import CODER_FILES
from clew.data import Dataset
from clew.models import Model
from clew.reporting import Report, Silent, StopRequested, layer_metric
from clew.training.activations import activations
from clew.training.checkpoint import LayerState, Memory, RunState, read_checkpoint, write_checkpoint
from clew.training.checks import check, check_finite, check_weights
from clew.training.gradients import loss_and_gradients
from clew.training.heldout import heldout_fvu
from clew.training.initial import first_coders
from clew.training.optimizer import adam, rate_at, set_rate
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
) -> list[TrainedCoder]:
    """Train a coder for each of `spec.layers`, all from one forward pass a step, and store it in `out/coders/L03`, ...

    The loss of each is its FVU on the batch. Adam works in the units of each layer's activations, so one learning rate
    serves all layers. The seed decides everything: a coder is the same whichever others are trained along, and a run
    that is resumed from a checkpoint ends with the same bits as one that never stopped (on one CPU thread). The model
    is the caller's, loaded in `spec.dtype`; coders are trained and stored in float32.

    `on_checkpoint(step, folder)` is given a complete folder under `out/checkpoints`, its own from then on. Metrics of
    step s are reported before its checkpoint: `L03/fvu` and `L03/l0` of the batch that step s learnt from, `lr`,
    `tokens_per_s`; `L03/heldout_fvu` after it.

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
        fvu = on_heldout(coders)
        check_finite(0, _named("heldout_fvu", fvu))
        layers = {
            layer: LayerState(config=coder.config, units=units[layer], fvu_first=fvu[layer], fvu_last=fvu[layer])
            for layer, coder in coders.items()
        }
        state = RunState(spec=spec, **digests, layers=layers)
        memory: Memory = {}
        report.metric(0, _named("heldout_fvu", fvu))
    else:
        state, coders, memory = read_checkpoint(resume, spec=spec, **digests, device=model.device)
    optimizer = adam(coders, {layer: of_layer.units for layer, of_layer in state.layers.items()}, spec.optimizer)
    optimizer.state.update(memory)

    def checkpoint() -> None:
        check_weights(state.step, coders)
        folder = out / "checkpoints" / f"{state.step:08d}"
        write_checkpoint(folder, state, coders, optimizer)
        if on_checkpoint is not None:
            on_checkpoint(state.step, folder)

    speed = _Speed()
    while state.step < spec.steps:
        if report.stop_requested():
            checkpoint()
            raise StopRequested(state.step)

        tokens_BT = stream.batch(state.step)
        rate = rate_at(spec.optimizer, state.step, spec.steps)
        losses = {}
        for layer, x_ND, y_ND in activations(model, tokens_BT, spec.layers):
            losses[layer] = loss_and_gradients(coders[layer], x_ND, y_ND)
            for name, parameter in coders[layer].parameters().items():
                parameter.grad = losses[layer].gradients[name]
        set_rate(optimizer, rate)
        optimizer.step()
        state.step += 1
        state.epoch, state.cursor = stream.position(state.step)
        speed.count(tokens_per_step)

        last = state.step == spec.steps
        metrics: dict[str, float] = {}
        if state.step % spec.log_every == 0 or last:
            metrics |= _named("fvu", {layer: float(loss.fvu) for layer, loss in losses.items()})
            metrics |= _named("l0", {layer: float(loss.l0) for layer, loss in losses.items()})
            metrics |= {"lr": rate, "tokens_per_s": speed.lap()}
        if state.step % spec.evaluate_every == 0 or last:
            with speed.paused():
                fvu = on_heldout(coders)
            for layer, of_layer in state.layers.items():
                of_layer.fvu_last = fvu[layer]
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


def _named(metric: str, values: Mapping[int, float]) -> dict[str, float]:
    return {layer_metric(layer, metric): value for layer, value in values.items()}


def _store(out: Path, state: RunState, coders: dict[int, Coder], lineage: Lineage) -> list[TrainedCoder]:
    trained = []
    for layer, coder in coders.items():
        name = f"coders/L{layer:02d}"
        digest = save_coder(coder, out / name, lineage)
        of_layer = state.layers[layer]
        trained.append(
            TrainedCoder(
                layer=layer,
                digest=digest,
                config=coder.config,
                files=[f"{name}/{file}" for file in CODER_FILES],
                fvu_first=of_layer.fvu_first,
                fvu_last=of_layer.fvu_last,
            )
        )
    return trained
