"""What a benchmark is: `Kernel` (how the rivals are made), `Spec` (a row of the table) and `Case`, which is both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], Any]
Shape = tuple[int, ...]

# Smallest ratios to PyTorch's time that the design asks of a CPU.
ELEMENTWISE = 1.0
FUSED_ROWS = 1.0
COMPOSED_ROWS = 2.0
MATMUL = {torch.float32: 0.95, torch.bfloat16: 0.9}
ATTENTION = 1.2
# Over the product of the same numbers in bfloat16.
INT8_MATMUL = 1.5
# Where the design gives no figure: do no harm.
NO_LOSS = 1.0
# Of the bandwidth of a plain read in the same turns.
DECODE_SHARE = 0.85
_DECODE_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """Two calls that compute the same, and what one of them moves (`unit` "B") or calculates ("flop").

    Calls with no result of their own return the tensors that they wrote.
    """

    ours: Call
    torch: Call
    amount: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of a family. `peer` says what PyTorch runs; `target` is the ratio to reach, by dtype or for all.

    read_share: where it is given, the target is this share of the bandwidth of reading memory, instead of a ratio.
    """

    peer: str
    target: float | dict[torch.dtype, float]
    make: Callable[[Shape, torch.dtype], Rivals]
    read_share: float | None = None

    def target_for(self, dtype: torch.dtype) -> float:
        return self.target[dtype] if isinstance(self.target, dict) else self.target


@dataclass(frozen=True)
class Spec:
    """A row of the table: one kernel of a family at one shape and type."""

    family: str
    kernel: str
    shape: Shape
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of the table with the kernel that it names."""

    spec: Spec
    kernel: Kernel

    @property
    def shape(self) -> str:
        return shape_text(self.spec.shape)

    @property
    def dtype(self) -> str:
        return dtype_text(self.spec.dtype)

    @property
    def name(self) -> str:
        """What `--only` is matched with: `softmax/log_softmax 1024×1024 float32`."""
        return f"{self.spec.family}/{self.spec.kernel} {self.shape} {self.dtype}"


def shape_text(shape: Shape) -> str:
    return "×".join(map(str, shape))


def dtype_text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def entry(name: str) -> Callable[..., Any]:
    """What PyTorch calls for the ATen overload `name` when the library is switched on, past PyTorch's dispatcher."""
    from tessera.aten.serve import implementation
    from tessera.aten.vendor import vendor_of
    from tessera.ops.table import VARIANTS

    full_name = f"aten::{name}"
    return implementation(VARIANTS[full_name], vendor_of(full_name)).function


def num_bytes(*tensors: torch.Tensor) -> float:
    return float(sum(x.numel() * x.element_size() for x in tensors))


def in_turn(weight: torch.Tensor) -> list[torch.Tensor]:
    """Copies of a weight that a decode step reads in turn, each once a token: more than a last-level cache holds."""
    return [weight, *(weight.clone() for _ in range(max(1, int(_DECODE_BYTES / num_bytes(weight)) - 1)))]


def randn(shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape).to(dtype)
