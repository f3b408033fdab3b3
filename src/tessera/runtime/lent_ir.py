"""Whose threads a launch runs on, the pool's own or PyTorch's, as LLVM IR text; `pool_ir` builds on it.

In:  what lends threads (`tessera_borrow`), and whether always or only while they are awake.
Out: `lender`: the function that lends the threads for a launch, or null where it runs on the pool's own.

PyTorch's threads look for work for milliseconds after each operator. While they do, a second pool on the same
processors is kept from working and keeps PyTorch's from it; once they sleep, or another program takes their processor,
the pool's own are better: no launch waits for a thread of those that did not come. So the clock of one of PyTorch's
threads is looked at now and then: has it run for most of the time, launches run on PyTorch's threads until a look finds
that it has not. Launches keep these threads awake themselves, so every other second they run on the pool's own until
the next look, which tells whether PyTorch does so without them.

Each thread that launches has threads of PyTorch's of its own; only those of the first one, or of another after it has
launched nothing for a second, are made use of. The first launch finds out which they are.
"""

from __future__ import annotations

from tessera.runtime import host_ir

_LOOK, _SECOND = 6, 11
"""How many "long" launches (a millisecond) are from look to look, and in what is called a second, as powers of two.

Schedulers give a processor that two programs want to each for some milliseconds, and PyTorch's threads look for work
for up to ten: between two looks there is more time than that.
"""


def module_text(triple: str) -> str:
    """What the pool's module needs."""
    # Clocks of threads are as Linux has them; elsewhere nobody knows whether PyTorch's are awake.
    clocks = _LINUX if "linux" in triple else _ELSEWHERE
    return clocks + host_ir.filled(_MODULE, {"look": _LOOK, "second": _SECOND})


_LINUX = """
declare i64 @pthread_self()
declare i32 @pthread_getcpuclockid(i64, ptr)
declare i32 @clock_gettime(i32, ptr)

define internal i32 @own_clock() {
  %slot = alloca i32
  %self = call i64 @pthread_self()
  %failed = call i32 @pthread_getcpuclockid(i64 %self, ptr %slot)
  %clock = load i32, ptr %slot
  %ok = icmp eq i32 %failed, 0
  %found = select i1 %ok, i32 %clock, i32 -1
  ret i32 %found
}
"""

_ELSEWHERE = """
define internal i64 @pthread_self() {
  ret i64 0
}

define internal i32 @clock_gettime(i32 %clock, ptr %to) {
  ret i32 -1
}

define internal i32 @own_clock() {
  ret i32 -1
}
"""

_MODULE = """
@team = internal global ptr null
@team.always = internal global i32 0
@caller = internal global i64 0         ; the thread whose threads of PyTorch's are watched
@caller.seen = internal global i64 0    ; ticks of its last launch
@watched = internal global i32 0        ; the clock of one of these; 0: not known yet, -1: there is none
@watched.next = internal global i64 0   ; ticks from which on it is looked at again
@watched.ran = internal global i64 0    ; what it showed then, and what the clock on the wall, in ns
@watched.wall = internal global i64 0
@awake = internal global i32 0
@awake.until = internal global i64 0    ; ticks from which on launches cannot tell any more that it is not they who wake

; From now on launches run on the threads that %team lends, a function as PyTorch's `torch_parallel_for`: it calls a
; function with parts of a range and a pointer; %always, or while these are awake. null: on the pool's own.
define void @tessera_borrow(ptr %team, i32 %always) {
  store atomic i32 %always, ptr @team.always monotonic, align 4
  store atomic i32 0, ptr @watched monotonic, align 4
  store atomic ptr %team, ptr @team monotonic, align 8
  ret void
}

define internal i64 @a_second(ptr %pool) {
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %brief = load i64, ptr %brief.at
  %long = call i64 @long(i64 %brief)
  %second = shl i64 %long, <second>
  ret i64 %second
}

; What a clock shows, in nanoseconds; -1 where its thread has ended.
define internal i64 @shown(i32 %clock) {
  %time = alloca { i64, i64 }
  %failed = call i32 @clock_gettime(i32 %clock, ptr %time)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %none, label %some
none:
  ret i64 -1
some:
  %nanoseconds.at = getelementptr { i64, i64 }, ptr %time, i64 0, i32 1
  %seconds = load i64, ptr %time
  %nanoseconds = load i64, ptr %nanoseconds.at
  %whole = mul i64 %seconds, 1000000000
  %all = add i64 %whole, %nanoseconds
  ret i64 %all
}

; Look at the watched clock: whether it has run for three quarters of the time since the last look, or three eighths
; while launches ran on the pool's own threads, which are in its way; -1 where it has ended.
define internal i32 @look_at(ptr %pool, i32 %clock, i64 %now) {
entry:
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %brief = load i64, ptr %brief.at
  %long = call i64 @long(i64 %brief)
  %period = shl i64 %long, <look>
  %next = add i64 %now, %period
  store i64 %next, ptr @watched.next
  %ran = call i64 @shown(i32 %clock)
  %wall = call i64 @shown(i32 1)
  %ended = icmp slt i64 %ran, 0
  br i1 %ended, label %gone, label %compare
gone:
  ret i32 -1
compare:
  %ran.before = load i64, ptr @watched.ran
  %wall.before = load i64, ptr @watched.wall
  store i64 %ran, ptr @watched.ran
  store i64 %wall, ptr @watched.wall
  %run = sub i64 %ran, %ran.before
  %passed = sub i64 %wall, %wall.before
  %awake = load i32, ptr @awake
  %was = icmp ne i32 %awake, 0
  %parts = select i1 %was, i64 4, i64 8
  %scaled = mul i64 %run, %parts
  %three = mul i64 %passed, 3
  %most = icmp sge i64 %scaled, %three
  %result = zext i1 %most to i32
  ret i32 %result
}

; The outcome of a look: awake or not. Who has been for a second is taken not to be, and seen again at the next look.
define internal void @decide_from(ptr %pool, i32 %runs, i64 %now) {
entry:
  %before = load i32, ptr @awake
  %until = load i64, ptr @awake.until
  %expired = icmp sge i64 %now, %until
  %was = icmp ne i32 %before, 0
  %doubted = and i1 %was, %expired
  %next = select i1 %doubted, i32 0, i32 %runs
  store i32 %next, ptr @awake
  br i1 %was, label %exit, label %begin
begin:
  %second = call i64 @a_second(ptr %pool)
  %end = add i64 %now, %second
  store i64 %end, ptr @awake.until
  br label %exit
exit:
  ret void
}

; Called by each thread that is lent: where none is watched yet, this one is, unless it is the launch's own.
define internal void @be_watched(ptr %pool, i64 %now) {
entry:
  %watched = load atomic i32, ptr @watched monotonic, align 4
  %unknown = icmp eq i32 %watched, 0
  br i1 %unknown, label %whose, label %exit
whose:
  %self = call i64 @pthread_self()
  %caller = load atomic i64, ptr @caller monotonic, align 8
  %own = icmp eq i64 %self, %caller
  br i1 %own, label %exit, label %offer
offer:
  %clock = call i32 @own_clock()
  %swap = cmpxchg ptr @watched, i32 0, i32 %clock monotonic monotonic
  %won = extractvalue { i32, i1 } %swap, 1
  br i1 %won, label %begin, label %exit
begin:
  %first = call i32 @look_at(ptr %pool, i32 %clock, i64 %now)
  store i32 0, ptr @awake                                 ; the next look will tell
  br label %exit
exit:
  ret void
}

; After a launch on PyTorch's threads: where none but the launch's own came, there are none.
define internal void @nobody_watched() {
  %swap = cmpxchg ptr @watched, i32 0, i32 -1 monotonic monotonic
  ret void
}

; Who lends the threads for a launch that begins now, or null.
define internal ptr @lender(ptr %pool, i64 %now) {
entry:
  %team = load atomic ptr, ptr @team monotonic, align 8
  %none = icmp eq ptr %team, null
  br i1 %none, label %own, label %asked
asked:
  %always = load atomic i32, ptr @team.always monotonic, align 4
  %is.always = icmp ne i32 %always, 0
  br i1 %is.always, label %lent, label %whose
whose:
  %self = call i64 @pthread_self()
  %caller = load atomic i64, ptr @caller monotonic, align 8
  %same = icmp eq i64 %self, %caller
  br i1 %same, label %known, label %other
other:
  %second = call i64 @a_second(ptr %pool)
  %seen = load atomic i64, ptr @caller.seen monotonic, align 8
  %since = sub i64 %now, %seen
  %gone = icmp sgt i64 %since, %second
  br i1 %gone, label %adopt, label %own
adopt:
  store atomic i64 %self, ptr @caller monotonic, align 8
  store atomic i32 0, ptr @watched monotonic, align 4
  br label %known
known:
  store atomic i64 %now, ptr @caller.seen monotonic, align 8
  %clock = load atomic i32, ptr @watched monotonic, align 4
  %unknown = icmp eq i32 %clock, 0
  br i1 %unknown, label %lent, label %any
any:
  %without = icmp eq i32 %clock, -1
  br i1 %without, label %own, label %look
look:
  %next = load i64, ptr @watched.next
  %due = icmp sge i64 %now, %next
  br i1 %due, label %again, label %decide
again:
  %runs = call i32 @look_at(ptr %pool, i32 %clock, i64 %now)
  %ended = icmp slt i32 %runs, 0
  br i1 %ended, label %forget, label %note
forget:
  store atomic i32 0, ptr @watched monotonic, align 4
  br label %lent
note:
  call void @decide_from(ptr %pool, i32 %runs, i64 %now)
  br label %decide
decide:
  %awake = load i32, ptr @awake
  %is.awake = icmp ne i32 %awake, 0
  br i1 %is.awake, label %lent, label %own
lent:
  ret ptr %team
own:
  ret ptr null
}
"""
