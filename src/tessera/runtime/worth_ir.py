"""Which short launches are worth sharing as things are just now, as LLVM IR text; `pool_ir` builds on it.

In:  the pool: who sleeps, when the last launch ended, what the last shared ones lost; what a launch takes alone.
Out: whether a launch is shared, and how many of the next short ones are not: for those that take hardly longer than
     brief ones, which sharing may cost as much as it saves, kernel by kernel.

How long a launch takes alone `brief_ir` remembers; this is about what sharing costs beside that: waking threads that
sleep, and waiting for threads whose processors other programs want too.
"""

from __future__ import annotations

from tessera.runtime import host_ir

DENSE = 4
"""How many short launches come one soon after the other before they wake a worker."""

ALONE = 16, 4096
"""How many short launches run alone after one that lost much time to others, at the fewest and at the most."""

CHECKED = 16
"""How many shared launches that are nearly brief come to one that runs alone; a power of two."""


def module_text() -> str:
    """What the pool's module needs."""
    alone = {"fewest_alone": ALONE[0], "most_alone": ALONE[1]}
    return host_ir.filled(_MODULE, {"dense": DENSE, "checked": CHECKED - 1, **alone})


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
  %ended.at = getelementptr %Pool, ptr %pool, i64 0, i32 31
  %soon.at = getelementptr %Pool, ptr %pool, i64 0, i32 32
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

; Whether a launch is nearly brief: what sharing it may save is no more than what sharing may cost.
define internal i1 @nearly_brief(ptr %pool, i64 %before) {
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %brief = load i64, ptr %brief.at
  %some = shl i64 %brief, 3
  %few = icmp ult i64 %before, %some
  ret i1 %few
}

; The care for launches of %hash that took %before: nearly brief ones have each their own.
define internal ptr @care(ptr %pool, i64 %hash, i64 %before) {
  %few = call i1 @nearly_brief(ptr %pool, i64 %before)
  %slot = call i64 @slot(i64 %hash)
  %own = getelementptr %Pool, ptr %pool, i64 0, i32 36, i64 %slot
  %common = getelementptr %Pool, ptr %pool, i64 0, i32 29
  %care = select i1 %few, ptr %own, ptr %common
  ret ptr %care
}

; Whether a launch of %hash that took %before the last time is one of those that run alone after a loss; it is counted
; then.
define internal i1 @to_spare(ptr %pool, i64 %hash, i64 %before) {
entry:
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %brief = load i64, ptr %brief.at
  %long = call i64 @long(i64 %brief)
  %short = icmp ult i64 %before, %long
  %spared.at = call ptr @care(ptr %pool, i64 %hash, i64 %before)
  %spared = load i64, ptr %spared.at
  %any = icmp ne i64 %spared, 0
  %spare = and i1 %short, %any
  br i1 %spare, label %count, label %leave
count:
  %left = sub i64 %spared, 1
  store i64 %left, ptr %spared.at
  br label %leave
leave:
  ret i1 %spare
}

; Whether a launch that would be shared, and took %before the last time, is to run alone to see what it takes, as some
; of the nearly brief ones are. While it is shared that is told by the thread that claims most of its programs, one by
; one: it seems longer than it is.
define internal i1 @to_check(ptr %pool, i64 %before) {
entry:
  %few = call i1 @nearly_brief(ptr %pool, i64 %before)
  br i1 %few, label %count, label %certain
count:
  %shared.at = getelementptr %Pool, ptr %pool, i64 0, i32 33
  %shared = load i64, ptr %shared.at
  %more = add i64 %shared, 1
  store i64 %more, ptr %shared.at
  %low = and i64 %more, <checked>
  %due = icmp eq i64 %low, 0
  ret i1 %due
certain:
  ret i1 false
}

; A shared launch took %elapsed; alone it would take %alone, and %before was remembered. After a loss the next launches
; run alone, of its kernel if it is nearly brief, twice as many after each further one, half as many after each that
; went well. A nearly brief launch loses where it took longer than alone: its threads have to be woken, or are slow to
; come. Other short ones lose where other programs want the processors too: a thread that has to come first may be kept
; waiting for a time slice, by far longer than a short launch takes alone.
define internal void @heed_loss(ptr %pool, i64 %hash, i64 %before, i64 %alone, i64 %elapsed) {
entry:
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %brief = load i64, ptr %brief.at
  %long = call i64 @long(i64 %brief)
  %few = call i1 @nearly_brief(ptr %pool, i64 %before)
  %taken = select i1 %few, i64 %before, i64 %alone
  %least = select i1 %few, i64 0, i64 %long
  %short = icmp ult i64 %taken, %long
  br i1 %short, label %short.one, label %leave
short.one:
  %spared.at = call ptr @care(ptr %pool, i64 %hash, i64 %taken)
  %last.at = getelementptr %Care, ptr %spared.at, i64 0, i32 1
  %last = load i64, ptr %last.at
  %lost = sub i64 %elapsed, %taken
  %much = icmp sgt i64 %lost, %least
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
