"""Tests of `compiler`."""
