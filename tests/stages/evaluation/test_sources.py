"""What an evaluation writes down of its systems' origins."""

from __future__ import annotations

from pathlib import Path

from stages.evaluation.sources import sources
from stages.evaluation.systems import SoundFiles
from stages.shards.provenance import Provenance, StageRecord


class Prompted(SoundFiles):
    """Sound files that say how long their prompts are."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name, {"a": "a.wav"})
        record = StageRecord(stage="decode", version="1", settings={"seed": 3})
        self.provenance = Provenance((record,))
        self._seconds = seconds

    def prompt_seconds(self, row_id: str) -> float:
        return self._seconds


def test_paths_as_given_and_as_seen_from_the_scores(tmp_path: Path) -> None:
    systems = [SoundFiles("recordings", {"a": "a.wav"}), Prompted("ours", 3.0), Prompted("bare", 0)]
    found = sources(
        ["in"], {"ours": str(tmp_path / "ours"), "bare": "-"}, systems, ["a"],
        codec="mini", vocoder=None, prompt_seconds=0.0, folder=tmp_path / "eval",
    )  # fmt: skip
    by_name = found["systems"]
    assert by_name["ours"]["paths"] == [{"path": str(tmp_path / "ours"), "relative": "../ours"}]
    assert by_name["bare"]["paths"] == [{"path": "-"}]
    assert by_name["recordings"]["paths"] == found["inputs"]
    assert {name: one["prompted"] for name, one in by_name.items()} == {
        "recordings": False, "ours": True, "bare": False,
    }  # fmt: skip
    assert by_name["ours"]["codec"] == "mini"
    assert [record["settings"] for record in by_name["ours"]["stages"]] == [{"seed": 3}]
    assert by_name["recordings"]["stages"] == []


def test_sound_files_have_the_prompt_that_the_user_says() -> None:
    (system,) = sources(
        ["in"], {"a": "x"}, [SoundFiles("a", {"a": "a.wav"})], ["a"],
        codec=None, vocoder=None, prompt_seconds=3.0, folder=None,
    )["systems"].values()  # fmt: skip
    assert system["prompted"]
    assert system["paths"] == [{"path": "x"}]
