//! The main thread while vCPUs run: it waits, and says why the machine is to end.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::console::Console;
use super::console::escape::Command;
use super::settling::Settling;
use super::signals::{Signals, Wish};
use crate::live::watch::Watch;
use crate::sys;

#[cfg(test)]
mod tests;

/// Event data: what an event is about.
const ENDED: u64 = 0;
const SIGNAL: u64 = 1;
const INPUT: u64 = 2;
const ROOM: u64 = 3;
const KNOCK: u64 = 4;

/// Why the machine is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has ended itself.
    Machine,
    /// This signal has come.
    Signal(u8),
    /// The deadline has passed.
    Timeout,
    /// The user has typed Ctrl-A x: as good an end as any.
    Escape,
}

/// What the main thread listens to.
pub struct Supervisor<'a> {
    /// Written to by whoever ends the machine from inside.
    pub ended: &'a EventFd,
    pub signals: &'a Signals,
    pub console: Option<&'a mut Console>,
    pub deadline: Option<Instant>,
    /// Whoever looks at the machine while it runs.
    pub watch: Option<Watch<'a>>,
    /// What the machine no longer needs.
    pub settling: Settling,
}

impl Supervisor<'_> {
    /// Waits for the first reason to end. Costs nothing while nothing happens.
    pub fn run(mut self) -> io::Result<End> {
        let epoll = Epoll::new()?;
        for (fd, about) in [(self.ended.as_raw_fd(), ENDED), (self.signals.as_raw_fd(), SIGNAL)] {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, about))?;
        }
        if let Some(console) = &mut self.console {
            console.watch(&epoll, INPUT, ROOM)?;
        }
        if let Some(fd) = self.watch.as_ref().and_then(Watch::fd) {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, KNOCK))?;
        }
        loop {
            let mut events = [EpollEvent::default(); 4];
            let count = match epoll.wait(self.patience(), &mut events) {
                // Stopped and continued.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            };
            self.settling.tick();
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(End::Timeout);
            }
            self.watch.iter_mut().for_each(Watch::tick);
            for event in &events[..count] {
                if let Some(end) = self.answer(&epoll, event.data())? {
                    return Ok(end);
                }
            }
        }
    }

    fn answer(&mut self, epoll: &Epoll, about: u64) -> io::Result<Option<End>> {
        match (about, &mut self.console) {
            (ENDED, _) => return Ok(Some(End::Machine)),
            (SIGNAL, _) => return self.on_signals(epoll),
            (KNOCK, _) => self.watch.iter_mut().for_each(Watch::on_knock),
            (INPUT, Some(console)) => {
                let command = console.on_input(epoll, INPUT)?;
                return Ok(command.filter(|&command| command == Command::End).map(|_| End::Escape));
            }
            (_, Some(console)) => console.on_room(epoll, INPUT)?,
            _ => {}
        }
        Ok(None)
    }

    fn on_signals(&mut self, epoll: &Epoll) -> io::Result<Option<End>> {
        while let Some(wish) = self.signals.next() {
            match (wish, &mut self.console) {
                (Wish::End(number), _) => return Ok(Some(End::Signal(number))),
                (Wish::Stop, console) => {
                    console.iter_mut().for_each(|console| console.leave());
                    sys::signal::stop();
                    self.on_continued(epoll)?;
                }
                (Wish::Continued, _) => self.on_continued(epoll)?,
                (Wish::Nothing, _) => {}
            }
        }
        Ok(None)
    }

    fn on_continued(&mut self, epoll: &Epoll) -> io::Result<()> {
        let Some(console) = &mut self.console else { return Ok(()) };
        console.enter();
        console.on_room(epoll, INPUT)
    }

    /// Milliseconds until something is due, rounded up; -1 without such.
    fn patience(&self) -> i32 {
        let watch = self.watch.as_ref().and_then(Watch::deadline);
        let deadlines = [self.deadline, watch, self.settling.deadline()];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return -1 };
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
    }
}
