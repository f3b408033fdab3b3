"""The pointwise generator: a scalar function and a promotion rule make an operator.

In:  operands that are tensors (any strides, any broadcastable shapes) or Python numbers.
Out: a tensor with the dtype, the shape and the strides that PyTorch's TensorIterator would give it.
"""

from __future__ import annotations

import enum
import functools
import itertools
import struct
from typing import Any

import torch
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import functions_complex as fc
from tessera.ops import functions_math as fm
from tessera.ops import pointwise_kernels as kernels
from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch
from tessera.ops.layout import Layout, Plan, plan

Operand = torch.Tensor | bool | int | float

EACH: int = kernels.EACH.value
ONE: int = kernels.ONE.value
NUMBER: int = kernels.NUMBER.value
BITS: int = kernels.BITS.value
ROW: int = kernels.ROW.value


class Promotion(enum.Enum):
    """What an operator computes in and returns, given the common type of its operands."""

    SAME = enum.auto()  # the common type
    FLOAT = enum.auto()  # the default floating type for integers
    BOOL = enum.auto()  # computed in the common type, returns bool


# The type that a kernel computes in: half types in float32, bool as 0 and 1.
_COMPUTE = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.float16: tl.float32,
    torch.bfloat16: tl.float32,
    torch.int64: tl.int64,
    torch.int32: tl.int32,
    torch.int16: tl.int16,
    torch.int8: tl.int8,
    torch.uint8: tl.uint8,
    torch.bool: tl.int32,
}
# What complex numbers have of the functions of real ones: a function for each part of the result, or one whose result
# is real or a truth. They take the parts of all operands; those of SEPARATE take the same part of each.
SEPARATE = frozenset({f.neg, f.add, f.sub, f.where, f.identity})
PARTS: dict[Any, tuple[Any, ...]] = {
    f.neg: (f.neg,) * 2,
    f.add: (f.add,) * 2,
    f.sub: (f.sub,) * 2,
    f.mul: (fc.product_real, fc.product_imaginary),
    f.true_div: (fc.quotient_real, fc.quotient_imaginary),
    f.reciprocal: (fc.reciprocal_real, fc.reciprocal_imaginary),
    f.square: (fc.square_real, fc.square_imaginary),
    f.exp: (fc.exp_real, fc.exp_imaginary),
    f.log: (fc.log_real, fc.angle),
    f.sin: (fc.sin_real, fc.sin_imaginary),
    f.cos: (fc.cos_real, fc.cos_imaginary),
    f.sgn: (fc.sign_real, fc.sign_imaginary),
    f.abs_: (fc.size,),
    fm.angle: (fc.angle,),
    f.eq: (fc.equal,),
    f.ne: (fc.different,),
    f.isnan: (fc.is_nan,),
    fm.isinf: (fc.is_infinite,),
    f.logical_not: (fc.is_zero,),
    f.logical_and: (fc.both,),
    f.logical_or: (fc.either,),
    f.logical_xor: (fc.one_of_two,),
    f.sqrt: (fc.sqrt_real, fc.sqrt_imaginary),
    f.rsqrt: (fc.rsqrt_real, fc.rsqrt_imaginary),
    f.tanh: (fc.tanh_real, fc.tanh_imaginary),
    f.tanh_backward: (fc.tanh_backward_real, fc.tanh_backward_imaginary),
    f.sigmoid: (fc.sigmoid_real, fc.sigmoid_imaginary),
    f.sigmoid_backward: (fc.sigmoid_backward_real, fc.sigmoid_backward_imaginary),
    f.power: (fc.power_real, fc.power_imaginary),
    **{getattr(fm, name): (getattr(fc, f"{name}_real"), getattr(fc, f"{name}_imaginary")) for name in (
        "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "exp2", "expm1", "log2", "log10",
        "log1p",
    )},
}  # fmt: skip
# The types whose values are moved in another type than they are computed in.
_STORAGE = {torch.bool: tl.int1, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_INT64 = range(-(1 << 63), 1 << 63)


def compute_type(dtype: torch.dtype) -> Any:
    """The Triton type that a kernel computes in for tensors of `dtype`."""
    if dtype not in _COMPUTE:
        raise Declined(f"no kernel for {str(dtype).removeprefix('torch.')}")
    return _COMPUTE[dtype]


def storage_type(dtype: torch.dtype) -> Any:
    """The Triton type in which a value of `dtype` is moved without a change of its bits."""
    return _STORAGE.get(dtype) or compute_type(dtype)


def common_type(operands: tuple[Operand, ...]) -> torch.dtype:
    """PyTorch's promotion over tensors, 0-dim tensors and numbers."""
    if len(operands) == 1:
        only = operands[0]
        return only.dtype if isinstance(only, torch.Tensor) else torch.result_type(only, only)
    result = torch.result_type(operands[0], operands[1])
    if len(operands) == 2:
        return result
    dtypes = {x.dtype for x in operands if isinstance(x, torch.Tensor)}
    if all(torch.result_type(a, b) == result for a, b in itertools.pairwise(operands)):
        return result
    if len(dtypes) == 1 and any(isinstance(x, torch.Tensor) and x.dim() for x in operands):
        return functools.reduce(torch.promote_types, (torch.result_type(operands[0], x) for x in operands[1:]))
    raise Declined("three operands of mixed types")


def types(promotion: Promotion, operands: tuple[Operand, ...]) -> tuple[torch.dtype, torch.dtype]:
    """(type that is computed in, type of the result), as torch types."""
    common = common_type(operands)
    if promotion is Promotion.BOOL:
        return common, torch.bool
    if promotion is Promotion.FLOAT and not common.is_floating_point and not common.is_complex:
        common = torch.get_default_dtype()
    return common, common


def apply(
    fn: Any, operands: tuple[Operand, ...], promotion: Promotion, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`fn` over `operands`, into a new tensor or into `out`."""
    compute, result = types(promotion, operands)
    parts = PARTS.get(fn, ()) if compute.is_complex else ()
    if len(parts) == 1 and result.is_complex:
        result = result.to_real()
    if out is not None and not torch.can_cast(result, out.dtype):
        raise Declined("the result type cannot be cast to the output's")
    if len(parts) == 1:
        given = tuple(part for x in operands for part in _parts(x))
        return run(parts[0], given, compute_type(compute.to_real()), result, out)
    if parts:
        return run_parts(parts, operands, result, out)
    return run(fn, operands, compute_type(compute), result, out)


def _parts(x: Operand) -> tuple[Operand, Operand]:
    """The real and the imaginary part."""
    if not isinstance(x, torch.Tensor):
        return (x.real, x.imag) if isinstance(x, complex) else (x, 0.0)
    if not x.is_complex():
        return x, 0.0
    pair = torch.view_as_real(x)
    return pair.select(-1, 0), pair.select(-1, 1)


def run_parts(
    functions: tuple[Any, ...],
    operands: tuple[Operand, ...],
    result: torch.dtype,
    out: torch.Tensor | None = None,
    shared: tuple[torch.Tensor, ...] = (),
) -> torch.Tensor:
    """The complex `result` whose parts are two functions of the operands' parts, behind operands that both share."""
    tensors = [x for x in (*shared, *operands) if isinstance(x, torch.Tensor)]
    layouts = tuple((tuple(x.shape), x.stride()) for x in tensors)
    target, _ = _prepare_output(tensors, layouts, result, out)
    separate = functions[0] in SEPARATE
    if out is not None and not separate:
        # The second part is computed when the first is written already, and `out` may be an operand.
        return _assigned(out, run_parts(functions, operands, result, shared=shared))
    kind, into = compute_type(result.to_real()), torch.view_as_real(target)
    alike = all(isinstance(x, torch.Tensor) and x.is_complex() for x in operands)
    if separate and alike and functions[0] is functions[1] and not shared:
        pairs = tuple(torch.view_as_real(x) for x in tensors)
        run(functions[0], pairs, kind, into.dtype, into)
        return target
    split = [_parts(x) for x in operands]
    for i, fn in enumerate(functions):
        given = [one[i] for one in split] if separate else [part for one in split for part in one]
        run(fn, (*shared, *given), kind, into.dtype, into.select(-1, i))
    return target


def _assigned(out: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    pair = torch.view_as_real(found)
    run(f.identity, (pair,), storage_type(pair.dtype), pair.dtype, torch.view_as_real(out))
    return out


def run(
    fn: Any, operands: tuple[Operand, ...], compute: Any, result: torch.dtype, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`fn` over `operands` computed in the Triton type `compute`; a new output has the torch type `result`."""
    tensors = [x for x in operands if isinstance(x, torch.Tensor)]
    for x in tensors:
        compute_type(x.dtype)
    layouts = tuple((tuple(x.shape), x.stride()) for x in tensors)
    given = out is not None
    out, loops = _prepare_output(tensors, layouts, result, out)
    if out.numel() == 0:
        return out
    compute_type(out.dtype)
    fill = (None,) * (4 - len(operands))
    steps = iter(loops.strides)
    strides = [next(steps) if isinstance(x, torch.Tensor) else () for x in operands] + [loops.strides[-1]]
    kinds = [_kind(x, step, compute) for x, step in zip(operands, strides, strict=False)]
    values = [_value(x, kind) for x, kind in zip(operands, kinds, strict=True)]
    in_place = any(x is out for x in tensors)
    constants = {"FN": fn, "ARITY": len(operands), "COMPUTE": compute}
    constants["STORE"] = "" if in_place else tiles.store_modifier(out, given)
    constants |= {f"KIND_{name}": kind for name, kind in zip("ABCD", kinds + [EACH] * len(fill), strict=True)}
    if loops.flat:
        _run_flat(values, fill, out, constants)
    else:
        _run_strided(values, fill, out, loops, strides, constants)
    return out


def _prepare_output(
    tensors: list[torch.Tensor], layouts: tuple[Layout, ...], result: torch.dtype, out: torch.Tensor | None
) -> tuple[torch.Tensor, Plan]:
    if out is None:
        loops = plan(layouts, None)
        device = tensors[0].device if tensors else None
        return torch.empty_strided(loops.shape, loops.out_strides, dtype=result, device=device), loops
    if out.numel() == 0 and layouts and out.shape != (shape := plan(layouts, None).shape):
        out.resize_(shape)
    loops = plan(layouts, (tuple(out.shape), out.stride()))
    if any(stride == 0 and size > 1 for size, stride in zip(out.shape, out.stride(), strict=True)):
        raise Declined("several elements of the output share memory")
    return out, loops


def _kind(x: Operand, strides: tuple[int, ...], compute: Any) -> int:
    if isinstance(x, torch.Tensor):
        return ONE if not any(strides) else EACH if strides[0] else ROW
    return BITS if compute is tl.float64 else NUMBER


def _value(x: Operand, kind: int) -> Any:
    if kind == BITS:
        return struct.unpack("<q", struct.pack("<d", x))[0]
    if kind != NUMBER:
        return x
    if isinstance(x, int) and int(x) not in _INT64:
        raise Declined("a number beyond int64")
    return int(x) if isinstance(x, bool) else x


def _run_flat(values: list[Any], fill: tuple[None, ...], out: torch.Tensor, constants: dict[str, Any]) -> None:
    size, row = out.numel(), tiles.of(out.device)
    block = tiles.block(size, row.flat)
    grid = (tiles.parts(size, block),)
    launch(kernels.flat, grid, *values, *fill, out, size, **constants, BLOCK=block, num_warps=row.num_warps)


def _run_strided(
    values: list[Any],
    fill: tuple[None, ...],
    out: torch.Tensor,
    loops: Plan,
    strides: list[tuple[int, ...]],
    constants: dict[str, Any],
) -> None:
    if len(loops.sizes) > 4:
        _run_outer_loop(values, fill, out, loops, strides, constants)
        return
    row = tiles.of(out.device)
    sizes = loops.sizes + (1,) * (4 - len(loops.sizes))
    num_outer = sizes[2] * sizes[3]
    rows, cols = tiles.rectangle(sizes[1], sizes[0], row, loops.turned)
    steps = max(1, row.flat // (min(rows, sizes[1]) * min(cols, sizes[0])))
    moves = [step for x in strides[:-1] for step in _four(x)] + [0] * (4 * len(fill)) + _four(strides[-1])
    grid = (tiles.parts(sizes[0], cols) * tiles.parts(sizes[1], rows) * tiles.parts(num_outer, steps),)
    launch(
        kernels.strided, grid, *values, *fill, out, sizes[0], sizes[1], sizes[2], num_outer, steps, *moves,
        **constants, ROWS=rows, COLS=cols, num_warps=row.num_warps,
    )  # fmt: skip


def _four(strides: tuple[int, ...]) -> list[int]:
    return [*strides, *(0,) * (4 - len(strides))]


def _run_outer_loop(
    values: list[Any],
    fill: tuple[None, ...],
    out: torch.Tensor,
    loops: Plan,
    strides: list[tuple[int, ...]],
    constants: dict[str, Any],
) -> None:
    """More dims than the kernel has: one launch for each step of the outermost."""
    shorter = [x[:-1] for x in strides]
    inner = Plan(loops.shape, loops.out_strides, loops.sizes[:-1], tuple(x for x in shorter if x))
    for step in range(loops.sizes[-1]):
        moved = [
            _moved(x, step * own[-1], inner.sizes, own[:-1]) if own else x
            for x, own in zip([*values, out], strides, strict=True)
        ]
        _run_strided(moved[:-1], fill, moved[-1], inner, shorter, constants)


def _moved(x: Any, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    return x.as_strided(sizes, strides, x.storage_offset() + offset) if isinstance(x, torch.Tensor) else x
