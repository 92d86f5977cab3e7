"""Several processes as one: what they agree on before they start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from stages.training.distributed import join_processes


def test_processes_wait_for_the_first_one_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tracks pitch, spools tokens and validates alone."""
    joined: list[dict[str, Any]] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **more: joined.append(more))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with join_processes("cpu") as processes:
        assert (processes.rank, processes.world) == (1, 2)
    assert joined == [{"timeout": timedelta(days=1)}]
