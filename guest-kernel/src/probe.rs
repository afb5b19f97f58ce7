//! One mechanism, many times; and exceptions on purpose.

use core::hint::{black_box, spin_loop};
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::histogram::Histogram;
use abi::port;
use abi::record::Record;
use abi::workload::Spec;
use workloads::Results;
use workloads::platform::{Gate, NullFile, Platform, Unavailable};
use workloads::sys::pieces::Pieces;

use crate::arch::device::Io;
use crate::arch::{apic, cpu, exceptions, gate, io, memory as physical, steps, syscall};
use crate::blk::Disk;
use crate::kernel::MACHINE;
use crate::platform::Kernel;
use crate::virtio::registers::Registers;

/// Where no device is (the HPET's place on a PC): reads as ones, by an exit to the monitor.
const NO_DEVICE: usize = 0xfed0_0000;
const PAGE: usize = 4096;
/// How long a CPU that was woken is left alone, so that it halts again.
const SLUMBER_NS: u64 = 20_000;
/// The word that lets a halt pass at once.
static NO_HALT: AtomicU32 = AtomicU32::new(1);
static HALT: AtomicU32 = AtomicU32::new(0);

/// Runs the probe that `spec` names: each of `items` by itself on the clock.
pub fn run(spec: &Spec<'_>, results: Results<'_>) -> Result<(), Unavailable> {
    if matches!(spec.word("what"), "timer" | "syscall") {
        // As everywhere.
        workloads::run(&Kernel, spec, results);
        return Ok(());
    }
    Kernel.prepare(spec)?;
    let items = spec.number("items");
    let mut times = Histogram::new();
    let mut each = |deed: &mut dyn FnMut()| {
        for _ in 0..items {
            let start = Kernel.now();
            deed();
            times.record(Kernel.now() - start);
        }
    };
    match spec.word("what") {
        // Where ring 0 is interpreted, CPUID leaves the guest only from there.
        "cpuid" => each(&mut || {
            black_box(gate::cpuid(0));
        }),
        "pio" => each(&mut || {
            black_box(io::read(port::PVPANIC));
        }),
        "mmio" => each(&mut || {
            black_box(Io.load32(NO_DEVICE));
        }),
        // The first disk's: its worker finds nothing to do.
        "kick" => {
            let disk = Disk::open(0, PAGE, 1, true)?;
            each(&mut || disk.nudge());
        }
        "gate" => each(&mut || gate::halt_unless(&NO_HALT, 0)),
        "hlt" => each(&mut || apic::halt_for(1, 1, &HALT, 0)),
        "ipi-self" => each(&mut || {
            let before = cpu::taken(cpu::index());
            apic::wake(cpu::index());
            while cpu::taken(cpu::index()) == before {
                spin_loop();
            }
        }),
        "ipi-spin" => times = other_cpu(items, false)?,
        "ipi-halt" => times = other_cpu(items, true)?,
        "steps" => return steps(spec, results),
        _ => times = touch(items)?,
    }
    let record = Record::new(spec.text(), "-", times.count(), times.total());
    let mut record =
        record.with("p50_ns", times.p50()).with("p99_ns", times.p99()).with("max_ns", times.max());
    Kernel.counters(&mut |name, value| record = record.with(name, value));
    results(&record);
    Ok(())
}

/// Interrupts CPU 1, which spins or has halted, until it has taken the interrupt.
fn other_cpu(items: u64, halted: bool) -> Result<Histogram, Unavailable> {
    if Kernel.cpus() < 2 {
        return Err(Unavailable("needs-two-cpus"));
    }
    let mut times = Histogram::new();
    let cell = Pieces::new(slice::from_mut(&mut times), 1, 1);
    // Also the word that keeps CPU 1 from halting.
    let done = AtomicU32::new(0);
    Kernel.run(2, &|thread| match thread {
        0 => {
            let Some(mut times) = cell.hold(0) else { return };
            for _ in 0..items {
                // The halted one was woken by the last round: it gets time to fall asleep again.
                let rest = Kernel.now() + if halted { SLUMBER_NS } else { 0 };
                while Kernel.now() < rest {
                    spin_loop();
                }
                let (before, start) = (cpu::taken(1), Kernel.now());
                apic::wake(1);
                while cpu::taken(1) == before {
                    spin_loop();
                }
                times[0].record(Kernel.now() - start);
            }
            done.store(1, Ordering::SeqCst);
            apic::wake(1);
        }
        _ => {
            while done.load(Ordering::SeqCst) == 0 {
                if halted { gate::halt_unless(&done, 0) } else { spin_loop() }
            }
        }
    })?;
    Ok(times)
}

/// Writes to each of `items` pages that nobody has touched yet: those at the end of memory.
fn touch(items: u64) -> Result<Histogram, Unavailable> {
    let whole = MACHINE.memory.largest() / PAGE * PAGE - 2 * PAGE;
    let mut loan = MACHINE.memory.take(whole, PAGE).ok_or(Unavailable("too-little-memory"))?;
    let mut times = Histogram::new();
    for page in physical::bytes(&mut loan).chunks_exact_mut(PAGE).rev().take(items as usize) {
        let start = Kernel.now();
        page[0] = black_box(1);
        times.record(Kernel.now() - start);
    }
    MACHINE.memory.give_back(loan);
    Ok(times)
}

/// Instructions of the calls that `null` makes, by each gate, the loop included.
fn steps(spec: &Spec<'_>, results: Results<'_>) -> Result<(), Unavailable> {
    fn calls(gate: Gate, pairs: usize) {
        let Ok(file) = Kernel.null(gate, true) else { return };
        let mut bytes = [0; 40];
        for _ in 0..pairs {
            black_box(file.write(black_box(&bytes)));
            black_box(file.read(black_box(&mut bytes)));
        }
    }
    extern "C" fn directly(pairs: usize) {
        calls(Gate::Call, pairs);
    }
    extern "C" fn by_table(pairs: usize) {
        calls(Gate::Table, pairs);
    }
    extern "C" fn by_syscall(pairs: usize) {
        calls(Gate::Syscall, pairs);
    }
    let pairs = spec.count("items");
    // What is around the loop is in both.
    let count = |calls| steps::count(calls, pairs) - steps::count(calls, 0);
    let start = Kernel.now();
    let (direct, table) = (count(directly), count(by_table));
    let record = Record::new(spec.text(), "-", 2 * pairs as u64, Kernel.now() - start);
    let mut record = record.with("instructions", direct).with("by_table", table);
    if Kernel.null(Gate::Syscall, true).is_ok() {
        syscall::stepped(true);
        record = record.with("by_syscall", count(by_syscall));
        syscall::stepped(false);
    }
    results(&record);
    Ok(())
}

/// An exception: the workload ends here; in ring 0, the machine.
pub fn fault(spec: &Spec<'_>) {
    extern "C" fn undefined_opcode(_: usize) {
        exceptions::undefined_opcode();
    }
    extern "C" fn page_fault(_: usize) {
        exceptions::page_fault();
    }
    extern "C" fn general_protection(_: usize) {
        exceptions::general_protection();
    }
    extern "C" fn divide_error(_: usize) {
        exceptions::divide_error();
    }
    let fault = match spec.word("kind") {
        "pf" => page_fault,
        "gp" => general_protection,
        "de" => divide_error,
        _ => undefined_opcode,
    };
    if spec.word("ring") == "0" { gate::in_ring0(fault, 0) } else { fault(0) }
}
