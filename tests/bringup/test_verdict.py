"""What makes a model not ready, and what does not."""

from __future__ import annotations

import pytest

from tessera.accuracy.judge import Judgement
from tessera.accuracy.layers import LayerCheck, LayerResult
from tessera.accuracy.result import CheckResult, Verdict
from tessera.bringup.result import Answer, Operators, Search, Speed, VendorCalls
from tessera.bringup.verdict import reasons_against


def layer(ok: bool) -> LayerResult:
    judged = Judgement(
        error=1e-6, torch_error=1e-7, ratio=10, peak=0, torch_peak=0, peak_ratio=0, ok=ok, reason="" if ok else "off"
    )
    return LayerResult(name="norm", kind="LayerNorm", shape=(1,), judgement=judged)


GOOD = LayerCheck(layers=(layer(True),))
OPERATORS = Operators(calls=2, ours=1, vendor=(VendorCalls(name="mm", calls=1, reason="no kernel of ours"),))


def search(*, cosine: float = 1.0, agrees: bool = True) -> Search:
    return Search(answers=(Answer(query="why?", found=(), agrees=agrees),), cosine=cosine)


def test_ready_also_with_vendor_operators() -> None:
    assert reasons_against(GOOD, None, OPERATORS, search(), "float32") == ()


@pytest.mark.parametrize(
    ("accuracy", "operators", "found", "said"),
    [
        (
            LayerCheck(layers=(layer(True), layer(False))),
            OPERATORS,
            None,
            "1 of 2 layers are outside the accuracy rule, first norm (LayerNorm): off",
        ),
        (LayerCheck(layers=(), candidate_error="X: y"), None, None, "the run on our kernels failed: X: y"),
        (GOOD, Operators(calls=2, ours=0), None, "no operator call ran on our kernels"),
        (GOOD, OPERATORS, search(agrees=False), "the ranking for 'why?' is not PyTorch's"),
        (GOOD, OPERATORS, search(cosine=0.9998), "an embedding has cosine 0.999800 to PyTorch's; 0.9999 is the least"),
        (GOOD, OPERATORS, search(cosine=float("nan")), "an embedding has cosine nan to PyTorch's"),
    ],
)
def test_reasons(accuracy: LayerCheck, operators: Operators | None, found: Search | None, said: str) -> None:
    (reason,) = reasons_against(accuracy, None, operators, found, "float32")
    assert reason.startswith(said)


def test_the_cosine_is_a_rule_for_float32_only() -> None:
    assert reasons_against(GOOD, None, OPERATORS, search(cosine=0.9998), "bfloat16") == ()


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.2, "faster than PyTorch"), (1.0, "as fast as PyTorch"), (0.4, "slower than PyTorch")]
)
def test_speed_in_words(ratio: float, words: str) -> None:
    assert Speed(vendor_ms=1, ours_ms=1, ratio=ratio, first_ms=1, rounds=3).words == words


@pytest.mark.parametrize("verdict", ["wrong", "non-finite", "suspicious", "layout", "clean"])
def test_an_operator_that_is_wrong_on_its_own_inputs_is_a_reason_and_a_suspicion_is_none(verdict: Verdict) -> None:
    checked = CheckResult(verdict=verdict, reason="aten.gelu in mlp (model.py:3): scale; twice what it should be")
    reasons = reasons_against(GOOD, checked, OPERATORS, search(), "float32")
    if verdict in ("wrong", "non-finite"):
        assert reasons == (f"an operator is {verdict} on its own inputs: {checked.reason}",)
    else:
        assert reasons == ()
