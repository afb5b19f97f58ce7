//! The programs that the kernel runs at KVM's tracepoints, written anew for each machine: its vCPU
//! threads and the kernel's offsets are constants in them.
//!
//! ```text
//! kvm_exit ─► reason, time ─┐                     one state a thread
//! kvm_pio, kvm_mmio,        ├─► kvm_entry ─► row of (vCPU, reason, detail): count, time, histogram
//! kvm_fast_mmio, kvm_msr ─► detail (the first)    one row each
//! kvm_vcpu_wakeup ─► time asleep, subtracted
//! ```
//!
//! On a processor with a fast path the MSR comes before its exit: so a detail belongs to the entry
//! that comes next, and the first of several wins (the access itself, not what it led to). Where a
//! thread has never passed `kvm_entry`, details are counted in rows of their own.

use abi::histogram::{self, BUCKETS};

use super::assemble::{Assembler, Call, If, Label, Op, Reg};
use super::format::{Field, Format, FormatError, Size};
use crate::sys::bpf::{Insn, Map};

use Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};

/// What a thread is in the midst of, and how often it has passed each tracepoint: eight bytes each.
pub mod state {
    /// When the exit came that has not been followed by an entry; 0: none is open.
    pub const SINCE: i16 = 0;
    /// What the exit was, as in a row's key.
    pub const REASON: i16 = 8;
    pub const DETAIL: i16 = 16;
    /// Nanoseconds asleep, or polling for work, since the exit.
    pub const ASLEEP: i16 = 24;
    /// Exits that came while another was open.
    pub const UNPAIRED: i16 = 32;
    /// Of the tracepoints, in order of [`super::Event::ALL`].
    pub const FIRED: i16 = 40;
    pub const SIZE: usize = FIRED as usize + 8 * super::Event::ALL.len();
}

/// A row's value.
pub mod row {
    pub const COUNT: i16 = 0;
    pub const TOTAL: i16 = 8;
    pub const MAX: i16 = 16;
    pub const ASLEEP: i16 = 24;
    pub const HISTOGRAM: i16 = 32;
    pub const SIZE: usize = HISTOGRAM as usize + 4 * super::BUCKETS;
}

/// Bytes of a row's key: reason, instruction set and thread, then the detail.
pub const KEY: usize = 16;
/// In the first half of a key: bits of the reason below, of the thread's index above.
pub const ISA_SHIFT: i32 = 32;
pub const THREAD_SHIFT: i32 = 40;
/// An instruction set that no tracepoint names, for reasons of our own.
pub const OWN_ISA: u8 = 0xff;
/// A detail without an exit.
pub const NO_REASON: u64 = (OWN_ISA as u64) << ISA_SHIFT | 1;
/// What has found no row.
pub const OTHER: u64 = (OWN_ISA as u64) << ISA_SHIFT | 2;
/// In the second half of a key: kind of detail above, port, address or register below.
pub const KIND_SHIFT: i32 = 56;

/// Tracepoints of KVM that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Exit,
    Entry,
    Pio,
    Mmio,
    FastMmio,
    Msr,
    Ipi,
    Wakeup,
}

impl Event {
    pub const ALL: [Event; 8] = [
        Event::Exit,
        Event::Entry,
        Event::Pio,
        Event::Mmio,
        Event::FastMmio,
        Event::Msr,
        Event::Ipi,
        Event::Wakeup,
    ];

    /// Its name below `events/kvm`.
    pub fn name(self) -> &'static str {
        match self {
            Event::Exit => "kvm_exit",
            Event::Entry => "kvm_entry",
            Event::Pio => "kvm_pio",
            Event::Mmio => "kvm_mmio",
            Event::FastMmio => "kvm_fast_mmio",
            Event::Msr => "kvm_msr",
            Event::Ipi => "kvm_apic_ipi",
            Event::Wakeup => "kvm_vcpu_wakeup",
        }
    }

    fn fired(self) -> i16 {
        state::FIRED + 8 * self as i16
    }
}

/// The kinds of detail, as they stand in a key.
pub mod kind {
    pub const PIO_READ: u8 = 1;
    pub const PIO_WRITE: u8 = 2;
    pub const MMIO_READ: u8 = 3;
    pub const MMIO_WRITE: u8 = 4;
    pub const MSR_READ: u8 = 5;
    pub const MSR_WRITE: u8 = 6;
}

/// What programs share.
#[derive(Debug)]
pub struct Maps {
    /// [`state`] by the thread's index.
    pub states: Map,
    /// [`row`] by [`KEY`].
    pub rows: Map,
    /// One row of zeroes, to make new ones from.
    pub blank: Map,
}

/// The number of the thread that runs it, as programs see it: that of the outermost PID namespace.
pub fn who_am_i() -> Option<Vec<Insn>> {
    let mut asm = Assembler::default();
    asm.call(Call::PidTgid);
    asm.exit();
    asm.finish()
}

/// The program for `event`, whose records look like `format`. `threads` are the vCPU threads' numbers,
/// by index.
pub fn program(
    event: Event,
    format: &Format,
    threads: &[u32],
    maps: &Maps,
) -> Result<Vec<Insn>, FormatError> {
    let mut asm = Assembler::default();
    let out = asm.label();
    let field = |name| format.field(name);
    own_state(&mut asm, threads, maps, out);
    asm.count(Size::Eight, R8, event.fired(), R1);
    match event {
        Event::Exit => exit(&mut asm, field("exit_reason")?, field("isa")?),
        Event::Entry => entry(&mut asm, maps, out),
        Event::Pio => {
            access(&mut asm, field("rw")?, 1, [kind::PIO_READ, kind::PIO_WRITE], field("port")?);
            detail(&mut asm, maps, out);
        }
        // Reads that are not satisfied yet, and reads, are below writes (trace/events/kvm.h).
        Event::Mmio => {
            access(&mut asm, field("type")?, 2, [kind::MMIO_READ, kind::MMIO_WRITE], field("gpa")?);
            detail(&mut asm, maps, out);
        }
        Event::FastMmio => {
            asm.field(R1, R6, field("gpa")?);
            kind_of(&mut asm, kind::MMIO_WRITE);
            detail(&mut asm, maps, out);
        }
        Event::Msr => {
            access(&mut asm, field("write")?, 1, [kind::MSR_READ, kind::MSR_WRITE], field("ecx")?);
            detail(&mut asm, maps, out);
        }
        Event::Ipi => {}
        Event::Wakeup => {
            asm.field(R1, R6, field("ns")?);
            asm.load(Size::Eight, R2, R8, state::ASLEEP);
            asm.alu_reg(Op::Add, R2, R1);
            asm.store(Size::Eight, R8, state::ASLEEP, R2);
        }
    }
    asm.place(out);
    asm.end();
    // Every label above is placed, and the longest program is some hundred instructions.
    Ok(asm.finish().unwrap_or_default())
}

/// R6 = record, R7 = index of this thread, R8 = its state; `out` for any other thread.
fn own_state(asm: &mut Assembler, threads: &[u32], maps: &Maps, out: Label) {
    let mut sorted: Vec<(u32, usize)> = threads.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    let found = asm.label();
    asm.alu_reg(Op::Move, R6, R1);
    asm.call(Call::PidTgid);
    asm.low(R0);
    search(asm, &sorted, found, out);
    asm.place(found);
    asm.store(Size::Four, R10, -4, R7);
    look_up(asm, &maps.states, -4);
    asm.jump_if(R0, If::Equal, 0, out);
    asm.alu_reg(Op::Move, R8, R0);
}

/// R7 = index of the thread number in R0: a tree of comparisons, which costs less than a hash.
fn search(asm: &mut Assembler, sorted: &[(u32, usize)], found: Label, out: Label) {
    match sorted {
        [] => asm.jump(out),
        [(thread, index)] => {
            asm.jump_if(R0, If::NotEqual, *thread as i32, out);
            asm.alu(Op::Move, R7, *index as i32);
            asm.jump(found);
        }
        _ => {
            let (below, above) = sorted.split_at(sorted.len() / 2);
            let right = asm.label();
            asm.jump_if(R0, If::AtLeast, above[0].0 as i32, right);
            search(asm, below, found, out);
            asm.place(right);
            search(asm, above, found, out);
        }
    }
}

/// R0 = the value in `map` of the key at `key` on the stack, or 0.
fn look_up(asm: &mut Assembler, map: &Map, key: i32) {
    asm.map(R1, map);
    asm.alu_reg(Op::Move, R2, R10);
    asm.alu(Op::Add, R2, key);
    asm.call(Call::Lookup);
}

/// Opens an exit.
fn exit(asm: &mut Assembler, reason: Field, isa: Field) {
    let alone = asm.label();
    asm.load(Size::Eight, R1, R8, state::SINCE);
    asm.jump_if(R1, If::Equal, 0, alone);
    asm.count(Size::Eight, R8, state::UNPAIRED, R1);
    asm.place(alone);
    asm.field(R1, R6, reason);
    asm.low(R1);
    asm.field(R2, R6, isa);
    asm.alu(Op::And, R2, 0xff);
    asm.alu(Op::Left, R2, ISA_SHIFT);
    asm.alu_reg(Op::Or, R1, R2);
    asm.store(Size::Eight, R8, state::REASON, R1);
    asm.call(Call::Nanoseconds);
    asm.store(Size::Eight, R8, state::SINCE, R0);
}

/// Closes the exit that is open, and counts it.
fn entry(asm: &mut Assembler, maps: &Maps, out: Label) {
    let (none, awake) = (asm.label(), asm.label());
    asm.load(Size::Eight, R9, R8, state::SINCE);
    asm.jump_if(R9, If::Equal, 0, none);
    asm.call(Call::Nanoseconds);
    asm.alu_reg(Op::Sub, R0, R9);
    asm.load(Size::Eight, R6, R8, state::ASLEEP);
    asm.alu_reg(Op::Move, R9, R0);
    // Both clocks are the same, but read at different moments.
    asm.jump_if_reg(R9, If::AtLeast, R6, awake);
    asm.alu_reg(Op::Move, R6, R9);
    asm.place(awake);
    asm.alu_reg(Op::Sub, R9, R6);
    asm.load(Size::Eight, R1, R8, state::REASON);
    asm.load(Size::Eight, R2, R8, state::DETAIL);
    clear(asm, &[state::SINCE, state::DETAIL, state::ASLEEP]);
    own_row(asm, maps, out);
    asm.count(Size::Eight, R0, row::COUNT, R1);
    for (offset, with) in [(row::TOTAL, R9), (row::ASLEEP, R6)] {
        asm.load(Size::Eight, R1, R0, offset);
        asm.alu_reg(Op::Add, R1, with);
        asm.store(Size::Eight, R0, offset, R1);
    }
    let not_longest = asm.label();
    asm.load(Size::Eight, R1, R0, row::MAX);
    asm.jump_if_reg(R1, If::AtLeast, R9, not_longest);
    asm.store(Size::Eight, R0, row::MAX, R9);
    asm.place(not_longest);
    bucket(asm);
    asm.alu(Op::Left, R1, 2);
    asm.alu_reg(Op::Add, R0, R1);
    asm.count(Size::Four, R0, row::HISTOGRAM, R1);
    asm.jump(out);
    asm.place(none);
    clear(asm, &[state::DETAIL, state::ASLEEP]);
}

/// Zeroes of the state, through R0.
fn clear(asm: &mut Assembler, offsets: &[i16]) {
    asm.alu(Op::Move, R0, 0);
    offsets.iter().for_each(|offset| asm.store(Size::Eight, R8, *offset, R0));
}

/// R1 = address with its kind above: `kinds[1]` where the field is at least `write`.
fn access(asm: &mut Assembler, how: Field, write: i32, kinds: [u8; 2], address: Field) {
    let (is_write, done) = (asm.label(), asm.label());
    asm.field(R1, R6, address);
    asm.field(R2, R6, how);
    asm.jump_if(R2, If::AtLeast, write, is_write);
    kind_of(asm, kinds[0]);
    asm.jump(done);
    asm.place(is_write);
    kind_of(asm, kinds[1]);
    asm.place(done);
}

/// Puts a kind above the address in R1.
fn kind_of(asm: &mut Assembler, kind: u8) {
    asm.load64(R3, u64::from(kind) << KIND_SHIFT);
    asm.alu_reg(Op::Or, R1, R3);
}

/// Keeps the detail in R1 for the entry to come, or counts it, where there are no entries.
fn detail(asm: &mut Assembler, maps: &Maps, out: Label) {
    let (paired, keep) = (asm.label(), asm.label());
    asm.load(Size::Eight, R2, R8, Event::Entry.fired());
    asm.jump_if(R2, If::NotEqual, 0, paired);
    asm.alu_reg(Op::Move, R2, R1);
    asm.load64(R1, NO_REASON);
    own_row(asm, maps, out);
    asm.count(Size::Eight, R0, row::COUNT, R1);
    asm.jump(out);
    asm.place(paired);
    asm.load(Size::Eight, R2, R8, state::DETAIL);
    asm.jump_if(R2, If::Equal, 0, keep);
    asm.jump(out);
    asm.place(keep);
    asm.store(Size::Eight, R8, state::DETAIL, R1);
}

/// R0 = the row of reason R1 and detail R2 of this thread, made where there is none; the thread's last
/// row where there is no room.
fn own_row(asm: &mut Assembler, maps: &Maps, out: Label) {
    const REASON: i16 = -24;
    const DETAIL: i16 = -16;
    const INDEX: i16 = -4;
    let have = asm.label();
    asm.alu_reg(Op::Move, R3, R7);
    asm.alu(Op::Left, R3, THREAD_SHIFT);
    asm.alu_reg(Op::Or, R1, R3);
    asm.store(Size::Eight, R10, REASON, R1);
    asm.store(Size::Eight, R10, DETAIL, R2);
    look_up(asm, &maps.rows, REASON.into());
    asm.jump_if(R0, If::NotEqual, 0, have);
    // A new one, from the blank.
    asm.alu(Op::Move, R1, 0);
    asm.store(Size::Four, R10, INDEX, R1);
    look_up(asm, &maps.blank, INDEX.into());
    asm.jump_if(R0, If::Equal, 0, out);
    asm.alu_reg(Op::Move, R3, R0);
    asm.map(R1, &maps.rows);
    asm.alu_reg(Op::Move, R2, R10);
    asm.alu(Op::Add, R2, REASON.into());
    asm.alu(Op::Move, R4, 0);
    asm.call(Call::Update);
    look_up(asm, &maps.rows, REASON.into());
    asm.jump_if(R0, If::NotEqual, 0, have);
    // No room.
    asm.alu_reg(Op::Move, R1, R7);
    asm.alu(Op::Left, R1, THREAD_SHIFT);
    asm.load64(R2, OTHER);
    asm.alu_reg(Op::Or, R1, R2);
    asm.store(Size::Eight, R10, REASON, R1);
    asm.alu(Op::Move, R1, 0);
    asm.store(Size::Eight, R10, DETAIL, R1);
    look_up(asm, &maps.rows, REASON.into());
    asm.jump_if(R0, If::Equal, 0, out);
    asm.place(have);
}

/// R1 = the bucket of the value in R9, as [`abi::histogram`] has it; R2 to R4 are lost.
fn bucket(asm: &mut Assembler) {
    let (large, done, fits) = (asm.label(), asm.label(), asm.label());
    let sub = histogram::SUB_BITS as i32;
    asm.alu_reg(Op::Move, R1, R9);
    asm.jump_if(R9, If::AtLeast, histogram::LINEAR as i32, large);
    asm.jump(done);
    asm.place(large);
    // R1 = the highest bit, by halves.
    asm.alu(Op::Move, R1, 0);
    asm.alu_reg(Op::Move, R2, R9);
    for half in [32, 16, 8, 4, 2, 1] {
        let below = asm.label();
        asm.alu_reg(Op::Move, R3, R2);
        asm.alu(Op::Right, R3, half);
        asm.jump_if(R3, If::Equal, 0, below);
        asm.alu_reg(Op::Move, R2, R3);
        asm.alu(Op::Add, R1, half);
        asm.place(below);
    }
    // The bits below the highest choose the bucket in its octave.
    asm.alu_reg(Op::Move, R4, R1);
    asm.alu(Op::Sub, R4, sub);
    asm.alu(Op::And, R4, 63);
    asm.alu_reg(Op::Move, R3, R9);
    asm.alu_reg(Op::Right, R3, R4);
    asm.alu(Op::And, R3, (1 << sub) - 1);
    asm.alu(Op::Sub, R1, sub + 1);
    asm.alu(Op::Left, R1, sub);
    asm.alu_reg(Op::Add, R1, R3);
    asm.alu(Op::Add, R1, histogram::LINEAR as i32);
    asm.place(done);
    asm.jump_if(R1, If::Less, BUCKETS as i32, fits);
    asm.alu(Op::Move, R1, BUCKETS as i32 - 1);
    asm.place(fits);
}
