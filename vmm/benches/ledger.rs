//! What the always-on ledger costs: the same exits with and without it, on this machine's /dev/kvm.
//!
//!     cargo bench -p vmm --bench ledger
//!
//! A guest that does nothing but write a port is as exit-bound as a guest can be. Batches with (B) and
//! without (A) the ledger alternate, A B B A; what counts is CPU time of this thread, so that other
//! load matters little. The ledger alone, without a guest, is timed beside it: on a host whose exits
//! are quicker, its part is that cost over the cost of an exit there.

use std::sync::Arc;

use kvm_ioctls::{Kvm, VcpuExit};
use vmm::kvm::canary::guest::Guest;
use vmm::kvm::exit::ExitKind;
use vmm::run::ledger::{Exit, Ledger};
use vmm::sys::clock::{now_ns, ticks};

const EXITS: u64 = 4_000;
const QUADS: usize = 10;

/// `1: out 0xf0, al; jmp 1b`
const PROGRAM: [u8; 4] = [0xe6, 0xf0, 0xeb, 0xfc];

fn main() -> Result<(), String> {
    let alone = alone();
    println!("ledger alone                  {alone:8.1} ns an exit");
    let kvm = Kvm::new().map_err(|error| format!("open /dev/kvm: {error}"))?;
    let mut guest = Guest::new(&kvm, &PROGRAM)?;
    batch(&mut guest, None)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..QUADS {
        for on in [false, true, true, false] {
            let mut ledger = on.then(|| Ledger::new(Arc::default()));
            let ns = batch(&mut guest, ledger.as_mut())?;
            if let Some(ledger) = ledger {
                assert_eq!(ledger.count(), EXITS);
            }
            if on { with.push(ns) } else { without.push(ns) }
        }
    }
    let (off, on) = (median(&mut without), median(&mut with));
    println!("exit and back without ledger  {off:8.1} ns of CPU time, median of {} batches", 2 * QUADS);
    println!("exit and back with ledger     {on:8.1} ns");
    println!("measured                      {:+8.2} %", (on / off - 1.0) * 100.0);
    println!("from the ledger alone         {:+8.2} %", alone / off * 100.0);
    Ok(())
}

/// CPU time of each of [`EXITS`] exits, in nanoseconds.
fn batch(guest: &mut Guest, mut ledger: Option<&mut Ledger>) -> Result<f64, String> {
    let before = now_ns(libc::CLOCK_THREAD_CPUTIME_ID);
    for _ in 0..EXITS {
        let port = match guest.vcpu.run() {
            Ok(VcpuExit::IoOut(port, _)) => port,
            other => return Err(format!("the guest did {other:?}")),
        };
        if let Some(ledger) = &mut ledger {
            ledger.returned(Exit { kind: ExitKind::PioWrite, address: port.into(), size: 1 }, ticks());
            ledger.answered(ticks());
        }
    }
    Ok((now_ns(libc::CLOCK_THREAD_CPUTIME_ID) - before) as f64 / EXITS as f64)
}

/// Nanoseconds that the ledger takes for one exit, between four addresses in turn.
fn alone() -> f64 {
    const TIMES: u64 = 4_000_000;
    let mut ledger = Ledger::new(Arc::default());
    let before = now_ns(libc::CLOCK_THREAD_CPUTIME_ID);
    for i in 0..TIMES {
        ledger.returned(Exit { kind: ExitKind::PioWrite, address: 0x3f8 + i % 4, size: 1 }, ticks());
        ledger.answered(ticks());
    }
    assert_eq!(ledger.count(), TIMES);
    (now_ns(libc::CLOCK_THREAD_CPUTIME_ID) - before) as f64 / TIMES as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
