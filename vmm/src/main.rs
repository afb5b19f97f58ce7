//! Parse, build, run, print, exit code.

use std::process::ExitCode;

use vmm::report::Birth;
use vmm::{cli, init};

fn main() -> ExitCode {
    let birth = Birth::at_main();
    if init::is_init() {
        init::run();
    }
    cli::main(std::env::args_os(), birth)
}
