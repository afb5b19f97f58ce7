//! One mechanism, many times, each by itself on the clock: those that every kernel has. The built-in kernel has
//! others of its own.

use core::arch::x86_64::__cpuid;
use core::hint::black_box;

use abi::histogram::Histogram;
use abi::record::Record;
use abi::workload::Spec;

use crate::Results;
use crate::platform::{Gate, NullFile, Platform, Unavailable};

const PAGE: usize = 4096;
/// How far ahead the timer is set.
const AHEAD_NS: u64 = 100_000;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let items = spec.number("items");
    let mut times = Histogram::new();
    let mut one = |deed: &mut dyn FnMut()| {
        let start = platform.now();
        deed();
        times.record(platform.now() - start);
    };
    match spec.word("what") {
        "cpuid" => (0..items).for_each(|_| {
            one(&mut || {
                black_box(__cpuid(0));
            });
        }),
        "syscall" => {
            let file = platform.null(Gate::Syscall, false)?;
            (0..items).for_each(|_| {
                one(&mut || {
                    black_box(file.read(&mut []));
                });
            });
        }
        "timer" => (0..items).for_each(|_| one(&mut || platform.sleep_until(platform.now() + AHEAD_NS))),
        "touch" => {
            let bytes = spec.count("items").checked_mul(PAGE).ok_or(Unavailable("too-little-memory"))?;
            platform.memory(bytes, |memory| {
                memory.chunks_exact_mut(PAGE).for_each(|page| one(&mut || page[0] = black_box(1)));
            })?;
        }
        _ => return Err(Unavailable("only-in-the-built-in-kernel")),
    }
    let record = Record::new(spec.text(), "-", times.count(), times.total());
    results(&record.with("p50_ns", times.p50()).with("p99_ns", times.p99()).with("max_ns", times.max()));
    Ok(())
}
