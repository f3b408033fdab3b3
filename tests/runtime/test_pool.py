"""Launching grids: each program once, whatever the shape and the number of threads, and no hang in any situation."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from llvmlite import binding
from native_kernels import KERNEL, compile_ir, make_kernel

from tessera.core.errors import UsageError
from tessera.runtime import pool_ir, worth_ir
from tessera.runtime.arguments import make_packer
from tessera.runtime.loader import LoadedKernel, load
from tessera.runtime.native import native
from tessera.runtime.pool import Lent, borrow, launch

Script = Callable[..., "subprocess.CompletedProcess[str]"]
SetThreads = Callable[[int], None]

pack = make_packer(("*i64", "*i64", "*i64"))


def run(kernel: LoadedKernel, out: torch.Tensor, *grid: int) -> None:
    launch(kernel.address, pack((out, None, None)), *grid)


@pytest.fixture(params=Lent)
def either(request: pytest.FixtureRequest) -> Iterator[None]:
    borrow(request.param)
    yield
    borrow(Lent.WHILE_AWAKE)


def threads_of(who: LoadedKernel, programs: int = 24) -> int:
    out = torch.zeros(programs, dtype=torch.int64)
    run(who, out, programs, 1, 1)
    assert (out != 0).all()
    return len(set(out.tolist()))


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("num_threads", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "grid", [(1, 1, 1), (2, 1, 1), (1, 3, 1), (1, 1, 5), (7, 1, 1), (3, 5, 7), (64, 1, 2), (1000, 1, 1), (17, 31, 13)]
)
def test_every_program_runs_exactly_once(
    grid: tuple[int, int, int], num_threads: int, visit: LoadedKernel, threads: SetThreads
) -> None:
    threads(num_threads)
    programs = grid[0] * grid[1] * grid[2]
    counts = torch.zeros(programs + 8, dtype=torch.int64)
    run(visit, counts, *grid)
    assert counts[:programs].tolist() == [1] * programs
    assert counts[programs:].tolist() == [0] * 8


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_big_grid(num_threads: int, visit: LoadedKernel, threads: SetThreads) -> None:
    threads(num_threads)
    counts = torch.zeros(3 * 2**20, dtype=torch.int64)
    run(visit, counts, 2**20, 3, 1)
    assert bool((counts == 1).all())


def test_more_programs_than_32_bits_can_count(threads: SetThreads) -> None:
    whole_range = KERNEL.replace("%i, 1", "%end, 0").format(body="  store i64 %end, ptr %a0")
    kernel = load(compile_ir(whole_range), "kernel")
    threads(1)
    out = torch.zeros(1, dtype=torch.int64)
    run(kernel, out, 2**16, 2**16, 2**3)
    assert out.item() == 2**35


@pytest.mark.parametrize("num_threads", [1, 2])
def test_grid_reaches_the_kernel(num_threads: int, threads: SetThreads) -> None:
    threads(num_threads)
    sizes = "\n".join(
        f"%{dim} = sext i32 %num_{dim} to i64\n%{dim}.at = getelementptr i64, ptr %a0, i64 {index}\n"
        f"store i64 %{dim}, ptr %{dim}.at"
        for index, dim in enumerate("xyz")
    )
    out = torch.zeros(3, dtype=torch.int64)
    run(make_kernel(sizes), out, 2, 3, 4)
    assert out.tolist() == [2, 3, 4]


@pytest.mark.parametrize("grid", [(0, 1, 1), (1, 0, 1), (5, 5, 0), (0, 0, 0)])
def test_empty_grid_runs_nothing(grid: tuple[int, int, int], visit: LoadedKernel) -> None:
    counts = torch.zeros(32, dtype=torch.int64)
    run(visit, counts, *grid)
    assert counts.sum() == 0


@pytest.mark.parametrize("grid", [(-1, 1, 1), (-1, -1, 1), (0, -2, 1), (2**31, 1, 1), (2**31 - 1,) * 3])
def test_grid_out_of_range(grid: tuple[int, int, int], visit: LoadedKernel) -> None:
    with pytest.raises(UsageError, match=rf"the grid is {re.escape(str(grid))}; each dimension must be in 0"):
        run(visit, torch.zeros(1, dtype=torch.int64), *grid)


def test_grid_of_floats_names_the_remedy(visit: LoadedKernel) -> None:
    with pytest.raises(UsageError, match=r"the grid \(4.0, 1, 1\) .* not made of whole numbers .* triton.cdiv"):
        run(visit, torch.zeros(4, dtype=torch.int64), 4.0, 1, 1)  # type: ignore[arg-type]


@pytest.mark.usefixtures("either")
def test_number_of_threads_follows_torch(who: LoadedKernel, threads: SetThreads) -> None:
    threads_of(who)  # a brief kernel of another test may have lain at this address
    for wanted in (1, 3, 2, 4, 1):
        threads(wanted)
        assert threads_of(who) == wanted


def test_threads_begin_with_the_same_programs_in_every_launch(script: Script) -> None:
    done = script(
        """
borrow(Lent.NEVER)
torch.set_num_threads(2)
distinct()
starts = set()
for _ in range(5):
    seen = torch.zeros(24, dtype=torch.int64)
    launch(who.address, pack((seen, None, None)), 24, 1, 1)
    starts.add((seen[0].item(), seen[12].item()))
assert len(starts) == 1 and len(set(*starts)) == 2, starts
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("either")
def test_brief_launches_stay_on_their_thread_until_they_take_long(threads: SetThreads) -> None:
    # Argument 1 says how many microseconds a program sleeps, if any.
    body = """
  %us = load volatile i64, ptr %a1
  %us.32 = trunc i64 %us to i32
  %sleeps = icmp ne i64 %us, 0
  br i1 %sleeps, label %sleep, label %awake
sleep:
  %slept = call i32 @usleep(i32 %us.32)
  br label %awake
awake:
  %self = call i64 @pthread_self()
  %who.at = getelementptr i64, ptr %a0, i64 %i
  store i64 %self, ptr %who.at
"""
    text = KERNEL.format(body=body).replace("[ %next, %loop ]", "[ %next, %awake ]")
    kernel = load(compile_ir(text), "kernel")
    threads(2)

    def threads_at(us: int) -> int:
        seen, pause = torch.zeros(16, dtype=torch.int64), torch.tensor(us)
        launch(kernel.address, pack((seen, pause, None)), 16, 1, 1)
        assert (seen != 0).all()
        return len(set(seen.tolist()))

    brief = [threads_at(0) for _ in range(60)]
    assert brief[-10:] == [1] * 10
    assert [threads_at(3000) for _ in range(3)] == [1, 2, 2]  # the first one is found out by being late


@pytest.fixture(scope="module")
def spinner() -> LoadedKernel:
    """Argument 1 says how often a program stores its thread's number: four thousand stores take about a microsecond."""
    body = """
  %times = load volatile i64, ptr %a1
  %self = call i64 @pthread_self()
  %who.at = getelementptr i64, ptr %a0, i64 %i
  br label %spin
spin:
  %n = phi i64 [ 0, %loop ], [ %n.next, %spin ]
  store volatile i64 %self, ptr %who.at
  %n.next = add i64 %n, 1
  %again = icmp slt i64 %n.next, %times
  br i1 %again, label %spin, label %spun
spun:
"""
    return load(compile_ir(KERNEL.format(body=body).replace("[ %next, %loop ]", "[ %next, %spun ]")), "kernel")


@pytest.mark.usefixtures("either")
def test_a_brief_launch_that_was_held_up_is_soon_a_brief_one_again(spinner: LoadedKernel, threads: SetThreads) -> None:
    threads(2)
    seen, stores = torch.zeros(8, dtype=torch.int64), torch.tensor(1)
    packed = pack((seen, stores, None))

    def threads_for(each: int, launches: int) -> list[int]:
        stores.fill_(each)
        used = []
        for _ in range(launches):
            launch(spinner.address, packed, 8, 1, 1)
            used.append(len(set(seen.tolist())))
        return used

    assert threads_for(40, 500)[-10:].count(1) > 5
    assert 2 in threads_for(4_000_000, 5)
    assert threads_for(40, 500)[-10:].count(1) > 5


@pytest.mark.parametrize(("stores", "late_s"), [(1_000, 0.0001), (40_000, 0.02)], ids=["nearly brief", "short"])
def test_launches_that_were_kept_waiting_are_followed_by_some_on_one_thread(
    stores: int, late_s: float, spinner: LoadedKernel, threads: SetThreads
) -> None:
    threads(2)
    called = [0]

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    def slow_team(begin: int, end: int, grain: int, function: int, given: int) -> int:
        called[0] += 1
        time.sleep(late_s)
        part = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(function)
        for number in range(begin, end):
            part(number, number + 1, given)
        return 0

    out, each = torch.zeros(8, dtype=torch.int64), torch.tensor(stores)
    packed = pack((out, each, None))

    def alone_before_one_is_shared() -> int:
        before = called[0]
        for alone in range(20_000):
            launch(spinner.address, packed, 8, 1, 1)
            if called[0] > before:
                return alone
        raise AssertionError("no launch is shared any more")

    launch(spinner.address, packed, 8, 1, 1)  # The first launch of all makes the pool, which borrows from PyTorch.
    native().borrow(ctypes.cast(slow_team, ctypes.c_void_p).value, True)
    try:
        # A launch that this machine interrupts is no short one and counts for nothing: there are many tries. After one
        # loss so many run alone, and more after the second.
        assert any(alone_before_one_is_shared() > worth_ir.ALONE[0] for _ in range(100))
    finally:
        borrow(Lent.WHILE_AWAKE)


@pytest.mark.usefixtures("either")
def test_workers_take_over_flush_to_zero(threads: SetThreads) -> None:
    kernel = make_kernel("""
  %slept = call i32 @usleep(i32 3000)
  %small = load volatile float, ptr %a1
  %half = fmul float %small, 0.5
  %out.at = getelementptr float, ptr %a0, i64 %i
  store float %half, ptr %out.at
""")
    threads(3)
    smallest_normal, out = torch.tensor([torch.finfo(torch.float32).tiny]), torch.ones(24)
    arguments = pack((out, smallest_normal, None))
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        launch(kernel.address, arguments, 24, 1, 1)
    finally:
        torch.set_flush_denormal(False)
    assert out.view(torch.int32).tolist() == [0] * 24
    launch(kernel.address, arguments, 24, 1, 1)
    assert set(out.view(torch.int32).tolist()) == {2**22}


@pytest.mark.usefixtures("either")
def test_launches_from_several_threads_at_once(visit: LoadedKernel, threads: SetThreads) -> None:
    threads(2)
    counts = [torch.zeros(40 + index, dtype=torch.int64) for index in range(4)]

    def repeat(out: torch.Tensor) -> None:
        for _ in range(400):
            run(visit, out, out.numel(), 1, 1)

    callers = [threading.Thread(target=repeat, args=(out,), daemon=True) for out in counts]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
        assert not caller.is_alive()
    assert all(bool((out == 400).all()) for out in counts)


def test_second_launch_does_not_wait_for_the_first(who: LoadedKernel, visit: LoadedKernel, threads: SetThreads) -> None:
    threads(2)
    long = threading.Thread(target=threads_of, args=(who, 400), daemon=True)  # 400 × 3 ms on 2 threads
    long.start()
    for _ in range(100):
        counts = torch.zeros(10, dtype=torch.int64)
        run(visit, counts, 10, 1, 1)
        assert counts.tolist() == [1] * 10
    assert long.is_alive()
    long.join(timeout=30)


def test_stack_of_workers_holds_kernels_scratch(threads: SetThreads) -> None:
    threads(2)
    before = threading.stack_size()
    kernel = make_kernel("""
  %slept = call i32 @usleep(i32 3000)
  %scratch = alloca [4194304 x i8], align 64
  call void @llvm.memset.p0.i64(ptr %scratch, i8 7, i64 4194304, i1 true)
  %byte.at = getelementptr i8, ptr %scratch, i64 4194303
  %byte = load volatile i8, ptr %byte.at
  %wide = zext i8 %byte to i64
  %out.at = getelementptr i64, ptr %a0, i64 %i
  store i64 %wide, ptr %out.at
""")
    out = torch.zeros(16, dtype=torch.int64)
    run(kernel, out, 2, 1, 1)
    assert out[:2].tolist() == [7, 7]
    assert threading.stack_size() == before


@pytest.mark.parametrize("lent", [Lent.NEVER, Lent.WHILE_AWAKE])
def test_thousands_of_tiny_launches_with_pauses_lose_no_wake_up(script: Script, lent: Lent) -> None:
    result = script(f"""
import random
borrow({lent})
random.seed(0)
for step in range(6000):
    torch.set_num_threads(2 + step % 3)
    assert count(1 + step % 37), step
    if step % 8 == 0:  # so that workers are met spinning, falling asleep and asleep
        time.sleep(random.choice((0.0, 0.00001, 0.0001, 0.001)))
print("done")
""")
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


@pytest.mark.parametrize("lent", Lent)
def test_child_of_a_fork_has_a_pool_of_its_own(script: Script, lent: Lent) -> None:
    result = script(f"""
borrow({lent})
torch.set_num_threads(2)
assert distinct() == 2
child = os.fork()
if child == 0:
    torch.set_num_threads(3)
    os._exit(0 if count(1000) and distinct() == 3 else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print("child", status, "parent", distinct())
""")
    assert result.stdout == "child 0 parent 2\n", result.stderr


def test_forked_workers_of_a_data_loader_can_launch(script: Script) -> None:
    result = script("""
class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        torch.set_num_threads(2)
        return int(count(100))

assert count(100)
loader = torch.utils.data.DataLoader(Items(), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=30)
print([batch.tolist() for batch in loader])
""")
    assert result.stdout == "[[1, 1], [1, 1]]\n", result.stderr


def test_interpreter_leaves_without_a_word(script: Script) -> None:
    result = script("torch.set_num_threads(2)\nassert count(100)\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_interpreter_leaves_while_a_daemon_thread_launches(script: Script) -> None:
    result = script("""
torch.set_num_threads(2)
counts = torch.zeros(100, dtype=torch.int64)
packed = pack((counts, None, None))

def launch_for_ever():
    while True:
        launch(visit.address, packed, 100, 1, 1)

threading.Thread(target=launch_for_ever, daemon=True).start()
while counts[99] < 10:
    time.sleep(0.001)
""")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux says where threads run")
def test_worker_leaves_the_processor_of_the_launch(script: Script) -> None:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        pytest.skip("there is nowhere to go on one processor")
    result = script("""
borrow(Lent.NEVER)
torch.set_num_threads(2)
distinct()
worker, = (thread.native_id for thread in threading.enumerate() if thread.name.startswith("tessera-worker"))
allowed = os.sched_getaffinity(0)
here = min(allowed)
os.sched_setaffinity(0, {here})
os.sched_setaffinity(worker, {here})
distinct()
print(os.sched_getaffinity(worker) == allowed - {here})
""")
    assert result.stdout == "True\n", result.stderr


@pytest.mark.parametrize(
    "triple",
    ["aarch64-unknown-linux-gnu", "arm64-apple-darwin", "riscv64-unknown-linux-gnu", "loongarch64-unknown-linux-gnu",
     "powerpc64le-unknown-linux-gnu", "x86_64-apple-darwin"],
)  # fmt: skip
def test_native_half_compiles_for_other_machines(triple: str) -> None:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = binding.parse_assembly(pool_ir.module_text(triple))
    module.verify()
    text = binding.Target.from_triple(triple).create_target_machine(reloc="pic").emit_assembly(module)
    assert all(f"{name}:" in text for name in pool_ir.EXPORTS)
    assert module.get_function("sched_getcpu").is_declaration == ("linux" in triple)


def test_environment_fixes_the_number_of_threads(script: Script) -> None:
    result = script("torch.set_num_threads(1)\nprint(distinct())\n", TESSERA_NUM_THREADS="3")
    assert result.stdout == "3\n", result.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [("many", "TESSERA_NUM_THREADS is 'many'; it must be a whole number of at least 1"), ("5000", "at most 1024")],
)
def test_environment_that_cannot_be_used(value: str, message: str, script: Script) -> None:
    result = script("count(100)", TESSERA_NUM_THREADS=value)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]
