"""A Whisper of a few weights, in CTranslate2's format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

MELS, WIDTH, LAYERS = 20, 64, 2
Variables = dict[str, NDArray[np.generic]]
_NUMBERS = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}


def tiny_whisper(folder: Path, *, seed: int = 0, mels: int = MELS) -> Path:
    """Write one of random weights, which spells byte by byte; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = _write_tokenizer(folder)
    draw = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float16]:
        return (draw.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float16)

    variables: Variables = {
        "encoder/num_heads": np.array(1, np.int16),
        "encoder/conv1/weight": matrix(WIDTH, mels, 3),
        "encoder/conv1/bias": matrix(WIDTH),
        "encoder/conv2/weight": matrix(WIDTH, WIDTH, 3),
        "encoder/conv2/bias": matrix(WIDTH),
        "encoder/position_encodings/encodings": matrix(1500, WIDTH),
        "decoder/embeddings/weight": matrix(tokens, WIDTH),
        "decoder/position_encodings/encodings": matrix(448, WIDTH),
        **_norm("encoder/layer_norm"),
        **_norm("decoder/layer_norm"),
    }
    both = [
        ("self_attention/linear_0", 3 * WIDTH, WIDTH),
        ("self_attention/linear_1", WIDTH, WIDTH),
        ("ffn/linear_0", 4 * WIDTH, WIDTH),
        ("ffn/linear_1", WIDTH, 4 * WIDTH),
    ]
    other = [
        ("attention/linear_0", WIDTH, WIDTH),
        ("attention/linear_1", 2 * WIDTH, WIDTH),
        ("attention/linear_2", WIDTH, WIDTH),
    ]
    for part, maps in (("encoder", both), ("decoder", both + other)):
        for block in (f"{part}/layer_{index}" for index in range(LAYERS)):
            for network in dict.fromkeys(name.split("/")[0] for name, _, _ in maps):
                variables |= _norm(f"{block}/{network}/layer_norm")
            for name, out, into in maps:
                variables[f"{block}/{name}/weight"] = matrix(out, into)
                variables[f"{block}/{name}/bias"] = matrix(out)
    write_ctranslate2(folder / "model.bin", variables)
    return folder


def _write_tokenizer(folder: Path) -> int:
    """Write a `tokenizer.json` of bytes and what begins and ends a text; returns its tokens."""
    pytest.importorskip("tokenizers", reason="it is in the extra `eval`")
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = ["endoftext", "startoftranscript", "en", "transcribe", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def _norm(name: str) -> Variables:
    return {
        f"{name}/gamma": np.ones(WIDTH, np.float16),
        f"{name}/beta": np.zeros(WIDTH, np.float16),
    }


def write_ctranslate2(path: Path, variables: Variables) -> None:
    """Write a `model.bin` of the variables."""
    parts = [struct.pack("<I", 6), _text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        parts += [_text(name), bytes([value.ndim]), *(struct.pack("<I", n) for n in value.shape)]
        parts += [bytes([_NUMBERS[value.dtype.name]]), struct.pack("<I", value.nbytes)]
        parts.append(value.tobytes())
    path.write_bytes(b"".join(parts))


def _text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"
