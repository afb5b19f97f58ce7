//! A vCPU's thread, from its start to its end.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::ledger::Ledger;
use super::machine::{Error, Finished, Shared};
use super::seat::Taken;
use super::threads;
use super::vcpu::{self, Stop};
use crate::kvm::vcpu::Vcpu;
use crate::machine::early::Job;
use crate::sys::kick::{Kickable, Kicker};

/// One that has been started.
pub struct Started {
    id: u8,
    thread: JoinHandle<()>,
    ready: Receiver<Result<(Kicker, Option<u32>), Error>>,
    finished: Receiver<Finished>,
}

/// One that runs its vCPU.
pub struct Running {
    id: u8,
    pub kicker: Kicker,
    /// As the tracer needs it, where there is one.
    pub number: Option<u32>,
    thread: JoinHandle<()>,
    finished: Receiver<Finished>,
}

/// How long a thread may take to leave the guest before it is kicked again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Ends the machine where a thread that holds it ends, even by a panic.
struct EndsIt<'a>(&'a EventFd);

impl Drop for EndsIt<'_> {
    fn drop(&mut self) {
        // Fails only if nobody has looked at 2^64 - 2 earlier ends.
        let _ = self.0.write(1);
    }
}

/// Has `on` run `vcpu` on some thread, which takes its seat by `seat`.
pub fn start(
    mut vcpu: Vcpu,
    seat: impl FnOnce() -> Result<Taken, Error> + Send + 'static,
    shared: Arc<Shared>,
    on: impl FnOnce(Job) -> io::Result<JoinHandle<()>>,
) -> Result<Started, Error> {
    let id = vcpu.id;
    let (send_ready, ready) = mpsc::sync_channel(1);
    let (send, finished) = mpsc::sync_channel(1);
    let body = move || {
        let taken = seat().and_then(|taken| {
            let kickable = Kickable::register(vcpu.fd()).map_err(|error| Error::Kick(id, error))?;
            Ok((kickable, taken))
        });
        let (kickable, before, allowed) = match taken {
            Ok((kickable, taken)) => {
                let everywhere = shared.whereabouts.sits(id);
                let _ = send_ready.send(Ok((kickable.kicker(), taken.number)));
                // Poisoned or not, it opens when the main thread lets go of it.
                drop(shared.gate.as_ref().map(|gate| gate.read()));
                (Some(kickable), taken.before, everywhere)
            }
            Err(error) => {
                let _ = send_ready.send(Err(error));
                (None, threads::Before::default(), Vec::new())
            }
        };
        let mut orders = shared.orders.reader(id.into());
        let told = |ledger: &Ledger| {
            kickable.as_ref().is_none_or(|kickable| {
                kickable.acknowledge();
                orders.obey(ledger)
            })
        };
        let ends_it = EndsIt(&shared.ended);
        let stopped = vcpu::run(&mut vcpu, &shared.buses, &shared.phases, told);
        if !matches!(stopped.stop, Stop::Told) {
            shared.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(id);
        }
        drop(ends_it);
        // Not as a worker keeps it just now.
        let usage = threads::Usage { allowed, ..threads::usage(before) };
        let _ = send.send(Finished { stopped, usage, vcpu });
    };
    let thread = on(Box::new(body)).map_err(|error| Error::Thread(id, error))?;
    Ok(Started { id, thread, ready, finished })
}

impl Started {
    /// Waits until it can be kicked.
    pub fn ready(self) -> Result<Running, Error> {
        let (kicker, number) = self.ready.recv().unwrap_or_else(|_| Err(gone(self.id)))?;
        Ok(Running { id: self.id, kicker, number, thread: self.thread, finished: self.finished })
    }
}

impl Running {
    /// Kicks it until it has ended.
    pub fn join(self) -> Result<Finished, Error> {
        join(|| self.kicker.kick(), self.thread);
        self.finished.recv().map_err(|_| gone(self.id))
    }
}

/// The error of a thread that has ended before it could say why.
pub fn gone(id: u8) -> Error {
    Error::Thread(id, io::Error::other("it ended at once"))
}

/// Kicks a thread until it has ended. Its panic becomes the caller's: a report without its counts would
/// not add up. (Where a panic aborts, as in the release profile, the process has ended before.)
fn join<T>(kick: impl Fn(), thread: JoinHandle<T>) -> T {
    while !thread.is_finished() {
        kick();
        let since = Instant::now();
        while !thread.is_finished() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    #[test]
    fn a_vcpu_thread_that_ends_early_ends_the_machine_and_is_not_left_out_of_it() {
        let ended = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let seen = ended.clone();
        let thread = std::thread::spawn(move || {
            let _ends_it = EndsIt(&seen);
            panic!("a test of a vCPU thread's panic");
        });
        let joined = catch_unwind(AssertUnwindSafe(|| join(|| (), thread)));
        assert!(joined.is_err());
        assert_eq!(ended.read().unwrap(), 1, "nobody waits for it any longer");
    }
}
