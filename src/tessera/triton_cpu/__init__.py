"""The plug-in that Triton finds under the entry point `triton.backends`: `cpu`.

In:  Triton's calls (`compiler.CPUBackend`, `driver.CPUDriver`).
Out: compiled kernels that Triton's own launcher runs on CPU tensors.
May import: core, compiler, runtime.
Start reading: `compiler.py`.
"""

from __future__ import annotations

# Triton imports our modules as it is imported itself, and looks for heirs of its classes there: none may be half made.
import triton  # noqa: F401
