"""What a device really does: arithmetic by PyTorch's matrix product, bandwidth by reading and copying large arrays.

Each probe takes about a second; the figure is the best of its repetitions, which is what the hardware can do when
nothing else disturbs it. Nothing is stored: the next measurement is a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.core.chip import Device
from tessera.core.timing import compare

if TYPE_CHECKING:
    import torch

_SECONDS = 0.8
_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One measurement: `prepare` returns the work to time and how much of `unit` one call of it does."""

    name: str
    unit: str
    prepare: Callable[[Device], tuple[Callable[[], object], float]]

    def run(self, device: Device) -> float:
        """Units a second."""
        import torch

        work, amount = self.prepare(device)
        synchronize = None if device.torch_device == "cpu" else torch.accelerator.synchronize
        timing = compare({self.name: work}, min_seconds=_SECONDS, rounds=_ROUNDS, synchronize=synchronize)[self.name]
        return amount / timing.best_s


def _matmul(device: Device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    import torch

    size = 1024 if device.chip.kind == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device.torch_device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def _matmul_float32(device: Device) -> tuple[Callable[[], object], float]:
    import torch

    return _matmul(device, torch.float32)


def _matmul_bfloat16(device: Device) -> tuple[Callable[[], object], float]:
    import torch

    return _matmul(device, torch.bfloat16)


def _large_array(device: Device) -> torch.Tensor:
    """256 MiB of ones: more than a last-level cache, and written once, so that every page is real."""
    import torch

    return torch.ones(64 * 2**20, dtype=torch.float32, device=device.torch_device)


def _read(device: Device) -> tuple[Callable[[], object], float]:
    import torch

    source = _large_array(device)
    return lambda: torch.sum(source), float(source.nbytes)


def _copy(device: Device) -> tuple[Callable[[], object], float]:
    source, target = _large_array(device), _large_array(device)
    return lambda: target.copy_(source), 2.0 * source.nbytes


PROBES: tuple[Probe, ...] = (
    Probe(name="matmul float32", unit="flop/s", prepare=_matmul_float32),
    Probe(name="matmul bfloat16", unit="flop/s", prepare=_matmul_bfloat16),
    Probe(name="read", unit="B/s", prepare=_read),
    Probe(name="copy", unit="B/s", prepare=_copy),
)


def measure(device: Device) -> Iterator[tuple[str, float]]:
    """Name and units a second of one probe after the other, each as soon as it is done."""
    for probe in PROBES:
        yield probe.name, probe.run(device)
