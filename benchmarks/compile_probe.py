"""A process of its own that compiles kernels, or loads them from the cache that `TRITON_CACHE_DIR` names.

Run as `python -m benchmarks.compile_probe`; its last line of output is JSON: `compiled`, a list of what Triton told of
each kernel (name, signature, whether it came from the cache, milliseconds by stage), and `first_ms`, for kernels that
are launched from here, how much longer the first launch took than the second.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from triton import knobs
from triton.runtime.jit import JITFunction

from benchmarks.case import Shape
from benchmarks.families import tutorial
from benchmarks.launches import empty
from benchmarks.models import SUBJECTS
from benchmarks.overhead import switched_on


class Listener:
    """Triton's compilation listener; keeps what it is told of every kernel."""

    def __init__(self) -> None:
        self.compiled: list[dict[str, Any]] = []

    def __call__(self, *, src: Any, metadata: Any, metadata_group: Any, times: Any, cache_hit: bool) -> None:
        stages = {"ast": times.ir_initialization, **dict(times.lowering_stages), "store": times.store_results}
        self.compiled.append({
            "kernel": _name(src),
            "signature": ", ".join(map(str, src.signature.values())),
            "hash": metadata["hash"],
            "cached": cache_hit,
            "stages_ms": {} if cache_hit else {name: us / 1e3 for name, us in stages.items()},
            "total_ms": times.total / 1e3,
        })  # fmt: skip


def _name(src: Any) -> str:
    """`softmax.forward`, and `pointwise_kernels.flat(gelu)` for a kernel that is made for a scalar function."""
    functions = [constant.__name__ for constant in src.constants.values() if isinstance(constant, JITFunction)]
    name = f"{src.fn.__module__.rsplit('.', 1)[-1]}.{src.name}"
    return f"{name}({', '.join(functions)})" if functions else name


# Small, so that a first launch is not one that touches new memory.
_SHAPES: Mapping[str, Shape] = {
    "vector_add": (4096,),
    "fused_softmax": (64, 781),
    "layer_norm": (64, 1024),
    "matmul": (128, 128, 128),
    "attention": (2, 128, 64),
}


def _first_launches() -> dict[str, float]:
    """Milliseconds that the first launch of a tutorial kernel took beyond the second."""
    first_ms = {}
    for name, shape in _SHAPES.items():
        launch = tutorial.KERNELS[name].make(shape, torch.float32).ours
        first_ms[name] = 1e3 * (_seconds(launch) - _seconds(launch))
    return first_ms


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _library() -> None:
    """The kernels that the sentence encoder needs, in both types."""
    with switched_on(), torch.no_grad():
        for name in ("minilm float32", "minilm bfloat16"):
            SUBJECTS[name].prepare(small=True)()


def main() -> None:
    # The attention of the tutorial is written with block pointers, on purpose.
    warnings.filterwarnings("ignore", message="tl.make_block_ptr is deprecated", category=UserWarning)
    # What a process pays once, for its first kernel, is not the kernel's.
    empty[(1,)](*(torch.empty(1) for _ in range(3)), 5, 7)
    listener = Listener()
    knobs.compilation.listener = listener
    first_ms = _first_launches()
    num_tutorial = len(listener.compiled)
    _library()
    for index, row in enumerate(listener.compiled):
        row["source"] = "tutorial" if index < num_tutorial else "library"
    json.dump({"compiled": listener.compiled, "first_ms": first_ms}, sys.stdout)


if __name__ == "__main__":
    main()
