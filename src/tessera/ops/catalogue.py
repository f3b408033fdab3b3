"""The one list: which entry implements which ATen operators. `table.py` finds their other overloads in the schema.

A row names overloads without the namespace; entries are the families' functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tessera.ops import activation as a
from tessera.ops import (
    arithmetic,
    attention,
    bags,
    channel_norm,
    complex_numbers,
    convolution,
    distance,
    distinct,
    equality,
    functions_gamma,
    functions_polynomial,
    grid_sample,
    histogram,
    index,
    layer_norm,
    loss,
    lu,
    masked,
    matmul,
    matrix_exp,
    moments,
    move,
    multinomial,
    nonzero,
    optimizer,
    pool,
    random,
    rearrange,
    reduce,
    resample,
    running_extreme,
    scatter,
    search,
    softmax,
    sort,
    triangular,
    vector_products,
    windows,
)
from tessera.ops import foreach as each
from tessera.ops import functions as f
from tessera.ops import functions_activation as fa
from tessera.ops import functions_integer as fi
from tessera.ops import functions_math as fm
from tessera.ops import pointwise as p

Entry = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """`names` of ATen overloads without the namespace, and the entry that computes them."""

    names: tuple[str, ...]
    entry: Entry


def _row(names: str, entry: Entry) -> Row:
    return Row(tuple(names.split()), entry)


def _each(names: str, kind: Callable[[Any], Entry], functions: Any, overload: str = "") -> tuple[Row, ...]:
    """Operators that are called as their scalar functions are; `overload` is `.Tensor` or nothing."""
    return tuple(_row(name + overload, kind(_function(functions, name))) for name in names.split())


def _foreach_unary(names: str, kind: Callable[[Any], Entry], functions: Any) -> tuple[Row, ...]:
    found = {name: _function(functions, name) for name in names.split()}
    return tuple(_row(f"_foreach_{name}", each.unary(fn, kind(fn))) for name, fn in found.items())


def _function(module: Any, name: str) -> Any:
    """A function whose name Python reserves or has of its own ends in an underscore."""
    return getattr(module, name, None) or getattr(module, f"{name}_")


def _foreach_binary(name: str, fn: Any, single: Entry) -> tuple[Row, ...]:
    """A list with a number, with numbers and with a list."""
    return (
        _row(f"_foreach_{name}.Scalar", each.with_number(fn, single)),
        _row(f"_foreach_{name}.ScalarList", each.with_numbers(fn, single)),
        _row(f"_foreach_{name}.List", each.with_list(fn, single)),
    )


def _own(names: str, family: Any) -> tuple[Row, ...]:
    """Operators whose entries are called as they are."""
    return tuple(_row(name, _function(family, name)) for name in names.split())


_POLYNOMIALS = (
    *(f"{family}_polynomial_{kind}" for family in ("chebyshev", "shifted_chebyshev") for kind in "tuvw"),
    "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
)  # fmt: skip


def _over(name: str, entries: Callable[[int], tuple[Entry, Entry]], *dims: int) -> tuple[Row, ...]:
    """An operator and its gradient over each number of dims, which stands in its name for `{}`."""
    return tuple(row for num in dims for row in _both(name.format(num), entries(num)))


def _both(name: str, entries: tuple[Entry, Entry]) -> tuple[Row, ...]:
    """An operator and its gradient."""
    return _row(name, entries[0]), _row(f"{name}_backward", entries[1])


def _foreach_products(name: str, fn: Any, single: Entry) -> tuple[Row, ...]:
    return (
        _row(f"_foreach_{name}.Scalar", each.products(fn, single)),
        _row(f"_foreach_{name}.ScalarList _foreach_{name}.Tensor", each.products_each(fn, single)),
    )


ROWS: tuple[Row, ...] = (
    # pointwise, one operand
    *_each("abs neg sign sgn relu", p.signed, f),
    *_each("isnan logical_not", p.comparison, f),
    *_each("exp log sqrt rsqrt reciprocal sin cos tanh erf sigmoid", p.floating, f),
    *_each("floor ceil", p.whole, f),
    *_each(
        "acos acosh asin asinh atan atanh tan sinh cosh exp2 expm1 log2 log10 log1p erfc erfinv sinc deg2rad rad2deg "
        "special_erfcx special_entr special_log_ndtr lgamma i0",
        p.floating,
        fm,
    ),
    _row("digamma", p.floating(functions_gamma.digamma)),
    *_each("trunc round", arithmetic.whole, fm),
    _row("round.decimals", arithmetic.round_decimals),
    _row("frac", p.only_floating(fm.frac)),
    _row("isinf", arithmetic.question(fm.isinf, fm.never)),
    _row("isposinf", arithmetic.question(fm.isposinf, fm.never)),
    _row("isneginf", arithmetic.question(fm.isneginf, fm.never)),
    _row("signbit", arithmetic.question(fm.signbit, fm.is_negative)),
    *_own("logit logit_backward nan_to_num angle polygamma mvlgamma", arithmetic),
    _row("conj_physical.out", complex_numbers.conj_physical),
    _row("complex.out", complex_numbers.complex_),
    _row("polar.out", complex_numbers.polar),
    *_each("silu silu_backward sigmoid_backward tanh_backward threshold_backward", p.only_floating, f),
    *_own("gelu gelu_backward bitwise_not", p),
    # pointwise, two operands
    _row("add.Tensor", p.add),
    _row("sub.Tensor", p.sub),
    _row("mul.Tensor", p.same(f.mul)),
    _row("div.Tensor", p.floating(f.true_div)),
    _row("pow.Tensor_Tensor", p.power),
    *_each("maximum minimum", p.same, f),
    *_each("eq ne lt le gt ge", p.comparison, f, ".Tensor"),
    *_each("bitwise_and bitwise_or bitwise_xor", p.bitwise, f, ".Tensor"),
    *_each("logical_and logical_or logical_xor", p.comparison, f),
    _row("div.Tensor_mode", arithmetic.divide),
    _row("floor_divide", arithmetic.floor_divide),
    _row("fmod.Tensor", arithmetic.fmod),
    _row("remainder.Tensor", arithmetic.remainder),
    _row("rsub.Tensor", arithmetic.rsub),
    *_each("atan2 special_xlog1py", p.floating, fm),
    _row("xlogy.Tensor", p.floating(fm.xlogy)),
    _row("special_zeta", p.floating(functions_gamma.special_zeta)),
    *_each(" ".join(f"special_{kind}" for kind in _POLYNOMIALS), p.floating, functions_polynomial),
    _row("copysign.Tensor", arithmetic.copysign),
    *_own("nextafter heaviside", arithmetic),
    *_each("hypot logaddexp logaddexp2", arithmetic.floating_pair, fm),
    _row("fmax", arithmetic.extreme(fm.fmax, f.maximum)),
    _row("fmin", arithmetic.extreme(fm.fmin, f.minimum)),
    _row("bitwise_left_shift.Tensor __lshift__.Tensor", arithmetic.shift(fi.left_shift)),
    _row("bitwise_right_shift.Tensor __rshift__.Tensor", arithmetic.shift(fi.right_shift)),
    # activations and pointwise losses
    *_each("hardsigmoid hardswish mish", a.activation, fa),
    *_each("hardsigmoid_backward hardswish_backward mish_backward log_sigmoid_backward", a.activation, fa),
    *_each("hardtanh_backward softplus_backward", a.activation, fa),
    _row("_prelu_kernel", a.activation(fa.prelu)),
    _row("_prelu_kernel_backward", a.prelu_backward),
    *_own(
        "elu elu_backward celu native_dropout_backward hardtanh leaky_relu leaky_relu_backward softplus softshrink "
        "hardshrink threshold log_sigmoid_forward glu glu_backward",
        a,
    ),
    _row("softshrink_backward hardshrink_backward", a.activation(fa.shrink_backward)),
    *_own(
        "mse_loss mse_loss_backward smooth_l1_loss smooth_l1_loss_backward huber_loss huber_loss_backward "
        "soft_margin_loss soft_margin_loss_backward binary_cross_entropy binary_cross_entropy_backward",
        a,
    ),
    # pointwise, three operands
    _row("where.self", p.where),
    *_own("clamp clamp_min clamp_max", p),
    _row("masked_fill_.Tensor", p.masked_fill_),
    _row("lerp.Tensor", arithmetic.lerp),
    *_own("addcmul addcdiv", arithmetic),
    # making and moving
    _row("copy_", p.copy_),
    _row("clone", p.clone),
    _row("_to_copy", p.to_copy),
    _row("fill_.Tensor", p.fill_),
    _row("zero_", p.zero_),
    _row("cat", move.cat),
    _row("arange.start_out", move.arange),
    *_own("cumsum cumprod", move),
    _row("linspace.out", move.linspace),
    _row("logspace.out", move.logspace),
    _row("isin.Tensor_Tensor", move.isin),
    *_own("flip roll repeat narrow_copy tril triu constant_pad_nd", rearrange),
    _row("eye.m_out eye.out", rearrange.eye),
    _row("reflection_pad1d reflection_pad2d reflection_pad3d", rearrange.reflection),
    _row(
        "reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward",
        rearrange.reflection_backward,
    ),
    _row("replication_pad1d replication_pad2d replication_pad3d", rearrange.replication),
    _row(
        "replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward",
        rearrange.replication_backward,
    ),
    # linear maps along dims
    *_over("avg_pool{}d", resample.average_pool, 2, 3),
    *_over("_adaptive_avg_pool{}d", resample.adaptive_average_pool, 2, 3),
    *_over("upsample_nearest{}d", functools.partial(resample.upsample, resample.nearest), 1, 2, 3),
    *_over("_upsample_nearest_exact{}d", functools.partial(resample.upsample, resample.nearest_exact), 1, 2, 3),
    *_both("upsample_linear1d", resample.upsample(resample.linear, 1)),
    *_both("upsample_bilinear2d", resample.upsample(resample.linear, 2)),
    *_both("upsample_trilinear3d", resample.upsample(resample.linear, 3)),
    *_both("upsample_bicubic2d", resample.upsample(resample.cubic, 2)),
    *_own("convolution convolution_backward", convolution),
    *_over("grid_sampler_{}d", grid_sample.grid_sampler, 2, 3),
    # windows as columns
    *_own("im2col col2im unfold_backward", windows),
    # pooling by maximum
    *_over("max_pool{}d_with_indices", lambda num: (pool.max_pool(num), pool.max_pool_backward(num)), 2, 3),
    *_over(
        "adaptive_max_pool{}d",
        lambda num: (pool.adaptive_max_pool(num), pool.adaptive_max_pool_backward(num)), 2, 3,
    ),
    *_over(
        "fractional_max_pool{}d",
        lambda num: (pool.fractional_max_pool(num), pool.fractional_max_pool_backward(num)), 2, 3,
    ),
    _row("max_unpool2d", pool.max_unpool(2)),
    _row("max_unpool3d", pool.max_unpool(3)),
    # reductions
    _row("sum sum.dim_IntList", reduce.sum_),
    _row("mean mean.dim", reduce.mean),
    _row("prod", moments.prod),
    _row("prod.dim_int", reduce.prod),
    _row("count_nonzero.dim_IntList", moments.count_nonzero),
    *_own("nansum aminmax", moments),
    _row("var.correction", moments.var),
    _row("std.correction", moments.std),
    _row("var_mean.correction", moments.var_mean),
    _row("std_mean.correction", moments.std_mean),
    _row("linalg_vector_norm", moments.vector_norm),
    _row("norm.ScalarOpt_dim norm.ScalarOpt_dim_dtype", moments.norm),
    _row("amax max", reduce.amax),
    _row("amin min", reduce.amin),
    _row("max.dim", reduce.max_dim),
    _row("min.dim", reduce.min_dim),
    *_own("argmax argmin", reduce),
    _row("any any.dim any.dims", reduce.any_),
    _row("all all.dim all.dims", reduce.all_),
    _row("equal", equality.equal),
    # rows
    _row("_softmax", softmax.softmax),
    _row("_log_softmax", softmax.log_softmax),
    _row("_softmax_backward_data", softmax.softmax_backward),
    _row("_log_softmax_backward_data", softmax.log_softmax_backward),
    *_own("native_layer_norm native_layer_norm_backward", layer_norm),
    _row("_fused_rms_norm", layer_norm.fused_rms_norm),
    _row("_fused_rms_norm_backward", layer_norm.fused_rms_norm_backward),
    # channels
    _row("native_batch_norm _native_batch_norm_legit", channel_norm.native_batch_norm),
    _row("_native_batch_norm_legit.no_stats", channel_norm.without_running_statistics),
    _row("_native_batch_norm_legit_no_training", channel_norm.without_training),
    *_own("native_batch_norm_backward native_group_norm native_group_norm_backward", channel_norm),
    # matrix products and attention
    *_own("mm addmm bmm baddbmm addbmm", matmul),
    *_own("mv addmv addr trace", vector_products),
    *_own("dot vdot", vector_products),
    _row("linalg_cross", vector_products.cross),
    _row("linalg_matrix_exp", matrix_exp.linalg_matrix_exp),
    # factors and what is solved by them
    *_own("linalg_solve_triangular linalg_cholesky_ex cholesky cholesky_inverse", triangular),
    _row("_cholesky_solve_helper", triangular.cholesky_solve_helper),
    *_own("linalg_lu_factor_ex lu_unpack linalg_lu_solve linalg_inv_ex", lu),
    _row("_linalg_solve_ex", lu.linalg_solve_ex),
    _row("_linalg_det", lu.linalg_det),
    _row("_linalg_slogdet", lu.linalg_slogdet),
    _row("_scaled_dot_product_flash_attention_for_cpu", attention.flash_attention_for_cpu),
    _row("_scaled_dot_product_flash_attention_for_cpu_backward", attention.flash_attention_for_cpu_backward),
    # distances
    _row("_cdist_forward", distance.cdist_forward),
    _row("_cdist_backward", distance.cdist_backward),
    _row("_pdist_forward", distance.pdist_forward),
    _row("_pdist_backward", distance.pdist_backward),
    # by index
    *_own("index_select gather embedding embedding_dense_backward", index),
    _row("index.Tensor", index.index),
    _row("_embedding_bag", bags.embedding_bag),
    _row("_embedding_bag_forward_only", bags.embedding_bag_forward_only),
    _row("_embedding_bag_backward", bags.embedding_bag_backward),
    _row("_embedding_bag_dense_backward", bags.embedding_bag_dense_backward),
    _row("_embedding_bag_per_sample_weights_backward", bags.embedding_bag_per_sample_weights_backward),
    _row("take", index.take_),
    *_own("put_ scatter_add_ index_add_ index_copy_ index_reduce_ index_put_", scatter),
    _row("scatter_.src", scatter.scatter_),
    _row("scatter_.value", scatter.scatter_value_),
    _row("scatter_.reduce", scatter.scatter_with_),
    _row("scatter_.value_reduce", scatter.scatter_value_with_),
    _row("scatter_reduce_.two", scatter.scatter_reduce_),
    _row("index_fill_.int_Scalar", scatter.index_fill_),
    _row("_index_put_impl_", scatter.index_put_),
    # by order and by truth
    *_own("histc", histogram),
    *_own("sort topk kthvalue", sort),
    _row("sort.stable", sort.sort_stable),
    _row("searchsorted.Tensor", search.searchsorted),
    _row("repeat_interleave.Tensor", search.repeat_interleave),
    _row("bucketize.Tensor", search.bucketize),
    _row("_unique2", distinct.unique),
    _row("unique_consecutive", distinct.unique_consecutive),
    _row("nonzero", nonzero.nonzero),
    _row("masked_select", masked.masked_select),
    _row("masked_scatter_", masked.masked_scatter_),
    _row("_cummax_helper", running_extreme.cummax),
    _row("_cummin_helper", running_extreme.cummin),
    # random numbers
    *_own("uniform_ normal_ log_normal_ exponential_ geometric_ cauchy_ bernoulli random_", random),
    _row("multinomial", multinomial.multinomial),
    *_own("native_dropout rrelu_with_noise rrelu_with_noise_", random),
    _row("rrelu_with_noise.out", random.rrelu_with_noise_into),
    _row("normal.Tensor_Tensor", random.normal),
    _row("bernoulli_.float", random.bernoulli_),
    _row("bernoulli_.Tensor", random.bernoulli_each_),
    _row("random_.from", random.random_from_),
    _row("random_.to", random.random_to_),
    _row("randperm.generator_out", random.randperm),
    # losses
    *_own("nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward", loss),
    # lists of tensors
    *_foreach_unary("abs neg sign", p.signed, f),
    *_foreach_unary("exp sqrt rsqrt reciprocal sin cos tanh erf sigmoid log", p.floating, f),
    *_foreach_unary("acos asin atan tan sinh cosh expm1 log2 log10 log1p erfc", p.floating, fm),
    _row("_foreach_floor", each.without_booleans(each.unary(f.floor, p.whole(f.floor)))),
    _row("_foreach_ceil", each.without_booleans(each.unary(f.ceil, p.whole(f.ceil)))),
    *_foreach_unary("trunc round", arithmetic.whole, fm),
    _row("_foreach_frac", each.unary(fm.frac, p.only_floating(fm.frac))),
    _row("_foreach_zero_", each.unary(None, p.zero_)),
    _row("_foreach_copy_", each.copy_list(p.copy_)),
    _row("_foreach_add.Scalar", each.with_number(f.add, p.add)),
    _row("_foreach_add.ScalarList", each.with_numbers(f.add, p.add)),
    _row("_foreach_add.List", each.with_scaled_list(f.add, f.add_scaled, p.add)),
    _row("_foreach_add.Tensor", each.with_scaled_tensor(p.add)),
    _row("_foreach_sub.Scalar", each.without_booleans(each.with_number(f.sub, p.sub))),
    _row("_foreach_sub.ScalarList", each.without_booleans(each.with_numbers(f.sub, p.sub))),
    _row("_foreach_sub.List", each.without_booleans(each.with_scaled_list(f.sub, f.sub_scaled, p.sub))),
    *_foreach_binary("mul", f.mul, p.same(f.mul)),
    _row("_foreach_mul.Tensor", each.with_tensor(p.same(f.mul))),
    *_foreach_binary("div", f.true_div, p.floating(f.true_div)),
    _row("_foreach_div.Tensor", each.with_tensor(p.floating(f.true_div))),
    *_foreach_binary("clamp_min", f.maximum, p.clamp_min),
    *_foreach_binary("clamp_max", f.minimum, p.clamp_max),
    *_foreach_binary("maximum", f.maximum, p.clamp_min),
    *_foreach_binary("minimum", f.minimum, p.clamp_max),
    _row("_foreach_pow.List", each.power_list(p.power)),
    _row("_foreach_pow.Scalar", each.power_number(p.power)),
    _row("_foreach_pow.ScalarList", each.power_numbers(p.power)),
    _row("_foreach_pow.ScalarAndTensor", each.number_to_powers(p.power)),
    *_foreach_products("addcmul", fm.addcmul, arithmetic.addcmul),
    *_foreach_products("addcdiv", fm.addcdiv, arithmetic.addcdiv),
    _row("_foreach_lerp.Scalar", each.lerp_number(fm.lerp, arithmetic.lerp)),
    _row("_foreach_lerp.ScalarList", each.lerp_numbers(fm.lerp, arithmetic.lerp)),
    _row("_foreach_lerp.List", each.lerp_list(fm.lerp, arithmetic.lerp)),
    _row("_fused_adam_", optimizer.adam_),
    _row("_fused_adamw_", optimizer.adamw_),
    _row("_fused_sgd_", optimizer.sgd_),
    _row("_fused_adagrad_", optimizer.adagrad_),
)
