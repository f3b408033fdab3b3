"""How an entry says that a call is not one of ours."""

from __future__ import annotations


class Declined(Exception):
    """Raised by an entry before it has written anything; the caller runs the vendor's kernel and records the reason.

    `reason` is a phrase without values of the data, so that equal reasons can be counted together.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
