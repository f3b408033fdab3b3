"""A call that a front serves, as LLVM IR text: memory, launches, results in the place of arguments; no Python.

In:  an entry of `recall.py`, whose record `recall_ir` tells; the words of the call, and PyTorch's stack that has it.
Out: `TEXT`, functions of the module of `front_ir`.

The stack owns its values, so what is taken off it is let go of: tensors by PyTorch itself, for more hangs on them than
a count; lists and texts as PyTorch's own pointers do it, by the count that is their second word.
Source: PyTorch's c10/util/intrusive_ptr.h.
"""

from __future__ import annotations

SHIMS = ("aoti_torch_new_uninitialized_tensor", "aoti_torch_delete_tensor_object", "aoti_torch_empty_strided")
"""What is asked of PyTorch's C interface."""

TEXT = """
; How many threads a launch may use; 0 where Python has to be asked.
define internal i64 @threads_alone(i64 %parallel) {
  %count.to = alloca i32
  %several = icmp ne i64 %parallel, 0
  br i1 %several, label %ask, label %one
ask:
  %team = load atomic ptr, ptr @team monotonic, align 8
  %pool = load ptr, ptr @pool
  %no.team = icmp eq ptr %team, null
  %no.pool = icmp eq ptr %pool, null
  %unready = or i1 %no.team, %no.pool
  br i1 %unready, label %no, label %count
count:
  %error = call i32 <torch_get_num_threads>(ptr %count.to)
  %found = load i32, ptr %count.to
  %many = zext i32 %found to i64
  ret i64 %many
one:
  ret i64 1
no:
  ret i64 0
}

; Free tensors that were made for a call.
define internal void @unmake(ptr %s, i64 %first, i64 %count) {
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
  %handle = load ptr, ptr %at
  %error = call i32 <aoti_torch_delete_tensor_object>(ptr %handle)
  %i.next = add i64 %i, 1
  br label %more
end:
  ret void
}

; Make the tensors of a call, behind its arguments; 0 where there is no memory: then none is made.
define internal i1 @make(ptr %s, i64 %first, ptr %layouts, i64 %count) {
entry:
  %handle.to = alloca ptr
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %held ]
  %layout = phi ptr [ %layouts, %entry ], [ %layout.next, %held ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %one, label %yes
one:
  %dim = load i64, ptr %layout
  %dtype.at = getelementptr i64, ptr %layout, i64 1
  %dtype.64 = load i64, ptr %dtype.at
  %dtype = trunc i64 %dtype.64 to i32
  %sizes = getelementptr i64, ptr %layout, i64 2
  %strides = getelementptr i64, ptr %sizes, i64 %dim
  %layout.next = getelementptr i64, ptr %strides, i64 %dim
  %error = call i32 <aoti_torch_empty_strided>(
    i64 %dim, ptr %sizes, ptr %strides, i32 %dtype, i32 0, i32 0, ptr %handle.to)
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %no, label %made
made:
  %handle = load ptr, ptr %handle.to
  %place = add i64 %first, %i
  %i.next = add i64 %i, 1
  %ok = call i1 @hold(ptr %s, i64 %place, ptr %handle, ptr %handle)
  br i1 %ok, label %held, label %undo
held:
  br label %more
undo:
  br label %no
yes:
  ret i1 1
no:
  %so.far = phi i64 [ %i, %one ], [ %i.next, %undo ]
  call void @unmake(ptr %s, i64 %first, i64 %so.far)
  ret i1 0
}

; Let go of one value of a stack.
define internal void @drop(ptr %at) {
  %payload = load i64, ptr %at
  %tag.at = getelementptr i64, ptr %at, i64 1
  %tag = load i32, ptr %tag.at
  switch i32 %tag, label %end [
    i32 <tag_tensor>, label %tensor
    i32 <tag_text>, label %object
    i32 <tag_list>, label %object
  ]
tensor:
  ; PyTorch lets go of what a handle holds.
  %handle.to = alloca ptr
  %error = call i32 <aoti_torch_new_uninitialized_tensor>(ptr %handle.to)
  %handle = load ptr, ptr %handle.to
  store i64 %payload, ptr %handle
  %error.2 = call i32 <aoti_torch_delete_tensor_object>(ptr %handle)
  ret void
object:
  %object.at = inttoptr i64 %payload to ptr
  %references.at = getelementptr i64, ptr %object.at, i64 1
  %references = atomicrmw sub ptr %references.at, i64 1 acq_rel
  %strong = trunc i64 %references to i32
  %last = icmp eq i32 %strong, 1
  br i1 %last, label %delete, label %end
delete:
  ; The second of its virtual functions is the destructor that frees it.
  %virtual = load ptr, ptr %object.at
  %destructor.at = getelementptr ptr, ptr %virtual, i64 1
  %destructor = load ptr, ptr %destructor.at
  call void %destructor(ptr %object.at)
  ret void
end:
  ret void
}

; Take the result of a number out of what holds it: an argument of the call, or what was made.
define internal void @take(ptr %s, i64 %number, i64 %tensors, ptr %to) {
  %tag.to = getelementptr i64, ptr %to, i64 1
  %none = icmp slt i64 %number, 0
  br i1 %none, label %nothing, label %something
nothing:
  ; PyTorch's own word for no tensor.
  %no.tensor = load i64, ptr @front.undefined
  store i64 %no.tensor, ptr %to
  store i64 <tag_tensor>, ptr %tag.to
  ret void
something:
  %place = add i64 %number, <objects>
  %holder.at = getelementptr ptr, ptr %s, i64 %place
  %holder = load ptr, ptr %holder.at
  %payload = load i64, ptr %holder
  store i64 %payload, ptr %to
  store i64 <tag_tensor>, ptr %tag.to
  %given = icmp slt i64 %number, %tensors
  br i1 %given, label %argument, label %made
argument:
  %tag.at = getelementptr i64, ptr %holder, i64 1
  store i32 <tag_none>, ptr %tag.at
  ret void
made:
  %nobody = load i64, ptr @front.undefined
  store i64 %nobody, ptr %holder
  ret void
}

; The list among the arguments that nobody else has, to be given back with other tensors in it: null where it is another
; size, or where a result is an argument itself.
define internal ptr @list_to_return(ptr %state, ptr %stack, ptr %results, i64 %count, i64 %tensors) {
entry:
  %first = call ptr @first_argument(ptr %state, ptr %stack)
  %donor.at = getelementptr i64, ptr %state, i64 <at_donor>
  %donor = load i64, ptr %donor.at
  %donor.word = shl i64 %donor, 1
  %at = getelementptr i64, ptr %first, i64 %donor.word
  %payload = load ptr, ptr %at
  %references.at = getelementptr i64, ptr %payload, i64 1
  %references = load atomic i64, ptr %references.at acquire, align 8
  %strong = trunc i64 %references to i32
  %sole = icmp eq i32 %strong, 1
  %vector = getelementptr i64, ptr %payload, i64 <object>
  %begin = load i64, ptr %vector
  %end.at = getelementptr i64, ptr %vector, i64 1
  %end = load i64, ptr %end.at
  %bytes = sub i64 %end, %begin
  %wanted = shl i64 %count, 4
  %as.long = icmp eq i64 %bytes, %wanted
  %fits = and i1 %sole, %as.long
  br i1 %fits, label %more, label %no
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %yes
look:
  %number.at = getelementptr i64, ptr %results, i64 %i
  %number = load i64, ptr %number.at
  %made = icmp sge i64 %number, %tensors
  %i.next = add i64 %i, 1
  br i1 %made, label %more, label %no
yes:
  ret ptr %at
no:
  ret ptr null
}

; Put the results in the places of a list's tensors.
define internal void @exchange_all(ptr %s, ptr %list, ptr %results, i64 %count, i64 %tensors) {
entry:
  %vector = getelementptr i64, ptr %list, i64 <object>
  %begin = load ptr, ptr %vector
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %one, label %end
one:
  %word = shl i64 %i, 1
  %at = getelementptr i64, ptr %begin, i64 %word
  %number.at = getelementptr i64, ptr %results, i64 %i
  %number = load i64, ptr %number.at
  call void @drop(ptr %at)
  call void @take(ptr %s, i64 %number, i64 %tensors, ptr %at)
  %i.next = add i64 %i, 1
  br label %more
end:
  ret void
}

; Whether a launch found something wrong that a check of the entry is to tell.
define internal i1 @any_flag(ptr %entry.tuple) {
entry:
  %checks = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 3)
  %flags.bytes = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 4)
  %flags = call ptr @PyBytes_AsString(ptr %flags.bytes)
  %count = call i64 @PyTuple_Size(ptr %checks)
  br label %more
more:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ]
  %any = icmp slt i64 %i, %count
  br i1 %any, label %look, label %no
look:
  %at = getelementptr ptr, ptr %flags, i64 %i
  %flag.at = load ptr, ptr %at
  %flag = load atomic i32, ptr %flag.at monotonic, align 4
  %raised = icmp ne i32 %flag, 0
  %i.next = add i64 %i, 1
  br i1 %raised, label %yes, label %more
yes:
  ret i1 1
no:
  ret i1 0
}

; Serve a spelled call as an entry of `recall.py` says, whose record is told in `recall_ir`; 0 where nothing happened.
define internal i1 @serve(ptr %entry.tuple, ptr %s, ptr %state, ptr %stack) {
entry:
  %bytes = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 0)
  %alone = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 <alone_at>)
  %layouts = call ptr @PyBytes_AsString(ptr %alone)
  %record = call ptr @PyBytes_AsString(ptr %bytes)
  %tensors = load i64, ptr %record
  %numbers.at = getelementptr i64, ptr %record, i64 1
  %numbers = load i64, ptr %numbers.at
  %made.at = getelementptr i64, ptr %record, i64 2
  %made = load i64, ptr %made.at
  %constants.at = getelementptr i64, ptr %record, i64 3
  %constants = load i64, ptr %constants.at
  %written.at = getelementptr i64, ptr %record, i64 4
  %written = load i64, ptr %written.at
  %constant.first = getelementptr i64, ptr %record, i64 <header>
  %tensor.first = getelementptr i64, ptr %constant.first, i64 %constants
  %tensor.words = mul i64 %tensors, 3
  %result.first = getelementptr i64, ptr %tensor.first, i64 %tensor.words
  %returns.at = getelementptr i64, ptr %state, i64 <at_returns>
  %returns = load i64, ptr %returns.at
  ; Python's None is a result in a record, and none here.
  %results.at = getelementptr i64, ptr %record, i64 5
  %results = load i64, ptr %results.at
  %single = icmp slt i64 %results, 0
  %results.count = select i1 %single, i64 1, i64 %results
  %chain = getelementptr i64, ptr %result.first, i64 %results.count
  %parallel.at = getelementptr i64, ptr %chain, i64 3
  %parallel = load i64, ptr %parallel.at
  %threads = call i64 @threads_alone(i64 %parallel)
  %unready = icmp eq i64 %threads, 0
  br i1 %unready, label %no, label %shape
shape:
  %listed = icmp eq i64 %returns, <a_list>
  br i1 %listed, label %list, label %alias
list:
  %found = call ptr @list_to_return(ptr %state, ptr %stack, ptr %result.first, i64 %results.count, i64 %tensors)
  %unfit = icmp eq ptr %found, null
  br i1 %unfit, label %no, label %alias
alias:
  %list.at = phi ptr [ null, %shape ], [ %found, %list ]
  %some = icmp ne i64 %written, 0
  br i1 %some, label %apart, label %allocate
apart:
  %memory = call ptr @PyTuple_GetItem(ptr %entry.tuple, i64 2)
  %place = call ptr @PyByteArray_AsString(ptr %memory)
  %overlap = call i1 @any_overlap(ptr %s, ptr %tensor.first, i64 %tensors, ptr %place)
  br i1 %overlap, label %no, label %allocate
allocate:
  %all.made = call i1 @make(ptr %s, i64 %tensors, ptr %layouts, i64 %made)
  br i1 %all.made, label %fill, label %no
fill:
  %pointers = getelementptr i64, ptr %s, i64 <pointers>
  %number.place = add i64 %tensors, %made
  %number.to = getelementptr i64, ptr %pointers, i64 %number.place
  %number.from = getelementptr i64, ptr %s, i64 <numbers>
  %number.bytes = shl i64 %numbers, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %number.to, ptr %number.from, i64 %number.bytes, i1 false)
  %constant.to = getelementptr i64, ptr %number.to, i64 %numbers
  %constant.bytes = shl i64 %constants, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %constant.to, ptr %constant.first, i64 %constant.bytes, i1 false)
  call void @run_launches(ptr %chain, ptr %pointers, i64 %threads)
  %raised = call i1 @any_flag(ptr %entry.tuple)
  br i1 %raised, label %undo, label %served
undo:
  ; Python runs the call again, and raises the exception.
  call void @unmake(ptr %s, i64 %tensors, i64 %made)
  ret i1 0
served:
  ; The results take the place of the arguments on the stack.
  %first = call ptr @first_argument(ptr %state, ptr %stack)
  %single.answer = icmp slt i64 %returns, 0
  %answer.count = select i1 %single.answer, i64 1, i64 %returns
  %answer.bytes = shl i64 %answer.count, 1
  %answers = alloca i64, i64 %answer.bytes, align 8
  %answer.tag.at = getelementptr i64, ptr %answers, i64 1
  switch i64 %returns, label %collect [
    i64 <a_list>, label %exchange
    i64 <a_truth>, label %truth
  ]
exchange:
  %object = load i64, ptr %list.at
  %object.at = inttoptr i64 %object to ptr
  call void @exchange_all(ptr %s, ptr %object.at, ptr %result.first, i64 %results.count, i64 %tensors)
  store i64 %object, ptr %answers
  store i64 <tag_list>, ptr %answer.tag.at
  %list.tag.at = getelementptr i64, ptr %list.at, i64 1
  store i32 <tag_none>, ptr %list.tag.at
  br label %collected
truth:
  %truth.number = load i64, ptr %result.first
  %truth.at = getelementptr ptr, ptr %pointers, i64 %truth.number
  %truth.from = load ptr, ptr %truth.at
  %byte = load i8, ptr %truth.from
  %bits = zext i8 %byte to i64
  store i64 %bits, ptr %answers
  store i64 <tag_bool>, ptr %answer.tag.at
  br label %collected
collect:
  %i = phi i64 [ 0, %served ], [ %i.next, %one ]
  %any = icmp slt i64 %i, %returns
  br i1 %any, label %one, label %collected
one:
  %number.at = getelementptr i64, ptr %result.first, i64 %i
  %number = load i64, ptr %number.at
  %answer.place = shl i64 %i, 1
  %answer = getelementptr i64, ptr %answers, i64 %answer.place
  call void @take(ptr %s, i64 %number, i64 %tensors, ptr %answer)
  %i.next = add i64 %i, 1
  br label %collect
collected:
  %end.at = getelementptr ptr, ptr %stack, i64 1
  %end = load ptr, ptr %end.at
  br label %let.go
let.go:
  %at = phi ptr [ %first, %collected ], [ %at.next, %gone ]
  %more = icmp ult ptr %at, %end
  br i1 %more, label %gone, label %answer.all
gone:
  call void @drop(ptr %at)
  %at.next = getelementptr i64, ptr %at, i64 2
  br label %let.go
answer.all:
  %size = shl i64 %answer.count, 4
  call void @llvm.memcpy.p0.p0.i64(ptr %first, ptr %answers, i64 %size, i1 false)
  %end.new = getelementptr i8, ptr %first, i64 %size
  store ptr %end.new, ptr %end.at
  call void @unmake(ptr %s, i64 %tensors, i64 %made)
  ret i1 1
no:
  ret i1 0
}
"""
