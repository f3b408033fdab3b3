"""The conformance program: what it runs, how it judges, and that no sample can end it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.core.errors import UsageError
from tessera.ops.conformance import __main__ as program
from tessera.ops.conformance import judge, samples, session, worker
from tessera.ops.conformance.result import ERRORS, Case, CaseResult, totals
from tessera.ops.conformance.samples import Sample


def test_the_tenth_is_fixed_and_a_tenth() -> None:
    whole, tenth = samples.cases(), samples.cases(tenth=True)
    assert tenth == samples.cases(tenth=True)
    assert {str(case) for case in tenth} < {str(case) for case in whole}
    assert all(case.most for case in tenth) and not any(case.most for case in whole)
    assert 0.08 < len(tenth) / len(whole) < 0.12


@pytest.mark.parametrize(
    ("only", "dtypes", "message"),
    [(("addd",), (), r"--only addd: .* near it: add"), ((), ("float33",), r"--dtype float33: .* near it: float")],
)
def test_names_that_are_not_there_are_named(only: tuple[str, ...], dtypes: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        samples.cases(only, dtypes)


def test_a_case_has_the_call_in_place_into_given_memory_and_in_other_layouts() -> None:
    labels = {sample.label.partition(" ")[2] for sample in samples.samples(Case("exp", "float32"))}
    assert {"", "non-contiguous", "in place", "out=", "expanded", "transposed", "empty"} <= labels


@pytest.fixture(scope="module")
def results() -> list[CaseResult]:
    cases = samples.cases(("neg", "scatter_add", "masked_scatter"), ("int32", ERRORS))
    return session.run(cases, tell=lambda result: None)


def test_samples_pass_on_our_kernels(results: list[CaseResult]) -> None:
    assert [text for result in results for text in result.failures] == []
    found = totals(results)
    assert found.passed == found.samples > 50
    ours = {result.case.entry: result.ours for result in results if result.case.dtype != ERRORS}
    assert ours["neg"] > 0 and ours["scatter_add"] > 0


def test_what_the_vendor_runs_is_told_with_the_reason(results: list[CaseResult]) -> None:
    told = {text for result in results for text in result.vendor}
    assert "masked_scatter: operands that do not fit" in told


def trial_of(monkeypatch: pytest.MonkeyPatch, change: Any) -> str:
    """The verdict on `torch.add` when the entry's result is put through `change`."""
    monkeypatch.setattr(judge, "VARIANTS", {"aten::mul.Tensor": None})
    calls: list[str] = []

    def call(x: torch.Tensor) -> torch.Tensor:
        calls.append("")
        y = x * 2.0
        return change(y) if len(calls) in (2, 3, 4) else y

    trial = judge.expect(Sample("0", call, (torch.randn(80),), {}))
    with judge.served():
        judge.run_ours(trial)
    judge.add_reference(trial)
    return trial.verdict(0.0)


def test_wrong_values_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial_of(monkeypatch, lambda y: y) == ""
    assert "(limit" in trial_of(monkeypatch, lambda y: y + torch.eye(80)[3])
    assert "not finite" in trial_of(monkeypatch, lambda y: y / 0)


def test_wrong_types_shapes_and_strides_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "float64" in trial_of(monkeypatch, lambda y: y.double())
    assert "[79]" in trial_of(monkeypatch, lambda y: y[1:])
    assert "strides" in trial_of(monkeypatch, lambda y: torch.stack([y, y], 1)[:, 0])


def test_whole_numbers_are_judged_by_what_they_are_in_float64() -> None:
    numbers = torch.arange(1, 9, dtype=torch.uint8)
    exact = judge.exact_results_of(Sample("0", torch.log, (numbers,), {}), ((numbers,), {}))
    assert torch.equal(exact.tensors[0], numbers.double().log())
    assert torch.get_default_dtype() is torch.float32


def verdict_on(entry: str, dtype: str, label: str) -> str:
    case = Case(entry=entry, dtype=dtype, most=0)
    trial = judge.expect(next(sample for sample in samples.samples(case) if sample.label == label))
    with judge.served():
        judge.run_ours(trial)
    judge.add_reference(trial)
    return trial.verdict(0.0)


def test_what_pytorch_does_otherwise_while_calls_are_seen_is_no_fault_of_ours() -> None:
    """Under a mode `out=` is left unwritten, and a gradient is not refused."""
    assert verdict_on("linalg.matrix_rank", "float32", "0 out=") == ""
    assert verdict_on("linalg.eig", "float32", "0") == ""


def test_float64_that_cancels_is_judged_by_the_roundings_in_between() -> None:
    assert verdict_on("signal.windows.nuttall", "float64", "4") == ""


def raising(y: torch.Tensor) -> torch.Tensor:
    raise KeyError("planted")


def test_an_exception_of_another_type_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial_of(monkeypatch, raising) == "raises KeyError('planted') where PyTorch raises none"


def test_a_sample_that_ends_its_process_is_a_failure_of_that_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake_worker.py"
    fake.write_text(
        "import json, os, signal, sys\n"
        "for line in sys.stdin:\n"
        "    order = json.loads(line)\n"
        "    print(json.dumps({'at': 4, 'who': 'ours'}), flush=True)\n"
        "    if '4' not in order['skip']:\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    print(json.dumps({'result': {'case': order['case'], 'failures': [order['skip']['4']]}}), flush=True)\n"
    )
    monkeypatch.setattr(session, "COMMAND", [sys.executable, str(fake)])
    [result] = session.run([Case("add", "float32")], tell=lambda result: None)
    assert result.failures == ["ours crashed: SIGSEGV"]


def test_a_worker_gives_way_to_another_after_so_many_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    case = json.loads(line)['case']\n"
        "    print(json.dumps({'result': {'case': case, 'failures': [str(os.getpid())]}}), flush=True)\n"
    )
    monkeypatch.setattr(session, "COMMAND", [sys.executable, str(fake)])
    monkeypatch.setattr(session, "MOST_CASES", 2)
    cases = [Case("add", dtype) for dtype in ("float64", "float32", "float16", "bfloat16", "int64")]
    served = [result.failures[0] for result in session.run(cases, tell=lambda result: None)]
    assert [served.count(worker) for worker in dict.fromkeys(served)] == [2, 2, 1]


def test_a_run_goes_on_from_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = tmp_path / "kept.jsonl"
    case = Case("add", "float32")
    keep.write_text(json.dumps(CaseResult(case=case, passed=3, ours=3).as_dict()) + "\n")
    monkeypatch.setattr(session, "COMMAND", ["/nowhere"])
    [result] = session.run([case], keep=keep, tell=lambda result: None)
    assert (result.passed, result.ours) == (3, 3)
    keep.write_text("{}\n")
    with pytest.raises(UsageError, match=r"kept.jsonl:1 is not a result of this program"):
        session.run([case], keep=keep, tell=lambda result: None)


def test_crashes_of_pytorch_itself_are_not_held_against_ours() -> None:
    result = CaseResult(case=Case("tril", "float32"))
    sample = Sample("7 out=", torch.tril, (), {})
    worker._count_ended(result, sample, "PyTorch crashed: SIGSEGV")
    worker._count_ended(result, sample, "ours crashed: SIGSEGV")
    assert (result.unreached, result.failures) == (1, ["7 out=: ours crashed: SIGSEGV"])


def test_sparse_results_are_measured_as_dense_ones() -> None:
    result = worker.run_case(Case("sparse.sampled_addmm", "float32"), {}, sys.stderr)
    assert result.passed and not result.failures


def test_the_program_writes_its_page_and_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    monkeypatch.setattr(sys, "argv", ["conformance", "--only", "neg", "--dtype", "int32", "--markdown", str(page),
                                      "--json", str(data)])  # fmt: skip
    with pytest.raises(SystemExit) as ending:
        program.main()
    assert ending.value.code == 0
    assert "| neg | 1 |" in page.read_text()
    assert json.loads(data.read_text())["totals"]["failed"] == 0
    monkeypatch.setattr(sys, "argv", ["conformance", "--json", str(tmp_path / "none" / "data.json")])
    with pytest.raises(SystemExit) as ending:
        program.main()
    assert ending.value.code == 2
