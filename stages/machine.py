"""What times are of: processor, threads, versions."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch


def describe(device: torch.device) -> dict[str, Any]:
    """The machine and the software, as JSON values."""
    described: dict[str, Any] = {
        "device": device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "precision": "float32",
    }
    if device.type == "cuda":
        described["accelerator"] = torch.cuda.get_device_name(device)
    return described


def processor() -> str:
    """The processor's own name, where it can be found."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
