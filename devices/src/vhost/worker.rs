//! The kernel's threads that serve: found, so that they can be pinned and their time be told.
//!
//! They are called `vhost-PID` after the process that they work for. Since Linux 6.4 they are tasks of
//! that process; before, they were the kernel's own, among all others.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::virtio::counters::{ThreadCounts, cpu_ns};

/// One of them.
#[derive(Debug)]
pub struct Worker {
    id: i32,
    name: String,
}

/// Makes a vhost device, and finds the thread that has come with it. `None` where none was found:
/// another process may hide the kernel's threads from this one.
pub fn of<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Option<Worker>)> {
    let name = format!("vhost-{}", std::process::id());
    let before = called(&name);
    let made = make()?;
    let worker = called(&name).difference(&before).next().map(|&id| Worker { id, name });
    Ok((made, worker))
}

/// Threads of this name.
fn called(name: &str) -> BTreeSet<i32> {
    let within = |folder: &str| -> BTreeSet<i32> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let named = |id: &i32| {
            fs::read_to_string(format!("{folder}/{id}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        ids.filter(named).collect()
    };
    let own = within("/proc/self/task");
    if own.is_empty() { within("/proc") } else { own }
}

impl Worker {
    /// Its number in this system.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// What it has done so far.
    pub fn counts(&self) -> ThreadCounts {
        ThreadCounts { name: self.name.clone(), cpu_ns: cpu_ns(&self.id.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread::Builder;

    #[test]
    fn the_thread_that_is_new() {
        let name = format!("vhost-{}", std::process::id());
        let (stop, stopped) = channel::<()>();
        let (ready, started) = channel();
        let make = || {
            let body = move || {
                ready.send(()).unwrap();
                let _ = stopped.recv();
            };
            let thread = Builder::new().name(name.clone()).spawn(body)?;
            started.recv().unwrap();
            Ok(thread)
        };
        let (thread, worker) = of(make).unwrap();
        let worker = worker.expect("it is there");
        assert_eq!(worker.counts().name, name);
        assert!(worker.counts().cpu_ns.is_some());
        drop(stop);
        thread.join().unwrap();
    }
}
