//! The root, a tar image.

use crate::tar::{Files, Image};

/// An image that is said to be longer or shorter than it is, and whose headers are summed up right, for no
/// fuzzer would.
struct Tape<'d> {
    bytes: u64,
    content: &'d [u8],
    sums: bool,
}

impl Image for Tape<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool {
        assert!(
            at.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.bytes),
            "read beyond its end"
        );
        let there = self.content.get(at as usize..).and_then(|rest| rest.get(..bytes.len()));
        let Some(there) = there else { return false };
        bytes.copy_from_slice(there);
        if self.sums && bytes.len() == 512 && bytes.iter().any(|byte| *byte != 0) {
            bytes[148..156].fill(b' ');
            let mut sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
            for digit in bytes[148..154].iter_mut().rev() {
                *digit = b'0' + (sum & 7) as u8;
                sum >>= 3;
            }
        }
        true
    }
}

/// A tar image of a length that the first bytes say; all of its files are read.
pub fn tar(data: &[u8]) {
    let Some((&[how, blocks], content)) = data.split_first_chunk() else { return };
    let bytes = match how & 2 {
        0 => content.len() as u64,
        _ => 512 << (blocks & 63),
    };
    let mut tape = Tape { bytes, content, sums: how & 1 == 0 };
    let mut files = Files(&mut tape, 0);
    while let Ok(Some(file)) = files.take_next() {
        if files.read(file, |_| ()).is_err() {
            break;
        }
    }
}
