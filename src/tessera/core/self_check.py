"""Compiles one small kernel for the CPU, runs it and compares every element: `python -m tessera.core.self_check`.

It is a program of its own because a fault in native code ends the process: `doctor` survives it and reports it.
Prints the seconds that compiling and running took; any failure is an exit status other than 0.
"""

from __future__ import annotations

import time

import torch
import triton
import triton.language as tl

_SIZE = 1000
_BLOCK = 256


@triton.jit
def _add(x: tl.tensor, y: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    tl.store(out + offsets, tl.load(x + offsets, mask=inside) + tl.load(y + offsets, mask=inside), mask=inside)


def run() -> float:
    """Seconds from the first launch to the checked result. Raises: ArithmeticError when an element is wrong."""
    x, y = torch.arange(_SIZE, dtype=torch.float32), torch.full((_SIZE,), 0.5)
    out = torch.full((_SIZE,), float("nan"))
    start = time.perf_counter()
    _add[(triton.cdiv(_SIZE, _BLOCK),)](x, y, out, _SIZE, BLOCK=_BLOCK)
    seconds = time.perf_counter() - start
    if not torch.equal(out, x + y):
        raise ArithmeticError(f"{int((out != x + y).sum())} of {_SIZE} sums are wrong")
    return seconds


if __name__ == "__main__":
    print(f"{run():.2f}")
