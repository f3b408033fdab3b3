"""What `tessera check` does: from its words and options to a call of the layer check, and its files."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from torch import nn

from tessera.accuracy.call import Call
from tessera.accuracy.capture.store import read_dump
from tessera.accuracy.check import OWN_PROGRAM, View, check
from tessera.accuracy.dumps import Tensors, compare, dump
from tessera.accuracy.losses import compare_losses, read_losses
from tessera.accuracy.ranks.place import OWN
from tessera.accuracy.report.curves import render_losses
from tessera.accuracy.report.page import render
from tessera.accuracy.result import CheckResult
from tessera.accuracy.script import write_script
from tessera.accuracy.terminal import print_check, print_losses
from tessera.bringup.config import BringupConfig
from tessera.bringup.files import check_writable, write_atomically
from tessera.bringup.models.resolve import resolve
from tessera.core.errors import UsageError, unknown_name

Context = Callable[[], AbstractContextManager[object]]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_TENSORS = ("none", "slices", "whole")
_VIEWS = ("both", "isolated")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, as given."""

    words: tuple[str, ...]
    reference: str = "native"
    candidate: str = "tessera"
    backward: bool = False
    steps: int = 0
    dtype: str = "float32"
    batch: int = 2
    tokens: int = 32
    budget: str = "2GiB"
    tensors: str = "none"
    view: str = "both"
    seeds: int = 0
    script: Path | None = None
    report: Path | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.tensors not in _TENSORS:
            raise unknown_name("choice of tensors", self.tensors, _TENSORS)
        if self.view not in _VIEWS:
            raise unknown_name("view", self.view, _VIEWS)


def run_check(options: Options, console: Console) -> bool:
    """Do what the words say; returns whether the candidate is clean."""
    for path, what in ((options.json, "JSON"), (options.report, "report"), (options.script, "script")):
        check_writable(path, what)
    first, *rest = options.words
    if first == "dump":
        if len(rest) != 2:
            raise UsageError(
                f"dump takes a model and a folder, got {len(rest)} words; write tessera check dump MODEL FOLDER"
            )
        return _dump(rest[0], Path(rest[1]), options, console)
    if first == "compare":
        if len(rest) != 2:
            raise UsageError(
                f"compare takes two folders, got {len(rest)}; write tessera check compare CANDIDATE REFERENCE"
            )
        return _show(compare(Path(rest[0]), Path(rest[1])), options, console)
    if first == "losses":
        return _losses(rest, options, console)
    if rest:
        raise UsageError(f"unexpected {rest[0]!r} after the model; write tessera check MODEL")
    return _show(_check(first, options), options, console)


def _losses(names: list[str], options: Options, console: Console) -> bool:
    if len(names) < 2:
        raise UsageError(
            f"losses takes two curves or more, got {len(names)}; write tessera check losses CANDIDATE REFERENCE, and "
            "behind them runs of the reference with other roundings"
        )
    candidate, reference, *spread = (read_losses(Path(name)) for name in names)
    verdict = compare_losses(candidate, reference, spread)
    written = _written(options, lambda command: render_losses(verdict, command), verdict.to_json)
    print_losses(verdict, console, written)
    return verdict.ok


def _written(options: Options, page: Callable[[str], str], json: Callable[[], str]) -> list[Path]:
    """Write the page and the JSON that were asked for; where they are."""
    written = []
    if options.report is not None:
        write_atomically(options.report, page(" ".join(options.words)))
        written.append(options.report)
    if options.json is not None:
        write_atomically(options.json, json())
        written.append(options.json)
    return written


def _check(name: str, options: Options) -> CheckResult:
    if Path(options.candidate).is_dir() and Path(options.reference).is_dir():
        raise UsageError("candidate and reference are both dumps; write tessera check compare CANDIDATE REFERENCE")
    if Path(options.candidate).is_dir():
        return _check_dump(name, options)
    model, call = _load(name, options)
    made = _candidate(model, call, options)
    reference: nn.Module | Path | None = model
    if options.reference.startswith("python:"):
        reference = _load(options.reference, options)[0]
    elif options.reference not in OWN_PROGRAM:
        reference = _folder(options.reference)
    elif made.model is model:
        reference = None
    return check(
        made.model,
        made.call,
        reference=reference,
        backward=options.backward,
        steps=options.steps,
        context=made.context,
        native=made.native,
        view=cast(View, options.view),
        seeds=options.seeds,
    )


def _check_dump(name: str, options: Options) -> CheckResult:
    """The candidate's run is on disk; the reference's is made now, beside nothing else."""
    model, call = _load(name, options)
    dtype = getattr(torch, read_dump(Path(options.candidate)).facts.get(f"dtype {OWN}", ""), None)
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        model, call = model.to(dtype), call.cast(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference"
        dump(model, call, path, backward=options.backward, steps=options.steps, tensors="whole")
        return compare(Path(options.candidate), path)


def _folder(name: str) -> Path:
    if not Path(name).exists() and not Path(name + ".partial").exists():
        raise UsageError(
            f"reference {name!r} is neither native nor a dump; give native, python:module:function or a folder"
        )
    return Path(name)


def _load(name: str, options: Options) -> tuple[nn.Module, Call]:
    config = BringupConfig(model=name, dtype=options.dtype, batch=options.batch, tokens=options.tokens, report=None)
    subject = resolve(config)
    return subject.model, subject.call


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    model: nn.Module
    call: Call
    context: Context = nullcontext
    native: Context = nullcontext


def _candidate(model: nn.Module, call: Call, options: Options) -> _Candidate:
    """The model as the option asks: on our kernels, in another type, on another device, or another model."""
    name = options.candidate
    if name == "tessera":
        from tessera.aten.switch import paused, use

        return _Candidate(model=model, call=call, context=partial(use, "always"), native=paused)
    if name in _TYPES:
        return _Candidate(model=copy.deepcopy(model).to(_TYPES[name]), call=call.cast(_TYPES[name]))
    if name.startswith("python:"):
        return _Candidate(model=_load(name, options)[0], call=call)
    return _on_device(model, call, name)


def _on_device(model: nn.Module, call: Call, name: str) -> _Candidate:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        known = ("tessera", *_TYPES, "python:module:function", "a dump", "a device of this machine")
        raise UsageError(f"candidate {name!r} cannot be used here; known: {', '.join(known)}") from error
    return _Candidate(model=copy.deepcopy(model).to(device), call=call.to(device))


def _dump(name: str, folder: Path, options: Options, console: Console) -> bool:
    model, call = _load(name, options)
    made = _candidate(model, call, options)
    left_out = dump(
        made.model,
        made.call,
        folder,
        backward=options.backward,
        steps=options.steps,
        budget=_bytes(options.budget),
        tensors=cast(Tensors, options.tensors),
        context=made.context,
        native=made.native,
    )
    console.print(f"wrote {folder}" + (f"; {left_out}" if left_out else ""), markup=False, highlight=False)
    return True


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|)", text)
    if match is None:
        raise UsageError(f"budget {text!r} is no size; write a number and KiB, MiB or GiB, for example 2GiB")
    return int(float(match[1]) * _UNITS[match[2]])


def _show(result: CheckResult, options: Options, console: Console) -> bool:
    written = []
    if options.script is not None and result.culprit is not None and result.exhibit is not None:
        write_script(options.script, result.culprit, result.exhibit)
        result = replace(result, culprit=replace(result.culprit, script=str(options.script)))
        written += [options.script, options.script.with_suffix(".safetensors")]
    written += _written(options, lambda command: render(result, command), result.to_json)
    print_check(result, console, written)
    return result.ok
