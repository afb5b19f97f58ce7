//! Parse, build, run, print, exit code.

use std::process::ExitCode;

use vmm::{cli, init};

fn main() -> ExitCode {
    if init::is_init() {
        init::run();
    }
    cli::main(std::env::args_os())
}
