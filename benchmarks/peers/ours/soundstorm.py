"""SoundStorm: a decoding and a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.probe import WARM_UP_STEPS, Spec, Stopwatch, forward_in, peak_bytes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from stages.soundstorm.masking import TrainingMask
    from stages.soundstorm.network import SoundStorm

CLIP_NORM = 1.0
"""The peer's step clips to the same."""


def build(shape: dict[str, Any]) -> SoundStorm:
    """The network, with random weights from a fixed seed and, as the peer's by default, no
    dropout."""
    import torch

    from stages.soundstorm.config import SoundStormConfig
    from stages.soundstorm.network import SoundStorm

    torch.manual_seed(0)
    names = ("levels", "codebook_size", "layers", "heads", "width", "feed_forward", "kernel")
    config = SoundStormConfig(
        **{name: shape[name] for name in names},
        semantic_codebook_size=shape["semantic_size"],
        dropout=0.0,
    )
    return SoundStorm(config)


def parameters(network: Any) -> int:
    """Numbers in a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def decode(spec: Spec) -> dict[str, Any]:
    """All levels of one utterance of `frames` frames, without a prompt.

    In `precision` and the passes of `iterations`, by default float32 and the paper's. `masked` is
    how many masks of the level that is due each pass saw.
    """
    import torch

    from stages.allocator import keep_freed_memory
    from stages.nn.precision import FLOAT32, to_precision
    from stages.soundstorm.decoding import DecodeOptions, DecodeRequest
    from stages.soundstorm.decoding import decode as decode_rows
    from stages.soundstorm.schedule import PAPER_ITERATIONS, parse_iterations

    torch.set_num_threads(spec["threads"])
    imported = peak_bytes()
    shape, frames = spec["shape"], spec["frames"]
    network = build(shape).eval().requires_grad_(False)
    numbers = parameters(network)
    precision = spec.get("precision", FLOAT32)
    network = to_precision(network, precision, torch.device("cpu"))
    keep_freed_memory()  # as `soundstorm decode` does
    request = DecodeRequest(
        row_id="row",
        semantic=torch.arange(frames) % shape["semantic_size"],
        prompt=torch.zeros(0, shape["levels"], dtype=torch.long),
    )
    decode_rows(network, [request], DecodeOptions(iterations=(1,)))  # one pass warms up
    iterations = parse_iterations(spec.get("iterations", PAPER_ITERATIONS), shape["levels"])
    with Stopwatch() as watch:
        (row,) = decode_rows(network, [request], DecodeOptions(iterations=iterations))
    assert tuple(row.acoustic.shape) == (frames, shape["levels"])
    assert 0 <= int(row.acoustic.min()) <= int(row.acoustic.max()) < shape["codebook_size"]
    return {
        "seconds": watch.seconds,
        "imported_bytes": imported,
        "parameters": numbers,
        "passes": int(row.trace.passes.max()),
        "masked": _masked(row.trace.passes, iterations),
    }


def _masked(passes: Tensor, iterations: tuple[int, ...]) -> list[int]:
    """Masks of the due level before each pass, from the pass that set each token.

    Args:
        passes: `[T, Q]`, counted from 1.
        iterations: of each level.
    """
    counts: list[int] = []
    for level, count in enumerate(iterations):
        first = len(counts) + 1
        counts += [int((passes[:, level] >= first + turn).sum()) for turn in range(count)]
    return counts


def train(spec: Spec) -> dict[str, Any]:
    """Seconds of a step over `batch` windows of `frames` frames, after two that warm up.

    `precision` is that of the forward pass, as in the training loop.
    """
    import torch

    from stages.allocator import keep_freed_memory
    from stages.soundstorm.masking import draw_mask

    torch.set_num_threads(spec["threads"])
    import stages.soundstorm.loss  # noqa: F401

    imported = peak_bytes()
    shape = spec["shape"]
    network = build(shape).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    size = (spec["batch"], spec["frames"])
    acoustic = torch.randint(shape["codebook_size"], (*size, shape["levels"]))
    semantic = torch.randint(shape["semantic_size"], size)
    lengths = torch.full(size[:1], spec["frames"])
    generator = torch.Generator().manual_seed(0)

    def once() -> None:
        mask = draw_mask(lengths, shape["levels"], generator)
        step(network, optimiser, acoustic, semantic, mask, precision=spec["precision"])

    keep_freed_memory()  # as `soundstorm train` does
    for _ in range(WARM_UP_STEPS):
        once()
    with Stopwatch() as watch:
        for _ in range(spec["steps"]):
            once()
    return {
        "seconds": watch.seconds / spec["steps"],
        "imported_bytes": imported,
        "parameters": parameters(network),
        "steps": spec["steps"],
    }


def step(
    network: SoundStorm,
    optimiser: Optimizer,
    acoustic: Tensor,
    semantic: Tensor,
    mask: TrainingMask,
    *,
    precision: str = "float32",
) -> float:
    """Forward, backward, clipping, update.

    Args:
        acoustic: `[B, T, Q]` int64.
        semantic: `[B, T]` int64.
        mask: of the batch.
        precision: of the forward pass, `float32` or `bfloat16`.
    """
    import torch

    from stages.soundstorm.loss import masked_loss

    with forward_in(precision):
        loss = masked_loss(network, acoustic, semantic, mask).mean
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())
