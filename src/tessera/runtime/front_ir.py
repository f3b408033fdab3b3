"""The native half of a *front*, as LLVM IR text: what PyTorch's dispatcher calls before the Python of an operator.

In:  a call as PyTorch boxes it; the words that `boxed_ir` makes of it; `serve_ir`, which serves it.
Out: a kernel for PyTorch's dispatcher, and one to try fronts out with:

    tessera_front(state, operator, keys, stack)

A front spells the call into words and looks them up in a table of its own. There stands an entry of `recall.py`, which
is served at once, or that the call is the vendor's: then the front goes on to the vendor's kernel with what it was
given. Neither costs any Python, or the interpreter's lock. All other calls go on to the kernel that PyTorch made of a
function of Python. There `tessera_recall` finds what serves the call, and has the front note that for the words that it
wrote last: where both spelled the same tensors and numbers, if the call is ours; the vendor may be handed any call.

A front leaves nothing on the machine's stack when it goes on: exceptions of C++ pass it by.

Source: PyTorch's ATen/core/boxing/BoxedKernel.h.
"""

from __future__ import annotations

from tessera.runtime import boxed_ir, host_ir, recall_ir, serve_ir
from tessera.runtime import spelling_ir as spelling

STATE = ("virtual", "references", "vendor", "vendor_state", "python", "python_state", "account", "handed", "watching",
         "known", "arguments", "returns", "defaults", "donor")  # fmt: skip
"""Words of a front, which PyTorch takes for one of its own objects and counts references in: the vendor's kernel, the
one of Python, each a function and what it is given first; the address of a float64 to which gains are added, or 0; a
bit for each argument whose number is no part of the key; the list of who watches; a table of the calls that are known,
0 until there is one; how many arguments a call has; how many tensors it returns, or one of `RETURNS`; the default of
each argument, as PyTorch boxes it, or 0; the place of an argument that is a list of tensors, or -1."""

RETURNS = {"other": -1, "list": -2, "truth": -3}
"""Something else, or it may not be served here; one list of tensors, which is made of the list that is given; whether a
tensor's one byte is not zero."""

SLOTS = 512
"""Of the table of one front, a power of two. A call is looked for in `PROBES` of them."""
PROBES = 8


SHIMS = (*boxed_ir.SHIMS, *serve_ir.SHIMS)
EXPORTS = ("tessera_front", "tessera_probe")


def module_text() -> str:
    """What is added to the module."""
    scratch = {name: spelling.SCRATCH[name] for name in ("words", "pointers", "objects", "numbers")}
    words: dict[str, int | float | str] = {
        **{f"at_{name}": index for index, name in enumerate(STATE)}, **scratch, **boxed_ir.words(),
        **host_ir.OBJECTS, **host_ir.symbols((*spelling.SHIMS, *SHIMS)),
        "slots": SLOTS, "last_slot": SLOTS - 1, "probes": PROBES,
        "alone_at": recall_ir.ALONE_AT, "front_at": recall_ir.FRONT_AT, "header": recall_ir.HEADER,
        "a_list": RETURNS["list"], "a_truth": RETURNS["truth"], "words_at": len(STATE),
        "owner": spelling.SCRATCH["scratch"], "scratch_bytes": 8 * spelling.SCRATCH["scratch"] + 8,
    }  # fmt: skip
    return host_ir.filled(boxed_ir.TEXT + serve_ir.TEXT + _MODULE, words)


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
  %own = getelementptr i64, ptr %record, i64 3
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
  %entry.at = getelementptr i64, ptr %record, i64 2
  %served = load ptr, ptr %entry.at
  %theirs = icmp eq ptr %served, null
  %account.at = getelementptr i64, ptr %state, i64 <at_account>
  %account = load ptr, ptr %account.at
  %gain.at = getelementptr i64, ptr %record, i64 1
  %gain = load double, ptr %gain.at
  %solvent = call i1 @solvent(ptr %account, double %gain)
  br i1 %solvent, label %whose, label %python
whose:
  br i1 %theirs, label %vendor, label %ours
ours:
  %done = call i1 @serve(ptr %served, ptr %s, ptr %state, ptr %stack)
  br i1 %done, label %end, label %python
end:
  call void @gain(ptr %account, double %gain)
  ret void
vendor:
  call void @gain(ptr %account, double %gain)
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

; The call that runs, of which %gain.record tells the gain, is the vendor's. The interpreter's lock is held.
define internal void @front_learn(ptr %spec, ptr %gain.record) {
  %front.at = getelementptr i64, ptr %spec, i64 <front_at>
  %state = load ptr, ptr %front.at
  %without = icmp eq ptr %state, null
  br i1 %without, label %end, label %look
look:
  %s = call ptr @offered(ptr %state)
  %none = icmp eq ptr %s, null
  br i1 %none, label %end, label %note
note:
  call void @note(ptr %state, ptr %s, ptr %gain.record, ptr null)
  br label %end
end:
  ret void
}

; The call that has run, which Python spelled into %spelled, is served by %entry: where the front spelled the same
; tensors and numbers, and where that needs no Python. The interpreter's lock is held.
define internal void @front_learn_served(ptr %spec, ptr %entry.tuple, ptr %spelled) {
  %front.at = getelementptr i64, ptr %spec, i64 <front_at>
  %state = load ptr, ptr %front.at
  %without = icmp eq ptr %state, null
  br i1 %without, label %end, label %able
able:
  %alone = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 <alone_at>)
  %needs.python = icmp eq ptr %alone, <none>
  %returns.at = getelementptr i64, ptr %state, i64 <at_returns>
  %returns = load i64, ptr %returns.at
  %other = icmp eq i64 %returns, -1
  %unable = or i1 %needs.python, %other
  br i1 %unable, label %end, label %look
look:
  %s = call ptr @offered(ptr %state)
  %none = icmp eq ptr %s, null
  br i1 %none, label %end, label %compare
compare:
  %bytes = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 0)
  %record = call ptr @PyBytes_AsString(ptr %bytes)
  %tensors = load i64, ptr %record
  %numbers.at = getelementptr i64, ptr %record, i64 1
  %numbers = load i64, ptr %numbers.at
  %results.at = getelementptr i64, ptr %record, i64 5
  %results = load i64, ptr %results.at
  %single = icmp slt i64 %results, 0
  %results.count = select i1 %single, i64 1, i64 %results
  %own.tensors.at = getelementptr i64, ptr %s, i64 1
  %own.tensors = load i64, ptr %own.tensors.at
  %own.numbers.at = getelementptr i64, ptr %s, i64 2
  %own.numbers = load i64, ptr %own.numbers.at
  %c.tensors = icmp eq i64 %own.tensors, %tensors
  %c.numbers = icmp eq i64 %own.numbers, %numbers
  %as.many = icmp eq i64 %results.count, %returns
  %a.list = icmp eq i64 %returns, <a_list>
  %many = icmp sge i64 %results, 0
  %c.list = and i1 %a.list, %many
  %a.truth = icmp eq i64 %returns, <a_truth>
  %c.truth = and i1 %a.truth, %single
  %c.one = or i1 %c.list, %c.truth
  %silent = icmp eq i64 %returns, 0
  %nothing = and i1 %silent, %single
  %c.tensors.all = or i1 %as.many, %nothing
  %c.results = or i1 %c.tensors.all, %c.one
  %c.1 = and i1 %c.tensors, %c.numbers
  %c.2 = and i1 %c.1, %c.results
  br i1 %c.2, label %values, label %end
values:
  %pointers = getelementptr i64, ptr %spelled, i64 <pointers>
  %own.pointers = getelementptr i64, ptr %s, i64 <pointers>
  %pointer.bytes = shl i64 %tensors, 3
  %d.pointers = call i32 @memcmp(ptr %pointers, ptr %own.pointers, i64 %pointer.bytes)
  %handed = getelementptr i64, ptr %spelled, i64 <numbers>
  %own.handed = getelementptr i64, ptr %s, i64 <numbers>
  %number.bytes = shl i64 %numbers, 3
  %d.numbers = call i32 @memcmp(ptr %handed, ptr %own.handed, i64 %number.bytes)
  %d = or i32 %d.pointers, %d.numbers
  %same = icmp eq i32 %d, 0
  br i1 %same, label %note, label %end
note:
  ; What stands in a front is there for good.
  call void @Py_IncRef(ptr %entry.tuple)
  call void @note(ptr %state, ptr %s, ptr %record, ptr %entry.tuple)
  br label %end
end:
  ret void
}

; The words that the front wrote for the call that runs; null where they are not there, as in the first call.
define internal ptr @offered(ptr %state) {
  %known.at = getelementptr i64, ptr %state, i64 <at_known>
  %table = load ptr, ptr %known.at
  %new = icmp eq ptr %table, null
  br i1 %new, label %begin, label %words
begin:
  ; From now on calls are spelled.
  %made = call ptr @calloc(i64 <slots>, i64 8)
  store atomic ptr %made, ptr %known.at release, align 8
  ret ptr null
words:
  %s = call ptr @front_scratch()
  %none = icmp eq ptr %s, null
  br i1 %none, label %no, label %whose
whose:
  %owner.at = getelementptr ptr, ptr %s, i64 <owner>
  %owner = load ptr, ptr %owner.at
  store ptr null, ptr %owner.at
  %mine = icmp eq ptr %owner, %state
  br i1 %mine, label %yes, label %no
yes:
  ret ptr %s
no:
  ret ptr null
}

; Calls of these words are the vendor's, or served by %entry; %gain.record tells what that gains.
define internal void @note(ptr %state, ptr %s, ptr %gain.record, ptr %entry.tuple) {
  %known.at = getelementptr i64, ptr %state, i64 <at_known>
  %table = load ptr, ptr %known.at
  %slot = call ptr @front_slot(ptr %table, ptr %s)
  %full = icmp eq ptr %slot, null
  br i1 %full, label %end, label %free.slot
free.slot:
  %there = load ptr, ptr %slot
  %empty = icmp eq ptr %there, null
  br i1 %empty, label %make, label %end
make:
  %n = load i64, ptr %s
  %all = add i64 %n, 3
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
  %entry.to = getelementptr i64, ptr %record, i64 2
  store ptr %entry.tuple, ptr %entry.to
  %words.from = getelementptr i64, ptr %s, i64 <words>
  %words.to = getelementptr i64, ptr %record, i64 3
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
  %nobody.to = alloca ptr
  %opened = load atomic i32, ptr @front.key monotonic, align 4
  %is.open = icmp sge i32 %opened, 0
  br i1 %is.open, label %scratch, label %begin
begin:
  %error = call i32 @pthread_key_create(ptr %key.to, ptr @free)
  %fine = icmp eq i32 %error, 0
  br i1 %fine, label %open, label %end
open:
  %key = load i32, ptr %key.to
  store atomic i32 %key, ptr @front.key monotonic, align 4
  %nobody.error = call i32 <aoti_torch_new_uninitialized_tensor>(ptr %nobody.to)
  %nobody.handle = load ptr, ptr %nobody.to
  %nobody = load i64, ptr %nobody.handle
  store i64 %nobody, ptr @front.undefined
  %place.at = getelementptr i64, ptr %state, i64 <at_python>
  %place = load i64, ptr %place.at
  store i64 %place, ptr @front.keys_at
  %views.at = getelementptr i64, ptr %state, i64 <at_python_state>
  %views = load i64, ptr %views.at
  store i64 %views, ptr @front.views
  br label %scratch
scratch:
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
