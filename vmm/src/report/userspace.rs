//! Ledgers → rows: exits by device and register instead of port and address.

use std::collections::BTreeMap;

use abi::histogram::Histogram;

use crate::kvm::exit::ExitKind;
use crate::run::ledger::{Key, Ledger};
use crate::run::vcpu::Buses;
use crate::sys::clock::TickRate;

use super::model::UserspaceExit;

/// The rows of one vCPU: of one phase, or of all. Most exits first.
pub fn rows(
    vcpu: u8,
    ledger: &Ledger,
    phase: Option<u32>,
    buses: &Buses,
    rate: TickRate,
) -> Vec<UserspaceExit> {
    // Registers that have one name (a window of PCI configuration space) share a row.
    let mut sums: BTreeMap<(String, Option<String>), Box<Histogram>> = BTreeMap::new();
    for (_, table) in ledger.phases().filter(|(number, _)| phase.is_none_or(|wanted| wanted == *number)) {
        for (key, times) in table.rows() {
            times.add_to(sums.entry((key.kind.label(), target(key, buses))).or_default());
        }
        if table.other().count() > 0 {
            let name = ("other".to_owned(), Some("addresses beyond the table".to_owned()));
            table.other().add_to(sums.entry(name).or_default());
        }
    }
    let row = |((reason, target), sum): ((String, Option<String>), Box<Histogram>)| UserspaceExit {
        vcpu,
        reason,
        target,
        count: sum.count(),
        ns_total: rate.ns(sum.total()),
        ns_p50: rate.ns(sum.p50()),
        ns_p99: rate.ns(sum.p99()),
        ns_max: rate.ns(sum.max()),
    };
    let mut rows: Vec<_> = sums.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

/// Device and register; the bare address where nothing is.
pub fn target(key: Key, buses: &Buses) -> Option<String> {
    let (bus, space, write) = match key.kind {
        ExitKind::PioRead => (&buses.port, "port", false),
        ExitKind::PioWrite => (&buses.port, "port", true),
        ExitKind::MmioRead => (&buses.memory, "mmio", false),
        ExitKind::MmioWrite => (&buses.memory, "mmio", true),
        ExitKind::IoapicEoi => return Some(format!("vector {:#x}", key.address)),
        _ => return None,
    };
    Some(match bus.describe(key.address, write) {
        Some((device, register)) => format!("{device} {register}"),
        None => format!("{space} {:#x}", key.address),
    })
}
