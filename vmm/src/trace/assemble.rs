//! A small assembler: instructions by what they do, jumps by label.

use super::format::{Field, Size};
use crate::sys::bpf::{Insn, Map};

/// A register. R0 is what calls and programs return, R1 to R5 are arguments and lost in a call, R6 to
/// R9 are kept, R10 is the top of a stack of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// A comparison, unsigned, of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    Equal,
    NotEqual,
    Less,
    AtLeast,
}

/// Arithmetic of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    Or,
    And,
    Left,
    Right,
    Move,
}

/// Functions of the kernel (`enum bpf_func_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Call {
    Lookup = 1,
    Update = 2,
    Nanoseconds = 5,
    PidTgid = 14,
}

/// A place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program that is being written.
#[derive(Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    /// Where each label is, once it is placed.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

// Opcodes (instruction-set.rst): class, source (K: immediate, X: register), operation.
const ALU64: u8 = 0x07;
const ALU32: u8 = 0x04;
const JMP: u8 = 0x05;
const X: u8 = 0x08;
const LDX: u8 = 0x61;
const STX: u8 = 0x63;
const MOV: u8 = 0xb0;

impl Assembler {
    fn put(&mut self, code: u8, dst: Reg, src: u8, offset: i16, immediate: i32) {
        self.insns.push(Insn { code, registers: dst as u8 | src << 4, offset, immediate });
    }

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// `label` is here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    /// `dst op= immediate`
    pub fn alu(&mut self, op: Op, dst: Reg, immediate: i32) {
        self.put(ALU64 | code(op), dst, 0, 0, immediate);
    }

    /// `dst op= src`
    pub fn alu_reg(&mut self, op: Op, dst: Reg, src: Reg) {
        self.put(ALU64 | X | code(op), dst, src as u8, 0, 0);
    }

    /// Keeps the lower half.
    pub fn low(&mut self, dst: Reg) {
        self.put(ALU32 | X | MOV, dst, dst as u8, 0, 0);
    }

    /// `dst = immediate`, of 64 bits.
    pub fn load64(&mut self, dst: Reg, immediate: u64) {
        self.put(0x18, dst, 0, 0, immediate as i32);
        self.put(0, Reg::R0, 0, 0, (immediate >> 32) as i32);
    }

    /// `dst = map`
    pub fn map(&mut self, dst: Reg, map: &Map) {
        /// BPF_PSEUDO_MAP_FD: the number is a descriptor.
        const DESCRIPTOR: u8 = 1;
        self.put(0x18, dst, DESCRIPTOR, 0, map.number());
        self.put(0, Reg::R0, 0, 0, 0);
    }

    /// `dst = field of the record at src`
    pub fn field(&mut self, dst: Reg, src: Reg, field: Field) {
        self.put(LDX | width(field.size), dst, src as u8, field.offset, 0);
    }

    /// `dst = [src + offset]`
    pub fn load(&mut self, size: Size, dst: Reg, src: Reg, offset: i16) {
        self.put(LDX | width(size), dst, src as u8, offset, 0);
    }

    /// `[dst + offset] = src`
    pub fn store(&mut self, size: Size, dst: Reg, offset: i16, src: Reg) {
        self.put(STX | width(size), dst, src as u8, offset, 0);
    }

    /// `[dst + offset] += immediate`, through `scratch`.
    pub fn count(&mut self, size: Size, dst: Reg, offset: i16, scratch: Reg) {
        self.load(size, scratch, dst, offset);
        self.alu(Op::Add, scratch, 1);
        self.store(size, dst, offset, scratch);
    }

    pub fn call(&mut self, function: Call) {
        self.put(0x85, Reg::R0, 0, 0, function as i32);
    }

    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.put(JMP, Reg::R0, 0, 0, 0);
    }

    /// Jumps if `left` compares so with `immediate`, which is not negative.
    pub fn jump_if(&mut self, left: Reg, how: If, immediate: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.put(JMP | compare(how), left, 0, 0, immediate);
    }

    pub fn jump_if_reg(&mut self, left: Reg, how: If, right: Reg, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.put(JMP | X | compare(how), left, right as u8, 0, 0);
    }

    /// Ends the program, which answers 0: no record is wanted.
    pub fn end(&mut self) {
        self.alu(Op::Move, Reg::R0, 0);
        self.exit();
    }

    /// Ends the program, which answers R0.
    pub fn exit(&mut self) {
        self.put(0x95, Reg::R0, 0, 0, 0);
    }

    /// The program, its jumps resolved; `None` if one goes nowhere or too far.
    pub fn finish(mut self) -> Option<Vec<Insn>> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0]?;
            self.insns[at].offset = i16::try_from(target as isize - at as isize - 1).ok()?;
        }
        Some(self.insns)
    }
}

const fn code(op: Op) -> u8 {
    match op {
        Op::Add => 0x00,
        Op::Sub => 0x10,
        Op::Or => 0x40,
        Op::And => 0x50,
        Op::Left => 0x60,
        Op::Right => 0x70,
        Op::Move => MOV,
    }
}

const fn compare(how: If) -> u8 {
    match how {
        If::Equal => 0x10,
        If::AtLeast => 0x30,
        If::NotEqual => 0x50,
        If::Less => 0xa0,
    }
}

/// BPF_W is 0.
const fn width(size: Size) -> u8 {
    match size {
        Size::Four => 0x00,
        Size::Two => 0x08,
        Size::One => 0x10,
        Size::Eight => 0x18,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_instruction_set_has_it() {
        let mut asm = Assembler::default();
        let out = asm.label();
        asm.alu_reg(Op::Move, Reg::R6, Reg::R1);
        asm.jump_if(Reg::R6, If::Equal, 7, out);
        asm.load(Size::Eight, Reg::R2, Reg::R6, 16);
        asm.place(out);
        asm.end();
        let insn = |code, registers, offset, immediate| Insn { code, registers, offset, immediate };
        let expected = [
            insn(0xbf, 0x16, 0, 0),
            insn(0x15, 0x06, 1, 7),
            insn(0x79, 0x62, 16, 0),
            insn(0xb7, 0x00, 0, 0),
            insn(0x95, 0x00, 0, 0),
        ];
        assert_eq!(asm.finish().unwrap(), expected);
    }

    #[test]
    fn a_jump_to_nowhere_is_no_program() {
        let mut asm = Assembler::default();
        let nowhere = asm.label();
        asm.jump(nowhere);
        assert_eq!(asm.finish(), None);
    }
}
