"""What a page says of its measurement: the command, the machine, the versions, the day, and how busy others kept it."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from tessera import __version__
from tessera.bench.turns import Effort
from tessera.core.chips import detect_cpu
from tessera.core.timing import busy_percent

_PACKAGES = ("torch", "triton", "llvmlite", "transformers")


def about(command: str, threads: Sequence[int], effort: Effort) -> dict[str, Any]:
    """Takes a second, in which it looks how busy the machine is. No names of machines or folders."""
    device = detect_cpu()
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": {
            "model": device.title,
            "chip": device.chip.name,
            "cores": device.num_units,
            "memory_gib": round(device.memory_bytes / 2**30, 1),
            "system": platform.system(),
            "busy_percent": busy_percent(),
        },
        "versions": {
            "tessera": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES if find_spec(name)},
        },
        "threads": list(threads),
        "rounds": effort.rounds,
        "most_rounds": max(effort.rounds, effort.most_rounds),
        "seconds": effort.seconds,
    }
