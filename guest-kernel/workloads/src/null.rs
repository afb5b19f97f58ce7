//! The price of a ring crossing: 40 bytes written to, and 40 read from, the null file.
//!
//! The published figures opened it read-only, so that every write failed early; both kinds of open
//! file are measured, and told apart.

use core::hint::black_box;

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Gate, NullFile, Platform, Unavailable};
use crate::{Limit, Results};

/// Pairs of calls between two looks at the clock.
const CHUNK: u64 = 4096;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let gate = match spec.word("gate") {
        "call" => Gate::Call,
        "table" => Gate::Table,
        _ => Gate::Syscall,
    };
    for (part, writable) in [("read-only", false), ("read-write", true)] {
        let file = platform.null(gate, writable)?;
        let limit = Limit::new(platform, spec, spec.number("calls"));
        let start = platform.now();
        let (mut pairs, mut refused) = (0, 0);
        loop {
            let chunk = limit.next(platform, pairs, CHUNK);
            if chunk == 0 {
                break;
            }
            refused += call(&file, chunk);
            pairs += chunk;
        }
        let ns = platform.now() - start;
        results(&Record::new(spec.text(), part, 2 * pairs, ns).with("refused", refused));
    }
    Ok(())
}

/// The writes among `pairs` that failed.
fn call(file: &impl NullFile, pairs: u64) -> u64 {
    let mut buffer = [0x55; 40];
    let mut refused = 0;
    for _ in 0..pairs {
        refused += u64::from(file.write(black_box(&buffer)) < 0);
        black_box(file.read(black_box(&mut buffer)));
    }
    refused
}
