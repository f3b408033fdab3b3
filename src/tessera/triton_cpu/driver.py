"""`CPUDriver`: how Triton finds the CPU, loads an object and launches a grid."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from tessera.compiler.targets import rows
from tessera.core.errors import TesseraError
from tessera.runtime import descriptors
from tessera.runtime.arguments import PackedArgs, make_packer
from tessera.runtime.caller import make_caller
from tessera.runtime.loader import LoadedKernel, load
from tessera.runtime.pool import launch, listener

# Triton asks for limits that only GPUs have; these never bind.
_NO_LIMIT = 1 << 30
# Bits of a tensor descriptor that kernels take, in Triton's order. Not every release of Triton has all.
_DESCRIPTOR_FLAGS = ("padding", "round_f32_to_tf32")


class CPUUtils:
    """The two questions that Triton asks of a driver's utilities."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": _NO_LIMIT, "multiprocessor_count": os.cpu_count() or 1, "max_num_regs": _NO_LIMIT,
                "warpSize": 1}  # fmt: skip

    def load_binary(self, name: str, obj: bytes, shared: int, device: int) -> tuple[LoadedKernel, int, int, int, int]:
        kernel = load(obj, name)
        return kernel, kernel.address, 0, 0, _NO_LIMIT

    def unload_module(self, module: LoadedKernel) -> None:
        """The code goes when the last reference to the kernel does."""


class DeviceAssertionError(TesseraError, RuntimeError):
    """A `tl.device_assert` of a kernel did not hold. Its program ended there; other programs may have gone on."""


def make_launcher(src: Any, metadata: Any) -> Callable[..., None]:
    """What Triton calls to launch one compiled kernel."""
    signature, assertions = tuple(src.signature.values()), metadata.assertions
    parameters = getattr(getattr(src, "fn", None), "params", ())
    constants = frozenset(at for at, parameter in enumerate(parameters) if parameter.is_constexpr)
    slow = CPULauncher(signature, assertions, constants)
    if descriptors.is_descriptor(signature):
        return slow
    # Triton's runtime imports this module.
    from triton.runtime import driver

    from tessera.triton_cpu import shortcut

    if isinstance(driver.active, CPUDriver) and not assertions:
        shortcut.install(getattr(src, "fn", None))
    return make_caller(signature, slow, slow.failed)


class CPULauncher:
    """Packs the arguments of one compiled kernel and runs its grid over the threads.

    constants: the positions of parameters that the kernel declares `tl.constexpr`. A launch of a compiled kernel may
    leave all of them out: until Triton 3.2 it had to, and callers of `kernel[grid](...)` written for it still do.
    """

    def __init__(
        self, signature: tuple[Any, ...], assertions: list[str], constants: frozenset[int] = frozenset()
    ) -> None:
        self._assertions, self._count, self._constants = assertions, len(signature), constants
        status = ("*i32",) if assertions else ()
        self._pack = _packer((*signature, *status))

    def __call__(self, grid_x: int, grid_y: int, grid_z: int, stream: int, function: int, kernel_metadata: Any,
                 launch_metadata: Any, enter_hook: Callable[[Any], None] | None,
                 exit_hook: Callable[[Any], None] | None, *args: Any) -> None:  # fmt: skip
        if self._constants and len(args) == self._count - len(self._constants):
            args = self._with_constants(args)
        if enter_hook is not None:
            enter_hook(launch_metadata)
        if (who := listener()) is not None:
            who.given(args)
        if self._assertions:
            self._launch_and_check(function, args, grid_x, grid_y, grid_z)
        else:
            launch(function, self._pack(args), grid_x, grid_y, grid_z)
        if exit_hook is not None:
            exit_hook(launch_metadata)

    def failed(self, number: int) -> NoReturn:
        """Say which assertion did not hold; they are counted from 1."""
        raise DeviceAssertionError(self._assertions[number - 1])

    def _with_constants(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with a place for every constant."""
        given = iter(args)
        return tuple(None if at in self._constants else next(given) for at in range(self._count))

    def _launch_and_check(self, function: int, args: tuple[Any, ...], grid_x: int, grid_y: int, grid_z: int) -> None:
        status = ctypes.c_int32(0)

        def check() -> None:
            failed, status.value = status.value, 0
            if failed:
                self.failed(failed)

        launch(function, self._pack((*args, ctypes.addressof(status))), grid_x, grid_y, grid_z)
        if (who := listener()) is not None:
            who.to_check(check)
        check()


def _packer(signature: tuple[Any, ...]) -> Callable[[tuple[Any, ...]], PackedArgs]:
    """The function that packs a launch's arguments, with tensor descriptors taken apart first."""
    if not descriptors.is_descriptor(signature):
        return make_packer(signature)
    from triton.tools.tensor_descriptor import TensorDescriptor

    flags = [field.name for field in fields(TensorDescriptor) if field.name in _DESCRIPTOR_FLAGS]
    pack = make_packer(tuple(descriptors.expanded_kind(kind, flags) for kind in signature))

    def take_apart(args: tuple[Any, ...]) -> PackedArgs:
        pairs = enumerate(zip(signature, args, strict=True))
        return pack(tuple(descriptors.expanded(kind, value, flags, str(at)) for at, (kind, value) in pairs))

    return take_apart


class _Event:
    """A point in time with the interface of a GPU's event: work on the CPU is done when the call returns."""

    def __init__(self, enable_timing: bool = True) -> None:
        self._seconds = 0.0

    def record(self) -> None:
        self._seconds = time.perf_counter()

    def elapsed_time(self, end: _Event) -> float:
        return (end._seconds - self._seconds) * 1e3


class CPUInterface:
    """The part of `torch.cuda` that `triton.testing` calls, for the CPU."""

    Event = _Event

    @staticmethod
    def synchronize(device: Any = None) -> None:
        """Nothing is ever pending."""

    @staticmethod
    def current_device() -> int:
        return 0


class CPUDriver(DriverBase):
    """Active when no other maker's driver is, or when `TRITON_DEFAULT_BACKEND=cpu` asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.utils = CPUUtils()
        self.launcher_cls = make_launcher
        self._benchmarker: Callable[..., Any] | None = None

    @classmethod
    def is_active(cls) -> bool:
        if os.environ.get("TRITON_DEFAULT_BACKEND") == "cpu":
            return True
        from triton.backends import backends

        return not any(other.driver.is_active() for other in backends.values() if other.driver is not cls)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cpu", rows.host().name, 1)

    def get_current_device(self) -> str:
        return "cpu"  # as `torch.cpu.current_device` says it

    def set_current_device(self, device: str) -> None:
        """There is one CPU device."""

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")

    def get_device_interface(self) -> type[CPUInterface]:
        return CPUInterface

    def map_python_to_cpp_type(self, ty: str) -> str:
        if ty.startswith("*"):
            return "void*"
        return {"i1": "int8_t", "u1": "uint8_t", "fp16": "float", "bf16": "float", "fp32": "float", "f32": "float",
                "fp64": "double"}.get(ty, f"{'uint' if ty[0] == 'u' else 'int'}{ty[1:]}_t")  # fmt: skip

    def get_benchmarker(self) -> Callable[..., Any]:
        if self._benchmarker is None:
            from tessera.triton_cpu.tuning import Benchmarker

            self._benchmarker = Benchmarker()
        return self._benchmarker

    def get_empty_cache_for_benchmark(self) -> Any:
        import torch

        # Larger than any last-level cache that a core of ours shares.
        return torch.empty(64 * 1024 * 1024, dtype=torch.int8)

    def clear_cache(self, cache: Any) -> None:
        cache.zero_()

    def assemble_tensormap_to_arg(self, tensormaps_info: Any, args: Sequence[Any]) -> Sequence[Any]:
        return args
