"""Convolutions in the layouts and of the shapes that take ways of their own, against PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as nn

import tessera
from tessera.aten import serve
from tessera.ops.table import VARIANTS
from tests.ops.judged import assert_calls, assert_gradients, vendor_calls

torch.manual_seed(0)


def last(*sizes: int) -> torch.Tensor:
    layout = torch.channels_last if len(sizes) == 4 else torch.channels_last_3d
    return torch.randn(sizes).contiguous(memory_format=layout)


image = last(2, 12, 9, 11)
# Rows of 37 places: one whole block of columns and a part of one; of 9 a part of one, but several rows make one.
broad, narrow = torch.randn(2, 6, 5, 37), torch.randn(3, 10, 9, 9)
# From half a mebibyte on.
large, lines = torch.randn(1, 5, 162, 167), torch.randn(1, 4, 32770)
# Of many channels, and of a few wide planes.
deep, wide = torch.randn(2, 40, 9, 7), torch.randn(1, 5, 20, 90)
Call = tuple[Any, tuple[torch.Tensor, ...], dict[str, Any]]
CALLS: dict[str, Call] = {
    "channels-last": (nn.conv2d, (image, torch.randn(20, 12, 3, 3), torch.randn(20)), {"padding": 1}),
    "channels-last of groups": (nn.conv2d, (image, torch.randn(18, 6, 3, 2)), {"groups": 2, "stride": (1, 2)}),
    "channels-last of few channels": (nn.conv2d, (last(1, 3, 17, 15), torch.randn(9, 3, 7, 7)), {"padding": 3}),
    "channels-last, dilated": (nn.conv2d, (image, torch.randn(8, 12, 3, 3)), {"dilation": 2, "padding": (0, 3)}),
    "channels-last of few outputs": (nn.conv2d, (image, torch.randn(3, 12, 3, 3)), {"padding": 1}),
    "part of the channels of channels-last": (nn.conv2d, (image[:, 2:10], torch.randn(8, 8, 3, 3)), {"padding": 1}),
    "channels-last, transposed": (
        nn.conv_transpose2d, (image, torch.randn(12, 10, 3, 3)), {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "channels-last, transposed with gaps": (nn.conv_transpose2d, (image, torch.randn(12, 9, 2, 2)), {"stride": 3}),
    "channels-last in 3 dims": (nn.conv3d, (last(1, 8, 4, 5, 6), torch.randn(11, 8, 2, 3, 3)), {"padding": (1, 0, 1)}),
    "channels-last along time": (nn.conv1d, (torch.randn(2, 19, 12).mT, torch.randn(8, 12, 3)), {"padding": 1}),
    "patches": (nn.conv2d, (torch.randn(2, 3, 33, 40), torch.randn(13, 3, 8, 8), torch.randn(13)), {"stride": 8}),
    "padded wide windows": (nn.conv1d, (torch.randn(2, 4, 61), torch.randn(9, 4, 10)), {"stride": 5, "padding": 4}),
    "broad rows": (nn.conv2d, (broad, torch.randn(11, 6, 3, 3)), {"padding": 1}),
    "broad rows with a stride": (nn.conv2d, (broad, torch.randn(11, 6, 1, 1)), {"stride": 2}),
    "large, with a stride": (nn.conv2d, (large, torch.randn(9, 5, 3, 3), torch.randn(9)), {"stride": 2, "padding": 1}),
    "large, with strides that differ": (nn.conv2d, (large, torch.randn(9, 5, 2, 4)), {"stride": (1, 4), "dilation": 2}),
    "large, of single channels": (nn.conv2d, (large, torch.randn(10, 1, 3, 3)), {"stride": 3, "groups": 5}),
    "large lines with a stride": (nn.conv1d, (lines, torch.randn(8, 2, 3)), {"stride": 2, "padding": 1, "groups": 2}),
    "depthwise": (nn.conv2d, (deep, torch.randn(40, 1, 5, 3), torch.randn(40)), {"padding": (2, 1), "groups": 40}),
    "depthwise, dilated, a stride": (
        nn.conv2d, (deep, torch.randn(40, 1, 3, 3)), {"padding": 3, "groups": 40, "stride": (1, 2), "dilation": (2, 3)},
    ),
    "depthwise, channels-last": (
        nn.conv2d, (last(2, 64, 5, 6), torch.randn(64, 1, 3, 3), torch.randn(64)), {"padding": 1, "groups": 64},
    ),
    "depthwise of few channels, channels-last": (
        nn.conv2d, (last(2, 20, 5, 14), torch.randn(20, 1, 3, 3), torch.randn(20)), {"padding": 1, "groups": 20},
    ),
    "depthwise, windows wider than what they slide over": (
        nn.conv2d, (deep, torch.randn(40, 1, 11, 9)), {"padding": (5, 6), "groups": 40, "stride": (1, 2)},
    ),
    "depthwise, transposed": (
        nn.conv_transpose2d, (deep, torch.randn(40, 1, 3, 4), torch.randn(40)), {"padding": 1, "groups": 40},
    ),
    "depthwise, transposed with a stride": (
        nn.conv_transpose2d, (deep, torch.randn(40, 1, 3, 3)), {"padding": 1, "groups": 40, "stride": 2},
    ),
    "depthwise along time": (nn.conv1d, (deep.flatten(2), torch.randn(40, 1, 7)), {"padding": 6, "groups": 40}),
    "depthwise in 3 dims": (
        nn.conv3d, (deep.unflatten(3, (7, 1)), torch.randn(40, 1, 3, 3, 2)), {"padding": (0, 1, 1), "groups": 40},
    ),
    "depthwise of wide planes": (
        nn.conv2d, (wide, torch.randn(5, 1, 7, 7), torch.randn(5)), {"padding": 3, "groups": 5},
    ),
    "depthwise of wide planes, lines apart": (
        nn.conv2d, (wide, torch.randn(5, 1, 3, 3)), {"padding": 1, "groups": 5, "stride": (2, 1)},
    ),
    "large in 3 dims": (nn.conv3d, (large[:, :, None], torch.randn(7, 5, 1, 3, 3)), {"stride": 2, "padding": 1}),
    "narrow rows": (nn.conv2d, (narrow, torch.randn(9, 10, 3, 3)), {"padding": (1, 0)}),
    "narrow rows of groups": (nn.conv2d, (narrow, torch.randn(10, 5, 3, 3)), {"padding": 1, "groups": 2}),
    "few outputs": (nn.conv2d, (narrow, torch.randn(2, 10, 3, 3)), {"padding": 1}),
    "small windows that stand apart": (nn.conv_transpose2d, (narrow, torch.randn(10, 9, 2, 2)), {"stride": 2}),
    "windows that stand apart": (nn.conv_transpose2d, (narrow, torch.randn(10, 4, 4, 4)), {"stride": 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients(name: str) -> None:
    call, args, kwargs = CALLS[name]
    given = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in args]
    for record in assert_gradients(call, [(tuple(given), kwargs)]):
        assert not vendor_calls(record)


@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16), ids=str)
def test_other_types(dtype: torch.dtype) -> None:
    for name in (
        "channels-last", "channels-last in 3 dims", "patches", "narrow rows", "depthwise", "depthwise of wide planes",
        "depthwise of few channels, channels-last",
    ):  # fmt: skip
        call, args, kwargs = CALLS[name]
        given = tuple(x.to(dtype, memory_format=torch.preserve_format) for x in args)
        for record in assert_calls(call, [(given, kwargs)]):
            assert not vendor_calls(record)


@pytest.mark.parametrize(
    "kwargs", ({"padding": 1}, {"padding": (0, 2), "dilation": (1, 2)}, {"groups": 2}, {"stride": 2, "padding": (0, 1)})
)
def test_gradients_of_bfloat16_in_channels_last(kwargs: dict[str, Any]) -> None:
    for outputs, width in ((18, 40), (130, 37), (32, 90)):
        x, w = last(2, 40, 5, width), torch.randn(2 * outputs, 40 // kwargs.get("groups", 1), 3, 3)
        given = tuple(t.bfloat16().requires_grad_() for t in (x, w))
        for record in assert_gradients(nn.conv2d, [(given, kwargs)]):
            assert not vendor_calls(record)


def test_no_place_sees_what_its_window_does_not() -> None:
    x, w = narrow.clone(), torch.randn(9, 10, 3, 3)
    x[1, 3, 4, 8] = float("inf")
    x[2, 0, 0, 0] = float("nan")
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        expected = nn.conv2d(given, w, padding=1)
        grad = torch.autograd.functional.vjp(lambda w, x=given: nn.conv2d(x, w, padding=1), w, torch.ones(3, 9, 9, 9))[
            1
        ]
        with tessera.use(policy="always"):
            result = nn.conv2d(given, w, padding=1)
            ours = torch.ops.aten.convolution_backward(
                torch.ones(3, 9, 9, 9), given, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
            )[1]
        assert torch.equal(result.isfinite(), expected.isfinite())
        assert torch.equal(ours.isfinite(), grad.isfinite())


@pytest.mark.parametrize("name", ("broad rows", "channels-last", "patches"))
def test_threads_change_no_result(name: str) -> None:
    call, args, kwargs = CALLS[name]
    before, found = torch.get_num_threads(), []
    try:
        with tessera.use(policy="always"):
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(call(*args, **kwargs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_a_convolution_is_planned_at_the_second_call() -> None:
    plans = serve.operator_of(VARIANTS["aten::convolution"]).plans
    before = len(plans)
    with tessera.use(policy="always"):
        for _ in range(3):
            nn.conv2d(torch.randn(1, 5, 13, 7), torch.randn(7, 5, 3, 3))
    assert len(plans) == before + 1
