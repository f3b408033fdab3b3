"""The table of instruction sets. Adding one is adding a row."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from tessera.core import env
from tessera.core.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Target:
    """One instruction set as the compiler sees it.

    `vector_bits` is the width of a register, `registers` how many there are, `tile` the rows and columns (in vectors)
    of the matrix micro-kernel's accumulators, powers of two as the sides of blocks are. `features` are LLVM's,
    `requires` those of them that the host must have, `without` the beginnings of those that are left out although a
    host may have them. `permute` is LLVM's intrinsic that picks among 16 floats of a register by the low bits of 16
    indices. `strides`: one instruction reads or writes lanes a step apart.
    """

    name: str
    triple: str
    cpu: str
    vector_bits: int
    registers: int
    tile: tuple[int, int]
    requires: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    features: tuple[str, ...] = field(default=())
    permute: str = ""
    strides: bool = False

    @property
    def lanes(self) -> int:
        """32-bit elements in a register."""
        return self.vector_bits // 32

    @property
    def loaded_bits(self) -> int:
        """Of a load from memory that is not in the nearest caches."""
        return min(self.vector_bits, _LOADED_BITS.get(_core(), self.vector_bits))

    def has(self, feature: str) -> bool:
        """Does the machine that kernels are compiled for have one of LLVM's features, beyond what the row requires?"""
        return feature in host_features(self) or feature in self.features


_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "fma", "avx2", "bmi2", "f16c")
_AVX2 = ("avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "popcnt")

ROWS: tuple[Target, ...] = (
    Target(name="x86-64-avx512", triple="x86_64-unknown-linux-gnu", cpu="x86-64-v4", vector_bits=512, registers=32,
           tile=(8, 2), requires=_AVX512, permute="llvm.x86.avx512.permvar.sf.512"),
    Target(name="x86-64-avx2", triple="x86_64-unknown-linux-gnu", cpu="x86-64-v3", vector_bits=256, registers=16,
           tile=(4, 2), requires=_AVX2, without=("avx512", "avx10", "amx", "evex")),
    Target(name="aarch64-neon", triple="aarch64-unknown-linux-gnu", cpu="generic", vector_bits=128, registers=32,
           tile=(4, 4), requires=("neon",)),
    Target(name="riscv64-rvv", triple="riscv64-unknown-linux-gnu", cpu="generic-rv64", vector_bits=256, registers=16,
           tile=(4, 2), requires=("v",), features=("v", "m", "a", "f", "d", "c", "zvl256b"), strides=True),
    Target(name="loongarch64-lasx", triple="loongarch64-unknown-linux-gnu", cpu="la464", vector_bits=256, registers=32,
           tile=(8, 2), requires=("lasx",), features=("lasx", "lsx", "f", "d")),
)  # fmt: skip

_BY_NAME = {row.name: row for row in ROWS}

# What a core is slow at although its instruction set has it, by LLVM's name of the core, in LLVM's words. Zen 4 takes a
# gather apart into more steps than loads of its elements are: without, gathers and interpolations take 0.6 to 0.9 of
# the time.
_TUNING = {"znver4": ("prefer-no-gather", "prefer-no-scatter")}

# Bits of a load, where that is less than a register's. Zen 4 reads what lies beyond its second cache in 0.8 to 0.95 of
# the time by halves of a register.
_LOADED_BITS = {"znver4": 256}


def by_name(name: str) -> Target:
    """The row of a name.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    if name not in _BY_NAME:
        raise unknown_name("compiler target", name, list(_BY_NAME))
    return _BY_NAME[name]


@functools.lru_cache(maxsize=1)
def _host_features() -> frozenset[str]:
    import llvmlite.binding as llvm

    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


@functools.lru_cache(maxsize=1)
def _core() -> str:
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_name())


@functools.cache
def host_features(target: Target) -> tuple[str, ...]:
    """What this machine offers that the row does not leave out, if it is the row's machine: LLVM may use all of it.

    With what LLVM should know of the machine's core.
    """
    features = _host_features()
    if not set(target.requires) <= features:
        return ()
    return (*sorted(name for name in features if not name.startswith(target.without)), *_TUNING.get(_core(), ()))


@functools.lru_cache(maxsize=1)
def _detected() -> Target:
    import platform

    machine = {"amd64": "x86-64", "x86_64": "x86-64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine()
    )
    for row in ROWS:
        if row.name.startswith(machine) and set(row.requires) <= _host_features():
            return row
    raise unknown_name("processor", f"{machine} with {', '.join(sorted(_host_features()))}", list(_BY_NAME))


def host() -> Target:
    """The widest row that this machine can run, or the one that TESSERA_TARGET names."""
    asked = env.TARGET.read()
    if asked and asked not in _BY_NAME:
        raise unknown_name(f"compiler target, given by {env.TARGET.name},", asked, list(_BY_NAME))
    return by_name(asked) if asked else _detected()
