//! Lines on stderr that no caller waits for.

use std::fmt::Display;
#[cfg(not(test))]
use std::io::{self, Write};

/// One line. Where nobody reads stderr, or it is full, nothing else changes.
pub fn say(line: impl Display) {
    #[cfg(not(test))]
    let _ = writeln!(io::stderr(), "vmm: {line}");
    // So that libtest keeps it to itself.
    #[cfg(test)]
    eprintln!("vmm: {line}");
}
