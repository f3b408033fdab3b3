"""The process that runs samples, so that none of them can end the run.

In:  lines of JSON on stdin: {"case", "skip"}, `skip` being the numbers of samples that ended a process
     before, with what happened.
Out: lines of JSON on stdout: {"at": number of a sample, "who": whose kernels start}, and at the end of a case
     {"result": …}.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from typing import Any, TextIO

import torch

from tessera.ops.conformance import judge, samples
from tessera.ops.conformance.result import Case, CaseResult
from tessera.ops.conformance.samples import Sample


def run_case(case: Case, skip: dict[int, str], tell: TextIO) -> CaseResult:
    """Run and judge every sample of a case but those in `skip`, which failed by ending their process."""
    started = time.process_time()
    result = CaseResult(case=case)

    def at(number: int, who: str) -> None:
        print(json.dumps({"at": number, "who": who}), file=tell, flush=True)

    trials = {}
    for number, sample in enumerate(samples.chosen(case)):
        if number in skip:
            _count_ended(result, sample, skip[number])
            continue
        at(number, "PyTorch")
        trials[number] = judge.expect(sample)
    with judge.served():  # once for all samples, because switching registers every operator
        for number, trial in trials.items():
            at(number, "ours")
            judge.run_ours(trial)
    for number, trial in trials.items():
        at(number, "PyTorch")
        if trial.reached:
            judge.add_reference(trial)
    _count_all(result, list(trials.values()))
    result.cpu_seconds = time.process_time() - started
    return result


def _count_all(result: CaseResult, trials: list[judge.Trial]) -> None:
    reached = [trial for trial in trials if trial.reached]
    result.unreached += len(trials) - len(reached)
    noise = max((trial.torch_error() for trial in reached), default=0.0)
    for trial in reached:
        _count(result, trial, noise)


def _count_ended(result: CaseResult, sample: Sample, why: str) -> None:
    """A sample that ended its process; where PyTorch's own kernels did it, there is nothing to hold ours against.

    An exception of this program, which has a status and no signal, is nobody's kernel.
    """
    if why.startswith(("PyTorch crashed", "PyTorch took")):
        result.unreached += 1
    else:
        result.failures.append(f"{sample.label}: {why}")


def _count(result: CaseResult, trial: judge.Trial, noise: float) -> None:
    fault = trial.verdict(noise)
    if fault:
        result.failures.append(f"{trial.sample.label}: {fault}")
    else:
        result.passed += 1
    reasons = [(name, why) for name, calls in trial.record.calls.items() for why in calls.reasons]
    if trial.theirs.error is not None:
        result.raising += 1
        return
    result.ours += not reasons
    for name, why in reasons:
        key = f"{name}: {why}"
        result.vendor[key] = result.vendor.get(key, 0) + 1


def main() -> None:
    """Serve cases until stdin ends. What samples print goes to stderr: stdout is the protocol."""
    tell = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        skip = {int(number): why for number, why in order["skip"].items()}
        result = run_case(Case(**order["case"]), skip, tell)
        print(json.dumps({"result": result.as_dict()}), file=tell, flush=True)


if __name__ == "__main__":
    main()
