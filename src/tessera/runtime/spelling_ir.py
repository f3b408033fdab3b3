"""A call of an operator as 64-bit words, as LLVM IR text.

In:  the helpers of `caller_ir`; the C interface of PyTorch, whose handle of a tensor points to what Python calls
     `_cdata`.
Out: functions of the module of `recall_ir` that write what a call depends on behind one another.

Of a tensor these are its type, dtype, sizes and strides, of a number its type and value (of one that is only handed on,
and is neither 0 nor 1, its type), of a list its length and elements, and so on.
"""

from __future__ import annotations

MOST_WORDS, MOST_POINTERS, MOST_NUMBERS = 8192, 1024, 1024
"""Longer calls are not spelled."""

SCRATCH = {
    "words": 3,
    "pointers": 3 + MOST_WORDS,
    "objects": 3 + MOST_WORDS + MOST_POINTERS,
    "numbers": 3 + MOST_WORDS + 2 * MOST_POINTERS,
    "scratch": 3 + MOST_WORDS + 2 * MOST_POINTERS + MOST_NUMBERS,
}
"""Where the parts of a call's scratch begin, in words; before them the numbers of words, tensors and handed numbers."""

SPEC = 5
"""Words of an operator's record: a bit for each argument in order that is only handed on; whether it matters that a
tensor is to be read negated or conjugated; the address of a float64 to which the gain of a call is added, or 0; how
many named arguments are only handed on; the address of the operator's front, or 0. Then the hashes of their names."""

TEXT_BYTES = 32
"""Longer strings are not spelled."""

COMPLEX = 8, 10
"""PyTorch's first and last number of a complex type; only of these there are conjugated views."""

SHIMS = (
    "aoti_torch_get_dim", "aoti_torch_get_dtype", "aoti_torch_get_sizes", "aoti_torch_get_strides",
    "aoti_torch_get_data_ptr",
)  # fmt: skip
"""What is asked of PyTorch's C interface."""

TEXT = """
declare i64 @PyObject_Hash(ptr)
declare ptr @PyUnicode_AsUTF8AndSize(ptr, ptr)
declare i64 @PyList_Size(ptr)
declare ptr @PyList_GetItem(ptr, i64)

; Write a word behind those of the call; 0 where there is no room.
define internal i1 @push(ptr %s, i64 %word) {
  %n = load i64, ptr %s
  %room = icmp ult i64 %n, <most_words>
  br i1 %room, label %write, label %no
write:
  %place = add i64 %n, <words>
  %at = getelementptr i64, ptr %s, i64 %place
  store i64 %word, ptr %at
  %next = add i64 %n, 1
  store i64 %next, ptr %s
  ret i1 1
no:
  ret i1 0
}

define internal i1 @push_all(ptr %s, ptr %from, i64 %count) {
entry:
  %n = load i64, ptr %s
  %end = add i64 %n, %count
  %room = icmp ule i64 %end, <most_words>
  br i1 %room, label %write, label %no
write:
  %place = add i64 %n, <words>
  %at = getelementptr i64, ptr %s, i64 %place
  %bytes = shl i64 %count, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %at, ptr %from, i64 %bytes, i1 false)
  store i64 %end, ptr %s
  ret i1 1
no:
  ret i1 0
}

; What PyTorch's C interface takes is a pointer to this; 0 with the exception cleared where there is none.
define internal i64 @handle_of(ptr %tensor) {
  %found = call ptr @PyObject_GetAttr(ptr %tensor, ptr <name_cdata>)
  %without = icmp eq ptr %found, null
  br i1 %without, label %error, label %read
read:
  %word = call i64 @PyLong_AsUnsignedLongLong(ptr %found)
  call void @Py_DecRef(ptr %found)
  ret i64 %word
error:
  call void @PyErr_Clear()
  ret i64 0
}

; Remember a tensor and where its elements lie; 0 where there is no room.
define internal i1 @hold(ptr %s, i64 %place, ptr %tensor, ptr %handle) {
  %room = icmp ult i64 %place, <most_pointers>
  br i1 %room, label %write, label %no
write:
  %pointer.place = add i64 %place, <pointers>
  %pointer.at = getelementptr i64, ptr %s, i64 %pointer.place
  %object.place = add i64 %place, <objects>
  %object.at = getelementptr ptr, ptr %s, i64 %object.place
  store ptr %tensor, ptr %object.at
  %failed = call i32 <aoti_torch_get_data_ptr>(ptr %handle, ptr %pointer.at)
  %ok = icmp eq i32 %failed, 0
  ret i1 %ok
no:
  ret i1 0
}

; What a tensor answers to a question: True or False.
define internal i1 @push_answer(ptr %s, ptr %tensor, ptr %question) {
  %slot = alloca ptr
  store ptr %tensor, ptr %slot
  %flag = call ptr @PyObject_VectorcallMethod(ptr %question, ptr %slot, i64 1, ptr null)
  %without = icmp eq ptr %flag, null
  br i1 %without, label %error, label %write
write:
  call void @Py_DecRef(ptr %flag)
  %word = ptrtoint ptr %flag to i64
  %ok = call i1 @push(ptr %s, i64 %word)
  ret i1 %ok
error:
  call void @PyErr_Clear()
  ret i1 0
}

; A tensor's dtype, dimensions, sizes and strides; it is held. 0 where PyTorch does not tell or there is no room.
define internal i1 @spell_layout(ptr %s, ptr %holder, ptr %handle, ptr %dtype.to) {
  %dim.to = alloca i64
  %sizes.to = alloca ptr
  %strides.to = alloca ptr
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
  %count.at = getelementptr i64, ptr %s, i64 1
  %count = load i64, ptr %count.at
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %count.at
  %held = call i1 @hold(ptr %s, i64 %count, ptr %holder, ptr %handle)
  %w.1 = and i1 %w.form, %w.sizes
  %w.2 = and i1 %w.strides, %held
  %done = and i1 %w.1, %w.2
  ret i1 %done
no:
  ret i1 0
}

define internal i1 @spell_tensor(ptr %s, ptr %tensor, i64 %type, i1 %ask.views) {
  %handle = alloca i64
  %dtype.to = alloca i32
  %impl = call i64 @handle_of(ptr %tensor)
  store i64 %impl, ptr %handle
  %none = icmp eq i64 %impl, 0
  br i1 %none, label %no, label %write
write:
  %w.type = call i1 @push(ptr %s, i64 %type)
  %w.layout = call i1 @spell_layout(ptr %s, ptr %tensor, ptr %handle, ptr %dtype.to)
  %dtype = load i32, ptr %dtype.to
  %done = and i1 %w.type, %w.layout
  %more = and i1 %done, %ask.views
  br i1 %more, label %views, label %end
views:
  %negative = call i1 @push_answer(ptr %s, ptr %tensor, ptr <name_is_neg>)
  %above = icmp uge i32 %dtype, <complex_first>
  %below = icmp ule i32 %dtype, <complex_last>
  %complex = and i1 %above, %below
  br i1 %complex, label %conjugated, label %viewed
viewed:
  ret i1 %negative
conjugated:
  %conjugate = call i1 @push_answer(ptr %s, ptr %tensor, ptr <name_is_conj>)
  %both = and i1 %negative, %conjugate
  ret i1 %both
end:
  ret i1 %done
no:
  ret i1 0
}

; A number by its type and bits; one that is handed on, and is neither 0 nor 1, by its type alone.
define internal i1 @spell_number(ptr %s, i64 %type, i64 %bits, double %real, i1 %handed) {
  %zero = fcmp oeq double %real, 0.0
  %one = fcmp oeq double %real, 1.0
  %special = or i1 %zero, %one
  %general = xor i1 %special, 1
  %taken = and i1 %handed, %general
  br i1 %taken, label %take, label %whole
take:
  %count.at = getelementptr i64, ptr %s, i64 2
  %count = load i64, ptr %count.at
  %room = icmp ult i64 %count, <most_numbers>
  br i1 %room, label %write, label %no
write:
  %place = add i64 %count, <numbers>
  %at = getelementptr i64, ptr %s, i64 %place
  store double %real, ptr %at
  %next = add i64 %count, 1
  store i64 %next, ptr %count.at
  %marked = or i64 %type, 1
  %t.ok = call i1 @push(ptr %s, i64 %marked)
  ret i1 %t.ok
whole:
  %type.ok = call i1 @push(ptr %s, i64 %type)
  %bits.ok = call i1 @push(ptr %s, i64 %bits)
  %ok = and i1 %type.ok, %bits.ok
  ret i1 %ok
no:
  ret i1 0
}

define internal i1 @spell_bytes(ptr %s, ptr %bytes, i64 %size, i64 %type) {
  %words = alloca [<text_bytes> x i8], align 8
  %fits = icmp ule i64 %size, <text_bytes>
  br i1 %fits, label %write, label %no
write:
  call void @llvm.memset.p0.i64(ptr %words, i8 0, i64 <text_bytes>, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %words, ptr %bytes, i64 %size, i1 false)
  %count = lshr i64 <text_bytes>, 3
  %type.ok = call i1 @push(ptr %s, i64 %type)
  %size.ok = call i1 @push(ptr %s, i64 %size)
  %words.ok = call i1 @push_all(ptr %s, ptr %words, i64 %count)
  %both = and i1 %type.ok, %size.ok
  %ok = and i1 %both, %words.ok
  ret i1 %ok
no:
  ret i1 0
}

define internal i1 @spell_text(ptr %s, ptr %text, i64 %type) {
  %size.to = alloca i64
  %bytes = call ptr @PyUnicode_AsUTF8AndSize(ptr %text, ptr %size.to)
  %failed = icmp eq ptr %bytes, null
  br i1 %failed, label %error, label %write
write:
  %size = load i64, ptr %size.to
  %ok = call i1 @spell_bytes(ptr %s, ptr %bytes, i64 %size, i64 %type)
  ret i1 %ok
error:
  call void @PyErr_Clear()
  ret i1 0
}

; One value, or the elements of a list of them; 0 where it is of another kind.
define internal i1 @spell(ptr %s, ptr %value, i1 %handed, i1 %ask.views) {
entry:
  %type = call ptr @PyObject_Type(ptr %value)
  call void @Py_DecRef(ptr %type)
  %type.int = ptrtoint ptr %type to i64
  %whole.to = alloca i64
  %t.plain = icmp eq ptr %type, <type_tensor>
  %t.parameter = icmp eq ptr %type, <type_parameter>
  %t = or i1 %t.plain, %t.parameter
  br i1 %t, label %tensor, label %not.tensor
tensor:
  %t.ok = call i1 @spell_tensor(ptr %s, ptr %value, i64 %type.int, i1 %ask.views)
  ret i1 %t.ok
not.tensor:
  %is.int = icmp eq ptr %type, <type_int>
  br i1 %is.int, label %int, label %not.int
int:
  %i.ok = call i1 @whole(ptr %value, ptr %whole.to)
  br i1 %i.ok, label %int.read, label %no
int.read:
  %i = load i64, ptr %whole.to
  %i.real = sitofp i64 %i to double
  %i.done = call i1 @spell_number(ptr %s, i64 %type.int, i64 %i, double %i.real, i1 %handed)
  ret i1 %i.done
not.int:
  %is.float = icmp eq ptr %type, <type_float>
  br i1 %is.float, label %float, label %not.float
float:
  %f = call double @PyFloat_AsDouble(ptr %value)
  %f.bits = bitcast double %f to i64
  %f.done = call i1 @spell_number(ptr %s, i64 %type.int, i64 %f.bits, double %f, i1 %handed)
  ret i1 %f.done
not.float:
  %is.list = icmp eq ptr %type, <type_list>
  br i1 %is.list, label %list, label %not.list
list:
  %size = call i64 @PyList_Size(ptr %value)
  %l.type = call i1 @push(ptr %s, i64 %type.int)
  %l.size = call i1 @push(ptr %s, i64 %size)
  %l.head = and i1 %l.type, %l.size
  br i1 %l.head, label %more, label %no
more:
  %k = phi i64 [ 0, %list ], [ %k.next, %next ]
  %any = icmp slt i64 %k, %size
  br i1 %any, label %element, label %yes
element:
  %one = call ptr @PyList_GetItem(ptr %value, i64 %k)
  %gone = icmp eq ptr %one, null
  br i1 %gone, label %lost, label %inner
inner:
  %e.ok = call i1 @spell(ptr %s, ptr %one, i1 %handed, i1 %ask.views)
  br i1 %e.ok, label %next, label %no
next:
  %k.next = add i64 %k, 1
  br label %more
lost:
  call void @PyErr_Clear()
  ret i1 0
not.list:
  %is.text = icmp eq ptr %type, <type_str>
  br i1 %is.text, label %text, label %not.text
text:
  %text.ok = call i1 @spell_text(ptr %s, ptr %value, i64 %type.int)
  ret i1 %text.ok
not.text:
  ; Of these types each object is the only one of its value and lives for ever.
  %is.none = icmp eq ptr %type, <type_none>
  %is.bool = icmp eq ptr %type, <type_bool>
  %is.dtype = icmp eq ptr %type, <type_dtype>
  %is.layout = icmp eq ptr %type, <type_layout>
  %is.format = icmp eq ptr %type, <type_format>
  %u.1 = or i1 %is.none, %is.bool
  %u.2 = or i1 %is.dtype, %is.layout
  %u.3 = or i1 %u.1, %u.2
  %unique = or i1 %u.3, %is.format
  br i1 %unique, label %itself, label %no
itself:
  %object = ptrtoint ptr %value to i64
  %o.ok = call i1 @push(ptr %s, i64 %object)
  ret i1 %o.ok
yes:
  ret i1 1
no:
  ret i1 0
}

; The names of the arguments behind the first %count are in %names, null where there are none.
define internal i1 @spell_all(ptr %s, ptr %given, i64 %count, ptr %names, i64 %named, ptr %spec) {
entry:
  %mask = load i64, ptr %spec
  %views.at = getelementptr i64, ptr %spec, i64 1
  %views.word = load i64, ptr %views.at
  %views = icmp ne i64 %views.word, 0
  %head = call i1 @push(ptr %s, i64 %count)
  br i1 %head, label %more, label %no
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %one, label %rest
one:
  %bit = lshr i64 %mask, %i
  %handed = trunc i64 %bit to i1
  %at = getelementptr ptr, ptr %given, i64 %i
  %value = load ptr, ptr %at
  %ok = call i1 @spell(ptr %s, ptr %value, i1 %handed, i1 %views)
  br i1 %ok, label %next, label %no
next:
  %i.next = add i64 %i, 1
  br label %more
rest:
  %j = phi i64 [ 0, %more ], [ %j.next, %rest.next ]
  %some = icmp slt i64 %j, %named
  br i1 %some, label %name, label %yes
name:
  %text = call ptr @PyTuple_GetItem(ptr %names, i64 %j)
  %hash = call i64 @PyObject_Hash(ptr %text)
  %n.ok = call i1 @push(ptr %s, i64 %hash)
  %n.handed = call i1 @is_handed(ptr %spec, i64 %hash)
  %n.place = add i64 %count, %j
  %n.at = getelementptr ptr, ptr %given, i64 %n.place
  %n.value = load ptr, ptr %n.at
  br i1 %n.ok, label %spell, label %no
spell:
  %v.ok = call i1 @spell(ptr %s, ptr %n.value, i1 %n.handed, i1 %views)
  br i1 %v.ok, label %rest.next, label %no
rest.next:
  %j.next = add i64 %j, 1
  br label %rest
yes:
  ret i1 1
no:
  ret i1 0
}

; Whether the argument of a name is one that is only handed on.
define internal i1 @is_handed(ptr %spec, i64 %hash) {
entry:
  %count.at = getelementptr i64, ptr %spec, i64 3
  %count = load i64, ptr %count.at
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %no
look:
  %place = add i64 %i, <spec>
  %at = getelementptr i64, ptr %spec, i64 %place
  %one = load i64, ptr %at
  %same = icmp eq i64 %one, %hash
  %i.next = add i64 %i, 1
  br i1 %same, label %yes, label %more
yes:
  ret i1 1
no:
  ret i1 0
}
"""
