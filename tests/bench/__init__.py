"""Tests of `tessera.bench`."""
