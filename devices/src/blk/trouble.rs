//! The host's errors, each kind said once: the guest is told by its request's status, the report counts.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::request::{Op, Request};
use crate::say::say;

/// What was said already.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Vec<(Op, Option<i32>)>>);

impl Trouble {
    /// Says that a request of the disk at `place` has failed, unless one has failed so before. Returns
    /// whether it was said.
    pub fn tell(&self, place: &str, request: &Request, error: &io::Error) -> bool {
        let kind = (request.op, error.raw_os_error());
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(&kind) {
            return false;
        }
        said.push(kind);
        let at = match request.op {
            Op::Read | Op::Write => format!(" {} bytes at {}", request.len, request.offset),
            _ => String::new(),
        };
        say(format_args!(
            "disk {place}: {}{at}: {error}; the guest gets an I/O error, further ones are counted",
            request.op.name()
        ));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once() {
        let trouble = Trouble::default();
        let request = |op| Request { op, offset: 0, len: 512 };
        let error = io::Error::from_raw_os_error;
        assert!(trouble.tell("x", &request(Op::Read), &error(libc::EIO)));
        assert!(!trouble.tell("x", &request(Op::Read), &error(libc::EIO)));
        assert!(trouble.tell("x", &request(Op::Write), &error(libc::EIO)));
        assert!(trouble.tell("x", &request(Op::Write), &error(libc::ENOSPC)));
    }
}
