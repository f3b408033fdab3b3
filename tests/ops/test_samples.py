"""Every operator on PyTorch's own sample inputs: types, broadcasting, strides, empty tensors, numbers, gradients."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from tests.ops.judged import Given, assert_calls, assert_gradients, vendor_calls

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

MOST_SAMPLES = 8
# Other types take the same kernels through other casts.
FEWER_SAMPLES = 3
TYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool)

# By torch's names; "," parts them.
_NAMES = (
    "abs,neg,sign,sgn,isnan,nn.functional.relu,exp,log,sqrt,rsqrt,reciprocal,sin,cos,tanh,erf,sigmoid,floor,ceil,"
    "nn.functional.silu,nn.functional.gelu,bitwise_not,logical_not,add,sub,mul,div,pow,maximum,minimum,eq,ne,lt,le,gt,ge,bitwise_and,"
    "bitwise_or,bitwise_xor,logical_and,logical_or,logical_xor,where,clamp,clamp_min,clamp_max,masked_fill,fill,cat,arange,"
    "cumsum,isin,sum,"
    "mean,amax,amin,max,min,argmax,argmin,any,all,softmax,log_softmax,nn.functional.layer_norm,native_layer_norm,mm,addmm,"
    "bmm,baddbmm,index_select,gather,nn.functional.embedding,"
    "nn.functional.nll_loss,nn.functional.cross_entropy,nn.functional.linear,matmul,to,clone,square"
)
NAMES = frozenset(_NAMES.split(","))

# Operators that a sample may call besides, which no row serves yet, and what entries decline by design.
WITHOUT_KERNEL = frozenset(
    (
        "_index_put_impl_", "addmv_", "angle",
        "bernoulli_.float", "copysign.Tensor", "_efficientzerotensor", "div.Tensor_mode",
        "dot", "flip", "embedding_renorm_", "index_add", "isneginf",
        "nll_loss2d_backward", "nll_loss2d_forward", "rsub.Tensor", "scatter.src", "scatter_add", "tril",
    )
)  # fmt: skip
DECLINED = (
    "matrix products of integers",
    "a range of this type",
    "nothing to join",
    "three operands of mixed types",
    "not defined for booleans",
    "a gather of this kind",
    "an index_select of scalars",
    "a general power of this type",
    "several elements of the output share memory",
    "a loss of this kind",
)

CASES = [
    pytest.param(op, dtype, id=f"{op.name}{'-' if op.variant_test_name else ''}{op.variant_test_name}-{str(dtype)[6:]}")
    for op in op_db
    if op.name in NAMES
    for dtype in TYPES
    if dtype in op.supported_dtypes("cpu")
]


def samples(op: Any, dtype: torch.dtype, requires_grad: bool = False) -> list[Given]:
    torch.manual_seed(0)
    found = list(op.sample_inputs("cpu", dtype, requires_grad=requires_grad))
    most = MOST_SAMPLES if dtype in (torch.float32, torch.bfloat16) else FEWER_SAMPLES
    step = max(1, len(found) // most)
    return [((s.input, *s.args), s.kwargs) for s in found[::step][:most]]


def assert_ours(record: Any) -> None:
    for name, reasons in vendor_calls(record).items():
        assert name in WITHOUT_KERNEL or set(reasons) <= set(DECLINED), (name, reasons)


def test_every_name_is_known() -> None:
    unknown = NAMES - {op.name for op in op_db}
    assert not unknown


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_results(op: Any, dtype: torch.dtype) -> None:
    for record in assert_calls(op, samples(op, dtype)):
        assert_ours(record)


DIFFERENTIABLE = [
    pytest.param(op, id=f"{op.name}{op.variant_test_name}") for op in op_db if op.name in NAMES and op.supports_autograd
]


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_gradients(op: Any) -> None:
    for record in assert_gradients(op, samples(op, torch.float32, requires_grad=True)[::2]):
        assert_ours(record)
