"""Tests of `aten`."""
