"""The native half of a launch from Python, as LLVM IR text: the functions that the interpreter calls directly.

In:  Python objects, by the interpreter's own calling convention (`METH_FASTCALL`); exported functions of CPython only.
Out: `tessera_use`, which is told the pool, `tessera_divert`, which switches the short ways off, and two functions of
     Python:

    tessera_one(address, packed, x, y, z)     one launch with packed arguments
    tessera_chain(pointer, …)                 a recorded chain of launches; the pointers go where its record says

A chain's record is made of 64-bit words: a header of `HEADER` words (launches, pointers, most argument words of one
launch, whether any has more than one program), then for each launch `LAUNCH` words (function, x, y, z, argument words,
patches), the argument words, and three words a patch: argument, pointer, offset in bytes. A launch without patches
reads its arguments in the record; else in a copy on the stack, so that threads share nothing. The pointer behind the
last one is that copy: words behind the arguments are a table that the kernel is given the address of.

Where a launch is to be seen by Python first, as a capture needs, all chains and launchers are *diverted*: they call
their slow function, which launches one by one through `pool.launch`. The interpreter's lock is given up while kernels
run. How many threads there are is asked of `ready`, and only by launches of more than one program.
"""

from __future__ import annotations

from tessera.runtime import host_ir

HEADER = 4
LAUNCH = 6

EXPORTS = ("tessera_use", "tessera_divert", "tessera_one", "tessera_chain")


def module_text() -> str:
    """What is added to the module of the pool."""
    return host_ir.filled(_MODULE, {**host_ir.OBJECTS, "header": HEADER, "launch": LAUNCH})


_MODULE = """
@pool = internal global ptr null
@ready = internal global ptr null
@diverted = internal global i64 0
@name.data_ptr = internal global ptr null
@name.is_cpu = internal global ptr null
@name.calls = internal global ptr null
@name.dtype = internal global ptr null

declare ptr @PyBytes_AsString(ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare i64 @PyLong_AsLongLong(ptr)
declare i64 @PyLong_AsUnsignedLongLong(ptr)
declare ptr @PyErr_Occurred()
declare ptr @PyObject_CallObject(ptr, ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

; The pool to use from now on, what makes it ready and says its number of threads, and four names as Python strings.
define void @tessera_use(ptr %pool, ptr %ready, ptr %data_ptr, ptr %is_cpu, ptr %calls, ptr %dtype) {
  store ptr %pool, ptr @pool
  store ptr %ready, ptr @ready
  store ptr %data_ptr, ptr @name.data_ptr
  store ptr %is_cpu, ptr @name.is_cpu
  store ptr %calls, ptr @name.calls
  store ptr %dtype, ptr @name.dtype
  ret void
}

; From now on every call of a chain or a launcher goes to its function of Python (1), or no longer does (-1).
define void @tessera_divert(i64 %change) {
  %before = atomicrmw add ptr @diverted, i64 %change seq_cst
  ret void
}

define internal ptr @none() {
  call void @Py_IncRef(ptr <none>)
  ret ptr <none>
}

; How many threads a launch may use now, as `ready` says; negative with an exception set where it fails.
define internal i64 @threads() {
  %ready = load ptr, ptr @ready
  %answer = call ptr @PyObject_CallObject(ptr %ready, ptr null)
  %failed = icmp eq ptr %answer, null
  br i1 %failed, label %error, label %number
number:
  %count = call i64 @PyLong_AsLongLong(ptr %answer)
  call void @Py_DecRef(ptr %answer)
  ret i64 %count
error:
  ret i64 -1
}

; Every program of one grid.
define internal void @grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z, i64 %threads) {
  %xy = mul i64 %x, %y
  %programs = mul i64 %xy, %z
  %x.32 = trunc i64 %x to i32
  %y.32 = trunc i64 %y to i32
  %z.32 = trunc i64 %z to i32
  %several = icmp sgt i64 %programs, 1
  %many = icmp sgt i64 %threads, 1
  %parallel = and i1 %several, %many
  br i1 %parallel, label %together, label %alone
alone:
  call void %fn(ptr %args, i64 0, i64 %programs, i32 %x.32, i32 %y.32, i32 %z.32)
  ret void
together:
  %pool = load ptr, ptr @pool
  %threads.32 = trunc i64 %threads to i32
  call void @tessera_launch(ptr %pool, ptr %fn, ptr %args, i32 %x.32, i32 %y.32, i32 %z.32, i32 %threads.32)
  ret void
}

; One grid from Python: None, or null with an exception.
define internal ptr @run_grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z) {
entry:
  %xy = mul i64 %x, %y
  %programs = mul i64 %xy, %z
  %several = icmp sgt i64 %programs, 1
  br i1 %several, label %ask, label %run
ask:
  %asked = call i64 @threads()
  %failed = icmp slt i64 %asked, 0
  br i1 %failed, label %error, label %run
run:
  %threads = phi i64 [ 1, %entry ], [ %asked, %ask ]
  %state = call ptr @PyEval_SaveThread()
  call void @grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z, i64 %threads)
  call void @PyEval_RestoreThread(ptr %state)
  %none = call ptr @none()
  ret ptr %none
error:
  ret ptr null
}

define internal i64 @integer(ptr %values, i64 %index) {
  %at = getelementptr ptr, ptr %values, i64 %index
  %value = load ptr, ptr %at
  %number = call i64 @PyLong_AsLongLong(ptr %value)
  ret i64 %number
}

; (address, packed arguments, x, y, z)
define ptr @tessera_one(ptr %self, ptr %given, i64 %count) {
  %fn.int = call i64 @integer(ptr %given, i64 0)
  %packed.at = getelementptr ptr, ptr %given, i64 1
  %packed = load ptr, ptr %packed.at
  %x = call i64 @integer(ptr %given, i64 2)
  %y = call i64 @integer(ptr %given, i64 3)
  %z = call i64 @integer(ptr %given, i64 4)
  %args = call ptr @PyBytes_AsString(ptr %packed)
  %error.object = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error.object, null
  br i1 %fine, label %run, label %error
run:
  %fn = inttoptr i64 %fn.int to ptr
  %result = call ptr @run_grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z)
  ret ptr %result
error:
  ret ptr null
}

; The launches of a chain, with its pointers, which have room for one more; 0 with an exception set where none ran.
define internal i1 @run_chain(ptr %record, ptr %pointers) {
entry:
  %parallel.at = getelementptr i64, ptr %record, i64 3
  %parallel.word = load i64, ptr %parallel.at
  %parallel = icmp ne i64 %parallel.word, 0
  br i1 %parallel, label %ask, label %start
ask:
  %asked = call i64 @threads()
  %failed = icmp slt i64 %asked, 0
  br i1 %failed, label %error, label %start
start:
  %threads = phi i64 [ 1, %entry ], [ %asked, %ask ]
  %state = call ptr @PyEval_SaveThread()
  call void @run_launches(ptr %record, ptr %pointers, i64 %threads)
  call void @PyEval_RestoreThread(ptr %state)
  ret i1 1
error:
  ret i1 0
}

; The launches of a chain, without the interpreter.
define internal void @run_launches(ptr %record, ptr %pointers, i64 %threads) {
start:
  %launches = load i64, ptr %record
  %expected.at = getelementptr i64, ptr %record, i64 1
  %expected = load i64, ptr %expected.at
  %most.at = getelementptr i64, ptr %record, i64 2
  %most = load i64, ptr %most.at
  %first = getelementptr i64, ptr %record, i64 <header>
  %copy = alloca i64, i64 %most, align 16
  %copy.int = ptrtoint ptr %copy to i64
  %copy.at = getelementptr i64, ptr %pointers, i64 %expected
  store i64 %copy.int, ptr %copy.at
  %some = icmp sgt i64 %launches, 0
  br i1 %some, label %launch, label %exit
launch:
  %n = phi i64 [ 0, %start ], [ %n.next, %run ]
  %at = phi ptr [ %first, %start ], [ %next, %run ]
  %fn = load ptr, ptr %at
  %x.at = getelementptr i64, ptr %at, i64 1
  %x = load i64, ptr %x.at
  %y.at = getelementptr i64, ptr %at, i64 2
  %y = load i64, ptr %y.at
  %z.at = getelementptr i64, ptr %at, i64 3
  %z = load i64, ptr %z.at
  %words.at = getelementptr i64, ptr %at, i64 4
  %words = load i64, ptr %words.at
  %patches.at = getelementptr i64, ptr %at, i64 5
  %patches = load i64, ptr %patches.at
  %own = getelementptr i64, ptr %at, i64 <launch>
  %patch.first = getelementptr i64, ptr %own, i64 %words
  %patch.words = mul i64 %patches, 3
  %next = getelementptr i64, ptr %patch.first, i64 %patch.words
  %patched = icmp sgt i64 %patches, 0
  br i1 %patched, label %duplicate, label %run
duplicate:
  %size = shl i64 %words, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %copy, ptr %own, i64 %size, i1 false)
  br label %patch
patch:
  %p = phi i64 [ 0, %duplicate ], [ %p.next, %patch ]
  %patch.at = phi ptr [ %patch.first, %duplicate ], [ %patch.next, %patch ]
  %slot = load i64, ptr %patch.at
  %source.at = getelementptr i64, ptr %patch.at, i64 1
  %source = load i64, ptr %source.at
  %offset.at = getelementptr i64, ptr %patch.at, i64 2
  %offset = load i64, ptr %offset.at
  %base.at = getelementptr i64, ptr %pointers, i64 %source
  %base = load i64, ptr %base.at
  %moved = add i64 %base, %offset
  %slot.at = getelementptr i64, ptr %copy, i64 %slot
  store i64 %moved, ptr %slot.at
  %patch.next = getelementptr i64, ptr %patch.at, i64 3
  %p.next = add i64 %p, 1
  %more.patches = icmp slt i64 %p.next, %patches
  br i1 %more.patches, label %patch, label %run
run:
  %args = phi ptr [ %own, %launch ], [ %copy, %patch ]
  call void @grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z, i64 %threads)
  %n.next = add i64 %n, 1
  %more = icmp slt i64 %n.next, %launches
  br i1 %more, label %launch, label %exit
exit:
  ret void
}

; The pointers of a chain, in order.
define ptr @tessera_chain(ptr %self, ptr %given, i64 %count) {
entry:
  %bytes = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %slow = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %diverted = load atomic i64, ptr @diverted monotonic, align 8
  %record = call ptr @PyBytes_AsString(ptr %bytes)
  %expected.at = getelementptr i64, ptr %record, i64 1
  %expected = load i64, ptr %expected.at
  %places = add i64 %expected, 1
  %pointers = alloca i64, i64 %places, align 16
  %straight = icmp eq i64 %diverted, 0
  %right = icmp eq i64 %count, %expected
  %here = and i1 %straight, %right
  br i1 %here, label %begin, label %slowly
slowly:
  %answer = call ptr @PyObject_Vectorcall(ptr %slow, ptr %given, i64 %count, ptr null)
  ret ptr %answer
begin:
  %any = icmp sgt i64 %expected, 0
  br i1 %any, label %convert, label %converted
convert:
  %i = phi i64 [ 0, %begin ], [ %i.next, %convert ]
  %value.at = getelementptr ptr, ptr %given, i64 %i
  %value = load ptr, ptr %value.at
  %pointer = call i64 @PyLong_AsUnsignedLongLong(ptr %value)
  %pointer.at = getelementptr i64, ptr %pointers, i64 %i
  store i64 %pointer, ptr %pointer.at
  %i.next = add i64 %i, 1
  %more.pointers = icmp slt i64 %i.next, %expected
  br i1 %more.pointers, label %convert, label %check
check:
  %error.object = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error.object, null
  br i1 %fine, label %converted, label %error
converted:
  %ok = call i1 @run_chain(ptr %record, ptr %pointers)
  br i1 %ok, label %end, label %error
end:
  %none = call ptr @none()
  ret ptr %none
error:
  ret ptr null
}
"""
