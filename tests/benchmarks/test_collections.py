"""The run of a collection's tests, on a small collection of our own that asks for what others ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tessera
from benchmarks.collections.__main__ import main
from benchmarks.collections.page import page

ROOT = Path(tessera.__file__).parents[1]

KERNEL = """
import triton
import triton.language as tl

@triton.jit
def double(x, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(x + at, tl.load(x + at) * 2)
"""

TESTS = """
import pytest
import torch
from mine import double

@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_double(size):
    x = torch.ones(size)
    double[(1,)](x, size)
    assert x.sum().item() == 2 * size

def test_of_a_gpu():
    assert torch.ones(1).device.type == "cuda", f"no GPU in {__file__}"
"""

# Each way in which tests ask for a GPU is a test of its own, and each is true on the CPU.
FOR_CUDA = """
import pytest
import torch
from mine import double

DEVICE = "cuda" if torch.cuda.is_available() else "no device"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

def doubled(x):
    double[(1,)](x, x.numel())
    return x.sum().item() == 2 * x.numel()

@needs_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda", 0), 0, None])
def test_factory(device):
    assert doubled(torch.ones(16, device=device))
    assert torch.randn(4, device=device).new_zeros(2, device=device).sum() == 0

def test_moved():
    assert doubled(torch.ones(16).cuda()) and doubled(torch.ones(16).to("cuda"))
    assert torch.ones(1, device=DEVICE).is_cuda
    layer = torch.nn.Linear(2, 2).to("cuda").cuda()
    assert layer(torch.ones(2, device=torch.device("cuda"))).shape == (2,)

def test_device_of_a_context():
    with torch.device("cuda"), torch.cuda.device(0), torch.cuda.stream(torch.cuda.Stream()):
        assert doubled(torch.ones(16)) and torch.ones(1).device == torch.device("cuda:0")

def test_seed():
    torch.cuda.manual_seed_all(7)
    first = torch.rand(4, device="cuda")
    torch.cuda.manual_seed(7)
    assert torch.equal(first, torch.rand(4, device="cuda"))

def test_seed_and_offset_of_a_kernel():
    torch.manual_seed(2**64 - 5)
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    state = generator.get_state()
    seed, offset = state.view(torch.int64)
    assert (seed, offset) == (-5, 0) and generator.initial_seed() == 2**64 - 5
    state.view(torch.int64)[1] += 4
    assert generator.get_state().view(torch.int64)[1] == 0
    generator.set_state(state)
    assert generator.get_state().view(torch.int64).tolist() == [-5, 4]

def test_half_by_autocast():
    with torch.autocast("cuda"):
        assert torch.is_autocast_enabled() and torch.get_autocast_dtype("cuda") == torch.float16
        assert (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).dtype == torch.float16
    assert not torch.is_autocast_enabled("cuda")

def test_gradient():
    x = torch.ones(3, device="cuda", requires_grad=True)
    (x * torch.full((3,), 2.0, device="cuda")).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]

@pytest.mark.parametrize("ask", [lambda y, x: y.sum().backward(), lambda y, x: torch.autograd.grad(y.sum(), x)])
def test_gradient_in_python(ask):
    seen = []

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            seen.append(grad.is_cuda and torch.zeros(3, device="cuda").is_cuda)
            return 2 * grad

    x = torch.ones(3, device="cuda", requires_grad=True)
    ask(Twice.apply(x), x)
    assert seen == [True]

def test_questions():
    import triton

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
    assert torch.cuda.get_device_properties("cuda").multi_processor_count >= 1
    assert torch.cuda.get_device_capability() == (8, 0)
    assert triton.runtime.driver.active.get_current_target().backend == "cpu"

@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled(backend):
    @torch.compile(backend=backend)
    def plus(x):
        return x + torch.ones(3, device="cuda")

    assert plus(torch.ones(3, device="cuda")).sum() == 6

@pytest.mark.parametrize("of_library", ["", "CUDA"])
def test_operators_for_cuda(of_library):
    of_mine = torch.library.Library("aten", "IMPL", of_library)
    of_mine.impl("digamma", lambda x: x + 41, "" if of_library else "CUDA")
    assert torch.ones(1, device="cuda").digamma() == 42
    of_mine._destroy()

def test_what_an_operator_calls():
    of_mine = torch.library.Library("aten", "IMPL")
    of_mine.impl("digamma", lambda x: torch.ones(3, device="cuda") + x.cuda(), "CUDA")
    assert torch.digamma(torch.ones(1, device="cuda")).tolist() == [2, 2, 2]
    of_mine._destroy()

def test_own_operator():
    torch.library.define("mine::twice", "(Tensor x) -> Tensor")
    torch.library.impl("mine::twice", "cuda")(lambda x: 2 * x)
    assert torch.ops.mine.twice(torch.ones(1, device="cuda")) == 2

    @torch.library.custom_op("mine::thrice", mutates_args=(), device_types="cuda")
    def thrice(x: torch.Tensor) -> torch.Tensor:
        return 3 * x

    assert thrice(torch.ones(1, device="cuda")) == 3

def test_function_under_autocast():
    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float16)
        def forward(ctx, x):
            return x * 2

    with torch.autocast("cuda"):
        assert Double.apply(torch.ones(2, device="cuda")).dtype == torch.float16

def test_of_another_package():
    import package_of_no_one
"""

BROKEN = """
def pytest_load_initial_conftests():
    raise OSError("as planned")
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mine.py").write_text(KERNEL)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text(TESTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("benchmarks.command.RESULTS", tmp_path / "results")
    return tmp_path


def test_a_collection_is_counted_and_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests", "--source", "src", "--cases", "3", "--write"]
    assert main(arguments) == 1
    assert "test_mine.py" in capsys.readouterr().out
    text = (checkout / "results" / "collections-cpu.md").read_text(encoding="utf-8")
    # Three cases of the kernel's test pass, its fourth is not run, and the other test fails for what it asks for.
    assert "| mine | 3.7.1 | 3 | 3 | 1 | 0 | 0 | 0 |" in text.replace(_triton(), "3.7.1")
    assert "| 1 | failed | `AssertionError: no GPU in tests/test_mine.py` | `test_mine.py::test_of_a_gpu` |" in text
    assert str(checkout) not in text + (checkout / "results" / "collections-cpu.json").read_text(encoding="utf-8")


def test_tests_for_cuda_run_on_the_cpu(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "tests" / "test_mine.py").write_text(FOR_CUDA)
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests", "--source", "src"]
    status = main(arguments)
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "test_mine.py     21      0     0       1" in shown
    assert "1 skipped needs package_of_no_one, which is not installed" in shown


SPREAD = """
import os
import pytest

@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("first", range(6))
def test_case(first, second):
    with open(os.environ["WHERE"], "a") as file:
        file.write(f"{first}{second} ")
"""


def test_cases_are_spread_over_all_parameters(checkout: Path) -> None:
    (checkout / "tests" / "test_mine.py").write_text(SPREAD)
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests", "--cases", "4", "--jobs", "2"]
    assert main([*arguments, "--environ", f"WHERE={checkout / 'ran'}"]) == 0
    ran = sorted((checkout / "ran").read_text().split())
    assert len(ran) == 4 and ran[0] == "00" and ran[-1] == "51"
    assert len({case[0] for case in ran}) == 4 and {case[1] for case in ran} == {"0", "1"}


OWN_OPTION = {
    "conftest.py": """
def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true")
""",
    "test_mine.py": """
def test_quick(request):
    assert request.config.getoption("--quick")
""",
}


def test_options_of_the_collection_reach_its_tests(checkout: Path) -> None:
    for name, text in OWN_OPTION.items():
        (checkout / "tests" / name).write_text(text)
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests"]
    assert main(arguments) == 1
    assert main([*arguments, "--pytest=--quick"]) == 0


def test_tests_can_be_left_as_they_are_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "tests" / "test_mine.py").write_text(FOR_CUDA)
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests", "--source", "src", "--as-written"]
    assert main([*arguments, "-k", "factory or moved"]) == 1
    shown = capsys.readouterr().out
    assert "test_mine.py      0      1     0       5" in shown
    assert "5 skipped needs a GPU" in shown and "Torch not compiled with CUDA enabled" in shown


def test_a_plugin_that_breaks_is_an_error(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "src" / "broken.py").write_text(BROKEN)
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests", "--source", "src", "--plugin", "broken"]
    assert main(arguments) == 2
    assert "as planned" in capsys.readouterr().err


def test_input_that_cannot_be_used_is_said(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "--checkout", str(checkout), "--tests", "nowhere"]) == 2
    assert "has no such file or folder" in capsys.readouterr().err
    assert main(["mine", "--checkout", str(checkout), "--tests", "tests", "--cases", "0"]) == 2
    assert "--cases is 0" in capsys.readouterr().err
    assert main(["mine", "--checkout", str(checkout), "--tests", "tests", "--environ", "VENDOR"]) == 2
    assert "--environ VENDOR: it must be NAME=VALUE" in capsys.readouterr().err


def test_a_page_of_nothing_has_no_rows() -> None:
    assert page({"collections": {}}).count("\n|") == 2


def _triton() -> str:
    from importlib.metadata import version

    return version("triton")


OF_A_USER = """
import torch, triton, triton.language as tl

@triton.autotune([triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 64})], key=["n"])
@triton.jit
def double(x, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + at, 2 * tl.load(x + at, mask=at < n), mask=at < n)

def test_doubled():
    x = torch.ones(100, device="cuda")
    out = double[lambda meta: (triton.cdiv(100, meta["BLOCK"]),)](x, 100)
    assert x.unique().numel() == 1 and torch.cuda.is_available()
"""


def test_the_plugin_serves_tests_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(OF_A_USER)
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_DEFAULT_BACKEND"}
    pytest_with_plugin = [sys.executable, "-m", "pytest", "-q", "-p", "tessera.triton_cpu.conformance.as_cpu"]
    found = subprocess.run(
        [*pytest_with_plugin, str(tmp_path)], capture_output=True, text=True, env=environ, cwd=tmp_path, check=False
    )
    assert found.returncode == 0, found.stdout


def test_a_checkout_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    assert main(["x", "--checkout", str(missing), "--tests", "tests"]) == 2
    assert f"--checkout {missing}: there is no such folder" in capsys.readouterr().err
