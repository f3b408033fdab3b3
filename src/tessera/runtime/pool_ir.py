"""The native half of the pool, as LLVM IR text: what runs without the interpreter's lock.

In:  the host's triple.
Out: a module that exports `tessera_create`, `tessera_relax`, `tessera_work`, `tessera_launch` and `tessera_borrow`.

The *door* is one 64-bit word, `generation << 32 | seats << 16 | inside`, and all there is to agree on:

    launch:  write the job; door = (generation + 1, seats, 0); wake sleepers; claim chunks until none is left;
             seats = 0 (the door is closed); wait until inside == 0
    worker:  wait until generation is new and seats > 0; in one compare-and-swap seats -= 1, inside += 1;
             claim chunks until none is left; inside -= 1

So a worker reads the job only while the launch waits for it, a worker that comes late finds no seat and reads nothing,
and a launch never waits for a worker that did not come (`shares_ir` says what chunks are). Both sides spin for a
bounded time and then sleep on a condition variable. Whoever sleeps first announces it (`sleepers`, `waiting`) and then
looks again, whoever changes the door changes it first and then reads the announcement, all sequentially consistent: one
of the two sees the other, and no wake-up is lost.

A launch that is known to be brief (see `brief_ir`) opens no door, nor does a short one that would have to wake workers,
unless it is one of many (`worth_ir`). A second launch at the same time finds the pool busy
and runs alone on its own thread. Where somebody lends his threads (`lent_ir`), a launch opens no door either:
he has each of them claim chunks, and returns when all have. Short launches that lost a time slice by being shared are
followed by some that are not (`worth_ir`, too). Workers take over the caller's floating-point mode
(flush-to-zero, rounding), so that the result does not depend on who ran a program.

Some schedulers wake a worker on the processor of the thread that woke it and leave it there, beside an idle one: two
threads then take longer than one. A worker that finds itself on the launch's processor therefore moves away, and stays
away from that processor until the launch is met elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.runtime import brief_ir, lent_ir, shares_ir, worth_ir


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """What LLVM has no portable word for: the hint to a spinning core, a counter that all processors agree on, and the
    floating-point control register."""

    relax: str
    ticks: str
    read_mode: str
    write_mode: str


_NO_MODE = {"read_mode": "store i64 0, ptr %to", "write_mode": ""}

# Intrinsics, not inline assembly: LLVM parses assembly for the host only, and these compile for every machine here.
_MACHINES = {
    "x86_64": _Machine(
        relax="call void @llvm.x86.sse2.pause()",
        ticks="%now = call i64 @llvm.readcyclecounter()",
        read_mode="call void @llvm.x86.sse.stmxcsr(ptr %to)",
        write_mode="call void @llvm.x86.sse.ldmxcsr(ptr %from)",
    ),
    "aarch64": _Machine(
        relax="call void @llvm.aarch64.isb(i32 15)",  # the hint `yield` takes no time on most of these
        ticks="%now = call i64 @llvm.readsteadycounter()",  # the other one may be closed to programs
        read_mode="%mode = call i64 @llvm.aarch64.get.fpcr()\n  store i64 %mode, ptr %to",
        write_mode="%mode = load i64, ptr %from\n  call void @llvm.aarch64.set.fpcr(i64 %mode)",
    ),
}
_PLAIN = _Machine(relax="", ticks="%now = add i64 0, 0", **_NO_MODE)

# Where threads run is Linux's own interface; elsewhere nobody knows where he is, so nobody moves.
_LINUX = """declare i32 @sched_getcpu()
declare i32 @sched_setaffinity(i32, i64, ptr)"""
_ELSEWHERE = """define internal i32 @sched_getcpu() {
  ret i32 -1
}

define internal i32 @sched_setaffinity(i32 %thread, i64 %size, ptr %mask) {
  ret i32 0
}"""

MASK_BYTES = 128
"""Size of a set of processors, a bit each, as glibc has it."""

EXPORTS = ("tessera_create", "tessera_relax", "tessera_work", "tessera_launch", "tessera_borrow")


def module_text(triple: str) -> str:
    """The module for the machine and system of `triple`, for example `x86_64-unknown-linux-gnu`."""
    architecture = triple.split("-")[0]
    machine = _MACHINES.get("aarch64" if architecture.startswith("arm64") else architecture, _PLAIN)
    text = _MODULE.replace("<relax>", machine.relax).replace("<threads>", str(shares_ir.MAX_THREADS))
    text = text.replace("<places>", _LINUX if "linux" in triple else _ELSEWHERE)
    text = text.replace("<read_mode>", machine.read_mode).replace("<write_mode>", machine.write_mode)
    parts = (shares_ir.module_text(), brief_ir.module_text(machine.ticks), worth_ir.module_text())
    return "".join((text, *parts, lent_ir.module_text(triple)))


# Each part that different threads write has 128 bytes of its own: cores fetch lines of 64 bytes in pairs.
_MODULE = """
; A thread's part of a job: the next program to claim, and the end.
%Share = type { i64, i64, [14 x i64] }

; How many launches are to run alone: now, and after the last loss.
%Care = type { i64, i64 }

%Pool = type {
  i64, [15 x i64],                                        ;  0     the door
  ptr, ptr, i32, i32, i32, i32, i64, i64, i64, [8 x i64], ;  2-11  job: fn, args, x, y, z, cpu, programs, chunk, mode
  i64, ptr, [14 x i64],                                   ; 12     job: threads; the threads' shares
  i32, i32, i32, i32, i64, [13 x i64],                    ; 15-20  sleepers, waiting, busy, -, ticks of the first share
  i64, [15 x i64],                                        ; 21     how often to look before sleeping
  [16 x i64], [16 x i64], [16 x i64],                     ; 23-25  mutex, condition "work", condition "done"
  [128 x i8],                                             ; 26     the processors that workers may use
  i64, [15 x i64],                                        ; 27     ticks below which a launch is brief
  %Care, [14 x i64],                                      ; 29     of short launches
  i64, i64, i64, [13 x i64],                              ; 31-33  when the last launch ended; how many followed soon;
                                                          ;        how many nearly brief ones were shared
  [64 x i64],                                             ; 35     what is remembered of launches
  [64 x %Care]                                            ; 36     and of those that are nearly brief
}

declare i32 @posix_memalign(ptr, i64, i64)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
<places>

; A new pool without workers, or null where memory has run out. It is never freed: workers may outlive the interpreter.
define ptr @tessera_create(i64 %looks, i64 %brief, ptr %processors) {
  %slot = alloca ptr
  %size.ptr = getelementptr %Pool, ptr null, i64 1
  %size = ptrtoint ptr %size.ptr to i64
  %failed = call i32 @posix_memalign(ptr %slot, i64 128, i64 %size)
  %none = icmp ne i32 %failed, 0
  br i1 %none, label %out_of_memory, label %initialise
initialise:
  %pool = load ptr, ptr %slot
  call void @llvm.memset.p0.i64(ptr align 128 %pool, i8 0, i64 %size, i1 false)
  %shares.at = getelementptr %Pool, ptr %pool, i64 0, i32 13
  %shares.end = getelementptr %Share, ptr null, i64 <threads>
  %shares.size = ptrtoint ptr %shares.end to i64
  %without = call i32 @posix_memalign(ptr %shares.at, i64 128, i64 %shares.size)
  %no.shares = icmp ne i32 %without, 0
  br i1 %no.shares, label %out_of_memory, label %fill
fill:
  %looks.at = getelementptr %Pool, ptr %pool, i64 0, i32 21
  store i64 %looks, ptr %looks.at
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  store i64 %brief, ptr %brief.at
  %processors.at = getelementptr %Pool, ptr %pool, i64 0, i32 26
  call void @llvm.memcpy.p0.p0.i64(ptr %processors.at, ptr %processors, i64 128, i1 false)
  %mutex = getelementptr %Pool, ptr %pool, i64 0, i32 23
  %work = getelementptr %Pool, ptr %pool, i64 0, i32 24
  %done = getelementptr %Pool, ptr %pool, i64 0, i32 25
  %r0 = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %r1 = call i32 @pthread_cond_init(ptr %work, ptr null)
  %r2 = call i32 @pthread_cond_init(ptr %done, ptr null)
  ret ptr %pool
out_of_memory:
  ret ptr null
}

define internal void @relax() {
  <relax>
  ret void
}

define internal void @read_mode(ptr %to) {
  <read_mode>
  ret void
}

define internal void @write_mode(ptr %from) {
  <write_mode>
  ret void
}

; To measure how long one look takes: %count times what a spinning thread does. How many ticks went by.
define i64 @tessera_relax(i64 %count) {
entry:
  %before = call i64 @ticks()
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void @relax()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %exit
exit:
  %after = call i64 @ticks()
  %taken = sub i64 %after, %before
  ret i64 %taken
}

; Go in if the door shows a new generation and a free seat: the generation, or -1 if not.
define internal i64 @enter(ptr %pool, i64 %seen) {
  br label %look
look:
  %door = load atomic i64, ptr %pool seq_cst, align 8
  %generation = lshr i64 %door, 32
  %low = lshr i64 %door, 16
  %seats = and i64 %low, 65535
  %new = icmp ne i64 %generation, %seen
  %free = icmp ne i64 %seats, 0
  %open = and i1 %new, %free
  br i1 %open, label %try, label %no
try:
  %inside = sub i64 %door, 65535                          ; one seat (1 << 16) less, one inside more
  %swap = cmpxchg ptr %pool, i64 %door, i64 %inside seq_cst seq_cst
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %yes, label %look
yes:
  ret i64 %generation
no:
  ret i64 -1
}

; Leave the launch's processor to it, if this is it and there is another. Processors above 1023 stay where they are.
define internal void @step_aside(ptr %pool) {
  %cpu.at = getelementptr %Pool, ptr %pool, i64 0, i32 7
  %cpu = load i32, ptr %cpu.at
  %here = call i32 @sched_getcpu()
  %same = icmp eq i32 %cpu, %here
  %known = icmp ult i32 %here, 1024
  %beside = and i1 %same, %known
  br i1 %beside, label %move, label %exit
move:
  %mask = alloca [128 x i8], align 8
  %processors.at = getelementptr %Pool, ptr %pool, i64 0, i32 26
  call void @llvm.memcpy.p0.p0.i64(ptr %mask, ptr %processors.at, i64 128, i1 false)
  %index = lshr i32 %here, 3
  %byte.at = getelementptr i8, ptr %mask, i32 %index
  %position.32 = and i32 %here, 7
  %position = trunc i32 %position.32 to i8
  %bit = shl i8 1, %position
  %others = xor i8 %bit, -1
  %byte = load i8, ptr %byte.at
  %without = and i8 %byte, %others
  store i8 %without, ptr %byte.at
  %r0 = call i32 @sched_setaffinity(i32 0, i64 128, ptr %mask) ; an empty set is refused, and we stay
  br label %exit
exit:
  ret void
}

; What worker thread %number (from 1 on) does, for ever.
define void @tessera_work(ptr %pool, i64 %number) {
entry:
  %mode.at = getelementptr %Pool, ptr %pool, i64 0, i32 10
  %sleepers.at = getelementptr %Pool, ptr %pool, i64 0, i32 15
  %waiting.at = getelementptr %Pool, ptr %pool, i64 0, i32 16
  %looks.at = getelementptr %Pool, ptr %pool, i64 0, i32 21
  %mutex = getelementptr %Pool, ptr %pool, i64 0, i32 23
  %work = getelementptr %Pool, ptr %pool, i64 0, i32 24
  %done = getelementptr %Pool, ptr %pool, i64 0, i32 25
  %looks = load i64, ptr %looks.at
  br label %idle
idle:
  %seen = phi i64 [ -1, %entry ], [ %generation, %leave ], [ %generation, %wake_launch ]
  br label %spin
spin:
  %i = phi i64 [ 0, %idle ], [ %i.next, %again ]
  %spun = call i64 @enter(ptr %pool, i64 %seen)
  %spun.in = icmp sge i64 %spun, 0
  br i1 %spun.in, label %inside, label %again
again:
  call void @relax()
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %looks
  br i1 %more, label %spin, label %sleep
sleep:
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex)
  %r1 = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  br label %asleep
asleep:
  %slept = call i64 @enter(ptr %pool, i64 %seen)
  %slept.in = icmp sge i64 %slept, 0
  br i1 %slept.in, label %awake, label %wait
wait:
  %r2 = call i32 @pthread_cond_wait(ptr %work, ptr %mutex)
  br label %asleep
awake:
  %r3 = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  %r4 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %inside
inside:
  %generation = phi i64 [ %spun, %spin ], [ %slept, %awake ]
  call void @step_aside(ptr %pool)
  call void @write_mode(ptr %mode.at)
  call void @run(ptr %pool, i64 %number)
  %door = atomicrmw sub ptr %pool, i64 1 seq_cst
  br label %leave
leave:
  %inside.count = and i64 %door, 65535
  %last = icmp eq i64 %inside.count, 1
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %awaited = icmp ne i32 %waiting, 0
  %wake = and i1 %last, %awaited
  br i1 %wake, label %wake_launch, label %idle
wake_launch:
  %r5 = call i32 @pthread_mutex_lock(ptr %mutex)
  %r6 = call i32 @pthread_cond_signal(ptr %done)
  %r7 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %idle
}

; Wake as many sleepers as there are seats.
define internal void @wake_workers(ptr %pool, i64 %seats, i64 %sleepers) {
entry:
  %mutex = getelementptr %Pool, ptr %pool, i64 0, i32 23
  %work = getelementptr %Pool, ptr %pool, i64 0, i32 24
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex)
  %all = icmp sge i64 %seats, %sleepers
  br i1 %all, label %every, label %some
every:
  %r1 = call i32 @pthread_cond_broadcast(ptr %work)
  br label %exit
some:
  %i = phi i64 [ 0, %entry ], [ %next, %some ]
  %r2 = call i32 @pthread_cond_signal(ptr %work)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %seats
  br i1 %more, label %some, label %exit
exit:
  %r3 = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

; Wait until nobody is inside: a worker reads the job and runs its last chunk for as long as it is.
define internal void @wait_until_empty(ptr %pool) {
entry:
  %waiting.at = getelementptr %Pool, ptr %pool, i64 0, i32 16
  %looks.at = getelementptr %Pool, ptr %pool, i64 0, i32 21
  %mutex = getelementptr %Pool, ptr %pool, i64 0, i32 23
  %done = getelementptr %Pool, ptr %pool, i64 0, i32 25
  %looks = load i64, ptr %looks.at
  br label %spin
spin:
  %i = phi i64 [ 0, %entry ], [ %i.next, %again ]
  %door = load atomic i64, ptr %pool seq_cst, align 8
  %inside = and i64 %door, 65535
  %some = icmp ne i64 %inside, 0
  br i1 %some, label %again, label %exit
again:
  call void @relax()
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %looks
  br i1 %more, label %spin, label %sleep
sleep:
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  br label %asleep
asleep:
  %door.now = load atomic i64, ptr %pool seq_cst, align 8
  %inside.now = and i64 %door.now, 65535
  %some.now = icmp ne i64 %inside.now, 0
  br i1 %some.now, label %wait, label %awake
wait:
  %r1 = call i32 @pthread_cond_wait(ptr %done, ptr %mutex)
  br label %asleep
awake:
  store atomic i32 0, ptr %waiting.at seq_cst, align 4
  %r2 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %exit
exit:
  ret void
}

; What each thread does that is lent. Its floating-point mode stays what it was.
define internal void @take_part(i64 %begin, i64 %end, ptr %pool) {
  %before = alloca i64
  %mode.at = getelementptr %Pool, ptr %pool, i64 0, i32 10
  %start = call i64 @ticks()
  call void @be_watched(ptr %pool, i64 %start)
  call void @read_mode(ptr %before)
  call void @write_mode(ptr %mode.at)
  call void @run(ptr %pool, i64 %begin)
  call void @write_mode(ptr %before)
  %stop = call i64 @ticks()
  %taken = sub i64 %stop, %start
  %first = icmp eq i64 %begin, 0
  br i1 %first, label %tell, label %exit
tell:
  %part.at = getelementptr %Pool, ptr %pool, i64 0, i32 19
  store i64 %taken, ptr %part.at
  br label %exit
exit:
  ret void
}

; Run the grid on up to %threads threads, the caller's being one.
define void @tessera_launch(ptr %pool, ptr %fn, ptr %args, i32 %x, i32 %y, i32 %z, i32 %threads.32) {
entry:
  %x.64 = zext i32 %x to i64
  %y.64 = zext i32 %y to i64
  %z.64 = zext i32 %z to i64
  %xy = mul i64 %x.64, %y.64
  %programs = mul i64 %xy, %z.64
  %threads = zext i32 %threads.32 to i64
  %seats.wanted = sub i64 %threads, 1
  %others = sub i64 %programs, 1
  %seats = call i64 @llvm.smin.i64(i64 %seats.wanted, i64 %others)
  %parallel = icmp sgt i64 %seats, 0
  br i1 %parallel, label %recall, label %alone
recall:
  %table = getelementptr %Pool, ptr %pool, i64 0, i32 35
  %brief.at = getelementptr %Pool, ptr %pool, i64 0, i32 27
  %brief = load i64, ptr %brief.at
  %hash = call i64 @launch_hash(ptr %fn, i64 %programs)
  %before = call i64 @remembered(ptr %table, i64 %hash)
  %start = call i64 @ticks()
  %is.brief = icmp ult i64 %before, %brief
  br i1 %is.brief, label %briefly, label %heed
heed:
  %spare = call i1 @to_spare(ptr %pool, i64 %hash, i64 %before)
  br i1 %spare, label %briefly, label %look
look:
  %team = call ptr @lender(ptr %pool, i64 %start)
  %worth = call i1 @worth_waking(ptr %pool, i64 %before, i64 %start, ptr %team)
  br i1 %worth, label %doubt, label %briefly
doubt:
  %check = call i1 @to_check(ptr %pool, i64 %before)
  br i1 %check, label %briefly, label %occupy
briefly:
  call void %fn(ptr %args, i64 0, i64 %programs, i32 %x, i32 %y, i32 %z)
  %stop = call i64 @ticks()
  %taken = sub i64 %stop, %start
  call void @remember(ptr %table, i64 %hash, i64 %before, i64 %taken)
  %ended.at = getelementptr %Pool, ptr %pool, i64 0, i32 31
  store i64 %stop, ptr %ended.at
  ret void
occupy:
  %busy.at = getelementptr %Pool, ptr %pool, i64 0, i32 17
  %swap = cmpxchg ptr %busy.at, i32 0, i32 1 acquire monotonic
  %free = extractvalue { i32, i1 } %swap, 1
  br i1 %free, label %together, label %alone
alone:
  call void %fn(ptr %args, i64 0, i64 %programs, i32 %x, i32 %y, i32 %z)
  ret void
together:
  ; Eight chunks a thread: a thread that is held up keeps the others waiting for an eighth of its share at most.
  %chunks = shl i64 %threads, 3
  %chunk.even = udiv i64 %programs, %chunks
  %chunk = call i64 @llvm.smax.i64(i64 %chunk.even, i64 1)
  %fn.at = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %args.at = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %x.at = getelementptr %Pool, ptr %pool, i64 0, i32 4
  %y.at = getelementptr %Pool, ptr %pool, i64 0, i32 5
  %z.at = getelementptr %Pool, ptr %pool, i64 0, i32 6
  %cpu.at = getelementptr %Pool, ptr %pool, i64 0, i32 7
  %programs.at = getelementptr %Pool, ptr %pool, i64 0, i32 8
  %chunk.at = getelementptr %Pool, ptr %pool, i64 0, i32 9
  %mode.at = getelementptr %Pool, ptr %pool, i64 0, i32 10
  %threads.at = getelementptr %Pool, ptr %pool, i64 0, i32 12
  %sleepers.at = getelementptr %Pool, ptr %pool, i64 0, i32 15
  %part.at = getelementptr %Pool, ptr %pool, i64 0, i32 19
  store ptr %fn, ptr %fn.at
  store ptr %args, ptr %args.at
  store i32 %x, ptr %x.at
  store i32 %y, ptr %y.at
  store i32 %z, ptr %z.at
  %cpu = call i32 @sched_getcpu()
  store i32 %cpu, ptr %cpu.at
  store i64 %programs, ptr %programs.at
  store i64 %chunk, ptr %chunk.at
  call void @read_mode(ptr %mode.at)
  store i64 %threads, ptr %threads.at
  call void @share_out(ptr %pool, i64 %programs, i64 %threads)
  %own = icmp eq ptr %team, null
  br i1 %own, label %open, label %borrow
borrow:
  %error = call i32 %team(i64 0, i64 %threads, i64 1, ptr @take_part, ptr %pool)
  call void @nobody_watched()
  call void @run(ptr %pool, i64 0)                        ; finds something only if there were no threads to be had
  %part = load i64, ptr %part.at
  %parts = mul i64 %part, %threads
  call void @remember(ptr %table, i64 %hash, i64 %before, i64 %parts)
  br label %judge
open:
  %door.old = load atomic i64, ptr %pool monotonic, align 8
  %generation.old = lshr i64 %door.old, 32
  %generation = add i64 %generation.old, 1
  %generation.high = shl i64 %generation, 32
  %seats.high = shl i64 %seats, 16
  %door = or i64 %generation.high, %seats.high
  store atomic i64 %door, ptr %pool seq_cst, align 8
  %sleepers.32 = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %asleep = icmp ne i32 %sleepers.32, 0
  br i1 %asleep, label %wake, label %work
wake:
  %sleepers = zext i32 %sleepers.32 to i64
  call void @wake_workers(ptr %pool, i64 %seats, i64 %sleepers)
  br label %work
work:
  ; What the launch would take alone is told by the time that this thread works, without the wait for others.
  %run.start = call i64 @ticks()
  call void @run(ptr %pool, i64 0)
  %run.stop = call i64 @ticks()
  %run.taken = sub i64 %run.stop, %run.start
  %all.taken = mul i64 %run.taken, %threads
  call void @remember(ptr %table, i64 %hash, i64 %before, i64 %all.taken)
  %door.last = atomicrmw and ptr %pool, i64 -4294901761 seq_cst ; no seats: 0xFFFFFFFF0000FFFF
  %inside = and i64 %door.last, 65535
  %some = icmp ne i64 %inside, 0
  br i1 %some, label %wait, label %judge
wait:
  call void @wait_until_empty(ptr %pool)
  br label %judge
judge:
  %alone.taken = phi i64 [ %parts, %borrow ], [ %all.taken, %work ], [ %all.taken, %wait ]
  %end = call i64 @ticks()
  %elapsed = sub i64 %end, %start
  %last.at = getelementptr %Pool, ptr %pool, i64 0, i32 31
  store i64 %end, ptr %last.at
  call void @heed_loss(ptr %pool, i64 %hash, i64 %before, i64 %alone.taken, i64 %elapsed)
  br label %finish
finish:
  store atomic i32 0, ptr %busy.at release, align 4
  ret void
}
"""
