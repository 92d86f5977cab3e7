"""soundstorm-pytorch: its network at a given shape, a decoding, a training step."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.peers.probe import WARM_UP_STEPS, Spec, Stopwatch, forward_in, peak_bytes

MATCHED = "matched"
"""As near to the paper's network, and so to ours, as the package's options allow."""

AS_IT_COMES = "as-it-comes"
"""With the package's defaults: kernel 31, twice as wide within the convolution module, four
residual streams."""

FIRST_PASSES, FURTHER_PASSES = 16, 1
"""Of the first level and of each further one; the package has no other way for the latter."""


def build(shape: dict[str, Any], variant: str = MATCHED) -> Any:
    """The model, with random weights from a fixed seed."""
    import torch

    peer = importlib.import_module("soundstorm_pytorch")
    options = {
        MATCHED: {
            "conv_kernel_size": shape["kernel"],
            "conv_expansion_factor": 1,
            "num_residual_streams": 1,
        },
        AS_IT_COMES: {},
    }
    torch.manual_seed(0)
    conformer = peer.Conformer(
        dim=shape["width"],
        depth=shape["layers"],
        heads=shape["heads"],
        dim_head=shape["width"] // shape["heads"],
        ff_mult=shape["feed_forward"] // shape["width"],
        **options[variant],
    )
    network = peer.ConformerWrapper(
        codebook_size=shape["codebook_size"], num_quantizers=shape["levels"], conformer=conformer
    )
    # Rates of 1 and 1: there is one semantic token a frame already, and the package's own mapping
    # of rates goes through floats.
    return peer.SoundStorm(
        network,
        steps=FIRST_PASSES,
        schedule="cosine",
        num_semantic_token_ids=shape["semantic_size"],
        wav2vec_target_sample_hz=1,
        wav2vec_downsample_factor=1,
        codec_target_sample_hz=1,
        codec_downsample_factor=1,
    )


def parameters(model: Any) -> int:
    """Numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def decode(spec: Spec) -> dict[str, Any]:
    """All levels of one utterance of `frames` frames, without a prompt.

    `masked` is how many masks of the level that is due each pass saw.
    """
    import torch

    torch.set_num_threads(spec["threads"])
    importlib.import_module("soundstorm_pytorch")
    imported = peak_bytes()
    shape, frames = spec["shape"], spec["frames"]
    model = build(shape, spec["variant"]).eval()
    condition = torch.arange(frames)[None] % shape["semantic_size"]
    with torch.no_grad():  # one pass warms up
        masks = torch.full((1, frames * shape["levels"]), model.mask_id)
        model.net(masks, cond=model.maybe_get_condition(condition))
    passes: list[int] = []

    def seen(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        del module, named
        level = max(0, len(passes) - FIRST_PASSES + 1)
        levels = given[0].view(frames, shape["levels"])
        passes.append(int((levels[:, level] == model.mask_id).sum()))

    model.net.register_forward_pre_hook(seen, with_kwargs=True)
    with Stopwatch() as watch:
        made = model.generate(cond_semantic_token_ids=condition)
    assert made.numel() == frames * shape["levels"], made.shape
    assert 0 <= int(made.min()) <= int(made.max()) < shape["codebook_size"]
    return {
        "seconds": watch.seconds,
        "imported_bytes": imported,
        "parameters": parameters(model),
        "passes": len(passes),
        "masked": passes,
    }


def train(spec: Spec) -> dict[str, Any]:
    """Seconds of a step over `batch` windows of `frames` frames, after two that warm up.

    `precision` is that of the forward pass, as the package's own trainer has it of accelerate.
    """
    import torch

    torch.set_num_threads(spec["threads"])
    importlib.import_module("soundstorm_pytorch")
    imported = peak_bytes()
    shape = spec["shape"]
    model = build(shape, spec["variant"]).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    size = (spec["batch"], spec["frames"])
    acoustic = torch.randint(shape["codebook_size"], (*size, shape["levels"]))
    semantic = torch.randint(shape["semantic_size"], size)
    precision = spec["precision"]
    for _ in range(WARM_UP_STEPS):
        step(model, optimiser, acoustic, semantic, precision=precision)
    with Stopwatch() as watch:
        for _ in range(spec["steps"]):
            step(model, optimiser, acoustic, semantic, precision=precision)
    return {
        "seconds": watch.seconds / spec["steps"],
        "imported_bytes": imported,
        "parameters": parameters(model),
        "steps": spec["steps"],
    }


def step(
    model: Any, optimiser: Any, acoustic: Any, semantic: Any, *, precision: str = "float32"
) -> float:
    """Forward, backward, clipping, update: the package's own loss, which masks by itself.

    Args:
        acoustic: `[B, T, Q]` int64.
        semantic: `[B, T]` int64.
        precision: of the forward pass, `float32` or `bfloat16`.
    """
    import torch

    with forward_in(precision):
        # A copy, since the package writes random tokens into what it is given.
        loss, _ = model(acoustic.clone(), cond_semantic_token_ids=semantic)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return float(loss)
