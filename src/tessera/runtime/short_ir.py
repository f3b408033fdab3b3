"""The native half of `kernel[grid](...)`, as LLVM IR text: from Triton's call to a running grid, without Triton.

In:  the state and helpers of `calls_ir`, `caller_ir`, `guard_ir` and `recall_ir`, whose module this one is a part of.
Out: a function of Python that is bound to a list and to the slow way, which takes the same and returns the same:

    tessera_short(grid, *args, **named)      the compiled kernel that ran

The list has one element: None, or a tuple of

    watches    (dict, key, value): it is there, itself or an equal one; (dict, key): it is not there
    forms      one for each way to give arguments, of
               how many are given in order; the names of the others; each one's parameter, or None for an option;
               defaults of the parameters that are not given; the kernels compiled for them, of
               the dict and the key under which Triton keeps it; itself; the record of its guards and their objects

What Python may change meanwhile is kept alive by this tuple, which is replaced, never changed.
"""

from __future__ import annotations

from tessera.runtime import host_ir

EXPORTS = ("tessera_short",)


def module_text() -> str:
    """What is added to the module."""
    return host_ir.filled(_MODULE, host_ir.OBJECTS)


_MODULE = """
declare ptr @PyDict_Copy(ptr)
declare i32 @PyDict_SetItem(ptr, ptr, ptr)
declare i32 @PyCallable_Check(ptr)
declare ptr @PySequence_Tuple(ptr)

define internal i1 @unchanged(ptr %watches) {
entry:
  %count = call i64 @PyTuple_Size(ptr %watches)
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %absent ], [ %i.next, %compare ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %yes
look:
  %i.next = add i64 %i, 1
  %watch = call ptr @PyTuple_GetItem(ptr %watches, i64 %i)
  %dict = call ptr @PyTuple_GetItem(ptr %watch, i64 0)
  %key = call ptr @PyTuple_GetItem(ptr %watch, i64 1)
  %found = call ptr @PyDict_GetItemWithError(ptr %dict, ptr %key)
  %without = icmp eq ptr %found, null
  %size = call i64 @PyTuple_Size(ptr %watch)
  %is.absence = icmp eq i64 %size, 2
  br i1 %is.absence, label %absent, label %present
absent:
  br i1 %without, label %more, label %no
present:
  br i1 %without, label %no, label %compare
compare:
  %expected = call ptr @PyTuple_GetItem(ptr %watch, i64 2)
  %same = call i1 @alike(ptr %found, ptr %expected)
  br i1 %same, label %more, label %no
yes:
  ret i1 1
no:
  ret i1 0
}

; The form of a call that gives so many in order and others by these names; null for none.
define internal ptr @form_of(ptr %forms, i64 %count, ptr %names) {
entry:
  %forms.count = call i64 @PyTuple_Size(ptr %forms)
  %unnamed = icmp eq ptr %names, null
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ], [ %i.next, %without ], [ %i.next, %with ]
  %any = icmp slt i64 %i, %forms.count
  br i1 %any, label %look, label %none
look:
  %i.next = add i64 %i, 1
  %form = call ptr @PyTuple_GetItem(ptr %forms, i64 %i)
  %form.count.object = call ptr @PyTuple_GetItem(ptr %form, i64 0)
  %form.count = call i64 @PyLong_AsLongLong(ptr %form.count.object)
  %as.many = icmp eq i64 %form.count, %count
  br i1 %as.many, label %compare, label %more
compare:
  %form.names = call ptr @PyTuple_GetItem(ptr %form, i64 1)
  br i1 %unnamed, label %without, label %with
without:
  %size = call i64 @PyTuple_Size(ptr %form.names)
  %empty = icmp eq i64 %size, 0
  br i1 %empty, label %found, label %more
with:
  %same = call i1 @alike(ptr %names, ptr %form.names)
  br i1 %same, label %found, label %more
found:
  ret ptr %form
none:
  ret ptr null
}

; What a grid that is a function says of the arguments; null where it raised an exception.
define internal ptr @place(ptr %grid, ptr %form, ptr %values) {
entry:
  %asked = alloca ptr
  %parameters = call ptr @PyTuple_GetItem(ptr %form, i64 2)
  %count = call i64 @PyTuple_Size(ptr %parameters)
  %defaults = call ptr @PyTuple_GetItem(ptr %form, i64 3)
  %bound = call ptr @PyDict_Copy(ptr %defaults)
  %failed = icmp eq ptr %bound, null
  br i1 %failed, label %error, label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ], [ %i.next, %set ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %ask
look:
  %i.next = add i64 %i, 1
  %parameter = call ptr @PyTuple_GetItem(ptr %parameters, i64 %i)
  %option = icmp eq ptr %parameter, <none>
  br i1 %option, label %more, label %set
set:
  %value.at = getelementptr ptr, ptr %values, i64 %i
  %value = load ptr, ptr %value.at
  %status = call i32 @PyDict_SetItem(ptr %bound, ptr %parameter, ptr %value)
  %is.set = icmp eq i32 %status, 0
  br i1 %is.set, label %more, label %lost
ask:
  store ptr %bound, ptr %asked
  %answer = call ptr @PyObject_Vectorcall(ptr %grid, ptr %asked, i64 1, ptr null)
  call void @Py_DecRef(ptr %bound)
  ret ptr %answer
lost:
  call void @Py_DecRef(ptr %bound)
  ret ptr null
error:
  ret ptr null
}

; The three sizes of a grid; 0 where they are not one to three numbers that are simple.
define internal i1 @sizes(ptr %place, ptr %to) {
entry:
  store i64 1, ptr %to
  %y.at = getelementptr i64, ptr %to, i64 1
  store i64 1, ptr %y.at
  %z.at = getelementptr i64, ptr %to, i64 2
  store i64 1, ptr %z.at
  %numbers = call ptr @PySequence_Tuple(ptr %place)
  %without = icmp eq ptr %numbers, null
  br i1 %without, label %error, label %count
count:
  %count.all = call i64 @PyTuple_Size(ptr %numbers)
  %before = sub i64 %count.all, 1
  %right = icmp ult i64 %before, 3
  br i1 %right, label %look, label %no
look:
  %i = phi i64 [ 0, %count ], [ %i.next, %fits ]
  %number = call ptr @PyTuple_GetItem(ptr %numbers, i64 %i)
  %at = getelementptr i64, ptr %to, i64 %i
  %is.whole = call i1 @whole(ptr %number, ptr %at)
  br i1 %is.whole, label %judge, label %no
judge:
  %size = load i64, ptr %at
  %simple = call i1 @dimension(i64 %size)
  br i1 %simple, label %fits, label %no
fits:
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %count.all
  br i1 %more, label %look, label %yes
yes:
  call void @Py_DecRef(ptr %numbers)
  ret i1 1
no:
  call void @Py_DecRef(ptr %numbers)
  ret i1 0
error:
  call void @PyErr_Clear()
  ret i1 0
}

; Run one compiled kernel and return it; null where it is not for these values, or with an exception where it failed.
define internal ptr @attempt(ptr %known, ptr %values, i64 %count, ptr %grid) {
  %dict = call ptr @PyTuple_GetItem(ptr %known, i64 0)
  %key = call ptr @PyTuple_GetItem(ptr %known, i64 1)
  %compiled = call ptr @PyTuple_GetItem(ptr %known, i64 2)
  %found = call ptr @PyDict_GetItemWithError(ptr %dict, ptr %key)
  %kept = icmp eq ptr %found, %compiled
  br i1 %kept, label %look, label %no
look:
  %bytes = call ptr @PyTuple_GetItem(ptr %known, i64 3)
  %record = call ptr @PyBytes_AsString(ptr %bytes)
  %expected = load i64, ptr %record
  %slots.at = getelementptr i64, ptr %record, i64 1
  %slots = load i64, ptr %slots.at
  %args = alloca i64, i64 %slots, align 16
  %right = icmp eq i64 %expected, %count
  br i1 %right, label %guards, label %no
guards:
  %held = call i1 @held(ptr %record, ptr %values, ptr %args)
  br i1 %held, label %run, label %no
run:
  %fn.at = getelementptr i64, ptr %record, i64 2
  %fn = load ptr, ptr %fn.at
  %x = load i64, ptr %grid
  %y.at = getelementptr i64, ptr %grid, i64 1
  %y = load i64, ptr %y.at
  %z.at = getelementptr i64, ptr %grid, i64 2
  %z = load i64, ptr %z.at
  %result = call ptr @run_grid(ptr %fn, ptr %args, i64 %x, i64 %y, i64 %z)
  %failed = icmp eq ptr %result, null
  br i1 %failed, label %no, label %done
done:
  call void @Py_DecRef(ptr %result)
  call void @Py_IncRef(ptr %compiled)
  ret ptr %compiled
no:
  ret ptr null
}

; The kernel that ran, or null; %place is then the grid, where a function was asked for it.
define internal ptr @attempt_all(ptr %state, ptr %given, i64 %count, ptr %names, i64 %named, ptr %place) {
entry:
  %dims = alloca [3 x i64], align 16
  %watches = call ptr @PyTuple_GetItem(ptr %state, i64 0)
  %plain = call i1 @unchanged(ptr %watches)
  br i1 %plain, label %find, label %no
find:
  %forms = call ptr @PyTuple_GetItem(ptr %state, i64 1)
  %in.order = sub i64 %count, 1
  %all = add i64 %in.order, %named
  %values = getelementptr ptr, ptr %given, i64 1
  %form = call ptr @form_of(ptr %forms, i64 %in.order, ptr %names)
  %unknown = icmp eq ptr %form, null
  br i1 %unknown, label %no, label %where
where:
  %grid = load ptr, ptr %given
  %is.function = call i32 @PyCallable_Check(ptr %grid)
  %asks = icmp ne i32 %is.function, 0
  br i1 %asks, label %ask, label %size
ask:
  %answer = call ptr @place(ptr %grid, ptr %form, ptr %values)
  store ptr %answer, ptr %place
  %raised = icmp eq ptr %answer, null
  br i1 %raised, label %no, label %size
size:
  %sizes.of = phi ptr [ %grid, %where ], [ %answer, %ask ]
  %simple = call i1 @sizes(ptr %sizes.of, ptr %dims)
  br i1 %simple, label %kernels, label %no
kernels:
  %known.all = call ptr @PyTuple_GetItem(ptr %form, i64 4)
  %known.count = call i64 @PyTuple_Size(ptr %known.all)
  br label %more
more:
  %i = phi i64 [ 0, %kernels ], [ %i.next, %missed ]
  %any = icmp slt i64 %i, %known.count
  br i1 %any, label %try, label %no
try:
  %i.next = add i64 %i, 1
  %known = call ptr @PyTuple_GetItem(ptr %known.all, i64 %i)
  %compiled = call ptr @attempt(ptr %known, ptr %values, i64 %all, ptr %dims)
  %ran = icmp ne ptr %compiled, null
  br i1 %ran, label %done, label %missed
missed:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %more, label %no
done:
  ret ptr %compiled
no:
  ret ptr null
}

; (grid, *args, **named)
define ptr @tessera_short(ptr %self, ptr %given, i64 %count, ptr %names) {
entry:
  %place = alloca ptr
  %slow = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %is.call = icmp sgt i64 %count, 0
  br i1 %is.call, label %names.look, label %refuse
refuse:
  %refused = call ptr @PyObject_Vectorcall(ptr %slow, ptr %given, i64 %count, ptr %names)
  ret ptr %refused
names.look:
  %grid = load ptr, ptr %given
  store ptr %grid, ptr %place
  call void @Py_IncRef(ptr %grid)
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %known, label %names.count
names.count:
  %names.size = call i64 @PyTuple_Size(ptr %names)
  br label %known
known:
  %named = phi i64 [ 0, %names.look ], [ %names.size, %names.count ]
  %box = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %state = call ptr @PyList_GetItem(ptr %box, i64 0)
  %learned = icmp ne ptr %state, <none>
  %diverted = load atomic i64, ptr @diverted monotonic, align 8
  %straight = icmp eq i64 %diverted, 0
  %short = and i1 %learned, %straight
  br i1 %short, label %attempts, label %slowly
attempts:
  call void @Py_IncRef(ptr %state)
  %asked = alloca ptr
  store ptr null, ptr %asked
  %compiled = call ptr @attempt_all(ptr %state, ptr %given, i64 %count, ptr %names, i64 %named, ptr %asked)
  call void @Py_DecRef(ptr %state)
  %answer = load ptr, ptr %asked
  %was.asked = icmp ne ptr %answer, null
  br i1 %was.asked, label %exchange, label %judge
exchange:
  call void @Py_DecRef(ptr %grid)
  store ptr %answer, ptr %place
  br label %judge
judge:
  %ran = icmp ne ptr %compiled, null
  br i1 %ran, label %done, label %failed
failed:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %slowly, label %done
slowly:
  %first = load ptr, ptr %place
  %others = getelementptr ptr, ptr %given, i64 1
  %others.count = sub i64 %count, 1
  %slowly.done = call ptr @hand(ptr %slow, ptr %first, ptr %others, i64 %others.count, ptr %names, i64 %named)
  br label %done
done:
  %result = phi ptr [ %compiled, %judge ], [ null, %failed ], [ %slowly.done, %slowly ]
  %last = load ptr, ptr %place
  call void @Py_DecRef(ptr %last)
  ret ptr %result
}
"""
