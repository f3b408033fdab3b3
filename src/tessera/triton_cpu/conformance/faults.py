"""Why a test failed, in one line, and whether something that is installed is too old for it, or is missing.

Works on exceptions alone: no test is known by name here.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

NEWER = "needs a newer Triton front end"

_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument|too many positional|takes .* positional argument")
# The front end's functions that turn an option's word into its enumerator; no back end has a say in them.
_WORD_READER = re.compile(r"_str_to_\w+")
_LOCATION = re.compile(r"^\S+\.py:\d+:\d+: ")
_MAX_REASON = 200


def reason_of(error: BaseException) -> str:
    """The innermost cause as `Type: first line`, without its place in the source."""
    cause = _innermost(error)
    text = str(getattr(cause, "error_message", None) or cause)
    line = _LOCATION.sub("", next((line.strip() for line in text.splitlines() if line.strip()), ""))
    name = type(cause).__name__
    return f"{name}: {line}"[:_MAX_REASON] if line else name


def _innermost(error: BaseException) -> BaseException:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


def missing_package(error: BaseException) -> str | None:
    """What must be installed for the test to run at all, if it could not import that; None if it did not fail so."""
    cause = _innermost(error)
    name = (getattr(cause, "name", None) or "").partition(".")[0]
    if not isinstance(cause, ModuleNotFoundError) or not name or importlib.util.find_spec(name) is not None:
        return None
    return f"needs {name}, which is not installed"


def missing_in_triton(error: BaseException) -> str | None:
    """What the installed Triton's front end lacks, if that is why the test failed; None if it is not."""
    for cause in _chain(error):
        if _is_missing(cause):
            return f"{NEWER}: {str(cause).splitlines()[0]}"
    return None


def _is_missing(cause: BaseException) -> bool:
    if isinstance(cause, TypeError):
        return bool(_UNKNOWN_ARGUMENT.search(str(cause))) and _raised_by_triton(cause) is not None
    if isinstance(cause, AttributeError):
        return _is_of_triton(cause.obj)
    if isinstance(cause, ImportError):
        return (cause.name or "").partition(".")[0] == "triton"
    if isinstance(cause, ValueError):
        function = _raised_by_triton(cause)
        return function is not None and _WORD_READER.fullmatch(function) is not None
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, then what it was raised from or while handling, to the first.

    Also through `raise … from None`: Triton's front end hides the cause of its errors so.
    """
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _is_of_triton(owner: object) -> bool:
    name = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__module__
    return name.partition(".")[0] == "triton"


def _raised_by_triton(error: BaseException) -> str | None:
    """The function of Triton's that raised it, itself or by calling `inspect`; None if the raiser is another's.

    Triton cuts the frames of its code generator out of a traceback; what has no other frames was raised there.
    """
    frames = [frame for frame in _frames(error) if frame.f_code.co_filename != inspect.__file__]
    if not frames:
        return "code_generator"
    inside = _triton_folder() in Path(frames[-1].f_code.co_filename).parents
    return frames[-1].f_code.co_name if inside else None


def _frames(error: BaseException) -> list[FrameType]:
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _triton_folder() -> Path:
    import triton

    return Path(triton.__file__).parent
