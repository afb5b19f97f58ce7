//! How long a comparison will take: by what its workloads say before the first run, then by its runs.

use std::fmt;
use std::time::Duration;

use abi::workload::Spec;

use super::bundle::{Run, Setting};
use super::plan::Turn;
use crate::config::timeout;

/// What is known of all runs before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// By `seconds=` and the like of the workloads; `None`: a setting has none that says.
    about: Option<Duration>,
    /// By `--timeout`; `None`: a setting has none.
    most: Option<Duration>,
}

impl Length {
    pub fn of(settings: &[Setting], turns: &[Turn]) -> Length {
        let all = |of: fn(&Setting) -> Option<Duration>| {
            let each: Vec<Option<Duration>> = settings.iter().map(of).collect();
            sum(turns.iter().map(|turn| each.get(turn.setting).copied().flatten()))
        };
        Length { about: all(by_workload), most: all(by_timeout) }
    }

    /// What it will take, as far as anybody can say so now.
    pub fn about(&self) -> Option<Duration> {
        match (self.about, self.most) {
            (Some(about), Some(most)) => Some(about.min(most)),
            (about, _) => about,
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.about(), self.most) {
            (Some(about), _) => write!(f, "about {} by their workloads", time(about)),
            (None, Some(most)) => write!(f, "at most {} by --timeout", time(most)),
            (None, None) => f.write_str("the first will show how long they take"),
        }
    }
}

/// The values of this flag, in a setting's arguments.
fn values<'s>(setting: &'s Setting, flag: &'s str) -> impl Iterator<Item = &'s str> {
    setting.args.iter().filter_map(move |arg| arg.strip_prefix(flag)?.strip_prefix('='))
}

/// Workloads run one after another. Natively, the name of one is an argument of its own.
fn by_workload(setting: &Setting) -> Option<Duration> {
    let native = setting.args.iter().skip(1).map(String::as_str).filter(|_| setting.native);
    let texts: Vec<&str> = values(setting, "--workload").chain(native).collect();
    let spans = texts.iter().map(|text| Spec::parse(text).ok().as_ref().and_then(span));
    sum(spans).filter(|_| !texts.is_empty())
}

/// `None` where one of them is.
fn sum(mut spans: impl Iterator<Item = Option<Duration>>) -> Option<Duration> {
    spans.try_fold(Duration::ZERO, |sum, span| Some(sum.saturating_add(span?)))
}

/// What a workload takes, where its keys say so.
fn span(spec: &Spec) -> Option<Duration> {
    let key = spec.workload.key("seconds");
    let seconds =
        key.map(|key| spec.number(key.name)).filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let periods = (spec.workload.name == "jitter")
        .then(|| Duration::from_micros(spec.number("period").saturating_mul(spec.number("items"))));
    match (seconds, periods) {
        (Some(seconds), Some(periods)) => Some(seconds.min(periods)),
        (seconds, periods) => seconds.or(periods),
    }
}

fn by_timeout(setting: &Setting) -> Option<Duration> {
    timeout::parse(values(setting, "--timeout").last()?).ok()
}

/// What the runs to come will take, by those that were: each setting's own mean, or that of all.
pub fn left(runs: &[Run], turns: &[Turn]) -> Option<Duration> {
    let mean = |of: Option<usize>| {
        let of = runs.iter().filter(|run| of.is_none_or(|setting| run.setting == setting));
        let (count, sum) = of.fold((0, 0), |(count, sum), run| (count + 1, sum + run.wall_us));
        (count > 0).then(|| sum / count)
    };
    let all = mean(None)?;
    let us = turns.iter().map(|turn| mean(Some(turn.setting)).unwrap_or(all));
    Some(Duration::from_micros(us.sum()))
}

/// `3 h 20 min`, `4 min 10 s`, `12 s`.
pub fn time(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        seconds @ 3600.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds @ 60.. => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::sample;
    use super::super::plan;
    use super::*;

    #[test]
    fn time_left_is_by_what_each_setting_took() {
        let mut runs = sample().runs;
        for run in &mut runs {
            run.wall_us = if run.setting == 0 { 1_000_000 } else { 3_000_000 };
        }
        let turn = |setting| Turn { setting, round: 9, warm_up: false };
        assert_eq!(left(&runs, &[turn(0), turn(1), turn(0)]), Some(Duration::from_secs(5)));
        assert_eq!(left(&runs, &[turn(7)]), Some(Duration::from_secs(2)));
        assert_eq!(left(&[], &[turn(0)]), None);
    }

    #[test]
    fn what_is_known_before_the_first_run() {
        let setting = |args: &[&str]| Setting {
            name: "a".into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            native: args[0] == "workload",
            within: Vec::new(),
            figures: Vec::new(),
        };
        let said = |settings: &[Setting]| {
            let turns: Vec<Turn> = plan::order(settings.len(), 1, 9).collect();
            Length::of(settings, &turns).to_string()
        };
        let seconds = setting(&["--workload=ipc,seconds=30", "--workload=jitter,period=1000,items=1000"]);
        assert_eq!(said(std::slice::from_ref(&seconds)), "about 5 min 10 s by their workloads");
        let native = setting(&["workload", "null,seconds=29"]);
        assert_eq!(said(&[seconds.clone(), native]), "about 10 min 0 s by their workloads");
        let limited = setting(&["--timeout=10", "--workload=ipc,seconds=3600"]);
        assert_eq!(said(&[limited]), "about 1 min 40 s by their workloads");
        let (work, limit) = (setting(&["--workload=ipc"]), setting(&["--workload=ipc", "--timeout=10"]));
        assert_eq!(said(&[limit.clone(), limit.clone()]), "at most 3 min 20 s by --timeout");
        // One that does not say is enough.
        for settings in [&[seconds, work.clone()], &[limit, work]] {
            assert_eq!(said(settings), "the first will show how long they take");
        }
        assert_eq!(said(&[setting(&["--memory=1G"])]), "the first will show how long they take");
    }

    #[test]
    fn times_for_people() {
        let times = [(12, "12 s"), (70, "1 min 10 s"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")];
        for (seconds, text) in times {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }
}
