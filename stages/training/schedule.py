"""The learning rate of each step."""

from __future__ import annotations

from stages.training.settings import OptimiserSettings


def learning_rate(step: int, settings: OptimiserSettings) -> float:
    """Linear warm-up, then exponential or linear decay, then constant (paper, section 4.1).

    Args:
        step: updates made so far; the first is made with `step` 0.
        settings: the rate's shape.
    """
    number = step + 1
    if number < settings.warmup_steps:
        return settings.learning_rate * number / settings.warmup_steps
    past = number - settings.warmup_steps
    progress = min(1.0, past / settings.decay_steps) if settings.decay_steps else 1.0
    if settings.decay == "linear":
        return settings.learning_rate * (1.0 - (1.0 - settings.final_ratio) * progress)
    return float(settings.learning_rate * settings.final_ratio**progress)
