"""Which short launches are worth sharing as things are just now, as LLVM IR text; `pool_ir` builds on it.

In:  the pool: who sleeps, when the last launch ended, what the last shared ones lost; what a launch takes alone.
Out: whether a launch is shared, and how many of the next short ones are not.

How long a launch takes alone `brief_ir` remembers; this is about what sharing costs beside that: waking threads that
sleep, and waiting for threads whose processors other programs want too.
"""

from __future__ import annotations

from tessera.runtime import host_ir

DENSE = 4
"""How many short launches come one soon after the other before they wake a worker."""

ALONE = 16, 4096
"""How many short launches run alone after one that lost much time to others, at the fewest and at the most."""


def module_text() -> str:
    """What the pool's module needs."""
    return host_ir.filled(_MODULE, {"dense": DENSE, "fewest_alone": ALONE[0], "most_alone": ALONE[1]})


_MODULE = """
; The ticks from which on a launch is no short one, which is shared whatever it lost: some hundred brief ones.
define internal i64 @long(i64 %brief) {
  %long = shl i64 %brief, 9
  ret i64 %long
}

; Whether a launch at %start that took %before the last time is to be shared as far as its workers' sleep goes, unless
; it runs on threads that %team lends. To wake them takes the caller some ten microseconds, and them as many more to
; come: short launches do without, unless several came one soon after the other, so that workers that were woken will be
; looking for the next.
define internal i1 @worth_waking(ptr %pool, i64 %before, i64 %start, ptr %team) {
entry:
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %ended.at = getelementptr %Pool, ptr %pool, i64 0, i32 32
  %soon.at = getelementptr %Pool, ptr %pool, i64 0, i32 33
  %sleepers.at = getelementptr %Pool, ptr %pool, i64 0, i32 15
  %brief = load i64, ptr %brief.at
  %near = shl i64 %brief, 5
  %sleepers = load atomic i32, ptr %sleepers.at monotonic, align 4
  %own = icmp eq ptr %team, null
  %asleep = icmp ne i32 %sleepers, 0
  %short = icmp ult i64 %before, %near
  %some = and i1 %own, %asleep
  %doubtful = and i1 %some, %short
  br i1 %doubtful, label %count, label %worth
count:
  %ended = load i64, ptr %ended.at
  %gap = sub i64 %start, %ended
  %follows = icmp ult i64 %gap, %near
  %soon = load i64, ptr %soon.at
  %more = add i64 %soon, 1
  %now = select i1 %follows, i64 %more, i64 0
  store i64 %now, ptr %soon.at
  %dense = icmp uge i64 %now, <dense>
  br i1 %dense, label %worth, label %not.worth
worth:
  ret i1 true
not.worth:
  ret i1 false
}

; Where other programs want the processors too, a thread that has to come first may be kept waiting for a time slice, by
; far longer than a short launch takes alone. After such a loss the next short launches run alone, twice as many after
; each further one, half as many after each that went well.
define internal void @heed_loss(ptr %pool, i64 %alone, i64 %elapsed) {
entry:
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %spared.at = getelementptr %Pool, ptr %pool, i64 0, i32 29
  %last.at = getelementptr %Pool, ptr %pool, i64 0, i32 30
  %brief = load i64, ptr %brief.at
  %long = call i64 @long(i64 %brief)
  %short = icmp ult i64 %alone, %long
  br i1 %short, label %short.one, label %leave
short.one:
  %lost = sub i64 %elapsed, %alone
  %much = icmp sgt i64 %lost, %long
  %last = load i64, ptr %last.at
  br i1 %much, label %loss, label %gain
loss:
  %twice = shl i64 %last, 1
  %some = call i64 @llvm.smax.i64(i64 %twice, i64 <fewest_alone>)
  %next = call i64 @llvm.smin.i64(i64 %some, i64 <most_alone>)
  store i64 %next, ptr %spared.at
  store i64 %next, ptr %last.at
  br label %leave
gain:
  %half = lshr i64 %last, 1
  store i64 %half, ptr %last.at
  br label %leave
leave:
  ret void
}
"""
