"""The Transformer: causal, blind to padding and neighbours, and the same with a cached past."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.rotary import rotary_table
from stages.nn.transformer import KeyValueCache, Transformer, TransformerBlock, TransformerConfig

CONFIG = TransformerConfig(layers=3, heads=4, width=32, feed_forward=48, dropout=0.0)


def make_transformer(config: TransformerConfig = CONFIG) -> Transformer:
    torch.manual_seed(0)
    transformer = Transformer(config).eval()
    with torch.no_grad():  # norms and biases away from their plain start
        for parameter in transformer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return transformer


def make_cache(rows: int, capacity: int) -> KeyValueCache:
    return KeyValueCache(CONFIG, rows=rows, capacity=capacity, device=torch.device("cpu"))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_block_is_what_the_formulas_say() -> None:
    """Against attention written out, one query at a time."""
    block = make_transformer().blocks[0]
    assert isinstance(block, TransformerBlock)
    x = torch.randn(1, 7, 32)
    with torch.inference_mode():
        q, k, v = block.attention.qkv(block.attention_norm(x))[0].chunk(3, dim=-1)  # [N, D]
        cosine, sine = rotary_table(7, 8, device=x.device)
        heads = []
        for head in range(4):
            own = slice(8 * head, 8 * head + 8)
            turned = []
            for vectors in (q[:, own], k[:, own]):
                even, odd = vectors[:, 0::2], vectors[:, 1::2]
                pairs = (even * cosine - odd * sine, even * sine + odd * cosine)
                turned.append(torch.stack(pairs, dim=-1).flatten(-2))
            rows = []
            for n in range(7):
                weights = (turned[1][: n + 1] @ turned[0][n] / 8**0.5).softmax(0)
                rows.append(weights @ v[: n + 1, own])
            heads.append(torch.stack(rows))
        after = x + block.attention.out(torch.cat(heads, dim=-1))
        hidden = block.feed_forward.inner(block.feed_forward_norm(after))
        expected = after + block.feed_forward.outer(hidden * hidden.sigmoid())
        close(block(x, rotary_table(7, 8, device=x.device)), expected)


def test_the_future_is_not_seen_and_padding_is_future() -> None:
    transformer, x = make_transformer(), torch.randn(2, 12, 32)
    with torch.inference_mode():
        before = transformer(x)
        x[:, 8:] = 1e4
        after = transformer(x)
        assert torch.equal(before[:, :8], after[:, :8])
        close(transformer(x[:1, :8])[0], before[0, :8])


def test_order_matters_and_only_distances_do() -> None:
    transformer, x = make_transformer(), torch.randn(1, 9, 32)
    places = torch.arange(9)[None]
    with torch.inference_mode():
        plain = transformer(x)
        assert torch.equal(plain, transformer(x, places))
        close(plain, transformer(x, places + 1000))
        assert not torch.allclose(plain, transformer(x, 3 * places), atol=1e-2)
        assert not torch.allclose(plain[0, -1], transformer(x.flip(1))[0, 0], atol=1e-2)


@pytest.mark.parametrize("pieces", [[1] * 11, [4, 1, 1, 5], [11], [10, 1]])
def test_a_cached_past_changes_nothing(pieces: list[int]) -> None:
    transformer, x = make_transformer(), torch.randn(3, 11, 32)
    cache = make_cache(3, 11)
    with torch.inference_mode():
        outputs = [transformer.extend(part, cache) for part in x.split(pieces, dim=1)]
        close(torch.cat(outputs, dim=1), transformer(x))
    assert cache.lengths == [11, 11, 11]


def test_rows_of_different_pasts_share_a_cache() -> None:
    """Prefixes of 5, 1 and 3 tokens, then five more of each, one and two at a time."""
    transformer, prefixes = make_transformer(), [5, 1, 3]
    rows = [torch.randn(length + 5, 32) for length in prefixes]
    cache = make_cache(3, 11)
    padded = torch.full((3, 5, 32), 1e4)
    for row, (x, length) in enumerate(zip(rows, prefixes, strict=True)):
        padded[row, :length] = x[:length]
    with torch.inference_mode():
        first = transformer.extend(padded, cache, counts=prefixes)
        got = [[first[row, :length]] for row, length in enumerate(prefixes)]
        for start, count in ((0, 1), (1, 2), (3, 1), (4, 1)):
            parts = [x[p + start : p + start + count] for x, p in zip(rows, prefixes, strict=True)]
            more = transformer.extend(torch.stack(parts), cache)
            for row in range(3):
                got[row].append(more[row])
        for x, parts in zip(rows, got, strict=True):
            close(torch.cat(parts), transformer(x[None])[0])
    assert cache.lengths == [10, 6, 8]


def test_rows_that_are_done_leave() -> None:
    transformer, x = make_transformer(), torch.randn(3, 6, 32)
    cache = make_cache(3, 6)
    places = torch.tensor([[3, 1, 4, 1, 5, 9]]).expand(3, -1)
    with torch.inference_mode():
        whole = transformer(x, places)
        transformer.extend(x[:, :4], cache, positions=places[:, :4])
        cache.keep_first(2)
        assert cache.rows == 2
        rest = transformer.extend(x[:2, 4:], cache, positions=places[:2, 4:])
        close(rest, whole[:2, 4:])


def test_a_full_cache_says_so() -> None:
    transformer, cache = make_transformer(), make_cache(1, 3)
    with torch.inference_mode(), pytest.raises(ValueError, match="cache of 3 tokens"):
        transformer.extend(torch.randn(1, 4, 32), cache)


def test_dropout_only_in_training() -> None:
    config = TransformerConfig(layers=1, heads=2, width=8, feed_forward=8, dropout=0.5)
    transformer, x = make_transformer(config), torch.randn(1, 6, 8)
    assert torch.equal(transformer(x), transformer(x))
    transformer.train()
    assert not torch.equal(transformer(x), transformer(x))


@pytest.mark.parametrize(
    "change", [{"layers": 0}, {"heads": 3}, {"heads": 32}, {"dropout": 1.0}, {"width": -32}]
)
def test_refuses_what_cannot_be_built(change: dict[str, int]) -> None:
    good = {"layers": 2, "heads": 4, "width": 32, "feed_forward": 48}
    with pytest.raises(DataMismatch):
        TransformerConfig(**{**good, **change})  # type: ignore[arg-type]
