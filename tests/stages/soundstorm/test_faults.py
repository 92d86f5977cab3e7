"""The method's invariants, and that each fault known from other implementations breaks one.

A fault is made by changing a line of the real source, so the copies that are broken on purpose
cannot fall behind it; a check that lets its broken copy pass would be no check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import stages.soundstorm.decoding
import stages.soundstorm.loss
import stages.soundstorm.masking
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.decoding import Decoded, DecodeOptions, DecodeRequest
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.randomness import row_noise

LEVELS, SIZE, CONDITIONS = 3, 11, 7
MASK = SIZE
ITERATIONS = (6, 3, 1)
LENGTHS, PROMPTS = [30, 17, 24, 9], [5, 0, 24, 3]


class SpyNetwork(SoundStorm):
    """Embeds tokens as unit vectors, so that its input can be read back at each pass."""

    def __init__(self) -> None:
        super().__init__(
            SoundStormConfig(
                levels=LEVELS,
                codebook_size=SIZE,
                semantic_codebook_size=CONDITIONS,
                layers=1,
                heads=2,
                width=44,
                feed_forward=16,
                dropout=0.0,
            )
        )
        with torch.no_grad():
            rows = LEVELS * SIZE + 1
            self.acoustic_table.copy_(torch.eye(rows, 44))
            self.semantic_table.copy_(torch.eye(rows + CONDITIONS, 44)[rows:])
            self.head_weight.mul_(6.0)
        self.inputs: list[Tensor] = []

    def features_of(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        codes = frames[..., : LEVELS * SIZE].unflatten(-1, (LEVELS, SIZE))
        known, code = codes.max(dim=-1)
        assert torch.equal(frames[..., LEVELS * SIZE], (known == 0).sum(dim=-1).float())
        self.inputs.append(torch.where(known == 0, MASK, code))  # [B, T, Q]
        return super().features_of(frames, mask)


def make_spy() -> SpyNetwork:
    torch.manual_seed(0)
    return SpyNetwork().eval()


def check_decoding(module: ModuleType, requests: Sequence[DecodeRequest]) -> None:
    """Assert every invariant of decoding on the `decode` of a module."""
    spy = make_spy()
    options = DecodeOptions(iterations=ITERATIONS)
    results = module.decode(spy, requests, options)
    inputs = torch.stack(spy.inputs)  # [passes, B, T, Q]
    assert len(inputs) == sum(ITERATIONS), "the number of passes"
    for row, (request, result) in enumerate(zip(requests, results, strict=True)):
        T, P = len(request.semantic), len(request.prompt)
        assert (inputs[:, row, T:] == MASK).all(), "padding is a valid code"
        check_inputs(inputs[:, row, :T], request, result)
        check_confidence(spy, inputs[:, row, :T], request, result)
        assert (result.acoustic < SIZE).all(), "a token was never set"
        assert torch.equal(result.acoustic[:P], request.prompt), "the prompt comes out changed"
        alone = module.decode(make_spy(), [request], options)[0]
        assert torch.equal(alone.acoustic, result.acoustic), "neighbours change a row"


def check_inputs(inputs: Tensor, request: DecodeRequest, result: Decoded) -> None:
    """Assert that each pass saw what was known before it: `[passes, T, Q]`."""
    P = len(request.prompt)
    generated = len(request.semantic) - P
    passes = [(level, i, n) for level, n in enumerate(ITERATIONS) for i in range(n)]
    for seen, (level, i, count) in zip(inputs, passes, strict=True):
        current, final = seen[P:], result.acoustic[P:]
        due = math.floor(generated * math.cos(math.pi / 2 * i / count) + 1e-9)
        assert int((current[:, level] == MASK).sum()) == due, "not the schedule's count"
        assert (current[:, level + 1 :] == MASK).all(), "a finer level is set early"
        assert (current[:, :level] != MASK).all(), "a coarser level is not done"
        assert torch.equal(seen[:P], request.prompt), "the prompt is not seen"
        known = current != MASK
        assert torch.equal(current[known], final[known]), "a set token changed later"


def check_confidence(
    spy: SpyNetwork, inputs: Tensor, request: DecodeRequest, result: Decoded
) -> None:
    """Assert that confidences are logits with the right noise, and last passes greedy."""
    P = len(request.prompt)
    final = result.acoustic[P:]
    noise = row_noise(0, request.row_id, len(final), ITERATIONS)
    passes = [(level, i, n) for level, n in enumerate(ITERATIONS) for i in range(n)]
    for number, (level, i, count) in enumerate(passes):
        set_now = (result.trace.passes[P:, level] == number + 1).nonzero()[:, 0]
        with torch.inference_mode():
            features = spy.features(inputs[number][None], request.semantic[None])
            logits = spy.head(level, features[0, P:])[set_now]
        chosen = final[set_now, level]
        added = result.trace.confidence[P:][set_now, level]
        added = added - logits.gather(1, chosen[:, None])[:, 0]
        expected = torch.zeros_like(added)
        if i == count - 1:
            assert torch.equal(chosen, logits.argmax(-1)), "not greedy"
        else:
            expected = (1 - i / (count - 1)) * noise[level].gumbel[i][set_now]
        torch.testing.assert_close(added, expected, atol=1e-4, rtol=0, msg="not the annealed noise")


def check_training(masking: ModuleType, loss: ModuleType) -> None:
    """Assert every invariant of the training mask and loss."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([40, 25, 31, 40, 8, 19])
    network = make_spy()
    levels, delimiters, ratios = set(), set(), set()
    for _ in range(8):
        acoustic = torch.randint(SIZE, (6, 40, LEVELS), generator=generator)
        semantic = torch.randint(CONDITIONS, (6, 40), generator=generator)
        mask = masking.draw_mask(lengths, LEVELS, generator)
        levels.add(len(set(mask.level.tolist())))
        delimiters.add(len(set((mask.delimiter / lengths).tolist())))
        ratios.add(len(set(mask.ratio.tolist())))
        network.inputs.clear()
        sums = loss.masked_loss(network, acoustic, semantic, mask)
        (seen,) = network.inputs
        total, tokens = 0.0, 0
        for row, length in enumerate(lengths.tolist()):
            t, q = int(mask.delimiter[row]), int(mask.level[row])
            assert t < length, "an example that is all prompt"
            assert (seen[row, length:] == MASK).all(), "padding is a valid code"
            assert torch.equal(seen[row, :t], acoustic[row, :t]), "a prompt token is hidden"
            coarser = seen[row, :length, :q]
            assert torch.equal(coarser, acoustic[row, :length, :q]), "a coarser level is hidden"
            assert (seen[row, t:, q + 1 :] == MASK).all(), "a finer level is not hidden"
            hidden = seen[row, :length, q] == MASK
            features = network.features(seen[row : row + 1, :length], semantic[row, None, :length])
            logits = network.head(q, features[0][hidden])
            total += torch.nn.functional.cross_entropy(
                logits, acoustic[row, :length, q][hidden], reduction="sum"
            ).item()
            tokens += int(hidden.sum())
        assert int(sums.tokens.sum()) == tokens, "not the masked tokens of the level"
        assert sums.mean.item() == pytest.approx(total / tokens, rel=1e-4), "not their mean loss"
    assert max(levels) > 1, "one level for the whole batch"
    assert max(delimiters) == 6, "one delimiter for the whole batch"
    assert max(ratios) == 6, "one ratio for the whole batch"


def broken(module: ModuleType, *changes: tuple[str, str]) -> ModuleType:
    """A copy of a module with pieces of its source replaced, each of which must be there once."""
    source = Path(str(module.__file__)).read_text()
    for old, new in changes:
        assert source.count(old) == 1, f"{module.__name__} has no single {old!r} to break"
        source = source.replace(old, new)
    copy = ModuleType(module.__name__)
    exec(compile(source, f"broken {module.__name__}", "exec"), copy.__dict__)
    return copy


@pytest.fixture
def requests(make_requests) -> list[DecodeRequest]:  # type: ignore[no-untyped-def]
    made: list[DecodeRequest] = make_requests(LENGTHS, PROMPTS)
    return made


def test_decoding_keeps_its_invariants(requests: list[DecodeRequest]) -> None:
    check_decoding(stages.soundstorm.decoding, requests)
    check_decoding(broken(stages.soundstorm.decoding), requests)  # copying alone breaks nothing


def test_training_keeps_its_invariants() -> None:
    check_training(stages.soundstorm.masking, stages.soundstorm.loss)


IMPORT = "from stages.soundstorm.schedule import masked_after, noise_multiplier"
NOISE = "noise_multiplier(iteration, iterations) * noise"
Change = tuple[str, str]
DECODING_FAULTS: dict[str, tuple[str, list[Change]]] = {
    # fault: what the check says of it, and how to bring it about
    "schedule of all levels cut at one level's length": (
        "the number of passes|not the schedule's count",
        [(IMPORT, IMPORT + """

def masked_after(n, i, count, exact=masked_after):
    return max(0, exact(3 * n, i, count) - 2 * n)
""")],
    ),
    "schedule of the padded length": (
        "not the schedule's count",
        [
            ("before = [masked_after(count,", "before = [min(count, masked_after(max(counts),"),
            ("iteration - 1, iterations) for", "iteration - 1, iterations)) for"),
            ("after = [masked_after(count,", "after = [min(count, masked_after(max(counts),"),
            ("iteration, iterations) for", "iteration, iterations)) for"),
        ],
    ),
    "schedule that counts the prompt": (
        "not the schedule's count",
        [
            ("before = [masked_after(count,", "before = [min(count, masked_after(count + prompt,"),
            ("iteration - 1, iterations) for count in counts",
             "iteration - 1, iterations)) for count, prompt in zip(counts, state.prompts)"),
            ("after = [masked_after(count,", "after = [min(count, masked_after(count + prompt,"),
            ("iteration, iterations) for count in counts",
             "iteration, iterations)) for count, prompt in zip(counts, state.prompts)"),
        ],
    ),
    "finer levels filled before their turn": (
        "a finer level is set early",
        [("    others = state.condition",
          "    state.tokens[:, :, level + 1 :][state.generated] = 1\n"
          "    others = state.condition")],
    ),
    "prompt not shown": (
        "the prompt is not seen",
        [("tokens[row, :start] = request.prompt", "pass")],
    ),
    "prompt overwritten": (
        "the prompt comes out changed",
        [("acoustic=tokens[row, :length, :levels].clone()",
          "acoustic=torch.cat((tokens[row, 1:2, :levels], tokens[row, 1:length, :levels]))")],
    ),
    "same masked input on every pass": (
        "not the schedule's count",
        [("network.embed_level(level, column)",
          "network.embed_level(level, torch.where(state.generated, "
          "network.config.mask_token, column))")],
    ),
    "set tokens drawn again": (
        "a set token changed later",
        [("        state.passes_done += 1",
          "        state.passes_done += 1\n"
          "        if iteration == 2:\n"
          "            column[state.generated & (column != network.config.mask_token)] = 1")],
    ),
    "last pass sampled": (
        "not the annealed noise|not greedy",
        [("if iteration == iterations - 1:", "if iterations == 1:"),
         ("quantiles = state.choice[level][iteration]",
          "quantiles = state.choice[level][iteration - 1]"),
         ("noise = state.gumbel[level][iteration]", "noise = state.gumbel[level][iteration - 1]")],
    ),
    "confidence without noise": ("not the annealed noise", [(NOISE, "0.0 * noise")]),
    "noise that rises": (
        "not the annealed noise",
        [(NOISE, "noise_multiplier(iterations - 2 - iteration, iterations) * noise")],
    ),
    "noise that stays": ("not the annealed noise", [(NOISE, "noise")]),
    "padding with a valid code": (
        "padding is a valid code",
        [("            generated[row, start:end] = True",
          "            tokens[row, end:] = 0\n            generated[row, start:end] = True")],
    ),
    "padding attended to": (
        "not the annealed noise|neighbours",  # logits are not those of the row alone
        [("self.mask = None if padding is None else padding.to(device)", "self.mask = None")],
    ),
    "random numbers by place in the batch": (
        "not the annealed noise|neighbours",
        [("row_noise(options.seed, request.row_id,", "row_noise(options.seed, str(row),")],
    ),
    "random candidates by place in the batch": (
        "neighbours",
        [("quantiles = state.choice[level][iteration]",
          "quantiles = state.choice[level][iteration].flip(0)")],
    ),
    "ranked over the batch": (
        "not the schedule's count",
        [("return rank < due[:, None]",
          "return ranked >= ranked.flatten().sort(descending=True)[0][due.sum() - 1]")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", DECODING_FAULTS)
def test_decoding_fault_is_caught(fault: str, requests: list[DecodeRequest]) -> None:
    verdict, changes = DECODING_FAULTS[fault]
    copy = broken(stages.soundstorm.decoding, *changes)
    with pytest.raises(AssertionError, match=verdict):
        check_decoding(copy, requests)


def test_other_schedules_are_caught(
    requests: list[DecodeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def linear(tokens: int, iteration: int, iterations: int) -> int:
        return tokens * (iterations - 1 - iteration) // iterations

    monkeypatch.setattr(stages.soundstorm.decoding, "masked_after", linear)
    with pytest.raises(AssertionError, match="schedule"):
        check_decoding(stages.soundstorm.decoding, requests)


MASKING_FAULTS: dict[str, tuple[str, Change]] = {
    "one delimiter for the batch": (
        "one delimiter", ("delimiter = (uniform(B) *", "delimiter = (uniform(1) *"),
    ),
    "delimiter of the padded length": (
        "all prompt", ("delimiter = (uniform(B) * lengths)", "delimiter = (uniform(B) * T)"),
    ),
    "one level for the batch": (
        "one level",
        ("torch.randint(levels, (B,), generator=generator)",
         "torch.randint(levels, (1,), generator=generator).expand(B)"),
    ),
    "one ratio for the batch": (
        "one ratio",
        ("torch.cos(uniform(B) * (math.pi / 2))",
         "torch.cos(uniform(1) * (math.pi / 2)).expand(B)"),
    ),
    "finer levels shown": (
        "a finer level is not hidden", ("| (generated & (level > own_level))", ""),
    ),
    "coarser levels hidden": (
        "a coarser level is hidden", ("(level == own_level)", "(level <= own_level)"),
    ),
    "prompt hidden": (
        "a prompt token is hidden", ("(generated & (level > own_level))", "(level > own_level)"),
    ),
    "padding with a valid code": ("padding is a valid code", ("            | padding\n", "")),
}  # fmt: skip
LOSS_FAULTS: dict[str, tuple[str, Change]] = {
    "mean of the rows' means": (
        "not their mean loss",
        ("return self.loss.sum() / self.tokens.sum().clamp(min=1)",
         "return (self.loss / self.tokens.clamp(min=1)).mean()"),
    ),
    "tokens that were shown counted": (
        "not the masked tokens",
        ("tokens=mask.masked.sum(dim=1)",
         "tokens=(torch.arange(mask.masked.shape[1]) >= mask.delimiter[:, None]).sum(dim=1)"),
    ),
    "loss on shown tokens": (
        "not their mean loss",
        ("row, frame = mask.masked.nonzero(as_tuple=True)",
         "row, frame = torch.ones_like(mask.masked).nonzero(as_tuple=True)"),
    ),
    "padding attended to": (
        "not their mean loss",
        ("None if real is None else real.to(device, non_blocking=True)", "None"),
    ),
    "another level's head": (
        "not their mean loss", ("network.head(index, group)", "network.head(0, group)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MASKING_FAULTS)
def test_masking_fault_is_caught(fault: str) -> None:
    verdict, change = MASKING_FAULTS[fault]
    copy = broken(stages.soundstorm.masking, change)
    with pytest.raises(AssertionError, match=verdict):
        check_training(copy, stages.soundstorm.loss)


@pytest.mark.parametrize("fault", LOSS_FAULTS)
def test_loss_fault_is_caught(fault: str) -> None:
    verdict, change = LOSS_FAULTS[fault]
    copy = broken(stages.soundstorm.loss, change)
    with pytest.raises(AssertionError, match=verdict):
        check_training(stages.soundstorm.masking, copy)


def test_network_that_lets_padding_in_is_caught(
    requests: list[DecodeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the mask the padding is convolved and attended to."""
    original: Callable[..., Tensor] = SpyNetwork.features_of
    monkeypatch.setattr(SpyNetwork, "features_of", lambda self, x, mask=None: original(self, x))
    with pytest.raises(AssertionError):
        check_decoding(stages.soundstorm.decoding, requests)
