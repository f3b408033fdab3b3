"""`tl.extra.libdevice` for the CPU: every name that Triton's portable list has and that the compiler can lower."""
