"""The one table: which ATen operators our kernels implement, and by which entry.

A row names the overloads that an entry serves. Names and signatures are read from PyTorch's schema: a name that does
not resolve, or an
entry whose parameters are not the schema's, fails at import. In-place and `out=` overloads are found in the schema too.
An entry raises `Declined` with a reason where a call is not one of ours.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tessera.ops import attention, index, layer_norm, loss, matmul, move, reduce, softmax
from tessera.ops import functions as f
from tessera.ops import pointwise as p
from tessera.ops.declined import Declined

Entry = Callable[..., Any]
Overload = torch._ops.OpOverload


class Form(enum.Enum):
    """Where the result of an overload goes."""

    NEW = enum.auto()
    SELF = enum.auto()  # in place: the first argument
    OUT = enum.auto()  # the schema's out arguments


@dataclass(frozen=True)
class Row:
    """`names` of ATen overloads without the namespace, and the entry that computes them."""

    names: tuple[str, ...]
    entry: Entry


@dataclass(frozen=True)
class Variant:
    """One overload that PyTorch may call, with what runs it; `call` takes the overload's own arguments."""

    overload: Overload
    form: Form
    call: Entry

    @property
    def name(self) -> str:
        """`mm`, `add.Tensor`: the name without the namespace and without `.default`."""
        return str(self.overload._name).removeprefix("aten::")


def _row(names: str, entry: Entry) -> Row:
    return Row(tuple(names.split()), entry)


ROWS: tuple[Row, ...] = (
    # pointwise, one operand
    _row("abs", p.signed(f.abs_)),
    _row("neg", p.signed(f.neg)),
    _row("sign", p.signed(f.sign)),
    _row("sgn", p.signed(f.sign)),
    _row("isnan", p.comparison(f.isnan)),
    _row("relu", p.signed(f.relu)),
    _row("exp", p.floating(f.exp)),
    _row("log", p.floating(f.log)),
    _row("sqrt", p.floating(f.sqrt)),
    _row("rsqrt", p.floating(f.rsqrt)),
    _row("reciprocal", p.floating(f.reciprocal)),
    _row("sin", p.floating(f.sin)),
    _row("cos", p.floating(f.cos)),
    _row("tanh", p.floating(f.tanh)),
    _row("erf", p.floating(f.erf)),
    _row("sigmoid", p.floating(f.sigmoid)),
    _row("floor", p.whole(f.floor)),
    _row("ceil", p.whole(f.ceil)),
    _row("silu", p.only_floating(f.silu)),
    _row("gelu", p.gelu),
    _row("bitwise_not", p.bitwise_not),
    _row("logical_not", p.comparison(f.logical_not)),
    # pointwise, two operands
    _row("add.Tensor", p.add),
    _row("sub.Tensor", p.sub),
    _row("mul.Tensor", p.same(f.mul)),
    _row("div.Tensor", p.floating(f.true_div)),
    _row("pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar", p.power),
    _row("maximum", p.same(f.maximum)),
    _row("minimum", p.same(f.minimum)),
    _row("eq.Tensor eq.Scalar", p.comparison(f.eq)),
    _row("ne.Tensor ne.Scalar", p.comparison(f.ne)),
    _row("lt.Tensor lt.Scalar", p.comparison(f.lt)),
    _row("le.Tensor le.Scalar", p.comparison(f.le)),
    _row("gt.Tensor gt.Scalar", p.comparison(f.gt)),
    _row("ge.Tensor ge.Scalar", p.comparison(f.ge)),
    _row("bitwise_and.Tensor", p.bitwise(f.bitwise_and)),
    _row("bitwise_or.Tensor", p.bitwise(f.bitwise_or)),
    _row("bitwise_xor.Tensor", p.bitwise(f.bitwise_xor)),
    _row("logical_and", p.comparison(f.logical_and)),
    _row("logical_or", p.comparison(f.logical_or)),
    _row("logical_xor", p.comparison(f.logical_xor)),
    _row("gelu_backward", p.gelu_backward),
    _row("silu_backward", p.only_floating(f.silu_backward)),
    _row("sigmoid_backward", p.only_floating(f.sigmoid_backward)),
    _row("tanh_backward", p.only_floating(f.tanh_backward)),
    # pointwise, three operands
    _row("where.self", p.where),
    _row("clamp clamp.Tensor", p.clamp),
    _row("clamp_min clamp_min.Tensor", p.clamp_min),
    _row("clamp_max clamp_max.Tensor", p.clamp_max),
    _row("threshold_backward", p.only_floating(f.threshold_backward)),
    _row("masked_fill_.Scalar masked_fill_.Tensor", p.masked_fill_),
    # making and moving
    _row("copy_", p.copy_),
    _row("fill_.Scalar fill_.Tensor", p.fill_),
    _row("zero_", p.zero_),
    _row("cat", move.cat),
    _row("arange.start_out", move.arange),
    _row("cumsum", move.cumsum),
    _row("isin.Tensor_Tensor", move.isin),
    # reductions
    _row("sum.dim_IntList", reduce.sum_),
    _row("mean.dim", reduce.mean),
    _row("amax", reduce.amax),
    _row("amin", reduce.amin),
    _row("max", reduce.amax),
    _row("min", reduce.amin),
    _row("max.dim", reduce.max_dim),
    _row("min.dim", reduce.min_dim),
    _row("argmax", reduce.argmax),
    _row("argmin", reduce.argmin),
    _row("any any.dim any.dims", reduce.any_),
    _row("all all.dim all.dims", reduce.all_),
    # rows
    _row("_softmax", softmax.softmax),
    _row("_log_softmax", softmax.log_softmax),
    _row("_softmax_backward_data", softmax.softmax_backward),
    _row("_log_softmax_backward_data", softmax.log_softmax_backward),
    _row("native_layer_norm", layer_norm.native_layer_norm),
    _row("native_layer_norm_backward", layer_norm.native_layer_norm_backward),
    _row("_fused_rms_norm", layer_norm.fused_rms_norm),
    _row("_fused_rms_norm_backward", layer_norm.fused_rms_norm_backward),
    # matrix products and attention
    _row("mm", matmul.mm),
    _row("addmm", matmul.addmm),
    _row("bmm", matmul.bmm),
    _row("baddbmm", matmul.baddbmm),
    _row("_scaled_dot_product_flash_attention_for_cpu", attention.flash_attention_for_cpu),
    _row("_scaled_dot_product_flash_attention_for_cpu_backward", attention.flash_attention_for_cpu_backward),
    # by index
    _row("index_select", index.index_select),
    _row("gather", index.gather),
    _row("index.Tensor", index.index),
    _row("embedding_dense_backward", index.embedding_dense_backward),
    # losses
    _row("nll_loss_forward", loss.nll_loss_forward),
    _row("nll_loss_backward", loss.nll_loss_backward),
)


def _resolve(name: str) -> Overload:
    packet, _, overload = name.partition(".")
    found: Overload | None = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    assert found is not None, f"the row {name!r} names no ATen overload of torch {torch.__version__}"
    return found


def _arguments(overload: Overload) -> list[tuple[str, str]]:
    """(name, type) of the arguments that are not `out` arguments."""
    return [(a.name, str(a.type)) for a in overload._schema.arguments if not a.is_out]


def _outs(overload: Overload) -> list[str]:
    return [a.name for a in overload._schema.arguments if a.is_out]


def _form(overload: Overload) -> Form:
    if _outs(overload):
        return Form.OUT
    first = overload._schema.arguments[0] if overload._schema.arguments else None
    writes = first is not None and first.alias_info is not None and first.alias_info.is_write
    return Form.SELF if writes else Form.NEW


def _overloads(packet: str) -> Iterator[Overload]:
    found = getattr(torch.ops.aten, packet, None)
    for name in found.overloads() if found is not None else ():
        yield getattr(found, name)


def _related(base: Overload) -> list[Overload]:
    """The base, then the in-place and `out=` overloads with the same arguments that have a CPU kernel of their own."""
    packet = base._schema.name.removeprefix("aten::")
    others = (*_overloads(packet), *_overloads(packet + "_"))
    wanted = _arguments(base)
    return [base] + [
        other
        for other in others
        if other is not base
        and _form(other) is not Form.NEW
        and _arguments(other) == wanted
        and torch._C._dispatch_has_kernel_for_dispatch_key(other._name, "CPU")
    ]


def _check_parameters(overload: Overload, entry: Entry) -> bool:
    """Whether the entry writes to `out` itself; fails where its parameters are not the schema's."""
    parameters = inspect.signature(entry).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    schema = [a for a in overload._schema.arguments if not a.is_out]
    writes = "out" in parameters and all(a.name != "out" for a in schema)
    names = [name for name in parameters if name != "out" or not writes]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        assert not any(a.kwarg_only for a in schema), f"{overload._name} has arguments that its entry does not take"
    else:
        assert len(names) >= len(schema), f"{overload._name} has arguments that its entry does not take"
        for a in (a for a in schema if a.kwarg_only):
            assert a.name in names, f"{overload._name} has an argument {a.name!r} that its entry does not take"
    return writes


def _give(out: torch.Tensor, result: torch.Tensor) -> None:
    """Write an entry's result into memory that the caller brought."""
    if out.dtype is not result.dtype:
        raise Declined("the output has another type")
    if out.shape != result.shape:
        if out.numel():
            raise Declined("the output would need another shape")
        out.resize_(result.shape)
    p.copy_(out, result, out=out)


def _into(entry: Entry, names: list[str]) -> Entry:
    """`entry` with its results written to the arguments `names`."""
    only = names[0]

    def call_one(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop(only)
        _give(out, entry(*args, **kwargs))
        return out

    def call_many(*args: Any, **kwargs: Any) -> Any:
        outs = [kwargs.pop(name) for name in names]
        for out, result in zip(outs, entry(*args, **kwargs), strict=True):
            _give(out, result)
        return tuple(outs)

    return call_one if len(names) == 1 else call_many


def _in_place(entry: Entry) -> Entry:
    def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        _give(self, entry(self, *args, **kwargs))
        return self

    return call


def _in_place_out(entry: Entry) -> Entry:
    def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return entry(self, *args, out=self, **kwargs)

    return call


def _out_named(entry: Entry, name: str) -> Entry:
    def call(*args: Any, **kwargs: Any) -> Any:
        return entry(*args, out=kwargs.pop(name), **kwargs)

    return call


def _call(overload: Overload, entry: Entry, writes: bool) -> Entry:
    """What runs `overload`, given whether `entry` writes to `out` itself."""
    form = _form(overload)
    if form is Form.NEW:
        return entry
    if form is Form.SELF:
        return _in_place_out(entry) if writes else _in_place(entry)
    names = _outs(overload)
    if writes:
        return entry if names == ["out"] else _out_named(entry, names[0])
    return _into(entry, names)


def _variants() -> dict[str, Variant]:
    found: dict[str, Variant] = {}
    for row in ROWS:
        for name in row.names:
            base = _resolve(name)
            writes = _check_parameters(base, row.entry)
            for overload in _related(base):
                assert overload._name not in found, f"two rows serve {overload._name}"
                found[overload._name] = Variant(overload, _form(overload), _call(overload, row.entry, writes))
    return found


# Every overload that we serve, by its full name ("aten::add.Tensor").
VARIANTS: dict[str, Variant] = _variants()
