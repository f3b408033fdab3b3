"""The native half of a *front*, as LLVM IR text: what PyTorch's dispatcher calls before the Python of an operator.

In:  the helpers of `spelling_ir`, whose module this one is a part of; a call as PyTorch boxes it, which is a stack of
     values of two words each, a payload and the tag that says what it is.
Out: a kernel for PyTorch's dispatcher, and the functions that make it ready:

    tessera_front(state, operator, keys, stack)

A front spells the call into words. Where it knows that such calls are the vendor's, it goes on to the vendor's kernel
with what it was given: that call has cost no Python and no lock of the interpreter. All other calls go on to the kernel
that PyTorch made of a function of Python. There `tessera_recall` finds that a call is the vendor's, and has the front
learn the words that it wrote last.

To hand a call to the vendor is always right, so what a front knows decides on speed alone. It leaves nothing on the
machine's stack when it goes on: exceptions of C++ pass it by.

Source: PyTorch's ATen/core/ivalue.h (values), ATen/core/List.h, ATen/core/boxing/BoxedKernel.h (kernels).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tessera.runtime import recall_ir
from tessera.runtime import spelling_ir as spelling

STATE = ("virtual", "references", "vendor", "vendor_state", "python", "python_state", "account", "handed", "watching",
         "known", "threads")  # fmt: skip
"""Words of a front, which PyTorch takes for one of its own objects and counts references in: the vendor's kernel, the
one of Python, each a function and what it is given first; the address of a float64 to which gains are added, or 0; a
bit for each argument whose number is no part of the key; the list of who watches; a table of the calls that are the
vendor's, 0 until there is one; whether the number of threads belongs to the key."""

SLOTS = 512
"""Of the table of one front, a power of two. A call is looked for in `PROBES` of them."""
PROBES = 8

TAGS = {"none": 0, "tensor": 1, "double": 3, "int": 5, "bool": 10, "text": 12, "list": 14, "device": 18}
"""PyTorch's numbers for the values that are spelled. A call with any other is not known."""

SHIMS = ("aoti_torch_is_defined", "torch_get_num_threads")
"""What is asked of PyTorch's C interface beside what spelling asks."""

OBJECT_WORDS = 2
"""Of any object of PyTorch's. Behind them a list has a vector of values, a text a string: where either begins comes
first, then the end of the one, the length of the other."""

EXPORTS = ("tessera_front", "tessera_probe")


def module_text(shims: Mapping[str, int]) -> str:
    """What is added to the module. shims: addresses of the functions that `spelling_ir.SHIMS` and `SHIMS` name."""
    words: dict[str, int | float | str] = {f"at_{name}": index for index, name in enumerate(STATE)}
    words |= {name: f"inttoptr (i64 {address} to ptr)" for name, address in shims.items()}
    words |= {f"tag_{name}": tag for name, tag in TAGS.items()}
    words |= {
        "slots": SLOTS, "last_slot": SLOTS - 1, "probes": PROBES, "least balance": -recall_ir.MOST_LOST_US,
        "words_at": len(STATE), "words": spelling.SCRATCH["words"],
        "owner": spelling.SCRATCH["scratch"], "scratch_bytes": 8 * spelling.SCRATCH["scratch"] + 8,
        "front_at": recall_ir.FRONT_AT, "object": OBJECT_WORDS,
    }  # fmt: skip
    return functools.reduce(lambda text, word: text.replace(f"<{word}>", str(words[word])), words, _MODULE)


_MODULE = """
declare i32 @pthread_key_create(ptr, ptr)
declare ptr @pthread_getspecific(i32)
declare i32 @pthread_setspecific(i32, ptr)
declare ptr @malloc(i64)
declare ptr @calloc(i64, i64)
declare void @free(ptr)

@front.key = internal global i32 -1

; The scratch of this thread, null where there is none to be had. Behind it is a word: the front that wrote it last.
define internal ptr @front_scratch() {
  %key = load atomic i32, ptr @front.key monotonic, align 4
  %some = icmp sge i32 %key, 0
  br i1 %some, label %get, label %none
get:
  %found = call ptr @pthread_getspecific(i32 %key)
  %new = icmp eq ptr %found, null
  br i1 %new, label %make, label %end
make:
  %made = call ptr @calloc(i64 1, i64 <scratch_bytes>)
  %error = call i32 @pthread_setspecific(i32 %key, ptr %made)
  ret ptr %made
end:
  ret ptr %found
none:
  ret ptr null
}

define internal i1 @spell_boxed_tensor(ptr %s, ptr %handle) {
  %dim.to = alloca i64
  %dtype.to = alloca i32
  %sizes.to = alloca ptr
  %strides.to = alloca ptr
  %defined.to = alloca i8
  %e.defined = call i32 <aoti_torch_is_defined>(ptr %handle, ptr %defined.to)
  %defined = load i8, ptr %defined.to
  %some = icmp ne i8 %defined, 0
  br i1 %some, label %ask, label %no
ask:
  %e.dim = call i32 <aoti_torch_get_dim>(ptr %handle, ptr %dim.to)
  %e.dtype = call i32 <aoti_torch_get_dtype>(ptr %handle, ptr %dtype.to)
  %e.sizes = call i32 <aoti_torch_get_sizes>(ptr %handle, ptr %sizes.to)
  %e.strides = call i32 <aoti_torch_get_strides>(ptr %handle, ptr %strides.to)
  %e.1 = or i32 %e.dim, %e.dtype
  %e.2 = or i32 %e.sizes, %e.strides
  %e = or i32 %e.1, %e.2
  %fine = icmp eq i32 %e, 0
  br i1 %fine, label %write, label %no
write:
  %dim = load i64, ptr %dim.to
  %dtype.32 = load i32, ptr %dtype.to
  %dtype = zext i32 %dtype.32 to i64
  %dim.up = shl i64 %dim, 32
  %form = or i64 %dim.up, %dtype
  %sizes = load ptr, ptr %sizes.to
  %strides = load ptr, ptr %strides.to
  %w.form = call i1 @push(ptr %s, i64 %form)
  %w.sizes = call i1 @push_all(ptr %s, ptr %sizes, i64 %dim)
  %w.strides = call i1 @push_all(ptr %s, ptr %strides, i64 %dim)
  %w.1 = and i1 %w.form, %w.sizes
  %w.2 = and i1 %w.1, %w.strides
  ret i1 %w.2
no:
  ret i1 0
}

; The values from %first to before %end.
define internal i1 @spell_boxed_all(ptr %s, ptr %first, ptr %end, i64 %handed) {
entry:
  br label %more
more:
  %at = phi ptr [ %first, %entry ], [ %at.next, %next ]
  %mask = phi i64 [ %handed, %entry ], [ %mask.next, %next ]
  %any = icmp ult ptr %at, %end
  br i1 %any, label %one, label %yes
one:
  %bit = trunc i64 %mask to i1
  %ok = call i1 @spell_boxed(ptr %s, ptr %at, i1 %bit)
  br i1 %ok, label %next, label %no
next:
  %at.next = getelementptr i64, ptr %at, i64 2
  %mask.next = lshr i64 %mask, 1
  br label %more
yes:
  ret i1 1
no:
  ret i1 0
}

; One value; 0 where it is of another kind.
define internal i1 @spell_boxed(ptr %s, ptr %at, i1 %handed) {
  %payload = load i64, ptr %at
  %tag.at = getelementptr i64, ptr %at, i64 1
  %tag = load i32, ptr %tag.at
  %tag.64 = zext i32 %tag to i64
  %kind = shl i64 %tag.64, 8
  switch i32 %tag, label %no [
    i32 <tag_none>, label %none
    i32 <tag_tensor>, label %tensor
    i32 <tag_double>, label %double
    i32 <tag_int>, label %int
    i32 <tag_bool>, label %byte
    i32 <tag_device>, label %two.bytes
    i32 <tag_text>, label %text
    i32 <tag_list>, label %list
  ]
none:
  %n.ok = call i1 @push(ptr %s, i64 %kind)
  ret i1 %n.ok
tensor:
  %t.ok = call i1 @spell_boxed_tensor(ptr %s, ptr %at)
  ret i1 %t.ok
double:
  %real = bitcast i64 %payload to double
  %d.ok = call i1 @spell_number(ptr %s, i64 %kind, i64 %payload, double %real, i1 %handed)
  ret i1 %d.ok
int:
  %whole = sitofp i64 %payload to double
  %i.ok = call i1 @spell_number(ptr %s, i64 %kind, i64 %payload, double %whole, i1 %handed)
  ret i1 %i.ok
byte:
  %low.8 = and i64 %payload, 255
  br label %plain
two.bytes:
  %low.16 = and i64 %payload, 65535
  br label %plain
plain:
  %value = phi i64 [ %low.8, %byte ], [ %low.16, %two.bytes ]
  %p.kind = call i1 @push(ptr %s, i64 %kind)
  %p.value = call i1 @push(ptr %s, i64 %value)
  %p.ok = and i1 %p.kind, %p.value
  ret i1 %p.ok
text:
  %text.object = inttoptr i64 %payload to ptr
  %text.at = getelementptr i64, ptr %text.object, i64 <object>
  %bytes = load ptr, ptr %text.at
  %size.at = getelementptr i64, ptr %text.at, i64 1
  %size = load i64, ptr %size.at
  %text.ok = call i1 @spell_bytes(ptr %s, ptr %bytes, i64 %size, i64 %kind)
  ret i1 %text.ok
list:
  %object = inttoptr i64 %payload to ptr
  %vector = getelementptr i64, ptr %object, i64 <object>
  %l.first = load ptr, ptr %vector
  %l.end.at = getelementptr i64, ptr %vector, i64 1
  %l.end = load ptr, ptr %l.end.at
  %l.first.int = ptrtoint ptr %l.first to i64
  %l.end.int = ptrtoint ptr %l.end to i64
  %l.bytes = sub i64 %l.end.int, %l.first.int
  %l.kind = call i1 @push(ptr %s, i64 %kind)
  %l.size = call i1 @push(ptr %s, i64 %l.bytes)
  %l.handed = sext i1 %handed to i64
  %l.values = call i1 @spell_boxed_all(ptr %s, ptr %l.first, ptr %l.end, i64 %l.handed)
  %l.head = and i1 %l.kind, %l.size
  %l.ok = and i1 %l.head, %l.values
  ret i1 %l.ok
no:
  ret i1 0
}

; A whole call.
define internal i1 @spell_stack(ptr %s, ptr %state, ptr %stack) {
  %threads.to = alloca i32
  store i64 0, ptr %s
  %numbers.at = getelementptr i64, ptr %s, i64 2
  store i64 0, ptr %numbers.at
  %first = load ptr, ptr %stack
  %end.at = getelementptr ptr, ptr %stack, i64 1
  %end = load ptr, ptr %end.at
  %handed.at = getelementptr i64, ptr %state, i64 <at_handed>
  %handed = load i64, ptr %handed.at
  %threads.at = getelementptr i64, ptr %state, i64 <at_threads>
  %asks = load i64, ptr %threads.at
  %some = icmp ne i64 %asks, 0
  br i1 %some, label %ask, label %values
ask:
  %error = call i32 <torch_get_num_threads>(ptr %threads.to)
  %threads = load i32, ptr %threads.to
  %word = zext i32 %threads to i64
  %written = call i1 @push(ptr %s, i64 %word)
  br label %values
values:
  %ok = call i1 @spell_boxed_all(ptr %s, ptr %first, ptr %end, i64 %handed)
  ret i1 %ok
}

; The slot of the words of a scratch: the one that holds them, else the first empty one; null where neither is near.
define internal ptr @front_slot(ptr %table, ptr %s) {
entry:
  %n = load i64, ptr %s
  %words = getelementptr i64, ptr %s, i64 <words>
  %bytes = shl i64 %n, 3
  br label %mix
mix:
  %k = phi i64 [ 0, %entry ], [ %k.next, %mixed ]
  %hash = phi i64 [ %n, %entry ], [ %hash.next, %mixed ]
  %left = icmp ult i64 %k, %n
  br i1 %left, label %mixed, label %start
mixed:
  %word.at = getelementptr i64, ptr %words, i64 %k
  %word = load i64, ptr %word.at
  %both = xor i64 %hash, %word
  %spread = mul i64 %both, -7046029254386353131
  %high = lshr i64 %spread, 32
  %hash.next = xor i64 %spread, %high
  %k.next = add i64 %k, 1
  br label %mix
start:
  br label %probe
probe:
  %i = phi i64 [ 0, %start ], [ %i.next, %other ]
  %sum = add i64 %hash, %i
  %place = and i64 %sum, <last_slot>
  %slot = getelementptr ptr, ptr %table, i64 %place
  %record = load atomic ptr, ptr %slot acquire, align 8
  %empty = icmp eq ptr %record, null
  br i1 %empty, label %end, label %compare
compare:
  %size = load i64, ptr %record
  %as.long = icmp eq i64 %size, %n
  br i1 %as.long, label %look, label %other
look:
  %own = getelementptr i64, ptr %record, i64 2
  %difference = call i32 @memcmp(ptr %own, ptr %words, i64 %bytes)
  %same = icmp eq i32 %difference, 0
  br i1 %same, label %end, label %other
other:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, <probes>
  br i1 %more, label %probe, label %none
end:
  ret ptr %slot
none:
  ret ptr null
}

; Add what a call of a record gains to the account; 0 where it loses and the account is spent: Python counts it then.
define internal i1 @front_counts(ptr %state, ptr %record) {
  %account.at = getelementptr i64, ptr %state, i64 <at_account>
  %account = load ptr, ptr %account.at
  %absent = icmp eq ptr %account, null
  br i1 %absent, label %yes, label %look
look:
  %gain.at = getelementptr i64, ptr %record, i64 1
  %gain = load double, ptr %gain.at
  %loses = fcmp olt double %gain, 0.0
  %balance = load atomic double, ptr %account monotonic, align 8
  %spent = fcmp olt double %balance, <least balance>
  %broke = and i1 %loses, %spent
  br i1 %broke, label %no, label %add
add:
  %after = fadd double %balance, %gain
  store atomic double %after, ptr %account monotonic, align 8
  br label %yes
yes:
  ret i1 1
no:
  ret i1 0
}

; What PyTorch calls.
define void @tessera_front(ptr %state, ptr %operator, i64 %keys, ptr %stack) {
entry:
  %known.at = getelementptr i64, ptr %state, i64 <at_known>
  %table = load atomic ptr, ptr %known.at acquire, align 8
  %new = icmp eq ptr %table, null
  br i1 %new, label %python, label %ask
ask:
  %watching.at = getelementptr i64, ptr %state, i64 <at_watching>
  %watching = load ptr, ptr %watching.at
  %alone = call i1 @alone(ptr %watching)
  br i1 %alone, label %scratch, label %python
scratch:
  %s = call ptr @front_scratch()
  %without = icmp eq ptr %s, null
  br i1 %without, label %python, label %spell
spell:
  %owner.at = getelementptr ptr, ptr %s, i64 <owner>
  store ptr null, ptr %owner.at
  %spelled = call i1 @spell_stack(ptr %s, ptr %state, ptr %stack)
  br i1 %spelled, label %find, label %python
find:
  %slot = call ptr @front_slot(ptr %table, ptr %s)
  %full = icmp eq ptr %slot, null
  br i1 %full, label %python, label %read
read:
  %record = load atomic ptr, ptr %slot acquire, align 8
  %unknown = icmp eq ptr %record, null
  br i1 %unknown, label %offer, label %count
offer:
  store ptr %state, ptr %owner.at
  br label %python
count:
  %counted = call i1 @front_counts(ptr %state, ptr %record)
  br i1 %counted, label %vendor, label %python
vendor:
  %vendor.at = getelementptr i64, ptr %state, i64 <at_vendor>
  %vendor.kernel = load ptr, ptr %vendor.at
  %vendor.state.at = getelementptr i64, ptr %state, i64 <at_vendor_state>
  %vendor.state = load ptr, ptr %vendor.state.at
  musttail call void %vendor.kernel(ptr %vendor.state, ptr %operator, i64 %keys, ptr %stack)
  ret void
python:
  %python.at = getelementptr i64, ptr %state, i64 <at_python>
  %python.kernel = load ptr, ptr %python.at
  %python.state.at = getelementptr i64, ptr %state, i64 <at_python_state>
  %python.state = load ptr, ptr %python.state.at
  musttail call void %python.kernel(ptr %python.state, ptr %operator, i64 %keys, ptr %stack)
  ret void
}

; The call that runs, of which %record tells the gain, is the vendor's. The interpreter's lock is held.
define internal void @front_learn(ptr %spec, ptr %gain.record) {
entry:
  %front.at = getelementptr i64, ptr %spec, i64 <front_at>
  %state = load ptr, ptr %front.at
  %without = icmp eq ptr %state, null
  br i1 %without, label %end, label %look
look:
  %known.at = getelementptr i64, ptr %state, i64 <at_known>
  %table = load ptr, ptr %known.at
  %new = icmp eq ptr %table, null
  br i1 %new, label %begin, label %words
begin:
  ; From now on calls are spelled.
  %made = call ptr @calloc(i64 <slots>, i64 8)
  store atomic ptr %made, ptr %known.at release, align 8
  br label %end
words:
  %s = call ptr @front_scratch()
  %none = icmp eq ptr %s, null
  br i1 %none, label %end, label %whose
whose:
  %owner.at = getelementptr ptr, ptr %s, i64 <owner>
  %owner = load ptr, ptr %owner.at
  store ptr null, ptr %owner.at
  %mine = icmp eq ptr %owner, %state
  br i1 %mine, label %find, label %end
find:
  %slot = call ptr @front_slot(ptr %table, ptr %s)
  %full = icmp eq ptr %slot, null
  br i1 %full, label %end, label %free.slot
free.slot:
  %there = load ptr, ptr %slot
  %empty = icmp eq ptr %there, null
  br i1 %empty, label %make, label %end
make:
  %n = load i64, ptr %s
  %all = add i64 %n, 2
  %bytes = shl i64 %all, 3
  %record = call ptr @malloc(i64 %bytes)
  %failed = icmp eq ptr %record, null
  br i1 %failed, label %end, label %write
write:
  store i64 %n, ptr %record
  %gain.from = getelementptr i64, ptr %gain.record, i64 6
  %gain = load i64, ptr %gain.from
  %gain.to = getelementptr i64, ptr %record, i64 1
  store i64 %gain, ptr %gain.to
  %words.from = getelementptr i64, ptr %s, i64 <words>
  %words.to = getelementptr i64, ptr %record, i64 2
  %words.bytes = shl i64 %n, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %words.to, ptr %words.from, i64 %words.bytes, i1 false)
  store atomic ptr %record, ptr %slot release, align 8
  br label %end
end:
  ret void
}

; A kernel as a front is one, for trying out whether values lie where they are read: the words of the call go behind
; the front's own, after their number. It makes fronts ready as well: before it ran none knows anything.
define void @tessera_probe(ptr %state, ptr %operator, i64 %keys, ptr %stack) {
  %key.to = alloca i32
  %error = call i32 @pthread_key_create(ptr %key.to, ptr @free)
  %fine = icmp eq i32 %error, 0
  br i1 %fine, label %open, label %end
open:
  %key = load i32, ptr %key.to
  store atomic i32 %key, ptr @front.key monotonic, align 4
  %s = call ptr @front_scratch()
  %none = icmp eq ptr %s, null
  br i1 %none, label %end, label %spell
spell:
  %spelled = call i1 @spell_stack(ptr %s, ptr %state, ptr %stack)
  br i1 %spelled, label %tell, label %end
tell:
  %n = load i64, ptr %s
  %to = getelementptr i64, ptr %state, i64 <words_at>
  store i64 %n, ptr %to
  %words.to = getelementptr i64, ptr %to, i64 1
  %words = getelementptr i64, ptr %s, i64 <words>
  %bytes = shl i64 %n, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %words.to, ptr %words, i64 %bytes, i1 false)
  br label %end
end:
  ret void
}
"""
