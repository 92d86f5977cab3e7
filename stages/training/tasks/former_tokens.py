"""`recipe.former`: the training set with the semantic tokens of a model to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.errors import DataMismatch
from stages.shards.spec import TokenSpec
from stages.training.semantic_store import SemanticStore
from stages.training.token_store import TokenStore


@dataclass(frozen=True, kw_only=True)
class SemanticTokens:
    """All of a set, one utterance after the other."""

    tokens: NDArray[np.uint16]
    """`[F]`."""

    lengths: NDArray[np.int64]
    """`[N]`, of the utterances."""

    spec: TokenSpec

    @staticmethod
    def of(store: TokenStore | SemanticStore) -> SemanticTokens:
        """Those of a store, at the rate it has them."""
        if isinstance(store, TokenStore):
            tokens, spec = store.semantic, store.semantic_spec
        else:
            tokens, spec = store.tokens, store.spec
        return SemanticTokens(tokens=tokens, lengths=store.lengths, spec=spec)


def same_frames(
    former: TokenStore | SemanticStore,
    store: TokenStore | SemanticStore,
    spoken: TokenSpec,
    *,
    folder: Path,
) -> tuple[Tensor, Tensor]:
    """The semantic tokens of a set twice.

    Args:
        former: with those of the model to start from.
        store: the training set.
        spoken: the model's.
        folder: its folder, for messages.

    Returns:
        `[F]` int64 each, frame by frame: the former ones, and those of the training set.

    Raises:
        DataMismatch: if the tokens of `former` are not the model's, or of other utterances.
    """
    theirs, ours = SemanticTokens.of(former), SemanticTokens.of(store)
    spoken.require_same(theirs.spec, ours=str(folder), theirs="the set of recipe.former")
    if not np.array_equal(theirs.lengths, ours.lengths):
        raise DataMismatch(
            "the set of recipe.former has other utterances, or in another order, than the "
            "training set: tokenize the same set twice"
        )
    before, now = (torch.from_numpy(part.tokens.astype(np.int64)) for part in (theirs, ours))
    return before, now
