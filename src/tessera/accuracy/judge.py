"""The rule: an output may lose twice what PyTorch itself loses on the same input in the same type, and no more.

Against a float64 reference `r`, an output `x` with n elements has two losses, and each is compared with the loss of
PyTorch's own output of the same type:

    error(x) = |x - r|_2 / |r|_2                        how far off the tensor is as a whole
    peak(x)  = max_i |x_i - r_i| / (|r_i| + rms(r))     how far off its worst element is

    ok:  error(x) <= 2 * max(error(torch), floor)   and   peak(x) <= 4 * max(peak(torch), floor)

**Why two.** One wrong element of a million moves `error` by one thousandth, which drowns in the rounding of bfloat16;
`peak` sees it. `peak` divides by |r_i| + rms(r): large elements are judged by their own size (rounding is relative),
small ones by the size of the tensor (they come from cancellation, and nothing can keep their relative error small).
Its factor is wider because a maximum fluctuates from one order of summation to the next where a norm does not.

**The floor** is u = eps / 2 of the type. A *correctly rounded* result has |x_i - r_i| <= u |r_i| in every element,
hence error <= u and peak <= u. Where PyTorch happens to lose less (copies, embeddings, exact zeros) a result that is
right to the last bit must still pass. Below the smallest normal number rounding is absolute, so no norm counts as less.

**Small tensors.** Two independent roundings of n numbers differ in norm by more than 2x by chance: 30 % of the time
for n = 1, 6 % for n = 4, 0.4 % for n = 16, below 1e-6 for n = 64. Below 64 elements torch's own error is too small a
sample to tell the noise level, and the caller may pass `noise`, the relative error that torch has by then.

**Not numbers.** Where the reference overflows the type, or torch's output is not finite, there is nothing to measure:
the candidate must give there what torch gives. Everywhere else it must be finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tessera.core.errors import UsageError

ERROR_LIMIT = 2.0
PEAK_LIMIT = 4.0
SMALL_ELEMENTS = 64


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What an output loses against the reference: `error` in the norm of the tensor, `peak` in its worst element."""

    error: float
    peak: float


@dataclass(frozen=True, kw_only=True)
class Standard:
    """What candidates for one output are held against: the float64 reference, and what torch loses on it.

    `special` marks the elements that cannot be measured (None: there are none); `special_values` are torch's there.
    `exact`: there is no float64 reference, `reference` is torch's output, and only the very same bits are ok.
    """

    reference: torch.Tensor
    dtype: torch.dtype
    torch_loss: Loss
    special: torch.Tensor | None
    special_values: torch.Tensor | None
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on one output. `ratio` and `peak_ratio` are against the larger of torch's own loss and the floor."""

    error: float
    torch_error: float
    ratio: float
    peak: float
    torch_peak: float
    peak_ratio: float
    ok: bool
    reason: str = ""


def floor(dtype: torch.dtype) -> float:
    """The relative error that a correctly rounded result of this floating type may have: half its epsilon."""
    return torch.finfo(dtype).eps / 2


def hold(native: torch.Tensor, reference: torch.Tensor | None) -> Standard:
    """The standard made of torch's own output and the reference, both of one shape.

    Without a reference nothing tells noise from a fault, and only torch's very bits are ok.
    Errors: `UsageError` if the shapes differ or `native` is not floating.
    """
    exact_only = reference is None
    reference = native if reference is None else reference
    if native.shape != reference.shape or not native.is_floating_point():
        raise UsageError(
            f"torch's output is {_describe(native)} and the reference is {_describe(reference)}; "
            "both must be floating and of one shape: run the same model on the same input"
        )
    exact = reference.detach().to(torch.float64)
    special: torch.Tensor | None = ~torch.isfinite(native) | ~(exact.abs() <= torch.finfo(native.dtype).max)
    assert special is not None
    if not bool(special.any()):
        special = None
    return Standard(
        reference=exact,
        dtype=native.dtype,
        torch_loss=_loss(native, exact, special, native.dtype),
        special=special,
        special_values=None if special is None else native[special].clone(),
        exact=exact_only,
    )


def judge(candidate: torch.Tensor, standard: Standard, *, noise: float = 0.0) -> Judgement:
    """Judge a candidate's output. `noise`: torch's relative error so far, used for fewer than 64 elements only."""
    mismatch = _mismatch(candidate, standard)
    if mismatch:
        return refuse(standard, mismatch)
    loss = _loss(candidate, standard.reference, standard.special, standard.dtype)
    least = floor(standard.dtype)
    if standard.reference.numel() < SMALL_ELEMENTS:
        least = max(least, noise)
    ratio = loss.error / max(standard.torch_loss.error, least)
    peak_ratio = loss.peak / max(standard.torch_loss.peak, least)
    reason = ""
    if standard.exact and loss.peak > 0:
        reason = "differs from torch's output, and there is no float64 reference to tell noise from a fault"
    elif ratio > ERROR_LIMIT:
        reason = f"error {loss.error:.2g} is {ratio:.3g} times what torch loses (limit {ERROR_LIMIT:g})"
    elif peak_ratio > PEAK_LIMIT:
        place = _worst_place(candidate, standard)
        reason = f"element {place} is off by {peak_ratio:.3g} times torch's worst element (limit {PEAK_LIMIT:g})"
    return Judgement(
        error=loss.error,
        torch_error=standard.torch_loss.error,
        ratio=ratio,
        peak=loss.peak,
        torch_peak=standard.torch_loss.peak,
        peak_ratio=peak_ratio,
        ok=not reason,
        reason=reason,
    )


def _mismatch(candidate: torch.Tensor, standard: Standard) -> str:
    """Why the candidate cannot be measured at all, or an empty string."""
    if candidate.shape != standard.reference.shape or candidate.dtype != standard.dtype:
        wanted = f"{str(standard.dtype).removeprefix('torch.')}{list(standard.reference.shape)}"
        return f"output is {_describe(candidate)} where torch gives {wanted}"
    wrong = ~torch.isfinite(candidate)
    if standard.special is not None and standard.special_values is not None:
        values = candidate[standard.special]
        # At an overflow the reference is a finite number beyond the type, so torch's own value is the only measure.
        same = (values == standard.special_values) | (values.isnan() & standard.special_values.isnan())
        wrong[standard.special] = ~same
    if not bool(wrong.any()):
        return ""
    place = wrong.nonzero()[0].tolist()
    count = int(wrong.sum())
    return f"{count} of {wrong.numel()} elements are not finite or not torch's, the first at {place}: " + (
        f"{candidate[tuple(place)].item()}"
    )


def refuse(standard: Standard, reason: str) -> Judgement:
    """The judgement on an output that cannot be measured: infinitely wrong, for `reason`."""
    return Judgement(
        error=math.inf,
        torch_error=standard.torch_loss.error,
        ratio=math.inf,
        peak=math.inf,
        torch_peak=standard.torch_loss.peak,
        peak_ratio=math.inf,
        ok=False,
        reason=reason,
    )


def _loss(output: torch.Tensor, reference: torch.Tensor, special: torch.Tensor | None, dtype: torch.dtype) -> Loss:
    """Both losses over the elements that are not special; an empty tensor loses nothing."""
    off, size = _off_and_size(output, reference, special)
    if off.numel() == 0:
        return Loss(error=0.0, peak=0.0)
    # With this in every denominator, a tensor of exact zeros is judged by the type's absolute rounding step.
    tiny = torch.finfo(dtype).tiny
    norm = max(float(torch.linalg.vector_norm(size)), tiny * math.sqrt(size.numel()))
    rms = norm / math.sqrt(size.numel())
    return Loss(error=float(torch.linalg.vector_norm(off)) / norm, peak=float((off / (size + rms)).max()))


def _off_and_size(
    output: torch.Tensor, reference: torch.Tensor, special: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """|x - r| and |r| in float64, flat, without the special elements."""
    exact = output.detach().to(torch.float64)
    if special is not None:
        exact, reference = exact[~special], reference[~special]
    return (exact - reference).abs().flatten(), reference.abs().flatten()


def _worst_place(candidate: torch.Tensor, standard: Standard) -> list[int]:
    """The index of the element with the largest peak loss."""
    keep = torch.ones_like(standard.reference, dtype=torch.bool) if standard.special is None else ~standard.special
    off, size = _off_and_size(candidate, standard.reference, standard.special)
    rms = float(torch.linalg.vector_norm(size)) / math.sqrt(size.numel())
    place: list[int] = keep.nonzero()[int((off / (size + rms)).argmax())].tolist()
    return place


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
