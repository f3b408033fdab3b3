"""Which launches are too brief to be shared, as LLVM IR text; `pool_ir` builds on it.

In:  how long launches of a kernel over so many programs took, in ticks of the processor's counter.
Out: whether the next such launch is to run on its caller's thread alone.

To hand work to another thread and to wait for it takes about half a microsecond even where that thread is awake. A
launch whose programs take less in all is faster alone, and what it takes is known from the last time: a table in the
pool has one word a kernel and grid, `tag | ticks`. A launch that took longer than was remembered is believed at once, a
shorter one by and by, so that a kernel whose work depends on its data is shared unless it was brief many times running.
Two launches at once may overwrite each other's word; either is a true observation. A tag that is not found, and a
machine without a counter, mean that the launch is shared.
"""

from __future__ import annotations

from tessera.runtime import host_ir

SLOTS = 64
"""Words in the table; a power of two."""

TICK_BITS = 24
"""How many bits of a word count ticks: more than anything brief takes."""

# Odd, with bits all over: the fractional part of the golden ratio (Knuth, The Art of Computer Programming, 6.4).
_SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)


def module_text(ticks: str) -> str:
    """What the pool's module needs; `ticks` is the instruction that sets `%now`."""
    words = {
        "ticks": ticks, "spread": _SPREAD, "index_shift": 64 - (SLOTS.bit_length() - 1), "mask": (1 << TICK_BITS) - 1,
    }  # fmt: skip
    return host_ir.filled(_MODULE, words)


_MODULE = """
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)

; The processor's counter, or 0 where there is none.
define internal i64 @ticks() {
  <ticks>
  ret i64 %now
}

; What stands for a kernel over so many programs.
define internal i64 @launch_hash(ptr %fn, i64 %programs) {
  %address = ptrtoint ptr %fn to i64
  %first = mul i64 %programs, <spread>
  %both = add i64 %first, %address
  %high = lshr i64 %both, 29
  %mixed = xor i64 %both, %high
  %hash = mul i64 %mixed, <spread>
  ret i64 %hash
}

; Where the table has what is remembered for %hash.
define internal i64 @slot(i64 %hash) {
  %index = lshr i64 %hash, <index_shift>
  ret i64 %index
}

; The ticks remembered for %hash, or the most there can be.
define internal i64 @remembered(ptr %table, i64 %hash) {
  %index = call i64 @slot(i64 %hash)
  %slot = getelementptr i64, ptr %table, i64 %index
  %word = load atomic i64, ptr %slot monotonic, align 8
  %difference = xor i64 %word, %hash
  %known = icmp ule i64 %difference, <mask>                ; the same tag
  %ticks = and i64 %word, <mask>
  %answer = select i1 %known, i64 %ticks, i64 <mask>
  ret i64 %answer
}

; Remember that the launch of %hash took %taken, where %before was remembered: a quarter less than that at least.
define internal void @remember(ptr %table, i64 %hash, i64 %before, i64 %taken) {
  %quarter = lshr i64 %before, 2
  %faded = sub i64 %before, %quarter
  %unknown = icmp eq i64 %before, <mask>
  %least = select i1 %unknown, i64 0, i64 %faded
  %larger = call i64 @llvm.umax.i64(i64 %taken, i64 %least)
  %below = sub i64 <mask>, 1
  %ticks = call i64 @llvm.umin.i64(i64 %larger, i64 %below)
  %low = and i64 %hash, <mask>
  %tag = sub i64 %hash, %low
  %word = or i64 %tag, %ticks
  %index = call i64 @slot(i64 %hash)
  %slot = getelementptr i64, ptr %table, i64 %index
  store atomic i64 %word, ptr %slot monotonic, align 8
  ret void
}
"""
