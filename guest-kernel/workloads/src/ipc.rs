//! Two threads hand items over by two semaphores, P = 0 and C = 1, and do a little work on each.
//! The consumer sleeps once for every item: a halt and a wake-up interrupt, unless the CPU spins.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::platform::{Platform, Unavailable};
use crate::semaphore::Semaphore;
use crate::{Limit, Results};

/// Items between two looks at the clock.
const CHUNK: u64 = 64;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    if platform.cpus() < 2 {
        return Err(Unavailable("needs-two-cpus"));
    }
    let spin = spec.number("spin");
    let limit = Limit::new(platform, spec, spec.number("items"));
    let (produced, consumed) = (Semaphore::new(0), Semaphore::new(1));
    // The consumer is told of the end by an item beyond the last, so the count is only settled then.
    let items = AtomicU64::new(0);
    let last = AtomicU64::new(u64::MAX);
    let start = platform.now();
    platform.run(2, &|side| match side {
        0 => {
            let mut done = 0;
            while done < limit.most {
                let chunk = limit.next(platform, done, CHUNK);
                if chunk == 0 {
                    break;
                }
                for _ in 0..chunk {
                    produced.post(platform);
                    work(spin);
                    consumed.wait(platform);
                    work(spin);
                }
                done += chunk;
            }
            last.store(done, Ordering::SeqCst);
            produced.post(platform);
        }
        _ => loop {
            produced.wait(platform);
            let done = items.load(Ordering::Relaxed);
            if done >= last.load(Ordering::SeqCst) {
                break;
            }
            items.store(done + 1, Ordering::Relaxed);
            work(spin);
            consumed.post(platform);
        },
    })?;
    let ns = platform.now() - start;
    results(&Record::new(spec.text(), "-", items.into_inner(), ns));
    Ok(())
}

/// `additions` trivial ones, which the compiler may not fold.
pub(crate) fn work(additions: u64) {
    let mut sum = 0u64;
    for i in 0..additions {
        sum = black_box(sum.wrapping_add(i));
    }
}
