"""Which precision each kind of hardware gets; no test asks what this machine has."""

import pytest
import torch

from hf_gland.model.precision import (
    PrecisionError,
    autocast,
    has_bfloat16,
    mixed_precision_name,
    precision_in_words,
    resolve_precision,
)


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine: `machine(amx_bf16=True)`, `machine(cuda=(8, 0))`, `machine(environment={...})`."""
    def pretend(cuda=None, environment=None, **instructions):
        for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **instructions})
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: cuda)
    return pretend


@pytest.mark.parametrize(("instructions", "expected"), [
    ({}, torch.float32), ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, torch.float32),
    ({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16),
    ({"neon": True, "bf16": True}, torch.float32)])
def test_a_processor_computes_in_bfloat16_where_it_has_instructions_for_it(machine, instructions, expected):
    machine(**instructions)
    assert resolve_precision("cpu") is expected
    assert has_bfloat16("cpu") == (expected is torch.bfloat16)


@pytest.mark.parametrize(("environment", "expected"), [
    ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, torch.float32), ({"DNNL_MAX_CPU_ISA": "avx512_core"}, torch.float32),
    ({"ATEN_CPU_CAPABILITY": "avx2"}, torch.float32), ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, torch.bfloat16),
    ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, torch.bfloat16), ({"ATEN_CPU_CAPABILITY": "avx512"}, torch.bfloat16)])
def test_instructions_that_torch_is_kept_from_do_not_count(machine, environment, expected):
    machine(environment=environment, amx_bf16=True)
    assert resolve_precision("cpu") is expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16),
                                                      ((9, 0), torch.bfloat16)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(machine, capability, expected):
    machine(cuda=capability)
    assert resolve_precision("cuda:1") is expected


def test_apple_computes_in_float32(machine):
    machine(amx_bf16=True)
    assert resolve_precision("mps") is torch.float32


@pytest.mark.parametrize(("wanted", "expected"), [("no", torch.float32), ("float32", torch.float32),
                                                  ("bf16", torch.bfloat16), ("bfloat16", torch.bfloat16)])
def test_what_is_asked_for_is_taken_on_any_machine(machine, wanted, expected):
    for instructions in ({}, {"amx_bf16": True}):
        machine(cuda=(7, 0), **instructions)
        assert all(resolve_precision(device, wanted) is expected for device in ("cpu", "cuda", "mps"))


def test_float16_is_for_cuda_and_only_when_asked_for(machine):
    machine(cuda=(7, 5))
    assert resolve_precision("cuda", "fp16") is resolve_precision("cuda", "float16") is torch.float16
    for device in ("cpu", "mps"):
        with pytest.raises(PrecisionError, match=r"fp16 needs a GPU with CUDA.*choose auto, bf16 or no"):
            resolve_precision(device, "fp16")


def test_an_unknown_precision_is_an_error_that_lists_the_others(machine):
    machine()
    with pytest.raises(PrecisionError, match=r"one of auto, no, bf16, fp16, float32, .*got 'int4'"):
        resolve_precision("cpu", "int4")


def test_the_decision_is_said_with_its_reason(machine):
    machine()
    assert precision_in_words("cpu") == "float32 (auto: no bfloat16 instructions here)"
    assert precision_in_words("cpu", "no") == "float32 (as asked)"
    assert "emulates it" in precision_in_words("cpu", "bf16")
    machine(avx512_bf16=True)
    assert precision_in_words("cpu") == "bfloat16 (auto: bfloat16 instructions here)"
    assert precision_in_words("cpu", "bf16") == "bfloat16 (as asked)"


def test_accelerate_is_told_in_its_own_words():
    assert [mixed_precision_name(d) for d in (torch.float32, torch.bfloat16, torch.float16)] == ["no", "bf16", "fp16"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_computes_in_the_type_that_was_chosen(dtype):
    with autocast("cpu", dtype):
        assert torch.nn.Linear(3, 3)(torch.ones(1, 3)).dtype is dtype
