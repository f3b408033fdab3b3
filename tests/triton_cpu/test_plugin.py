"""The back end as a user of Triton meets it: found by Triton, stages to look at, a cache, hooks, tuning, clear
errors."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
import triton
import triton.language as tl
from triton.backends import backends
from triton.backends.compiler import GPUTarget
from triton.compiler.errors import CompilationError

from . import kernels


def add(size: int = 1000, **options):
    x, y, out = torch.randn(size), torch.randn(size), torch.empty(size)
    compiled = kernels.vector_add[(triton.cdiv(size, 256),)](x, y, out, size, BLOCK=256, **options)
    assert torch.equal(out, x + y)
    return compiled


def test_triton_finds_the_back_end_by_its_entry_point():
    assert backends["cpu"].compiler.__name__ == "CPUBackend"
    assert triton.runtime.driver.active.get_current_target().backend == "cpu"


def test_every_stage_can_be_read():
    asm = add().asm
    assert "tt.func public @vector_add" in asm["ttir"]
    assert "kernel @vector_add(" in asm["tir"] and "make_range" in asm["tir"]
    assert "define void @vector_add(ptr" in asm["llir"]
    assert "vector_add:" in asm["asm"]
    assert asm["obj"].startswith(b"\x7fELF")


def test_warps_and_stages_are_accepted_and_mean_nothing():
    """So little that a kernel is compiled once for all of them."""
    objects = {add(num_warps=warps, num_stages=stages).hash for warps in (1, 8) for stages in (2, 3)}
    assert len(objects) == 1


def test_a_second_process_loads_the_kernel_from_the_cache(tmp_path):
    script = tmp_path / "kernel.py"
    script.write_text(
        textwrap.dedent("""
        import torch, triton, triton.language as tl
        from triton import knobs

        @triton.jit
        def double(x, out, BLOCK: tl.constexpr):
            at = tl.arange(0, BLOCK)
            tl.store(out + at, tl.load(x + at) * 2)

        knobs.compilation.listener = lambda **what: print("hit" if what["cache_hit"] else "compiled")
        x, out = torch.ones(64), torch.empty(64)
        double[(1,)](x, out, BLOCK=64)
        assert out.eq(2).all()
    """)
    )
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    runs = [
        subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True) for _ in range(2)
    ]
    assert [run.stdout.split() for run in runs] == [["compiled"], ["hit"]], runs[0].stderr + runs[1].stderr


def test_the_cpu_stands_back_when_another_chip_is_active(monkeypatch):
    driver = backends["cpu"].driver
    monkeypatch.delenv("TRITON_DEFAULT_BACKEND", raising=False)
    assert driver.is_active()
    monkeypatch.setattr(backends["nvidia"].driver, "is_active", staticmethod(lambda: True))
    assert not driver.is_active()
    monkeypatch.setenv("TRITON_DEFAULT_BACKEND", "cpu")
    assert driver.is_active()


def test_launch_hooks_are_called_around_a_launch():
    seen = []
    hooks = triton.knobs.runtime.launch_enter_hook, triton.knobs.runtime.launch_exit_hook
    before, after = (
        (lambda data: seen.append(("enter", data.get()["name"]))),
        (lambda data: seen.append(("exit", None))),
    )
    for hook, function in zip(hooks, (before, after), strict=True):
        hook.add(function)
    try:
        add()
    finally:
        for hook, function in zip(hooks, (before, after), strict=True):
            hook.remove(function)
    assert seen == [("enter", "vector_add"), ("exit", None)]


def test_warmup_compiles_without_running():
    compiled = kernels.vector_add.warmup(torch.float32, torch.float32, torch.float32, 128, BLOCK=128, grid=(1,))
    assert "vector_add" in compiled.asm["asm"]


@triton.jit
def scaled(x, SCALE: tl.constexpr, out, n, stride, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at * stride, mask=at < n) * SCALE, mask=at < n)


def test_a_compiled_kernel_is_launched_with_its_constants_or_without():
    x, out = torch.randn(16), torch.zeros(16)
    # The stride of 1 is a constant for Triton too, but no declared one, so that it is always given.
    compiled = scaled.warmup(x, 3, out, 12, 1, BLOCK=16, grid=(1,))
    for args in ((x, 3, out, 12, 1, 16), (x, out, 12, 1)):
        compiled[(1, 1, 1)](*args)
        assert torch.equal(out[:12], x[:12] * 3) and not out[12:].any()
        out.zero_()
    with pytest.raises(TypeError, match="the launch has 3 arguments; the kernel takes 6"):
        compiled[(1, 1, 1)](x, out, 12)


@pytest.mark.parametrize("module", ["driver", "compiler", "libdevice"])
def test_our_modules_can_be_imported_before_triton(module):
    subprocess.run([sys.executable, "-c", f"import tessera.triton_cpu.{module}"], check=True)


def test_autotune_chooses_among_block_sizes():
    @triton.autotune([triton.Config({"BLOCK": size}) for size in (64, 1024)], key=["n"])
    @triton.jit
    def scale(x, out, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + at, mask=at < n) * 3, mask=at < n)

    x, out = torch.randn(5000), torch.empty(5000)
    scale[lambda meta: (triton.cdiv(5000, meta["BLOCK"]),)](x, out, 5000)
    assert torch.equal(out, x * 3)
    assert scale.best_config.kwargs["BLOCK"] in (64, 1024)


def test_do_bench_measures_milliseconds():
    assert 0 < triton.testing.do_bench(add, warmup=1, rep=5) < 1000


def test_an_unsupported_operation_names_its_source_line():
    @triton.jit
    def assembly(x):
        at = x + tl.arange(0, 64)
        doubled = tl.inline_asm_elementwise("prmt.b32 $0, $1, $1, 3;", "=r,r", [tl.load(at)], tl.int32, True, 1)
        tl.store(at, doubled)

    with pytest.raises(CompilationError) as caught:
        assembly[(1,)](torch.zeros(64, dtype=torch.int32))
    message = str(caught.value)
    assert "the operation 'elementwise_inline_asm' is not supported on the CPU: inline assembly" in message
    assert "not known here: 'prmt.b32 $0, $1, $1, 3'" in message
    assert "test_plugin.py" in message and "tl.inline_asm_elementwise(" in message and message.rstrip().endswith("^")


@pytest.mark.parametrize(
    "options",
    [
        {"maxnreg": 128, "launch_pdl": True, "ptx_options": "-O3"},
        {"waves_per_eu": 2, "matrix_instr_nonkdim": 16, "kpack": 2, "schedule_hint": "attention"},
    ],
)
def test_options_for_gpus_mean_nothing_here(options):
    @triton.jit
    def double(x, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(x + at, 2 * tl.load(x + at))

    x = torch.ones(64)
    plain = double[(1,)](x, BLOCK=64)
    assert double[(1,)](x, BLOCK=64, **options).asm["obj"] == plain.asm["obj"]
    assert torch.equal(x, torch.full((64,), 4.0))


def test_an_option_that_nobody_knows_is_an_error():
    with pytest.raises(KeyError, match="waves was specified but unrecognised"):
        add(waves=2)


def test_a_bad_number_of_warps_says_what_would_work():
    with pytest.raises(ValueError, match="num_warps is 3; it must be a power of 2, for example num_warps=4"):
        add(num_warps=3)


def test_a_string_for_a_tensor_is_refused():
    with pytest.raises(TypeError):
        kernels.vector_add[(1,)]("x", "y", "z", 10, BLOCK=16)


@pytest.mark.parametrize("grid", [(0,), (4, 0), (0, 2, 2)])
def test_an_empty_grid_runs_nothing(grid):
    out = torch.zeros(256)
    kernels.vector_add[grid](torch.ones(256), torch.ones(256), out, 256, BLOCK=256)
    assert not out.any()


def test_an_early_return():
    @triton.jit
    def first_rows(out, n, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        if row >= n:
            return
        tl.store(out + row * BLOCK + tl.arange(0, BLOCK), 1.0)

    out = torch.zeros(4, 32)
    first_rows[(4,)](out, 3, BLOCK=32)
    assert torch.equal(out.sum(1), torch.tensor([32.0, 32.0, 32.0, 0.0]))


def test_a_device_assertion_that_fails_is_a_python_error_with_its_place():
    @triton.jit(debug=True)
    def guarded(x, out, n, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        values = tl.load(x + at)
        tl.device_assert(values < n, "index out of bounds")
        tl.store(out + at, values)

    x, out = torch.arange(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    guarded[(1,)](x, out, 64, BLOCK=64)
    assert torch.equal(out, x)
    with pytest.raises(RuntimeError, match=r"device_assert failed at .*test_plugin.py:\d+:\d+: index out of bounds"):
        guarded[(1,)](x, out.zero_(), 63, BLOCK=64)
    assert not out.any()


def test_device_print_tells_program_index_and_value(capfd):
    @triton.jit
    def show(x, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.device_print("values ", tl.load(x + at))
        tl.device_print("program", tl.program_id(0))
        tl.device_print("done 100%")
        print("two", at, 7)
        tl.device_print("bits", (at - 1).to(tl.int16), hex=True)
        tl.device_print("square", tl.reshape(at, (1, BLOCK)))
        tl.device_print("unsigned", (at - 1).to(tl.uint8))

    show[(1,)](torch.tensor([1.5, -2.0]), BLOCK=2)
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        "pid (0, 0, 0) idx (0) values: 1.500000",
        "pid (0, 0, 0) idx (1) values: -2.000000",
        "pid (0, 0, 0) idx () program: 0",
        "pid (0, 0, 0) done 100%",
        "pid (0, 0, 0) idx (0) two: (operand 0) 0",
        "pid (0, 0, 0) idx (1) two: (operand 0) 1",
        "pid (0, 0, 0) idx () two: (operand 1) 7",
        "pid (0, 0, 0) idx (0) bits: 0xffff",
        "pid (0, 0, 0) idx (1) bits: 0x0000",
        "pid (0, 0, 0) idx (0, 0) square: 0",
        "pid (0, 0, 0) idx (0, 1) square: 1",
        "pid (0, 0, 0) idx (0) unsigned: 255",
        "pid (0, 0, 0) idx (1) unsigned: 0",
    ]


def test_printed_indices_are_as_wide_as_the_largest(capfd):
    @triton.jit
    def show(BLOCK: tl.constexpr):
        tl.device_print("at", tl.arange(0, BLOCK))

    show[(1,)](BLOCK=16)
    lines = capfd.readouterr().out.splitlines()
    assert lines[3] == "pid (0, 0, 0) idx ( 3) at: 3" and lines[15] == "pid (0, 0, 0) idx (15) at: 15"


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_target_without_avx512_uses_none_of_it_and_calls_no_library(dtype):
    signature = {"x_ptr": f"*{dtype}", "y_ptr": f"*{dtype}", "out_ptr": f"*{dtype}", "n": "i32", "BLOCK": "constexpr"}
    source = triton.compiler.ASTSource(kernels.vector_add, signature, {"BLOCK": 256})
    assembly = triton.compile(source, target=GPUTarget("cpu", "x86-64-avx2", 1)).asm["asm"]
    assert "%ymm" in assembly and "%zmm" not in assembly and "%k1" not in assembly
    # Scratch of a load whose mask has ended is cleared by libc.
    assert "call" not in assembly.replace("callq\tmemset", "")
