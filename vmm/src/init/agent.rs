//! A guest agent at its smallest: it says that it is ready, by the exit port, and then gives back whatever
//! the host's first caller with something to say sends (`--vsock`).

use std::fs::File;
use std::io::{self, Read, Write};

use abi::mark::Mark;

use super::speak::Monitor;
use crate::sys::vsock;

/// Returns when the caller has hung up. One who has said nothing was none: a call made before this guest
/// was up waits in the host's queue, and comes in after its caller has given it up.
pub fn run(port: u32, monitor: &Monitor) -> io::Result<()> {
    let listener = vsock::listen(port)?;
    monitor.mark(Mark::Agent);
    while echo(&mut vsock::accept(&listener)?) == 0 {}
    Ok(())
}

/// How many bytes were given back before the caller hung up, or was gone.
fn echo(caller: &mut File) -> usize {
    let mut buffer = [0; 16 << 10];
    let mut given = 0;
    while let Ok(count @ 1..) = caller.read(&mut buffer) {
        if caller.write_all(&buffer[..count]).is_err() {
            break;
        }
        given += count;
    }
    given
}
