"""audiolm-pytorch: the passes of its coarse and fine stages, each for one token."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

from benchmarks.peers.probe import Passes, Spec, peak_bytes
from benchmarks.peers.theirs.soundstorm import parameters


def coarse(spec: Spec) -> dict[str, Any]:
    """Coarse tokens of the last `made` of `frames` frames; those before are given."""
    import torch

    peer, imported = _start(spec)
    shape, frames, made = spec["shape"], spec["frames"], spec["made"]
    torch.manual_seed(0)
    transformer = peer.CoarseTransformer(
        num_semantic_tokens=shape["semantic_size"],
        codebook_size=shape["codebook_size"],
        num_coarse_quantizers=shape["coarse_levels"],
        **_transformer(shape),
    )
    wrapper = peer.CoarseTransformerWrapper(transformer=transformer, codec=_codec(peer, shape))
    past = (frames - made) * shape["coarse_levels"]
    return _timed(
        wrapper,
        imported,
        semantic_token_ids=torch.arange(frames)[None] % shape["semantic_size"],
        prime_coarse_token_ids=torch.randint(shape["codebook_size"], (1, past)),
        max_time_steps=made,
    )


def fine(spec: Spec) -> dict[str, Any]:
    """Fine tokens of the last `made` of `frames` frames, of which all coarse ones are given."""
    import torch

    peer, imported = _start(spec)
    shape, frames, made = spec["shape"], spec["frames"], spec["made"]
    levels = shape["levels"] - shape["coarse_levels"]
    torch.manual_seed(0)
    transformer = peer.FineTransformer(
        num_coarse_quantizers=shape["coarse_levels"],
        num_fine_quantizers=levels,
        codebook_size=shape["codebook_size"],
        **_transformer(shape),
    )
    wrapper = peer.FineTransformerWrapper(transformer=transformer, codec=_codec(peer, shape))
    known = frames * shape["coarse_levels"]
    past = (frames - made) * levels
    return _timed(
        wrapper,
        imported,
        coarse_token_ids=torch.randint(shape["codebook_size"], (1, known)),
        prime_fine_token_ids=torch.randint(shape["codebook_size"], (1, past)),
    )


def _start(spec: Spec) -> tuple[Any, int]:
    """The package, and the memory that importing it took."""
    import torch

    torch.set_num_threads(spec["threads"])
    peer = importlib.import_module("audiolm_pytorch")
    text = importlib.import_module("audiolm_pytorch.t5")
    # The stages ask for the width of a text encoder even where there is no text, and would fetch
    # its configuration.
    width = SimpleNamespace(d_model=spec["shape"]["width"])
    text.T5_CONFIGS[text.DEFAULT_T5_NAME] = {"config": width}
    return peer, peak_bytes()


def _transformer(shape: dict[str, Any]) -> dict[str, Any]:
    return {
        "dim": shape["width"],
        "depth": shape["layers"],
        "heads": shape["heads"],
        "dim_head": shape["width"] // shape["heads"],
        "num_residual_streams": 1,
    }


def _codec(peer: Any, shape: dict[str, Any]) -> Any:
    """A tiny codec: the wrappers read how many levels it has, and nothing decodes."""
    return peer.SoundStream(
        channels=2,
        codebook_dim=8,
        codebook_size=shape["codebook_size"],
        rq_num_quantizers=shape["levels"],
        use_local_attn=False,
    )


def _timed(wrapper: Any, imported: int, **known: Any) -> dict[str, Any]:
    passes = Passes()
    forward = wrapper.transformer.forward

    def marked(*given: Any, **named: Any) -> Any:
        passes.mark()
        return forward(*given, **named)

    wrapper.transformer.forward = marked  # a hook would not do: `forward` is called by its name
    # Cached, and without the second network pass that guidance by a text would need.
    wrapper.generate(**known, cond_scale=1.0, use_kv_cache=True)
    return {
        **passes.summary(),
        "imported_bytes": imported,
        "parameters": parameters(wrapper.transformer),
    }
