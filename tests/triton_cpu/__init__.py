"""Tests of `triton_cpu`."""
