"""Iterative parallel decoding (paper, section 3.3): level by level, the surest tokens first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stages.errors import DataMismatch, RowFailure
from stages.nn.conformer import padding_mask
from stages.shards.spec import TokenSpec
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.guidance import (
    UNGUIDED,
    Guidance,
    check_guidance,
    guidance_at,
    guidance_text,
    runs_a_pass,
)
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.randomness import COLDEST, choose, row_noise
from stages.soundstorm.schedule import Term, masked_after, noise_multiplier, terms


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How to decode."""

    iterations: tuple[int, ...]
    """Passes of each level to decode, coarse first; fewer than Q leave finer levels undone.

    0 takes a level together with the one before it: in the same passes, and at the same frames."""

    temperature: float = 1.0
    """Of the distribution that candidates are sampled from (paper: 1); 0 takes the likeliest."""

    seed: int = 0
    """With a row's id, it decides all that is random about the row."""

    guidance: Guidance = UNGUIDED
    """How far logits go from those without semantic tokens to those with them, and beyond
    (classifier-free guidance, Ho and Salimans 2022): 1 is the paper's, with them; more follows the
    words closer. Any but 1 makes a level's passes twice, for a network that is `unconditional`,
    too."""

    def __post_init__(self) -> None:
        if not self.iterations or self.iterations[0] < 1 or min(self.iterations) < 0:
            raise DataMismatch(
                "every level to decode needs at least one pass, or to go with the level before it"
            )
        if not 0.0 <= self.temperature < float("inf"):
            raise DataMismatch(f"a temperature of {self.temperature} is not 0 or more")
        check_guidance(self.guidance)

    def check(self, config: SoundStormConfig) -> None:
        """DataMismatch if a network of this configuration cannot decode so."""
        if len(self.iterations) > config.levels:
            raise DataMismatch(
                f"{len(self.iterations)} levels are to be decoded while the model has "
                f"{config.levels}"
            )
        if self.guidance != UNGUIDED and not config.unconditional:
            raise DataMismatch(
                f"a guidance of {guidance_text(self.guidance)} needs a model that was trained "
                "without semantic tokens, too: train it with --set recipe.drop_semantic=0.1, or "
                "leave guidance at 1"
            )


class TokenSizes(Protocol):
    """What of a model's configuration says which tokens are good."""

    @property
    def levels(self) -> int: ...

    @property
    def codebook_size(self) -> int: ...

    @property
    def semantic_codebook_size(self) -> int: ...


class TokenModel(Protocol):
    """A model that makes acoustic tokens from semantic ones."""

    @property
    def semantic(self) -> TokenSpec: ...

    @property
    def acoustic(self) -> TokenSpec: ...

    @property
    def levels(self) -> int:
        """Q, the levels that it makes, all of which a prompt has."""


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """One row to decode."""

    row_id: str

    semantic: Tensor
    """`[T]` int64: the condition at the acoustic frame rate; T is the row's length."""

    prompt: Tensor
    """`[P, Q]` int64, P <= T: the leading frames that are given, all levels of them."""

    def check(self, config: TokenSizes) -> None:
        """Raise RowFailure where a token is not in its codebook or a shape is wrong."""
        if self.semantic.ndim != 1 or len(self.semantic) == 0:
            raise RowFailure("the row has no semantic tokens to decode from")
        if self.prompt.ndim != 2 or self.prompt.shape[1] != config.levels:
            raise RowFailure(
                f"a prompt of shape {list(self.prompt.shape)} does not have the "
                f"{config.levels} levels of the model"
            )
        if len(self.prompt) > len(self.semantic):
            raise RowFailure(
                f"a prompt of {len(self.prompt)} frames is longer than the row's "
                f"{len(self.semantic)}"
            )
        for kind, tokens, size in (
            ("semantic", self.semantic, config.semantic_codebook_size),
            ("acoustic", self.prompt, config.codebook_size),
        ):
            if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < size:
                raise RowFailure(
                    f"a {kind} token is outside the model's codebook of {size} entries"
                )


@dataclass(frozen=True, kw_only=True)
class DecodeTrace:
    """How a row came about."""

    passes: Tensor
    """`[T, levels]` int64: the pass that set a token, counted from 1; 0 where it was given.

    Passes in which nothing was due count, too: the same level has the same numbers in all rows."""

    confidence: Tensor
    """`[T, levels]` float32: logit of the chosen candidate plus its noise; NaN where given."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One decoded row, on the CPU."""

    acoustic: Tensor
    """`[T, levels]` int64, prompt first, with as many levels as were decoded."""

    trace: DecodeTrace


def decode(
    network: SoundStorm, requests: Sequence[DecodeRequest], options: DecodeOptions
) -> list[Decoded]:
    """Decode rows, each as if it were alone.

    On a CPU each row is alone: matrix products round by the number of their rows, and sooner or
    later a draw falls on the other side; two cores are as fast without a batch. Elsewhere all
    rows share padded passes, and only that rounding can tell a batch from its rows.

    Args:
        network: in evaluation mode.
        requests: rows that passed `DecodeRequest.check`.
        options: with at most as many levels as the network has.

    Returns:
        One result a request, in order.

    Raises:
        DataMismatch: if the network cannot decode so (`DecodeOptions.check`).
    """
    if network.acoustic_table.device.type != "cpu":
        return decode_padded(network, requests, options)
    return [decode_padded(network, [request], options)[0] for request in requests]


@torch.inference_mode()
def decode_padded(
    network: SoundStorm,
    requests: Sequence[DecodeRequest],
    options: DecodeOptions,
    *,
    frames: int = 0,
) -> list[Decoded]:
    """As `decode`, but in one ragged batch on any device: the network runs once a pass for all.

    A row's schedule and random numbers are its own, so only the rounding of sums may tell the
    batch from its rows. `frames` is the least that rows are padded to.
    """
    options.check(network.config)
    state = _State(network, requests, options, frames)
    for term in terms(options.iterations):
        _decode_term(network, state, term, options)
    return state.results(len(options.iterations))


class _State:
    """The tokens of a batch as they fill up, and what stays the same meanwhile."""

    def __init__(
        self,
        network: SoundStorm,
        requests: Sequence[DecodeRequest],
        options: DecodeOptions,
        frames: int,
    ) -> None:
        device = network.acoustic_table.device
        self.lengths = [len(request.semantic) for request in requests]
        self.prompts = [len(request.prompt) for request in requests]
        B, T = len(requests), max(*self.lengths, frames)
        mask_token = network.config.mask_token
        # On the CPU first: one copy to the device whatever the number of rows.
        semantic = torch.zeros(B, T, dtype=torch.long)
        tokens = torch.full((B, T, network.config.levels), mask_token)
        generated = torch.zeros(B, T, dtype=torch.bool)
        passes = [term.passes for term in terms(options.iterations) for _ in term.indices]
        sizes = [(count - 1, B, T) for count in passes]
        choice = [torch.zeros(size) for size in sizes]
        gumbel = [torch.zeros(size) for size in sizes]
        for row, request in enumerate(requests):
            start, end = self.prompts[row], self.lengths[row]
            semantic[row, :end] = request.semantic
            tokens[row, :start] = request.prompt
            generated[row, start:end] = True
            noise = row_noise(options.seed, request.row_id, end - start, passes)
            for level, drawn in enumerate(noise):
                choice[level][:, row, start:end] = drawn.choice
                gumbel[level][:, row, start:end] = drawn.gumbel
        padding = padding_mask(torch.tensor(self.lengths), T)
        self.mask = None if padding is None else padding.to(device)
        # [G, B, T, D], G the times that a guided pass is made; [G B, T] for the mask
        self.condition = network.embed_semantic(semantic.to(device))[None]
        if options.guidance != UNGUIDED:
            self.condition = torch.cat((self.condition, torch.zeros_like(self.condition)))
            self.mask = None if self.mask is None else self.mask.repeat(2, 1)
        self.tokens = tokens.to(device)  # [B, T, Q]
        self.generated = generated.to(device)  # [B, T]
        self.choice = [values.to(device) for values in choice]  # each [iterations - 1, B, T]
        self.gumbel = [values.to(device) for values in gumbel]
        self.passes = torch.zeros_like(self.tokens)
        self.confidence = torch.full(self.tokens.shape, torch.nan, device=device)
        self.passes_done = 0

    def results(self, levels: int) -> list[Decoded]:
        """The rows without their padding, on the CPU."""
        tokens, passes = self.tokens.cpu(), self.passes.cpu()
        confidence = self.confidence.cpu()
        return [
            Decoded(
                acoustic=tokens[row, :length, :levels].clone(),
                trace=DecodeTrace(
                    passes=passes[row, :length, :levels].clone(),
                    confidence=confidence[row, :length, :levels].clone(),
                ),
            )
            for row, length in enumerate(self.lengths)
        ]


def _decode_term(network: SoundStorm, state: _State, term: Term, options: DecodeOptions) -> None:
    """All passes of one level, or of those that a term takes together.

    Levels finer than it are still masked, so the sum sees them so. Levels of one term are masked
    at the same frames: a pass keeps the frames whose candidates are surest together.
    """
    level, iterations = term.first, term.passes
    counts = [length - prompt for length, prompt in zip(state.lengths, state.prompts, strict=True)]
    column = state.tokens[:, :, level]  # [B, T], a view: what is set here is set there
    runs = runs_a_pass(options.guidance, term.indices)  # G of this term
    condition = state.condition[:runs]
    mask = None if state.mask is None else state.mask[: runs * len(counts)]
    others = condition + network.embed_levels(state.tokens, skip=level)  # [G, B, T, D]
    for iteration in range(iterations):
        state.passes_done += 1
        before = [masked_after(count, iteration - 1, iterations) for count in counts]
        after = [masked_after(count, iteration, iterations) for count in counts]
        if before == after:  # few tokens and many passes: nothing is due in this one
            continue
        if iteration > 0 and term.levels > 1:  # the level's companions were set in part, too
            others = condition + network.embed_levels(state.tokens, skip=level)
        summed = others + network.embed_level(level, column)
        features = network.features_of(summed.flatten(0, 1), mask).view_as(summed)
        # The masked frames of each row, in order, then others up to the longest row's count.
        # Counts are known from the schedule, so nothing here waits for the device.
        masked = state.generated & (column == network.config.mask_token)
        frames = masked.byte().argsort(dim=1, descending=True, stable=True)[:, : max(before)]
        wanted = features.gather(
            2, frames[:, :, None].expand(len(features), -1, -1, features.shape[-1])
        )
        drawn = []
        for index in term.indices:
            guidance = guidance_at(options.guidance, index)
            logits = _guided(network.head(index, wanted).float(), guidance)  # [B, K, C]
            if iteration == iterations - 1:
                confidence, candidates = logits.max(dim=-1)  # [B, K]
            else:
                quantiles = state.choice[index][iteration].gather(1, frames)
                candidates = _sample(logits, quantiles, options.temperature)
                confidence = logits.gather(2, candidates[:, :, None]).squeeze(2)
                noise = state.gumbel[index][iteration].gather(1, frames)
                confidence = confidence + noise_multiplier(iteration, iterations) * noise
            drawn.append((candidates, confidence))
        together = torch.stack([confidence for _, confidence in drawn]).sum(dim=0)
        kept = _surest(together, torch.tensor(before), torch.tensor(before) - torch.tensor(after))
        for index, (candidates, confidence) in zip(term.indices, drawn, strict=True):
            for table, new in (
                (state.tokens[:, :, index], candidates),
                (state.confidence[:, :, index], confidence),
                (state.passes[:, :, index], torch.full_like(candidates, state.passes_done)),
            ):
                table.scatter_(1, frames, torch.where(kept, new, table.gather(1, frames)))


def _guided(logits: Tensor, guidance: float) -> Tensor:
    """`[G, B, K, C]` with the condition, and without it where G is 2, to `[B, K, C]`."""
    if len(logits) == 1:
        return logits[0]
    with_it, without = logits.unbind()
    return without.lerp(with_it, guidance)


def _sample(logits: Tensor, quantiles: Tensor, temperature: float) -> Tensor:
    """Sample a candidate for each position by inverting its cumulative distribution.

    Args:
        logits: `[B, K, C]`.
        quantiles: `[B, K]` in [0, 1).
        temperature: divides the logits; less than `COLDEST`, as 0, takes the largest.

    Returns:
        `[B, K]` int64.
    """
    if temperature < COLDEST:
        return logits.argmax(dim=-1)
    return choose((logits / temperature).softmax(dim=-1), quantiles)


def _surest(confidence: Tensor, valid: Tensor, due: Tensor) -> Tensor:
    """Which candidates to keep.

    Args:
        confidence: `[B, K]`.
        valid: `[B]`: a row's first so many positions are its masked tokens, the rest void.
        due: `[B]`: how many each row keeps.

    Returns:
        `[B, K]` bool; of equal confidences the earlier frame's is kept.
    """
    device = confidence.device  # which `to` would else wait for, once in every pass
    valid, due = valid.to(device, non_blocking=True), due.to(device, non_blocking=True)
    position = torch.arange(confidence.shape[1], device=device)
    ranked = confidence.masked_fill(position >= valid[:, None], -torch.inf)
    order = ranked.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, position.expand_as(order))
    return rank < due[:, None]
