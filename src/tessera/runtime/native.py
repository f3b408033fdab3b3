"""The native halves of the runtime, compiled once, kept on disk and made callable in each process.

In:  the LLVM IR of `pool_ir`, `calls_ir`, `caller_ir`, `guard_ir`, `short_ir`, `spelling_ir`, `recall_ir` and
     `front_ir` with what these are made of.
Out: `native()`, and `bind`, which makes a function of Python out of one of the native ones.

A function that `ctypes` calls costs 0.6 µs for seven arguments, one with the interpreter's own calling convention
0.05 µs. Such a function needs no C compiler: it is a record of four fields (`PyMethodDef`) and a call of
`PyCFunction_NewEx`, both part of Python's stable interface.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tessera.runtime import (
    caller_ir,
    calls_ir,
    front_ir,
    guard_ir,
    host_ir,
    kept,
    pool_ir,
    recall_ir,
    short_ir,
    spelling_ir,
)
from tessera.runtime.loader import LoadedKernel, load_all

_METH_FASTCALL, _METH_KEYWORDS = 0x80, 0x02
# How `_object_code` makes it is part of what code is kept for.
_HEAD = "; with LLVM's passes of level 2\n"
_NAMES = {"name_cdata": "_cdata", "name_is_neg": "is_neg", "name_is_conj": "is_conj"}


class _MethodDef(ctypes.Structure):
    """Python's `PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Native:
    """What the native halves export; `loaded` keeps their code in memory."""

    create: Callable[[int, int, bytes], int | None]
    relax: Callable[[int], int]
    work: Callable[[int, int], None]
    use: Callable[[int | None, Any, str, str, str, str], None]
    borrow: Callable[[int | None, int], None]
    divert: Callable[[int], None]
    one: _MethodDef
    chain: _MethodDef
    call: _MethodDef
    short: _MethodDef
    recall: _MethodDef
    front: int
    probe: int
    loaded: list[LoadedKernel]


@functools.cache
def native() -> Native:
    """Load them, once a process: about 0.03 s, and 0.4 s where they have to be compiled."""
    from llvmlite import binding

    host = {**_objects(), **_shims()}
    halves = (pool_ir, calls_ir, caller_ir, short_ir, recall_ir, front_ir)
    names = tuple(name for half in halves for name in half.EXPORTS)
    triple = binding.get_default_triple()
    parts = (_HEAD, host_ir.module_text(host), pool_ir.module_text(triple))
    text = "".join((*parts, *(half.module_text() for half in (*halves[1:], guard_ir))))
    imports = {host_ir.symbol(name): address for name, address in host.items()}
    loaded = kept.made(text, _object_code, lambda obj: load_all(obj, names, imports))
    at = {name.removeprefix("tessera_"): kernel.address for name, kernel in zip(names, loaded, strict=True)}
    pointer, i64, any_object = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
    return Native(
        create=ctypes.CFUNCTYPE(pointer, i64, i64, ctypes.c_char_p)(at["create"]),
        relax=ctypes.CFUNCTYPE(i64, i64)(at["relax"]),
        work=ctypes.CFUNCTYPE(None, pointer, i64)(at["work"]),
        use=ctypes.PYFUNCTYPE(None, pointer, *[any_object] * 5)(at["use"]),
        borrow=ctypes.CFUNCTYPE(None, pointer, ctypes.c_int)(at["borrow"]),
        divert=ctypes.CFUNCTYPE(None, i64)(at["divert"]),
        one=_MethodDef(b"launch", at["one"], _METH_FASTCALL, None),
        chain=_MethodDef(b"chain", at["chain"], _METH_FASTCALL, None),
        call=_MethodDef(b"call", at["call"], _METH_FASTCALL, None),
        short=_MethodDef(b"short", at["short"], _METH_FASTCALL | _METH_KEYWORDS, None),
        recall=_MethodDef(b"recall", at["recall"], _METH_FASTCALL | _METH_KEYWORDS, None),
        front=at["front"],
        probe=at["probe"],
        loaded=loaded,
    )


def _object_code(text: str) -> bytes:
    """The machine code of a module, for any processor of this machine's kind."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(text)
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(opt=2, reloc="pic")
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    code: bytes = machine.emit_object(module)
    return code


def _objects() -> dict[str, int]:
    """Addresses of the objects that `host_ir.OBJECTS` names."""
    import torch

    objects = {
        "none": None, "true": True, "false": False,
        "type_none": type(None), "type_bool": bool, "type_int": int, "type_float": float, "type_list": list,
        "type_str": str, "type_tuple": tuple, "type_tensor": torch.Tensor,
        "type_parameter": torch.nn.Parameter, "type_dtype": torch.dtype, "type_layout": torch.layout,
        "type_format": torch.memory_format, "get_default_dtype": torch.get_default_dtype,
        "get_num_threads": torch.get_num_threads,
        # The allocation that Inductor's programs call, past the dispatcher, which has been passed: half the time.
        "empty": torch._C._dynamo.guards._empty_strided_cpu,  # type: ignore[attr-defined]
        **_NAMES,
    }  # fmt: skip
    return {name: id(objects[name]) for name in host_ir.OBJECTS}


def _shims() -> dict[str, int]:
    """Addresses of functions of PyTorch's C interface."""
    found = {name: torch_function(name) for name in (*spelling_ir.SHIMS, *front_ir.SHIMS)}
    return {name: address for name, address in found.items() if address}


def torch_function(name: str) -> int | None:
    """The address of a function that PyTorch exports; None where it has none of this name."""
    import torch

    found = getattr(ctypes.CDLL(torch._C.__file__), name, None)
    return ctypes.cast(found, ctypes.c_void_p).value if found else None


def bind(method: _MethodDef, state: Any) -> Callable[..., Any]:
    """The native `method` as a function of Python that is handed `state` with every call and keeps it alive."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    function: Callable[..., Any] = make(ctypes.addressof(method), state, None)
    return function
