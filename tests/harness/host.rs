//! What this machine's `/dev/kvm` can run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The classes of host that tests tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Hardware virtualization, the lab's emulated one included: everything runs.
    Hardware,
    /// Guest ring 0 is emulated: a guest of a few instructions runs, a stock Linux does not.
    Pvm,
    /// No usable KVM, and why.
    None(String),
}

/// The host that this test runs on.
pub fn host() -> Host {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Err(error) => Host::None(format!("/dev/kvm: {error}")),
        Ok(_) if Path::new("/sys/module/kvm_pvm").exists() => Host::Pvm,
        Ok(_) => Host::Hardware,
    }
}

/// Whether this is the lab (`resources/lab/run`): root, a machine of its own, emulated times.
pub fn in_lab() -> bool {
    std::env::var_os("LAB").is_some()
}

/// `None`, after saying why, where no machine runs at all.
pub fn any_guest() -> Option<Host> {
    match host() {
        Host::None(why) => {
            skip(&why);
            None
        }
        host => Some(host),
    }
}

/// `None`, after saying why, where a stock Linux doesn't run.
pub fn linux_guest() -> Option<Host> {
    match any_guest()? {
        Host::Pvm => {
            skip("a stock Linux does not boot on a kvm_pvm host");
            None
        }
        host => Some(host),
    }
}

/// Says that the current test is skipped. libtest captures `eprintln!`; this line must be seen.
pub fn skip(why: &str) {
    note("skipped", why);
}

/// A line `KIND TEST: WORDS` on stderr, which `resources/test` gathers.
pub fn note(kind: &str, words: &str) {
    let thread = std::thread::current();
    let line = format!("{kind} {}: {words}\n", thread.name().unwrap_or("?"));
    // A closed stderr is no reason to fail a test.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
