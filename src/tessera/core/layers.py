"""The one rule of the architecture: which folder may import which. Data flows down; nothing imports upwards.

The key is a folder (or a file) directly under the package, the value all it may import of ours besides itself. A folder
inside a folder that needs more than it, a program that checks it from above, has a row of its own.
"""

from __future__ import annotations

MAY_IMPORT: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "ir": frozenset({"core"}),
    "compiler": frozenset({"core", "ir"}),
    "runtime": frozenset({"core"}),
    "triton_cpu": frozenset({"core", "compiler", "runtime"}),
    "ops": frozenset({"core"}),
    "ops.conformance": frozenset({"core", "ops", "aten", "accuracy"}),
    "aten": frozenset({"core", "ops", "runtime"}),
    "bench": frozenset({"core", "ops", "aten"}),
    "accuracy": frozenset({"core"}),
    "bringup": frozenset({"core", "aten", "accuracy"}),
    "cli": frozenset(
        {
            "core",
            "ir",
            "compiler",
            "runtime",
            "triton_cpu",
            "ops",
            "aten",
            "bench",
            "accuracy",
            "bringup",
            "check_command",
            "bench_command",
        },
    ),
    "bench_command": frozenset({"core", "aten", "bench"}),
    "check_command": frozenset({"core", "aten", "accuracy", "bringup"}),
    # The front of the package: `tessera.capture`, `tessera.check`, `tessera.enable`, `tessera.disable`,
    # `tessera.explain_choice`, `tessera.use`.
    "__init__": frozenset({"core", "aten", "accuracy"}),
}

# Lines that open the docstring of every folder's `__init__.py`, in this order.
OPENING_LINES = ("In:", "Out:", "May import:", "Start reading:")
