//! Memory and registers of the tests.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use super::registers::{Registers, Shared};

/// Memory that a test, as the device, reads and writes too.
#[derive(Clone)]
pub struct Ram(Rc<RefCell<Vec<u8>>>);

impl Ram {
    pub fn new(bytes: usize) -> Ram {
        Ram(Rc::new(RefCell::new(vec![0; bytes])))
    }

    fn load<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.borrow()[at..at + N].try_into().unwrap()
    }

    pub fn load64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.load(at))
    }
}

impl Shared for Ram {
    fn address(&self) -> u64 {
        0x4000_0000
    }
    fn load16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.load(at))
    }
    fn load32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.load(at))
    }
    fn store16(&self, at: usize, value: u16) {
        self.0.borrow_mut()[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    fn store64(&self, at: usize, value: u64) {
        self.0.borrow_mut()[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Registers that keep what is stored, from address 0 on, unless `answer` says otherwise.
pub struct Bank {
    pub bytes: RefCell<Vec<u8>>,
    /// What a load finds, after what is there: `(address, width, value)`.
    pub answer: fn(&Bank, usize, u32) -> u32,
}

impl Bank {
    pub fn new(bytes: usize) -> Bank {
        Bank { bytes: RefCell::new(vec![0; bytes]), answer: |_, _, value| value }
    }

    pub fn put(&self, at: usize, bytes: &[u8]) {
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn word(&self, at: usize, width: usize) -> u32 {
        let bytes = self.bytes.borrow();
        let bytes = bytes.get(at..at + width).unwrap_or(&[0xff; 4][..width]);
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
    }
}

impl Registers for Bank {
    fn load8(&self, address: usize) -> u8 {
        (self.answer)(self, address, self.word(address, 1)) as u8
    }
    fn load16(&self, address: usize) -> u16 {
        (self.answer)(self, address, self.word(address, 2)) as u16
    }
    fn load32(&self, address: usize) -> u32 {
        (self.answer)(self, address, self.word(address, 4))
    }
    fn store8(&self, address: usize, value: u8) {
        self.put(address, &[value]);
    }
    fn store16(&self, address: usize, value: u16) {
        self.put(address, &value.to_le_bytes());
    }
    fn store32(&self, address: usize, value: u32) {
        self.put(address, &value.to_le_bytes());
    }
    fn out16(&self, port: u16, _: u16) {
        panic!("out to {port:#x}");
    }
}
