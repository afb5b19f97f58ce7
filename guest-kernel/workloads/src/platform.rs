//! What a workload needs of the kernel below it.
//!
//! Implemented three times: over Linux (natively and in a guest, `vmm::init`), over the built-in
//! guest kernel, and over `std` in this crate's tests.

use core::sync::atomic::AtomicU32;

use abi::workload::Spec;

/// This place cannot do what was asked, and why: words joined by `-`, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable(pub &'static str);

/// An open null file.
pub trait NullFile: Sync {
    /// Bytes written, or a negative error number.
    fn write(&self, bytes: &[u8]) -> isize;
    /// Bytes read, or a negative error number.
    fn read(&self, bytes: &mut [u8]) -> isize;
}

/// How the application enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A direct call: application and kernel are one program.
    Call,
    /// A call through the kernel's table of entry points.
    Table,
    /// A system call.
    Syscall,
}

/// A datagram's other end: IPv4 address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: [u8; 4],
    pub port: u16,
}

/// A bound UDP port.
pub trait Datagrams: Sync {
    /// Queues one datagram; `false` where it was dropped for want of room.
    fn send(&self, to: Peer, payload: &[u8]) -> bool;
    /// Passes on what [`send`](Datagrams::send) has queued.
    fn flush(&self) {}
    /// The next datagram, cut to `payload`'s length; `None` once the clock passes `deadline`, and at
    /// once where that is 0.
    fn receive(&self, payload: &mut [u8], deadline: u64) -> Option<(usize, Peer)>;
}

/// A disk, with up to the asked number of requests under way.
pub trait Disk {
    /// Bytes.
    fn capacity(&self) -> u64;
    /// Starts a request of the size given at opening; `tag` comes back with its end.
    fn submit(&mut self, tag: u32, offset: u64, write: bool) -> bool;
    /// Waits for the end of one: its tag, and whether it went well. `None`: nothing is under way.
    fn complete(&mut self) -> Option<(u32, bool)>;
}

/// The kernel below. Times are nanoseconds of one monotonic clock.
pub trait Platform: Sync {
    type NullFile: NullFile;
    type Datagrams: Datagrams;
    type Disk: Disk;

    /// Puts `spec`'s common keys (`ring`, `idle`, `pages`) into effect for what follows.
    fn prepare(&self, spec: &Spec<'_>) -> Result<(), Unavailable>;

    fn now(&self) -> u64;

    /// Returns at or after `deadline`.
    fn sleep_until(&self, deadline: u64);

    fn cpus(&self) -> usize;

    /// Calls `body(0)` to `body(threads - 1)`, each in a thread of its own, thread `i` on CPU `i`
    /// as far as there are CPUs, and returns when all have.
    fn run(&self, threads: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), Unavailable>;

    /// Sleeps while `word` holds `value`; may return early.
    fn wait(&self, word: &AtomicU32, value: u32);

    /// Wakes up to `threads` that wait on `word`.
    fn wake(&self, word: &AtomicU32, threads: u32);

    /// Lends `bytes` of page-aligned memory of the page size asked for; its content is anything.
    fn memory<R>(&self, bytes: usize, borrow: impl FnOnce(&mut [u8]) -> R) -> Result<R, Unavailable>;

    /// The null file, for reading alone or for both.
    fn null(&self, gate: Gate, writable: bool) -> Result<Self::NullFile, Unavailable>;

    /// Binds a UDP port. `poll`: never sleep for a datagram. `batch`: datagrams to a kick.
    fn datagrams(&self, port: u16, poll: bool, batch: usize) -> Result<Self::Datagrams, Unavailable>;

    /// Opens a disk for requests of `size` bytes, `depth` under way.
    fn disk(&self, index: usize, size: usize, depth: usize, poll: bool) -> Result<Self::Disk, Unavailable>;

    /// The platform's own counters since [`prepare`](Platform::prepare): halts, wake-ups, IPIs.
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64));
}
