"""A call as PyTorch boxes it, as 64-bit words, in LLVM IR text: what `spelling_ir` does for calls from Python.

In:  the helpers of `spelling_ir`; a stack of values of two words each, a payload and the tag that says what it is.
Out: `TEXT`, functions of the module of `front_ir`; where PyTorch keeps what they read.

Source: PyTorch's ATen/core/ivalue.h (values), ATen/core/List.h, c10/core/TensorImpl.h.
"""

from __future__ import annotations

TAGS = {"none": 0, "tensor": 1, "double": 3, "int": 5, "bool": 10, "text": 12, "list": 14, "device": 18}
"""PyTorch's numbers for the values that are spelled. A call with any other is not known."""

OBJECT_WORDS = 2
"""Of any object of PyTorch's. Behind them a list has a vector of values, a text a string: where either begins comes
first, then the end of the one, the length of the other."""

KEYS_AT = {"2.11": 176, "2.12": 176, "2.13": 168}
"""By PyTorch's release: the byte of a tensor where its set of dispatch keys begins."""

NUMBER_BEFORE = 3
"""So many bytes before it is the one whose highest bit says that the tensor is a number in the place of a tensor."""

DTYPES = {"double": 7, "int": 4}
"""PyTorch's numbers for the dtypes that such a number has."""

IN_PLACE = 2
"""What its kind is marked with."""

DEFAULT_DTYPE = "_ZN3c1031get_default_dtype_as_scalartypeEv"

SHIMS = ("torch_get_num_threads", DEFAULT_DTYPE)
"""What is asked of PyTorch beside what spelling asks."""

PROCESS_WORDS = 2
"""The first words of a call: the default type and the number of threads."""


def words() -> dict[str, int]:
    """What the text calls by name."""
    tags = {f"tag_{name}": tag for name, tag in TAGS.items()}
    numbers = {f"number_{name}": TAGS[name] << 8 | IN_PLACE for name in DTYPES}
    return {**tags, **numbers, **{f"dtype_{name}": number for name, number in DTYPES.items()}, "object": OBJECT_WORDS,
            "number_before": NUMBER_BEFORE}  # fmt: skip


TEXT = """
; What a handle points to that holds no tensor: Python is given None for it.
@front.undefined = internal global i64 0

; Where a tensor's set of keys begins, and the keys of tensors that are to be read conjugated or negated.
@front.keys_at = internal global i64 0
@front.views = internal global i64 0

; Whether PyTorch marked a tensor as a number.
define internal i1 @is_number(i64 %payload) {
  %keys.at = load i64, ptr @front.keys_at
  %place = sub i64 %keys.at, <number_before>
  %tensor = inttoptr i64 %payload to ptr
  %at = getelementptr i8, ptr %tensor, i64 %place
  %byte = load i8, ptr %at
  %bit = icmp slt i8 %byte, 0
  ret i1 %bit
}

; Whether a tensor is to be read conjugated or negated.
define internal i1 @is_view(i64 %payload) {
  %place = load i64, ptr @front.keys_at
  %tensor = inttoptr i64 %payload to ptr
  %at = getelementptr i8, ptr %tensor, i64 %place
  %keys = load i64, ptr %at
  %views = load i64, ptr @front.views
  %both = and i64 %keys, %views
  %some = icmp ne i64 %both, 0
  ret i1 %some
}

; Such a tensor, as the number that it is.
define internal i1 @spell_boxed_number(ptr %s, ptr %handle, i1 %handed) {
  %dtype.to = alloca i32
  %data.to = alloca ptr
  %e.dtype = call i32 <aoti_torch_get_dtype>(ptr %handle, ptr %dtype.to)
  %e.data = call i32 <aoti_torch_get_data_ptr>(ptr %handle, ptr %data.to)
  %e = or i32 %e.dtype, %e.data
  %fine = icmp eq i32 %e, 0
  br i1 %fine, label %read, label %no
read:
  %dtype = load i32, ptr %dtype.to
  %data = load ptr, ptr %data.to
  switch i32 %dtype, label %no [
    i32 <dtype_double>, label %double
    i32 <dtype_int>, label %int
  ]
double:
  %real = load double, ptr %data
  %bits = bitcast double %real to i64
  %d.ok = call i1 @spell_number(ptr %s, i64 <number_double>, i64 %bits, double %real, i1 %handed)
  ret i1 %d.ok
int:
  %whole = load i64, ptr %data
  %whole.real = sitofp i64 %whole to double
  %i.ok = call i1 @spell_number(ptr %s, i64 <number_int>, i64 %whole, double %whole.real, i1 %handed)
  ret i1 %i.ok
no:
  ret i1 0
}

; Whether argument number %i is its default, which Python is not given, so that it is no number of the call.
define internal i1 @is_default(ptr %defaults, i64 %i, ptr %at) {
  %none = icmp eq ptr %defaults, null
  br i1 %none, label %no, label %compare
compare:
  %place = shl i64 %i, 1
  %default = getelementptr i64, ptr %defaults, i64 %place
  %default.tag.at = getelementptr i64, ptr %default, i64 1
  %default.bits = load i64, ptr %default
  %default.tag = load i32, ptr %default.tag.at
  %tag.at = getelementptr i64, ptr %at, i64 1
  %bits = load i64, ptr %at
  %tag = load i32, ptr %tag.at
  %same.tag = icmp eq i32 %tag, %default.tag
  %same.bits = icmp eq i64 %bits, %default.bits
  %same = and i1 %same.tag, %same.bits
  ret i1 %same
no:
  ret i1 0
}

; The values from %first to before %end.
define internal i1 @spell_boxed_all(ptr %s, ptr %first, ptr %end, i64 %handed, ptr %defaults) {
entry:
  br label %more
more:
  %at = phi ptr [ %first, %entry ], [ %at.next, %next ]
  %mask = phi i64 [ %handed, %entry ], [ %mask.next, %next ]
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %any = icmp ult ptr %at, %end
  br i1 %any, label %one, label %yes
one:
  %bit = trunc i64 %mask to i1
  %default = call i1 @is_default(ptr %defaults, i64 %i, ptr %at)
  %anew = xor i1 %default, 1
  %number = and i1 %bit, %anew
  %ok = call i1 @spell_boxed(ptr %s, ptr %at, i1 %number)
  br i1 %ok, label %next, label %no
next:
  %at.next = getelementptr i64, ptr %at, i64 2
  %mask.next = lshr i64 %mask, 1
  %i.next = add i64 %i, 1
  br label %more
yes:
  ret i1 1
no:
  ret i1 0
}

; One value; 0 where it is of another kind.
define internal i1 @spell_boxed(ptr %s, ptr %at, i1 %handed) {
  %dtype.to = alloca i32
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
  %undefined = load i64, ptr @front.undefined
  %nobody = icmp eq i64 %payload, %undefined
  br i1 %nobody, label %none, label %some.tensor
some.tensor:
  %number = call i1 @is_number(i64 %payload)
  br i1 %number, label %as.number, label %as.tensor
as.number:
  %as.ok = call i1 @spell_boxed_number(ptr %s, ptr %at, i1 %handed)
  ret i1 %as.ok
as.tensor:
  %view = call i1 @is_view(i64 %payload)
  br i1 %view, label %no, label %as.it.is
as.it.is:
  %t.ok = call i1 @spell_layout(ptr %s, ptr %at, ptr %at, ptr %dtype.to)
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
  %l.values = call i1 @spell_boxed_all(ptr %s, ptr %l.first, ptr %l.end, i64 %l.handed, ptr null)
  %l.head = and i1 %l.kind, %l.size
  %l.ok = and i1 %l.head, %l.values
  ret i1 %l.ok
no:
  ret i1 0
}

; The call's own values are the last ones of the stack.
define internal ptr @first_argument(ptr %state, ptr %stack) {
  %end.at = getelementptr ptr, ptr %stack, i64 1
  %end = load ptr, ptr %end.at
  %arguments.at = getelementptr i64, ptr %state, i64 <at_arguments>
  %arguments = load i64, ptr %arguments.at
  %words = mul i64 %arguments, -2
  %first = getelementptr i64, ptr %end, i64 %words
  ret ptr %first
}

; A whole call.
define internal i1 @spell_stack(ptr %s, ptr %state, ptr %stack) {
  %threads.to = alloca i32
  store i64 0, ptr %s
  %tensors.at = getelementptr i64, ptr %s, i64 1
  store i64 0, ptr %tensors.at
  %numbers.at = getelementptr i64, ptr %s, i64 2
  store i64 0, ptr %numbers.at
  %end.at = getelementptr ptr, ptr %stack, i64 1
  %end = load ptr, ptr %end.at
  %first = call ptr @first_argument(ptr %state, ptr %stack)
  %type = call i8 <_ZN3c1031get_default_dtype_as_scalartypeEv>()
  %type.64 = zext i8 %type to i64
  %type.ok = call i1 @push(ptr %s, i64 %type.64)
  %handed.at = getelementptr i64, ptr %state, i64 <at_handed>
  %handed = load i64, ptr %handed.at
  %error = call i32 <torch_get_num_threads>(ptr %threads.to)
  %threads = load i32, ptr %threads.to
  %word = zext i32 %threads to i64
  %written = call i1 @push(ptr %s, i64 %word)
  %defaults.at = getelementptr i64, ptr %state, i64 <at_defaults>
  %defaults = load ptr, ptr %defaults.at
  %ok = call i1 @spell_boxed_all(ptr %s, ptr %first, ptr %end, i64 %handed, ptr %defaults)
  ret i1 %ok
}
"""
