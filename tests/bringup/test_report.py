"""What the report says and shows, from results made up for it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tessera.accuracy.judge import Judgement
from tessera.accuracy.layers import LayerCheck, LayerResult
from tessera.bringup.report.layer_plot import layer_plot
from tessera.bringup.report.page import render
from tessera.bringup.report.svg import LogScale
from tessera.bringup.result import (
    Answer,
    BringupResult,
    Found,
    Operators,
    OperatorTime,
    Search,
    Speed,
    VendorCalls,
)


def layer(name: str, *, ratio: float = 1.0, torch_error: float = 1e-6, reason: str = "") -> LayerResult:
    judgement = Judgement(
        error=ratio * torch_error,
        torch_error=torch_error,
        ratio=ratio,
        peak=ratio * torch_error,
        torch_peak=torch_error,
        peak_ratio=ratio,
        ok=not reason,
        reason=reason,
    )
    return LayerResult(name=name, kind="Linear", shape=(8, 8), judgement=judgement)


def check_of(num_blocks: int, **values: str) -> LayerCheck:
    names = [f"encoder.layer.{block}.{part}" for block in range(num_blocks) for part in ("attention", "dense")]
    return LayerCheck(layers=tuple(map(layer, ["embeddings", *names, "pooler"])), **values)


FOUND = (
    Found(sentence="Bees find their way.", torch_score=0.48711, ours_score=0.48712, torch_rank=1, ours_rank=1),
    Found(sentence="Rain fell.", torch_score=0.2, ours_score=0.2, torch_rank=2, ours_rank=2),
)
READY = BringupResult(
    chip="AMD EPYC (x86-64-avx512)",
    model="builtin:minilm",
    kind="BertModel",
    num_parameters=22_713_216,
    inputs="8 × 128 tokens of English text",
    dtype="float32",
    threads=2,
    accuracy=check_of(6),
    operators=Operators(
        calls=101,
        ours=101,
        times=(
            OperatorTime(name="addmm", calls=37, vendor_ms=80.0, ours_ms=100.0),
            OperatorTime(name="native_layer_norm", calls=13, vendor_ms=12.0, ours_ms=3.0),
            OperatorTime(name="arange", calls=4, vendor_ms=0.02, ours_ms=0.04),
        ),
    ),
    speed=Speed(vendor_ms=100.0, ours_ms=125.0, ratio=0.8, first_ms=4537.0, rounds=9),
    search=Search(answers=(Answer(query="How do insects navigate?", found=FOUND, agrees=True),), cosine=0.9999999),
    reasons=(),
    versions={"python": "3.12.1", "system": "Linux", "torch": "2.13.0"},
    command="tessera bringup builtin:minilm",
    date="2030-01-01 00:00 UTC",
)


class Words(HTMLParser):
    """The text that a reader sees, with one space between pieces."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def words(result: BringupResult) -> str:
    return " ".join("\t".join(Words(render(result)).pieces).split())


def test_ready_model() -> None:
    text = words(READY)
    assert "Ready It runs from end to end on Tessera’s kernels, and every layer is inside the accuracy rule." in text
    assert "accuracy 14/14 layers inside the rule; worst 1.00 × PyTorch’s own error, limit 2" in text
    assert "operators 101/101 operator calls on Tessera’s kernels speed" in text
    assert "speed 0.80 × PyTorch’s speed: 125 ms a call, PyTorch 100 ms" in text
    assert "took 4.5 s; it compiles them, or loads them from the cache." in text
    assert "None: all 101 compute calls ran on Tessera’s kernels." in text
    assert "1 Bees find their way. 0.4871 0.4871" in text
    assert "python 3.12.1, torch 2.13.0" in text
    assert "Outside the rule" not in text


def test_losses_are_marked_and_small_operators_folded() -> None:
    html = render(READY)
    assert html.count('class="n loss"') == 3  # the whole call, addmm and arange
    assert "1 more operators" not in words(READY)
    assert "1 more operator: 0.04 ms on Tessera, 0.02 ms on PyTorch in all" in words(READY)
    # Bars are to one scale, that of the slowest.
    assert 'class="bar ours" style="width:100.00%"' in html
    assert 'class="bar torch" style="width:12.00%"' in html


def test_not_ready_names_reasons_first_faults_and_vendor_operators() -> None:
    reason = "error 3.00e-05 is 30.00 times PyTorch's, 2 is the limit"
    faults = [layer(f"encoder.layer.{index}.dense", ratio=30.0, reason=reason) for index in range(7)]
    result = replace(
        READY,
        accuracy=LayerCheck(layers=(layer("embeddings"), *faults)),
        operators=Operators(calls=101, ours=95, vendor=(VendorCalls(name="gelu", calls=6, reason="no such type"),)),
        reasons=("7 of 8 layers are outside the accuracy rule",),
        notes=("3 tensors are not used",),
    )
    text = words(result)
    assert "Not ready 7 of 8 layers are outside the accuracy rule 3 tensors are not used accuracy 1/8" in text
    assert "95/101 operator calls on Tessera’s kernels, the rest on PyTorch’s" in text
    assert "Outside the rule: the first 5" in text
    assert re.search(r"gelu 6 no such type", text)
    html = render(result)
    # Five, and all seven in the table of all layers.
    assert html.count('<tr class="bad">') == 12
    assert html.count('<circle class="wrong"') == 7


def test_ready_with_operators_on_the_vendor_says_how_many() -> None:
    operators = Operators(calls=101, ours=95, vendor=(VendorCalls(name="gelu", calls=6, reason="no such type"),))
    assert "with 95 of 101 operator calls on Tessera’s kernels" in words(replace(READY, operators=operators))


def test_a_run_that_failed_leaves_sections_out() -> None:
    result = replace(
        READY,
        accuracy=LayerCheck(layers=(), candidate_error="RuntimeError: no"),
        operators=None,
        speed=None,
        search=None,
        reasons=("the run on our kernels failed: RuntimeError: no",),
    )
    text = words(result)
    assert "did not reach any layer" in text
    for absent in ("Speed", "Operators on", "A question answered", "0/0"):
        assert absent not in text


def test_other_ranks_show() -> None:
    found = (FOUND[0], replace(FOUND[1], torch_rank=3))
    search = Search(answers=(Answer(query="How?", found=found, agrees=False),), cosine=0.9)
    text = words(replace(READY, search=search))
    assert "How? the rankings differ" in text
    assert "2 (3) Rain fell." in text
    assert "0/1 queries ranked as by PyTorch" in text


def test_without_reference_it_says_what_errors_mean() -> None:
    assert "There is no float64 reference here" in words(replace(READY, accuracy=check_of(1, reference_error="none")))


def test_names_cannot_bring_markup() -> None:
    evil = "<script>alert(1)</script>"
    result = replace(
        READY,
        model=evil,
        inputs=evil,
        command=evil,
        accuracy=LayerCheck(layers=(layer(evil, ratio=9.0, reason=evil),)),
        operators=Operators(calls=2, ours=1, vendor=(VendorCalls(name=evil, calls=1, reason=evil),)),
        notes=(evil,),
    )
    html = render(result)
    assert evil not in html
    assert html.count("<script>") == 1


def test_infinite_errors_are_drawn_on_the_upper_edge() -> None:
    layers = [layer("a"), layer("b", ratio=math.inf, reason="not finite")]
    drawing = layer_plot(layers, "float32").render("plot")
    height = float(re.findall(r'<circle class="wrong" cx="[\d.]+%" cy="([\d.]+)"', drawing)[0])
    assert height == min(float(y) for y in re.findall(r'<circle[^>]* cy="([\d.]+)"', drawing))
    assert "nan" not in drawing
    assert "some cannot be measured at all" in words(replace(READY, accuracy=LayerCheck(layers=tuple(layers))))


def labels(num_blocks: int) -> tuple[list[str], list[str]]:
    """The labels of blocks that a desktop shows, and those that a phone shows."""
    drawing = layer_plot(check_of(num_blocks).layers, "float32").render("plot")
    found = re.findall(r'<text class="(tick[ fine]*)"[^>]*text-anchor="middle">([^<]*)<', drawing)
    return [text for _, text in found], [text for style, text in found if style == "tick"]


def test_blocks_are_labelled_as_densely_as_there_is_room() -> None:
    assert labels(6) == (["layer 0", "1", "2", "3", "4", "5"],) * 2
    wide, narrow = labels(64)
    assert wide[0] == narrow[0] == "layer 0"
    assert [int(text) for text in wide[1:]] == list(range(4, 64, 4))
    assert set(narrow) < set(wide)
    assert len(narrow) < 10
    assert labels(0) == ([], [])


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([3e-7, 2e-6, 0.0, math.inf], [-7, -6]), ([1e-9, 1.0], list(range(-9, 1, 2))), ([], list(range(-8, 1, 2)))],
)
def test_scale_shows_every_value_and_has_ticks_to_read(values: list[float], ticks: list[int]) -> None:
    scale = LogScale.around(values, 200.0, 0.0)
    assert scale.ticks == ticks
    assert scale(0.0) == 200.0
    assert scale(math.inf) == 0.0
    for value in values:
        if 0 < value < math.inf:
            assert 0 < scale(value) < 200
