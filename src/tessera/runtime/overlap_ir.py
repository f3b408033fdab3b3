"""Whether tensors that a recalled call writes overlap others, as LLVM IR text; `recall_ir` builds on it.

In:  the addresses of a call's tensors, and three words for each: its extent in bytes, whether it is written, a number
     that tensors of one layout share.
Out: `any_overlap`: 1 where one that is written shares memory with another, unless both lie in one place in one layout.
"""

from __future__ import annotations

from tessera.runtime import host_ir
from tessera.runtime import spelling_ir as spelling


def module_text() -> str:
    """What is added to the module."""
    return host_ir.filled(_MODULE, spelling.SCRATCH)


_MODULE = """
declare i32 @memcmp(ptr, ptr, i64)

; Whether a tensor at %w, of %extent bytes and layout %group, which is written, overlaps another one than number %skip.
define internal i1 @meets(ptr %pointers, ptr %tensors, i64 %count, i64 %skip, i64 %w, i64 %extent, i64 %group) {
entry:
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %no
look:
  %place = mul i64 %i, 3
  %tensor = getelementptr i64, ptr %tensors, i64 %place
  %other.extent = load i64, ptr %tensor
  %other.group.at = getelementptr i64, ptr %tensor, i64 2
  %other.group = load i64, ptr %other.group.at
  %at = getelementptr i64, ptr %pointers, i64 %i
  %o = load i64, ptr %at
  %ahead = sub i64 %o, %w
  %before = sub i64 0, %other.extent
  %after = icmp sgt i64 %ahead, %before
  %until = icmp slt i64 %ahead, %extent
  %inside = and i1 %after, %until
  %filled = icmp ne i64 %other.extent, 0
  %same.place = icmp eq i64 %ahead, 0
  %same.group = icmp eq i64 %other.group, %group
  %alike = and i1 %same.place, %same.group
  %itself = icmp eq i64 %i, %skip
  %fine = or i1 %alike, %itself
  %matters = xor i1 %fine, 1
  %two = and i1 %inside, %filled
  %overlap = and i1 %two, %matters
  %i.next = add i64 %i, 1
  br i1 %overlap, label %yes, label %more
yes:
  ret i1 1
no:
  ret i1 0
}

; The same, where all were found apart is remembered, behind a word that is not 0 while somebody looks there.
define internal i1 @any_overlap(ptr %s, ptr %tensors, i64 %count, ptr %memory) {
  %apart = getelementptr i64, ptr %memory, i64 1
  %pointers = getelementptr i64, ptr %s, i64 <pointers>
  %bytes = shl i64 %count, 3
  %asked = cmpxchg ptr %memory, i64 0, i64 1 acquire monotonic
  %mine = extractvalue { i64, i1 } %asked, 1
  br i1 %mine, label %compare, label %all
all:
  %found.alone = call i1 @overlapping(ptr %s, ptr %tensors, i64 %count)
  ret i1 %found.alone
compare:
  %difference = call i32 @memcmp(ptr %pointers, ptr %apart, i64 %bytes)
  %moved = icmp ne i32 %difference, 0
  br i1 %moved, label %look, label %end
look:
  %overlap = call i1 @overlapping(ptr %s, ptr %tensors, i64 %count)
  br i1 %overlap, label %end, label %remember
remember:
  call void @llvm.memcpy.p0.p0.i64(ptr %apart, ptr %pointers, i64 %bytes, i1 false)
  br label %end
end:
  %found = phi i1 [ 0, %compare ], [ 1, %look ], [ 0, %remember ]
  store atomic i64 0, ptr %memory release, align 8
  ret i1 %found
}

; Whether a tensor that is written overlaps another in a way that may matter.
define internal i1 @overlapping(ptr %s, ptr %tensors, i64 %count) {
entry:
  %pointers = getelementptr i64, ptr %s, i64 <pointers>
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %no
look:
  %place = mul i64 %i, 3
  %tensor = getelementptr i64, ptr %tensors, i64 %place
  %extent = load i64, ptr %tensor
  %written.at = getelementptr i64, ptr %tensor, i64 1
  %written.word = load i64, ptr %written.at
  %group.at = getelementptr i64, ptr %tensor, i64 2
  %group = load i64, ptr %group.at
  %at = getelementptr i64, ptr %pointers, i64 %i
  %w = load i64, ptr %at
  %written = icmp ne i64 %written.word, 0
  %filled = icmp ne i64 %extent, 0
  %both = and i1 %written, %filled
  br i1 %both, label %others, label %next
others:
  %overlap = call i1 @meets(ptr %pointers, ptr %tensors, i64 %count, i64 %i, i64 %w, i64 %extent, i64 %group)
  br i1 %overlap, label %yes, label %next
next:
  %i.next = add i64 %i, 1
  br label %more
yes:
  ret i1 1
no:
  ret i1 0
}
"""
