"""Optimizer steps over lists of parameters, each in one launch: Adam, AdamW, SGD, Adagrad.

Formula:
    Adam:    m ← m + (1-β₁)(g - m),  v ← β₂v + (1-β₂)g²,  p ← p - lr/c₁ · m / (√v/√c₂ + eps),  c = 1 - βᵗ
             AMSGrad: the largest v so far in place of v
    SGD:     b ← μ·b + (1-τ)·g (b ← g in the first step),  p ← p - lr · (g + μ·b if nesterov else b)
    Adagrad: s ← s + g²,  p ← p - lr/(1 + (t-1)·decay) · g / (√s + eps)
    decay:   g ← g + wd · p first; AdamW: p ← p · (1 - lr · wd) first
Shapes: lists of equal length; a parameter, its gradient and its states have one shape and one layout.
Types: float64, float32, float16 and bfloat16, one type for a call; computed in float32 for the half types.
Limits: parameters and states of different types or layouts are left to PyTorch. A step whose gradients overflowed
(`found_inf`) changes nothing.
Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014, arXiv:1412.6980; Reddi, Kale and Kumar, "On
the Convergence of Adam and Beyond", 2018, arXiv:1904.09237 (AMSGrad); Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", 2017, arXiv:1711.05101 (AdamW); Sutskever, Martens, Dahl and Hinton, "On the importance of
initialization and momentum in deep learning", ICML 2013 (SGD); Duchi, Hazan and Singer, "Adaptive Subgradient Methods
for Online Learning and Stochastic Optimization", Journal of Machine Learning Research 12, 2011 (Adagrad); the pages of
torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD and torch.optim.Adagrad
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.foreach import Tensors, alike, chunks, element_type, start
from tessera.ops.generate import Operand, compute_type
from tessera.ops.launch import Handed, launch, real

Found = torch.Tensor | None


@triton.jit
def scaled_gradient(grads, at, mask, scale, MAXIMIZE: tl.constexpr, COMPUTE: tl.constexpr):
    """The gradient, taken out of the loss scale if there is one; PyTorch keeps what it divided."""
    g = tl.load(grads + at, mask=mask).to(COMPUTE)
    if scale is not None:
        g = g / tl.load(scale).to(COMPUTE)
        tl.store(grads + at, g.to(grads.dtype.element_ty), mask=mask)
    if MAXIMIZE:
        g = -g
    return g


@triton.jit
def steps(addresses, row, num, owner):
    """How many steps the parameter has made, this one included."""
    return tl.load(tl.load(addresses + row * num + owner).to(tl.pointer_type(tl.float32))).to(tl.float64)


@triton.jit
def part(overflowed, owners, starts, sizes, CHUNK: tl.constexpr):
    """(tensor, first element, end) of this program; no elements where the gradients overflowed."""
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    begin = tl.load(starts + program)
    end = tl.minimum(begin + CHUNK, tl.load(sizes + owner))
    if overflowed is not None:
        end = tl.where(tl.load(overflowed) == 1, begin, end)
    return owner, begin, end


@triton.jit
def adam(
    addresses, scale, overflowed, owners, starts, sizes, num,
    lr: tl.float64, beta1: tl.float64, beta2: tl.float64, decay: tl.float64, eps: tl.float64,
    DECOUPLED: tl.constexpr, AMSGRAD: tl.constexpr, MAXIMIZE: tl.constexpr, DECAYS: tl.constexpr,
    ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lists: parameters, gradients, m, v, numbers of steps, and the largest v. Grid: (chunks,)."""
    owner, begin, end = part(overflowed, owners, starts, sizes, CHUNK)
    t = steps(addresses, 4, num, owner)
    step = (lr / (1.0 - tl.exp(t * tl.log(beta1)))).to(COMPUTE)
    c2 = tl.sqrt(1.0 - tl.exp(t * tl.log(beta2))).to(COMPUTE)
    kept = (1.0 - lr * decay).to(COMPUTE)
    weights = start(addresses, 0, num, owner, ELEMENT)
    grads = start(addresses, 1, num, owner, ELEMENT)
    means = start(addresses, 2, num, owner, ELEMENT)
    squares = start(addresses, 3, num, owner, ELEMENT)
    if AMSGRAD:
        largest = start(addresses, 5, num, owner, ELEMENT)
    for first in range(begin, end, BLOCK):
        at = first + tl.arange(0, BLOCK)
        mask = at < end
        p = tl.load(weights + at, mask=mask).to(COMPUTE)
        g = scaled_gradient(grads, at, mask, scale, MAXIMIZE, COMPUTE)
        m = tl.load(means + at, mask=mask).to(COMPUTE)
        v = tl.load(squares + at, mask=mask).to(COMPUTE)
        if DECAYS:
            if DECOUPLED:
                p = p * kept
            else:
                g = g + p * decay.to(COMPUTE)
        m = m + (1.0 - beta1).to(COMPUTE) * (g - m)
        v = v * beta2.to(COMPUTE) + (1.0 - beta2).to(COMPUTE) * g * g
        tl.store(means + at, m.to(ELEMENT), mask=mask)
        tl.store(squares + at, v.to(ELEMENT), mask=mask)
        if AMSGRAD:
            v = tl.maximum(tl.load(largest + at, mask=mask).to(COMPUTE), v)
            tl.store(largest + at, v.to(ELEMENT), mask=mask)
        p = p - step * m / (tl.sqrt(v) / c2 + eps.to(COMPUTE))
        tl.store(weights + at, p.to(ELEMENT), mask=mask)


@triton.jit
def sgd(
    addresses, scale, overflowed, owners, starts, sizes, num,
    lr: tl.float64, momentum: tl.float64, dampening: tl.float64, decay: tl.float64,
    MOMENTUM: tl.constexpr, FIRST: tl.constexpr, NESTEROV: tl.constexpr, MAXIMIZE: tl.constexpr,
    ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lists: parameters, gradients, momentum. Grid: (chunks,)."""
    owner, begin, end = part(overflowed, owners, starts, sizes, CHUNK)
    weights = start(addresses, 0, num, owner, ELEMENT)
    grads = start(addresses, 1, num, owner, ELEMENT)
    if MOMENTUM:
        momenta = start(addresses, 2, num, owner, ELEMENT)
    for first in range(begin, end, BLOCK):
        at = first + tl.arange(0, BLOCK)
        mask = at < end
        p = tl.load(weights + at, mask=mask).to(COMPUTE)
        g = scaled_gradient(grads, at, mask, scale, MAXIMIZE, COMPUTE)
        g = g + p * decay.to(COMPUTE)
        if MOMENTUM:
            b = g
            if not FIRST:
                b = tl.load(momenta + at, mask=mask).to(COMPUTE) * momentum.to(COMPUTE)
                b = b + g * (1.0 - dampening).to(COMPUTE)
            tl.store(momenta + at, b.to(ELEMENT), mask=mask)
            if NESTEROV:
                g = g + b * momentum.to(COMPUTE)
            else:
                g = b
        p = p - lr.to(COMPUTE) * g
        tl.store(weights + at, p.to(ELEMENT), mask=mask)


@triton.jit
def adagrad(
    addresses, scale, overflowed, owners, starts, sizes, num,
    lr: tl.float64, lr_decay: tl.float64, decay: tl.float64, eps: tl.float64,
    MAXIMIZE: tl.constexpr, ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lists: parameters, gradients, sums of squares, numbers of steps. Grid: (chunks,)."""
    owner, begin, end = part(overflowed, owners, starts, sizes, CHUNK)
    step = (lr / (1.0 + (steps(addresses, 3, num, owner) - 1.0) * lr_decay)).to(COMPUTE)
    weights = start(addresses, 0, num, owner, ELEMENT)
    grads = start(addresses, 1, num, owner, ELEMENT)
    sums = start(addresses, 2, num, owner, ELEMENT)
    for first in range(begin, end, BLOCK):
        at = first + tl.arange(0, BLOCK)
        mask = at < end
        p = tl.load(weights + at, mask=mask).to(COMPUTE)
        g = scaled_gradient(grads, at, mask, scale, MAXIMIZE, COMPUTE)
        g = g + p * decay.to(COMPUTE)
        s = tl.load(sums + at, mask=mask).to(COMPUTE) + g * g
        tl.store(sums + at, s.to(ELEMENT), mask=mask)
        p = p - step * g / (tl.sqrt(s) + eps.to(COMPUTE))
        tl.store(weights + at, p.to(ELEMENT), mask=mask)


def _prepare(lists: Sequence[Tensors], *, num_steps: Tensors = (), more: Sequence[Tensors] = ()) -> tuple[Any, Any]:
    """(addresses, owners, starts, sizes) and the constants that every step has.

    `num_steps` is the list of the numbers of steps, which lies between the others and `more`.
    """
    first = lists[0][0] if lists[0] else None
    if first is None or not alike([*lists, *more]):
        raise Declined("parameters and states of different types or layouts")
    if any(t.dtype is not torch.float32 or t.numel() != 1 or t.device != first.device for t in num_steps):
        raise Declined("numbers of steps that are not each a float32")
    row = tiles.of(first.device)
    constants = {"ELEMENT": element_type(first.dtype), "COMPUTE": compute_type(first.dtype)}
    tables = chunks([*lists, *([num_steps] if num_steps else []), *more], row.flat)
    return tables, constants | {"CHUNK": row.flat, "BLOCK": row.step, "num_warps": row.num_warps}


def _adam(decoupled: bool) -> Callable[..., None]:
    """One step of Adam, or of AdamW where the decay is decoupled, in place."""

    def step(
        self: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, max_exp_avg_sqs: Tensors,
        state_steps: Tensors, *, lr: Operand | Handed, beta1: Handed, beta2: Handed, weight_decay: Handed, eps: Handed,
        amsgrad: bool, maximize: bool, grad_scale: Found = None, found_inf: Found = None,
    ) -> None:  # fmt: skip
        lists = [self, grads, exp_avgs, exp_avg_sqs]
        tables, constants = _prepare(lists, num_steps=state_steps, more=[max_exp_avg_sqs] if amsgrad else [])
        launch(
            adam, (tables[1].numel(),), tables[0], grad_scale, found_inf, *tables[1:], len(self),
            real(lr), real(beta1), real(beta2), real(weight_decay), real(eps),
            DECOUPLED=decoupled, AMSGRAD=amsgrad, MAXIMIZE=maximize, DECAYS=weight_decay != 0, **constants,
        )  # fmt: skip

    return step


adam_ = _adam(decoupled=False)
adamw_ = _adam(decoupled=True)


def sgd_(
    self: Tensors, grads: Tensors, momentum_buffer_list: Tensors, *, weight_decay: Handed, momentum: Handed,
    lr: Operand | Handed, dampening: Handed, nesterov: bool, maximize: bool, is_first_step: bool,
    grad_scale: Found = None, found_inf: Found = None,
) -> None:  # fmt: skip
    """One step of SGD, in place."""
    tables, constants = _prepare([self, grads, *([momentum_buffer_list] if momentum else [])])
    launch(
        sgd, (tables[1].numel(),), tables[0], grad_scale, found_inf, *tables[1:], len(self),
        real(lr), real(momentum), real(dampening), real(weight_decay),
        MOMENTUM=momentum != 0, FIRST=is_first_step, NESTEROV=nesterov, MAXIMIZE=maximize, **constants,
    )  # fmt: skip


def adagrad_(
    self: Tensors, grads: Tensors, state_sums: Tensors, state_steps: Tensors, *, lr: Operand | Handed, lr_decay: Handed,
    weight_decay: Handed, eps: Handed, maximize: bool, grad_scale: Found = None, found_inf: Found = None,
) -> None:  # fmt: skip
    """One step of Adagrad, in place."""
    tables, constants = _prepare([self, grads, state_sums], num_steps=state_steps)
    launch(
        adagrad, (tables[1].numel(),), tables[0], grad_scale, found_inf, *tables[1:], len(self),
        real(lr), real(lr_decay), real(weight_decay), real(eps), MAXIMIZE=maximize, **constants,
    )  # fmt: skip
