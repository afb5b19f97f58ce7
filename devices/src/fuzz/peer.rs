//! A vhost-user backend that answers what it likes.

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{PAGE, memory, resources};
use crate::sys::socket;
use crate::vhost_user::channel::Channel;
use crate::vhost_user::rings::Rings;
use crate::vhost_user::session::{Session, hear};
use crate::virtio::ring::Layout;

/// A backend that has said `data` before it was asked: pieces of a byte of length, one of how many fds come
/// with it, and the bytes. It is met, told of rings, listened to, and asked to give them back.
pub fn peer(mut data: &[u8]) {
    let Some((&[what], rest)) = data.split_first_chunk() else { return };
    data = rest;
    let (ours, theirs) = UnixStream::pair().expect("make a socket");
    let null = File::open("/dev/null").expect("open it");
    while let Some((&[len, fds], rest)) = data.split_first_chunk() {
        let (bytes, rest) = rest.split_at(rest.len().min(len.into()));
        data = rest;
        let fds: Vec<_> = (0..fds & 15).map(|_| null.as_fd()).collect();
        if socket::send(&theirs, bytes, &fds).is_err() {
            break;
        }
    }
    // What it has not said it never will: nobody waits.
    theirs.shutdown(Shutdown::Write).expect("say no more");
    let patience = Duration::from_secs(5);
    if what & 1 != 0 {
        let notices = Channel::new(ours, patience).expect("don't wait");
        while hear(&notices).is_ok() {}
        return;
    }
    let Ok(session) = Session::meet(ours, patience) else { return };
    let _ = session.serves(2);
    if what & 2 != 0 && session.config(60).is_err() {
        return;
    }
    let memory = memory(&[]);
    let layout = Layout { size: 16, descriptors: PAGE, available: 2 * PAGE, used: 3 * PAGE };
    let Some(resources) = resources(&memory, layout, 0) else { return };
    let Ok(mut rings) = Rings::new(vec![resources], session.features()) else { return };
    if what & 4 != 0 {
        let _ = rings.give(&session, 1);
        rings.lose();
    }
    if rings.give(&session, 1).is_ok() && rings.take(&session).is_ok() {
        let _ = session.look();
    }
    rings.into_queues();
}
