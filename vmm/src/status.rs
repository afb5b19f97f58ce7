//! How `vmm` ends: its exit status, and the one line on stderr that says why.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A line of the monitor's own on stderr. One that nobody reads, or that is full, changes nothing: a
/// machine ends as its guest ended.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "vmm: {line}");
}

/// Exit statuses of the program. A script tells from the number whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// What the guest's workload or init returned: 0, or 1 to 63.
    Guest(u8),
    /// Bad usage of the command line.
    Usage,
    /// Kernel, initrd, modules or config file unusable.
    Image,
    /// A disk, tap, socket or output file unusable.
    Device,
    /// No usable KVM.
    NoKvm,
    /// Out of memory, huge pages or another host resource.
    Resource,
    /// No permission.
    Permission,
    /// The guest panicked.
    Panic,
    /// A vCPU shut down by triple fault.
    TripleFault,
    /// KVM internal error or failed entry.
    Kvm,
    /// `--timeout` ran out.
    Timeout,
    /// Ended by this signal.
    Signal(u8),
}

impl Status {
    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Status::Guest(code) => code & 63,
            Status::Usage => 64,
            Status::Image => 65,
            Status::Device => 66,
            Status::NoKvm => 69,
            Status::Resource => 73,
            Status::Permission => 77,
            Status::Panic => 80,
            Status::TripleFault => 81,
            Status::Kvm => 82,
            Status::Timeout => 83,
            Status::Signal(number) => 128 | number,
        }
    }

    /// The status that another process of this program ended with.
    pub fn of_code(code: u8) -> Status {
        match code {
            64 => Status::Usage,
            65 => Status::Image,
            66 => Status::Device,
            69 => Status::NoKvm,
            73 => Status::Resource,
            77 => Status::Permission,
            80 => Status::Panic,
            81 => Status::TripleFault,
            82 => Status::Kvm,
            83 => Status::Timeout,
            128.. => Status::Signal(code & 127),
            guest => Status::Guest(guest),
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.code())
    }
}

/// An error that knows how the program ends by it.
pub trait Fatal: Error {
    /// The exit status.
    fn status(&self) -> Status;
}

/// The end of the program by an error: a status and one line.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    line: String,
}

impl Failure {
    /// `text` may quote what a user typed; control characters in it are escaped, so that it stays one line.
    pub fn new(status: Status, text: &str) -> Failure {
        let mut line = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        Failure { status, line }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl<E: Fatal> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error.status(), &error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_file_name_stays_on_one_line() {
        let failure = Failure::new(Status::Image, "kernel a\nb\u{1b}[31m: é");
        assert_eq!(failure.to_string(), "kernel a\\nb\\u{1b}[31m: é");
    }

    #[test]
    fn a_guest_cannot_fake_the_statuses_of_the_monitor() {
        assert_eq!(Status::Guest(63).code(), 63);
        assert_eq!(Status::Guest(80).code(), 16);
        assert_eq!(Status::Signal(15).code(), 143);
        for code in [0, 63, 64, 65, 66, 69, 73, 77, 80, 81, 82, 83, 143] {
            assert_eq!(Status::of_code(code).code(), code);
        }
    }
}
