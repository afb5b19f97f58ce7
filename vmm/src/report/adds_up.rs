//! All exits, the parts of them that are known, and what is left over.

use super::kernel;
use super::model::{Exits, Explained, Kernel, Source, UserspaceExit};

/// Lays what KVM and the vCPU threads have counted side by side.
pub fn exits(total: Option<u64>, kernel: Kernel, userspace: Vec<UserspaceExit>) -> Exits {
    let explained = explained(&kernel, &userspace);
    let sum: u64 = explained.iter().map(|part| part.count).sum();
    let unexplained =
        total.map(|total| i64::try_from(i128::from(total) - i128::from(sum)).unwrap_or(i64::MIN));
    Exits { total, userspace, kernel, explained, unexplained, hardware: None, ipi: None }
}

/// The class that a return to userspace belongs to.
pub fn class_of(reason: &str) -> &'static str {
    match reason {
        "io-read" | "io-write" => "io",
        "mmio-read" | "mmio-write" => "mmio",
        "halt" => "halt",
        "ioapic-eoi" => "ioapic_eoi",
        "shutdown" => "shutdown",
        "interrupted" => "signal",
        _ => "other",
    }
}

/// Disjoint parts of all exits, the largest first.
fn explained(kernel: &Kernel, userspace: &[UserspaceExit]) -> Vec<Explained> {
    let returns = |class: &str| -> u64 {
        userspace.iter().filter(|row| class_of(&row.reason) == class).map(|row| row.count).sum()
    };
    let of_kvm = kernel::exclusive().map(|reason| match kernel.get(reason) {
        Some(count) => Explained { reason, count, source: Source::Kvm },
        // Where KVM does not count a class, its returns to userspace are exits all the same.
        None => Explained { reason, count: returns(reason), source: Source::Userspace },
    });
    // KVM counts these nowhere but in the total, and each of them returns.
    let of_threads = ["ioapic_eoi", "shutdown"];
    let of_threads =
        of_threads.map(|reason| Explained { reason, count: returns(reason), source: Source::Userspace });
    let mut parts: Vec<_> = of_kvm.chain(of_threads).filter(|part| part.count > 0).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.count));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returns(reason: &str, count: u64) -> UserspaceExit {
        UserspaceExit {
            vcpu: 0,
            reason: reason.into(),
            target: None,
            count,
            ns_total: 0,
            ns_p50: 0,
            ns_p99: 0,
            ns_max: 0,
        }
    }

    #[test]
    fn parts_and_rest_are_the_whole() {
        let kernel =
            Kernel(vec![("io", Some(40)), ("mmio", Some(10)), ("emulated", Some(70)), ("irq", Some(0))]);
        let rows = vec![returns("io-write", 30), returns("mmio-read", 10), returns("ioapic-eoi", 2)];
        let exits = exits(Some(100), kernel, rows);
        let parts: Vec<_> = exits.explained.iter().map(|part| (part.reason, part.count)).collect();
        assert_eq!(parts, [("io", 40), ("mmio", 10), ("ioapic_eoi", 2)], "emulation overlaps and is no part");
        assert_eq!(exits.unexplained, Some(48));
    }

    #[test]
    fn what_kvm_does_not_count_the_threads_do() {
        let exits =
            exits(Some(30), Kernel(vec![("io", None)]), vec![returns("io-write", 20), returns("io-read", 7)]);
        assert_eq!(exits.explained, [Explained { reason: "io", count: 27, source: Source::Userspace }]);
        assert_eq!(exits.unexplained, Some(3));
    }

    #[test]
    fn exits_counted_twice_show_as_less_than_nothing() {
        assert_eq!(exits(Some(1), Kernel(vec![("io", Some(3))]), vec![]).unexplained, Some(-2));
        assert_eq!(exits(None, Kernel(vec![]), vec![]).unexplained, None);
    }
}
