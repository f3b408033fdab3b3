"""Programs run in the order in which their blocks lie in memory; which ones run, and what each does, is the same."""

import pytest
import torch
import triton
import triton.language as tl

from tessera.compiler import pipeline
from tessera.compiler.passes import grid


@triton.jit
def add(x, y, out, m, n, stride, AXIS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Tiles of a matrix; AXIS of the grid counts those beside each other."""
    rows = tl.program_id(1 - AXIS) * BM + tl.arange(0, BM)[:, None]
    cols = tl.program_id(AXIS) * BN + tl.arange(0, BN)[None, :]
    mask, at = (rows < m) & (cols < n), rows * stride + cols
    tl.store(out + at, tl.load(x + at, mask=mask) + tl.load(y + at, mask=mask), mask=mask)


@triton.jit
def turn(x, out, m, n, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    cols = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    mask = (rows < m) & (cols < n)
    tl.store(out + cols * m + rows, tl.load(x + rows * n + cols, mask=mask), mask=mask)


@triton.jit
def listed(x, table, out, n, BN: tl.constexpr):
    row = tl.load(table + tl.program_id(0))
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    tl.store(out + tl.program_id(0) * n + cols, tl.load(x + row * n + cols, mask=cols < n), mask=cols < n)


@triton.jit
def counted(out, ticket, n, BN: tl.constexpr):
    """Each program takes a ticket: their order is seen."""
    mine = tl.atomic_add(ticket, 1)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    tl.store(out + tl.program_id(0) * n + cols, mine.to(tl.float32), mask=cols < n)


@triton.jit
def numbered(out, size_y, size_z, TIMES: tl.constexpr):
    """The place of each program, and how often it ran; the last axis lies along memory."""
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = ((x * size_y + y) * size_z + z) * TIMES + tl.arange(0, TIMES)
    before = tl.load(out + at)
    tl.store(out + at, before + (x * 10000 + y * 100 + z + 1))


def order(compiled) -> str:
    return grid.order(pipeline.make_tir(compiled.asm["ttir"]))


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(("axis", "expected"), [(0, "xyz"), (1, "yxz")])
def test_tiles_beside_each_other_follow_one_another(axis, expected, num_threads):
    torch.manual_seed(0)
    m, n = 70, 130
    x, y, out = torch.randn(m, n), torch.randn(m, n), torch.empty(m, n)
    tiles = (triton.cdiv(n, 32), triton.cdiv(m, 16))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        compiled = add[tiles if axis == 0 else tiles[::-1]](x, y, out, m, n, n, axis, 16, 32)
    finally:
        torch.set_num_threads(before)
    assert out.equal(x + y)
    assert order(compiled) == expected


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "expected"), [((3, 4, 5), "zyx"), ((2, 9, 3), "zyx"), ((1, 1, 7), "zyx"), ((6, 1, 1), "xyz")], ids=str
)
def test_every_program_runs_once_at_its_place(sizes, expected, num_threads):
    before = torch.get_num_threads()
    out = torch.zeros(*sizes, 4, dtype=torch.int32)
    torch.set_num_threads(num_threads)
    try:
        compiled = numbered[sizes](out, *sizes[1:], 4)
    finally:
        torch.set_num_threads(before)
    x, y, z = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")
    assert out.equal((x * 10000 + y * 100 + z + 1)[..., None].expand(*sizes, 4).to(torch.int32))
    assert order(compiled) == expected


def test_order_that_is_seen_or_known_best_by_the_author_stays():
    torch.manual_seed(0)
    x, out, turned = torch.randn(64, 96), torch.empty(64, 96), torch.empty(96, 64)
    assert order(turn[4, 6](x, turned, 64, 96, 16, 16)) == "xyz" and turned.equal(x.T)
    table = torch.randperm(64, dtype=torch.int32)
    assert order(listed[64, 3](x, table, out, 96, 32)) == "xyz" and out.equal(x[table.long()])
    ticket, before = torch.zeros(1, dtype=torch.int32), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert order(counted[2, 3](out, ticket, 96, 32)) == "xyz"
    finally:
        torch.set_num_threads(before)
    # Along axis 0 first, as a GPU counts.
    assert out[:2, ::32].T.flatten().tolist() == [0, 1, 2, 3, 4, 5]
