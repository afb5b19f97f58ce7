//! Threads stay on their CPU and leave it only when they wait. A CPU without a thread that can run
//! looks for work as long as `idle=` says, then halts; whoever has work for a halted CPU interrupts
//! it, and nobody else.
//!
//! Both ways of not paying are counted: halts avoided by looking a little longer, interrupts
//! avoided because the other CPU had not halted.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::workload::Idle;

use super::ready::Ready;
use super::thread::{Link, LinkCell, Thread};
use super::waiters::Waiters;
use crate::arch::{self, apic, cpu, cpu::CPUS, gate};
use crate::clock::Clock;

/// Threads besides the idle ones.
pub const THREADS: usize = 4096;

/// Not a thread to start with: what a CPU does in between.
const fn is_idle(thread: u32) -> bool {
    thread < CPUS as u32
}

/// All CPUs, threads and waits of the machine.
pub struct Scheduler {
    cpus: [Cpu; CPUS],
    /// The first [`CPUS`] are the idle threads.
    threads: [Thread; CPUS + THREADS],
    waiters: Waiters,
    pub clock: Clock,
    /// How long to look for work before a halt, in nanoseconds.
    patience: AtomicU64,
    /// Threads started and not yet ended.
    running: AtomicU32,
}

/// One CPU's part; a line of its own, so that counting costs nothing.
#[repr(align(128))]
struct Cpu {
    ready: Ready,
    current: AtomicU32,
    /// A thread that has ended and whose stack this CPU is about to leave.
    ended: LinkCell,
    online: AtomicBool,
    halted: AtomicBool,
    halts: AtomicU64,
    halts_avoided: AtomicU64,
    ipis: AtomicU64,
    ipis_avoided: AtomicU64,
    switches: AtomicU64,
    kicks: AtomicU64,
    kicks_avoided: AtomicU64,
    /// Datagrams that found their port's channel full.
    missed: AtomicU64,
    /// Threads that have got something to do, those that napped included.
    work: AtomicU64,
    /// The first deadline of those that nap, as far as they have looked since the last halt; inverted,
    /// so that none is 0.
    earliest: AtomicU64,
}

impl Cpu {
    const fn new() -> Cpu {
        Cpu {
            ready: Ready::new(),
            current: AtomicU32::new(0),
            ended: LinkCell::new(),
            online: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            halts: AtomicU64::new(0),
            halts_avoided: AtomicU64::new(0),
            ipis: AtomicU64::new(0),
            ipis_avoided: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            kicks_avoided: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            work: AtomicU64::new(0),
            earliest: AtomicU64::new(0),
        }
    }
}

/// Where a counter is.
type Counter = fn(&Cpu) -> &AtomicU64;

/// The names of the counters.
const COUNTERS: [(&str, Counter); 5] = [
    ("halts", |cpu| &cpu.halts),
    ("halts_avoided", |cpu| &cpu.halts_avoided),
    ("ipis", |cpu| &cpu.ipis),
    ("ipis_avoided", |cpu| &cpu.ipis_avoided),
    ("switches", |cpu| &cpu.switches),
];
const DEVICE_COUNTERS: [(&str, Counter); 3] =
    [("kicks", |cpu| &cpu.kicks), ("kicks_avoided", |cpu| &cpu.kicks_avoided), ("missed", |cpu| &cpu.missed)];

impl Scheduler {
    pub const fn new() -> Scheduler {
        Scheduler {
            cpus: [const { Cpu::new() }; CPUS],
            threads: [const { Thread::new() }; CPUS + THREADS],
            waiters: Waiters::new(),
            clock: Clock::new(),
            patience: AtomicU64::new(0),
            running: AtomicU32::new(0),
        }
    }

    /// What a CPU without work does, from now on. Counters start at 0.
    pub fn prepare(&self, idle: Idle) {
        let ns = match idle {
            Idle::Halt => 0,
            Idle::Spin { us } => u64::from(us) * 1000,
            Idle::Poll => u64::MAX,
        };
        self.patience.store(ns, Ordering::Relaxed);
        for cpu in &self.cpus {
            COUNTERS
                .iter()
                .chain(&DEVICE_COUNTERS)
                .for_each(|(_, counter)| counter(cpu).store(0, Ordering::Relaxed));
        }
    }

    /// The counters since [`Scheduler::prepare`], over all CPUs.
    pub fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let sum = |counter: Counter| self.cpus.iter().map(|cpu| counter(cpu).load(Ordering::Relaxed)).sum();
        COUNTERS.into_iter().for_each(|(name, counter)| each(name, sum(counter)));
        // Of a device, where there was one.
        if DEVICE_COUNTERS.iter().any(|(_, counter)| sum(*counter) > 0) {
            DEVICE_COUNTERS.into_iter().for_each(|(name, counter)| each(name, sum(counter)));
        }
    }

    pub fn now(&self) -> u64 {
        self.clock.ns(cpu::tsc())
    }

    pub fn is_online(&self, cpu: usize) -> bool {
        self.cpus.get(cpu).is_some_and(|cpu| cpu.online.load(Ordering::Acquire))
    }

    /// Waits until the current thread is the only one.
    pub fn wait_for_threads(&self) {
        loop {
            match self.running.load(Ordering::SeqCst) {
                0 | 1 => return,
                others => self.wait(&self.running, others),
            }
        }
    }

    /// Starts a thread on `cpu` that calls `function(argument)`, which begins with
    /// [`Scheduler::begin_thread`] and ends in [`Scheduler::end_thread`]. `stack` is the top of its stack, which is its own until then.
    pub fn start(&self, number: usize, cpu: usize, stack: usize, function: fn(usize) -> !, argument: usize) {
        let thread = (CPUS + number) as u32;
        let Some(this) = self.threads.get(thread as usize) else { return };
        this.set_cpu(cpu);
        this.stack.store(arch::thread::suspended(stack, function, argument), Ordering::Release);
        self.running.fetch_add(1, Ordering::SeqCst);
        self.make_ready(thread);
    }

    /// What every thread does first.
    pub fn begin_thread(&self) {
        self.bury();
    }

    /// The current thread ends; its stack is free once it no longer counts as running.
    pub fn end_thread(&self) -> ! {
        let cpu = self.cpu();
        cpu.ended.set(Link::to(cpu.current.load(Ordering::Relaxed)));
        loop {
            self.switch_to_next();
        }
    }

    /// Sleeps while `word` holds `value`; may return early.
    pub fn wait(&self, word: &AtomicU32, value: u32) {
        let cpu = self.cpu();
        if self.look(cpu, || word.load(Ordering::SeqCst) != value) {
            return;
        }
        if self.waiters.add(&self.threads, cpu.current.load(Ordering::Relaxed), word, value) {
            self.switch_to_next();
        }
    }

    /// Wakes up to `threads` that wait on `word`.
    pub fn wake(&self, word: &AtomicU32, threads: u32) {
        for _ in 0..threads {
            match self.waiters.take(&self.threads, word) {
                Some(thread) => self.make_ready(thread),
                None => return,
            }
        }
    }

    /// Returns at or after `deadline`; other threads of this CPU run meanwhile.
    pub fn sleep_until(&self, deadline: u64) {
        self.nap(deadline, &mut |_| self.now() >= deadline);
    }

    /// Waits for what no other thread announces: until `found`, or the `deadline`. Other threads of this
    /// CPU run meanwhile; it halts once there are only such that nap. `found(true)` is the last look
    /// before a halt, which asks for the interrupt that ends it.
    pub fn nap(&self, deadline: u64, found: &mut dyn FnMut(bool) -> bool) {
        let cpu = self.cpu();
        let mut over = |halts: bool| found(halts) || self.now() >= deadline;
        while !self.look(cpu, || over(false)) {
            let work = cpu.work.load(Ordering::SeqCst);
            cpu.earliest.fetch_max(!deadline, Ordering::Relaxed);
            if !cpu.ready.is_empty() {
                self.give_way();
                if over(false) {
                    break;
                }
                if cpu.work.load(Ordering::SeqCst) != work {
                    continue;
                }
            }
            let idle = || !over(true) && cpu.work.load(Ordering::SeqCst) == work;
            self.halt(cpu, idle, deadline.min(!cpu.earliest.swap(0, Ordering::Relaxed)));
        }
        cpu.work.fetch_add(1, Ordering::SeqCst);
    }

    /// What a thread does that polls: the others of this CPU run once.
    pub fn pause(&self) {
        if self.cpu().ready.is_empty() {
            spin_loop();
        } else {
            self.give_way();
        }
    }

    /// There is something to do for a thread that may nap on `cpu`.
    pub fn announce(&self, number: usize) {
        let cpu = &self.cpus[number.min(CPUS - 1)];
        cpu.work.fetch_add(1, Ordering::SeqCst);
        if number != cpu::index() {
            self.interrupt_halted(number);
        }
    }

    /// Lets the other threads of this CPU run once.
    pub fn give_way(&self) {
        let cpu = self.cpu();
        cpu.ready.add(&self.threads, cpu.current.load(Ordering::Relaxed));
        self.switch_to_next();
    }

    /// What the CPU does for ever: runs what is ready, else halts, unless a device `is_busy` that
    /// interrupts this CPU. Its threads have looked long enough for work before they left it.
    pub fn idle(&self, number: usize, is_busy: fn(usize) -> bool) -> ! {
        let cpu = &self.cpus[number];
        cpu.current.store(number as u32, Ordering::Relaxed);
        cpu.online.store(true, Ordering::Release);
        loop {
            if cpu.ready.is_empty() {
                self.halt(cpu, || cpu.ready.is_empty() && !is_busy(number), u64::MAX);
            } else {
                self.switch_to_next();
            }
        }
    }

    /// Forgets all threads: those of a workload that was given up. Every other CPU is in
    /// [`Scheduler::idle`] or about to be.
    pub fn forget_threads(&self) {
        self.waiters.clear();
        for cpu in &self.cpus {
            cpu.ready.clear();
            cpu.earliest.store(0, Ordering::Relaxed);
        }
        self.running.store(0, Ordering::SeqCst);
    }

    fn cpu(&self) -> &Cpu {
        &self.cpus[cpu::index()]
    }

    /// Looks for `found`, as long as patience lasts and no other thread could use the CPU.
    fn look(&self, cpu: &Cpu, mut found: impl FnMut() -> bool) -> bool {
        if found() {
            return true;
        }
        let patience = self.patience.load(Ordering::Relaxed);
        let start = if patience == 0 { return false } else { self.now() };
        while cpu.ready.is_empty() {
            if found() {
                cpu.halts_avoided.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            if patience != u64::MAX && self.now() - start > patience {
                return false;
            }
            spin_loop();
        }
        false
    }

    /// Halts until an interrupt, at the latest until `deadline`, if it is `idle` to the last. Visibly to
    /// those who have work for this CPU: it is marked as halted before it looks for the last time, and
    /// they add work before they look at the mark. An interrupt after that look moves the count, at which
    /// the gate looks.
    fn halt(&self, cpu: &Cpu, idle: impl FnOnce() -> bool, deadline: u64) {
        let interrupts = cpu::interrupts(cpu::index());
        let taken = interrupts.load(Ordering::SeqCst);
        cpu.halted.store(true, Ordering::SeqCst);
        if idle() {
            cpu.halts.fetch_add(1, Ordering::Relaxed);
            match deadline {
                u64::MAX => gate::halt_unless(interrupts, taken),
                _ => {
                    let ns = deadline.saturating_sub(self.now());
                    apic::halt_for(ns, self.clock.ticks(ns), interrupts, taken);
                }
            }
        }
        cpu.halted.store(false, Ordering::SeqCst);
    }

    /// Counts what was offered to a device: one kick for all, or none.
    pub fn count_kicks(&self, offered: u16, kick: bool) {
        let cpu = self.cpu();
        cpu.kicks.fetch_add(kick.into(), Ordering::Relaxed);
        cpu.kicks_avoided.fetch_add(u64::from(offered) - u64::from(kick), Ordering::Relaxed);
    }

    /// Counts a datagram for which its port has no room.
    pub fn count_missed(&self) {
        self.cpu().missed.fetch_add(1, Ordering::Relaxed);
    }

    fn make_ready(&self, thread: u32) {
        let number = self.threads[thread as usize].cpu();
        let cpu = &self.cpus[number];
        cpu.ready.add(&self.threads, thread);
        cpu.work.fetch_add(1, Ordering::SeqCst);
        if number != cpu::index() {
            self.interrupt_halted(number);
        }
    }

    /// After it was given work, the CPU has to look for it.
    fn interrupt_halted(&self, number: usize) {
        let (cpu, mine) = (&self.cpus[number], self.cpu());
        if cpu.halted.swap(false, Ordering::SeqCst) {
            mine.ipis.fetch_add(1, Ordering::Relaxed);
            apic::wake(number);
        } else {
            mine.ipis_avoided.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Leaves the current thread, which is in some list or has ended, for the next that can run.
    fn switch_to_next(&self) {
        let number = cpu::index();
        let cpu = &self.cpus[number];
        let next = cpu.ready.take(&self.threads).unwrap_or(number as u32);
        let last = cpu.current.swap(next, Ordering::Relaxed);
        if last == next {
            return;
        }
        if !is_idle(next) {
            cpu.switches.fetch_add(1, Ordering::Relaxed);
        }
        arch::thread::go(&self.threads[last as usize].stack, &self.threads[next as usize].stack);
        self.bury();
    }

    /// After a switch: the thread that ended is no longer on its stack, and no longer counts.
    fn bury(&self) {
        if self.cpu().ended.replace(Link::NONE) != Link::NONE
            && self.running.fetch_sub(1, Ordering::SeqCst) == 2
        {
            // One is left, and it may wait for the others.
            self.wake(&self.running, u32::MAX);
        }
    }
}
