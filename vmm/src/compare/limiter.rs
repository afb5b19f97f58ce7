//! What a setting probably waits for: from the CPU time of its threads, their waiting, its sleep and
//! its exits.

use super::bundle::{Kind, Load, Run};
use super::statistics::median;

/// A thread that runs so much of the time is at its limit.
const FULL: f64 = 0.85;
/// vCPUs that wait so much of the time for a CPU lack one.
const CROWDED: f64 = 0.15;
/// vCPUs that sleep so much of the time wait for somebody.
const ASLEEP: f64 = 0.5;

/// In words, with the evidence; `None` where no run has left any.
pub fn suspect(runs: &[&Run]) -> Option<String> {
    let loads: Vec<&Load> =
        runs.iter().filter(|run| run.status == 0).filter_map(|run| run.load.as_ref()).collect();
    let of = |value: &dyn Fn(&Load) -> Option<f64>| {
        median(&loads.iter().filter_map(|load| value(load)).collect::<Vec<_>>())
    };
    let count = loads.iter().map(|load| load.vcpus.len()).min()?;
    let vcpus: Vec<f64> = (0..count).filter_map(|at| of(&|load| load.vcpus.get(at).copied())).collect();
    let (busiest, busy) = vcpus.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let asleep = of(&|load| load.asleep);
    let waited = of(&|load| load.waited);
    let vmm = of(&|load| Some(load.vmm))?;
    let evidence = evidence(&vcpus, vmm, asleep, exits(runs));
    let suspected = match () {
        () if waited.is_some_and(|waited| waited > CROWDED) => {
            format!("the host's CPUs: vCPU threads were ready and had none {} of the time", percent(waited?))
        }
        () if vmm > FULL => {
            format!("device workers: the monitor's own threads ran {} of the time", percent(vmm))
        }
        () if busy > FULL => format!("vCPU {busiest}: it ran {} of the time", percent(busy)),
        () if asleep.is_some_and(|asleep| asleep > ASLEEP) => {
            format!("waiting: vCPUs slept {} of the time", percent(asleep?))
        }
        () => "none at its limit".to_owned(),
    };
    Some(format!("{suspected} ({evidence})"))
}

fn evidence(vcpus: &[f64], vmm: f64, asleep: Option<f64>, exits: Option<f64>) -> String {
    let busy: Vec<String> = vcpus.iter().map(|share| percent(*share)).collect();
    let mut words = vec![format!("vCPUs busy {}", busy.join(" + ")), format!("rest of vmm {}", percent(vmm))];
    words.extend(asleep.map(|asleep| format!("asleep {}", percent(asleep))));
    words.extend(exits.map(|exits| {
        let (factor, unit) = super::words::scale(exits, true);
        format!("{} exits {unit}", super::words::figures(exits * factor))
    }));
    words.join(" · ")
}

/// All exits, for one operation.
fn exits(runs: &[&Run]) -> Option<f64> {
    let of = |run: &&Run| {
        let total = run.rows.iter().find(|row| row.kind == Kind::Total)?;
        (run.ops > 0).then(|| total.count as f64 / run.ops as f64)
    };
    median(&runs.iter().filter_map(of).collect::<Vec<_>>())
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::sample;
    use super::*;

    fn suspected(load: Load) -> String {
        let mut bundle = sample();
        for run in &mut bundle.runs {
            run.load = Some(load.clone());
        }
        suspect(&bundle.runs.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn whoever_is_at_its_limit() {
        let load = |vcpus: &[f64], vmm, asleep, waited| {
            suspected(Load { vcpus: vcpus.to_vec(), vmm, asleep: Some(asleep), waited: Some(waited) })
        };
        assert!(load(&[0.1, 0.99], 0.1, 0.4, 0.0).starts_with("vCPU 1: it ran 99 % of the time"));
        assert!(load(&[0.6, 0.6], 0.1, 0.0, 0.3).starts_with("the host's CPUs: "));
        assert!(load(&[0.2], 0.95, 0.7, 0.0).starts_with("device workers: "));
        assert!(load(&[0.1], 0.1, 0.8, 0.0).starts_with("waiting: vCPUs slept 80 %"));
        assert!(load(&[0.5], 0.1, 0.3, 0.0).starts_with("none at its limit (vCPUs busy 50 %"));
    }

    #[test]
    fn without_evidence_nothing_is_suspected() {
        assert_eq!(suspect(&[]), None);
    }
}
