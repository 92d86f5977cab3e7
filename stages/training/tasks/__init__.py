"""The models that can be trained, by the names of `train --model`."""

from __future__ import annotations

from stages.training.tasks.registry import MODELS, TaskInputs, build_task

__all__ = ["MODELS", "TaskInputs", "build_task"]
