//! Guest output, on its way to a file that may be slow, stopped or gone.
//!
//! vCPU threads put bytes into a buffer and never wait; one thread of its own writes them. It may block
//! in write(2) for as long as it likes, so nothing has to be made non-blocking: O_NONBLOCK would change
//! the file for every process that shares it, the user's shell among them.
//!
//! The first byte wakes the writer. It then waits for the rest of the line, a millisecond at most, so a
//! prompt shows at once and a line is one write(2).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::sandbox::{Sandbox, Who};

/// Bytes that wait for a slow reader; what comes beyond is dropped and counted.
const BACKLOG: usize = 64 << 20;
/// Bytes of one write(2).
const CHUNK: usize = 16 << 10;
/// How long the writer waits for the rest of a line.
const GATHER: Duration = Duration::from_millis(1);
/// How long the end of the machine waits for a reader who takes nothing.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks whether the user has lost patience earlier.
const LOOK: Duration = Duration::from_millis(50);

/// What became of the output.
#[derive(Debug, Default)]
pub struct Fate {
    /// Bytes written.
    pub written: u64,
    /// Bytes that were not: the backlog was full, the file refused them, or nobody read them in the end.
    pub dropped: u64,
    /// Why the file takes no more.
    pub error: Option<io::Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Waits for a first byte.
    Idle,
    /// Waits for the rest of a line.
    Gathering,
    /// Comes back by itself.
    Busy,
}

struct State {
    /// Most bytes that may wait.
    limit: usize,
    waiting: VecDeque<u8>,
    /// Bytes that the writer has taken and not written yet.
    taken: usize,
    fate: Fate,
    writer: Writer,
    closing: bool,
    done: bool,
}

/// The end where bytes are put in.
#[derive(Clone)]
pub struct Buffer(Arc<(Mutex<State>, Condvar)>);

/// A buffer and the thread that empties it.
pub struct Output {
    buffer: Buffer,
    /// Until it is the thread's.
    file: Option<File>,
    thread: Option<JoinHandle<()>>,
}

impl Buffer {
    /// An empty one, for 64 MiB.
    pub fn new() -> Buffer {
        Buffer::with_limit(BACKLOG)
    }

    fn with_limit(limit: usize) -> Buffer {
        let state = State {
            limit,
            waiting: VecDeque::new(),
            taken: 0,
            fate: Fate::default(),
            writer: Writer::Busy,
            closing: false,
            done: false,
        };
        Buffer(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Puts a byte in, without ever waiting for the reader.
    pub fn put(&self, byte: u8) {
        let mut state = self.lock();
        if state.fate.error.is_some() || state.waiting.len() + state.taken >= state.limit {
            state.fate.dropped += 1;
            return;
        }
        state.waiting.push_back(byte);
        let wake = match state.writer {
            Writer::Idle => true,
            Writer::Gathering => byte == b'\n' || state.waiting.len() >= CHUNK,
            Writer::Busy => false,
        };
        if wake {
            // Once is enough: it is on its way.
            state.writer = Writer::Busy;
            drop(state);
            self.0.1.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Option<Duration>) -> MutexGuard<'a, State> {
        match limit {
            None => self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => self.0.1.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// The next chunk to write, in `chunk`; false at the end of all output.
    fn take(&self, chunk: &mut Vec<u8>) -> bool {
        chunk.clear();
        let mut state = self.lock();
        if state.waiting.is_empty() && state.waiting.capacity() > CHUNK {
            // What a flood has grown is given back.
            state.waiting = VecDeque::new();
        }
        while state.waiting.is_empty() && !state.closing {
            state.writer = Writer::Idle;
            state = self.wait(state, None);
        }
        if !state.closing && state.waiting.len() < CHUNK && !state.waiting.contains(&b'\n') {
            state.writer = Writer::Gathering;
            state = self.wait(state, Some(GATHER));
        }
        state.writer = Writer::Busy;
        // Slices, not an iterator of bytes: vCPU threads wait for this lock.
        let (head, tail) = state.waiting.as_slices();
        let count = (head.len() + tail.len()).min(CHUNK);
        let cut = count.min(head.len());
        chunk.extend_from_slice(&head[..cut]);
        chunk.extend_from_slice(&tail[..count - cut]);
        state.waiting.drain(..count);
        state.taken = count;
        state.done = count == 0;
        !state.done
    }

    fn wrote(&self, count: usize) {
        let mut state = self.lock();
        state.fate.written += count as u64;
        state.taken -= count;
    }

    /// The file takes no more: what waits is dropped, and so is all that will come.
    fn fail(&self, error: io::Error) {
        let mut state = self.lock();
        let lost = state.waiting.len() + std::mem::take(&mut state.taken);
        state.waiting = VecDeque::new();
        state.fate.dropped += lost as u64;
        state.fate.error = Some(error);
    }
}

impl Output {
    /// What comes into `buffer` goes to `file`, from the start of a thread on.
    pub fn new(buffer: Buffer, file: File) -> Output {
        Output { buffer, file: Some(file), thread: None }
    }

    /// Starts the thread that writes.
    pub fn start(&mut self, sandbox: &Sandbox) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let (reader, sandbox) = (self.buffer.clone(), sandbox.clone());
        let thread =
            Builder::new().name("console".into()).stack_size(64 << 10).spawn(move || {
                match sandbox.enter(Who::Console) {
                    Ok(()) => write_all(&reader, &file),
                    Err(error) => reader.fail(io::Error::other(error)),
                }
            })?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Waits until all is written, as long as there is progress and `hurry` doesn't say otherwise.
    pub fn finish(self, mut hurry: impl FnMut() -> bool) -> Fate {
        let mut state = self.buffer.lock();
        let Some(thread) = self.thread else {
            // The machine has not run.
            return std::mem::take(&mut state.fate);
        };
        state.closing = true;
        self.buffer.0.1.notify_all();
        let (mut written, mut since) = (state.fate.written, Instant::now());
        while !state.done {
            state = self.buffer.wait(state, Some(LOOK));
            if state.fate.written != written {
                (written, since) = (state.fate.written, Instant::now());
            }
            if !state.done && (since.elapsed() > PATIENCE || hurry()) {
                // The thread stays where it is, in write(2), until the process ends.
                let lost = state.waiting.len() + state.taken;
                let fate = std::mem::take(&mut state.fate);
                return Fate { dropped: fate.dropped + lost as u64, ..fate };
            }
        }
        let fate = std::mem::take(&mut state.fate);
        drop(state);
        // It only writes: it has not panicked.
        let _ = thread.join();
        fate
    }
}

/// The life of the writer.
fn write_all(buffer: &Buffer, file: &File) {
    let mut chunk = Vec::new();
    while buffer.take(&mut chunk) {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            match write(file, rest) {
                Ok(count) => {
                    buffer.wrote(count);
                    rest = &rest[count..];
                }
                Err(error) => {
                    buffer.fail(error);
                    break;
                }
            }
        }
    }
    buffer.0.1.notify_all();
}

fn write(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody else has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_writable(file)?,
            result => return result,
        }
    }
}

fn wait_writable(file: &File) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.ctl(ControlOperation::Add, file.as_raw_fd(), EpollEvent::new(EventSet::OUT, 0))?;
    match epoll.wait(-1, &mut [EpollEvent::default()]) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::fd::OwnedFd;
    use std::thread;

    use super::*;

    fn start(file: impl Into<OwnedFd>) -> (Buffer, Output) {
        let buffer = Buffer::new();
        (buffer.clone(), onto(buffer, file))
    }

    fn onto(buffer: Buffer, file: impl Into<OwnedFd>) -> Output {
        let mut output = Output::new(buffer, File::from(file.into()));
        output.start(&Sandbox::open()).unwrap();
        output
    }

    fn put(buffer: &Buffer, text: &[u8]) {
        text.iter().for_each(|&byte| buffer.put(byte));
    }

    #[test]
    fn a_prompt_shows_without_a_newline() {
        let (mut near, far) = pipe().unwrap();
        let (buffer, output) = start(far);
        put(&buffer, b"# ");
        let mut two = [0; 2];
        near.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"# ");
        assert_eq!(output.finish(|| false).written, 2);
    }

    #[test]
    fn a_flood_arrives_whole_through_a_slow_pipe() {
        let (mut near, far) = pipe().unwrap();
        let (buffer, output) = start(far);
        let flood: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        put(&buffer, &flood);
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut all = Vec::new();
            near.read_to_end(&mut all).unwrap();
            all
        });
        let fate = output.finish(|| false);
        assert_eq!((fate.written, fate.dropped), (flood.len() as u64, 0));
        assert!(reader.join().unwrap() == flood);
    }

    #[test]
    fn without_a_reader_bytes_are_counted_and_nobody_waits() {
        let (near, far) = pipe().unwrap();
        drop(near);
        let (buffer, output) = start(far);
        put(&buffer, b"into the void\n");
        let fate = output.finish(|| false);
        assert_eq!((fate.written, fate.dropped), (0, 14));
        assert_eq!(fate.error.unwrap().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_who_never_reads_costs_the_backlog_and_no_more() {
        let (_near, far) = pipe().unwrap();
        let buffer = Buffer::with_limit(100_000);
        let output = onto(buffer.clone(), far);
        (0..300_000).for_each(|_| buffer.put(b'x'));
        assert!(buffer.lock().waiting.len() <= 100_000);
        let fate = output.finish(|| true);
        assert_eq!(fate.written + fate.dropped, 300_000);
        assert!(fate.written <= 64 << 10 && fate.error.is_none());
    }
}
