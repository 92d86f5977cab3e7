"""The utterances that SoundStorm is taught to speak again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from stages.shards.reader import open_rows
from stages.training.settings import TrainingSettings
from stages.training.tasks import soundstorm_listening
from stages.training.tasks.soundstorm_listening import HeardBatch, HeardWindows
from stages.training.token_store import TokenStore, build_store


@pytest.fixture
def store(token_set: Path, tmp_path: Path) -> TokenStore:
    with open_rows(token_set) as source:
        return build_store(source, tmp_path / "store", fingerprint="f", warn=print)


def utterances(batches: list[HeardBatch | None]) -> list[tuple[int, int, int, str | None]]:
    """Seed, length, prompt and text of each, in order of the seeds."""
    found = [
        (seed, int(length), int(prompt), text)
        for batch in batches
        if batch is not None
        for seed, length, prompt, text in zip(
            batch.seeds, batch.rows.lengths, batch.rows.prompts, batch.texts, strict=True
        )
    ]
    return sorted(found, key=lambda each: each[0])


def test_utterances_are_whole_and_have_their_texts_and_prompts(
    store: TokenStore, tiny_settings: Callable[..., TrainingSettings]
) -> None:
    windows = HeardWindows(store, tiny_settings(), 5, 2)
    texts = dict(zip(store.lengths.tolist(), store.texts, strict=True))
    shares = []
    for step in range(20):
        found = utterances(windows.dealt(step, 0, 1, 1))
        assert len(found) == 5
        for _, length, prompt, text in found:
            assert text == texts[length]
            shares.append(prompt / length)
    assert 0.25 < max(shares) <= 1 / 3
    assert min(shares) < 0.05
    assert 12 < shares.count(0.0) < 35  # a fifth
    (batch,) = windows.dealt(0, 0, 1, 1)
    assert batch is not None
    for row, (length, text) in enumerate(zip(batch.rows.lengths, batch.texts, strict=True)):
        example = store.lengths.tolist().index(int(length))
        assert text == store.texts[example]
        codes, frames = store.slice(example, 0, int(length))
        assert np.array_equal(batch.rows.semantic[row, :length].numpy(), codes)
        assert np.array_equal(batch.rows.acoustic[row, :length].numpy(), frames[:, :2])


def test_processes_and_parts_share_the_same_utterances(
    store: TokenStore, tiny_settings: Callable[..., TrainingSettings]
) -> None:
    windows = HeardWindows(store, tiny_settings(), 7, 3)
    whole = utterances(windows.dealt(3, 0, 1, 1))
    shared = [windows.dealt(3, rank, 2, 3) for rank in range(2)]
    assert [len(parts) for parts in shared] == [3, 3]
    assert utterances([*chain(*shared)]) == whole
    many = windows.dealt(3, 0, 1, 9)
    assert len(many) == 9
    assert many.count(None) == 2
    assert utterances(windows.dealt(4, 0, 1, 1)) != whole


def test_of_one_that_is_too_long_a_part_is_heard_without_its_text(
    store: TokenStore,
    tiny_settings: Callable[..., TrainingSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soundstorm_listening, "LONGEST_SECONDS", 1.0)
    windows = HeardWindows(store, tiny_settings(), 40, 3)
    found = utterances(windows.dealt(0, 0, 1, 1))
    assert max(length for _, length, _, _ in found) == 50
    assert {text for _, length, _, text in found if length == 50} == {None}
    assert any(text for _, length, _, text in found if length < 50)
