"""Systems: recordings, codecs, token shards and folders of sound, matched by id."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.codec.base import Codec
from stages.codec.vocoding import vocode_to_folder
from stages.errors import DataMismatch, RowFailure
from stages.evaluation import systems
from stages.evaluation.systems import open_system, rows_by_id, systems_of_input
from stages.shards.reader import open_rows
from stages.shards.rows import Row

WriteTokens = Callable[..., Path]


@pytest.fixture(autouse=True)
def _tones(monkeypatch: pytest.MonkeyPatch, tone_codec: Codec) -> None:
    monkeypatch.setattr(systems, "codec_for", lambda source, spec, **options: tone_codec)
    monkeypatch.setattr(systems, "load_codec", lambda spec, **options: tone_codec)


def test_tokens_sound_as_their_codec_says(write_tokens: WriteTokens, token_rows: list[Row]) -> None:
    token_rows[1]["prompt_frames"] = 25
    system = open_system("mine", str(write_tokens(token_rows)))
    assert sorted(system.ids) == ["u0", "u1", "u2"]
    samples = system.load("u1")
    assert samples.shape == (44 * 320,)
    assert samples[:320].max() == pytest.approx(token_rows[1]["acoustic"][0, 0] / 10)
    assert system.prompt_seconds("u1") == 0.5
    assert system.prompt_seconds("u0") is None


def test_the_key_follows_the_tokens(write_tokens: WriteTokens, token_rows: list[Row]) -> None:
    one = open_system("one", str(write_tokens(token_rows, name="one")))
    token_rows[0]["acoustic"] = token_rows[0]["acoustic"] ^ 1
    two = open_system("two", str(write_tokens(token_rows, name="two")))
    assert one.key("u0") != two.key("u0")
    assert one.key("u1") == two.key("u1")


def test_a_vocoded_folder_is_matched_by_its_manifest(
    write_tokens: WriteTokens, token_rows: list[Row], tone_codec: Codec, tmp_path: Path
) -> None:
    token_rows[0]["id"] = "../an odd: id"
    with open_rows(write_tokens(token_rows)) as source:
        vocode_to_folder(tone_codec, source, tmp_path / "wavs")
    system = open_system("wavs", str(tmp_path / "wavs"))
    assert set(system.ids) == {"../an odd: id", "u1", "u2"}
    assert len(system.load("../an odd: id")) == 30 * 320


def test_sound_from_elsewhere_is_matched_by_path_or_by_stem(tmp_path: Path) -> None:
    for name in ("deep/down/a", "b", "x/same", "y/same"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(1600), 16_000)
    system = open_system("other", str(tmp_path))
    ids = set(system.ids)
    assert {"deep/down/a", "a", "b", "x/same", "y/same"} <= ids
    assert "same" not in ids
    assert system.ambiguous == {
        "same": [str(tmp_path / "x/same.wav"), str(tmp_path / "y/same.wav")]
    }


def test_a_manifest_of_sound_is_a_system(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.zeros(1600), 16_000)
    manifest = tmp_path / "made.jsonl"
    manifest.write_text(json.dumps({"id": "utterance-7", "audio": "one.wav"}) + "\n")
    assert "utterance-7" in open_system("other", str(manifest)).ids


def test_an_input_is_its_recordings_and_its_codec(
    write_tokens: WriteTokens, token_rows: list[Row], speech_wav: Path
) -> None:
    token_rows[0]["audio"] = str(speech_wav)
    folder = write_tokens(token_rows)
    with open_rows(folder) as source:
        recordings, found = systems_of_input(source, rows_by_id(source))
    assert [system.name for system in found] == ["recordings", "codec"]
    assert recordings is found[0]
    assert len(found[0].load("u0")) == 32_000
    with pytest.raises(RowFailure, match="names no audio"):
        found[0].load("u1")


def test_tokens_that_decode_made_are_no_codec(
    write_tokens: WriteTokens, token_rows: list[Row]
) -> None:
    with open_rows(write_tokens(token_rows, stage="decode")) as source:
        recordings, found = systems_of_input(source, rows_by_id(source))
    assert recordings is None
    assert [system.name for system in found] == ["decoded"]


def test_audio_without_tokens_can_go_through_a_codec(corpus: Path) -> None:
    from stages.audio.sources import find_utterances
    from stages.shards.source import UtteranceList

    source = UtteranceList(find_utterances([str(corpus / "manifest.tsv")]), where="corpus")
    rows = rows_by_id(source)
    assert [system.name for system in systems_of_input(source, rows)[1]] == ["recordings"]
    _, found = systems_of_input(source, rows, codec="tones")
    assert [system.name for system in found] == ["recordings", "codec"]
    assert len(found[1].load("s0/u1")) == 50 * 320
    assert found[0].key("s0/u1") != found[1].key("s0/u1")


def test_a_row_without_tokens_fails_alone(write_tokens: WriteTokens, token_rows: list[Row]) -> None:
    token_rows[2]["acoustic"] = None
    token_rows[1]["acoustic"] = np.full((4, 1), 99, dtype=np.uint16)
    system = open_system("mine", str(write_tokens(token_rows)))
    assert len(system.load("u0")) == 30 * 320
    with pytest.raises(RowFailure, match="past the codebook"):
        system.load("u1")
    with pytest.raises(RowFailure, match="no acoustic tokens"):
        system.load("u2")
    assert system.key("u2") == ["tokens", None]


def test_a_lost_recording_is_the_row_s_failure(tmp_path: Path) -> None:
    system = systems.SoundFiles("recordings", {"a": str(tmp_path / "gone.wav"), "b": None})
    assert system.key("a") == ["file", None]
    with pytest.raises(RowFailure, match="does not exist"):
        system.load("a")


def test_two_rows_with_one_id_are_refused(write_tokens: WriteTokens, token_rows: list[Row]) -> None:
    token_rows[1]["id"] = "u0"
    with pytest.raises(DataMismatch, match="two rows have the id u0"):
        open_system("mine", str(write_tokens(token_rows)))


def test_a_player_travels_and_sounds_the_same(
    write_tokens: WriteTokens, token_rows: list[Row], speech_wav: Path
) -> None:
    tokens = open_system("tokens", str(write_tokens(token_rows)))
    rows = {"a": {"id": "a", "audio": str(speech_wav)}}
    with open_rows(write_tokens(token_rows, name="other")) as source:
        source.schema = source.schema.remove(source.schema.get_field_index("acoustic"))
        recordings, (_, codec) = systems_of_input(source, rows, codec="tones")
    assert recordings is not None
    for system, row_id in ((tokens, "u1"), (recordings, "a"), (codec, "a")):
        play, parcel = pickle.loads(pickle.dumps((system.play, system.parcel(row_id))))
        assert (play(parcel) == system.load(row_id)).all()
