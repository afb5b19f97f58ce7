//! From the first instruction in ring 3 to the end: one workload after the other.

use core::fmt::Write;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use abi::boot_info::{self, COMMAND_LINE, Ring0};
use abi::mark::Mark;
use abi::port;
use abi::record::{Outcome, Record};
use abi::workload::Spec;
use workloads::platform::Unavailable;

use crate::arch::cpu::CPUS;
use crate::arch::device::Io;
use crate::arch::memory::Late;
use crate::arch::{apic, gate, interrupts, io, kvmclock, memory as physical, paging, startup, syscall};
use crate::chaos;
use crate::console::{self, Console};
use crate::journal;
use crate::memory::Memory;
use crate::net::card::CARD;
use crate::platform::Kernel;
use crate::probe;
use crate::root;
use crate::sched::scheduler::Scheduler;
use crate::virtio::device::{self, Buses};
use crate::virtio::mmio::Pages;

/// The machine, once it is known.
pub struct Machine {
    pub scheduler: Scheduler,
    pub memory: Memory,
    pub cpus: AtomicUsize,
    /// Ring 0 is interpreted: nothing that takes more than a few instructions may run there.
    pub interpreted: AtomicBool,
    /// Where devices are looked for.
    buses: Late<Buses>,
    root: Late<(usize, usize)>,
    command_line: Late<&'static str>,
    /// Our monitor is below, whose ports take marks and records.
    ours: AtomicBool,
    /// Nobody said how fast the time stamp counter runs.
    measured: AtomicBool,
    /// Memory that is free between two workloads.
    free: Late<[(usize, usize); 2]>,
    /// Tables are filled: other CPUs may go on.
    ready: AtomicBool,
    /// The workload to run next.
    next: AtomicUsize,
    /// A CPU has met an exception and stops the others.
    failing: AtomicBool,
    /// CPUs that have stopped for it.
    stopped: AtomicU32,
}

pub static MACHINE: Machine = Machine {
    scheduler: Scheduler::new(),
    memory: Memory::new(),
    cpus: AtomicUsize::new(0),
    interpreted: AtomicBool::new(false),
    buses: Late::new(),
    root: Late::new(),
    command_line: Late::new(),
    ours: AtomicBool::new(false),
    measured: AtomicBool::new(false),
    free: Late::new(),
    ready: AtomicBool::new(false),
    next: AtomicUsize::new(0),
    failing: AtomicBool::new(false),
    stopped: AtomicU32::new(0),
};

impl Machine {
    /// Where the root is in memory, and its length.
    pub fn root(&self) -> Option<(usize, usize)> {
        self.root.get().filter(|(_, len)| *len > 0)
    }

    /// Where its memory below 4 GiB ends.
    pub fn memory_end(&self) -> usize {
        self.free.get().map_or(0, |[low, _]| low.1)
    }

    pub fn buses(&self) -> Buses {
        self.buses.get().unwrap_or_default()
    }
}

/// Stack of a thread.
pub const STACK: usize = 32 << 10;

/// Every CPU's first instruction in ring 3, on the stack on which it will idle.
pub extern "C" fn enter(number: usize, boot_page: usize) -> ! {
    if number == 0 {
        mark(Mark::Kernel);
        set_up(boot_page);
        MACHINE.ready.store(true, Ordering::Release);
    }
    while !MACHINE.ready.load(Ordering::Acquire) {
        spin_loop();
    }
    apic::start();
    if !MACHINE.interpreted.load(Ordering::Relaxed) {
        syscall::enable();
    }
    if number == 0 {
        if !MACHINE.ours.load(Ordering::Relaxed) {
            let cpus = MACHINE.cpus.load(Ordering::Relaxed);
            MACHINE.cpus.store(startup::start_others(cpus), Ordering::Relaxed);
        }
        start_main();
    }
    idle(number)
}

fn idle(number: usize) -> ! {
    MACHINE.scheduler.idle(number, |cpu| CARD.is_busy(cpu))
}

fn set_up(boot_page: usize) {
    let Some(boot) = physical::boot_info(boot_page) else {
        let _ = writeln!(Console::new(), "guest kernel: no boot information at {boot_page:#x}");
        interrupts::panic();
    };
    // Ours always says how fast the counter runs.
    MACHINE.ours.store(boot.tsc_khz != 0, Ordering::Relaxed);
    // The gate first: by it ring 0 may be asked which APIC there is.
    interrupts::fill();
    apic::choose(boot.ring0, boot.apic);
    interrupts::fill();
    let by_kvm = if boot.tsc_khz == 0 { kvmclock::khz() } else { Some(boot.tsc_khz) };
    MACHINE.measured.store(by_kvm.is_none(), Ordering::Relaxed);
    MACHINE.scheduler.clock.set(by_kvm.unwrap_or_else(apic::measure_tsc_khz));
    MACHINE.cpus.store((boot.vcpus as usize).clamp(1, CPUS), Ordering::Relaxed);
    MACHINE.interpreted.store(boot.ring0 == Ring0::Interpreted, Ordering::Relaxed);
    let pages = Pages::new(boot.mmio, boot.command_line);
    MACHINE.buses.set(Buses { ecam: boot.ecam as usize, pages });
    MACHINE.root.set((boot.root.start as usize, boot.root.len as usize));
    keep(boot.command_line);
    MACHINE.free.set([(physical::first_free(), boot.low_end as usize), (FOUR_GIB, boot.high_end as usize)]);
}

const FOUR_GIB: usize = 4 << 30;

/// Copies the command line, for a loader may have left it in memory that is about to be lent.
fn keep(text: &'static str) {
    let memory = Memory::new();
    memory.set([physical::for_start(), 0..0]);
    let copy = memory.take(text.len().min(COMMAND_LINE), 1).map(physical::leak);
    if let Some(copy) = copy {
        copy.copy_from_slice(&text.as_bytes()[..copy.len()]);
        MACHINE.command_line.set(core::str::from_utf8(copy).unwrap_or(""));
    }
}

/// Starts the first thread, with all memory free.
fn start_main() {
    paging::join();
    let [low, high] = MACHINE.free.get().unwrap_or_default();
    if low.0 >= low.1 {
        let _ = writeln!(Console::new(), "guest kernel: memory ends at {:#x}, too little", low.1);
        interrupts::panic();
    }
    MACHINE.memory.set([low.0..low.1, high.0..high.1]);
    // Behind the command line, to the end.
    MACHINE.scheduler.start(0, 0, physical::for_start().end, main, 0);
}

/// The first thread: it runs the workloads, and starts again behind one that has failed.
fn main(_: usize) -> ! {
    MACHINE.scheduler.begin_thread();
    if MACHINE.next.load(Ordering::Relaxed) == 0 {
        if !MACHINE.ours.load(Ordering::Relaxed) {
            let (megabytes, cpus) = (MACHINE.memory.largest() >> 20, MACHINE.cpus.load(Ordering::Relaxed));
            let clock = if MACHINE.measured.load(Ordering::Relaxed) { "measured" } else { "by kvmclock" };
            let mut out = Console::new();
            let _ = writeln!(out, "guest kernel: {megabytes} MiB of memory free, {cpus} CPUs, clock {clock}");
        }
        mark(Mark::Ready);
    }
    while let Some((index, text)) = next_workload() {
        mark(Mark::Start(index as u16));
        match Spec::parse(text) {
            Ok(spec) => run(&spec),
            Err(refusal) => {
                let _ = writeln!(Console::new(), "guest kernel: {refusal}");
            }
        }
        gate::set_ring(3);
        mark(Mark::End(index as u16));
    }
    exit(0)
}

/// The next one and its number; from then on it counts as begun.
fn next_workload() -> Option<(usize, &'static str)> {
    let index = MACHINE.next.fetch_add(1, Ordering::Relaxed);
    workloads_asked().enumerate().nth(index)
}

fn workloads_asked() -> impl Iterator<Item = &'static str> {
    boot_info::workloads(MACHINE.command_line.get().unwrap_or(""))
}

fn run(spec: &Spec<'_>) {
    match spec.workload.name {
        "exit" => exit(spec.number("status") as u8),
        "ready" => exit(0),
        "fault" => probe::fault(spec),
        "probe" => unless_unavailable(spec, probe::run(spec, &mut record)),
        "chaos" => unless_unavailable(spec, chaos::run(spec, &mut record)),
        "root" => unless_unavailable(spec, root::run(spec, &mut record)),
        "journal" => unless_unavailable(spec, journal::run(spec, &mut record)),
        _ => workloads::run(&Kernel, spec, &mut record),
    }
}

fn unless_unavailable(spec: &Spec<'_>, done: Result<(), Unavailable>) {
    if let Err(Unavailable(why)) = done {
        record(&Record::without(spec.text(), Outcome::Unavailable(why)));
    }
}

/// An exception in ring 3 ends the workload: all CPUs start over, then comes the next one.
pub extern "C" fn fault(number: usize) -> ! {
    if MACHINE.failing.swap(true, Ordering::SeqCst) {
        // Another CPU was faster and will stop this one.
        loop {
            spin_loop();
        }
    }
    chaos::calm_ports();
    interrupts::report(number);
    for other in (0..CPUS).filter(|other| *other != number && MACHINE.scheduler.is_online(*other)) {
        apic::restart(other);
    }
    restart(number)
}

/// Where a CPU comes that was stopped.
pub extern "C" fn restart(number: usize) -> ! {
    chaos::calm_cpu();
    MACHINE.stopped.fetch_add(1, Ordering::SeqCst);
    if number == 0 {
        let online = (0..CPUS).filter(|cpu| MACHINE.scheduler.is_online(*cpu)).count();
        while MACHINE.stopped.load(Ordering::SeqCst) < online as u32 {
            spin_loop();
        }
        MACHINE.scheduler.forget_threads();
        start_over();
        let index = MACHINE.next.load(Ordering::Relaxed).saturating_sub(1);
        if let Some(text) = workloads_asked().nth(index) {
            record(&Record::without(text, Outcome::Failed("exception")));
        }
        mark(Mark::End(index as u16));
        start_main();
        MACHINE.failing.store(false, Ordering::SeqCst);
        MACHINE.stopped.store(0, Ordering::SeqCst);
    }
    while MACHINE.stopped.load(Ordering::SeqCst) != 0 {
        spin_loop();
    }
    idle(number)
}

/// Between two workloads: all memory is free, whatever the last one kept, and no device writes to any.
pub fn start_over() {
    device::reset_all(&Io, &MACHINE.buses());
    CARD.forget();
    let [low, high] = MACHINE.free.get().unwrap_or_default();
    MACHINE.memory.set([low.0..low.1, high.0..high.1]);
}

fn record(record: &Record<'_>) {
    console::record(record, MACHINE.ours.load(Ordering::Relaxed));
}

/// Tells the monitor how far this kernel has come.
fn mark(mark: Mark) {
    io::write_u32(port::MARK, mark.encode());
}

/// Ends the machine. Where nobody listens at the port, its CPU halts for good.
fn exit(status: u8) -> ! {
    gate::set_ring(3);
    io::write(port::EXIT, &[status]);
    loop {
        gate::halt_unless(&AtomicU32::new(0), 0);
    }
}
