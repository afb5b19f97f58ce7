//! Who serves a device's queues: what can't is said in one line.

mod harness;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use harness::machine::{scratch, vmm};

#[test]
fn what_is_no_peer_is_said_before_the_boot() {
    let socket = scratch("socket");
    let disk = |socket: &Path| format!("--disk=vhost-user={},queues=2", socket.display());
    let net = format!("--net=vhost-user={}", socket.display());
    for device in [disk(&socket), net.clone()] {
        vmm([device])
            .run()
            .expect_refusal(66, "No such file or directory (os error 2); start its backend first");
    }
    let listener = UnixListener::bind(&socket).expect("listen");
    let closes = std::thread::spawn(move || listener.accept().map(drop));
    vmm([net.clone()]).run().expect_refusal(66, "GetFeatures: the peer closed the connection");
    closes.join().expect("no panic").expect("a connection");
    // Nobody listens any more.
    vmm([net.clone()]).run().expect_refusal(66, "Connection refused");
    vmm([net.as_str(), "--irqfd=off"]).run().expect_refusal(64, "by irqfd alone");
    vmm(["--pin=net0@0", &net]).run().expect_refusal(64, "names no worker thread");
    let _ = fs::remove_file(&socket);
}
