"""What a chip is: a row of data, and a `Device`, which is a chip found in this machine.

A chip differs from another by data alone: `chip_rows.CHIPS` is the whole list. Figures are the maker's own, dense (no
structured sparsity), from the public document that the row names; a figure that no public document gives is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["cpu", "gpu", "npu"]
# native: kernels run on it here, through us. compiles: kernels are compiled for it, not run, in our tests.
# plugin: kernels need another Triton than the released one, as a rule the maker's; not tried by us.
# untested: in this machine, but no row of the table.
Status = Literal["native", "compiles", "plugin", "untested"]


@dataclass(frozen=True, kw_only=True)
class TritonTarget:
    """What Triton compiles for: the three fields of its `GPUTarget`."""

    backend: str
    arch: str | int
    warp_size: int

    def __str__(self) -> str:
        return f"{self.backend}:{self.arch}"


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One row. A machine's CPU matches by `machine` and `features`, an accelerator by `device_names`.

    dtypes: number formats that the chip computes in, by PyTorch's names.
    vector_bits: one vector register, or one warp's 32-bit lanes; for scalable vectors what kernels are compiled for.
    since_triton: the first release of Triton whose compiler knows the chip; empty when all that we support do.
    peak_flops: flop/s (int8: op/s) by dtype, dense. bandwidth: bytes/s of the main memory.
    machine: as `platform.machine()` says it. features: LLVM's names, all of which the row needs.
    device_names: parts of the name that PyTorch reports for the device.
    """

    name: str
    vendor: str
    kind: Kind
    target: TritonTarget
    dtypes: tuple[str, ...]
    vector_bits: int
    status: Status
    since_triton: str = ""
    peak_flops: Mapping[str, float] = field(default_factory=dict)
    bandwidth_bytes_per_s: float | None = None
    memory_bytes: int | None = None
    source: str = ""
    note: str = ""
    machine: str = ""
    features: tuple[str, ...] = ()
    device_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Device:
    """A chip in this machine. `model` is the name it gives itself, `torch_device` what PyTorch calls it.

    core: what LLVM calls the microarchitecture of a CPU, such as `znver4`; empty where LLVM knows none.
    num_units: physical cores of a CPU, multiprocessors of a GPU, cores of an NPU.
    dtypes: what this very model computes in natively, which may be more than its row promises.
    """

    chip: Chip
    model: str
    torch_device: str
    num_units: int
    memory_bytes: int
    dtypes: tuple[str, ...]
    core: str = ""

    @property
    def title(self) -> str:
        """Model and core: machines that are virtual often hide which generation of a CPU they run on."""
        return f"{self.model}, {self.core}" if self.core else self.model

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `target` is one string."""
        return {**asdict(self), "chip": chip_as_dict(self.chip)}


def chip_as_dict(chip: Chip) -> dict[str, Any]:
    """A row as plain data for JSON; `target` is one string such as `cuda:90`."""
    return {**asdict(chip), "target": str(chip.target)}
