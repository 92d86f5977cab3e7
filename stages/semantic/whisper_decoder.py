"""Whisper's decoder in torch, through which gradients pass: what a recogniser makes of given words.

It is told the words, and says at each how likely it finds every next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.errors import DataMismatch
from stages.semantic.whisper_part import WhisperPart, read_part

LONGEST = 448
"""Tokens that a Whisper reads, those before the text among them."""


class WhisperDecoder(WhisperPart):
    """The decoder of a Whisper of any size, frozen."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Build it from CTranslate2's variables of the decoder, by their names there."""
        super().__init__(weights, "decoder")

    def forward(self, tokens: Tensor, heard: Tensor) -> Tensor:
        """Logits of the token after each.

        Args:
            tokens: `[B, L]` int64, at most `LONGEST`.
            heard: `[B, T, D]`, the last of `WhisperEar`'s blocks.

        Returns:
            `[B, L, V]`.
        """
        table = self.at("embeddings/weight")
        x = F.embedding(tokens, table)
        x = x + self.at("position_encodings/encodings")[: tokens.shape[1]]
        for index in range(self.layers):
            x = x + self.attend_self(x, f"layer_{index}", causal=True)
            x = x + self.attend_other(x, heard, f"layer_{index}")
            x = x + self.feed_forward(x, f"layer_{index}")
        return F.linear(self.norm(x, "layer_norm"), table)


def load_decoder(folder: Path) -> WhisperDecoder:
    """Read the decoder of a Whisper in CTranslate2's format.

    Raises:
        DataMismatch: if the folder holds none.
    """
    return WhisperDecoder(read_part(folder, "decoder", needed="position_encodings/encodings"))


class WhisperText:
    """Texts as the decoder reads them.

    Args:
        folder: a Whisper's, with its `tokenizer.json`.

    Raises:
        DataMismatch: if there is no such file, or the package to read it with is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise DataMismatch(
                "reading texts as Whisper does needs the package tokenizers: "
                'pip install "soundstorm[eval]"'
            ) from None
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise DataMismatch(f"{folder} has no {path.name}, which says how Whisper spells")
        self._tokenizer = Tokenizer.from_file(str(path))
        names = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
        if self._tokenizer.token_to_id("<|en|>") is None:  # a Whisper of English alone
            names = [names[0], names[-1]]
        self._start = [self._tokenizer.token_to_id(name) for name in names]
        self._end: int = self._tokenizer.token_to_id("<|endoftext|>")

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens `[B, L]` int64 of English texts, and `[B, L]` bool: where the next is the text's.

        A text of capitals alone becomes a sentence first, as Whisper writes; one that is too long
        is cut.
        """
        rows = [self._spelt(text)[: LONGEST - len(self._start)] for text in texts]
        longest = max(map(len, rows))
        tokens = [self._start + row + [self._end] * (longest - len(row)) for row in rows]
        first = len(self._start) - 1
        due = torch.zeros(len(rows), len(tokens[0]), dtype=torch.bool)
        for target, row in zip(due, rows, strict=True):
            target[first : first + len(row)] = True
        return torch.tensor(tokens), due

    def _spelt(self, text: str) -> list[int]:
        spoken = text.lower().capitalize() if text.isupper() else text
        ids: list[int] = self._tokenizer.encode(" " + spoken, add_special_tokens=False).ids
        return ids
