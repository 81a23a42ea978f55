"""What a training job takes: the arithmetic of `clew.training`, moment by moment."""

import math

from clew_spec.coders import CoderSpec, JumpReLU
from clew_spec.estimates.report import DatasetFacts, Disk, Estimate, Memory, Part
from clew_spec.estimates.sizes import (
    FLOAT32,
    ITEM_BYTES,
    RUNTIME_BYTES,
    TOKEN_BYTES,
    coder_parameters,
    encoding_bytes,
    encoding_flops,
    forward_bytes,
    forward_flops,
    reconstructing_bytes,
    slots,
)
from clew_spec.results import ModelConfig
from clew_spec.training import TrainSpec

FIRST_LOOK_TOKENS = 8192
"""As `clew.training.initial` has it: tokens that features are drawn from."""
STATE = 4
"""Weights, gradients and Adam's two moments."""


def train(spec: TrainSpec, model: ModelConfig, dataset: DatasetFacts) -> Estimate:
    run = _Run(spec, model, dataset)
    return Estimate.of(memory=run.memory(), disk=run.disk(), flops=run.flops(), tokens=spec.steps * run.tokens)


class _Run:
    def __init__(self, spec: TrainSpec, model: ModelConfig, dataset: DatasetFacts) -> None:
        self.spec, self.model, self.dataset = spec, model, dataset
        self.item = ITEM_BYTES[spec.dtype]
        self.rows = spec.tokens_per_step // dataset.context
        self.tokens = self.rows * dataset.context
        self.learned = self.tokens - self.rows
        """N: position 0 of each row is left out."""
        self.coders = [coder for _, coder in spec.variants]
        self.sizes = [coder_parameters(coder, spec.layers, model.d_model) for coder in self.coders]
        self.parameters = sum(map(sum, self.sizes))
        self.routes = {(coder.hook_in, coder.writes) for coder in self.coders}
        self.hooks = {hook for route in self.routes for hook in route}
        self.field = "/spec/layers" if len(spec.layers) > 1 else "/spec/coders" if spec.coders else "/spec/coder"

    def memory(self) -> Memory:
        model_bytes = self.model.n_parameters * self.item
        always = [
            Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
            Part(name="model weights", bytes=model_bytes, field="/spec/model"),
            Part(name="coder weights", bytes=self.parameters * FLOAT32, field=self.field),
        ]
        silence = sum(8 * coder.n_features * len(self.spec.layers) for coder in self.coders if coder.loss.auxk)
        learning = [
            *always,
            Part(name="gradients", bytes=self.parameters * FLOAT32, field=self.field),
            Part(name="Adam's moments", bytes=2 * self.parameters * FLOAT32 + silence, field=self.field),
        ]
        moments = [
            self._moment("a training step", learning, max(map(self._step_bytes, self.coders))),
            self._moment("held-out evaluation", learning, max(map(self._evaluation_bytes, self.coders))),
            self._first_look(always),
        ]
        return max(moments, key=lambda moment: moment.bytes)

    def _moment(self, name: str, held: list[Part], coding: int) -> Memory:
        """The stream of activations, and the larger of a forward pass and one coder's work on what it gave."""
        places = len(self.hooks) * len(self.spec.layers) * self.tokens * self.model.d_model * self.item
        # What the last coder read stays until the first one is given the next batch.
        forward = forward_bytes(self.model, self.rows, self.dataset.context, self.item)
        forward += 2 * self.learned * self.model.d_model * FLOAT32
        work = (
            Part(name="buffers of the coder at work", bytes=coding, field="/spec/tokens_per_step")
            if coding > forward
            else Part(name="a forward pass", bytes=forward, field="/spec/tokens_per_step")
        )
        activations = Part(name="activations", bytes=places, field="/spec/tokens_per_step")
        return Memory(moment=name, parts=[*held, activations, work])

    def _first_look(self, held: list[Part]) -> Memory:
        """All batches that features are drawn from are held together; those of one place, cut and joined, twice."""
        width = 2 * self.model.d_model * FLOAT32
        seen = self._first_batches() * self.learned
        buffer = seen * width * len(self.routes) * len(self.spec.layers)
        joined = seen * width
        spread = 20 * seen * self.model.d_model  # departures from the mean and their squares, in float64
        beginning = max(joined, spread, *(self._first_coder_bytes(coder) for coder in self.coders))
        # The last batch is read before it is held.
        forward = (
            forward_bytes(self.model, self.rows, self.dataset.context, self.item) - buffer // self._first_batches()
        )
        work = (
            Part(
                name="the coder that begins",
                bytes=beginning,
                field="/spec/coders" if self.spec.coders else "/spec/coder",
            )
            if beginning > forward
            else Part(name="a forward pass", bytes=forward, field="/spec/tokens_per_step")
        )
        activations = Part(name="activations of the first batches", bytes=buffer, field="/spec/tokens_per_step")
        return Memory(moment="the first look at the activations", parts=[*held, activations, work])

    def _first_batches(self) -> int:
        widest = max(coder.n_features for coder in self.coders)
        return math.ceil(min(widest, FIRST_LOOK_TOKENS) / self.learned) + 1

    def _first_coder_bytes(self, coder: CoderSpec) -> int:
        random = max(0, coder.n_features - FIRST_LOOK_TOKENS)
        directions = self.model.d_model * (4 * coder.n_features * FLOAT32 + 12 * random)
        return max(directions, self._evaluation_bytes(coder))

    def _evaluation_bytes(self, coder: CoderSpec) -> int:
        return reconstructing_bytes(coder.activation, coder.n_features, self.learned, self.model.d_model)

    def _step_bytes(self, coder: CoderSpec) -> int:
        """A coder's gradients: pre-activations, (token, feature) pairs, what is learnt beside what was learnt last."""
        n_tokens, d_model, n_features = self.learned, self.model.d_model, coder.n_features
        weights = n_features * d_model * FLOAT32
        inputs = 2 * n_tokens * d_model * FLOAT32
        pre = n_tokens * n_features * FLOAT32
        pairs = (55 if isinstance(coder.activation, JumpReLU) else 46) * n_tokens * slots(coder.activation, n_features)
        fresh = max(coder_parameters(coder, self.spec.layers, d_model)) * FLOAT32
        learning = pairs + 4 * n_tokens * d_model * FLOAT32 + fresh
        if coder.loss.sparsity == "l1-decoder-norm":
            learning += weights
        if coder.loss.auxk:
            revived = 46 * n_tokens * min(coder.loss.auxk.k, n_features) + pre
            learning += revived + fresh
        clipping = 4 * weights if self.spec.optimizer.clip_norm is not None else 2 * weights
        after = fresh + 12 * n_tokens * slots(coder.activation, n_features) + clipping
        return inputs + max(pre + max(encoding_bytes(coder.activation, n_features, n_tokens), learning), after)

    def disk(self) -> Disk:
        coders = self.parameters * FLOAT32
        checkpoint = 3 * coders if self.spec.checkpoint_every < self.spec.steps else 0
        dataset = (self.dataset.train_tokens + self.dataset.heldout_tokens) * TOKEN_BYTES
        inputs = self.model.n_parameters * FLOAT32 + dataset
        return Disk(
            published_bytes=coders, checkpoint_bytes=2 * checkpoint, worker_bytes=inputs + 2 * checkpoint + coders
        )

    def flops(self) -> float:
        spec, d_model, context = self.spec, self.model.d_model, self.dataset.context
        of_step = of_evaluation = 0.0
        for coder in self.coders:
            encoding = encoding_flops(coder.n_features, d_model)
            decoding = 2 * slots(coder.activation, coder.n_features) * d_model
            skip = 2 * d_model**2 if coder.kind == "skip-transcoder" else 0
            of_step += len(spec.layers) * (encoding + 4 * decoding + 2 * skip)
            of_evaluation += len(spec.layers) * (encoding + decoding + skip)
        share = self.learned / self.tokens
        forward = forward_flops(self.model, spec.layers[-1] + 1, context)
        rows = min(math.ceil(spec.evaluate_tokens / context), self.dataset.heldout_tokens // context)
        evaluations = 1 + math.ceil(spec.steps / spec.evaluate_every)
        return (
            spec.steps * self.tokens * (forward + share * of_step)
            + self._first_batches() * self.tokens * forward
            + evaluations * rows * context * (forward + share * of_evaluation)
            + spec.steps * 12.0 * self.parameters
        )
