"""The native half of Triton's launcher, as LLVM IR text: it packs the arguments of Python by the kernel's signature.

In:  what Triton hands to a launcher; the state of `calls_ir`, whose module this one is a part of.
Out: a function of Python:

    tessera_call(x, y, z, stream, function, metadata of kernel and launch, enter hook, exit hook, *arguments)

Its record has one word an argument, `64 - bits << 8 | kind`, after their number. What it cannot pack at sight (a raw
address, None, a value out of range) it hands to a function of Python with the same arguments, and launches with hooks;
the number of an assertion that failed to another, which raises.
"""

from __future__ import annotations

from tessera.runtime import host_ir

SKIP, POINTER, SIGNED, UNSIGNED, BIT, SINGLE, DOUBLE = range(7)
"""What `tessera_call` does with an argument."""

LEADING = 9
"""Arguments of Triton's launcher before the kernel's own: grid, stream, function, metadata and hooks."""

EXPORTS = ("tessera_call",)


def module_text() -> str:
    """What is added to the module."""
    words = {
        **host_ir.OBJECTS, "leading": LEADING,
        "skip": SKIP, "pointer": POINTER, "signed": SIGNED, "unsigned": UNSIGNED, "bit": BIT, "single": SINGLE,
        "double": DOUBLE,
    }  # fmt: skip
    return host_ir.filled(_MODULE, words)


_MODULE = """
declare double @PyFloat_AsDouble(ptr)
declare void @PyErr_Clear()
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyObject_VectorcallMethod(ptr, ptr, i64, ptr)
declare ptr @PyObject_GetAttr(ptr, ptr)
declare i64 @PyObject_Size(ptr)

; 0 where a number is suspect and an exception waits, which is cleared: the slow way words it.
define internal i1 @unless_raised(i1 %suspect) {
  br i1 %suspect, label %look, label %yes
look:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %yes, label %no
yes:
  ret i1 1
no:
  call void @PyErr_Clear()
  ret i1 0
}

; Read a whole number; 0 where the object is none that fits.
define internal i1 @whole(ptr %value, ptr %to) {
  %number = call i64 @PyLong_AsLongLong(ptr %value)
  store i64 %number, ptr %to
  %suspect = icmp eq i64 %number, -1
  %fine = call i1 @unless_raised(i1 %suspect)
  ret i1 %fine
}

; The address of a tensor on the CPU.
define internal i1 @address(ptr %value, ptr %to) {
  %slot = alloca ptr
  store ptr %value, ptr %slot
  %is_cpu = load ptr, ptr @name.is_cpu
  %flag = call ptr @PyObject_GetAttr(ptr %value, ptr %is_cpu)
  %without = icmp eq ptr %flag, null
  br i1 %without, label %error, label %place
place:
  call void @Py_DecRef(ptr %flag)
  %here = icmp eq ptr %flag, <true>
  br i1 %here, label %ask, label %no
ask:
  %data_ptr = load ptr, ptr @name.data_ptr
  %answer = call ptr @PyObject_VectorcallMethod(ptr %data_ptr, ptr %slot, i64 1, ptr null)
  %failed = icmp eq ptr %answer, null
  br i1 %failed, label %error, label %number
number:
  %ok = call i1 @whole(ptr %answer, ptr %to)
  call void @Py_DecRef(ptr %answer)
  ret i1 %ok
error:
  call void @PyErr_Clear()
  ret i1 0
no:
  ret i1 0
}

define internal i1 @real(ptr %value, ptr %to) {
  %number = call double @PyFloat_AsDouble(ptr %value)
  store double %number, ptr %to
  %suspect = fcmp oeq double %number, -1.0
  %fine = call i1 @unless_raised(i1 %suspect)
  ret i1 %fine
}

; Write one argument to %to as its kind asks; 0 where it is not one of the simple cases.
define internal i1 @pack(ptr %value, i64 %kind.word, ptr %to) {
  %kind = and i64 %kind.word, 255
  %shift = lshr i64 %kind.word, 8
  switch i64 %kind, label %no [
    i64 <pointer>, label %pointer
    i64 <signed>, label %signed
    i64 <unsigned>, label %unsigned
    i64 <bit>, label %bit
    i64 <single>, label %single
    i64 <double>, label %double
  ]
pointer:
  %p.ok = call i1 @address(ptr %value, ptr %to)
  ret i1 %p.ok
signed:
  %s.ok = call i1 @whole(ptr %value, ptr %to)
  %s = load i64, ptr %to
  %s.up = shl i64 %s, %shift
  %s.back = ashr i64 %s.up, %shift
  %s.fits = icmp eq i64 %s.back, %s
  %s.low = lshr i64 %s.up, %shift
  store i64 %s.low, ptr %to
  %s.fine = and i1 %s.ok, %s.fits
  ret i1 %s.fine
unsigned:
  %u.ok = call i1 @whole(ptr %value, ptr %to)
  %u = load i64, ptr %to
  %u.up = shl i64 %u, %shift
  %u.low = lshr i64 %u.up, %shift
  %u.same = icmp eq i64 %u.low, %u
  %u.positive = icmp sge i64 %u, 0
  %u.fits = and i1 %u.same, %u.positive
  %u.fine = and i1 %u.ok, %u.fits
  ret i1 %u.fine
bit:
  %b.ok = call i1 @whole(ptr %value, ptr %to)
  %b = load i64, ptr %to
  %b.set = icmp ne i64 %b, 0
  %b.word = zext i1 %b.set to i64
  store i64 %b.word, ptr %to
  ret i1 %b.ok
single:
  %f.ok = call i1 @real(ptr %value, ptr %to)
  %f = load double, ptr %to
  %f.short = fptrunc double %f to float
  store i64 0, ptr %to
  store float %f.short, ptr %to
  ret i1 %f.ok
double:
  %d.ok = call i1 @real(ptr %value, ptr %to)
  ret i1 %d.ok
no:
  ret i1 0
}

; Whether a hook of Triton's is None or a chain of none.
define internal i1 @no_hook(ptr %hook) {
  %absent = icmp eq ptr %hook, <none>
  br i1 %absent, label %yes, label %look
look:
  %name = load ptr, ptr @name.calls
  %calls = call ptr @PyObject_GetAttr(ptr %hook, ptr %name)
  %other = icmp eq ptr %calls, null
  br i1 %other, label %error, label %count
count:
  %size = call i64 @PyObject_Size(ptr %calls)
  call void @Py_DecRef(ptr %calls)
  %empty = icmp eq i64 %size, 0
  br i1 %empty, label %yes, label %error
yes:
  ret i1 1
error:
  call void @PyErr_Clear()
  ret i1 0
}

; Whether the two hooks from a place of the arguments on are none, and all launches are to go the short ways.
define internal i1 @unseen(ptr %given, i64 %at) {
  %diverted = load atomic i64, ptr @diverted monotonic, align 8
  %straight = icmp eq i64 %diverted, 0
  br i1 %straight, label %hooks, label %no
hooks:
  %enter.at = getelementptr ptr, ptr %given, i64 %at
  %enter = load ptr, ptr %enter.at
  %exit.at = getelementptr ptr, ptr %enter.at, i64 1
  %exit = load ptr, ptr %exit.at
  %no.enter = call i1 @no_hook(ptr %enter)
  %no.exit = call i1 @no_hook(ptr %exit)
  %unhooked = and i1 %no.enter, %no.exit
  ret i1 %unhooked
no:
  ret i1 0
}

; (x, y, z, stream, function, kernel's metadata, launch's metadata, enter hook, exit hook, arguments of the kernel …)
define ptr @tessera_call(ptr %self, ptr %given, i64 %count) {
entry:
  %bytes = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %slow = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %record = call ptr @PyBytes_AsString(ptr %bytes)
  %expected = load i64, ptr %record
  %leading.count = add i64 %expected, <leading>
  %right = icmp eq i64 %count, %leading.count
  %with.status = add i64 %expected, 1
  %args = alloca i64, i64 %with.status, align 16
  %status = alloca i32
  %numbers = alloca [5 x i64], align 16
  br i1 %right, label %hooks, label %slowly
hooks:
  %unseen = call i1 @unseen(ptr %given, i64 7)
  br i1 %unseen, label %lead, label %slowly
lead:
  %l = phi i64 [ 0, %hooks ], [ %l.next, %lead.next ]
  %is.stream = icmp eq i64 %l, 3
  br i1 %is.stream, label %lead.next, label %lead.read
lead.read:
  %l.at = getelementptr ptr, ptr %given, i64 %l
  %l.value = load ptr, ptr %l.at
  %l.to = getelementptr i64, ptr %numbers, i64 %l
  %l.ok = call i1 @whole(ptr %l.value, ptr %l.to)
  br i1 %l.ok, label %lead.next, label %slowly
lead.next:
  %l.next = add i64 %l, 1
  %l.more = icmp slt i64 %l.next, 5
  br i1 %l.more, label %lead, label %grid
grid:
  %x = load i64, ptr %numbers
  %y.at = getelementptr i64, ptr %numbers, i64 1
  %y = load i64, ptr %y.at
  %z.at = getelementptr i64, ptr %numbers, i64 2
  %z = load i64, ptr %z.at
  %fn.at = getelementptr i64, ptr %numbers, i64 4
  %fn.int = load i64, ptr %fn.at
  %x.fits = call i1 @dimension(i64 %x)
  %y.fits = call i1 @dimension(i64 %y)
  %z.fits = call i1 @dimension(i64 %z)
  %xy.fit = and i1 %x.fits, %y.fits
  %fit = and i1 %xy.fit, %z.fits
  br i1 %fit, label %start, label %slowly
start:
  %any = icmp sgt i64 %expected, 0
  br i1 %any, label %argument, label %run
argument:
  %i = phi i64 [ 0, %start ], [ %i.next, %counted ]
  %slot = phi i64 [ 0, %start ], [ %slot.next, %counted ]
  %i.1 = add i64 %i, 1
  %kind.at = getelementptr i64, ptr %record, i64 %i.1
  %kind = load i64, ptr %kind.at
  %skipped = icmp eq i64 %kind, <skip>
  br i1 %skipped, label %counted, label %take
take:
  %place = add i64 %i, <leading>
  %value.at = getelementptr ptr, ptr %given, i64 %place
  %value = load ptr, ptr %value.at
  %slot.at = getelementptr i64, ptr %args, i64 %slot
  %packed = call i1 @pack(ptr %value, i64 %kind, ptr %slot.at)
  br i1 %packed, label %counted, label %slowly
counted:
  %step = phi i64 [ 0, %argument ], [ 1, %take ]
  %slot.next = add i64 %slot, %step
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %expected
  br i1 %more, label %argument, label %run
run:
  ; A kernel with assertions takes one argument more, the address of its status word; any other never looks there.
  %slots = phi i64 [ 0, %start ], [ %slot.next, %counted ]
  %status.at = getelementptr i64, ptr %args, i64 %slots
  store i32 0, ptr %status
  store ptr %status, ptr %status.at
  %fn = inttoptr i64 %fn.int to ptr
  %result = call ptr @run_grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z)
  %which = load i32, ptr %status
  %held = icmp eq i32 %which, 0
  br i1 %held, label %done, label %told
done:
  ret ptr %result
told:
  call void @Py_DecRef(ptr %result)                       ; None, unless the launch itself has failed
  %failed = call ptr @PyTuple_GetItem(ptr %self, i64 2)
  %number = sext i32 %which to i64
  %object = call ptr @PyLong_FromLongLong(i64 %number)
  %asked = alloca ptr
  store ptr %object, ptr %asked
  %raised = call ptr @PyObject_Vectorcall(ptr %failed, ptr %asked, i64 1, ptr null)
  call void @Py_DecRef(ptr %object)
  ret ptr %raised
slowly:
  %answer = call ptr @PyObject_Vectorcall(ptr %slow, ptr %given, i64 %count, ptr null)
  ret ptr %answer
}

; Large grids are for Python to judge.
define internal i1 @dimension(i64 %size) {
  %fits = icmp ult i64 %size, 1048576
  %positive = icmp ne i64 %size, 0
  %both = and i1 %fits, %positive
  ret i1 %both
}
"""
