"""Choosing measures: by name they must be there, by default they may be skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.errors import DataMismatch
from stages.evaluation import measure as measure_module
from stages.evaluation.judges.registry import HearingOptions
from stages.evaluation.registry import NAMES, choose_measures


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the eval extra were not installed."""
    monkeypatch.setattr(measure_module, "find_spec", lambda name: None)


@pytest.mark.usefixtures("bare")
def test_without_the_extra_the_default_says_what_to_install() -> None:
    measures, skipped = choose_measures(None, None)
    assert "reconstruction" in [measure.name for measure in measures]
    assert {"wer", "dnsmos", "distillmos", "voice"} <= set(skipped)
    assert "pip install 'soundstorm[eval]'" in skipped["dnsmos"]
    assert "--judge" in skipped["wer"]


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", ["dnsmos", "distillmos", "voice"])
def test_without_the_extra_a_measure_asked_for_is_refused(name: str) -> None:
    with pytest.raises(DataMismatch, match=r"pip install 'soundstorm\[eval\]'"):
        choose_measures([name], None)


@pytest.mark.usefixtures("bare")
def test_naming_a_whisper_asks_for_error_rates(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(DataMismatch, match="the measure wer needs"):
        choose_measures(None, HearingOptions(judges=(f"whisper:{tmp_path}",)))


def test_error_rates_need_a_judge() -> None:
    with pytest.raises(DataMismatch, match="--judge"):
        choose_measures(["wer"], None)


def test_unknown_measures_are_refused() -> None:
    with pytest.raises(DataMismatch, match=f"choose from {', '.join(NAMES)}"):
        choose_measures(["mos"], None)


def test_a_measure_named_twice_is_made_once() -> None:
    measures, skipped = choose_measures(["reconstruction", "reconstruction"], None)
    assert [measure.name for measure in measures] == ["reconstruction"]
    assert skipped == {}


def test_hearing_options_are_checked() -> None:
    with pytest.raises(DataMismatch, match="a beam of 0"):
        HearingOptions(judges=("whisper:base",), beam=0)
