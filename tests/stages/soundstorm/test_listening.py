"""What is heard in the tokens that were chosen."""

from __future__ import annotations

import pytest
import torch

from stages.codec.mel.config import MelCodecConfig
from stages.codec.mel.network import MelCodec
from stages.soundstorm.listening import Listener
from stages.soundstorm.unrolled import PromptedRows
from tests.tiny_whisper import tiny_whisper

LEVELS, CODES = 2, 16


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    torch.manual_seed(0)
    config = MelCodecConfig(
        levels=LEVELS, codebook_size=CODES, width=16, hidden=16, blocks=1, mels=20
    )
    codec = MelCodec(config).eval()
    codec.quantizer.codebooks.normal_()
    return Listener(codec, tiny_whisper(tmp_path_factory.mktemp("whisper")))


def make_rows(lengths: list[int], prompts: list[int]) -> PromptedRows:
    draw = torch.Generator().manual_seed(3)
    B, T = len(lengths), max(lengths)
    return PromptedRows(
        semantic=torch.zeros(B, T, dtype=torch.long),
        acoustic=torch.randint(CODES, (B, T, LEVELS), generator=draw),
        lengths=torch.tensor(lengths),
        prompts=torch.tensor(prompts),
    )


def test_the_true_tokens_are_heard_as_they_should_be(listener: Listener) -> None:
    rows = make_rows([41, 30], [10, 0])
    true = listener.codec.quantizer.decode(rows.acoustic)
    heard = listener(true, rows, ["one two", None])
    assert float(heard.difference) == 0
    assert float(heard.divergence) == pytest.approx(0, abs=1e-6)
    assert (heard.frames, heard.tokens) == (61, len(" one two"))


def test_other_tokens_are_heard_otherwise_and_taught(listener: Listener) -> None:
    rows = make_rows([41, 30], [10, 0])
    true = listener.codec.quantizer.decode(rows.acoustic)
    made = true + 0.5 * torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    made = torch.where(rows.generated[..., None], made, true).requires_grad_(True)
    heard = listener(made, rows, ["one two", None])
    assert heard.difference.item() > 1e-3
    assert heard.divergence.item() > 1e-4
    for part in (heard.difference, heard.divergence):
        (gradient,) = torch.autograd.grad(part, made, retain_graph=True)
        assert bool((gradient[0, 10:41] != 0).any(dim=-1).all())
        assert not gradient[1, 30:].any()  # padding
    assert not any(each.requires_grad for each in listener.parameters())
    silent = listener(made, rows, [None, ""])
    assert (silent.divergence.item(), silent.tokens) == (0, 0)
    assert torch.equal(silent.difference, heard.difference)


def test_a_row_is_heard_as_if_alone(listener: Listener) -> None:
    rows = make_rows([40, 30], [10, 0])
    true = listener.codec.quantizer.decode(rows.acoustic)
    frames = rows.lengths
    together = listener._read(true, frames)
    alone = listener._read(true[1:, :30], frames[1:])
    torch.testing.assert_close(together[1, : alone.shape[1]], alone[0])
    assert together[1, 60:].unique().numel() == 1  # silence from its end on
