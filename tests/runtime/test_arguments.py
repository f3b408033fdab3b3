"""Packing arguments: what kernels read, and what a wrong argument is told."""

from __future__ import annotations

import struct
import threading
from typing import Any

import pytest
import torch

from tessera.core.errors import TesseraError, UsageError
from tessera.runtime.arguments import ArgumentError, make_packer


class Wrapped:
    """Has an address and nothing else, as Triton's own wrapper of a reinterpreted tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def data_ptr(self) -> int:
        return self._tensor.data_ptr()


def pack(kind: Any, value: Any) -> bytes:
    return make_packer((kind,))((value,))


@pytest.mark.parametrize(
    ("kind", "value", "layout"),
    [
        ("i1", True, "<?7x"), ("i1", False, "<?7x"), ("u1", True, "<?7x"), ("u1", 0, "<?7x"),
        ("i8", -128, "<b7x"), ("i8", 127, "<b7x"), ("u8", 255, "<B7x"),
        ("i16", -(2**15), "<h6x"), ("u16", 2**16 - 1, "<H6x"),
        ("i32", -5, "<i4x"), ("i32", 2**31 - 1, "<i4x"), ("i32", True, "<i4x"), ("u32", 2**32 - 1, "<I4x"),
        ("i64", -(2**63), "<q"), ("i64", 2**63 - 1, "<q"), ("u64", 2**64 - 1, "<Q"), ("u64", 0, "<Q"),
        ("fp16", 0.1, "<f4x"), ("bf16", -2.5, "<f4x"), ("fp32", 1e-40, "<f4x"), ("fp32", 3, "<f4x"),
        ("fp64", 0.1, "<d"), ("fp64", float("-inf"), "<d"),
    ],
)  # fmt: skip
def test_scalars(kind: str, value: Any, layout: str) -> None:
    assert pack(kind, value) == struct.pack(layout, value)


def test_set_signed_bit_is_one_bit() -> None:
    assert pack("i1", -1) == pack("u1", 2) == pack("u1", 256) == struct.pack("<q", 1)


def test_float_too_large_for_the_kernel_is_infinite() -> None:
    assert pack("fp32", 1e300) == struct.pack("<f4x", float("inf"))
    assert pack("fp32", -1e300) == struct.pack("<f4x", float("-inf"))


def test_not_a_number_stays_so() -> None:
    assert struct.unpack("<f4x", pack("fp32", float("nan"))) != struct.unpack("<f4x", pack("fp32", float("nan")))


def test_pointers() -> None:
    tensor = torch.zeros(4)
    address = struct.pack("<Q", tensor.data_ptr())
    assert pack("*fp32", tensor) == address
    assert pack("*fp32", tensor.data_ptr()) == address
    assert pack("*kfp32", Wrapped(tensor)) == address
    assert pack("*fp32", tensor[1:]) == struct.pack("<Q", tensor.data_ptr() + 4)
    assert pack("*i8", None) == bytes(8)
    assert pack("*i8", 2**64 - 1) == b"\xff" * 8


def test_order_constants_and_mixed_slow_values() -> None:
    tensor = torch.zeros(4)
    packer = make_packer(("*fp32", "constexpr", "i32", "*fp32", "fp64", "constexpr"))
    assert packer((tensor, 64, -7, None, 0.5, "any")) == struct.pack("<Qi4xQd", tensor.data_ptr(), -7, 0, 0.5)


def test_no_arguments() -> None:
    assert make_packer(())(()) == b""
    assert make_packer(("constexpr",))((3,)) == b""


def test_nested_tuples_are_flattened_in_order() -> None:
    a, b = torch.zeros(4), torch.zeros(4)
    packer = make_packer(("i32", ("*fp32", "constexpr", ("i64", ())), "u1", ("*fp32",)))
    expected = struct.pack("<i4xQqQQ", 1, a.data_ptr(), -2, 1, b.data_ptr())
    assert packer((1, (a, 9, (-2, ())), True, (b,))) == expected
    assert packer((1, (a.data_ptr(), 9, (-2, ())), True, (b,))) == expected


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("*fp32", "text", r"argument 1 is a str; the kernel takes \*fp32 there: pass a tensor on the CPU"),
        ("*fp32", 1.5, r"argument 1 is a float; the kernel takes \*fp32"),
        ("*fp32", True, r"argument 1 is a bool; the kernel takes \*fp32"),
        ("i32", 1.0, "argument 1 is a float; the kernel takes i32 there: pass an int"),
        ("u1", 1.0, "argument 1 is a float; the kernel takes u1 there: pass an int"),
        ("i64", None, "argument 1 is a NoneType; the kernel takes i64"),
        ("fp32", "1.0", "argument 1 is a str; the kernel takes fp32 there: pass a number"),
        ("fp64", None, "argument 1 is a NoneType; the kernel takes fp64"),
        ("*fp32", torch.zeros(1, device="meta"), r"argument 1 is a torch.Tensor on device meta; .* tensor.to\('cpu'\)"),
        (("i32", "i32"), (1, 0.5), r"argument 1\[1\] is a float; the kernel takes i32"),
        (("i32", "i32"), 3, "argument 1 is a int; the kernel takes a tuple of 2 there"),
        (("i32", "i32"), (1,), "argument 1 has 1 arguments; the kernel takes 2"),
    ],
)  # fmt: skip
def test_wrong_type_names_position_value_and_rule(kind: Any, value: Any, message: str) -> None:
    packer = make_packer(("i32", kind))
    with pytest.raises(TypeError, match=message) as caught:
        packer((1, value))
    assert isinstance(caught.value, TesseraError)


@pytest.mark.parametrize(
    ("kind", "value", "limits"),
    [
        ("i32", 2**31, "-2147483648..2147483647"), ("u8", -1, "0..255"), ("i8", 128, "-128..127"),
        ("u64", 2**64, "0..1844"), ("i64", -(2**63) - 1, "-9223372036854775808"),
        ("*fp32", -1, "0..1844"),
    ],
)  # fmt: skip
def test_out_of_range_does_not_wrap(kind: str, value: int, limits: str) -> None:
    with pytest.raises(UsageError, match=f"argument 0 is {value}, outside the range of .*{limits}"):
        pack(kind, value)


def test_wrong_number_of_arguments() -> None:
    with pytest.raises(ArgumentError, match="the launch has 1 arguments; the kernel takes 2"):
        make_packer(("i32", "i32"))((1,))


def test_types_that_no_cpu_kernel_takes() -> None:
    with pytest.raises(UsageError, match="type 'fp7', which is none of: pointers, i1, "):
        make_packer(("fp7",))


def test_threads_share_no_buffer() -> None:
    packer = make_packer(("i64", "fp64"))
    wrong: list[int] = []

    def repeat(number: int) -> None:
        expected = struct.pack("<qd", number, number)
        wrong.extend(number for _ in range(5000) if packer((number, float(number))) != expected)

    callers = [threading.Thread(target=repeat, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
