"""soundstorm-pytorch: trained on given windows, then asked the questions that ours is asked."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

from benchmarks.peers.probe import Spec, Stopwatch, peak_bytes
from benchmarks.peers.theirs.soundstorm import MATCHED, build, parameters, step

AT_ONCE = 4
"""Examples of one pass: the package makes the logits of all levels of all frames."""


def learn(spec: Spec) -> dict[str, Any]:
    """Cross-entropy by level after the steps in `batches`, over the masks in `questions`."""
    import numpy as np
    import torch

    torch.set_num_threads(spec["threads"])
    importlib.import_module("soundstorm_pytorch")
    imported = peak_bytes()
    model = build(spec["shape"], MATCHED).train()
    random.seed(0)  # the package draws its levels and delimiters from here
    groups = parameter_groups(model, spec["weight_decay"])
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
    with np.load(Path(spec["batches"])) as batches:
        acoustic, semantic = batches["acoustic"], batches["semantic"]
        rates = batches["rates"].tolist()
    losses = []
    with Stopwatch() as watch:
        for codes, condition, rate in zip(acoustic, semantic, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate
            tokens = torch.from_numpy(codes.astype(np.int64))
            context = torch.from_numpy(condition.astype(np.int64))
            losses.append(step(model, optimiser, tokens, context))
    return {
        "seconds": watch.seconds,
        "imported_bytes": imported,
        "parameters": parameters(model),
        "training_loss": losses,
        **ask(model, Path(spec["questions"]), spec["shape"]["levels"]),
    }


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """As ours: matrices decay; biases, norms and vectors do not."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim >= 2 and not name.endswith("bias")]
    others = [p for name, p in named if p.ndim < 2 or name.endswith("bias")]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def logits_of(model: Any, given: Any, semantic: Any) -> Any:
    """The package's logits for partly masked tokens: what its `forward` and `generate` compute.

    Args:
        given: `[B, T, Q]` int64, C where masked.
        semantic: `[B, T]` int64.

    Returns:
        `[B, T, Q, C]`.
    """
    B, T, Q = given.shape
    condition = model.maybe_get_condition(semantic, length=T)
    logits = model.net(given.reshape(B, T * Q), cond=condition)
    return logits.view(B, T, Q, -1)


def ask(model: Any, questions: Path, levels: int) -> dict[str, Any]:
    """`nats`, `tokens` and `correct` by level, summed over all masked tokens of the level."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    model.eval()
    sums = torch.zeros(3, levels, dtype=torch.float64)
    with np.load(questions) as arrays, torch.inference_mode():
        for row in range(int(arrays["rows"])):
            truth = torch.from_numpy(arrays[f"{row}/acoustic"].astype(np.int64))  # [T, Q]
            semantic = torch.from_numpy(arrays[f"{row}/semantic"].astype(np.int64))  # [T]
            given = torch.from_numpy(arrays[f"{row}/given"].astype(np.int64))  # [B, T, Q]
            masked = torch.from_numpy(arrays[f"{row}/masked"])  # [B, T]
            level = torch.from_numpy(arrays[f"{row}/level"])  # [B]
            for start in range(0, len(given), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                condition = semantic.expand(len(given[part]), -1)
                logits = logits_of(model, given[part], condition)
                for answer, where, q in zip(
                    logits, masked[part], level[part].tolist(), strict=True
                ):
                    chosen, target = answer[where, q], truth[where, q]
                    nats = F.cross_entropy(chosen, target, reduction="sum")
                    right = (chosen.argmax(dim=-1) == target).sum()
                    sums[:, q] += torch.tensor([nats, len(target), right], dtype=torch.float64)
    return dict(zip(("nats", "tokens", "correct"), sums.tolist(), strict=True))
