//! A program takes zeroed pages, uses them, gives them back. Without a pool it clears each page when
//! it takes it; with one, another thread clears those given back while the program works.

use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::record::Record;
use abi::workload::Spec;

use crate::ipc::work;
use crate::platform::{Platform, Unavailable};
use crate::sys::pieces::{MOST, Pieces};
use crate::sys::words;
use crate::{Limit, Results};

const PAGE: usize = 4096;
/// Pages between two looks at the clock.
const CHUNK: u64 = 64;

pub(crate) fn run<P: Platform>(
    platform: &P,
    spec: &Spec<'_>,
    results: Results<'_>,
) -> Result<(), Unavailable> {
    let pool = spec.on("zeropool");
    if pool && platform.cpus() < 2 {
        return Err(Unavailable("needs-two-cpus"));
    }
    let spin = spec.number("spin");
    let limit = Limit::new(platform, spec, spec.number("items"));
    let (taken, hits) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let ns = platform.memory(PAGE * MOST, |memory| {
        let pages = Pieces::new(words(memory), MOST, 1);
        // Which pages are clear; the program goes round, the other thread ahead of it.
        let clear = [const { AtomicBool::new(false) }; MOST];
        let start = platform.now();
        platform.run(if pool { 2 } else { 1 }, &|thread| match thread {
            0 => {
                let mut number = 0;
                loop {
                    let chunk = limit.next(platform, number, CHUNK);
                    if chunk == 0 {
                        break;
                    }
                    for number in number..number + chunk {
                        let slot = number as usize % MOST;
                        let mut page = loop {
                            match pages.hold(slot) {
                                Some(page) => break page,
                                None => spin_loop(),
                            }
                        };
                        if clear[slot].load(Ordering::Acquire) {
                            hits.fetch_add(1, Ordering::Relaxed);
                        } else {
                            page.fill(0);
                        }
                        // The program's own work: it writes a word of each cache line.
                        page.iter_mut().step_by(8).for_each(|word| *word = black_box(number));
                        work(spin);
                        clear[slot].store(false, Ordering::Release);
                    }
                    number += chunk;
                }
                taken.store(number, Ordering::Relaxed);
                done.store(true, Ordering::Release);
            }
            _ => {
                let mut slot = 0;
                while !done.load(Ordering::Acquire) {
                    if !clear[slot].load(Ordering::Acquire)
                        && let Some(mut page) = pages.hold(slot)
                    {
                        page.fill(0);
                        clear[slot].store(true, Ordering::Release);
                    }
                    slot = (slot + 1) % MOST;
                    spin_loop();
                }
            }
        })?;
        Ok(platform.now() - start)
    })??;
    results(&Record::new(spec.text(), "-", taken.into_inner(), ns).with("from_pool", hits.into_inner()));
    Ok(())
}
