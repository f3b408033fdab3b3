"""Kernels for the tests of the runtime, written as LLVM IR: no compiler of ours takes part."""

from __future__ import annotations

from llvmlite import binding

from tessera.runtime.loader import LoadedKernel, load

# One loop over begin..end; `body` computes program %i and may use %a0, %a1, %a2, the first three arguments as pointers.
KERNEL = """
declare i32 @usleep(i32)
declare i64 @pthread_self()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define void @kernel(ptr %args, i64 %begin, i64 %end, i32 %num_x, i32 %num_y, i32 %num_z) {{
entry:
  %a0 = load ptr, ptr %args
  %a1.at = getelementptr i64, ptr %args, i64 1
  %a1 = load ptr, ptr %a1.at
  %a2.at = getelementptr i64, ptr %args, i64 2
  %a2 = load ptr, ptr %a2.at
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  {body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %exit
exit:
  ret void
}}
"""

# Count a visit, in an i64 per program.
VISIT = """
  %count.at = getelementptr i64, ptr %a0, i64 %i
  %old = atomicrmw add ptr %count.at, i64 1 monotonic
"""

# Say which thread ran the program, slowly enough that every thread that may take part does.
WHO = """
  %slept = call i32 @usleep(i32 3000)
  %self = call i64 @pthread_self()
  %who.at = getelementptr i64, ptr %a0, i64 %i
  store i64 %self, ptr %who.at
"""


def compile_ir(text: str) -> bytes:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(text)
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(opt=2, reloc="pic")
    obj: bytes = machine.emit_object(module)
    return obj


def make_kernel(body: str) -> LoadedKernel:
    return load(compile_ir(KERNEL.format(body=body)), "kernel")
