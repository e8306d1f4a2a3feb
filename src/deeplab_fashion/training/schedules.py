"""Learning rates as plain functions of the step."""

import math
from typing import Literal

__all__ = ["ScheduleName", "learning_rate_at"]

ScheduleName = Literal["poly", "cosine", "constant"]


def learning_rate_at(
    step: int,
    *,
    base: float,
    steps: int,
    schedule: ScheduleName = "poly",
    warmup_steps: int = 0,
    power: float = 0.9,
    final: float = 0.0,
) -> float:
    """Return the learning rate of one step.

        warm-up:  base * (step + 1) / (warmup_steps + 1)
        poly:     final + (base - final) * (1 - t) ** power
        cosine:   final + (base - final) * (1 + cos(pi * t)) / 2

    where t runs from 0 after the warm-up to 1 at ``steps``.

    Args:
        step: Counted from 0.
        base: The highest rate.
        steps: Steps of the whole training, the warm-up among them.
        schedule: How the rate falls; "constant" does not fall.
        warmup_steps: Steps over which the rate rises to ``base``.
        power: The exponent of "poly".
        final: The rate at the end.

    Returns:
        The learning rate.

    Example:
        >>> [round(learning_rate_at(s, base=1.0, steps=4, power=1.0), 2) for s in range(4)]
        [1.0, 0.75, 0.5, 0.25]

    References:
        The poly schedule with power 0.9: Liu et al., ParseNet, 2015; Chen et al., DeepLab, 2017.
    """
    if step < warmup_steps:
        return base * (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    if schedule == "poly":
        return final + (base - final) * math.pow(1 - progress, power)
    if schedule == "cosine":
        return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2
    return base
