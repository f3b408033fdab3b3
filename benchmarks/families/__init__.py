"""Families of kernels: each file offers `KERNELS`, from a kernel's name to how its rivals are made."""
