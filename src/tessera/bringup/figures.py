"""How figures are written, in the terminal and in the report alike. Numbers do not part from their units."""

from __future__ import annotations

from tessera.bringup.result import BringupResult

_SPACE = "\N{NO-BREAK SPACE}"


def ms(value: float) -> str:
    """A time given in milliseconds with three digits, in seconds, milliseconds or microseconds."""
    if value >= 10_000:
        return f"{value / 1e3:.1f}{_SPACE}s"
    if value < 0.01:
        return f"{1e3 * value:.1f}{_SPACE}µs"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{_SPACE}ms"


def model_facts(result: BringupResult) -> list[str]:
    """What was run, in short pieces: class, size, type, inputs."""
    return [result.kind, _parameters(result.num_parameters), result.dtype, result.inputs]


def _parameters(num: int) -> str:
    unit, name = next((row for row in ((10**9, " G"), (10**6, " M"), (10**3, " k")) if num >= row[0]), (1, ""))
    return f"{num / unit:.{1 if name else 0}f}{name} parameters".replace(" ", _SPACE)


def threads(num: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{num}{_SPACE}thread{'s' if num > 1 else ''}"
