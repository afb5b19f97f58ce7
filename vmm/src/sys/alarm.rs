//! A signal to this thread at a steady beat, so that a `KVM_RUN` which would not return does.

use std::io;
use std::marker::PhantomData;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::time::Duration;

use super::checked;

/// SIGALRM to the thread that made it, until it is dropped; then the signal's action and mask are
/// as they were. Bound to its thread.
#[derive(Debug)]
pub struct Alarm {
    timer: libc::timer_t,
    action: libc::sigaction,
    mask: libc::sigset_t,
    _thread: PhantomData<*const ()>,
}

extern "C" fn wake(_: libc::c_int) {}

impl Alarm {
    /// Beats every `period`, the first time after one.
    pub fn every(period: Duration) -> io::Result<Alarm> {
        // SAFETY: all-zero is a valid value of these plain C structures; every pointer below is to a
        // live local of the right type; `wake` does nothing, which any signal context allows. What
        // was done is undone where a later step fails.
        unsafe {
            let (mut action, mut mask, mut unblock): (libc::sigaction, libc::sigset_t, libc::sigset_t) =
                (zeroed(), zeroed(), zeroed());
            let mut new: libc::sigaction = zeroed();
            new.sa_sigaction = wake as *const () as usize; // without SA_RESTART: ioctls end with EINTR
            checked(libc::sigaction(libc::SIGALRM, &new, &mut action).into())?;
            libc::sigaddset(&mut unblock, libc::SIGALRM);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &unblock, &mut mask);
            let mut event: libc::sigevent = zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = super::thread_id();
            let mut timer: libc::timer_t = null_mut();
            let made = checked(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer).into());
            if made.is_err() {
                restore(&action, &mask);
            }
            made?;
            let alarm = Alarm { timer, action, mask, _thread: PhantomData };
            alarm.beat(period, period)?;
            Ok(alarm)
        }
    }

    /// From now on, beats after `first` and then every `period`.
    pub fn beat(&self, first: Duration, period: Duration) -> io::Result<()> {
        // SAFETY: the timer is ours; the new setting is a live local.
        unsafe {
            let mut beat: libc::itimerspec = zeroed();
            for (field, value) in [(&mut beat.it_value, first), (&mut beat.it_interval, period)] {
                field.tv_sec = value.as_secs() as _;
                field.tv_nsec = value.subsec_nanos() as _;
            }
            checked(libc::timer_settime(self.timer, 0, &beat, null_mut()).into()).map(drop)
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours and is deleted once. No signal of it can come after that, so the
        // old action cannot meet one.
        unsafe {
            libc::timer_delete(self.timer);
            restore(&self.action, &self.mask);
        }
    }
}

/// # Safety
/// Both must have been filled by the kernel.
unsafe fn restore(action: &libc::sigaction, mask: &libc::sigset_t) {
    // SAFETY: by the caller.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, null_mut());
        libc::sigaction(libc::SIGALRM, action, null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_call_that_would_not_return_does() {
        let _alarm = Alarm::every(Duration::from_millis(5)).unwrap();
        let start = Instant::now();
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
