"""What the native halves use of the process that they run in, by names that the linker resolves.

In:  names of objects of Python's and PyTorch's, and of functions that PyTorch exports.
Out: `symbols`, the words for them in LLVM IR text; `filled`, which puts words in their places; `module_text`, which
     declares them.

With addresses in its instructions, machine code would hold for one process only; with symbols it is kept on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_PREFIX = "host."


def symbols(names: Iterable[str]) -> dict[str, str]:
    """The symbol for each name, as LLVM IR has it."""
    return {name: f"@{symbol(name)}" for name in names}


def symbol(name: str) -> str:
    """The symbol for a name, as the linker has it."""
    return _PREFIX + name


OBJECTS = symbols((
    "none", "true", "false", "type_none", "type_bool", "type_int", "type_float", "type_list", "type_str", "type_tuple",
    "type_tensor", "type_parameter", "type_dtype", "type_layout", "type_format", "get_default_dtype",
    "get_num_threads", "empty", "name_cdata", "name_is_neg", "name_is_conj",
))  # fmt: skip
"""Objects that live as long as the process."""


def filled(text: str, words: Mapping[str, object]) -> str:
    """`text` with what each `<word>` stands for."""
    for word, value in words.items():
        text = text.replace(f"<{word}>", str(value))
    return text


def module_text(names: Iterable[str]) -> str:
    """What declares the symbols for `names`."""
    return "".join(f"@{symbol(name)} = external global i8\n" for name in names)
