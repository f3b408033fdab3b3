"""What the calls of an overload gain and lose in all, as LLVM IR text; `recall_ir` builds on it.

In:  the account of an operator's record, a float64 in microseconds or none, and what a call gains by the measurements.
Out: `gain`, which adds to it, and `solvent`: whether it may lose more.
"""

from __future__ import annotations

from tessera.runtime import host_ir

MOST_LOST_US = 250.0
"""What the calls of an overload may lose in all before Python is asked what to do."""


def module_text() -> str:
    """What is added to the module."""
    return host_ir.filled(_MODULE, {"least balance": -MOST_LOST_US})


_MODULE = """
; Add what a call gains to an account, if there is one. Other threads may do so as well: some gain may be lost.
define internal void @gain(ptr %account, double %gain) {
  %absent = icmp eq ptr %account, null
  br i1 %absent, label %end, label %add
add:
  %before = load atomic double, ptr %account monotonic, align 8
  %after = fadd double %before, %gain
  store atomic double %after, ptr %account monotonic, align 8
  br label %end
end:
  ret void
}

; Whether a call may be counted here: one that loses is not, once its account has lost too much.
define internal i1 @solvent(ptr %account, double %gain) {
  %absent = icmp eq ptr %account, null
  br i1 %absent, label %yes, label %look
look:
  %loses = fcmp olt double %gain, 0.0
  %balance = load atomic double, ptr %account monotonic, align 8
  %spent = fcmp olt double %balance, <least balance>
  %broke = and i1 %loses, %spent
  %may = xor i1 %broke, true
  ret i1 %may
yes:
  ret i1 true
}

define internal ptr @account_of(ptr %spec) {
  %account.at = getelementptr i64, ptr %spec, i64 2
  %account = load ptr, ptr %account.at
  ret ptr %account
}

define internal double @gain_of(ptr %record) {
  %gain.at = getelementptr i64, ptr %record, i64 6
  %gain = load double, ptr %gain.at
  ret double %gain
}
"""
