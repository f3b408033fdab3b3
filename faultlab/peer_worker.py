"""The part of the comparison with msprobe that runs under the interpreter that has msprobe.

`python -m faultlab.peer_worker FAULTS CLEAN FOLDER` writes one JSON line a case to standard output. Each dump and each
comparison has a process of its own, forked when everything is imported: msprobe keeps one debugger a process.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import random
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from faultlab.cases import Case, clean, faulty
from tessera.accuracy.call import Call

_SEED = 17
_LIMIT_S = 120
# The settings of msprobe's own example for finding an operator: operators and modules, with their tensors.
_CONFIG = {"task": "tensor", "rank": [], "step": [], "level": "mix", "tensor": {"data_mode": ["all"]}}


def peer_cases(num_faults: int, num_clean: int) -> list[Case]:
    """A fixed random sample of the lab's forward cases in float32 and bfloat16."""

    def fits(case: Case) -> bool:
        return not case.backward and case.dtype != "int8"

    faults = random.Random(_SEED).sample([case for case in faulty() if fits(case)], num_faults)
    return faults + [case for case in clean(10 * num_clean) if fits(case)][:num_clean]


def main() -> None:
    """Run all cases."""
    torch.set_num_threads(1)
    folder, lines = Path(sys.argv[3]), sys.stdout
    with redirect_stdout(sys.stderr):
        for number, case in enumerate(peer_cases(int(sys.argv[1]), int(sys.argv[2]))):
            place = folder / str(number)
            place.mkdir(parents=True)
            failure = _run(case, place)
            row = {"failure": failure} if failure else _read(place)
            print(json.dumps({"number": number, **row}), file=lines, flush=True)


def _run(case: Case, place: Path) -> str:
    """Two dumps and the comparison; returns what failed."""
    for which in ("golden", "target"):
        failure = _apart(_dump, case, place, which)
        if failure:
            return f"{which}: {failure}"
    return _apart(_compare, place)


def _apart(work: Any, *given: Any) -> str:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_answer, args=(answers, work, *given))
    process.start()
    process.join(_LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return f"not done after {_LIMIT_S} s"
    return str(answers.get()) if not answers.empty() else f"ended with status {process.exitcode}"


def _answer(answers: Any, work: Any, *given: Any) -> None:
    try:
        work(*given)
    except (Exception, SystemExit) as error:  # A foreign tool may end in any way, and that is the result.
        if not isinstance(error, SystemExit) or error.code:
            answers.put(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return
    answers.put("")


def _dump(case: Case, place: Path, which: str) -> None:
    from msprobe.pytorch import PrecisionDebugger

    prepared = case.prepare()
    right = prepared.reference if prepared.reference is not None else prepared.candidate
    model = right if which == "golden" else prepared.candidate
    context = nullcontext() if which == "golden" else prepared.context()
    config = place / f"{which}.json"
    config.write_text(json.dumps({**_CONFIG, "dump_path": str(place / which)}), encoding="utf-8")
    debugger = PrecisionDebugger(config_path=str(config))
    with torch.no_grad():
        with context:
            # As in the lab's own check, so that what a model keeps from one call to the next is there.
            Call.of(prepared.inputs).rolled().run(model)
            debugger.start(model=model)
            model(*prepared.inputs)
            debugger.stop()
        debugger.step()


def _compare(place: Path) -> None:
    from msprobe.msprobe import main as msprobe

    step = [str(next((place / which).glob("step*"))) for which in ("target", "golden")]
    sys.argv = ["msprobe", "compare", "-tp", step[0], "-gp", step[1], "-o", str(place / "out")]
    msprobe()


def _read(place: Path) -> dict[str, Any]:
    """Counts of its results, and the first row that did not pass, with the module that it belongs to."""
    table = next((place / "out").glob("*.csv"))
    with table.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    parents = json.loads(next((place / "target").glob("step*/*/construct.json")).read_text())
    results: dict[str, int] = {}
    for row in rows:
        results[row["Result"]] = results.get(row["Result"], 0) + 1
    bad = [row for row in rows if row["Result"] != "pass"]
    errors = [row for row in rows if row["Result"] == "error"]
    return {
        "results": results,
        "first": first_of(bad, parents),
        "first error": first_of(errors, parents),
    }


def first_of(rows: list[dict[str, str]], parents: dict[str, str | None]) -> dict[str, str] | None:
    """The first row, and the dotted name of the module that it belongs to. parents: of each call, as msprobe tells."""
    if not rows:
        return None
    name = rows[0]["NPU Name"] if rows[0]["NPU Name"] != "N/A" else rows[0]["Bench Name"]
    call = name.split(".output")[0].split(".input")[0].split(".parameters")[0]
    owner = call if call.startswith("Module.") else parents.get(call) or ""
    # `Module.blocks.0.norm1.Norm.forward.0`: the class and the number of the call come last.
    module = ".".join(owner.removeprefix("Module.").split(".forward")[0].split(".")[:-1])
    return {"name": name, "module": module, "result": rows[0]["Result"]}


if __name__ == "__main__":
    main()
