"""What a recalled call allocates and returns, as LLVM IR text; `recall_ir` builds on it.

In:  the layouts of a record's allocations; which of the tensors and allocations are results.
Out: `allocate`, `release` and `answer_of`: one object, or a tuple with None where there is no result.
"""

from __future__ import annotations

from tessera.runtime import host_ir
from tessera.runtime import spelling_ir as spelling


def module_text() -> str:
    """What is added to the module."""
    return host_ir.filled(_MODULE, {**host_ir.OBJECTS, **spelling.SCRATCH})


_MODULE = """
declare ptr @PyObject_Call(ptr, ptr, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)

; Allocate the memory of a call behind its tensors; how many it made, less than asked where an exception is set.
define internal i64 @allocate(ptr %s, i64 %first, ptr %layouts, i64 %count) {
entry:
  %handle = alloca i64
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %held ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %make, label %end
make:
  %layout = call ptr @PyTuple_GetItem(ptr %layouts, i64 %i)
  %made = call ptr @PyObject_Call(ptr <empty>, ptr %layout, ptr null)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %end, label %held
held:
  %impl = call i64 @handle_of(ptr %made)
  store i64 %impl, ptr %handle
  %place = add i64 %first, %i
  %ok = call i1 @hold(ptr %s, i64 %place, ptr %made, ptr %handle)
  %i.next = add i64 %i, 1
  br label %more
end:
  ret i64 %i
}

define internal void @release(ptr %s, i64 %first, i64 %count) {
entry:
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %one, label %end
one:
  %place.0 = add i64 %first, %i
  %place = add i64 %place.0, <objects>
  %at = getelementptr ptr, ptr %s, i64 %place
  %object = load ptr, ptr %at
  call void @Py_DecRef(ptr %object)
  %i.next = add i64 %i, 1
  br label %more
end:
  ret void
}

; A new reference to one result.
define internal ptr @result(ptr %s, ptr %results, i64 %index) {
  %at = getelementptr i64, ptr %results, i64 %index
  %number = load i64, ptr %at
  %none = icmp slt i64 %number, 0
  br i1 %none, label %nothing, label %something
nothing:
  call void @Py_IncRef(ptr <none>)
  ret ptr <none>
something:
  %place = add i64 %number, <objects>
  %object.at = getelementptr ptr, ptr %s, i64 %place
  %object = load ptr, ptr %object.at
  call void @Py_IncRef(ptr %object)
  ret ptr %object
}

define internal ptr @answer_of(ptr %s, ptr %results, i64 %count) {
  %single = icmp slt i64 %count, 0
  br i1 %single, label %one, label %several
one:
  %only = call ptr @result(ptr %s, ptr %results, i64 0)
  ret ptr %only
several:
  %tuple = call ptr @PyTuple_New(i64 %count)
  %failed = icmp eq ptr %tuple, null
  br i1 %failed, label %end, label %more
more:
  %i = phi i64 [ 0, %several ], [ %i.next, %put ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %put, label %end
put:
  %object = call ptr @result(ptr %s, ptr %results, i64 %i)
  %error = call i32 @PyTuple_SetItem(ptr %tuple, i64 %i, ptr %object)
  %i.next = add i64 %i, 1
  br label %more
end:
  ret ptr %tuple
}
"""
