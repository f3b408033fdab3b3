"""Plans of calls over lists, found again by one native look at all their tensors.

In:  the tensors of a call, and all else that its key holds.
Out: the plan that a call like it had before, or None.

The key of a call holds three objects a tensor, and for a list of small tensors making it costs more than the kernel.
PyTorch's guards of compiled functions compare the types, sizes, strides and dispatch keys of many tensors natively, at
0.05 µs a tensor, and tell apart all that a key does. What they do not know again is looked up by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# Of calls that differ in their tensors alone.
MOST_ALIKE = 4
MOST_OTHERS = 256

Check = Callable[..., bool]


class Recent:
    """Plans by what is no tensor in their key, each with the comparison of its tensors."""

    def __init__(self) -> None:
        self._known: dict[Any, list[tuple[Check, Any]]] = {}

    def find(self, others: Any, tensors: Sequence[torch.Tensor]) -> Any:
        """The plan of a call with such tensors, None where none is known."""
        for check, plan in self._known.get(others, ()):
            if check(*tensors):
                return plan
        return None

    def add(self, others: Any, tensors: Sequence[torch.Tensor], plan: Any) -> None:
        """Know `plan` again, if there is room for it."""
        if others not in self._known and len(self._known) >= MOST_OTHERS:
            return
        alike = self._known.setdefault(others, [])
        if tensors and len(alike) < MOST_ALIKE:
            alike.append((_check_of(tensors), plan))


def _check_of(tensors: Sequence[torch.Tensor]) -> Check:
    guards: Any = torch._C._dynamo.guards
    check: Check = guards.TensorGuards(
        *tensors,
        dynamic_dims_sizes=[list(x.shape) for x in tensors],
        dynamic_dims_strides=[list(x.stride()) for x in tensors],
    ).check
    return check
