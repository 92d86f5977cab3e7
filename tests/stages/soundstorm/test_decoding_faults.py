"""The invariants of decoding, and that each fault known from other implementations breaks one.

A fault is made by changing a line of the real source, so the copies that are broken on purpose
cannot fall behind it; a check that lets its broken copy pass would be no check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import stages.soundstorm.decoding
from stages.soundstorm.decoding import Decoded, DecodeOptions, DecodeRequest
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.randomness import row_noise

MASK = SIZE = 11
ITERATIONS = (6, 3, 1)
TOGETHER = (4, 3, 0)
"""The second and the third level in the same three passes."""
Passes = list[tuple[list[int], int, int]]
"""Of each pass its levels, its place among the passes of those, and how many those are."""
MakeSpy = Callable[[], Any]
Broken = Callable[..., ModuleType]
LENGTHS, PROMPTS = [30, 17, 24, 9], [5, 0, 24, 3]


def passes_of(iterations: Sequence[int]) -> Passes:
    groups: list[list[int]] = []
    for level, count in enumerate(iterations):
        groups += [[level]] if count else []
        groups[-1] += [] if count else [level]
    return [
        (levels, i, iterations[levels[0]])
        for levels in groups
        for i in range(iterations[levels[0]])
    ]


def check_decoding(
    module: ModuleType,
    requests: Sequence[DecodeRequest],
    make_spy: MakeSpy,
    iterations: tuple[int, ...] = ITERATIONS,
) -> None:
    """Assert every invariant of decoding on the `decode_padded` of a module."""
    spy = make_spy()
    options = DecodeOptions(iterations=iterations)
    results = module.decode_padded(spy, requests, options)
    inputs = torch.stack(spy.inputs)  # [passes, B, T, Q]
    passes = passes_of(iterations)
    assert len(inputs) == len(passes) == sum(iterations), "the number of passes"
    for row, (request, result) in enumerate(zip(requests, results, strict=True)):
        T, P = len(request.semantic), len(request.prompt)
        assert (inputs[:, row, T:] == MASK).all(), "padding is a valid code"
        check_inputs(passes, inputs[:, row, :T], request, result)
        check_confidence(spy, passes, inputs[:, row, :T], request, result)
        assert (result.acoustic < SIZE).all(), "a token was never set"
        assert torch.equal(result.acoustic[:P], request.prompt), "the prompt comes out changed"
        alone = module.decode(make_spy(), [request], options)[0]
        assert torch.equal(alone.acoustic, result.acoustic), "neighbours change a row"


def check_inputs(passes: Passes, inputs: Tensor, request: DecodeRequest, result: Decoded) -> None:
    """Assert that each pass saw what was known before it: `[passes, T, Q]`."""
    P = len(request.prompt)
    generated = len(request.semantic) - P
    for seen, (levels, i, count) in zip(inputs, passes, strict=True):
        current, final = seen[P:], result.acoustic[P:]
        due = math.floor(generated * math.cos(math.pi / 2 * i / count) + 1e-9)
        own = current[:, levels] == MASK
        assert (own.sum(dim=0) == due).all(), "not the schedule's count"
        assert (own == own[:, :1]).all(), "levels taken together are set at different frames"
        assert (current[:, levels[-1] + 1 :] == MASK).all(), "a finer level is set early"
        assert (current[:, : levels[0]] != MASK).all(), "a coarser level is not done"
        assert torch.equal(seen[:P], request.prompt), "the prompt is not seen"
        known = current != MASK
        assert torch.equal(current[known], final[known]), "a set token changed later"


def check_confidence(
    spy: SoundStorm, passes: Passes, inputs: Tensor, request: DecodeRequest, result: Decoded
) -> None:
    """Assert that confidences are logits with the right noise, and last passes greedy."""
    P = len(request.prompt)
    final = result.acoustic[P:]
    counts = {level: count for levels, _, count in passes for level in levels}
    noise = row_noise(0, request.row_id, len(final), list(counts.values()))
    own = [
        (number, level, i, count)
        for number, (levels, i, count) in enumerate(passes)
        for level in levels
    ]
    for number, level, i, count in own:
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


@pytest.fixture
def requests(make_requests) -> list[DecodeRequest]:  # type: ignore[no-untyped-def]
    made: list[DecodeRequest] = make_requests(LENGTHS, PROMPTS)
    return made


def test_decoding_keeps_its_invariants(
    requests: list[DecodeRequest], make_spy: MakeSpy, broken: Broken
) -> None:
    copied = broken(stages.soundstorm.decoding)  # copying alone breaks nothing
    for module in (stages.soundstorm.decoding, copied):
        for iterations in (ITERATIONS, TOGETHER):
            check_decoding(module, requests, make_spy, iterations)


IMPORT = "from stages.soundstorm.schedule import Term, masked_after, noise_multiplier, terms"
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
        [("    column = state.tokens[:, :, level]",
          "    state.tokens[:, :, level + 1 :][state.generated] = 1\n"
          "    column = state.tokens[:, :, level]")],
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
         ("quantiles = state.choice[index][iteration]",
          "quantiles = state.choice[index][iteration - 1]"),
         ("noise = state.gumbel[index][iteration]", "noise = state.gumbel[index][iteration - 1]")],
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
        [("quantiles = state.choice[index][iteration]",
          "quantiles = state.choice[index][iteration].flip(0)")],
    ),
    "ranked over the batch": (
        "not the schedule's count",
        [("return rank < due[:, None]",
          "return ranked >= ranked.flatten().sort(descending=True)[0][due.sum() - 1]")],
    ),
}  # fmt: skip


TOGETHER_FAULTS: dict[str, tuple[str, list[Change]]] = {
    "each level ranked alone": (
        "set at different frames",
        [("                table.scatter_(",
          "                kept = _surest(\n"
          "                    confidence, torch.tensor(before),\n"
          "                    torch.tensor(before) - torch.tensor(after),\n"
          "                )\n"
          "                table.scatter_(")],
    ),
    "companions not shown in the passes after": (
        "not the schedule's count",
        [("if iteration > 0 and term.levels > 1:", "if False:")],
    ),
    "one level's head for all": (
        "not the annealed noise|not greedy",
        [("network.head(index, wanted)", "network.head(level, wanted)")],
    ),
    "one level's numbers for all": (
        "not the annealed noise",
        [("state.gumbel[index][iteration]", "state.gumbel[level][iteration]")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", DECODING_FAULTS)
def test_decoding_fault_is_caught(
    fault: str, requests: list[DecodeRequest], make_spy: MakeSpy, broken: Broken
) -> None:
    verdict, changes = DECODING_FAULTS[fault]
    copy = broken(stages.soundstorm.decoding, *changes)
    with pytest.raises(AssertionError, match=verdict):
        check_decoding(copy, requests, make_spy)


@pytest.mark.parametrize("fault", TOGETHER_FAULTS)
def test_fault_of_levels_taken_together_is_caught(
    fault: str, requests: list[DecodeRequest], make_spy: MakeSpy, broken: Broken
) -> None:
    verdict, changes = TOGETHER_FAULTS[fault]
    copy = broken(stages.soundstorm.decoding, *changes)
    with pytest.raises(AssertionError, match=verdict):
        check_decoding(copy, requests, make_spy, TOGETHER)


def test_other_schedules_are_caught(
    requests: list[DecodeRequest], make_spy: MakeSpy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linear(tokens: int, iteration: int, iterations: int) -> int:
        return tokens * (iterations - 1 - iteration) // iterations

    monkeypatch.setattr(stages.soundstorm.decoding, "masked_after", linear)
    with pytest.raises(AssertionError, match="schedule"):
        check_decoding(stages.soundstorm.decoding, requests, make_spy)


def test_network_that_lets_padding_in_is_caught(
    requests: list[DecodeRequest], make_spy: MakeSpy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the mask the padding is convolved and attended to."""
    spy_class = type(make_spy())
    original: Callable[..., Tensor] = spy_class.features_of
    monkeypatch.setattr(spy_class, "features_of", lambda self, x, mask=None: original(self, x))
    with pytest.raises(AssertionError):
        check_decoding(stages.soundstorm.decoding, requests, make_spy)
