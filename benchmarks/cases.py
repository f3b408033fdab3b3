"""The one table of kernel benchmarks. A new row is a line here; a new family is a file, and its name here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from benchmarks.case import Case, Kernel, Shape, Spec
from benchmarks.families import attention, index, layer_norm, matmul, pointwise, reduce, rms_norm, softmax, tutorial

FAMILIES: Mapping[str, Mapping[str, Kernel]] = {
    "pointwise": pointwise.KERNELS,
    "softmax": softmax.KERNELS,
    "layer_norm": layer_norm.KERNELS,
    "rms_norm": rms_norm.KERNELS,
    "matmul": matmul.KERNELS,
    "attention": attention.KERNELS,
    "index": index.KERNELS,
    "reduce": reduce.KERNELS,
    "tutorial": tutorial.KERNELS,
}

F32, BF16 = torch.float32, torch.bfloat16
BOTH = (F32, BF16)

# Elements: 64 Ki fit the first caches, 1.5 Mi the last one, 16 Mi none.
SMALL, MEDIUM, LARGE = (64, 1024), (1024, 1536), (4096, 4096)

# (family, kernels, shapes, dtypes): every combination is a row.
_GROUPS: tuple[tuple[str, str, tuple[Shape, ...], tuple[torch.dtype, ...]], ...] = (
    ("pointwise", "add mul gelu silu", (SMALL, MEDIUM, LARGE), (F32,)),
    ("pointwise", "add gelu silu", (MEDIUM,), (BF16,)),
    ("pointwise", "add_bias add_transposed cast gelu_backward", (MEDIUM,), (F32,)),
    ("softmax", "softmax softmax_composed", ((12288, 128), (1024, 1024)), (F32,)),
    ("softmax", "softmax", ((12288, 128), (64, 32768)), (BF16,)),
    ("softmax", "log_softmax softmax_backward", ((1024, 1024),), (F32,)),
    ("layer_norm", "layer_norm layer_norm_composed", ((1024, 384), (2048, 2048)), (F32,)),
    ("layer_norm", "layer_norm", ((1024, 384), (2048, 2048)), (BF16,)),
    ("layer_norm", "layer_norm_backward", ((1024, 384),), (F32,)),
    ("rms_norm", "rms_norm rms_norm_composed", ((1024, 1024),), BOTH),
    # [M, N, K]: the Linear layers of the sentence encoder at 8 × 128 tokens, then square.
    ("matmul", "linear", ((1024, 384, 384), (1024, 1536, 384), (1024, 384, 1536), (1024, 1024, 1024)), BOTH),
    ("matmul", "mm", ((1024, 1024, 1024), (128, 384, 384), (1000, 1000, 1000)), BOTH),
    # [batch, M, N, K]: the two products of attention.
    ("matmul", "bmm", ((96, 128, 128, 32), (96, 128, 32, 128)), BOTH),
    # [N, K]: one token through a Linear layer.
    ("matmul", "decode", ((4096, 4096), (11008, 4096)), BOTH),
    # [batch, heads, length, width of a head]
    ("attention", "attention", ((8, 12, 128, 32), (1, 16, 1024, 64)), BOTH),
    ("attention", "attention_causal", ((1, 16, 1024, 64),), BOTH),
    # [rows of the table, width, number of tokens]
    ("index", "embedding", ((30522, 384, 1024), (32000, 1024, 1024)), (F32,)),
    ("index", "embedding", ((32000, 1024, 1024),), (BF16,)),
    ("reduce", "sum_rows sum_columns mean amax argmax cumsum", ((1024, 1536),), (F32,)),
    ("reduce", "sum_rows", (LARGE,), BOTH),
    # As kernel authors write them for GPUs, with the blocks that they choose there.
    ("tutorial", "vector_add", ((98432,), (16777216,)), (F32,)),
    ("tutorial", "fused_softmax", ((1823, 781), (4096, 4096)), (F32,)),
    ("tutorial", "layer_norm", ((1151, 1024),), (F32,)),
    ("tutorial", "matmul", ((1024, 1024, 1024),), BOTH),
    ("tutorial", "int8_matmul", ((1024, 1024, 1024),), (torch.int8,)),
    ("tutorial", "decode_int8", ((4096, 4096), (11008, 4096)), (torch.int8,)),
    ("tutorial", "decode_int4", ((4096, 4096), (11008, 4096)), (torch.uint8,)),
    ("tutorial", "attention", ((16, 1024, 64),), BOTH),
)


def _specs() -> Iterator[Spec]:
    for family, kernels, shapes, dtypes in _GROUPS:
        for kernel in kernels.split():
            yield from (Spec(family, kernel, shape, dtype) for shape in shapes for dtype in dtypes)


CASES: tuple[Case, ...] = tuple(Case(spec=spec, kernel=FAMILIES[spec.family][spec.kernel]) for spec in _specs())
