"""How the programs of a launch come to the threads, as LLVM IR text; `pool_ir` builds on it.

In:  the job in the pool and the number of a thread: 0 for the launch's own, its own number for each worker.
Out: every program is run once.

The programs are shared out evenly and in order, and each thread claims chunks of its own share before it helps with
those of others. So a slow thread does not hold the others up, and a thread that launch after launch gets the same share
finds in its caches what it wrote there before.
"""

from __future__ import annotations

MAX_THREADS = 1024


def module_text() -> str:
    """What the pool's module needs."""
    return _MODULE


_MODULE = """
; Run the job's programs chunk by chunk, those of share %number first, until none is left in any share.
define internal void @run(ptr %pool, i64 %number) {
entry:
  %fn.at = getelementptr %Pool, ptr %pool, i64 0, i32 2
  %args.at = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %x.at = getelementptr %Pool, ptr %pool, i64 0, i32 4
  %y.at = getelementptr %Pool, ptr %pool, i64 0, i32 5
  %z.at = getelementptr %Pool, ptr %pool, i64 0, i32 6
  %programs.at = getelementptr %Pool, ptr %pool, i64 0, i32 8
  %chunk.at = getelementptr %Pool, ptr %pool, i64 0, i32 9
  %threads.at = getelementptr %Pool, ptr %pool, i64 0, i32 12
  %shares.at = getelementptr %Pool, ptr %pool, i64 0, i32 13
  %fn = load ptr, ptr %fn.at
  %args = load ptr, ptr %args.at
  %x = load i32, ptr %x.at
  %y = load i32, ptr %y.at
  %z = load i32, ptr %z.at
  %programs = load i64, ptr %programs.at
  %chunk = load i64, ptr %chunk.at
  %threads = load i64, ptr %threads.at
  %shares = load ptr, ptr %shares.at
  ; The first share is the launch's own. Where there are more workers than shares, several begin with the same one.
  %is.worker = icmp ne i64 %number, 0
  %others = sub i64 %threads, 1
  %worker = sub i64 %number, 1
  %other = urem i64 %worker, %others
  %other.up = add i64 %other, 1
  %first = select i1 %is.worker, i64 %other.up, i64 0
  br label %share
share:
  %tried = phi i64 [ 0, %entry ], [ %tried.next, %done ]
  %index = phi i64 [ %first, %entry ], [ %index.next, %done ]
  %next.at = getelementptr %Share, ptr %shares, i64 %index, i32 0
  %end.at = getelementptr %Share, ptr %shares, i64 %index, i32 1
  %share.end = load i64, ptr %end.at
  br label %look
look:
  %seen = load atomic i64, ptr %next.at monotonic, align 8
  %any = icmp slt i64 %seen, %share.end
  br i1 %any, label %claim, label %done
claim:
  %begin = atomicrmw add ptr %next.at, i64 %chunk monotonic
  %some = icmp slt i64 %begin, %share.end
  br i1 %some, label %execute, label %done
execute:
  %stop = add i64 %begin, %chunk
  %end = call i64 @llvm.smin.i64(i64 %stop, i64 %share.end)
  call void %fn(ptr %args, i64 %begin, i64 %end, i32 %x, i32 %y, i32 %z)
  br label %look
done:
  %tried.next = add i64 %tried, 1
  %index.up = add i64 %index, 1
  %wraps = icmp eq i64 %index.up, %threads
  %index.next = select i1 %wraps, i64 0, i64 %index.up
  %more = icmp slt i64 %tried.next, %threads
  br i1 %more, label %share, label %exit
exit:
  ret void
}

; Share the programs out evenly, in order.
define internal void @share_out(ptr %pool, i64 %programs, i64 %threads) {
entry:
  %shares.at = getelementptr %Pool, ptr %pool, i64 0, i32 13
  %shares = load ptr, ptr %shares.at
  %each = udiv i64 %programs, %threads
  %larger = urem i64 %programs, %threads
  br label %share
share:
  %index = phi i64 [ 0, %entry ], [ %index.next, %share ]
  %begin = phi i64 [ 0, %entry ], [ %end, %share ]
  %is.larger = icmp slt i64 %index, %larger
  %one = zext i1 %is.larger to i64
  %size = add i64 %each, %one
  %end = add i64 %begin, %size
  %next.at = getelementptr %Share, ptr %shares, i64 %index, i32 0
  %end.at = getelementptr %Share, ptr %shares, i64 %index, i32 1
  store i64 %begin, ptr %next.at
  store i64 %end, ptr %end.at
  %index.next = add i64 %index, 1
  %more = icmp slt i64 %index.next, %threads
  br i1 %more, label %share, label %exit
exit:
  ret void
}
"""
