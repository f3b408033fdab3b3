"""Fronts: native code that PyTorch's dispatcher calls before an operator's kernel of Python, and that spares calls that
are known the way through it.

In:  an operator's full name, the vendor's kernel, what of a call is no part of its key, and what it returns.
Out: a `Front`; while it is attached, a call that is known runs on our kernels at once, in the time that PyTorch takes
     for one of its own, or goes on to the vendor's in about 0.2 µs.
Errors: none. Where there can be no fronts, `make_front` gives none, and all calls go through Python.

PyTorch takes about 1 µs to hand a call to Python, and as long to be handed it back. A front is a kernel like PyTorch's
own; but to register one that has a state PyTorch offers no C interface. So the layout of what PyTorch registers is
written down here. It is the same in all releases of `KEYS_AT`, and each process tries it out before it relies on it.
Source: PyTorch's torch/library.h (`CppFunction`), ATen/core/boxing/KernelFunction.h.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tessera.runtime.boxed_ir import DTYPES, IN_PLACE, KEYS_AT, PROCESS_WORDS, TAGS
from tessera.runtime.front_ir import RETURNS, STATE
from tessera.runtime.native import native
from tessera.runtime.spelling_ir import TEXT_BYTES

_IMPL = "_ZNR5torch7Library5_implEPKcONS_11CppFunctionENS_17_RegisterOrVerifyE"
_FUNCTION_WORDS, _TEXT = 13, 9
_KEY = b"CPU"
# PyTorch counts the references to a front in one word, strong ones below weak ones, and frees what has none left.
_NEVER_FREED = 1 << 20 | 1 << 52
_PROBE_WORDS = 128


class Front:
    """A front of one operator. Its memory is never freed: PyTorch may hold a copy of what was registered once."""

    def __init__(
        self, full_name: str, vendor: Any, watching: list[Any], handed: int, account: int | None,
        defaults: Sequence[float | None], returns: int, donor: int | None,
    ) -> None:  # fmt: skip
        self._name, arguments = full_name, len(defaults)
        self._defaults = _boxed(defaults)
        self._state = _state(
            handed=handed, account=account or 0, watching=id(watching),
            arguments=arguments, returns=RETURNS["other"] if returns > arguments else returns,
            defaults=ctypes.addressof(self._defaults), donor=-1 if donor is None else donor,
        )  # fmt: skip
        self._put("vendor", vendor)
        self._library: int | None = None
        self._held = vendor, watching
        self._python: Any = None
        _fronts.append(self)

    @property
    def address(self) -> int:
        return ctypes.addressof(self._state)

    def attach(self) -> None:
        """Stand before the kernel that is registered now."""
        import torch

        # Held until the next time: the call that asks for `detach` may still run in it.
        self._python = torch.library.get_kernel(self._name, _KEY.decode())
        self._put("python", self._python)
        namespace, _, name = self._name.partition("::")
        self._library = _register(namespace.encode(), name.encode(), native().front, self.address)

    def detach(self) -> None:
        """Stand there no longer; before what stands behind is taken away."""
        if self._library is not None:
            _unregister(self._library)
            self._library = None

    def _put(self, which: str, kernel: Any) -> None:
        function, state = _function_of(kernel)
        self._state[STATE.index(f"{which}_state")] = state
        self._state[STATE.index(which)] = function


_fronts: list[Front] = []


def make_front(
    full_name: str, vendor: Any, watching: list[Any], *, handed: int, account: int | None,
    defaults: Sequence[float | None], returns: int, donor: int | None = None,
) -> Front | None:  # fmt: skip
    """A front; None where there can be none.

    vendor: what `torch.library.get_kernel` gave for the vendor's kernel. watching: while it is not empty, all calls are
    Python's. handed: a bit for each argument whose number is no part of a call's key. account: the address of a float64
    to which the gain of each call is added. defaults: for each argument the number that is its default, or None.
    returns: how many tensors a call returns, or one of `RETURNS`. donor: the place of an argument that is a list of
    tensors, of which one that is returned is made.
    """
    if not available():
        return None
    return Front(full_name, vendor, watching, handed, account, defaults, returns, donor)


def _boxed(numbers: Sequence[float | None]) -> Any:
    """Numbers as PyTorch boxes them, two words each; None as nothing that it boxes."""
    pairs = (ctypes.c_int64 * (2 * len(numbers)))()
    for place, x in enumerate(numbers):
        bits = struct.pack("<d", x) if isinstance(x, float) else struct.pack("<q", x or 0)
        tag = -1 if x is None else TAGS["double" if isinstance(x, float) else "int"]
        pairs[2 * place : 2 * place + 2] = [*struct.unpack("<q", bits), tag]
    return pairs


def _state(**words: int) -> Any:
    state = (ctypes.c_int64 * len(STATE))()
    for name, word in {"references": _NEVER_FREED, **words}.items():
        state[STATE.index(name)] = word
    return state


def _function_of(kernel: Any) -> tuple[int, int]:
    """The function of a kernel of PyTorch's, and what it is given first."""
    held = ctypes.c_int64.from_address(id(kernel) + object.__basicsize__).value
    state, function = (ctypes.c_int64 * 2).from_address(held)
    return function, state


@functools.cache
def _torch() -> ctypes.PyDLL:
    """PyTorch's library; calls keep the interpreter's lock, as those do that PyTorch makes to register."""
    import torch

    return ctypes.PyDLL(torch._C.__file__)


def _register(namespace: bytes, name: bytes, function: int, state: int, key: bytes = _KEY) -> int:
    """Have PyTorch call `function(state, …)` for an operator; the handle for `_unregister`."""
    library = ctypes.c_void_p()
    failed = _torch().aoti_torch_library_init_impl(
        namespace, key, b"tessera", ctypes.c_uint32(0), ctypes.byref(library)
    )
    assert not failed and library.value, f"PyTorch has no namespace {namespace.decode()!r}"
    # No key but the library's; the kernel, which can be called boxed only; no signature, no schema; an empty text: it
    # lies behind its address and length.
    made = (ctypes.c_uint64 * _FUNCTION_WORDS)(0, state, function)
    made[_TEXT] = ctypes.addressof(made) + 8 * (_TEXT + 2)
    implement = _torch()[_IMPL]
    implement.restype = ctypes.c_void_p
    implement(library, name, ctypes.byref(made), 0)
    return library.value


def _unregister(library: int) -> None:
    _torch().aoti_torch_delete_library_object(ctypes.c_void_p(library))


@functools.cache
def available() -> bool:
    """Whether this PyTorch is one whose layouts are known, and a call through a front looks as it should."""
    return layouts_known() and hasattr(_torch(), _IMPL) and _tried()


def layouts_known() -> bool:
    """Whether fronts are made for this release of PyTorch and this system."""
    little = sys.byteorder == "little" and struct.calcsize("P") == 8
    return _release() in KEYS_AT and sys.platform == "linux" and little


def _release() -> str:
    import torch

    return ".".join(torch.__version__.split(".")[:2])


def _override_once(operators: Any) -> None:
    """PyTorch warns once in a process that a kernel is overridden: here, where Python can leave it out."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
        other = torch.library.Library("tessera_probe", "IMPL")  # type: ignore[no-untyped-call]
        for library in (operators, other):
            library.impl("values", lambda *_: None, _KEY.decode())
        other._destroy()  # type: ignore[no-untyped-call]


def _tried() -> bool:
    """Whether native code reads values of every kind as they are."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    kind = {name: tag << 8 for name, tag in TAGS.items()}
    double = struct.Struct("<d").pack
    kinds = "Tensor a, Scalar b, Scalar c, bool d, int[] e, Tensor? f, Device g, float h, Tensor[] i, str j"
    with _disable_current_modes(), torch._C.DisableTorchFunctionSubclass():
        operators = torch.library.Library("tessera_probe", "DEF")  # type: ignore[no-untyped-call]
        operators.define(f"values({kinds}) -> ()")  # type: ignore[no-untyped-call]
        _override_once(operators)
        x, y = torch.zeros(2, 3, device="cpu", dtype=torch.float32), torch.ones((), dtype=torch.int64, device="cpu")
        z = torch.full((), 0.75, device="cpu", dtype=torch.float64)
        cpu = torch.device("cpu")
        found = _read(
            "tessera_probe::values", _KEY, 10,
            lambda: torch.ops.tessera_probe.values(x, 2.5, 3, True, [4, 5], None, cpu, 0.5, [y], "ninebytes"),
        )  # fmt: skip
        operators._destroy()  # type: ignore[no-untyped-call]
        # A number stands in the place of a tensor only where PyTorch's own operators are called.
        with torch._C._IncludeDispatchKeyGuard(torch._C.DispatchKey.PreDispatch):
            number = _read("aten::mul.Tensor", b"PreDispatch", 2, lambda: torch.mul(x, 0.75))
            tensor = _read("aten::mul.Tensor", b"PreDispatch", 2, lambda: torch.mul(x, z))
            view = _read("aten::mul.Tensor", b"PreDispatch", 2, lambda: torch.mul(torch.complex(x, x).conj(), x))
    matrix = [2 << 32 | 6, 2, 3, 3, 1]
    words = [*matrix, kind["double"] | 1, kind["int"], 3, kind["bool"], 1]
    words += [kind["list"], 32, kind["int"], 4, kind["int"], 5, kind["none"], kind["device"], 0xFF00]
    words += [kind["double"], *struct.unpack("<q", double(0.5)), kind["list"], 16, DTYPES["int"]]
    words += [kind["text"], 9, *struct.unpack("<4q", b"ninebytes".ljust(TEXT_BYTES, b"\0"))]
    in_place = [*matrix, kind["double"] | IN_PLACE | 1]
    return found == words and number == in_place and tensor == [*matrix, DTYPES["double"]] and not view


def _read(full_name: str, key: bytes, arguments: int, call: Callable[[], Any]) -> list[int]:
    """What native code reads in a call of an operator, behind the words of the process; the second argument is handed
    on."""
    import torch

    # In place of a kernel of Python: where native code is to look for a tensor's keys, and for which.
    views = torch._C.DispatchKeySet(torch._C.DispatchKey.Conjugate).add(torch._C.DispatchKey.Negative)
    head = _state(
        handed=0b10, arguments=arguments, python=KEYS_AT[_release()], python_state=views.raw_repr()
    )  # fmt: skip
    state = (ctypes.c_int64 * (len(STATE) + _PROBE_WORDS))(*head)
    namespace, _, name = full_name.partition("::")
    library = _register(namespace.encode(), name.encode(), native().probe, ctypes.addressof(state), key)
    try:
        call()
    finally:
        _unregister(library)
    count = state[len(STATE)]
    return state[len(STATE) + 1 + PROCESS_WORDS : len(STATE) + 1 + count]
