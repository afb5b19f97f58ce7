//! A guest agent at its smallest: it says that it is ready, by the exit port, and then gives back whatever
//! the host's first caller sends (`--vsock`).

use std::fs::File;
use std::io::{self, Read, Write};

use abi::mark::Mark;

use super::speak::Monitor;
use crate::sys::vsock;

/// Returns when the caller has hung up.
pub fn run(port: u32, monitor: &Monitor) -> io::Result<()> {
    let listener = vsock::listen(port)?;
    monitor.mark(Mark::Agent);
    echo(&mut vsock::accept(&listener)?)
}

fn echo(caller: &mut File) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match caller.read(&mut buffer)? {
            0 => return Ok(()),
            count => caller.write_all(&buffer[..count])?,
        }
    }
}
