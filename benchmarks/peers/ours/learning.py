"""SoundStorm: trained on given windows, then asked about hidden tokens of held-out rows.

Both models get the same windows in the same order at the same rates (`ours.tokens`). Each hides
tokens in its own way, which is what is compared; then both predict the same hidden tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.ours.soundstorm import build, parameters, step
from benchmarks.peers.probe import Spec, Stopwatch, peak_bytes

AT_ONCE = 4
"""Examples of one pass over the questions, as many as the peer's side takes."""


def learn(spec: Spec) -> dict[str, Any]:
    """Cross-entropy by level after the steps in `batches`, over the masks in `questions`.

    With `start`, embeddings and heads start as `train --codec --kmeans` starts them.
    """
    import numpy as np
    import torch

    from stages.soundstorm.masking import draw_mask
    from stages.training.task import parameter_groups

    torch.set_num_threads(spec["threads"])
    imported = peak_bytes()
    network = build(spec["shape"]).train()
    if spec.get("start") is not None:
        from stages.soundstorm.warm_start import start_acoustic, start_semantic

        with np.load(Path(spec["start"])) as places:
            generator = torch.Generator().manual_seed(0)
            start_acoustic(network, torch.from_numpy(places["codebooks"]), generator)
            start_semantic(network, torch.from_numpy(places["centroids"]), generator)
    groups = parameter_groups(network, spec["weight_decay"])
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
    with np.load(Path(spec["batches"])) as batches:
        acoustic, semantic = batches["acoustic"], batches["semantic"]
        rates = batches["rates"].tolist()
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((acoustic.shape[1],), acoustic.shape[2])
    losses = []
    with Stopwatch() as watch:
        for codes, condition, rate in zip(acoustic, semantic, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate
            mask = draw_mask(lengths, spec["shape"]["levels"], generator)
            tokens = torch.from_numpy(codes.astype(np.int64))
            context = torch.from_numpy(condition.astype(np.int64))
            losses.append(step(network, optimiser, tokens, context, mask))
    return {
        "seconds": watch.seconds,
        "imported_bytes": imported,
        "parameters": parameters(network),
        "training_loss": losses,
        **ask(network, Path(spec["questions"]), spec["shape"]["levels"]),
    }


def ask(network: Any, questions: Path, levels: int) -> dict[str, Any]:
    """`nats`, `tokens` and `correct` by level, summed over all masked tokens of the level."""
    import numpy as np
    import torch

    from stages.soundstorm.loss import masked_loss
    from stages.soundstorm.masking import TrainingMask

    network.eval()
    sums = torch.zeros(3, levels, dtype=torch.float64)
    with np.load(questions) as arrays, torch.inference_mode():
        for row in range(int(arrays["rows"])):
            truth = torch.from_numpy(arrays[f"{row}/acoustic"].astype(np.int64))  # [T, Q]
            semantic = torch.from_numpy(arrays[f"{row}/semantic"].astype(np.int64))  # [T]
            drawn = {
                name: torch.from_numpy(arrays[f"{row}/{name}"])
                for name in ("masked", "level", "delimiter", "ratio")
            }
            for start in range(0, len(drawn["level"]), AT_ONCE):
                part = {name: value[start : start + AT_ONCE] for name, value in drawn.items()}
                B = len(part["level"])
                mask = TrainingMask(lengths=torch.full((B,), len(truth)), **part)
                found = masked_loss(network, truth.expand(B, -1, -1), semantic.expand(B, -1), mask)
                columns = (found.loss, found.tokens, found.correct)
                for total, values in zip(sums, columns, strict=True):
                    total.index_add_(0, part["level"], values.double())
    return dict(zip(("nats", "tokens", "correct"), sums.tolist(), strict=True))
