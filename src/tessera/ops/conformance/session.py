"""Runs cases in worker processes; a sample that ends its process is a failure of that sample.

In:  cases, the seconds that a sample may take, how many processes, and a file that results are kept in, so that a run
     can go on.
Out: the results, in the order of the cases.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from tessera.core.errors import UsageError
from tessera.ops.conformance.result import Case, CaseResult

Progress = Callable[[CaseResult], None]
COMMAND = [sys.executable, "-m", "tessera.ops.conformance.worker"]
# So many cases leave kernels and plans of some GB in a process; then another takes over.
MOST_CASES = 400


@dataclass
class Worker:
    """One worker process, started when first needed and again after it has ended or has run `MOST_CASES`."""

    timeout_s: float
    process: subprocess.Popen[bytes] | None = None
    num_cases: int = 0
    unread: bytes = b""
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def run(self, case: Case) -> CaseResult:
        """The result of a case. Samples that end the process or take too long are skipped in the next attempt."""
        if self.num_cases == MOST_CASES:
            self.close()
        self.num_cases += 1
        skip: dict[int, str] = {}
        while True:
            found = self._attempt(case, skip)
            if found is not None:
                return found

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process, self.unread, self.num_cases = None, b"", 0

    def _attempt(self, case: Case, skip: dict[int, str]) -> CaseResult | None:
        process = self._started()
        assert process.stdin is not None
        order = {"case": asdict(case), "skip": skip}
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        at, who = -1, ""
        while True:
            line, why = self._line()
            if line is None:
                self.close()
                if at < 0 or at in skip:
                    return CaseResult(case=case, failures=[f"{why}, outside its samples"])
                skip[at] = f"{who} {why}"
                return None
            if "result" in line:
                return CaseResult.from_dict(line["result"])
            at, who = line["at"], line["who"]

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            self.errors.truncate(0)
            self.process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
            )
        return self.process

    def _line(self) -> tuple[dict[str, Any] | None, str]:
        """The worker's next line; None and what happened where there is none."""
        assert self.process is not None and self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if not select.select([pipe], [], [], self.timeout_s)[0]:
                return None, f"took more than {self.timeout_s:g} s"
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                return None, self._ending(self.process.wait())
            self.unread += chunk
        first, _, self.unread = self.unread.partition(b"\n")
        line: dict[str, Any] = json.loads(first)
        return line, ""

    def _ending(self, status: int) -> str:
        if status < 0:
            return f"crashed: {signal.Signals(-status).name}"
        self.errors.seek(0)
        last = (self.errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        return f"ended its process with status {status}: {last[:200]}"


@dataclass
class Kept:
    """Results of an earlier run, kept a line each; what is in the file is not run again."""

    path: Path | None
    found: dict[Case, CaseResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                result = CaseResult.from_dict(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(
                    f"{self.path}:{number} is not a result of this program ({error}); name another file or delete it"
                ) from error
            self.found[result.case] = result

    def add(self, result: CaseResult) -> None:
        self.found[result.case] = result
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result.as_dict()) + "\n")


def run(
    cases: list[Case], *, timeout_s: float = 120.0, keep: Path | None = None, jobs: int = 1, tell: Progress
) -> list[CaseResult]:
    """Run every case that `keep` does not hold yet, in so many processes; `tell` hears of each result."""
    kept, lock = Kept(keep), threading.Lock()
    waiting = iter([case for case in cases if case not in kept.found])
    for case in cases:
        if case in kept.found:
            tell(kept.found[case])

    def work() -> None:
        worker = Worker(timeout_s)
        try:
            while True:
                with lock:
                    case = next(waiting, None)
                if case is None:
                    return
                result = worker.run(case)
                with lock:
                    kept.add(result)
                    tell(result)
        finally:
            worker.close()

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    return [kept.found[case] for case in cases]
