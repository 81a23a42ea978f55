"""SAELens's side: its LLM runner on a CPU, a step at a time. Run as a child, see `benchmarks.line`.

What was chosen for it: position 0 is left out, as by ours; the buffer holds one batch and is not mixed, so that each
step takes one forward pass, which it ends at the hook; dense activations, as its sparse ones fail on a CPU; no
prefetching, as there is no second device; no logging.
"""

from typing import Any

import numpy as np
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner, LoggingConfig, TopKTrainingSAEConfig

from benchmarks.line import Line


class Batches:
    """The runner's activations, and word to the line whenever another batch is asked for."""

    def __init__(self, store: Any, line: Line) -> None:
        self._store, self._line, self._first = store, line, True

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Any:
        if not self._first:
            self._line.stepped()
        self._first = False
        return next(self._store)


def main() -> None:
    line = Line()
    asked = line.setup()
    tokens = np.load(asked["tokens"])[: asked["steps"] * asked["rows_per_step"]]
    context = tokens.shape[1]
    tokens_per_step = asked["rows_per_step"] * (context - 1)
    runner = LanguageModelSAETrainingRunner(
        LanguageModelSAERunnerConfig(
            sae=TopKTrainingSAEConfig(d_in=asked["d_model"], d_sae=asked["n_features"], k=asked["k"]),
            model_name=asked["model"],
            model_class_name="AutoModelForCausalLM",
            hook_name=f"model.layers.{asked['layers'][0]}.mlp",
            is_dataset_tokenized=True,
            streaming=False,
            context_size=context,
            seqpos_slice=(1, None),
            store_batch_size_prompts=asked["rows_per_step"],
            train_batch_size_tokens=tokens_per_step,
            n_batches_in_buffer=asked["rows_per_step"],  # counted in rows
            activations_mixing_fraction=0.0,
            training_tokens=asked["steps"] * tokens_per_step,
            lr=asked["lr"],
            lr_warm_up_steps=asked["warmup_steps"],
            logger=LoggingConfig(log_to_wandb=False),
            checkpoint_path=None,
            output_path=None,
            verbose=False,
        ),
        override_dataset=Dataset.from_dict({"input_ids": tokens}),
    )
    runner.activations_store = Batches(runner.activations_store, line)
    line.ready()
    runner.run()
    line.stepped()
    line.finish({})


if __name__ == "__main__":
    main()
