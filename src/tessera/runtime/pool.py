"""Run a grid of one kernel."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from tessera.core.errors import UsageError
from tessera.runtime.arguments import PackedArgs

_PROTOTYPE = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32
)


@functools.cache
def _function(address: int) -> Any:
    return _PROTOTYPE(address)


def launch(address: int, packed: PackedArgs, grid_x: int, grid_y: int, grid_z: int) -> None:
    if grid_x < 0 or grid_y < 0 or grid_z < 0:
        raise UsageError(f"the grid is ({grid_x}, {grid_y}, {grid_z}); every dimension must be 0 or more")
    count = grid_x * grid_y * grid_z
    if count:
        _function(address)(packed, 0, count, grid_x, grid_y, grid_z)
