"""How the learning rate moves."""

from clew_spec.training import OptimizerSpec


def rate_factor(optimizer: OptimizerSpec, step: int, steps: int) -> float:
    """What `lr` is multiplied by at `step` of `steps`, from 0: up linearly, flat, down linearly.

    The first step of a warm-up over w takes 1/w and the w-th the whole; the last step of a decay over d takes 1/d, so
    that no step is wasted at a rate of 0.
    """
    rising = min(1.0, (step + 1) / optimizer.warmup_steps) if optimizer.warmup_steps else 1.0
    decay_steps = optimizer.decay_fraction * steps
    falling = min(1.0, (steps - step) / decay_steps) if decay_steps >= 1 else 1.0
    return rising * falling
