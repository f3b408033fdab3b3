"""The native half of guards, as LLVM IR text: what must hold of values for a compiled kernel to be theirs.

In:  the state and helpers of `calls_ir` and `caller_ir`, whose module this one is a part of.
Out: `@held(record, values, args)`, which looks at the values, packs them, and is 0 where a guard does not hold.

Triton compiles a kernel for what it finds in its arguments: types, alignment, numbers that are 1 or a multiple of 16,
constants. A guard is what must hold of a value for a compiled kernel to be the one that Triton would choose. The record
is made of 64-bit words: how many values, words of packed arguments, the kernel's function, then two words a value,
`slot << 32 | flags << 16 | 64 - bits << 8 | kind` with the kinds of `caller_ir`, and the address of an object: the type
of a number, the dtype of a tensor, or the constant itself.
"""

from __future__ import annotations

from tessera.runtime import caller_ir, host_ir

ALIGNED, UNALIGNED, NOT_ONE, WIDE = 1, 2, 4, 8
"""Flags: a multiple of 16, none, a number that is not 1, a number that needs more than 32 bits."""

HEADER = 3
"""Words of a record before its values."""


def module_text() -> str:
    """What is added to the module."""
    words = {
        "header": HEADER, "skip": caller_ir.SKIP, "pointer": caller_ir.POINTER, "aligned": ALIGNED,
        "unaligned": UNALIGNED, "not_one": NOT_ONE, "wide": WIDE,
    }  # fmt: skip
    return host_ir.filled(_MODULE, words)


_MODULE = """
declare ptr @PyObject_Type(ptr)
declare i32 @PyObject_RichCompareBool(ptr, ptr, i32)

define internal i1 @same_type(ptr %value, ptr %type) {
  %found = call ptr @PyObject_Type(ptr %value)
  call void @Py_DecRef(ptr %found)
  %same = icmp eq ptr %found, %type
  ret i1 %same
}

; The same object, or an equal one; an exception is an answer, too.
define internal i1 @alike(ptr %found, ptr %expected) {
  %itself = icmp eq ptr %found, %expected
  br i1 %itself, label %yes, label %compare
compare:
  call void @Py_IncRef(ptr %found)
  %equal = call i32 @PyObject_RichCompareBool(ptr %found, ptr %expected, i32 2)
  call void @Py_DecRef(ptr %found)
  %same = icmp eq i32 %equal, 1
  br i1 %same, label %yes, label %no
yes:
  ret i1 1
no:
  call void @PyErr_Clear()
  ret i1 0
}

; A constant: the object itself, or an equal one of its type.
define internal i1 @same_constant(ptr %value, ptr %constant) {
  %type = call ptr @PyObject_Type(ptr %constant)
  call void @Py_DecRef(ptr %type)
  %of.type = call i1 @same_type(ptr %value, ptr %type)
  br i1 %of.type, label %compare, label %no
compare:
  %same = call i1 @alike(ptr %value, ptr %constant)
  ret i1 %same
no:
  ret i1 0
}

define internal i1 @has_dtype(ptr %value, ptr %dtype) {
  %name = load ptr, ptr @name.dtype
  %found = call ptr @PyObject_GetAttr(ptr %value, ptr %name)
  %without = icmp eq ptr %found, null
  br i1 %without, label %error, label %compare
compare:
  call void @Py_DecRef(ptr %found)
  %same = icmp eq ptr %found, %dtype
  ret i1 %same
error:
  call void @PyErr_Clear()
  ret i1 0
}

; Whether a packed word is what the flags ask for.
define internal i1 @is_as(i64 %word, i64 %flags) {
  %low = and i64 %word, 15
  %multiple = icmp eq i64 %low, 0
  %single = icmp eq i64 %word, 1
  %up = shl i64 %word, 32
  %back = ashr i64 %up, 32
  %short = icmp eq i64 %back, %word
  %aligned.bit = and i64 %flags, <aligned>
  %aligned.off = icmp eq i64 %aligned.bit, 0
  %aligned = or i1 %aligned.off, %multiple
  %unaligned.bit = and i64 %flags, <unaligned>
  %unaligned.off = icmp eq i64 %unaligned.bit, 0
  %odd = xor i1 %multiple, 1
  %unaligned = or i1 %unaligned.off, %odd
  %one.bit = and i64 %flags, <not_one>
  %one.off = icmp eq i64 %one.bit, 0
  %other = xor i1 %single, 1
  %not.one = or i1 %one.off, %other
  %wide.bit = and i64 %flags, <wide>
  %wide.off = icmp eq i64 %wide.bit, 0
  %long = xor i1 %short, 1
  %wide = or i1 %wide.off, %long
  %a = and i1 %aligned, %unaligned
  %b = and i1 %not.one, %wide
  %all = and i1 %a, %b
  ret i1 %all
}

; Look at one value and pack it; 0 where its guard does not hold.
define internal i1 @guard(ptr %value, i64 %how, ptr %object, ptr %args) {
  %kind = and i64 %how, 255
  %kind.word = and i64 %how, 65535
  %flags.up = lshr i64 %how, 16
  %flags = and i64 %flags.up, 255
  %slot = lshr i64 %how, 32
  %to = getelementptr i64, ptr %args, i64 %slot
  switch i64 %kind, label %number [
    i64 <skip>, label %constant
    i64 <pointer>, label %tensor
  ]
constant:
  %same = call i1 @same_constant(ptr %value, ptr %object)
  ret i1 %same
tensor:
  %dtype.ok = call i1 @has_dtype(ptr %value, ptr %object)
  br i1 %dtype.ok, label %take, label %no
number:
  %type.ok = call i1 @same_type(ptr %value, ptr %object)
  br i1 %type.ok, label %take, label %no
take:
  %packed = call i1 @pack(ptr %value, i64 %kind.word, ptr %to)
  br i1 %packed, label %look, label %no
look:
  %word = load i64, ptr %to
  %fits = call i1 @is_as(i64 %word, i64 %flags)
  ret i1 %fits
no:
  ret i1 0
}

; Look at all values; %args has room for as many words as the record says.
define internal i1 @held(ptr %record, ptr %values, ptr %args) {
entry:
  %expected = load i64, ptr %record
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %value ]
  %any = icmp slt i64 %i, %expected
  br i1 %any, label %value, label %yes
value:
  %value.at = getelementptr ptr, ptr %values, i64 %i
  %given = load ptr, ptr %value.at
  %pair = shl i64 %i, 1
  %how.place = add i64 %pair, <header>
  %how.at = getelementptr i64, ptr %record, i64 %how.place
  %how = load i64, ptr %how.at
  %object.at = getelementptr i64, ptr %how.at, i64 1
  %object = load ptr, ptr %object.at
  %holds = call i1 @guard(ptr %given, i64 %how, ptr %object, ptr %args)
  %i.next = add i64 %i, 1
  br i1 %holds, label %more, label %no
yes:
  ret i1 1
no:
  ret i1 0
}
"""
