//! Which settings are compared, and in which order they run.

use std::str::FromStr;

use clap::Arg;

use super::bundle::Setting;
use crate::config::word::UnknownWord;

/// The value that leaves a flag away.
pub const DEFAULT: &str = "default";

/// No comparison has more runs.
pub const MOST_RUNS: u64 = 100_000;

/// Flags that are no knob of the machine: `compare` itself says where results go.
const NOT_VARIED: [&str; 4] = ["report", "config", "verbose", "help"];

/// One `--vary` as typed: `KNOB=A,B`, or `KNOB=A;B` where a value has commas of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vary {
    pub knob: String,
    pub values: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaryError {
    #[error("not of the form KNOB=A,B")]
    Form,
    #[error("names no value: it makes no setting")]
    Empty,
    #[error("{0} is given twice")]
    Twice(String),
}

impl FromStr for Vary {
    type Err = VaryError;

    fn from_str(text: &str) -> Result<Vary, VaryError> {
        let (knob, values) = text.split_once('=').ok_or(VaryError::Form)?;
        let separator = if values.contains(';') { ';' } else { ',' };
        let values: Vec<String> = values.split(separator).map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(VaryError::Empty);
        }
        let twice = values.iter().enumerate().find(|(i, value)| values[..*i].contains(value));
        match twice {
            Some((_, value)) => Err(VaryError::Twice(value.clone())),
            None => Ok(Vary { knob: knob.trim_start_matches('-').to_owned(), values }),
        }
    }
}

impl Vary {
    /// Whether there is such a knob; the nearest if there is none.
    pub fn check<'a>(&self, flags: impl Iterator<Item = &'a Arg>) -> Result<(), UnknownWord> {
        let knobs = flags.filter(|arg| arg.get_action().takes_values()).filter_map(Arg::get_long);
        let knobs: Vec<&str> = knobs.filter(|flag| !NOT_VARIED.contains(flag)).collect();
        match knobs.contains(&self.knob.as_str()) {
            true => Ok(()),
            false => Err(UnknownWord::new(&self.knob, knobs.iter().copied())),
        }
    }
}

/// How many settings a full matrix has; `None`: more than can be counted.
pub fn cells(varied: &[Vary], one_at_a_time: bool) -> Option<u64> {
    let counts = varied.iter().map(|vary| vary.values.len() as u64);
    if one_at_a_time {
        return counts.map(|count| count - 1).sum::<u64>().checked_add(1);
    }
    counts.into_iter().try_fold(1_u64, u64::checked_mul)
}

/// All settings; the first takes the first value of each knob, and is what the others are compared with.
pub fn settings(base: &[String], varied: &[Vary], one_at_a_time: bool) -> Vec<Setting> {
    let firsts: Vec<usize> = varied.iter().map(|_| 0).collect();
    let mut choices = vec![firsts.clone()];
    if one_at_a_time {
        for (knob, vary) in varied.iter().enumerate() {
            choices.extend((1..vary.values.len()).map(|value| {
                let mut choice = firsts.clone();
                choice[knob] = value;
                choice
            }));
        }
    } else {
        choices = vec![Vec::new()];
        for vary in varied {
            choices = choices
                .iter()
                .flat_map(|choice| (0..vary.values.len()).map(|value| [choice.as_slice(), &[value]].concat()))
                .collect();
        }
    }
    choices.iter().map(|choice| setting(base, varied, choice)).collect()
}

fn setting(base: &[String], varied: &[Vary], choice: &[usize]) -> Setting {
    let chosen = || varied.iter().zip(choice).map(|(vary, at)| (&vary.knob, &vary.values[*at]));
    let of_varied = |arg: &&String| {
        let flag = arg.strip_prefix("--").and_then(|arg| arg.split('=').next());
        !varied.iter().any(|vary| Some(vary.knob.as_str()) == flag)
    };
    let mut args: Vec<String> = base.iter().filter(of_varied).cloned().collect();
    args.extend(
        chosen().filter(|(_, value)| *value != DEFAULT).map(|(knob, value)| format!("--{knob}={value}")),
    );
    let name = chosen().map(|(knob, value)| format!("{knob}={value}")).collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() { "machine".into() } else { name };
    Setting { name, args, native: false, within: Vec::new(), figures: Vec::new() }
}

/// One run to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub setting: usize,
    pub round: u32,
    pub warm_up: bool,
}

/// Warm-ups first, then A B, B A, A B, …: what drifts with time, such as heat, meets all settings alike.
pub fn order(settings: usize, warm_ups: u32, rounds: u32) -> impl Iterator<Item = Turn> {
    (0..warm_ups + rounds).flat_map(move |round| {
        (0..settings).map(move |at| Turn {
            setting: if round % 2 == 0 { at } else { settings - 1 - at },
            round,
            warm_up: round < warm_ups,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vary(texts: &[&str]) -> Vec<Vary> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn names(settings: &[Setting]) -> Vec<&str> {
        settings.iter().map(|setting| setting.name.as_str()).collect()
    }

    #[test]
    fn a_full_matrix_and_one_at_a_time() {
        let varied = vary(&["vhost=off,on", "vcpus=1,2"]);
        let base = ["--vcpus=4".to_owned(), "--memory=1G".into()];
        let all = settings(&base, &varied, false);
        assert_eq!(
            names(&all),
            ["vhost=off vcpus=1", "vhost=off vcpus=2", "vhost=on vcpus=1", "vhost=on vcpus=2"]
        );
        assert_eq!(all[1].args, ["--memory=1G", "--vhost=off", "--vcpus=2"]);
        let single = settings(&base, &varied, true);
        assert_eq!(names(&single), ["vhost=off vcpus=1", "vhost=on vcpus=1", "vhost=off vcpus=2"]);
        assert_eq!((cells(&varied, false), cells(&varied, true)), (Some(4), Some(3)));
        let huge = vec![varied[0].clone(); 64];
        assert_eq!((cells(&huge, false), cells(&huge, true)), (None, Some(65)));
    }

    #[test]
    fn values_with_commas_and_values_that_leave_the_flag_away() {
        let varied = vary(&["pin=default;0@0,1@1"]);
        let all = settings(&["--pin=0@1".to_owned()], &varied, false);
        assert_eq!((all[0].args.len(), all[1].args.as_slice()), (0, ["--pin=0@0,1@1".to_owned()].as_slice()));
    }

    #[test]
    fn what_varies_nothing() {
        let error = |text: &str| text.parse::<Vary>().unwrap_err();
        assert_eq!(error("vhost"), VaryError::Form);
        assert_eq!((error("vhost="), error("vhost=on,")), (VaryError::Empty, VaryError::Empty));
        assert_eq!(error("vhost=on,on"), VaryError::Twice("on".into()));
    }

    #[test]
    fn a_b_b_a() {
        let order: Vec<(usize, bool)> = order(2, 1, 3).map(|turn| (turn.setting, turn.warm_up)).collect();
        let run = |setting| (setting, false);
        assert_eq!(order, [(0, true), (1, true), run(1), run(0), run(0), run(1), run(1), run(0)]);
    }
}
