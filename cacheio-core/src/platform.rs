//! The platforms that are not supported: a message before the errors that the compiler finds there.

#[cfg(target_family = "wasm")]
compile_error!(
    "cacheio does not support WebAssembly: it needs a clock, and threads that can wait for each other. \
     It supports Linux, macOS, Windows and other platforms whose standard library has both; leave \
     `cacheio` out with `[target.'cfg(not(target_family = \"wasm\"))'.dependencies]`"
);

#[cfg(not(target_has_atomic = "64"))]
compile_error!(
    "cacheio needs 64-bit atomics, which this platform does not have; it supports all 64-bit \
     platforms, and 32-bit x86 and ARMv7"
);
