"""The number format in which a network computes: one decision for training, tagger, prediction, benchmark and tests."""

import os
from contextlib import AbstractContextManager

import torch

from hf_gland.errors import HfGlandError

# The name of each in the setting `mixed_precision` (accelerate's names) and in predict's `precision` (torch's names).
MIXED_PRECISION = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PrecisionError(HfGlandError):
    """A precision is unknown, or the device cannot compute in it; the message says what to choose."""


def resolve_precision(device: torch.device | str, wanted: str = "auto") -> torch.dtype:
    """The type in which `device` is to compute: float32, bfloat16 or float16.

    `wanted`: "auto" is bfloat16 where the hardware has instructions for it (see `has_bfloat16`), else float32; or one of
    no, float32, bf16, bfloat16, fp16, float16. bfloat16 can be asked for anywhere (a CPU without the instructions emulates
    it, measured 60 times slower than float32), float16 on CUDA only. Raises PrecisionError.
    """
    device, names = torch.device(device), MIXED_PRECISION | PRECISION
    if wanted == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if wanted not in names:
        raise PrecisionError(f"precision must be one of auto, {', '.join(names)}; got {wanted!r}")
    if names[wanted] is torch.float16 and device.type != "cuda":
        raise PrecisionError(f"{wanted} needs a GPU with CUDA, and this is {device.type}; choose auto, bf16 or no")
    return names[wanted]


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether the hardware has instructions that make bfloat16 faster than float32.

    CUDA: compute capability 8.0 (Ampere) or later. CPU: AMX-BF16 or AVX-512-BF16, unless ONEDNN_MAX_CPU_ISA (or
    ATEN_CPU_CAPABILITY) holds torch back from them. Others, Apple's mps and ARM among them, compute in float32, where
    bfloat16 was not measured to be of use.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT").upper()
    allowed = limit in ("DEFAULT", "ALL") or any(part in limit for part in ("BF16", "FP16", "AMX", "AVX10"))
    allowed = allowed and os.environ.get("ATEN_CPU_CAPABILITY", "avx512").lower() not in ("default", "avx2")
    capabilities = torch.cpu.get_capabilities()
    return allowed and bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def precision_in_words(device: torch.device | str, wanted: str = "auto") -> str:
    """What was decided and why, for the first line of a run: "float32 (auto: no bfloat16 instructions here)"."""
    chosen = resolve_precision(device, wanted)
    name = precision_name(chosen)
    if wanted == "auto":
        return f"{name} (auto: {'' if chosen is torch.bfloat16 else 'no '}bfloat16 instructions here)"
    slow = chosen is torch.bfloat16 and torch.device(device).type == "cpu" and not has_bfloat16(device)
    return f"{name} (as asked{', though this processor emulates it, many times slower than float32' if slow else ''})"


def precision_name(dtype: torch.dtype) -> str:
    """"float32", "bfloat16" or "float16", as records have it."""
    return str(dtype).removeprefix("torch.")


def mixed_precision_name(dtype: torch.dtype) -> str:
    """accelerate's name of a type: "no", "bf16" or "fp16"."""
    return next(name for name, value in MIXED_PRECISION.items() if value is dtype)


def autocast(device: torch.device | str, dtype: torch.dtype) -> AbstractContextManager:
    """The context in which a network computes in `dtype` on `device`; its weights stay float32."""
    half = dtype is not torch.float32
    return torch.autocast(torch.device(device).type, dtype if half else None, enabled=half)
