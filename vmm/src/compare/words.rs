//! Numbers and findings in words, the same in every output.

use super::analysis::{Change, ClassResult, SettingResult};
use super::bundle::{Better, Bundle, Kind, Unit};
use crate::report::text::units;

/// A value of a metric.
pub fn value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Number => figures(value),
        Unit::Ns | Unit::NsPerOp if value < 999.5 => format!("{} ns", figures(value)),
        Unit::Ns | Unit::NsPerOp => units::duration(value.round() as u64),
    }
}

/// Three figures.
pub fn figures(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 999.5 => units::signed(value.round() as i64),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{value:.2e}"),
    }
}

/// `0.67×`.
pub fn ratio(value: f64) -> String {
    format!("{}×", times(value))
}

/// `0.64 – 0.70`.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("{} – {}", times(low), times(high))
}

/// `0.64 to 0.70`.
pub fn interval_words((low, high): (f64, f64)) -> String {
    format!("{} to {}", times(low), times(high))
}

/// Two decimals, or what is left of them below a tenth.
fn times(value: f64) -> String {
    if value < 0.0995 { figures(value) } else { format!("{value:.2}") }
}

/// The unit in which counts of this size are read best: how many operations, and its name.
pub fn scale(largest: f64, per_op: bool) -> (f64, &'static str) {
    match largest.abs() {
        _ if !per_op => (1.0, "per run"),
        0.0 => (1.0, "per operation"),
        size if size >= 0.01 => (1.0, "per operation"),
        size if size >= 0.000_01 => (1e3, "per 1,000 operations"),
        _ => (1e6, "per million operations"),
    }
}

/// `0.2 per operation`, in the unit of `largest`.
pub fn per_op(count: f64, largest: f64, per_op: bool) -> String {
    let (factor, unit) = scale(largest, per_op);
    format!("{} {unit}", figures(count * factor))
}

/// The last row of a machine's exits; of several machines, behind its name.
const UNEXPLAINED: &str = "not explained";

fn unexplained(name: &str) -> bool {
    name.ends_with(UNEXPLAINED)
}

/// `halt exits`.
pub fn row(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Total => "all exits".into(),
        Kind::Exit if unexplained(name) => match name.strip_suffix(UNEXPLAINED) {
            Some("") | None => "exits not explained".into(),
            Some(machine) => format!("{machine}exits not explained"),
        },
        Kind::Exit => format!("{name} exits"),
        Kind::Return => format!("{name} (to userspace)"),
        Kind::Hardware | Kind::Device => name.to_owned(),
        Kind::Halt => format!("halts: {name}"),
        Kind::Guest => format!("the guest's {name}"),
        Kind::Beside => format!("KVM's {name}"),
        Kind::Pages => name.to_owned(),
    }
}

/// `halt exits fell from 2.00 to 0.2 per operation`.
pub fn change(change: &Change, per_op: bool) -> String {
    let moved = if change.to < change.from { "fell" } else { "rose" };
    let (factor, unit) = scale(change.from.abs().max(change.to.abs()), per_op);
    let (from, to) = (figures(change.from * factor), figures(change.to * factor));
    format!("{} {moved} from {from} to {to} {unit}", row(change.kind, &change.name))
}

/// A second cause is named where it moved at least so much as the first.
const SECOND: f64 = 0.1;

/// The changes that explain most: exits and queues before what is counted beside them; sums and
/// details of what is named already are left out.
fn mechanism(changed: &[Change]) -> Vec<&Change> {
    let of = |kinds: &[Kind]| -> Vec<&Change> {
        changed.iter().filter(|change| kinds.contains(&change.kind) && !unexplained(&change.name)).collect()
    };
    let moved = |change: &Change| (change.to - change.from).abs();
    let mut chosen = of(&[Kind::Exit, Kind::Hardware, Kind::Device]);
    let named: Vec<String> = chosen.iter().map(|change| format!("{}s", change.name)).collect();
    let mut guest = of(&[Kind::Guest]);
    // Who was interrupted and switched to, was mostly so by an IPI.
    guest.sort_by_key(|change| change.name != "ipis");
    chosen.extend(guest.into_iter().filter(|change| !named.contains(&change.name)));
    chosen.extend(of(&[Kind::Pages]));
    chosen.extend(of(&[Kind::Halt]));
    chosen.extend(changed.iter().filter(|change| unexplained(&change.name)));
    if chosen.is_empty() {
        chosen = of(&[Kind::Beside]);
    }
    let least = chosen.first().map_or(0.0, |first| moved(first) * SECOND);
    chosen.retain(|change| moved(change) >= least);
    chosen.truncate(2);
    chosen
}

/// How a setting differs from the first, and what moved with it; `None` for the first itself.
pub fn sentence(bundle: &Bundle, class: &ClassResult, of: &SettingResult) -> Option<String> {
    let first = class.settings.first().filter(|first| first.setting == 0 && of.setting != 0)?;
    let (a, b) = (&first.name, &of.name);
    let Some(metric) = of.metrics.iter().find(|metric| metric.ratio.is_some()) else {
        return Some(format!("{b}: nothing to compare with {a}"));
    };
    let value = metric.ratio?;
    let Some(interval) = metric.interval else {
        return Some(format!(
            "{b}: {} {} of {a}'s; fewer than two runs of each tell no more",
            metric.name,
            ratio(value)
        ));
    };
    let (interval, times) = (interval_words(interval), times(value));
    let kept = &bundle.metrics[metric.metric];
    let unseen = !metric.visible;
    let said = match kept.better {
        _ if unseen => format!("no visible difference between {b} and {a} in {} ({interval})", metric.name),
        Better::Lower if value < 1.0 => {
            format!("{b} takes {times} of {a}'s time in {} ({interval})", metric.name)
        }
        Better::Lower => format!("{b} takes {times} times {a}'s time in {} ({interval})", metric.name),
        _ => format!("{b} has {times} times {a}'s {} ({interval})", metric.name),
    };
    let moved: Vec<String> =
        mechanism(&of.changed).into_iter().map(|moved| change(moved, of.per_op)).collect();
    let native = bundle.settings[of.setting].native || bundle.settings[0].native;
    Some(match (moved.is_empty(), unseen) {
        _ if native => format!("{said}; without a machine there is no ledger to compare"),
        (true, true) => format!("{said}, and none in the ledger"),
        (true, false) => {
            format!(
                "{said}, and no count of the ledger moved: look at what costs no exit, such as caches, address translation, or what else the host does"
            )
        }
        (false, true) => format!("{said}, although {}", moved.join(" and ")),
        (false, false) => format!("{said}: {}", moved.join(" and ")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::analysis::analyse;
    use super::super::bundle::tests::sample;
    use super::*;

    #[test]
    fn the_sentence_joins_time_and_mechanism() {
        let bundle = sample();
        let classes = analyse(&bundle);
        let text = sentence(&bundle, &classes[0], &classes[0].settings[1]).unwrap();
        assert!(
            text.starts_with("idle=guest-poll takes 0.50 of idle=halt's time in ipc (0.50 to 0.50): "),
            "{text}"
        );
        assert!(text.ends_with("halt exits fell from 2.00 to 0.2 per operation"), "{text}");
        assert_eq!(sentence(&bundle, &classes[0], &classes[0].settings[0]), None);
    }

    #[test]
    fn what_is_the_same_is_said_to_be() {
        let mut bundle = sample();
        for run in &mut bundle.runs {
            run.metrics.insert("ipc".into(), 100.0 + f64::from(run.round));
        }
        let text = |bundle: &Bundle| {
            let classes = analyse(bundle);
            sentence(bundle, &classes[0], &classes[0].settings[1]).unwrap()
        };
        let same = text(&bundle);
        assert!(
            same.starts_with("no visible difference") && same.contains(", although halt exits fell"),
            "{same}"
        );
        for run in &mut bundle.runs {
            run.rows.clear();
        }
        assert!(text(&bundle).ends_with(", and none in the ledger"));
        bundle.runs.retain(|run| run.round < 2);
        assert!(text(&bundle).contains("fewer than two runs"));
    }

    #[test]
    fn three_figures_of_anything() {
        let all = [
            (0.0, "0"),
            (1234.6, "1,235"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.2, "0.2"),
            (2e-5, "2.00e-5"),
        ];
        for (number, text) in all {
            assert_eq!(figures(number), text);
        }
        assert_eq!(
            (value(12.34, Unit::NsPerOp), value(1530.0, Unit::Ns)),
            ("12.3 ns".into(), "1.53 µs".into())
        );
        assert_eq!(per_op(0.0005, 0.0005, true), "0.5 per 1,000 operations");
        assert_eq!(per_op(7.0, 7.0, false), "7.00 per run");
    }
}
