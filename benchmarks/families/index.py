"""Reading by index. Shapes are [rows of the table, width, tokens]; what is counted is the rows read and written."""

from __future__ import annotations

import torch
from torch.nn import functional

from benchmarks.case import NO_LOSS, Kernel, Rivals, Shape, entry, randn


def _embedding(shape: Shape, dtype: torch.dtype) -> Rivals:
    rows, width, tokens = shape
    table, ids = randn((rows, width), dtype), torch.randint(rows, (tokens,))
    ours = entry("index_select")
    return Rivals(
        ours=lambda: ours(table, 0, ids),
        torch=lambda: functional.embedding(ids, table),
        amount=2.0 * tokens * width * table.element_size(),
        unit="B",
    )


KERNELS = {"embedding": Kernel(peer="embedding", target=NO_LOSS, make=_embedding)}
