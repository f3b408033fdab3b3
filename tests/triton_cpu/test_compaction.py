"""Stores that put what a mask holds for side by side, as kernels of `masked_select`, `nonzero` and `unique` do."""

import pytest
import torch
import triton
import triton.language as tl

from tessera.compiler.targets import rows

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int16, torch.int8, torch.bool]


@triton.jit
def select(x, mask, out, size, BLOCK: tl.constexpr):
    to = out
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        true = (tl.load(mask + at, mask=at < size, other=0) != 0).to(tl.int32)
        tl.store(to + tl.cumsum(true, axis=0) - 1, tl.load(x + at, mask=at < size), mask=true != 0)
        to += tl.sum(true, axis=0)


@triton.jit
def select_above(x, limit, out, before, BLOCK: tl.constexpr):
    """The mask is a comparison, its places are int64 and begin at a number."""
    v = tl.load(x + tl.arange(0, BLOCK))
    above = v > limit
    places = before + tl.cumsum(above.to(tl.int64), axis=0) - 1
    tl.store(out + places, v, mask=above)


@triton.jit
def other_places(x, out, WAY: tl.constexpr, BLOCK: tl.constexpr):
    """Much like it, but not it."""
    at = tl.arange(0, BLOCK)
    v = tl.load(x + at)
    above = v > 0
    if WAY == "another mask":
        tl.store(out + tl.cumsum(above.to(tl.int32), axis=0) - 1, v, mask=v > 1)
    elif WAY == "two apart":
        tl.store(out + 2 * tl.cumsum(above.to(tl.int32), axis=0) - 2, v, mask=above)
    elif WAY == "from the end":
        tl.store(out + tl.cumsum(above.to(tl.int32), axis=0, reverse=True) - 1, v, mask=above)
    elif WAY == "counted in twos":
        tl.store(out + tl.cumsum(2 * above.to(tl.int32), axis=0) - 2, v, mask=above)
    elif WAY == "moving on":
        tl.store(out + at + tl.cumsum(above.to(tl.int32), axis=0) - 1, v, mask=above)


@triton.jit
def plus(a, b):
    return a + b


@triton.jit
def select_by_bytes(x, out, BLOCK: tl.constexpr):
    """Places that are counted in bytes begin anew below 0 after 127."""
    v = tl.load(x + tl.arange(0, BLOCK))
    above = v > 0
    places = tl.associative_scan(above.to(tl.int8), 0, plus).to(tl.int32)
    tl.store(out + 128 + places, v, mask=above)


def test_counts_that_wrap_round_are_left_as_they_are():
    x, out, wanted = torch.rand(256) + 0.5, torch.zeros(256), torch.zeros(256)
    x[::9] = -1
    select_by_bytes[(1,)](x, out, 256)
    places = 128 + (x > 0).to(torch.int8).cumsum(0).to(torch.int8).int()
    wanted[places[x > 0]] = x[x > 0]
    assert torch.equal(out, wanted)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("block", [4, 16, 256])
def test_what_is_selected_lies_side_by_side(block, dtype, share):
    x, mask = (torch.randn(1000) * 50).to(dtype), torch.rand(1000) < share
    out = torch.full((1000,), 3).to(dtype)
    select[(1,)](x, mask, out, 1000, BLOCK=block)
    count = int(mask.sum())
    assert torch.equal(out[:count], x[mask])
    assert torch.equal(out[count:], torch.full((1000 - count,), 3).to(dtype)), "nothing is written behind the last one"


def test_places_may_begin_anywhere():
    x, out = torch.randn(512), torch.zeros(600)
    select_above[(1,)](x, 0.25, out, 37, BLOCK=512)
    wanted = x[x > 0.25]
    assert torch.equal(out[37 : 37 + len(wanted)], wanted)
    assert not out[:37].any()
    assert not out[37 + len(wanted) :].any()


@pytest.mark.parametrize("way", ["another mask", "two apart", "from the end", "counted in twos", "moving on"])
def test_other_places_are_left_as_they_are(way):
    x, out, wanted = torch.randn(256), torch.zeros(600), torch.zeros(600)
    other_places[(1,)](x, out, way, 256)
    above = x > 0
    count = above.cumsum(0)
    places, chosen = {
        "another mask": (count - 1, x > 1),
        "two apart": (2 * count - 2, above),
        "from the end": (count[-1] - count + above.int() - 1, above),
        "counted in twos": (2 * count - 2, above),
        "moving on": (torch.arange(256) + count - 1, above),
    }[way]
    wanted[places[chosen]] = x[chosen]
    assert torch.equal(out, wanted)


@pytest.mark.skipif(rows.host().name != "x86-64-avx512", reason="AVX-512 has the instruction, the host has not")
def test_lanes_are_moved_by_one_instruction():
    x = torch.randn(256)
    kernel = select[(1,)](x, x > 0, torch.empty(256), 256, BLOCK=256)
    assert "vcompressps" in kernel.asm["asm"] or "vpcompressd" in kernel.asm["asm"]
