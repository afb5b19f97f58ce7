//! Interfaces of the host, made by `ip`.

use std::process::Command;

/// A tap that goes when this does; `None`, after saying so, where none can be made.
pub struct Made(pub String);

impl Made {
    pub fn new(what: &str, more: &[&str]) -> Option<Made> {
        let name = format!("t{}{what}", std::process::id());
        let done = Command::new("ip").args(["tuntap", "add", &name, "mode"]).args(more).output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Made(name));
        }
        eprintln!("skipped: `ip tuntap add` does nothing for this user");
        None
    }
}

impl Made {
    /// `ip link set NAME WORD`.
    pub fn set(&self, word: &str) {
        let done = Command::new("ip").args(["link", "set", &self.0, word]).output().expect("run ip");
        assert!(done.status.success());
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).output();
    }
}
