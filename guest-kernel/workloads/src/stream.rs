//! Memory bandwidth: copy, scale, add and triad over three arrays of doubles, the best of some
//! rounds each.

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::sys::pieces::Pieces;
use crate::sys::{vector, words};
use crate::{Limit, Results, threads};

/// Name, and arrays that pass through the CPU.
const KERNELS: [(&str, u64); 4] = [("copy", 2), ("scale", 2), ("add", 3), ("triad", 3)];
const FACTOR: f64 = 3.0;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let threads = threads(platform, spec);
    let limit = Limit::new(platform, spec, spec.number("rounds"));
    let (best, rounds, array, right) = platform.memory(spec.count("size"), |memory| {
        let memory = words(memory);
        let array = memory.len() / 3;
        let (a, rest) = memory.split_at_mut(array);
        let (b, rest) = rest.split_at_mut(array);
        let c = &mut rest[..array];
        a.fill(1f64.to_bits());
        b.fill(2f64.to_bits());
        c.fill(0);
        let mut best = [u64::MAX; 4];
        let mut rounds = 0;
        while limit.next(platform, rounds, 1) > 0 {
            for (kernel, best) in best.iter_mut().enumerate() {
                *best = pass(platform, threads, kernel, [&mut *a, &mut *b, &mut *c])?.min(*best);
            }
            rounds += 1;
        }
        Ok((best, rounds, array as u64, a[0] == expected(rounds)))
    })??;
    if !right {
        return Err(Unavailable("wrong-sums"));
    }
    for ((name, arrays), ns) in KERNELS.into_iter().zip(best) {
        let bytes = arrays * array * 8;
        results(&Record::new(spec.text(), name, array, ns).with("bytes", bytes).with("rounds", rounds));
    }
    Ok(())
}

/// Nanoseconds that one kernel takes over the whole arrays.
fn pass<P: Platform>(
    platform: &P,
    threads: usize,
    kernel: usize,
    [a, b, c]: [&mut [u64]; 3],
) -> Result<u64, Unavailable> {
    let cut = |array| Pieces::new(array, threads, vector::STEP);
    let (a, b, c) = (cut(a), cut(b), cut(c));
    let start = platform.now();
    platform.run(threads, &|thread| {
        let (Some(mut a), Some(mut b), Some(mut c)) = (a.hold(thread), b.hold(thread), c.hold(thread)) else {
            return;
        };
        match kernel {
            0 => vector::copy(&mut c, &a),
            1 => vector::scale(&mut b, &c, FACTOR.to_bits()),
            2 => vector::add(&mut c, &a, &b),
            _ => vector::triad(&mut a, &b, &c, FACTOR.to_bits()),
        }
    })?;
    Ok(platform.now() - start)
}

/// What every element of the first array is in the end.
fn expected(rounds: u64) -> u64 {
    let mut a = 1f64;
    for _ in 0..rounds {
        let b = FACTOR * a;
        a = b + FACTOR * (a + b);
    }
    a.to_bits()
}
