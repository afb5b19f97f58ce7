//! The workloads' platform, over this kernel.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use abi::workload::Spec;
use workloads::platform::{Gate, NullFile, Platform, Unavailable};

use crate::arch::cpu::CPUS;
use crate::arch::syscall::{self, READ, WRITE};
use crate::arch::{cpu, gate, memory as physical, paging, thread};
use crate::blk::Disk;
use crate::console::Console;
use crate::file;
use crate::kernel::{MACHINE, STACK};
use crate::net::card::CARD;
use crate::net::port::Port;

/// This kernel; what it knows is in [`MACHINE`].
pub struct Kernel;

/// What the threads of one [`Kernel::run`] do.
static JOB: thread::Job = thread::Job::none();
/// The ring in which they do it.
static RING: AtomicU8 = AtomicU8::new(3);

/// Whether the workload's memory is of 4 KiB pages.
static SMALL_PAGES: AtomicBool = AtomicBool::new(false);
const LARGE_PAGE: usize = 2 << 20;
/// Interrupts taken before the workload.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Interrupts that all CPUs have taken.
fn interrupts() -> u32 {
    (0..CPUS).fold(0, |sum, cpu| sum.wrapping_add(cpu::taken(cpu)))
}

/// A thread's part of the job.
fn part(number: usize) -> ! {
    MACHINE.scheduler.begin_thread();
    paging::notice();
    gate::set_ring(RING.load(Ordering::Relaxed));
    JOB.call(number);
    gate::set_ring(3);
    MACHINE.scheduler.end_thread()
}

impl Platform for Kernel {
    type NullFile = Null;
    type Datagrams = Port;
    type Disk = Disk;

    fn prepare(&self, spec: &Spec<'_>) -> Result<(), Unavailable> {
        let ring = if spec.word("ring") == "0" { 0 } else { 3 };
        if ring == 0 && MACHINE.interpreted.load(Ordering::Relaxed) {
            return Err(Unavailable("ring-0-is-interpreted-here"));
        }
        // What it lacks of a kernel's usual services.
        let asks = |key: &str, not: &str| spec.workload.key(key).is_some() && spec.word(key) != not;
        for (asked, why) in [
            (asks("over", "udp"), "this-kernel-has-no-tcp"),
            (asks("hogs", "0") || asks("priority", "0"), "this-kernel-has-no-priorities"),
            (asks("file", "-"), "this-kernel-has-no-files"),
        ] {
            if asked {
                return Err(Unavailable(why));
            }
        }
        RING.store(ring, Ordering::Relaxed);
        SMALL_PAGES.store(spec.small_pages(), Ordering::Relaxed);
        gate::set_ring(ring);
        if let Some(key) = spec.workload.key("address") {
            CARD.own.lock().ip = spec.peer(key.name).map_or([0; 4], |(address, _)| address);
        }
        MACHINE.scheduler.prepare(spec.idle());
        TAKEN.store(interrupts(), Ordering::Relaxed);
        Ok(())
    }

    fn now(&self) -> u64 {
        MACHINE.scheduler.now()
    }

    fn sleep_until(&self, deadline: u64) {
        MACHINE.scheduler.sleep_until(deadline);
    }

    fn cpus(&self) -> usize {
        MACHINE.cpus.load(Ordering::Relaxed)
    }

    fn run(&self, threads: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), Unavailable> {
        let cpus = self.cpus();
        let stacks = MACHINE.memory.take(threads * STACK, 4096).ok_or(Unavailable("too-little-memory"))?;
        if threads >= crate::sched::scheduler::THREADS {
            return Err(Unavailable("too-many-threads"));
        }
        JOB.set(body, || {
            for i in 1..threads {
                let top = stacks.range().start + (i + 1) * STACK;
                MACHINE.scheduler.start(i, i % cpus, top, part, i);
            }
            body(0);
            MACHINE.scheduler.wait_for_threads();
        });
        MACHINE.memory.give_back(stacks);
        Ok(())
    }

    fn wait(&self, word: &AtomicU32, value: u32) {
        MACHINE.scheduler.wait(word, value);
    }

    fn wake(&self, word: &AtomicU32, threads: u32) {
        MACHINE.scheduler.wake(word, threads);
    }

    fn memory<R>(&self, bytes: usize, borrow: impl FnOnce(&mut [u8]) -> R) -> Result<R, Unavailable> {
        let take = |bytes, align| {
            let (asked, there) = (bytes >> 20, MACHINE.memory.largest() >> 20);
            MACHINE.memory.take(bytes, align).ok_or_else(|| {
                let _ =
                    writeln!(Console::new(), "guest kernel: {asked} MiB are asked for, {there} MiB are free");
                Unavailable("too-little-memory")
            })
        };
        // All of the last large page, so that what follows has pages of its own.
        let mut loan = take(bytes.next_multiple_of(LARGE_PAGE), LARGE_PAGE)?;
        let small = SMALL_PAGES.load(Ordering::Relaxed);
        let mut tables = take(if small { paging::tables(bytes) } else { 0 }, 4096)?;
        if small {
            paging::split(loan.range(), physical::bytes(&mut tables));
        }
        let lent = physical::bytes(&mut loan);
        let result = borrow(lent.get_mut(..bytes).unwrap_or_default());
        paging::join();
        MACHINE.memory.give_back(tables);
        MACHINE.memory.give_back(loan);
        Ok(result)
    }

    fn null(&self, gate: Gate, writable: bool) -> Result<Null, Unavailable> {
        if gate == Gate::Syscall {
            if MACHINE.interpreted.load(Ordering::Relaxed) {
                return Err(Unavailable("syscall-stays-in-ring-3-here"));
            }
            if cpu::in_ring0() {
                return Err(Unavailable("syscall-needs-ring-3"));
            }
        }
        Ok(Null { gate, file: file::open(writable) })
    }

    fn datagrams(&self, port: u16, poll: bool, batch: usize) -> Result<Port, Unavailable> {
        Port::open(port, poll, batch)
    }

    fn disk(&self, index: usize, size: usize, depth: usize, poll: bool) -> Result<Disk, Unavailable> {
        Disk::open(index, size, depth, poll)
    }

    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        MACHINE.scheduler.counters(each);
        each("interrupts", u64::from(interrupts().wrapping_sub(TAKEN.load(Ordering::Relaxed))));
    }
}

/// The null file behind one of the three gates.
pub struct Null {
    gate: Gate,
    file: usize,
}

impl NullFile for Null {
    #[inline]
    fn write(&self, bytes: &[u8]) -> isize {
        let (address, length) = (bytes.as_ptr() as usize, bytes.len());
        match self.gate {
            Gate::Call => syscall::write(self.file, address, length),
            Gate::Table => syscall::by_table(WRITE, self.file, address, length),
            Gate::Syscall => syscall::by_syscall(WRITE, self.file, address, length),
        }
    }

    #[inline]
    fn read(&self, bytes: &mut [u8]) -> isize {
        let (address, length) = (bytes.as_mut_ptr() as usize, bytes.len());
        match self.gate {
            Gate::Call => syscall::read(self.file, address, length),
            Gate::Table => syscall::by_table(READ, self.file, address, length),
            Gate::Syscall => syscall::by_syscall(READ, self.file, address, length),
        }
    }
}
