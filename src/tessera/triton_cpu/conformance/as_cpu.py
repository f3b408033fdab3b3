"""A plugin of pytest that runs tests written for "cuda" on the CPU: `pytest -p tessera.triton_cpu.conformance.as_cpu`.

Devices: wherever PyTorch is given "cuda", "cuda:0" or such a `torch.device`, it gets "cpu"; `Tensor.cuda()` gives the
tensor itself. The functions of `torch.cuda` answer for one device, which is the CPU, and autocast of "cuda" is that of
the CPU with the dtype that it has on a GPU. Operators registered for CUDA's dispatch keys are registered for the CPU's.
`tensor.device` stays what it is, "cpu", so that nothing is said to be where it is not; `tensor.is_cuda` alone is true,
for kernels' wrappers refuse tensors by it.

It covers what is reached through PyTorch's own functions. What a GPU alone has (its libraries, its memory's counts, a
second device) is not imitated: a test that needs it fails or skips, and says so.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

# The oldest generation that has bfloat16; tests that need instructions of a newer one skip themselves by it.
_CAPABILITY = (8, 0)
# PyTorch takes the device of these from their argument's name, and without it they mean a GPU.
_AUTOCAST_QUERIES = ("is_autocast_enabled", "get_autocast_dtype", "set_autocast_enabled", "set_autocast_dtype")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before any module of the tests: they ask for their device as they are imported."""
    install()


def install() -> None:
    """From now on, in this thread and for the rest of the process."""
    import triton

    from tessera.triton_cpu.driver import CPUDriver

    # Triton, asked for a driver later, would believe that there is a GPU.
    triton.runtime.driver.set_active(CPUDriver())
    for name, stand_in in _cuda().items():
        setattr(torch.cuda, name, stand_in)
    autocast_dtype = torch.get_autocast_dtype("cuda")
    for name in _AUTOCAST_QUERIES:
        setattr(torch, name, _redirected(getattr(torch, name), default="cuda"))
    torch.set_autocast_dtype("cpu", autocast_dtype)
    torch.autocast.__init__ = _redirected(torch.autocast.__init__)  # type: ignore[method-assign]
    for name in ("custom_fwd", "custom_bwd"):
        setattr(torch.amp, name, _redirected(getattr(torch.amp, name)))
    for name in ("__init__", "impl"):
        setattr(torch.library.Library, name, _registered(getattr(torch.library.Library, name)))
    # Gradients that are written in Python run inside of `backward`, in which the mode is off.
    for module in (torch.autograd, torch.autograd.graph):
        module._engine_run_backward = _on_cpu(module._engine_run_backward)  # type: ignore[attr-defined]
    _OnCPU().__enter__()  # type: ignore[no-untyped-call]


class _OnCPU(TorchFunctionMode):
    """Sees each call of PyTorch's functions, of tensors' methods and of `torch.device`."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        if func == _IS_CUDA:
            return True
        if func is torch.device and args and _is_cuda(args[0]):
            return torch.device("cpu")  # without the index, so that it equals the device of tensors
        keywords = {name: _keyword(name, value) for name, value in (kwargs or {}).items()}
        return func(*map(_device, args), **keywords)


_IS_CUDA = torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]


def _is_cuda(value: object) -> bool:
    if isinstance(value, str):
        return value == "cuda" or value.startswith("cuda:")
    return isinstance(value, torch.device) and value.type == "cuda"


def _device(value: Any) -> Any:
    if not _is_cuda(value):
        return value
    return "cpu" if isinstance(value, str) else torch.device("cpu")


def _keyword(name: str, value: Any) -> Any:
    """An index as device is one of a GPU too."""
    is_index = name == "device" and isinstance(value, int)
    return torch.device("cpu") if is_index else _device(value)


def _redirected(function: Callable[..., Any], default: str | None = None) -> Callable[..., Any]:
    """The function with every device "cuda" among its arguments replaced; `default` is what it takes without any."""

    @functools.wraps(function)
    def redirected(*args: Any, **kwargs: Any) -> Any:
        given = args if args or kwargs or default is None else (default,)
        return function(*map(_device, given), **{name: _keyword(name, value) for name, value in kwargs.items()})

    return redirected


def _registered(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of `torch.library.Library`, which takes the dispatch key "CUDA" for "CPU", "AutogradCUDA" likewise.

    The mode is off while PyTorch runs what it has seen; an operator that is registered has it on again.
    """

    @functools.wraps(method)
    def registered(self: Any, first: Any, second: Any, dispatch_key: str = "", **kwargs: Any) -> Any:
        is_operator = callable(second) and second is not torch.library.fallthrough_kernel
        second = _on_cpu(second) if is_operator else second
        return method(self, first, second, dispatch_key.replace("CUDA", "CPU"), **kwargs)

    return registered


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        with _OnCPU():
            return function(*args, **kwargs)

    return on_cpu


class _Stream(contextlib.nullcontext[None]):
    """A queue of work in which nothing ever waits."""

    cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def _nothing(self, *_: Any) -> None:
        """Work on the CPU is done when its call returns."""

    synchronize = wait_stream = wait_event = record_event = _nothing

    def query(self) -> bool:
        return True


class _Generator:
    """The random numbers of a GPU as kernels' wrappers count them: Philox's seed and offset, 64 bits each."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self._state = torch.zeros(2, dtype=torch.int64)

    def manual_seed(self, seed: int) -> _Generator:
        # A seed may use all 64 bits, the tensor's numbers have a sign.
        self._state = torch.tensor([(seed + 2**63) % 2**64 - 2**63, 0])
        return self

    def initial_seed(self) -> int:
        return int(self._state[0]) % 2**64

    def get_state(self) -> torch.Tensor:
        """16 bytes, shape (16,), uint8."""
        return self._state.clone().view(torch.uint8)

    def set_state(self, state: torch.Tensor) -> None:
        self._state = state.clone().view(torch.int64)


def _seed(generator: _Generator, seed: int) -> None:
    # Not `torch.manual_seed`, which itself calls this.
    torch.default_generator.manual_seed(seed)
    generator.manual_seed(seed)


def _cuda() -> dict[str, Any]:
    """The functions of `torch.cuda`, by name, that a device answers."""
    from tessera.triton_cpu.driver import CPUInterface

    facts = {
        **dict.fromkeys(("init", "set_device", "synchronize", "empty_cache", "ipc_collect")),
        "is_available": True, "is_initialized": True, "is_bf16_supported": True, "device_count": 1,
        "current_device": 0, "get_device_capability": _CAPABILITY, "get_device_name": "CPU",
        "get_device_properties": _properties(),
    }  # fmt: skip
    generator = _Generator()
    streams = ("device", "device_of", "stream", "Stream", "current_stream", "default_stream")
    # PyTorch's compiler tells functions apart by identity, so each name has one of its own.
    return {
        **{name: _answer(value) for name, value in facts.items()},
        **{name: type(name, (_Stream,), {}) for name in streams},
        "Event": CPUInterface.Event,
        "default_generators": (generator,),
        "manual_seed": functools.partial(_seed, generator),
        "manual_seed_all": functools.partial(_seed, generator),
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
    }


def _answer(value: Any) -> Callable[..., Any]:
    """A function that says the same of whatever device."""
    return lambda *_, **__: value


def _properties() -> SimpleNamespace:
    from tessera.triton_cpu.driver import CPUUtils

    facts = CPUUtils().get_device_properties(0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return SimpleNamespace(
        # Inductor reads `gcnArchName` where PyTorch is built without CUDA.
        name="CPU", gcnArchName="CPU", major=_CAPABILITY[0], minor=_CAPABILITY[1], total_memory=memory,
        warp_size=facts["warpSize"],
        multi_processor_count=facts["multiprocessor_count"], shared_memory_per_block=facts["max_shared_mem"],
        shared_memory_per_block_optin=facts["max_shared_mem"], regs_per_multiprocessor=facts["max_num_regs"],
    )  # fmt: skip
