"""Negative log-likelihood of classes: nll_loss, forward and backward. Cross entropy is log_softmax and this.

Formula:
    forward:  l[r] = -w[t[r]] · x[r, t[r]] (0 where t[r] is ignored),  total = Σ w[t[r]]
              none: l,  sum: Σ l,  mean: Σ l / total
    backward: dx[r, c] = -w[c] · g where c = t[r] and t[r] is not ignored, else 0
              g is g[r] for none, g for sum, g / total for mean
Shapes: x [rows, classes] or [classes]; t [rows] or one class; w [classes]. nll_loss2d: x [N, C, H, W], t [N, H, W].
Types: x and w float64, float32, float16 or bfloat16; t int64. Sums in float32 (float64 for float64).
Limits: classes in int64 only, which are looked at before the launch: one that is not there is left to PyTorch, which
raises.
Source: the pages of torch.nn.functional.nll_loss and torch.nn.functional.cross_entropy
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch

NONE, MEAN, SUM = 0, 1, 2


@triton.jit
def weight_of(weight, target, mask, COMPUTE: tl.constexpr):
    if weight is None:
        value = tl.where(mask, 1.0, 0.0).to(COMPUTE)
    else:
        value = tl.load(weight + target, mask=mask, other=0.0).to(COMPUTE)
    return value


@triton.jit
def loss_per_row(x, target, weight, out, num, classes, ignored, COMPUTE: tl.constexpr, ROWS: tl.constexpr):
    """One loss a row; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    t = tl.load(target + rows, mask=rows < num, other=0)
    mask = (rows < num) & (t != ignored) & (t >= 0) & (t < classes)
    v = tl.load(x + rows * classes + t, mask=mask, other=0.0).to(COMPUTE)
    loss = tl.where(mask, -v * weight_of(weight, t, mask, COMPUTE), 0.0)
    tl.store(out + rows, loss.to(out.dtype.element_ty), mask=rows < num)


@triton.jit
def loss_of_all(
    x, target, weight, out, total_weight, num, classes, ignored,
    AVERAGE: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One loss for all rows; grid: (1,)."""
    losses = tl.zeros([ROWS], COMPUTE)
    weights = tl.zeros([ROWS], COMPUTE)
    for start in range(0, num, ROWS):
        rows = start + tl.arange(0, ROWS).to(tl.int64)
        t = tl.load(target + rows, mask=rows < num, other=0)
        mask = (rows < num) & (t != ignored) & (t >= 0) & (t < classes)
        w = weight_of(weight, t, mask, COMPUTE)
        losses -= w * tl.load(x + rows * classes + t, mask=mask, other=0.0).to(COMPUTE)
        weights += w
    total = tl.sum(weights, axis=0)
    loss = tl.sum(losses, axis=0)
    if AVERAGE:
        loss = loss / total
    tl.store(out, loss.to(out.dtype.element_ty))
    tl.store(total_weight, total.to(total_weight.dtype.element_ty))


@triton.jit
def gradient(
    g, target, weight, total_weight, dx, num, classes, ignored, g_row,
    AVERAGE: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLS] of dx a program; grid: (cdiv(num, ROWS), cdiv(classes, COLS))."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    in_rows = rows < num
    t = tl.load(target + rows, mask=in_rows, other=0)
    counted = in_rows & (t != ignored) & (t >= 0) & (t < classes)
    slope = -weight_of(weight, t, counted, COMPUTE) * tl.load(g + rows * g_row, mask=in_rows, other=0.0).to(COMPUTE)
    if AVERAGE:
        slope = slope / tl.load(total_weight).to(COMPUTE)
    result = tl.where((cols[None, :] == t[:, None]) & counted[:, None], slope[:, None], 0.0)
    mask = in_rows[:, None] & (cols < classes)[None, :]
    tl.store(dx + (rows * classes)[:, None] + cols[None, :], result.to(dx.dtype.element_ty), mask=mask)


def _check(x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, ignore_index: int) -> None:
    """Decline what PyTorch rejects, so that the vendor words the error."""
    if not x.is_floating_point() or target.dtype is not torch.int64 or x.dim() not in (1, 2):
        raise Declined("a loss of this kind")
    if target.dim() != x.dim() - 1 or tuple(target.shape) != tuple(x.shape[:-1]) or x.numel() == 0:
        raise Declined("a loss of this kind")
    if weight is not None and (tuple(weight.shape) != tuple(x.shape[-1:]) or weight.dtype is not x.dtype):
        raise Declined("a loss of this kind")
    bad = (target != ignore_index) & ((target < 0) | (target >= x.shape[-1]))
    if bad.any().item():
        raise Declined("a class that is not there")


def nll_loss_forward(
    self: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, reduction: int, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, sum of the weights that counted)."""
    _check(self, target, weight, ignore_index)
    x, t = self.contiguous(), target.contiguous()
    classes = x.shape[-1]
    num = x.numel() // classes
    compute = compute_type(x.dtype)
    row = tiles.of(x.device)
    rows = tiles.block(num, row.flat // 8)
    total = torch.empty((), dtype=x.dtype, device=x.device)
    w = None if weight is None else weight.contiguous()
    if reduction == NONE and x.dim() == 2:
        out = torch.empty((num,), dtype=x.dtype, device=x.device)
        launch(
            loss_per_row, (tiles.parts(num, rows),), x, t, w, out, num, classes, ignore_index,
            COMPUTE=compute, ROWS=rows, num_warps=row.num_warps,
        )  # fmt: skip
        return out, total.zero_()
    out = torch.empty((), dtype=x.dtype, device=x.device)
    launch(
        loss_of_all, (1,), x, t, w, out, total, num, classes, ignore_index,
        AVERAGE=reduction == MEAN, COMPUTE=compute, ROWS=rows, num_warps=row.num_warps,
    )  # fmt: skip
    return out, total


def nll_loss_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: torch.Tensor,
) -> torch.Tensor:
    """The gradient of the loss by self."""
    _check(self, target, weight, ignore_index)
    classes = self.shape[-1]
    num = self.numel() // classes
    dx = torch.empty(self.shape, dtype=self.dtype, device=self.device)
    row = tiles.of(dx.device)
    cols = tiles.block(classes, row.row)
    rows = tiles.block(num, row.row // cols)
    each = grad_output.stride(0) if grad_output.dim() else 0
    launch(
        gradient, (tiles.parts(num, rows), tiles.parts(classes, cols)), grad_output, target.contiguous(),
        None if weight is None else weight.contiguous(), total_weight, dx, num, classes, ignore_index, each,
        AVERAGE=reduction == MEAN, COMPUTE=compute_type(dx.dtype), ROWS=rows, COLS=cols, num_warps=row.num_warps,
    )  # fmt: skip
    return dx


def _pixels(x: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] as one row a pixel."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _check_2d(x: torch.Tensor, target: torch.Tensor) -> None:
    if x.dim() != 4 or target.dim() != 3 or (x.shape[0], *x.shape[2:]) != tuple(target.shape) or x.numel() == 0:
        raise Declined("a loss of this kind")


def nll_loss2d_forward(
    self: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, reduction: int, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """nll_loss_forward of every pixel of [N, C, H, W]."""
    _check_2d(self, target)
    out, total = nll_loss_forward(_pixels(self), target.reshape(-1), weight, reduction, ignore_index)
    return (out.view(target.shape) if reduction == NONE else out), total


def nll_loss2d_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: torch.Tensor,
) -> torch.Tensor:
    """The gradient of that by self."""
    _check_2d(self, target)
    grad = grad_output.reshape(-1) if reduction == NONE else grad_output
    dx = nll_loss_backward(
        grad, _pixels(self), target.reshape(-1), weight, reduction, ignore_index, total_weight
    )
    batch, classes, height, width = self.shape
    return dx.view(batch, height, width, classes).permute(0, 3, 1, 2).contiguous()
