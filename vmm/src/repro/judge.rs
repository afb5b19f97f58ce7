//! Claims and published rows against what was found here.

use serde::Serialize;

use super::catalogue::{Claim, Direction, Experiment, Moves, Published};
use crate::compare::analysis;
use crate::compare::bundle::{Bundle, Run};
use crate::compare::statistics::{self, Ratio};
use crate::compare::words;

/// Times that differ by less are the same for a claim that says so.
const SAME: f64 = 0.1;

#[derive(Debug, Serialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Why times of this host are not judged.
    pub doubt: Option<&'static str>,
    pub rows: Vec<Row>,
    pub claims: Vec<Judged>,
}

/// A published figure beside ours.
#[derive(Debug, Serialize)]
pub struct Row {
    pub what: String,
    pub published: Option<f64>,
    pub unit: String,
    /// Time in relation to that of the first row that has run here.
    pub published_ratio: Option<f64>,
    pub setting: Option<String>,
    /// Nanoseconds, for one operation or as the metric says.
    pub here_ns: Option<f64>,
    pub here_ratio: Option<f64>,
    pub here_interval: Option<(f64, f64)>,
    pub verdict: Verdict,
}

#[derive(Debug, Serialize)]
pub struct Judged {
    pub claim: String,
    pub found: String,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    SameDirection,
    OtherDirection,
    NoVisibleDifference,
    /// It did not run here, or its time means nothing here.
    NotJudged,
}

impl Verdict {
    pub fn label(self) -> &'static str {
        match self {
            Verdict::SameDirection => "same direction",
            Verdict::OtherDirection => "other direction",
            Verdict::NoVisibleDifference => "no visible difference",
            Verdict::NotJudged => "not judged",
        }
    }
}

pub fn judge(experiment: &Experiment, bundle: &Bundle) -> Judgement {
    let doubt = bundle.hosts.first().and_then(|host| host.doubt());
    let claims: Vec<Judged> =
        experiment.claims.iter().map(|claim| judged(experiment, bundle, claim, doubt.is_some())).collect();
    let any = |verdict| claims.iter().any(|claim| claim.verdict == verdict);
    let verdict = match () {
        () if any(Verdict::OtherDirection) => Verdict::OtherDirection,
        () if any(Verdict::NoVisibleDifference) => Verdict::NoVisibleDifference,
        () if any(Verdict::SameDirection) => Verdict::SameDirection,
        () => Verdict::NotJudged,
    };
    Judgement { verdict, doubt, rows: rows(experiment, bundle, doubt.is_some()), claims }
}

/// Runs of a setting that count.
fn runs<'b>(bundle: &'b Bundle, setting: &str) -> Vec<&'b Run> {
    let at = bundle.settings.iter().position(|known| known.name == setting);
    bundle.runs.iter().filter(|run| Some(run.setting) == at && !run.warm_up).collect()
}

fn times(bundle: &Bundle, setting: &str, metric: &str) -> Vec<f64> {
    runs(bundle, setting).iter().filter_map(|run| run.metrics.get(metric).copied()).collect()
}

fn time_ratio(bundle: &Bundle, metric: &str, setting: &str, than: &str) -> Option<Ratio> {
    statistics::ratio(&times(bundle, setting, metric), &times(bundle, than, metric))
}

/// A row of the ledger by its words, for one operation: the median.
fn count(bundle: &Bundle, setting: &str, name: &str) -> Option<f64> {
    let runs = runs(bundle, setting);
    let kinds = runs.iter().flat_map(|run| &run.rows).map(|row| row.kind);
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    kinds.dedup();
    // The words of a row begin or end with its kind's; a row that is not there has none to be read.
    kinds.into_iter().find_map(|kind| {
        let names = bundle.runs.iter().flat_map(|run| &run.rows).filter(|row| row.kind == kind);
        let row = names.map(|row| row.name.as_str()).find(|row| words::row(kind, row) == name)?;
        statistics::median(&analysis::counts(&runs, kind, row, runs.iter().all(|run| run.ops > 0))?)
    })
}

fn judged(experiment: &Experiment, bundle: &Bundle, claim: &Claim, doubtful: bool) -> Judged {
    let say = |value: f64| words::per_op(value, value, true);
    let (claim, found, verdict) = match claim {
        Claim::Time { setting, than, time } => {
            let relation = match time {
                Direction::Lower => "takes less time than",
                Direction::Higher => "takes more time than",
                Direction::Same => "takes the time of",
            };
            let claim = format!("{setting} {relation} {than}");
            match time_ratio(bundle, &experiment.metric, setting, than) {
                None => (claim, "did not run here".to_owned(), Verdict::NotJudged),
                Some(ratio) => (claim, in_words(ratio), direction(ratio, *time, doubtful)),
            }
        }
        Claim::Moves { setting, than, count: name, moves, factor, at_least, beyond } => {
            let word = match moves {
                Moves::Falls => "less",
                Moves::Rises => "more",
            };
            let mut claim = format!(
                "{setting}: {name} at least {factor} times {word} than {than}, the larger at least {}",
                say(*at_least)
            );
            let mut less = [None, None];
            if let Some(beyond) = beyond {
                claim += &format!("; each beyond that of {} and {}", beyond[0], beyond[1]);
                less = beyond.each_ref().map(|setting| count(bundle, setting, name));
            }
            let counted = |name_of: &str, less: Option<f64>| {
                let all = count(bundle, name_of, name)?;
                if beyond.is_some() { Some((all - less?).max(0.0)) } else { Some(all) }
            };
            match (counted(than, less[1]), counted(setting, less[0])) {
                (Some(from), Some(to)) => {
                    let (less, more) = if *moves == Moves::Falls { (to, from) } else { (from, to) };
                    let held = more >= *at_least && more >= less * factor;
                    let largest = from.max(to);
                    let say = |count: f64| words::per_op(count, largest, true);
                    let times = if less > 0.0 {
                        format!(", {} times", words::figures(more / less))
                    } else {
                        String::new()
                    };
                    (claim, format!("{} → {}{times}", say(from), say(to)), same(held))
                }
                _ => (claim, "not counted here".to_owned(), Verdict::NotJudged),
            }
        }
        Claim::Rare { setting, count: name, at_most } => {
            let claim = format!("{setting}: {name} at most {}", say(*at_most));
            match count(bundle, setting, name) {
                Some(found) => (claim, say(found), same(found <= *at_most)),
                None => (claim, "not counted here".to_owned(), Verdict::NotJudged),
            }
        }
    };
    Judged { claim, found, verdict }
}

fn same(held: bool) -> Verdict {
    if held { Verdict::SameDirection } else { Verdict::OtherDirection }
}

fn in_words(ratio: Ratio) -> String {
    let interval =
        ratio.interval.map(|interval| format!(" ({})", words::interval_words(interval))).unwrap_or_default();
    format!("{}{interval}", words::ratio(ratio.value))
}

fn direction(ratio: Ratio, claimed: Direction, doubtful: bool) -> Verdict {
    let alike = !ratio.visible() || (ratio.value - 1.0).abs() <= SAME;
    match claimed {
        _ if doubtful || ratio.interval.is_none() => Verdict::NotJudged,
        Direction::Same => same(alike),
        _ if !ratio.visible() => Verdict::NoVisibleDifference,
        Direction::Lower => same(ratio.value < 1.0),
        Direction::Higher => same(ratio.value > 1.0),
    }
}

/// Published rows first, then those of our settings that nothing was published for.
fn rows(experiment: &Experiment, bundle: &Bundle, doubtful: bool) -> Vec<Row> {
    let rate = |unit: &str| experiment.rate.as_ref().is_some_and(|rate| rate.unit == unit);
    let has_run = |row: &&Published| {
        let metric = row.metric.as_ref().unwrap_or(&experiment.metric);
        row.setting.as_ref().is_some_and(|setting| !times(bundle, setting, metric).is_empty())
    };
    let first = experiment.published.iter().find(has_run);
    let first = first.or_else(|| experiment.published.iter().find(|row| row.setting.is_some()));
    let base =
        first.and_then(|row| row.setting.clone()).or_else(|| Some(bundle.settings.first()?.name.clone()));
    let here = |setting: &str, metric: &str, base: Option<&str>| {
        let ns = statistics::median(&times(bundle, setting, metric));
        let ratio = base.filter(|base| *base != setting);
        (ns, ratio.and_then(|base| time_ratio(bundle, metric, setting, base)))
    };
    let published = experiment.published.iter().map(|row| {
        let named =
            row.base.as_ref().and_then(|base| experiment.published.iter().find(|of| of.what == *base));
        let against = named.or(first);
        let published_ratio = against
            .filter(|first| first.unit == row.unit)
            .map(|first| if rate(&row.unit) { first.value / row.value } else { row.value / first.value });
        let metric = row.metric.as_ref().unwrap_or(&experiment.metric);
        let base = against.and_then(|row| row.setting.as_deref()).or(base.as_deref());
        let (here_ns, ratio) =
            row.setting.as_deref().map_or((None, None), |setting| here(setting, metric, base));
        let verdict = match (ratio, published_ratio) {
            (Some(ratio), Some(published)) if (published - 1.0).abs() <= SAME => {
                direction(ratio, Direction::Same, doubtful)
            }
            (Some(ratio), Some(published)) if published < 1.0 => direction(ratio, Direction::Lower, doubtful),
            (Some(ratio), Some(_)) => direction(ratio, Direction::Higher, doubtful),
            _ => Verdict::NotJudged,
        };
        Row {
            what: row.what.clone(),
            published: Some(row.value),
            unit: row.unit.clone(),
            published_ratio,
            setting: row.setting.clone(),
            here_ns,
            here_ratio: ratio.map(|ratio| ratio.value),
            here_interval: ratio.and_then(|ratio| ratio.interval),
            verdict,
        }
    });
    let has = |name: &str| experiment.published.iter().any(|row| row.setting.as_deref() == Some(name));
    let ours = bundle.settings.iter().filter(|setting| !has(&setting.name)).map(|setting| {
        let (here_ns, ratio) = here(&setting.name, &experiment.metric, base.as_deref());
        Row {
            what: "not published".into(),
            published: None,
            unit: String::new(),
            published_ratio: None,
            setting: Some(setting.name.clone()),
            here_ns,
            here_ratio: ratio.map(|ratio| ratio.value),
            here_interval: ratio.and_then(|ratio| ratio.interval),
            verdict: Verdict::NotJudged,
        }
    });
    published.chain(ours).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::compare::bundle::tests::sample;

    /// An experiment about the sample bundle's two settings.
    pub fn experiment() -> Experiment {
        toml::from_str(
            r#"
            title = "<t>"
            source = "s"
            compared = "c"
            metric = "ipc"
            mechanism = "m"
            small = {}
            full = {}
            setting = [{ name = "idle=halt", args = [] }, { name = "idle=guest-poll", args = [] }]
            published = [
                { what = "a", value = 22.0, unit = "s", setting = "idle=halt" },
                { what = "b", value = 12.0, unit = "s", setting = "idle=guest-poll" },
            ]
            [[claim]]
            setting = "idle=guest-poll"
            than = "idle=halt"
            time = "lower"
            [[claim]]
            setting = "idle=guest-poll"
            than = "idle=halt"
            count = "halt exits"
            moves = "falls"
            factor = 5.0
            at_least = 1.0
            [[claim]]
            setting = "idle=guest-poll"
            count = "all exits"
            at_most = 0.5
            "#,
        )
        .unwrap()
    }

    #[test]
    fn time_and_mechanism_as_claimed() {
        let judgement = judge(&experiment(), &sample());
        assert_eq!(judgement.verdict, Verdict::SameDirection);
        let found: Vec<&str> = judgement.claims.iter().map(|claim| claim.found.as_str()).collect();
        assert_eq!(
            found,
            [
                "0.50× (0.50 to 0.50)",
                "2.00 per operation → 0.2 per operation, 10.0 times",
                "0.3 per operation"
            ]
        );
        let row = &judgement.rows[1];
        assert_eq!((row.verdict, row.published_ratio), (Verdict::SameDirection, Some(12.0 / 22.0)));
    }

    #[test]
    fn what_comes_out_otherwise_is_said() {
        let mut bundle = sample();
        bundle.settings.swap(0, 1);
        let judgement = judge(&experiment(), &bundle);
        assert_eq!(judgement.verdict, Verdict::OtherDirection);
        assert!(judgement.claims.iter().all(|claim| claim.verdict == Verdict::OtherDirection));
    }

    #[test]
    fn any_count_is_more_than_none_but_not_enough() {
        let mut experiment = experiment();
        let mut verdict = |least: f64, other: Option<[String; 2]>| {
            let Some(Claim::Moves { at_least, beyond, .. }) = experiment.claims.get_mut(1) else { panic!() };
            (*at_least, *beyond) = (least, other);
            let judged = judge(&experiment, &sample()).claims.remove(1);
            (judged.verdict, judged.found)
        };
        assert_eq!(verdict(3.0, None).0, Verdict::OtherDirection);
        // Beyond themselves both have none: nothing fell.
        let selves = ["idle=guest-poll", "idle=halt"].map(str::to_owned);
        let nothing = "0 per operation → 0 per operation".to_owned();
        assert_eq!(verdict(1.0, Some(selves)), (Verdict::OtherDirection, nothing));
        let nobody = ["idle=guest-poll", "not run"].map(str::to_owned);
        assert_eq!(verdict(1.0, Some(nobody)).0, Verdict::NotJudged);
    }

    #[test]
    fn on_a_doubtful_host_counts_alone_are_judged() {
        let mut bundle = sample();
        bundle.hosts[0].kvm = "pvm".into();
        let judgement = judge(&experiment(), &bundle);
        assert_eq!(judgement.verdict, Verdict::SameDirection);
        assert_eq!(judgement.claims[0].verdict, Verdict::NotJudged);
        assert_eq!(judgement.rows[1].verdict, Verdict::NotJudged);
        assert!(judgement.doubt.is_some());
        bundle.runs.clear();
        assert_eq!(judge(&experiment(), &bundle).verdict, Verdict::NotJudged);
    }
}
