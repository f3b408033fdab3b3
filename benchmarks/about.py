"""What a page says of its measurement: the command, the machine, the versions, the day, and how busy others kept it."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from benchmarks.turns import Effort

# More than this of the machine taken by others, and ratios on all of its cores are not to be trusted.
MOST_BUSY_PERCENT = 10.0
_PACKAGES = ("torch", "triton", "llvmlite", "transformers")


def about(command: str, threads: Sequence[int], effort: Effort) -> dict[str, Any]:
    """Takes a second, in which it looks how busy the machine is. No names of machines or folders."""
    import psutil

    import tessera
    from tessera.core.chips import detect_cpu

    device = detect_cpu()
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": {
            "model": device.model,
            "chip": device.chip.name,
            "cores": device.num_units,
            "memory_gib": round(device.memory_bytes / 2**30, 1),
            "system": platform.system(),
            "busy_percent": psutil.cpu_percent(interval=1.0),
        },
        "versions": {
            "tessera": tessera.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "threads": list(threads),
        "rounds": effort.rounds,
        "seconds": effort.seconds,
    }
