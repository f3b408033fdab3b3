"""The verifier: silent on what the compiler makes of real kernels, after every pass, and loud on planted faults."""

import pytest
import triton
from triton.backends.compiler import GPUTarget

from tessera.compiler.passes import carried, interchange, placement
from tessera.compiler.ttir.parser import parse_module
from tessera.ir.nodes import Module, Op, Value
from tessera.ir.types import BlockType, ScalarType
from tessera.ir.verify import verify
from tests.triton_cpu import kernels

POINTER, INT, SIZE = "*fp32", "i32", "constexpr"
KERNELS = {
    "vector_add": ([POINTER] * 3 + [INT], {"BLOCK": 256}),
    "fused_softmax": ([POINTER] * 2 + [INT] * 4, {"BLOCK": 256, "STAGES": 2}),
    "layer_norm_forward": ([POINTER] * 6 + [INT] * 2 + ["fp32"], {"BLOCK": 128}),
    "matmul": (
        [POINTER] * 3 + [INT] * 9,
        {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "GROUP_M": 4, "ACTIVATION": "leaky_relu"},
    ),
    "decode_int8": (["*bf16", "*i8", "*bf16", "*bf16", INT, INT], {"BLOCK_N": 16, "BLOCK_K": 128}),
    "decode_int4": (["*bf16", "*i8", "*bf16", "*bf16", INT, INT], {"GROUP": 128, "BLOCK_N": 16}),
}


def ttir(name: str) -> str:
    types, constants = KERNELS[name]
    kernel = getattr(kernels, name)
    signature = dict(zip(kernel.arg_names, [*types, *[SIZE] * len(constants)], strict=True))
    source = triton.compiler.ASTSource(kernel, signature, constants)
    return str(triton.compile(source, target=GPUTarget("cpu", "", 1)).asm["ttir"])


@pytest.mark.parametrize("name", KERNELS)
def test_real_kernels_keep_the_rules_after_every_pass(name):
    module = parse_module(ttir(name))
    assert verify(module) == []
    carried.run(module)
    assert verify(module) == []
    carried.remove_dead(module, placement.PURE)
    assert verify(module) == []
    assert interchange.run(module) == name.startswith("decode")
    assert verify(module) == []
    placement.run(module)
    assert verify(module) == []


def small(name: str = "matmul") -> Module:
    return parse_module(ttir(name))


def loop_of(module: Module) -> Op:
    return next(op for op in module.kernel.walk() if op.name == "for")


def test_a_use_before_its_definition_is_found():
    module = small()
    block = module.kernel.body.blocks[0]
    used = next(op for op in block.ops if op.operands and isinstance(op.operands[0].owner, Op))
    block.ops.remove(used.operands[0].owner)
    assert any(f"uses %{used.operands[0].name}, which is not defined before it" in fault for fault in verify(module))


def test_a_loop_that_yields_another_type_is_found():
    module = small()
    terminator = loop_of(module).regions[0].block.terminator
    terminator.operands[-1] = loop_of(module).regions[0].block.args[0]
    assert any("carries values that do not agree" in fault for fault in verify(module))


def test_mixed_shapes_and_a_missing_terminator_are_found_together():
    module = small()
    block = module.kernel.body.blocks[0]
    add = next(op for op in block.ops if op.name == "addi" and isinstance(op.result.type, BlockType))
    add.operands[0] = Value("other", BlockType((3,), ScalarType("i32")))
    block.ops.pop()
    faults = verify(module)
    assert any("mixes the shapes" in fault for fault in faults)
    assert any("does not end with a terminator" in fault for fault in faults)


def test_a_part_that_does_not_fit_the_whole_is_found():
    module = small("decode_int8")
    carried.remove_dead(module, placement.PURE)
    assert interchange.run(module)
    insert = next(op for op in module.kernel.walk() if op.name == "insert")
    insert.attrs["axis"] = 1
    assert any("puts block<1xf32> into block<16xf32> along 1" in fault for fault in verify(module))
