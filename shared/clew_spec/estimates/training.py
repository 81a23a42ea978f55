"""What a training job takes: the arithmetic of `clew.training`, moment by moment."""

import math
from math import prod

from clew_spec.chunks import FIRST_LOOK_TOKENS, LEAST_TOKENS, rows_at_once, tokens_at_once
from clew_spec.coders import BatchTopK, CoderSpec, JumpReLU
from clew_spec.estimates.report import DatasetFacts, Disk, Estimate, Memory, Part
from clew_spec.estimates.sizes import (
    FLOAT32,
    ITEM_BYTES,
    RUNTIME_BYTES,
    TOKEN_BYTES,
    coder_shapes,
    encoding_bytes,
    encoding_flops,
    forward_bytes,
    forward_flops,
    reconstructing_bytes,
    slots,
)
from clew_spec.results import ModelConfig
from clew_spec.training import TrainSpec

TOKENS, HELDOUT_TOKENS = "/spec/tokens_per_step", "/spec/evaluate_tokens"
PAIR = 32
"""Bytes that are kept of a (token, feature) pair until the coder learns: index and value, where it is among the pairs
in the order of features and of which token, and the gradient by its value."""


def train(spec: TrainSpec, model: ModelConfig, dataset: DatasetFacts, device: str) -> Estimate:
    run = _Run(spec, model, dataset, device)
    memory = max(run.moments(), key=lambda moment: moment.bytes)
    return Estimate.of(memory=memory, disk=run.disk(), flops=run.flops(), tokens=spec.steps * run.tokens)


class _Run:
    def __init__(self, spec: TrainSpec, model: ModelConfig, dataset: DatasetFacts, device: str) -> None:
        self.spec, self.model, self.dataset, self.device = spec, model, dataset, device
        self.item = ITEM_BYTES[spec.dtype]
        self.rows = spec.tokens_per_step // dataset.context
        self.tokens = self.rows * dataset.context
        self.learned = self.tokens - self.rows
        """N, at most: the first token of each row is left out, or of each document."""
        heldout_rows = dataset.heldout_tokens // dataset.context
        self.heldout_rows = min(math.ceil(spec.evaluate_tokens / dataset.context), heldout_rows)
        self.coders = [coder for _, coder in spec.variants]
        self.crossing = [coder for coder in self.coders if coder.kind == "cross-layer-transcoder"]
        self.parameters = sum(sum(self._parameters(coder)) for coder in self.coders)
        self.routes = {(coder.hook_in, coder.writes) for coder in self.coders}
        self.places = len({hook for route in self.routes for hook in route}) * len(spec.layers)
        self.width = model.d_model * FLOAT32
        """Bytes of one token of what coders read or write."""
        self.ahead = device == "cuda"
        self.of_coders = "/spec/coders" if spec.coders else "/spec/coder"
        self.of_layers = "/spec/layers" if len(spec.layers) > 1 else self.of_coders

    def moments(self) -> list[Memory]:
        always = [
            Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
            Part(name="model weights", bytes=self.model.n_parameters * self.item, field="/spec/model"),
            Part(name="coder weights", bytes=self.parameters * FLOAT32, field=self.of_layers),
        ]
        remembered = Part(name="what the optimiser remembers", bytes=self._remembered_bytes(), field=self.of_layers)
        return [
            Memory(moment="a training step", parts=[*always, remembered, *self._step()]),
            Memory(moment="held-out evaluation", parts=[*always, remembered, *self._heldout()]),
            Memory(moment="the first look at the activations", parts=[*always, *self._first_look()]),
        ]

    def _step(self) -> list[Part]:
        work = self._kept_bytes() + max(map(self._learning_bytes, self.coders))
        gradients = Part(name="gradients", bytes=self._gradient_bytes(), field=self.of_layers)
        learning = Part(name="buffers of the coder at work", bytes=work, field=TOKENS)
        reading = Part(name="a forward pass", bytes=self._reading_bytes(self.rows), field=TOKENS)
        batches = 2 if self.ahead else 1
        activations = Part(name="activations", bytes=batches * self._activation_bytes(self.rows), field=TOKENS)
        if self.ahead:
            return [gradients, activations, learning, reading]
        if gradients.bytes + learning.bytes > reading.bytes:
            return [gradients, activations, learning]
        return [activations, reading]

    def _heldout(self) -> list[Part]:
        rows = min(self.heldout_rows, rows_at_once(self.dataset.context, "cpu"))
        held = self._activation_bytes(rows) + self.ahead * self._activation_bytes(self.rows)
        n_tokens = rows * (self.dataset.context - 1)
        written = n_tokens * self.width * len(self.spec.layers) * len(self.crossing)
        coding = written + max(self._measuring_bytes(coder, n_tokens) for coder in self.coders)
        reading = self._reading_bytes(rows)
        return [
            Part(name="activations", bytes=held, field=TOKENS if self.ahead else HELDOUT_TOKENS),
            Part(name="buffers of the coder at work", bytes=coding, field=self.of_coders)
            if coding > reading
            else Part(name="a forward pass", bytes=reading, field=HELDOUT_TOKENS),
        ]

    def _first_look(self) -> list[Part]:
        """All batches that features are drawn from are held together; those of one place, cut and joined, twice."""
        of_token = 2 * self.width
        of_all = of_token * len(self.routes) * len(self.spec.layers)
        seen = self._first_tokens()
        spread = 5 * seen * self.width  # departures from the mean and their squares, in float64
        beginning = max(seen * of_token, spread, *(self._first_coder_bytes(coder) for coder in self.coders))
        # The last batch is read before it is held.
        reading = self._activation_bytes(self.rows) + self._reading_bytes(self.rows) - self.learned * of_all
        return [
            Part(name="activations of the first batches", bytes=seen * of_all, field=TOKENS),
            Part(name="the coder that begins", bytes=beginning, field=self.of_coders)
            if beginning > reading
            else Part(name="a forward pass", bytes=reading, field=TOKENS),
        ]

    def _activation_bytes(self, rows: int) -> int:
        """Of so many rows at every place, as the model computes them."""
        return self.places * rows * (self.dataset.context - 1) * self.model.d_model * self.item

    def _reading_bytes(self, rows: int) -> int:
        """Beyond the activations of so many rows: those of one pass until its tokens are picked; or the pass itself."""
        context = self.dataset.context
        rows = min(rows, rows_at_once(context, self.device))
        found = self.places * rows * context * self.model.d_model * self.item
        return found + max(0, forward_bytes(self.model, rows, context, self.item) - self._activation_bytes(rows))

    def _first_tokens(self) -> int:
        """Batches go on until there are enough, and one more; how many tokens each has is known once it is read."""
        widest = max(coder.n_features for coder in self.coders)
        return min(widest, FIRST_LOOK_TOKENS) + 2 * self.learned

    def _first_coder_bytes(self, coder: CoderSpec) -> int:
        random = max(0, coder.n_features - FIRST_LOOK_TOKENS)
        directions = self.model.d_model * (4 * coder.n_features * FLOAT32 + 12 * random)
        n_tokens = self._at_once(coder, LEAST_TOKENS)
        fit = 5 * self.learned * self.width + self._measuring_bytes(coder, n_tokens)
        if isinstance(coder.activation, BatchTopK):
            fit = max(fit, self._encoding_bytes(coder))
        return max(directions, fit)

    def _measuring_bytes(self, coder: CoderSpec, n_tokens: int) -> int:
        return reconstructing_bytes(coder.activation, coder.n_features, n_tokens, self.model.d_model)

    def _at_once(self, coder: CoderSpec, n_tokens: int) -> int:
        return min(self.learned, tokens_at_once(coder.activation, coder.n_features, n_tokens, self.device))

    def _encoding_bytes(self, coder: CoderSpec) -> int:
        """From inputs to active features, chunk by chunk: pre-activations, what is found; then chunks joined."""
        chunk = self._at_once(coder, self.learned)
        found = _pair_bytes(coder, 12) * slots(coder.activation, coder.n_features)
        pre = chunk * coder.n_features * self.item
        if coder.loss.auxk:
            pre *= 2
            found += 12 * min(coder.loss.auxk.k, coder.n_features)
        work = pre + encoding_bytes(coder.activation, coder.n_features, chunk)
        if self.item < FLOAT32:
            work = max(work, pre + (coder.n_features + chunk) * self.model.d_model * self.item)
        if chunk == self.learned:
            return work
        joining = 16 * self.learned * slots(coder.activation, coder.n_features)
        return self.learned * found + max(work, joining)

    def _kept_bytes(self) -> int:
        """What cross-layer transcoders keep of the layers below until their last one is met."""
        below = (len(self.spec.layers) - 1) * self.learned
        # When later layers are written to, each pair has a gradient and a number of its token besides.
        pairs = (_pair_bytes(coder, PAIR + 12) * slots(coder.activation, coder.n_features) for coder in self.crossing)
        return below * sum(pair + self.width for pair in pairs)

    def _learning_bytes(self, coder: CoderSpec) -> int:
        """What a step has beside gradients: inputs; encoding, or sums over the (token, feature) pairs, or the
        optimiser's work on the largest matrix."""
        n_tokens, k = self.learned, slots(coder.activation, coder.n_features)
        weights = coder.n_features * self.width
        summing = _pair_bytes(coder, PAIR + 14) * n_tokens * k + 4 * n_tokens * self.width
        if coder.loss.sparsity == "l1-decoder-norm":
            summing += weights
        if coder.loss.auxk:
            summing += 46 * n_tokens * min(coder.loss.auxk.k, coder.n_features) + 2 * weights
        optimising = 12 * n_tokens * k + self._optimising_matrices() * weights
        return 2 * n_tokens * self.width + max(self._encoding_bytes(coder), summing, optimising)

    def _optimising_matrices(self) -> int:
        """Copies of the largest matrix of weights that there are at once, in float32."""
        optimizer = self.spec.optimizer
        if optimizer.clip_norm is not None:
            return 4  # the gradient and its squares, in float64
        return max(2 * (optimizer.decoder_rows == "unit-norm"), optimizer.kind == "adafactor")

    def _shapes(self, coder: CoderSpec) -> list[list[tuple[int, ...]]]:
        return coder_shapes(coder, self.spec.layers, self.model.d_model)

    def _parameters(self, coder: CoderSpec) -> list[int]:
        return [sum(map(prod, shapes)) for shapes in self._shapes(coder)]

    def _gradient_bytes(self) -> int:
        """Of one per-layer coder, which has them until its own step; of cross-layer transcoders all together."""
        together = sum(sum(self._parameters(coder)) for coder in self.crossing)
        alone = (max(self._parameters(coder)) for coder in self.coders if coder not in self.crossing)
        return (together + max(alone, default=0)) * FLOAT32

    def _remembered_bytes(self) -> int:
        """Adam's two moments, or Adafactor's means of each row and column; since when features are silent."""
        silence = sum(8 * coder.n_features * len(self.spec.layers) for coder in self.coders if coder.loss.auxk)
        if self.spec.optimizer.kind != "adafactor":
            return 2 * self.parameters * FLOAT32 + silence
        return silence + FLOAT32 * sum(sum(map(sum, shapes)) for coder in self.coders for shapes in self._shapes(coder))

    def disk(self) -> Disk:
        coders = self.parameters * FLOAT32
        checkpoint = coders + self._remembered_bytes() if self.spec.checkpoint_every < self.spec.steps else 0
        dataset = (self.dataset.train_tokens + self.dataset.heldout_tokens) * TOKEN_BYTES
        inputs = self.model.n_parameters * FLOAT32 + dataset
        return Disk(
            published_bytes=coders, checkpoint_bytes=2 * checkpoint, worker_bytes=inputs + 2 * checkpoint + coders
        )

    def flops(self) -> float:
        spec, d_model, context, n_layers = self.spec, self.model.d_model, self.dataset.context, len(self.spec.layers)
        of_step = of_evaluation = 0.0
        for coder in self.coders:
            decoders = n_layers * (n_layers + 1) // 2 if coder in self.crossing else n_layers
            encoding = n_layers * encoding_flops(coder.n_features, d_model)
            of_rows = 2 * slots(coder.activation, coder.n_features) * d_model
            skip = n_layers * 2 * d_model**2 if coder.kind == "skip-transcoder" else 0
            # A decoder's rows are summed, and have gradients of their own and of values; so have an encoder's rows.
            of_step += encoding + (3 * decoders + n_layers) * of_rows + 2 * skip
            of_evaluation += encoding + decoders * of_rows + skip
        share = self.learned / self.tokens
        forward = forward_flops(self.model, spec.layers[-1] + 1, context)
        evaluations = 1 + math.ceil(spec.steps / spec.evaluate_every)
        return (
            spec.steps * self.tokens * (forward + share * of_step)
            + self._first_tokens() / share * forward
            + evaluations * self.heldout_rows * context * (forward + share * of_evaluation)
            + spec.steps * 12.0 * self.parameters
        )


def _pair_bytes(coder: CoderSpec, least: int) -> int:
    """Of a (token, feature) pair: JumpReLU keeps pre-activations, too."""
    return least + FLOAT32 if isinstance(coder.activation, JumpReLU) else least
