//! The process: the allocator, and [`spanrelay::cli`], which reads the arguments and runs the command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    spanrelay::cli::main()
}
