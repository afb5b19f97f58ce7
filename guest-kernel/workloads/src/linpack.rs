//! Arithmetic: the product of two square matrices of doubles, in tiles that stay in registers and
//! panels that stay in caches. Two operations for each of n³ products.

use core::sync::atomic::{AtomicUsize, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::sys::pieces::{MOST, Pieces};
use crate::sys::{vector, words};
use crate::{Limit, Results, threads};

/// Rows and columns of a tile.
const TILE: usize = 4;
/// Rows and columns are a multiple of this, so that the panels of rows can be dealt out in
/// [`MOST`] equal pieces.
const ROUND: usize = TILE * MOST;
/// Products to a tile between two loads of it, so that both panels stay in the first cache.
const DEPTH: usize = 256;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let n = spec.count("size").next_multiple_of(ROUND);
    let threads = threads(platform, spec);
    let limit = Limit::new(platform, spec, spec.number("rounds"));
    let (ns, rounds, right) = platform.memory(3 * n * n * 8, |memory| {
        let memory = words(memory);
        let (left, rest) = memory.split_at_mut(n * n);
        let (right, product) = rest.split_at_mut(n * n);
        fill(left, right, n);
        product.fill(0);
        let start = platform.now();
        let mut rounds = 0;
        while limit.next(platform, rounds, 1) > 0 {
            multiply(platform, threads, n, [&*left, &*right], &mut *product)?;
            rounds += 1;
        }
        let ns = platform.now() - start;
        Ok((ns, rounds, check(product, n, rounds)))
    })??;
    if !right {
        return Err(Unavailable("wrong-product"));
    }
    let operations = 2 * (n as u64).pow(3) * rounds;
    results(
        &Record::new(spec.text(), "-", operations, ns).with("rounds", rounds).with("threads", threads as u64),
    );
    Ok(())
}

/// Element (i, j) of the left matrix is i mod 7, of the right one j mod 5. The left lies in panels of
/// four rows, column by column; the right in panels of four columns, row by row.
fn fill(left: &mut [u64], right: &mut [u64], n: usize) {
    let numbers: [u64; 8] = core::array::from_fn(|i| (i as f64).to_bits());
    for (matrix, modulus) in [(left, 7), (right, 5)] {
        for (panel, elements) in matrix.chunks_exact_mut(TILE * n).enumerate() {
            for (i, element) in elements.iter_mut().enumerate() {
                *element = numbers[(panel * TILE + i % TILE) % modulus];
            }
        }
    }
}

/// Adds `left * right` to `product`, which lies in tiles, those of four rows one after the other.
fn multiply<P: Platform>(
    platform: &P,
    threads: usize,
    n: usize,
    [left, right]: [&[u64]; 2],
    product: &mut [u64],
) -> Result<(), Unavailable> {
    let panel = TILE * n;
    let pieces = Pieces::new(product, MOST, panel);
    let next = AtomicUsize::new(0);
    platform.run(threads, &|_| {
        while let Some((number, mut piece)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            pieces.hold(number).map(|piece| (number, piece))
        } {
            let rows = left.chunks_exact(panel).skip(number * piece.len() / panel);
            for (row, tiles) in rows.zip(piece.chunks_exact_mut(panel)) {
                for (column, tile) in right.chunks_exact(panel).zip(tiles.as_chunks_mut::<16>().0) {
                    for (row, column) in row.chunks(TILE * DEPTH).zip(column.chunks(TILE * DEPTH)) {
                        vector::multiply(tile, row, column);
                    }
                }
            }
        }
    })
}

/// Whether a sample of the product is what it must be: all sums are whole numbers.
fn check(product: &[u64], n: usize, rounds: u64) -> bool {
    (0..n).all(|i| {
        let j = i * 31 % n;
        let tile = (i / TILE * (n / TILE) + j / TILE) * 16;
        let sum = (i % 7 * (j % 5) * n) as u64 * rounds;
        product.get(tile + i % TILE * TILE + j % TILE) == Some(&(sum as f64).to_bits())
    })
}
