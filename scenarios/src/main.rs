//! `cargo sim`.

use std::process::ExitCode;

/// Worlds allocate in small pieces and are thrown away whole, where this allocator is faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    scenarios::cli::main()
}
