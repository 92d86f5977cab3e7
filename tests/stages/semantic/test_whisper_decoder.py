"""Whisper's decoder in torch: as the library has it, and what it is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.semantic.whisper_decoder import LONGEST, WhisperText, load_decoder
from stages.semantic.whisper_ear import WhisperMel, load_ear
from tests.tiny_whisper import WIDTH, tiny_whisper

WHISPER = Path(os.environ.get("SOUNDSTORM_WHISPER", "assets-cache/whisper-tiny"))


@pytest.mark.skipif(
    not WHISPER.is_dir(), reason=f"no Whisper in {WHISPER}: make whisper fetches it"
)
def test_the_decoder_expects_what_whisper_expects(make_speech: Callable[..., np.ndarray]) -> None:
    import ctranslate2

    frames = WhisperMel()(torch.from_numpy(make_speech(30.0, seed=1))[None])
    features = ctranslate2.StorageView.from_array(frames.transpose(1, 2).contiguous().numpy())
    model = ctranslate2.models.Whisper(str(WHISPER), compute_type="float32", intra_threads=1)
    text = WhisperText(WHISPER)
    tokens, due = text.encode(["The kettle is on"])
    start, said = tokens[0, :3].tolist(), tokens[0, 4:].tolist()  # it adds the fourth itself
    (theirs,) = model.align(features, start, [said], 3000)
    logits = load_decoder(WHISPER)(tokens, load_ear(WHISPER)(frames)[-1])
    # As it has them: among the tokens of text alone.
    odds = logits[0, due[0], : text._end].softmax(dim=-1)
    ours = odds.gather(1, tokens[0, 4:, None])[:, 0]
    np.testing.assert_allclose(ours.numpy(), theirs.text_token_probs[: len(said)], rtol=0.02)


def test_texts_are_spelt_behind_whispers_start_and_padded(tmp_path: Path) -> None:
    text = WhisperText(tiny_whisper(tmp_path))
    tokens, due = text.encode(["THE CAT", "a Cat", "x" * 600])
    assert tokens.shape == due.shape == (3, LONGEST)
    spelt = text._tokenizer.decode(tokens[0].tolist(), skip_special_tokens=False)
    begin = "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
    letters = "".join(each for each in spelt if each != " ").replace("Ġ", " ")
    assert letters.startswith(f"{begin} The cat<|endoftext|><|endoftext|>")
    assert due.sum(dim=1).tolist() == [len(" The cat"), len(" a Cat"), LONGEST - 4]
    assert due[0].nonzero()[:, 0].tolist() == list(range(3, 11))  # from the last of the start on
    alone, _ = text.encode(["a Cat"])
    assert torch.equal(alone[0], tokens[1, : alone.shape[1]])


def test_a_token_knows_what_was_told_before_it_and_what_was_heard(tmp_path: Path) -> None:
    folder = tiny_whisper(tmp_path)
    decoder, text = load_decoder(folder), WhisperText(folder)
    torch.manual_seed(0)
    heard = torch.randn(1, 20, WIDTH, requires_grad=True)
    one, _ = text.encode(["abcd"])
    other, _ = text.encode(["abxd"])
    logits = decoder(one, heard)
    same = (logits == decoder(other, heard)).all(dim=-1)[0]
    position = 4 + len(" ab")  # where they part
    assert same[:position].all()
    assert not same[position:].any()
    logits.square().sum().backward()
    assert heard.grad is not None
    assert bool((heard.grad != 0).any(dim=-1).all())


def test_what_is_no_whisper_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(40))
    with pytest.raises(DataMismatch, match="holds no Whisper model"):
        load_decoder(tmp_path)
    with pytest.raises(DataMismatch, match=r"has no tokenizer\.json, which says how Whisper"):
        WhisperText(tmp_path)
