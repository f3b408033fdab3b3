"""What a wrong or unsupported kernel is told: Triton's compilation error with file, line, source text and a caret."""

import pytest
import torch
import triton
import triton.language as tl
from triton.compiler.errors import CompilationError
from triton.language import core


def complaint(kernel, *args, **constants) -> str:
    with pytest.raises(CompilationError) as caught:
        kernel[(1,)](*args, **constants)
    return str(caught.value)


def test_all_faults_of_a_kernel_at_once_each_with_its_line():
    @triton.jit
    def kernel(x, n):
        at = x + tl.arange(0, 64)
        value = tl.load(at)
        first = tl.inline_asm_elementwise("prmt.b32 $0, $1, $1, 3;", "=r,r", [value], tl.int32, True, 1)
        tl.store(at, first)
        if n > 3:
            second = tl.inline_asm_elementwise("bfi.b32 $0, $1, $1, 3, 4;", "=r,r", [value], tl.int32, True, 1)
            tl.store(at, second)

    message = complaint(kernel, torch.zeros(64, dtype=torch.int32), 5)
    assert message.count("inline assembly is written in a GPU's instruction set") == 2
    assert message.count("test_errors.py:") == 2 and message.count("^") == 2
    assert 'tl.inline_asm_elementwise("prmt' in message and 'tl.inline_asm_elementwise("bfi' in message


def test_an_atomic_that_floats_do_not_have():
    @triton.jit
    def kernel(x):
        tl.atomic_xor(x, 1.0)

    message = complaint(kernel, torch.zeros(4))
    assert "atomic xor of f32 is not supported; bitcast to an integer of 32 bits first" in message
    assert "tl.atomic_xor(x, 1.0)" in message


@core.extern
def hardware_sine(x, _semantic=None):
    """As a library for GPUs declares its functions."""
    table = {(core.dtype("fp32"),): ("__nv_hardware_sine", core.dtype("fp32"))}
    return core.extern_elementwise("", "", [x], table, is_pure=True, _semantic=_semantic)


def test_an_unknown_external_function():
    @triton.jit
    def kernel(x):
        tl.store(x, hardware_sine(tl.load(x)))

    message = complaint(kernel, torch.zeros(4))
    assert "__nv_hardware_sine" in message and "hardware_sine(tl.load(x))" in message


def test_an_8_bit_float_without_conversion():
    @triton.jit
    def kernel(x):
        tl.store(x, tl.load(x).to(tl.float8e4b15).to(tl.float32))

    assert "target doesn't provide conversion for this type" in complaint(kernel, torch.zeros(4))


def test_a_rounding_mode_that_is_not_there():
    @triton.jit
    def kernel(x):
        tl.store(x, tl.load(x).to(tl.float16, fp_downcast_rounding="rtz").to(tl.float64))

    message = complaint(kernel, torch.zeros(4, dtype=torch.float64))
    assert "rounding towards zero is supported from float32 only; convert to float32 first" in message


@triton.jit
def endless(x):
    if x > 0:
        return endless(x - 1)
    return x


@triton.jit
def nothing(x):
    x + 1


@triton.jit
def this_or_that(x):
    if x > 0:
        return 1
    return tl.zeros((16,), tl.float32)


def wrong_shapes(x):
    tl.store(x + tl.arange(0, 16), tl.load(x + tl.arange(0, 32)))


def wrong_dot(x):
    a = tl.load(x + tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :])
    b = tl.load(x + tl.arange(0, 32)[:, None] * 16 + tl.arange(0, 16)[None, :])
    tl.store(x, tl.sum(tl.dot(a, b)))


def odd_range(x):
    tl.store(x + tl.arange(0, 17), 1.0)


def huge_range(x):
    tl.store(x + tl.arange(0, 1 << 22), 1.0)


def huge_block(x):
    tl.store(x + tl.arange(0, 4096)[:, None] * 4096 + tl.arange(0, 4096)[None, :], 1.0)


def recursion(x):
    tl.store(x, endless(tl.load(x)))


def missing_return(x):
    tl.store(x, nothing(tl.load(x)))


def two_types_returned(x):
    tl.store(x, this_or_that(tl.load(x)))


def unknown_name(x):
    tl.store(x, undefined)  # noqa: F821


def unknown_attribute(x):
    tl.store(x, tl.load(x + tl.arange(0, 16)).rows)


def unknown_function(x):
    tl.store(x, tl.arrange(0, 16))


def no_pointer(x):
    tl.store(tl.arange(0, 16), 1.0)


def sum_of_pointers(x):
    tl.store(x + x, 1.0)


def condition_of_a_block(x):
    if tl.load(x + tl.arange(0, 16)) > 0:
        tl.store(x, 1.0)


def loop_changes_type(x):
    count = 0
    while count < 10:
        count = count * 1.5
    tl.store(x, count)


def loop_changes_shape(x):
    value = tl.load(x + tl.arange(0, 16))
    for _ in range(4):
        value = tl.load(x + tl.arange(0, 32))
    tl.store(x, tl.sum(value))


def leaves_a_loop(x):
    for step in range(4):
        if step == 3:
            break
    tl.store(x, 1.0)


def fourth_axis(x):
    tl.store(x, tl.program_id(3))


def no_such_axis(x):
    tl.store(x, tl.sum(tl.load(x + tl.arange(0, 16)), axis=3))


def more_elements(x):
    tl.store(x, tl.sum(tl.reshape(tl.load(x + tl.arange(0, 16)), (32,))))


def mask_without_block(x):
    tl.store(x, tl.load(x, mask=tl.arange(0, 16) > 0))


def text_as_value(x):
    tl.store(x, "hello")


def part_of_a_block(x):
    tl.store(x, tl.load(x + tl.arange(0, 16))[3])


def function_object(x):
    add = lambda y: y + 1  # noqa: E731
    tl.store(x, add(1))


def odd_descriptor(x):
    tl.store(x, tl.sum(tl.make_tensor_descriptor(x, [64, 64], [64, 1], [16, 24]).load([0, 0])))


def false_assertion(x):
    tl.static_assert(1 == 2, "no")


@pytest.mark.parametrize(
    "body",
    [wrong_shapes, wrong_dot, odd_range, huge_range, huge_block, recursion, missing_return, two_types_returned,
     unknown_name, unknown_attribute, unknown_function, no_pointer, sum_of_pointers, condition_of_a_block,
     loop_changes_type, loop_changes_shape, leaves_a_loop, fourth_axis, no_such_axis, more_elements, mask_without_block,
     text_as_value, part_of_a_block, function_object, odd_descriptor, false_assertion],
)  # fmt: skip
def test_wrong_programs_end_as_a_compilation_error_with_a_caret(body):
    message = complaint(triton.jit(body), torch.zeros(64))
    assert "^" in message and "itself failed" not in message


def test_a_fault_of_the_compiler_itself_is_told_as_such(monkeypatch):
    from tessera.compiler.lower import function

    def fault(low, op):
        raise KeyError("lost")

    @triton.jit
    def kernel(x):
        tl.atomic_xchg(x, 1)

    monkeypatch.setattr(function, "_HANDLERS", {**function.handlers(), "atomic_rmw": fault})
    message = complaint(kernel, torch.zeros(4, dtype=torch.int32))
    assert "the CPU compiler itself failed here (KeyError: 'lost'); please report this with the kernel" in message
    assert "tl.atomic_xchg(x, 1)" in message and "^" in message
