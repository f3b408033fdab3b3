"""The main job from end to end, with the vendor's kernels in the role of ours."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_kernels import FakeKernels
from rich.console import Console

from tessera.bringup.config import BringupConfig
from tessera.bringup.job import command_line, run
from tessera.bringup.result import BringupResult
from tessera.core.errors import UsageError

ModuleWriter = Callable[[str], str]

MLP = """
import torch
def make():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 16)]
    return torch.nn.Sequential(*layers), torch.randn(32, 64)
"""


@pytest.fixture(autouse=True)
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tessera.bringup.speed.TIMING_SECONDS", 0.2)


def bring_up(model: str, kernels: FakeKernels | None = None, **values: Any) -> tuple[BringupResult, str]:
    """The result and what the terminal shows."""
    console = Console(file=io.StringIO(), width=120)
    result = run(BringupConfig(model=model, **values), console, kernels=kernels or FakeKernels())
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects tags and attributes."""

    VOID = frozenset({"meta", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_minilm_end_to_end(tmp_path: Path) -> None:
    kernels = FakeKernels(to_vendor={"embedding": "no kernel of ours"})
    paths = {"json": tmp_path / "result.json", "report": tmp_path / "report.html"}
    result, shown = bring_up("builtin:minilm", kernels, batch=2, tokens=32, **paths)
    assert result.ready
    assert result.search is not None
    assert result.search.agrees
    assert result.search.cosine > 0.9999
    assert "Bees find their way" in result.search.answers[0].found[0].sentence
    assert "3 × embedding: no kernel of ours" in shown
    assert re.search(r"verdict +ready", shown)

    data = json.loads(paths["json"].read_text())
    check_schema(data)
    assert data["verdict"] == "ready"
    assert data["operators"]["vendor"] == [{"name": "embedding", "calls": 3, "reason": "no kernel of ours"}]
    assert data["operators"]["calls"] - data["operators"]["ours"] == 3
    assert len(data["accuracy"]["layers"]) == 114
    assert data["speed"]["ratio"] > 0.3

    text = paths["report"].read_text()
    page = Page(text)
    assert page.open == []
    assert page.tags.count("circle") == 2 * 114
    assert ("class", "bar ours") in page.attributes
    assert ("role", "img") in page.attributes
    # Nothing is fetched: no address, no file beside it.
    assert not [name for name, _ in page.attributes if name in ("src", "href")]
    assert not re.search(r"https?://|url\(|@import", text)
    assert "Bees find their way" in text
    assert "no kernel of ours" in text
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 0
    assert not list(tmp_path.glob(".*part"))


def check_schema(data: dict[str, Any]) -> None:
    """The keys that programs may rely on."""
    assert {"chip", "model", "operators", "accuracy", "speed", "verdict"} <= set(data)
    assert {"calls", "ours", "vendor"} <= set(data["operators"])
    assert all(set(row) == {"name", "calls", "reason"} for row in data["operators"]["vendor"])
    assert {"layers", "ok"} <= set(data["accuracy"])
    assert all({"name", "error", "torch_error", "ratio", "ok"} <= set(row) for row in data["accuracy"]["layers"])
    assert {"vendor_ms", "ours_ms", "ratio"} <= set(data["speed"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_function_model(user_module: ModuleWriter, dtype: str) -> None:
    result, shown = bring_up(f"python:{user_module(MLP)}:make", dtype=dtype)
    assert result.ready
    assert [layer.name for layer in result.accuracy.layers] == ["0", "1", "2", "(model)"]
    assert result.operators is not None
    assert {row.name: row.calls for row in result.operators.times} == {"addmm": 2, "gelu": 1}
    assert result.search is None
    assert "search" not in shown


def test_folder_model(bert_folder: Path) -> None:
    result, _ = bring_up(str(bert_folder), batch=2, tokens=16)
    assert result.ready
    assert result.kind == "BertModel"


def scaled_gelu(name: str, output: object) -> object:
    return output * 1.001 if name == "gelu" and isinstance(output, torch.Tensor) else output


def test_a_wrong_kernel_is_not_ready_and_the_first_wrong_layer_is_named(
    user_module: ModuleWriter, tmp_path: Path
) -> None:
    model = f"python:{user_module(MLP)}:make"
    paths = {"json": tmp_path / "result.json", "report": tmp_path / "report.html"}
    result, shown = bring_up(model, FakeKernels(change=scaled_gelu), **paths)
    assert not result.ready
    assert result.reasons[0].startswith("3 of 4 layers are outside the accuracy rule, first 1 (GELU): error")
    assert "not ready" in shown
    data = json.loads(paths["json"].read_text())
    check_schema(data)
    assert (data["verdict"], data["accuracy"]["ok"]) == ("not ready", False)
    assert [row["ok"] for row in data["accuracy"]["layers"]] == [True, False, False, False]
    assert data["check"]["verdict"] == "wrong"
    assert (data["check"]["culprit"]["module"], data["check"]["culprit"]["operator"]) == ("1", "aten.gelu")
    assert 'class="wrong"' in paths["report"].read_text()


def not_a_number(name: str, output: object) -> object:
    return output * torch.nan if name == "gelu" and isinstance(output, torch.Tensor) else output


def test_infinite_errors_are_valid_json_and_html(user_module: ModuleWriter, tmp_path: Path) -> None:
    model = f"python:{user_module(MLP)}:make"
    paths = {"json": tmp_path / "result.json", "report": tmp_path / "report.html"}
    bring_up(model, FakeKernels(change=not_a_number), **paths)
    data = json.loads(paths["json"].read_text(), parse_constant=pytest.fail)
    assert data["accuracy"]["layers"][1]["error"] is None
    assert Page(paths["report"].read_text()).open == []


def broken_gelu(name: str, output: object) -> object:
    if name == "gelu":
        raise RuntimeError("lowering failed\nat line 3")
    return output


def test_a_kernel_that_fails_is_a_verdict_not_a_traceback(user_module: ModuleWriter, tmp_path: Path) -> None:
    model = f"python:{user_module(MLP)}:make"
    paths = {"json": tmp_path / "result.json", "report": tmp_path / "report.html"}
    result, shown = bring_up(model, FakeKernels(change=broken_gelu), **paths)
    assert not result.ready
    assert "the run on our kernels failed: RuntimeError: lowering failed" in result.reasons
    assert [layer.name for layer in result.accuracy.layers] == ["0"]
    assert "not timed: the run failed" in shown
    data = json.loads(paths["json"].read_text())
    check_schema(data)
    assert data["speed"]["ratio"] is None
    assert Page(paths["report"].read_text()).open == []


def test_vendor_operators_alone_do_not_make_it_not_ready_but_all_of_them_do(user_module: ModuleWriter) -> None:
    model = f"python:{user_module(MLP)}:make"
    some, shown = bring_up(model, FakeKernels(to_vendor={"gelu": "type not supported"}))
    assert some.ready
    assert "1 × gelu: type not supported" in shown
    none, _ = bring_up(model, FakeKernels(to_vendor={"gelu": "off", "addmm": "off"}))
    assert none.reasons == ("no operator call ran on our kernels",)


def test_inputs_that_do_not_fit(user_module: ModuleWriter) -> None:
    model = f"python:{user_module(MLP.replace('32, 64)', '32, 63)'))}:make"
    with pytest.raises(UsageError) as caught:
        bring_up(model)
    message = str(caught.value)
    assert "the model does not accept its inputs: RuntimeError: mat1 and mat2 shapes cannot be multiplied" in message
    assert "(in module 0 (Linear); inputs: 0 float32[32, 63])" in message


def test_model_without_floating_output(user_module: ModuleWriter) -> None:
    source = "import torch\ndef make(): return torch.nn.Identity(), torch.arange(3)"
    with pytest.raises(UsageError, match="the model returns Tensor without a floating tensor"):
        bring_up(f"python:{user_module(source)}:make")


def test_unwritable_paths_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "result.json"
    with pytest.raises(UsageError, match=f"the JSON cannot be written to {missing}: there is no folder"):
        bring_up("not even a model", json=missing)
    with pytest.raises(UsageError, match=r"the report cannot be written to .* it is a folder; name a file in it"):
        bring_up("not even a model", report=tmp_path)


def test_threads_hold_for_the_run_only(user_module: ModuleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    model = f"python:{user_module(MLP)}:make"
    assert bring_up(model, threads=1)[0].threads == 1
    assert torch.get_num_threads() == before
    monkeypatch.setenv("TESSERA_NUM_THREADS", "1")
    assert bring_up(model)[0].threads == 1
    with pytest.raises(UsageError, match=r"threads is 2 and TESSERA_NUM_THREADS is 1; .*unset one of the two"):
        bring_up(model, threads=2)
    assert torch.get_num_threads() == before


def test_kernels_are_off_afterwards(user_module: ModuleWriter) -> None:
    kernels = FakeKernels()
    bring_up(f"python:{user_module(MLP)}:make", kernels)
    assert kernels.switched["enable"] > 0
    assert kernels.switched["disable"] > kernels.switched["enable"]


def test_command_line_repeats_what_was_asked() -> None:
    config = BringupConfig(model="a folder", dtype="bfloat16", threads=1, report=Path("out.html"))
    assert command_line(config) == "tessera bringup 'a folder' --dtype bfloat16 --threads 1 --report out.html"
