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

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.foreach import Tensors, alike, chunk, chunks, element, element_type, put_element
from tessera.ops.generate import Operand, compute_type
from tessera.ops.launch import launch

Found = torch.Tensor | None


@triton.jit
def scaled_gradient(
    addresses, row, num, owner, at, mask, scale,
    MAXIMIZE: tl.constexpr, ELEMENT: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """The gradient, taken out of the loss scale if there is one; PyTorch keeps what it divided."""
    g = element(addresses, row, num, owner, at, mask, ELEMENT, COMPUTE)
    if scale is not None:
        g = g / tl.load(scale).to(COMPUTE)
        put_element(addresses, row, num, owner, at, g, mask, ELEMENT)
    if MAXIMIZE:
        g = -g
    return g


@triton.jit
def adam(
    addresses, numbers, scale, owners, starts, sizes, num,
    lr: tl.float64, beta1: tl.float64, beta2: tl.float64, decay: tl.float64, eps: tl.float64,
    DECOUPLED: tl.constexpr, AMSGRAD: tl.constexpr, MAXIMIZE: tl.constexpr, DECAYS: tl.constexpr,
    ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lists: parameters, gradients, m, v, and the largest v; numbers[t] = (c₁, √c₂). Grid: (chunks,)."""
    owner, at, mask = chunk(owners, starts, sizes, BLOCK)
    p = element(addresses, 0, num, owner, at, mask, ELEMENT, COMPUTE)
    g = scaled_gradient(addresses, 1, num, owner, at, mask, scale, MAXIMIZE, ELEMENT, COMPUTE)
    m = element(addresses, 2, num, owner, at, mask, ELEMENT, COMPUTE)
    v = element(addresses, 3, num, owner, at, mask, ELEMENT, COMPUTE)
    c1 = tl.load(numbers + owner * 2)
    c2 = tl.load(numbers + owner * 2 + 1).to(COMPUTE)
    if DECAYS:
        if DECOUPLED:
            p = p * (1.0 - lr * decay).to(COMPUTE)
        else:
            g = g + p * decay.to(COMPUTE)
    m = m + (1.0 - beta1).to(COMPUTE) * (g - m)
    v = v * beta2.to(COMPUTE) + (1.0 - beta2).to(COMPUTE) * g * g
    put_element(addresses, 2, num, owner, at, m, mask, ELEMENT)
    put_element(addresses, 3, num, owner, at, v, mask, ELEMENT)
    if AMSGRAD:
        v = tl.maximum(element(addresses, 4, num, owner, at, mask, ELEMENT, COMPUTE), v)
        put_element(addresses, 4, num, owner, at, v, mask, ELEMENT)
    step = (lr / c1).to(COMPUTE)
    put_element(addresses, 0, num, owner, at, p - step * m / (tl.sqrt(v) / c2 + eps.to(COMPUTE)), mask, ELEMENT)


@triton.jit
def sgd(
    addresses, scale, owners, starts, sizes, num,
    lr: tl.float64, momentum: tl.float64, dampening: tl.float64, decay: tl.float64,
    MOMENTUM: tl.constexpr, FIRST: tl.constexpr, NESTEROV: tl.constexpr, MAXIMIZE: tl.constexpr,
    ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lists: parameters, gradients, momentum. Grid: (chunks,)."""
    owner, at, mask = chunk(owners, starts, sizes, BLOCK)
    p = element(addresses, 0, num, owner, at, mask, ELEMENT, COMPUTE)
    g = scaled_gradient(addresses, 1, num, owner, at, mask, scale, MAXIMIZE, ELEMENT, COMPUTE)
    g = g + p * decay.to(COMPUTE)
    if MOMENTUM:
        b = g
        if not FIRST:
            b = element(addresses, 2, num, owner, at, mask, ELEMENT, COMPUTE) * momentum.to(COMPUTE)
            b = b + g * (1.0 - dampening).to(COMPUTE)
        put_element(addresses, 2, num, owner, at, b, mask, ELEMENT)
        if NESTEROV:
            g = g + b * momentum.to(COMPUTE)
        else:
            g = b
    put_element(addresses, 0, num, owner, at, p - lr.to(COMPUTE) * g, mask, ELEMENT)


@triton.jit
def adagrad(
    addresses, numbers, scale, owners, starts, sizes, num, decay: tl.float64, eps: tl.float64,
    MAXIMIZE: tl.constexpr, ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Lists: parameters, gradients, sums of squares; numbers[t] is the step size. Grid: (chunks,)."""
    owner, at, mask = chunk(owners, starts, sizes, BLOCK)
    p = element(addresses, 0, num, owner, at, mask, ELEMENT, COMPUTE)
    g = scaled_gradient(addresses, 1, num, owner, at, mask, scale, MAXIMIZE, ELEMENT, COMPUTE)
    g = g + p * decay.to(COMPUTE)
    s = element(addresses, 2, num, owner, at, mask, ELEMENT, COMPUTE) + g * g
    put_element(addresses, 2, num, owner, at, s, mask, ELEMENT)
    step = tl.load(numbers + owner).to(COMPUTE)
    put_element(addresses, 0, num, owner, at, p - step * g / (tl.sqrt(s) + eps.to(COMPUTE)), mask, ELEMENT)


def _prepare(lists: Sequence[Tensors]) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    """(addresses, owners, starts, sizes) and the constants that every step has."""
    if not lists[0] or not alike(lists):
        raise Declined("parameters and states of different types or layouts")
    first = lists[0][0]
    row = tiles.of(first.device)
    constants = {"ELEMENT": element_type(first.dtype), "COMPUTE": compute_type(first.dtype)}
    return chunks(lists, row.flat), constants | {"BLOCK": row.flat, "num_warps": row.num_warps}


def _overflowed(found_inf: Found) -> bool:
    return found_inf is not None and found_inf.item() == 1


def _adam(decoupled: bool) -> Callable[..., None]:
    """One step of Adam, or of AdamW where the decay is decoupled, in place."""

    def step(
        self: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, max_exp_avg_sqs: Tensors,
        state_steps: Tensors, *, lr: Operand, beta1: float, beta2: float, weight_decay: float, eps: float,
        amsgrad: bool, maximize: bool, grad_scale: Found = None, found_inf: Found = None,
    ) -> None:  # fmt: skip
        lists = [self, grads, exp_avgs, exp_avg_sqs, *([max_exp_avg_sqs] if amsgrad else [])]
        tables, constants = _prepare(lists)
        if _overflowed(found_inf) or tables[1].numel() == 0:
            return
        times = [float(t.item()) for t in state_steps]
        numbers = [(1.0 - beta1**t, math.sqrt(1.0 - beta2**t)) for t in times]
        given = torch.tensor(numbers, dtype=torch.float64).to(self[0].device)
        launch(
            adam, (tables[1].numel(),), tables[0], given, grad_scale, *tables[1:], len(self),
            float(lr), float(beta1), float(beta2), float(weight_decay), float(eps),
            DECOUPLED=decoupled, AMSGRAD=amsgrad, MAXIMIZE=maximize, DECAYS=weight_decay != 0, **constants,
        )  # fmt: skip

    return step


adam_ = _adam(decoupled=False)
adamw_ = _adam(decoupled=True)


def sgd_(
    self: Tensors, grads: Tensors, momentum_buffer_list: Tensors, *, weight_decay: float, momentum: float,
    lr: Operand, dampening: float, nesterov: bool, maximize: bool, is_first_step: bool,
    grad_scale: Found = None, found_inf: Found = None,
) -> None:  # fmt: skip
    """One step of SGD, in place."""
    tables, constants = _prepare([self, grads, *([momentum_buffer_list] if momentum else [])])
    if _overflowed(found_inf) or tables[1].numel() == 0:
        return
    launch(
        sgd, (tables[1].numel(),), tables[0], grad_scale, *tables[1:], len(self),
        float(lr), float(momentum), float(dampening), float(weight_decay),
        MOMENTUM=momentum != 0, FIRST=is_first_step, NESTEROV=nesterov, MAXIMIZE=maximize, **constants,
    )  # fmt: skip


def adagrad_(
    self: Tensors, grads: Tensors, state_sums: Tensors, state_steps: Tensors, *, lr: Operand, lr_decay: float,
    weight_decay: float, eps: float, maximize: bool, grad_scale: Found = None, found_inf: Found = None,
) -> None:  # fmt: skip
    """One step of Adagrad, in place."""
    tables, constants = _prepare([self, grads, state_sums])
    if _overflowed(found_inf) or tables[1].numel() == 0:
        return
    steps = [float(lr) / (1.0 + (float(t.item()) - 1.0) * lr_decay) for t in state_steps]
    given = torch.tensor(steps, dtype=torch.float64).to(self[0].device)
    launch(
        adagrad, (tables[1].numel(),), tables[0], given, grad_scale, *tables[1:], len(self),
        float(weight_decay), float(eps), MAXIMIZE=maximize, **constants,
    )  # fmt: skip
