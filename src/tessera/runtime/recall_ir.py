"""The native half of a recalled call, as LLVM IR text: one call spells the arguments, finds what served their like
before, and does it again.

In:  the state and helpers of `calls_ir` and `caller_ir`, whose module this one is a part of; `spelling_ir`'s words.
Out: a function of Python, which PyTorch calls for an operator:

    tessera_recall(*arguments, **named arguments)

The words of a call are the key of a dict. What stands there is a record of `recall.py` that runs at once, a kernel of
the vendor's to call with what that gains, or None; calls that are not found go to a function of Python with their key,
those that cannot be spelled or must be seen by others without one.
"""

from __future__ import annotations

from tessera.runtime import account_ir, host_ir, overlap_ir, results_ir
from tessera.runtime import spelling_ir as spelling

HEADER = 7
"""Words of a record: how many tensors, handed numbers, allocations, constants, tensors that are written and results
(-1: one, not in a tuple), and the float64 that a call gains. Then the constants, three words a tensor (its extent in
bytes, whether it is written, a number that tensors of one layout share), the place of each result among the pointers
(-1: None), and the record of a chain. Its pointers are the tensors, what is allocated, the numbers and the constants,
in this order."""

EXPORTS = ("tessera_recall",)
# Where in an operator's record its front is, and in an entry what a front needs to know.
FRONT_AT, ALONE_AT = 4, 7


def module_text() -> str:
    """What is added to the module."""
    words = {
        **host_ir.OBJECTS, **host_ir.symbols(spelling.SHIMS),
        "most_words": spelling.MOST_WORDS, "most_pointers": spelling.MOST_POINTERS,
        "most_numbers": spelling.MOST_NUMBERS, "header": HEADER, "spec": spelling.SPEC,
        "text_bytes": spelling.TEXT_BYTES,
        "complex_first": spelling.COMPLEX[0], "complex_last": spelling.COMPLEX[1],
        **spelling.SCRATCH,
    }  # fmt: skip
    parts = (account_ir.module_text(), overlap_ir.module_text(), results_ir.module_text())
    return "".join((host_ir.filled(spelling.TEXT + _RECALL, words), *parts))


_RECALL = """
declare ptr @PyBytes_FromStringAndSize(ptr, i64)
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare i64 @PyTuple_Size(ptr)
declare ptr @PyByteArray_AsString(ptr)

; What of the process belongs to the key: the default type, and the number of threads, on which tiles may depend.
define internal i1 @spell_process(ptr %s) {
  %type = call ptr @PyObject_CallObject(ptr <get_default_dtype>, ptr null)
  %failed = icmp eq ptr %type, null
  br i1 %failed, label %error, label %write
write:
  call void @Py_DecRef(ptr %type)
  %type.int = ptrtoint ptr %type to i64
  %ok = call i1 @push(ptr %s, i64 %type.int)
  %answer = call ptr @PyObject_CallObject(ptr <get_num_threads>, ptr null)
  %without = icmp eq ptr %answer, null
  br i1 %without, label %error, label %number
number:
  %count = call i64 @PyLong_AsLongLong(ptr %answer)
  call void @Py_DecRef(ptr %answer)
  %count.ok = call i1 @push(ptr %s, i64 %count)
  %both = and i1 %ok, %count.ok
  ret i1 %both
error:
  call void @PyErr_Clear()
  ret i1 0
}

; Call %function with %first and the arguments that were given.
define internal ptr @hand(ptr %function, ptr %first, ptr %given, i64 %count, ptr %names, i64 %named) {
  %all = add i64 %count, %named
  %places = add i64 %all, 1
  %args = alloca ptr, i64 %places
  store ptr %first, ptr %args
  %behind = getelementptr ptr, ptr %args, i64 1
  %bytes = shl i64 %all, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %behind, ptr %given, i64 %bytes, i1 false)
  %leading = add i64 %count, 1
  %answer = call ptr @PyObject_Vectorcall(ptr %function, ptr %args, i64 %leading, ptr %names)
  ret ptr %answer
}

; Call the checks of which a launch raised the flag; 0 where one of them raised an exception.
define internal i1 @pass(ptr %entry.tuple) {
entry:
  %checks = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 3)
  %flags.bytes = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 4)
  %flags = call ptr @PyBytes_AsString(ptr %flags.bytes)
  %count = call i64 @PyTuple_Size(ptr %checks)
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ], [ %i.next, %passed ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %yes
look:
  %i.next = add i64 %i, 1
  %at = getelementptr ptr, ptr %flags, i64 %i
  %flag.at = load ptr, ptr %at
  %flag = load atomic i32, ptr %flag.at monotonic, align 4
  %raised = icmp ne i32 %flag, 0
  br i1 %raised, label %call, label %more
call:
  %check = call ptr @PyTuple_GetItem(ptr %checks, i64 %i)
  %answer = call ptr @PyObject_CallObject(ptr %check, ptr null)
  %failed = icmp eq ptr %answer, null
  br i1 %failed, label %no, label %passed
passed:
  call void @Py_DecRef(ptr %answer)
  br label %more
yes:
  ret i1 1
no:
  ret i1 0
}

; Call each of some functions with tensors of the call, so many each, which are told by their places; 0 where one raised
; an exception.
define internal i1 @call_each(ptr %functions, ptr %places.bytes, i64 %each, ptr %s) {
entry:
  %places = call ptr @PyBytes_AsString(ptr %places.bytes)
  %count = call i64 @PyTuple_Size(ptr %functions)
  %given = alloca ptr, i64 %each
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %called ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %collect, label %yes
collect:
  %i.next = add i64 %i, 1
  %first = mul i64 %i, %each
  br label %one
one:
  %j = phi i64 [ 0, %collect ], [ %j.next, %one ]
  %number = add i64 %first, %j
  %at = getelementptr i64, ptr %places, i64 %number
  %place = load i64, ptr %at
  %object.place = add i64 %place, <objects>
  %object.at = getelementptr ptr, ptr %s, i64 %object.place
  %object = load ptr, ptr %object.at
  %given.at = getelementptr ptr, ptr %given, i64 %j
  store ptr %object, ptr %given.at
  %j.next = add i64 %j, 1
  %further = icmp slt i64 %j.next, %each
  br i1 %further, label %one, label %call
call:
  %function = call ptr @PyTuple_GetItem(ptr %functions, i64 %i)
  %answer = call ptr @PyObject_Vectorcall(ptr %function, ptr %given, i64 %each, ptr null)
  %failed = icmp eq ptr %answer, null
  br i1 %failed, label %no, label %called
called:
  call void @Py_DecRef(ptr %answer)
  br label %more
yes:
  ret i1 1
no:
  ret i1 0
}

; Run what is recorded for a spelled call. *%ran is 0 where it is not for this one, of which nothing has happened then.
define internal ptr @rerun(ptr %entry.tuple, ptr %s, ptr %spec, ptr %ran) {
entry:
  %bytes = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 0)
  %layouts = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 1)
  %record = call ptr @PyBytes_AsString(ptr %bytes)
  %tensors = load i64, ptr %record
  %numbers.at = getelementptr i64, ptr %record, i64 1
  %numbers = load i64, ptr %numbers.at
  %made.at = getelementptr i64, ptr %record, i64 2
  %made.count = load i64, ptr %made.at
  %constants.at = getelementptr i64, ptr %record, i64 3
  %constants = load i64, ptr %constants.at
  %written.at = getelementptr i64, ptr %record, i64 4
  %written = load i64, ptr %written.at
  %results.at = getelementptr i64, ptr %record, i64 5
  %results = load i64, ptr %results.at
  %constant.first = getelementptr i64, ptr %record, i64 <header>
  %tensor.first = getelementptr i64, ptr %constant.first, i64 %constants
  %tensor.words = mul i64 %tensors, 3
  %result.first = getelementptr i64, ptr %tensor.first, i64 %tensor.words
  %single = icmp slt i64 %results, 0
  %result.words = select i1 %single, i64 1, i64 %results
  %chain = getelementptr i64, ptr %result.first, i64 %result.words
  store i64 0, ptr %ran
  %found.at = getelementptr i64, ptr %s, i64 1
  %found = load i64, ptr %found.at
  %handed.at = getelementptr i64, ptr %s, i64 2
  %handed = load i64, ptr %handed.at
  %tensors.right = icmp eq i64 %found, %tensors
  %numbers.right = icmp eq i64 %handed, %numbers
  %right = and i1 %tensors.right, %numbers.right
  br i1 %right, label %effect, label %other
effect:
  %account = call ptr @account_of(ptr %spec)
  %gain = call double @gain_of(ptr %record)
  %solvent = call i1 @solvent(ptr %account, double %gain)
  br i1 %solvent, label %alias, label %other
alias:
  %some = icmp ne i64 %written, 0
  br i1 %some, label %apart, label %allocate
apart:
  %memory = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 2)
  %place = call ptr @PyByteArray_AsString(ptr %memory)
  %overlap = call i1 @any_overlap(ptr %s, ptr %tensor.first, i64 %tensors, ptr %place)
  br i1 %overlap, label %other, label %allocate
allocate:
  store i64 1, ptr %ran
  %made = call i64 @allocate(ptr %s, i64 %tensors, ptr %layouts, i64 %made.count)
  %all.made = icmp eq i64 %made, %made.count
  br i1 %all.made, label %numbers.new, label %error
numbers.new:
  %fills = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 5)
  %filled = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 6)
  %drawn = call i1 @call_each(ptr %fills, ptr %filled, i64 1, ptr %s)
  br i1 %drawn, label %fill, label %error
fill:
  %pointers = getelementptr i64, ptr %s, i64 <pointers>
  %number.place = add i64 %tensors, %made.count
  %number.to = getelementptr i64, ptr %pointers, i64 %number.place
  %number.from = getelementptr i64, ptr %s, i64 <numbers>
  %number.bytes = shl i64 %numbers, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %number.to, ptr %number.from, i64 %number.bytes, i1 false)
  %constant.to = getelementptr i64, ptr %number.to, i64 %numbers
  %constant.bytes = shl i64 %constants, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %constant.to, ptr %constant.first, i64 %constant.bytes, i1 false)
  %ok = call i1 @run_chain(ptr %chain, ptr %pointers)
  br i1 %ok, label %check, label %error
check:
  %passed = call i1 @pass(ptr %entry.tuple)
  br i1 %passed, label %cut, label %error
cut:
  %ends = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 8)
  %ended = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 9)
  %shortened = call i1 @call_each(ptr %ends, ptr %ended, i64 2, ptr %s)
  br i1 %shortened, label %answer, label %error
answer:
  call void @gain(ptr %account, double %gain)
  %value = call ptr @answer_of(ptr %s, ptr %result.first, i64 %results)
  call void @release(ptr %s, i64 %tensors, i64 %made)
  ret ptr %value
error:
  call void @release(ptr %s, i64 %tensors, i64 %made)
  ret ptr null
other:
  ret ptr null
}

; Whether a call may be found again: nobody records, and no launch is to be seen.
define internal i1 @alone(ptr %watching) {
  %diverted = load atomic i64, ptr @diverted monotonic, align 8
  %watchers = call i64 @PyList_Size(ptr %watching)
  %either = or i64 %diverted, %watchers
  %none = icmp eq i64 %either, 0
  ret i1 %none
}

; Its state: what is known by key, the function for other calls, who watches, the operator's record, and what a kernel
; of the vendor's is given first.
define ptr @tessera_recall(ptr %self, ptr %given, i64 %count, ptr %names) {
entry:
  %known = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %slow = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %watching = call ptr @PyTuple_GetItem(ptr %self, i64 2)
  %spec.bytes = call ptr @PyTuple_GetItem(ptr %self, i64 3)
  %spec = call ptr @PyBytes_AsString(ptr %spec.bytes)
  %s = alloca i64, i64 <scratch>, align 16
  %ran = alloca i64
  store i64 0, ptr %s
  %tensors.at = getelementptr i64, ptr %s, i64 1
  store i64 0, ptr %tensors.at
  %numbers.at = getelementptr i64, ptr %s, i64 2
  store i64 0, ptr %numbers.at
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %begin, label %count.names
count.names:
  %size = call i64 @PyTuple_Size(ptr %names)
  br label %begin
begin:
  %named = phi i64 [ 0, %entry ], [ %size, %count.names ]
  %alone = call i1 @alone(ptr %watching)
  br i1 %alone, label %spell, label %unspelled
spell:
  %head = call i1 @spell_process(ptr %s)
  %body = call i1 @spell_all(ptr %s, ptr %given, i64 %count, ptr %names, i64 %named, ptr %spec)
  %spelled = and i1 %head, %body
  br i1 %spelled, label %find, label %unspelled
find:
  %words = getelementptr i64, ptr %s, i64 <words>
  %n = load i64, ptr %s
  %bytes = shl i64 %n, 3
  %key = call ptr @PyBytes_FromStringAndSize(ptr %words, i64 %bytes)
  %keyless = icmp eq ptr %key, null
  br i1 %keyless, label %error, label %look
look:
  %found = call ptr @PyDict_GetItemWithError(ptr %known, ptr %key)
  %new = icmp eq ptr %found, null
  br i1 %new, label %learn, label %type
learn:
  %learned = call ptr @hand(ptr %slow, ptr %key, ptr %given, i64 %count, ptr %names, i64 %named)
  call void @Py_DecRef(ptr %key)
  ret ptr %learned
type:
  call void @Py_IncRef(ptr %found)
  call void @Py_DecRef(ptr %key)
  %kind = call ptr @PyObject_Type(ptr %found)
  call void @Py_DecRef(ptr %kind)
  %tuple = icmp eq ptr %kind, <type_tuple>
  br i1 %tuple, label %served, label %forget
served:
  %parts = call i64 @PyTuple_Size(ptr %found)
  %handed.on = icmp eq i64 %parts, 2
  br i1 %handed.on, label %vendor, label %run
run:
  %value = call ptr @rerun(ptr %found, ptr %s, ptr %spec, ptr %ran)
  %ran.word = load i64, ptr %ran
  %done = icmp ne i64 %ran.word, 0
  br i1 %done, label %end, label %forget
end:
  %failed = icmp eq ptr %value, null
  br i1 %failed, label %drop, label %teach
teach:
  call void @front_learn_served(ptr %spec, ptr %found, ptr %s)
  br label %drop
drop:
  call void @Py_DecRef(ptr %found)
  ret ptr %value
vendor:
  %gain.bytes = call ptr @PyTuple_GetItem(ptr %found, i64 1)
  %gain.record = call ptr @PyBytes_AsString(ptr %gain.bytes)
  %account = call ptr @account_of(ptr %spec)
  %gain = call double @gain_of(ptr %gain.record)
  %solvent = call i1 @solvent(ptr %account, double %gain)
  br i1 %solvent, label %hand.on, label %forget
hand.on:
  call void @gain(ptr %account, double %gain)
  call void @front_learn(ptr %spec, ptr %gain.record)
  %kernel = call ptr @PyTuple_GetItem(ptr %found, i64 0)
  %first = call ptr @PyTuple_GetItem(ptr %self, i64 4)
  %answer = call ptr @hand(ptr %kernel, ptr %first, ptr %given, i64 %count, ptr %names, i64 %named)
  call void @Py_DecRef(ptr %found)
  ret ptr %answer
forget:
  call void @Py_DecRef(ptr %found)
  br label %unspelled
unspelled:
  %slowly = call ptr @hand(ptr %slow, ptr <none>, ptr %given, i64 %count, ptr %names, i64 %named)
  ret ptr %slowly
error:
  ret ptr null
}
"""
