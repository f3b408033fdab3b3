"""The same bits for any number of threads, and operators in children of a fork."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch.nn import functional

import tessera

ROWS, WIDTH = 300, 1100


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    before = torch.get_num_threads()
    tessera.enable("always")
    yield
    tessera.disable()
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum(), lambda x: x.sum(0), lambda x: x.mean(1), lambda x: x.amax(0), lambda x: x.argmin(),
        lambda x: x.softmax(-1), lambda x: x.log_softmax(0), lambda x: functional.layer_norm(x, (WIDTH,)),
        lambda x: x @ x.t(), lambda x: x.cumsum(0), lambda x: functional.gelu(x), lambda x: x.t().contiguous(),
    ],
    ids=["sum", "sum of columns", "mean", "amax", "argmin", "softmax", "log_softmax of columns", "layer_norm", "mm",
         "cumsum", "gelu", "copy"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bit_equal_for_any_number_of_threads(call: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype) -> None:
    x = torch.randn(ROWS, WIDTH).to(dtype)
    results = []
    for count in (1, 2, 3, 5):
        torch.set_num_threads(count)
        results += [call(x) for _ in range(3)]  # as it is, planned, by the plan
    assert all(torch.equal(results[0], other) for other in results)


def test_a_plan_and_a_graph_made_before_a_fork_serve_in_the_child() -> None:
    torch.set_num_threads(2)
    x = torch.ones(200_000)
    for _ in range(3):
        y = x + 1
    with tessera.capture() as graph:
        z = x * 3
    child = os.fork()
    if child == 0:
        try:
            x.fill_(5)
            graph.replay()
            right = bool((x + 1 == 6).all()) and bool((z == 15).all())
            os._exit(0 if right else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    graph.replay()
    assert bool((z == 3).all()) and bool((y == 2).all())
