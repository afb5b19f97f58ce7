//! The run cut at the guest's marks.

use abi::mark::Mark;

use super::adds_up;
use super::build::userspace_rows;
use super::facts::Facts;
use super::kernel::Trust;
use super::model::Phase;
use crate::kvm::stats::Counters;

/// Where a phase begins or ends: when, and what KVM had counted by then.
#[derive(Clone, Copy)]
struct Cut<'a> {
    at: u64,
    counters: Option<&'a Counters>,
}

/// One phase before the first mark, and one from each mark on.
pub fn phases(facts: &Facts, trust: &Trust) -> Vec<Phase> {
    // KVM's counters begin with their machine: before the first entry they are zero.
    let zero = facts.counters.as_ref().map(|_| Counters::default());
    let mut names = vec!["start".to_owned()];
    let mut cuts = vec![Cut { at: facts.started, counters: zero.as_ref() }];
    for mark in &facts.marks {
        names.push(name(mark.mark, &facts.config.boot.workloads));
        cuts.push(Cut { at: mark.at, counters: mark.counters.as_ref() });
    }
    cuts.push(Cut { at: facts.ended, counters: facts.counters.as_ref() });
    let between = cuts.windows(2).zip(names).zip(0..);
    between
        .filter_map(|((pair, name), number)| {
            let [begin, end] = pair else { return None };
            Some(phase(facts, trust, name, number, *begin, *end))
        })
        .collect()
}

fn phase(facts: &Facts, trust: &Trust, name: String, number: u32, begin: Cut, end: Cut) -> Phase {
    let counters = begin.counters.zip(end.counters).map(|(before, after)| after.since(before));
    let counters = counters.as_ref();
    let total = counters.and_then(|counters| trust.total(counters));
    Phase {
        name,
        wall_us: facts.rate.ns(end.at.saturating_sub(begin.at)) / 1000,
        exits: adds_up::exits(total, trust.kernel(counters), userspace_rows(facts, Some(number))),
        halts: trust.halts(counters),
    }
}

/// What the guest does from this mark on.
fn name(mark: Mark, workloads: &[String]) -> String {
    let workload = |index: u16| match workloads.get(usize::from(index)) {
        Some(workload) => workload.clone(),
        None => format!("workload {index}"),
    };
    match mark {
        Mark::Kernel => "kernel".into(),
        Mark::Init => "init".into(),
        Mark::Ready => "ready".into(),
        Mark::Agent => "agent".into(),
        Mark::Start(index) => workload(index),
        Mark::End(index) => format!("after {}", workload(index)),
    }
}
