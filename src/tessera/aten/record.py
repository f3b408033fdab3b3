"""What ran where: per operator, how many calls ran on our kernels, how many on the vendor's, and why.

A call is one ATen operator with a kernel of its own, made by the program; composites are counted by what they call,
and what a kernel calls inside itself is not counted. Views, metadata and allocation are no compute and are not counted.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.core.errors import UsageError
from tessera.ops.table import VARIANTS

NO_KERNEL = "no kernel of ours"

# Operators with a CPU kernel that compute nothing: allocation, sizes, aliases, one number handed to Python,
# book-keeping.
NOT_COMPUTE = frozenset(
    "aten::" + name
    for name in (
        "_assert_async", "_assert_async.msg", "_assert_scalar", "_fused_sdp_choice",
        "_has_compatible_shallow_copy_type",
        "_local_scalar_dense", "_nested_tensor_size", "_resize_output_", "alias", "detach", "detach_",
        "empty.memory_format",
        "empty_like", "empty_strided", "is_pinned", "is_same_size", "is_set_to", "lift", "lift_fresh",
        "lift_fresh_copy",
        "new_empty", "new_empty_strided", "record_stream", "resize_", "resize_as_", "scalar_tensor", "set_",
        "set_.source_Storage", "set_.source_Storage_storage_offset", "set_.source_Tensor",
    )
)  # fmt: skip
# Operators written for every device that are only an allocation and other operators. Of the rest some compute on the
# spot, so what they are made of does not tell what they did.
MADE_OF_OTHERS = frozenset(
    "aten::" + name
    for name in (
        "_to_copy", "clone", "full", "full_like", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "zeros",
        "zeros_like",
    )
)  # fmt: skip
_COMPOSITES = ("CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")


@dataclass
class Calls:
    """Calls of one operator; `reasons` says, for those on the vendor's kernel, why and how often."""

    ours: int = 0
    vendor: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class Record:
    """The counts of one `with tessera.use() as record:` block; `calls` maps "add.Tensor" to its counts.

    Raises: UsageError from what asks for counts, where the block counted nothing.
    """

    def __init__(self, counted: bool = True) -> None:
        self._calls: dict[str, Calls] = {}
        self._counted = counted
        self._lock = threading.Lock()

    @property
    def calls(self) -> Mapping[str, Calls]:
        if not self._counted:
            raise UsageError("no calls were counted: the block was entered with tessera.use(counted=False)")
        return self._calls

    @property
    def ours(self) -> int:
        """Calls on our kernels."""
        return sum(calls.ours for calls in self.calls.values())

    @property
    def vendor(self) -> int:
        """Calls on the vendor's kernels."""
        return sum(calls.vendor for calls in self.calls.values())

    def add(self, name: str, reason: str | None) -> None:
        """Count one call of `name`: ours, or the vendor's for `reason`."""
        with self._lock:
            calls = self._calls.setdefault(name, Calls())
            if reason is None:
                calls.ours += 1
                return
            calls.vendor += 1
            calls.reasons[reason] = calls.reasons.get(reason, 0) + 1


class _Depth(threading.local):
    """How many recorded operators this thread is inside of, how many it has counted so far, and why the last call that
    went to the vendor did."""

    value = 0
    counted = 0
    reason: str | None = None


ACTIVE: list[Record] = []
DEPTH = _Depth()


def count(name: str, reason: str | None) -> None:
    """Tell every active record, unless the call was made by a kernel."""
    if DEPTH.value == 0:
        DEPTH.counted += 1
        for record in ACTIVE:
            record.add(name, reason)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what no row of ours serves, while a record is active.

    unserved: of an overload that a row of ours could serve, why it does not; None where it does, and counts itself.
    """

    def __init__(self, unserved: Callable[[str], str | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._unserved = unserved

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._name
        reason = self._unserved(name) if name in VARIANTS else NO_KERNEL
        if reason is None or name in NOT_COMPUTE or not name.startswith("aten::"):
            return func(*args, **kwargs)
        composite = composite_key(func)
        if composite is not None:
            if takes_number(func):
                return self._run_whole(func, args, kwargs)
            with self:
                return func._op_dk(composite, *args, **kwargs)
        if func.is_view:
            return func(*args, **kwargs)
        count(name.removeprefix("aten::"), reason)
        DEPTH.value += 1
        try:
            return func(*args, **kwargs)
        finally:
            DEPTH.value -= 1

    def _run_whole(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a composite unwatched; it is the vendor's where nothing inside it was counted."""
        before = DEPTH.counted
        result = func(*args, **kwargs)
        if DEPTH.counted == before:
            count(func._name.removeprefix("aten::"), NO_KERNEL)
        return result


@functools.cache
def takes_number(func: Any) -> bool:
    """A composite hands its number on as a tensor, which PyTorch gives to a mode as a number again; not all take it."""
    return any(str(argument.type) == "number" for argument in func._schema.arguments)


@functools.cache
def composite_key(func: Any) -> Any:
    """The key under which `func` is written in terms of other operators, where it has no CPU kernel; None for a leaf.

    Views are written for every device as well, but there only the first kind is made of other operators.
    """
    name, has = func._name, torch._C._dispatch_has_kernel_for_dispatch_key
    if has(name, "CPU"):
        return None
    for key in _COMPOSITES[:1] if func.is_view else _COMPOSITES:
        if has(name, key):
            return getattr(torch._C.DispatchKey, key)
    return None


@functools.cache
def parts_key(func: Any) -> Any:
    """The key under which running `func` does nothing but allocate and call other operators; None where that is not so
    or not known."""
    composite = composite_key(func)
    apart = composite is torch._C.DispatchKey.CompositeImplicitAutograd or func._name in MADE_OF_OTHERS
    return composite if apart and not takes_number(func) else None
