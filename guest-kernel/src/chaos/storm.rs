//! From a spec to its storm, and back to a machine in order.

use core::fmt::Write;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::record::{Outcome, Record};
use abi::workload::{STORMS, Spec};
use workloads::Results;
use workloads::platform::{Platform, Unavailable};

use super::rings::Ring;
use super::target::{self, Targets};
use super::{cpus, interrupts, mmio, msix, msrs, pci, ports, resets, rings};
use crate::arch::cpu;
use crate::arch::device::Window;
use crate::console::Console;
use crate::kernel::{self, MACHINE};
use crate::platform::Kernel;
use crate::random::Random;
use crate::virtio::registers::Shared;

/// Memory of one CPU's rings and buffers. Devices may write behind it, too: nothing is there.
pub const ARENA: usize = 1 << 20;
/// Rings of one CPU.
const RINGS: usize = 8;
/// Delivery modes (SDM vol. 3 §11.6.1).
const NMI: u32 = 4;
const START_UP: u32 = 6;
const KINDS: usize = STORMS.len();

/// One deed of each kind, in the order of [`STORMS`].
const DEEDS: [fn(&mut Storm<'_>); KINDS] = [
    ports::deed,
    mmio::deed,
    pci::deed,
    msix::deed,
    rings::deed,
    resets::deed,
    interrupts::deed,
    cpus::deed,
    msrs::deed,
];

/// What one CPU does, and what it knows.
pub struct Storm<'t> {
    pub random: Random,
    pub targets: &'t Targets,
    pub arena: Window,
    pub rings: [Option<Ring>; RINGS],
    /// The CPU that is stopped and started; none of those that storm.
    pub victim: Option<usize>,
}

/// Storms as `spec` says.
pub fn run(spec: &Spec<'_>, results: Results<'_>) -> Result<(), Unavailable> {
    Kernel.prepare(spec)?;
    // One that has not begun would take no interrupt well.
    while (0..Kernel.cpus()).any(|cpu| !MACHINE.scheduler.is_online(cpu)) {
        spin_loop();
    }
    // Devices forget their rings, and all memory is free.
    kernel::start_over();
    let targets = Targets::find();
    let (cpus, wanted) = (Kernel.cpus(), |kind: &str| spec.includes("what", kind));
    let victim = (wanted("cpus") && cpus > 1).then(|| cpus - 1);
    let storming = cpus - usize::from(victim.is_some());
    let possible = |kind: &str| match kind {
        "cpus" => victim.is_some(),
        "pci" => targets.by_pci(),
        "msix" | "rings" | "resets" => !targets.is_empty(),
        _ => true,
    };
    let mut kinds = [0; KINDS];
    let mut many = 0;
    for (kind, _) in STORMS.iter().enumerate().filter(|(_, kind)| wanted(kind) && possible(kind)) {
        kinds[many] = kind;
        many += 1;
    }
    let kinds = &kinds[..many];
    if kinds.is_empty() {
        return Err(Unavailable("nothing-of-that-kind-here"));
    }
    if victim.is_some() {
        cpus::get_ready();
    }
    let seed = match spec.number("seed") {
        0 => cpu::tsc(),
        seed => seed,
    };
    // Before the storm: it may be the machine's last.
    let _ = writeln!(Console::new(), "guest kernel: a storm begins, seed={seed}");
    let start = Kernel.now();
    let deadline = match spec.number("seconds") {
        0 => u64::MAX,
        seconds => start.saturating_add(seconds * 1_000_000_000),
    };
    let items = spec.number("items").div_ceil(storming as u64);
    let done = [const { AtomicU64::new(0) }; KINDS];
    Kernel.run(storming, &|thread| {
        let Some(arena) = MACHINE.memory.take(ARENA, ARENA) else { return };
        let mut storm = Storm {
            random: Random::new(seed, thread),
            targets: &targets,
            arena: Window::new(arena),
            rings: [const { None }; RINGS],
            victim,
        };
        for _ in 0..items {
            if Kernel.now() >= deadline {
                break;
            }
            let kind = storm.random.of(kinds);
            DEEDS[kind](&mut storm);
            done[kind].fetch_add(1, Ordering::Relaxed);
        }
        interrupts::calm();
    })?;
    let ns = Kernel.now() - start;
    ports::calm();
    targets.restore();
    kernel::start_over();
    let runs = victim.is_none_or(cpus::recover);
    let count = |kind: usize| done[kind].load(Ordering::Relaxed);
    let mut record = Record::new(spec.text(), "-", (0..KINDS).map(count).sum(), ns);
    record.outcome = if runs { Outcome::Ok } else { Outcome::Failed("a-cpu-does-not-start-again") };
    record = record.with("seed", seed).with("devices", targets.len() as u64);
    for kind in kinds {
        record = record.with(STORMS[*kind], count(*kind));
    }
    results(&record);
    let _ = writeln!(Console::new(), "guest kernel: the storm is over");
    Ok(())
}

impl Storm<'_> {
    /// Its rings are no more.
    pub fn forget(&mut self, target: usize) {
        for ring in &mut self.rings {
            *ring = ring.filter(|ring| ring.target != target);
        }
    }

    /// An address in the arena that is nobody's ring.
    pub fn buffer(&mut self) -> u64 {
        let rings = RINGS * rings::ROOM;
        (self.arena.address() + (rings + self.random.below(ARENA - rings)) as u64) & !0xf
    }

    /// An address for a device to read from or write to: mostly in the arena, else where it must not go.
    pub fn place(&mut self) -> u64 {
        let arena = self.arena.address();
        let somewhere = arena + self.random.below(ARENA) as u64;
        match self.random.below(16) {
            // To the end of memory and over it.
            0 => target::memory_end().wrapping_sub(self.random.below(8192) as u64),
            // The hole: registers of devices, of the interrupt controllers, configuration space.
            1 => target::HOLE + self.random.below(1 << 30) as u64,
            2 => u64::MAX - self.random.below(1 << 16) as u64,
            3 => self.random.any() | 1 << 47,
            // At a boundary of pages.
            4 => (somewhere & !0xfff).wrapping_add(self.random.below(8) as u64).wrapping_sub(4).max(arena),
            _ => somewhere & !0xf,
        }
    }

    /// A vector that does nothing but end a halt, or that no local APIC takes.
    pub fn vector(&mut self) -> u32 {
        if self.random.once_in(8) {
            self.random.below(16) as u32
        } else {
            0x22 + self.random.below(0x1e) as u32
        }
    }

    /// A way to deliver an interrupt: fixed, lowest priority, NMI, start-up, or one that there is not. Not an
    /// SMI or INIT, or what asks an 8259, nor what would lead a CPU astray that is on its way through real
    /// mode: those would end this kernel and not its machine.
    pub fn delivery(&mut self) -> u32 {
        match self.random.of(&[0, 0, 0, 1, 1, 3, NMI, START_UP]) {
            NMI | START_UP if self.victim.is_some() => 0,
            delivery => delivery,
        }
    }

    /// An interrupt as a message or a redirection entry has it: vector, delivery, level, and bits that
    /// mean nothing.
    pub fn interrupt(&mut self) -> u32 {
        let delivery = self.delivery();
        let vector = self.vector();
        vector | delivery << 8 | (self.random.below(4) as u32) << 14 | (self.random.value() as u32) << 17
    }
}
