//! Arithmetic on doubles by SSE2, which every x86-64 CPU has, in the same instructions on every
//! platform: the built-in kernel's target has no floating point of its own. Doubles travel as their
//! bits. No register is named as changed: code of that target holds nothing in them, and elsewhere
//! the compiler is told.

use core::arch::asm;

/// Doubles in a step of the loops below.
pub const STEP: usize = 4;

/// Runs `$body` for every [`STEP`] doubles: `{i}` is the offset, `{a}`, `{b}`, `{c}` the arrays,
/// XMM7 holds the factor twice.
macro_rules! every_step {
    ($factor:expr, $a:expr, $b:expr, $c:expr, $len:expr, $($body:literal),+) => {
        // SAFETY: the callers cut the slices to one length, a multiple of STEP.
        unsafe {
            asm!(
                "movq xmm7, {factor}",
                "unpcklpd xmm7, xmm7",
                "xor {i:e}, {i:e}",
                "2:",
                $($body,)+
                "add {i}, 32",
                "cmp {i}, {end}",
                "jb 2b",
                factor = in(reg) $factor, a = in(reg) $a, b = in(reg) $b, c = in(reg) $c,
                end = in(reg) $len * 8, i = out(reg) _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm7") _,
                options(nostack),
            )
        }
    };
}

/// The whole steps that all three have; `None` for none.
fn steps(a: &[u64], b: &[u64], c: &[u64]) -> Option<usize> {
    Some(a.len().min(b.len()).min(c.len()) / STEP * STEP).filter(|len| *len > 0)
}

/// `to = from`.
pub fn copy(to: &mut [u64], from: &[u64]) {
    let Some(len) = steps(to, from, from) else { return };
    every_step!(
        0u64,
        to.as_mut_ptr(),
        from.as_ptr(),
        from.as_ptr(),
        len,
        "// {c} is not used",
        "movupd xmm0, [{b} + {i}]",
        "movupd xmm1, [{b} + {i} + 16]",
        "movupd [{a} + {i}], xmm0",
        "movupd [{a} + {i} + 16], xmm1"
    );
}

/// `to = factor * from`.
pub fn scale(to: &mut [u64], from: &[u64], factor: u64) {
    let Some(len) = steps(to, from, from) else { return };
    every_step!(
        factor,
        to.as_mut_ptr(),
        from.as_ptr(),
        from.as_ptr(),
        len,
        "// {c} is not used",
        "movupd xmm0, [{b} + {i}]",
        "movupd xmm1, [{b} + {i} + 16]",
        "mulpd xmm0, xmm7",
        "mulpd xmm1, xmm7",
        "movupd [{a} + {i}], xmm0",
        "movupd [{a} + {i} + 16], xmm1"
    );
}

/// `to = one + factor * other`.
pub fn triad(to: &mut [u64], one: &[u64], other: &[u64], factor: u64) {
    let Some(len) = steps(to, one, other) else { return };
    every_step!(
        factor,
        to.as_mut_ptr(),
        one.as_ptr(),
        other.as_ptr(),
        len,
        "movupd xmm0, [{c} + {i}]",
        "movupd xmm1, [{c} + {i} + 16]",
        "mulpd xmm0, xmm7",
        "mulpd xmm1, xmm7",
        "movupd xmm2, [{b} + {i}]",
        "movupd xmm3, [{b} + {i} + 16]",
        "addpd xmm0, xmm2",
        "addpd xmm1, xmm3",
        "movupd [{a} + {i}], xmm0",
        "movupd [{a} + {i} + 16], xmm1"
    );
}

/// `to = one + other`.
pub fn add(to: &mut [u64], one: &[u64], other: &[u64]) {
    let Some(len) = steps(to, one, other) else { return };
    every_step!(
        0u64,
        to.as_mut_ptr(),
        one.as_ptr(),
        other.as_ptr(),
        len,
        "movupd xmm0, [{b} + {i}]",
        "movupd xmm1, [{b} + {i} + 16]",
        "movupd xmm2, [{c} + {i}]",
        "movupd xmm3, [{c} + {i} + 16]",
        "addpd xmm0, xmm2",
        "addpd xmm1, xmm3",
        "movupd [{a} + {i}], xmm0",
        "movupd [{a} + {i} + 16], xmm1"
    );
}

/// A 4 × 4 tile of a product: `tile += left * right`, where `left` holds columns of four and
/// `right` rows of four, as many of each. The tile is four rows of four.
pub fn multiply(tile: &mut [u64; 16], left: &[u64], right: &[u64]) {
    let depth = left.len().min(right.len()) / 4;
    if depth == 0 {
        return;
    }
    // SAFETY: reads `depth` times four doubles of each side; the tile is sixteen.
    unsafe {
        asm!(
            "movupd xmm0, [{tile}]",
            "movupd xmm1, [{tile} + 16]",
            "movupd xmm2, [{tile} + 32]",
            "movupd xmm3, [{tile} + 48]",
            "movupd xmm4, [{tile} + 64]",
            "movupd xmm5, [{tile} + 80]",
            "movupd xmm6, [{tile} + 96]",
            "movupd xmm7, [{tile} + 112]",
            "2:",
            "movupd xmm8, [{right}]",
            "movupd xmm9, [{right} + 16]",
            "movsd xmm10, [{left}]",
            "movsd xmm12, [{left} + 8]",
            "unpcklpd xmm10, xmm10",
            "unpcklpd xmm12, xmm12",
            "movapd xmm11, xmm10",
            "movapd xmm13, xmm12",
            "mulpd xmm10, xmm8",
            "mulpd xmm11, xmm9",
            "mulpd xmm12, xmm8",
            "mulpd xmm13, xmm9",
            "addpd xmm0, xmm10",
            "addpd xmm1, xmm11",
            "addpd xmm2, xmm12",
            "addpd xmm3, xmm13",
            "movsd xmm10, [{left} + 16]",
            "movsd xmm12, [{left} + 24]",
            "unpcklpd xmm10, xmm10",
            "unpcklpd xmm12, xmm12",
            "movapd xmm11, xmm10",
            "movapd xmm13, xmm12",
            "mulpd xmm10, xmm8",
            "mulpd xmm11, xmm9",
            "mulpd xmm12, xmm8",
            "mulpd xmm13, xmm9",
            "addpd xmm4, xmm10",
            "addpd xmm5, xmm11",
            "addpd xmm6, xmm12",
            "addpd xmm7, xmm13",
            "add {left}, 32",
            "add {right}, 32",
            "dec {depth}",
            "jnz 2b",
            "movupd [{tile}], xmm0",
            "movupd [{tile} + 16], xmm1",
            "movupd [{tile} + 32], xmm2",
            "movupd [{tile} + 48], xmm3",
            "movupd [{tile} + 64], xmm4",
            "movupd [{tile} + 80], xmm5",
            "movupd [{tile} + 96], xmm6",
            "movupd [{tile} + 112], xmm7",
            tile = in(reg) tile.as_mut_ptr(),
            left = inout(reg) left.as_ptr() => _,
            right = inout(reg) right.as_ptr() => _,
            depth = inout(reg) depth => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _,
            options(nostack),
        )
    };
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "instructions, which Miri knows nothing of")]
    fn the_loops_do_what_they_say() {
        let (one, other) = (bits(&[1., 2., 3., 4., 5., 6., 7., 8.]), bits(&[8.; 8]));
        let mut to = bits(&[0.; 9]);
        triad(&mut to, &one, &other, 3f64.to_bits());
        assert_eq!(to, bits(&[25., 26., 27., 28., 29., 30., 31., 32., 0.]));
        add(&mut to, &one, &other);
        assert_eq!(to, bits(&[9., 10., 11., 12., 13., 14., 15., 16., 0.]));
        scale(&mut to[..4], &one, 2f64.to_bits());
        copy(&mut to[4..8], &one);
        assert_eq!(to, bits(&[2., 4., 6., 8., 1., 2., 3., 4., 0.]));
        copy(&mut to, &[]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "instructions, which Miri knows nothing of")]
    fn a_tile_of_a_product() {
        // Two columns of four times two rows of four.
        let (left, right) =
            (bits(&[1., 2., 3., 4., 1., 0., 0., 0.]), bits(&[1., 10., 100., 1000., 5., 5., 5., 5.]));
        let mut tile = [1f64.to_bits(); 16];
        multiply(&mut tile, &left, &right);
        assert_eq!(tile[..8], bits(&[7., 16., 106., 1006., 3., 21., 201., 2001.]));
        assert_eq!(tile[12..], bits(&[5., 41., 401., 4001.]));
    }
}
