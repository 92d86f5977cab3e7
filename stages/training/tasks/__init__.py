"""The models that can be trained, by the names of `train --model`."""

from __future__ import annotations

from stages.training.tasks.registry import MODELS, ON_TOKENS, TaskInputs, build_task

__all__ = ["MODELS", "ON_TOKENS", "TaskInputs", "build_task"]
