//! Network cards of whole machines: a tap that can't be used is refused in one line, which says who owns it,
//! how it was made and what mends that.

mod harness;

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use harness::host::skip;
use harness::machine::binary;

/// A tap that goes when this does.
struct Tap(String);

impl Tap {
    /// `None`, after saying so, where this user can make none.
    fn new(what: &str, more: &[&str]) -> Option<Tap> {
        let name = format!("v{}{what}", std::process::id());
        let made = Command::new("ip").args(["tuntap", "add", &name, "mode", "tap"]).args(more).output();
        if made.is_ok_and(|made| made.status.success()) {
            // One that is down is worth a line of its own.
            _ = Command::new("ip").args(["link", "set", &name, "up"]).output();
            return Some(Tap(name));
        }
        skip("this user can't make a tap (`ip tuntap add`)");
        None
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        _ = Command::new("ip").args(["link", "del", &self.0]).output();
    }
}

fn vmm(nets: &[String]) -> Command {
    let mut command = Command::new(binary());
    command.args(["--report", "none"]);
    command.args(nets.iter().flat_map(|net| ["--net", net]));
    command
}

/// It ends with this status and one line that holds all of these words.
fn refused(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{said}");
    assert!(said.starts_with("vmm: ") && said.lines().count() == 1, "{said}");
    for words in words {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[test]
fn what_is_no_tap_is_said_before_the_boot() {
    let run = |nets: &[&str]| {
        let nets: Vec<String> = nets.iter().map(|net| net.to_string()).collect();
        vmm(&nets).output().expect("run vmm")
    };
    let make = "ip tuntap add no-such-tap mode tap vnet_hdr";
    refused(&run(&["tap=no-such-tap"]), 66, &["no such interface", make, "ip link set no-such-tap up"]);
    refused(&run(&["tap=no-such-tap,queues=2"]), 66, &[&format!("{make} multi_queue")]);
    refused(&run(&["tap=lo"]), 66, &["lo: it is no tap"]);
    refused(&run(&["fd=77"]), 66, &["use fd 77 as a tap"]);
}

#[test]
fn a_tap_that_is_busy_or_made_for_something_else() {
    let Some(tap) = Tap::new("b", &[]) else { return };
    let name = &tap.0;
    let net = |more: &str| format!("tap={name}{more}");
    let output = vmm(&[net(""), net("")]).output().expect("run vmm");
    refused(&output, 66, &["in use by process", ", vmm (no owner, flags tap persist", "ip tuntap add"]);
    let output = vmm(&[net(",queues=2")]).output().expect("run vmm");
    let mend = format!("ip link del {name}; ip tuntap add {name} mode tap vnet_hdr multi_queue");
    refused(&output, 66, &["made for one queue, several queues were asked", &mend]);
}

#[test]
fn a_tap_of_another_user() {
    let Some(tap) = Tap::new("u", &["user", "12345"]) else { return };
    let mut command = vmm(&[format!("tap={}", tap.0)]);
    let Ok(output) = command.uid(65534).gid(65534).output() else {
        return skip("another user can't run this binary where it is");
    };
    let mend = format!("ip tuntap add {} mode tap vnet_hdr user 65534", tap.0);
    refused(&output, 77, &["owner uid 12345, flags tap persist", &mend]);
}
