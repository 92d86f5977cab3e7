"""AudioLM: the passes of its coarse and fine stages, each for one token."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from benchmarks.peers.ours.soundstorm import parameters
from benchmarks.peers.probe import Passes, Spec, peak_bytes

if TYPE_CHECKING:
    from stages.audiolm.config import StageConfig
    from stages.audiolm.sequences import TokenSequence

FRAME_RATE = Fraction(50)
NETWORK = ("layers", "heads", "width", "feed_forward", "codebook_size", "levels")


def coarse(spec: Spec) -> dict[str, Any]:
    """Coarse tokens of the last `made` of `frames` frames; those before are given."""
    import torch

    from stages.audiolm.config import CoarseConfig
    from stages.audiolm.sequences import coarse_sequence

    shape, frames = spec["shape"], spec["frames"]
    settings = {name: shape[name] for name in NETWORK} | {"levels": shape["coarse_levels"]}
    config = CoarseConfig(semantic_codebook_size=shape["semantic_size"], dropout=0.0, **settings)
    semantic = torch.arange(frames) % shape["semantic_size"]

    def sequence(chunk: Any, known: Any) -> TokenSequence:
        return coarse_sequence(config, semantic[chunk.start : chunk.end], known)

    return _timed(spec, config, sequence)


def fine(spec: Spec) -> dict[str, Any]:
    """Fine tokens of the last `made` of `frames` frames, of which all coarse ones are given."""
    import torch

    from stages.audiolm.config import FineConfig
    from stages.audiolm.sequences import fine_sequence

    shape, frames = spec["shape"], spec["frames"]
    settings = {name: shape[name] for name in (*NETWORK, "coarse_levels")}
    config = FineConfig(dropout=0.0, **settings)
    codes = torch.randint(shape["codebook_size"], (frames, shape["coarse_levels"]))

    def sequence(chunk: Any, known: Any) -> TokenSequence:
        return fine_sequence(config, codes[chunk.start : chunk.end], known)

    return _timed(spec, config, sequence)


def _timed(spec: Spec, config: StageConfig, sequence: Any) -> dict[str, Any]:
    import torch

    from stages.audiolm.chunks import Job, generate
    from stages.audiolm.network import StageNetwork
    from stages.audiolm.sampling import Sampling

    torch.set_num_threads(spec["threads"])
    imported = peak_bytes()
    passes = Passes()

    class Watched(StageNetwork):
        def extend(self, *given: Any, **named: Any) -> Any:
            passes.mark()
            return super().extend(*given, **named)

    torch.manual_seed(0)
    network = Watched(config).eval().requires_grad_(False)
    frames, made = spec["frames"], spec["made"]
    given = torch.randint(config.group_size, (frames - made, config.groups))
    job = Job(row_id="row", frames=frames, given=given, sequence=sequence)
    chunk, overlap = config.chunk_frames(FRAME_RATE)
    # The peer, by default, chooses among the likeliest tenth of the candidates.
    sampling = Sampling(top_k=config.group_size // 10)
    with torch.inference_mode():
        generate(network, [job], sampling, seed=0, chunk=chunk, overlap=overlap)
    return {
        **passes.summary(),
        "imported_bytes": imported,
        "parameters": parameters(network),
    }
