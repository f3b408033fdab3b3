"""Tessera: one AI software stack for every chip."""

__version__ = "0.1.0"
