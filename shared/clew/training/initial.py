"""Where training starts: features that already stand for something seen.

A feature begins as one token of the first batches: its encoder is the direction in which that token's x departs from
the mean, its decoder the direction in which its y does. The encoder bias takes the mean off the input, one scale fitted
by least squares makes the first reconstruction sane whatever the layer's units, `b_dec` is the mean output, and
`W_skip` and the decoders for later layers are 0. Coders of one width at one place begin alike, whatever else they are
asked to be.
"""

from bisect import bisect_left
from dataclasses import replace

import torch
from torch import Tensor

from clew.coders import Coder
from clew.coders.coder import decoder_name
from clew.data import Dataset
from clew.models import Model
from clew.reporting import Report, StopRequested
from clew.training.activations import Activations, Route, coder_key, route
from clew.training.encoding import speak
from clew.training.losses import fidelity_unit
from clew.training.optimizer import Units
from clew.training.stream import TokenStream, seeded
from clew.training.watch import calibrate
from clew_spec.chunks import FIRST_LOOK_TOKENS, LEAST_TOKENS, tokens_at_once
from clew_spec.coders import BatchTopK, CoderConfig, CoderSpec, JumpReLU
from clew_spec.losses import LossSpec
from clew_spec.training import TrainSpec


def first_coders(
    model: Model,
    stream: TokenStream,
    spec: TrainSpec,
    dataset: Dataset,
    model_digest: str,
    tokenizer_digest: str,
    report: Report,
) -> tuple[dict[str, Coder], dict[str, Units]]:
    """The coders and their units by key, from the batches that the first steps will see."""
    places = {(layer, variant): coder for layer in spec.layers for variant, coder in spec.variants}
    wanted = {
        coder_key(*place): (route(place[0], (coder.hook_in, coder.writes)), coder) for place, coder in places.items()
    }
    seen: dict[Route, list[tuple[Tensor, Tensor]]] = {each: [] for each, _ in wanted.values()}
    ends: list[int] = []
    """Tokens seen after each batch."""

    def batches_for(coder: CoderSpec) -> int:
        # One batch more than the features are drawn from, to fit their scale on.
        return bisect_left(ends, min(coder.n_features, FIRST_LOOK_TOKENS)) + 2

    most = max((coder for _, coder in wanted.values()), key=lambda coder: coder.n_features)
    while len(ends) < batches_for(most):
        if report.stop_requested():
            raise StopRequested
        tokens = ends[-1] if ends else 0
        report.progress("first look at the activations", tokens, min(most.n_features, FIRST_LOOK_TOKENS), "tokens")
        for each, x_ND, y_ND in Activations(model, stream.batch(len(ends)), list(seen)):
            seen[each].append((x_ND, y_ND))
        ends.append(tokens + len(x_ND))
    coders, units = {}, {}
    for each in list(seen):
        x_ND, y_ND = (torch.cat(parts) for parts in zip(*seen.pop(each), strict=True))
        for key, (of_coder, coder) in wanted.items():
            if of_coder != each:
                continue
            ((layer, hook_in), (_, hook_out)) = each
            config = CoderConfig(
                kind=coder.kind,
                activation=coder.activation,
                n_features=coder.n_features,
                d_in=x_ND.shape[1],
                d_out=y_ND.shape[1],
                layer=layer,
                later_layers=[later for later in spec.layers if later > layer] if crosses(coder) else [],
                hook_in=hook_in,
                hook_out=hook_out,
                centred=coder.kind == "sae",
                loss=coder.loss,
                dtype=str(x_ND.dtype).removeprefix("torch."),
                model_digest=model_digest,
                tokenizer_digest=tokenizer_digest,
                dataset_digest=dataset.manifest.digest,
                bos=dataset.manifest.bos,
                attention=dataset.manifest.attention,
            )
            last = batches_for(coder) - 1
            own, fit = slice(ends[last]), slice(ends[last - 1], ends[last])
            generator = seeded(spec.seed, f"first/{layer}")
            coders[key], units[key] = first_coder(
                config, x_ND[own], y_ND[own], fit, generator, unit_norm=spec.optimizer.decoder_rows == "unit-norm"
            )
    for (layer, variant), coder in places.items():
        if crosses(coder):
            later = {each: units[coder_key(each, variant)].y for each in spec.layers if each > layer}
            units[coder_key(layer, variant)] = replace(units[coder_key(layer, variant)], y_later=later)
    return {key: coders[key] for key in wanted}, {key: units[key] for key in wanted}


def crosses(coder: CoderSpec) -> bool:
    return coder.kind == "cross-layer-transcoder"


def first_coder(
    config: CoderConfig,
    x_ND: Tensor,
    y_ND: Tensor,
    fit: slice,
    generator: torch.Generator,
    *,
    unit_norm: bool = False,
) -> tuple[Coder, Units]:
    """A coder made from inputs and outputs, and its units. Tokens of `fit` only set scale and threshold."""
    device, dtype = x_ND.device, x_ND.dtype
    mean_x_D, mean_y_D = x_ND.mean(0), y_ND.mean(0)
    fidelity = (config.loss or LossSpec()).fidelity
    x, y = _spread(x_ND - mean_x_D), _spread(y_ND - mean_y_D)
    units = Units(x=x, y=y, loss=fidelity_unit(fidelity, y, config.d_out))

    candidates = torch.ones(len(x_ND), dtype=torch.bool)
    candidates[fit] = False
    drawn = torch.randperm(int(candidates.sum()), generator=generator)[: config.n_features]
    tokens = candidates.nonzero()[drawn, 0].to(device)
    n_random = config.n_features - len(tokens)

    def directions(seen_ND: Tensor, mean_D: Tensor) -> Tensor:
        random_ND = torch.randn(n_random, len(mean_D), generator=generator, dtype=torch.float64)
        rows_FD = torch.cat([seen_ND[tokens] - mean_D, random_ND.to(device, dtype)])
        norms_F1: Tensor = rows_FD.norm(dim=1, keepdim=True)
        return rows_FD / norms_F1.clamp_min(torch.finfo(dtype).tiny)

    W_enc = directions(x_ND, mean_x_D) / units.x
    W_dec = directions(y_ND, mean_y_D) * units.y
    b_enc = -W_enc @ mean_x_D
    weights = {"W_enc": W_enc, "b_enc": torch.zeros_like(b_enc) if config.centred else b_enc}
    weights |= {"W_dec": W_dec, "b_dec": mean_y_D}
    if config.kind == "skip-transcoder":
        weights["W_skip"] = W_dec.new_zeros(config.d_out, config.d_in)
    weights |= {decoder_name(layer): torch.zeros_like(W_dec) for layer in config.later_layers}
    if isinstance(config.activation, JumpReLU):
        weights["threshold"] = W_dec.new_full((config.n_features,), config.activation.threshold)
    if isinstance(config.activation, BatchTopK):
        weights["threshold"] = W_dec.new_zeros(1)
    coder = Coder.of(config, weights)
    if isinstance(config.activation, BatchTopK):
        calibrate(coder, speak(coder, x_ND[fit]).values_NK, step=0)
    chunks = torch.split(x_ND[fit], tokens_at_once(config.activation, config.n_features, LEAST_TOKENS, device.type))
    reading_ND, target_ND = torch.cat([coder.forward(x_CD) for x_CD in chunks]) - mean_y_D, y_ND[fit] - mean_y_D
    scale = (reading_ND * target_ND).sum() / reading_ND.square().sum().clamp_min(torch.finfo(dtype).tiny)
    W_dec *= scale
    return _with_unit_rows(coder, units) if unit_norm else (coder, units)


def _with_unit_rows(coder: Coder, units: Units) -> tuple[Coder, Units]:
    """The same function with decoder rows of norm 1: all rows have one norm, which goes to what they read."""
    norm = max(float(coder.W_dec.norm(dim=1).max()), torch.finfo(coder.W_dec.dtype).tiny)
    weights = coder.parameters()
    weights |= {name: weights[name] * norm for name in ("W_enc", "b_enc", "threshold") if name in weights}
    weights["W_dec"] = weights["W_dec"] / norm
    config = coder.config
    if isinstance(jump := config.activation, JumpReLU):
        scaled = JumpReLU(threshold=jump.threshold * norm, bandwidth=jump.bandwidth * norm)
        config = config.model_copy(update={"activation": scaled})
    return Coder.of(config, weights), replace(units, z=norm)


def _spread(centred_ND: Tensor) -> float:
    return max(float(centred_ND.double().square().mean().sqrt()), 1e-12)
