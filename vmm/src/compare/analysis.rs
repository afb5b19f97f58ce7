//! Bundle → results: each setting against the first, within each class of hosts.

use std::collections::BTreeSet;

use serde::Serialize;

use super::bundle::{Bundle, Kind, Run};
use super::limiter;
use super::statistics::{self, Summary};

/// What a change of a row must be at least, in counts of a run: below, it is chance.
const LEAST_COUNT: f64 = 5.0;
/// …and as a part of the larger one.
const LEAST_PART: f64 = 0.1;

/// Hosts of one class, whose times can be compared.
#[derive(Debug, Serialize)]
pub struct ClassResult {
    pub class: String,
    /// Why its times say little.
    pub doubt: Option<&'static str>,
    pub settings: Vec<SettingResult>,
}

#[derive(Debug, Serialize)]
pub struct SettingResult {
    /// Which of the bundle's.
    pub setting: usize,
    pub name: String,
    pub runs: usize,
    /// Why runs of it have no result, each reason once.
    pub failed: Vec<String>,
    pub metrics: Vec<MetricResult>,
    /// Rows of the ledger that differ from the first setting's, largest first.
    pub changed: Vec<Change>,
    /// Parts of all exits, for one operation each.
    pub exits: Vec<(String, f64)>,
    /// Counts are for one operation, and not for a whole run.
    pub per_op: bool,
    pub limiter: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct MetricResult {
    /// Which of the bundle's.
    pub metric: usize,
    pub name: String,
    pub points: Vec<f64>,
    pub median: f64,
    pub quartiles: (f64, f64),
    /// To the first setting; `None` for itself, and where that has no point.
    pub ratio: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// The interval does not hold 1.
    pub visible: bool,
}

/// A row that differs: medians, for one operation (or run).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub kind: Kind,
    pub name: String,
    pub from: f64,
    pub to: f64,
}

/// All classes of hosts in the bundle.
pub fn analyse(bundle: &Bundle) -> Vec<ClassResult> {
    bundle.classes().into_iter().map(|class| of_class(bundle, class)).collect()
}

fn of_class(bundle: &Bundle, class: String) -> ClassResult {
    let base: Vec<&Run> = bundle.counted(0, &class).collect();
    let settings = bundle.settings.iter().enumerate().filter_map(|(at, setting)| {
        let runs: Vec<&Run> = bundle.counted(at, &class).collect();
        if runs.is_empty() {
            return None;
        }
        let mut failed: Vec<String> = Vec::new();
        // Of warm-ups, too: they count for nothing else.
        let all =
            bundle.runs.iter().filter(|run| run.setting == at && bundle.hosts[run.host].class() == class);
        for why in all.filter_map(|run| run.failed.clone()) {
            if !failed.contains(&why) {
                failed.push(why);
            }
        }
        let metrics = (0..bundle.metrics.len()).filter_map(|metric| {
            let base = if at == 0 { &[] } else { base.as_slice() };
            of_metric(bundle, metric, &runs, base)
        });
        let per_op = runs.iter().chain(&base).all(|run| run.ops > 0 || run.status != 0);
        Some(SettingResult {
            setting: at,
            name: setting.name.clone(),
            runs: runs.len(),
            failed,
            metrics: metrics.collect(),
            changed: if at == 0 || setting.native { Vec::new() } else { changed(&base, &runs, per_op) },
            exits: exits(&runs, per_op),
            per_op,
            limiter: limiter::suspect(&runs),
        })
    });
    let settings = settings.collect();
    let doubt = bundle.hosts.iter().find(|host| host.class() == class).and_then(|host| host.doubt());
    ClassResult { class, doubt, settings }
}

fn of_metric(bundle: &Bundle, metric: usize, runs: &[&Run], base: &[&Run]) -> Option<MetricResult> {
    let name = &bundle.metrics[metric].name;
    let points = |runs: &[&Run]| -> Vec<f64> {
        runs.iter().filter_map(|run| run.metrics.get(name).copied()).collect()
    };
    let of = points(runs);
    let Summary { median, low, high, .. } = statistics::summary(&of)?;
    let ratio = statistics::ratio(&of, &points(base));
    Some(MetricResult {
        metric,
        name: name.clone(),
        points: of,
        median,
        quartiles: (low, high),
        ratio: ratio.map(|ratio| ratio.value),
        interval: ratio.and_then(|ratio| ratio.interval),
        visible: ratio.is_some_and(|ratio| ratio.visible()),
    })
}

/// A row's counts of all runs that ended well.
pub fn counts(runs: &[&Run], kind: Kind, name: &str, per_op: bool) -> Option<Vec<f64>> {
    let runs = runs.iter().filter(|run| run.status == 0);
    let counts = runs.map(|run| {
        let count =
            run.rows.iter().find(|row| row.kind == kind && row.name == name).map(|row| row.count as f64);
        let known = run.rows.iter().any(|row| row.kind == kind);
        // These rows are left out where they would be 0; the others, where nobody counts them.
        let count = match kind {
            Kind::Exit | Kind::Return | Kind::Hardware if known => count.or(Some(0.0)),
            _ => count,
        };
        let ops = if per_op { run.ops as f64 } else { 1.0 };
        count.map(|count| count / ops)
    });
    counts.collect()
}

fn changed(base: &[&Run], runs: &[&Run], per_op: bool) -> Vec<Change> {
    let all = base.iter().chain(runs).flat_map(|run| &run.rows);
    let names: BTreeSet<(Kind, &str)> = all.map(|row| (row.kind, row.name.as_str())).collect();
    let ops = |runs: &[&Run]| {
        let ops: Vec<f64> = runs.iter().map(|run| run.ops as f64).collect();
        if per_op { statistics::median(&ops).unwrap_or(1.0) } else { 1.0 }
    };
    let scale = ops(base).min(ops(runs));
    let change = |(kind, name): (Kind, &str)| {
        let (base, of) = (counts(base, kind, name, per_op)?, counts(runs, kind, name, per_op)?);
        let (from, to) = (statistics::median(&base)?, statistics::median(&of)?);
        let differs = (to - from).abs();
        let large = differs * scale >= LEAST_COUNT && differs >= LEAST_PART * from.abs().max(to.abs());
        let ratio = statistics::ratio(&of, &base);
        let told = ratio.is_none_or(|ratio| ratio.interval.is_none() || ratio.visible());
        (large && told).then(|| Change { kind, name: name.to_owned(), from, to })
    };
    let mut changed: Vec<Change> = names.into_iter().filter_map(change).collect();
    changed.sort_by(|a, b| (b.to - b.from).abs().total_cmp(&(a.to - a.from).abs()));
    changed
}

fn exits(runs: &[&Run], per_op: bool) -> Vec<(String, f64)> {
    let names: BTreeSet<&str> = runs
        .iter()
        .flat_map(|run| &run.rows)
        .filter(|row| row.kind == Kind::Exit)
        .map(|row| row.name.as_str())
        .collect();
    let median = |name: &str| statistics::median(&counts(runs, Kind::Exit, name, per_op)?);
    let mut exits: Vec<(String, f64)> =
        names.iter().filter_map(|name| Some(((*name).to_owned(), median(name)?))).collect();
    exits.sort_by(|a, b| b.1.total_cmp(&a.1));
    exits
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::sample;
    use super::*;

    #[test]
    fn the_metric_and_what_moved_with_it() {
        let classes = analyse(&sample());
        let [class] = classes.as_slice() else { panic!("{classes:?}") };
        let [base, other] = class.settings.as_slice() else { panic!("{class:?}") };
        assert_eq!((base.runs, other.runs), (4, 4), "warm-ups are in no median");
        assert_eq!(base.metrics[0].ratio, None);
        let ipc = &other.metrics[0];
        assert!(ipc.visible && (0.49..0.51).contains(&ipc.ratio.unwrap()), "{ipc:?}");
        let wall = &other.metrics[1];
        assert!(!wall.visible, "{wall:?}");
        let halt = Change { kind: Kind::Exit, name: "halt".into(), from: 2.0, to: 0.2 };
        assert!(other.changed.contains(&halt), "{:?}", other.changed);
        assert!(!other.changed.iter().any(|change| change.name == "not explained"));
        assert_eq!(base.exits, [("halt".into(), 2.0), ("not explained".into(), 0.1)]);
    }

    #[test]
    fn a_row_that_one_side_does_not_count_is_no_change() {
        let mut bundle = sample();
        for run in bundle.runs.iter_mut().filter(|run| run.setting == 0) {
            let row = |kind, name: &str| super::super::bundle::Row {
                kind,
                name: name.into(),
                count: 900,
                ns: None,
            };
            run.rows.extend([row(Kind::Beside, "emulated"), row(Kind::Exit, "mmio")]);
        }
        let classes = analyse(&bundle);
        let changed: Vec<&str> =
            classes[0].settings[1].changed.iter().map(|change| change.name.as_str()).collect();
        assert!(changed.contains(&"mmio") && !changed.contains(&"emulated"), "{changed:?}");
    }

    #[test]
    fn times_of_different_hosts_never_meet() {
        let mut bundle = sample();
        let mut other = sample();
        other.hosts[0].kvm = "vmx".into();
        // There, only the second setting ran.
        other.runs.retain(|run| run.setting == 1);
        bundle.join(other);
        let classes = analyse(&bundle);
        assert_eq!(classes.len(), 2);
        let [only] = classes[1].settings.as_slice() else { panic!("{classes:?}") };
        assert!(only.metrics.iter().all(|metric| metric.ratio.is_none()), "nothing to compare with");
    }
}
