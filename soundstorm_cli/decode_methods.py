"""What `soundstorm decode` runs: SoundStorm or AudioLM, made ready from its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soundstorm_cli.voice import VoiceSource, load_voice
from stages.assets import MINI, model_folder
from stages.errors import DataMismatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from stages.soundstorm.decoder import Decoder
    from stages.soundstorm.decoding import TokenModel
    from stages.soundstorm.prompt import Prompt
    from stages.soundstorm.row_decoder import RowDecoder
    from stages.soundstorm.trace import TraceFile


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that both methods have."""

    levels: int | None
    """To decode; all that the model makes if None."""

    make_prompt: Callable[[TokenModel], Prompt | None]

    temperature: float

    seed: int

    precision: str

    place: str
    """A device's name."""

    batch_seconds: float

    def level_count(self, model: TokenModel) -> int:
        """How many levels to decode; DataMismatch if they are more than the model makes."""
        if self.levels is not None and self.levels > model.levels:
            raise DataMismatch(f"--levels {self.levels} is more than the model's {model.levels}")
        return self.levels or model.levels


def soundstorm_decoder(
    asked: Asked,
    folder: str,
    *,
    iterations: str,
    guidance: str,
    compiled: bool,
    open_trace: Callable[[int], TraceFile | None],
) -> Decoder:
    """SoundStorm.

    Args:
        asked: of both methods.
        folder: of the model, or `mini`.
        iterations: as `--iterations` has it.
        guidance: of its logits, as `--guidance` has it.
        compiled: whether its passes are to be.
        open_trace: takes the number of levels; None if there is to be none.

    Raises:
        DataMismatch: if there is no such model, or none that decodes so.
    """
    import torch

    from stages.soundstorm.decoder import Decoder
    from stages.soundstorm.decoding import DecodeOptions
    from stages.soundstorm.guidance import parse_guidance
    from stages.soundstorm.model import from_model_file
    from stages.soundstorm.schedule import parse_iterations

    model = from_model_file(
        model_folder(folder, "soundstorm"),
        torch.device(asked.place),
        precision=asked.precision,
        compiled=compiled,
    )
    count = asked.level_count(model)
    limited = count < model.levels
    options = DecodeOptions(
        iterations=parse_iterations(iterations, count, limited=limited),
        temperature=asked.temperature,
        guidance=parse_guidance(guidance, count, limited=limited),
        seed=asked.seed,
    )
    prompt = asked.make_prompt(model)
    return Decoder(
        model,
        options,
        where=folder,
        prompt=prompt,
        batch_seconds=asked.batch_seconds,
        trace=open_trace(count),
    )


def audiolm_decoder(asked: Asked, coarse_folder: str, fine_folder: str | None) -> RowDecoder:
    """AudioLM's acoustic stages.

    Args:
        asked: of both methods.
        coarse_folder: of the coarse stage, or `mini`.
        fine_folder: of the fine stage, which is read where the levels need it; None for none but
            beside `mini`.

    Raises:
        DataMismatch: if there are no such models, or the levels need a fine stage.
    """
    import torch

    from stages.audiolm.acoustic import AcousticOptions
    from stages.audiolm.config import CoarseConfig, FineConfig
    from stages.audiolm.decoder import AudioLMDecoder
    from stages.audiolm.model import from_model_file, join_stages
    from stages.audiolm.sampling import Sampling
    from stages.nn.precision import to_precision

    device = torch.device(asked.place)
    coarse = from_model_file(model_folder(coarse_folder, "audiolm-coarse"), CoarseConfig, device)
    fine = None
    if asked.levels is None or asked.levels > coarse.config.levels:
        if fine_folder is None and coarse_folder == MINI:
            fine_folder = MINI
        if fine_folder is None:
            raise DataMismatch(
                f"--method audiolm needs --fine for more levels than the {coarse.config.levels} "
                f"that {coarse_folder} makes"
            )
        fine = from_model_file(model_folder(fine_folder, "audiolm-fine"), FineConfig, device)
    for stage in (coarse, fine):
        if stage is not None:
            to_precision(stage.network, asked.precision, device)
    model = join_stages(coarse, fine, coarse_where=coarse_folder, fine_where=str(fine_folder))
    sampling = Sampling(temperature=asked.temperature)
    return AudioLMDecoder(
        model,
        AcousticOptions(coarse=sampling, fine=sampling, seed=asked.seed),
        where=coarse_folder,
        levels=asked.level_count(model),
        prompt=asked.make_prompt(model),
        batch_seconds=asked.batch_seconds,
        precision=asked.precision,
    )


def prompt_for(
    voice: VoiceSource, seconds: Fraction | None, model: TokenModel, *, keep: bool
) -> Prompt | None:
    """The prompt that the options ask for, None for none.

    Args:
        voice: of `--prompt` and what goes with it.
        seconds: of `--prompt-seconds`.
        model: whose tokens it is to have.
        keep: whether it stays in the output.

    Raises:
        DataMismatch: if the voice cannot be had.
    """
    from stages.soundstorm.prompt import OwnPrompt, voice_prompt

    if voice.path is None:
        return OwnPrompt(seconds=seconds) if seconds is not None else None
    row = load_voice(model, voice)
    return voice_prompt(model, row, seconds=seconds, keep=keep, where=voice.path)
