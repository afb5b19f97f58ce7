//! A comparison from its plan to its bundle: every run in its turn, progress on stderr.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::bundle::{Bundle, HostKind, Run, Setting, Skipped};
use super::metric::Pattern;
use super::plan::{self, Turn};
use super::run::{self, Done};
use crate::kvm::class::Class;
use crate::report::Host;
use crate::run::signals::Signals;
use crate::status::{Failure, Fatal, Status, say};

/// Longer comparisons want to be asked for.
const LONG: Duration = Duration::from_secs(3600);

/// What is compared, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Vec<Setting>,
    /// Those that this host cannot run.
    pub skipped: Vec<Skipped>,
    pub patterns: Vec<Pattern>,
    pub warm_ups: u32,
    pub rounds: u32,
    /// However long it takes.
    pub yes: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("--vary: {settings} settings make {runs} runs, about {} after a first one: --yes makes them; \
             fewer are --one-at-a-time and --repeat 2", time(*.left))]
    Long { settings: usize, runs: usize, left: Duration },
    #[error("start a run: {0}")]
    Start(io::Error),
    #[error("take signals: {0}")]
    Signals(io::Error),
}

impl Fatal for SessionError {
    fn status(&self) -> Status {
        match self {
            SessionError::Long { .. } => Status::Usage,
            SessionError::Start(_) | SessionError::Signals(_) => Status::Resource,
        }
    }
}

/// Makes all runs. A signal ends it early, with what there is; its number comes with it.
pub fn run(plan: &Plan) -> Result<(Bundle, Option<u8>), Failure> {
    let signals = Signals::take().map_err(SessionError::Signals)?;
    let host = HostKind::from(Host::detect(Class::detect()));
    let mut bundle = Bundle { skipped: plan.skipped.clone(), ..Bundle::new(host, plan.settings.clone()) };
    for Skipped { name, why } in &plan.skipped {
        say(format_args!("{name}: skipped: {why}"));
    }
    let turns: Vec<Turn> = plan::order(plan.settings.len(), plan.warm_ups, plan.rounds).collect();
    let mut progress = Progress::new(io::stderr().is_terminal());
    for (at, turn) in turns.iter().enumerate() {
        let setting = &plan.settings[turn.setting];
        let left = time_left(&bundle.runs, &turns[at..]);
        if let Some(left) = left.filter(|left| *left > LONG && at == 1 && !plan.yes) {
            progress.end();
            let (settings, runs) = (plan.settings.len(), turns.len());
            return Err(SessionError::Long { settings, runs, left }.into());
        }
        progress.show(at, turns.len(), setting, left);
        match run::run(setting, *turn, &plan.patterns, &signals).map_err(SessionError::Start)? {
            Done::Run { run, metrics } => {
                for metric in metrics {
                    if !bundle.metrics.contains(&metric) {
                        bundle.metrics.push(metric);
                    }
                }
                if let Some(why) = &run.failed {
                    progress.end();
                    say(format_args!("{}: {why}", setting.name));
                }
                bundle.runs.push(*run);
            }
            Done::Interrupted(number) => {
                progress.end();
                say(format_args!("ended by signal {number} after {at} of {} runs", turns.len()));
                bundle.interrupted = true;
                return Ok((bundle, Some(number)));
            }
        }
    }
    progress.end();
    Ok((bundle, None))
}

/// What the runs to come will take, by those that were: each setting's own mean, or that of all.
fn time_left(runs: &[Run], turns: &[Turn]) -> Option<Duration> {
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
fn time(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        seconds @ 3600.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds @ 60.. => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{seconds} s"),
    }
}

/// One line on stderr; on a terminal, always the same one.
struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    fn new(terminal: bool) -> Progress {
        Progress { terminal, shown: false }
    }

    fn show(&mut self, at: usize, all: usize, setting: &Setting, left: Option<Duration>) {
        let left = left.map_or("…".into(), time);
        let line = format!("run {} of {all} · {left} left · {}", at + 1, setting.name);
        if self.terminal {
            // A line that nobody sees changes nothing.
            let _ = write!(io::stderr(), "\r\x1b[K{}", line.chars().take(79).collect::<String>());
            self.shown = true;
        } else {
            say(line);
        }
    }

    fn end(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::sample;
    use super::*;

    #[test]
    fn time_left_is_by_what_each_setting_took() {
        let mut runs = sample().runs;
        for run in &mut runs {
            run.wall_us = if run.setting == 0 { 1_000_000 } else { 3_000_000 };
        }
        let turn = |setting| Turn { setting, round: 9, warm_up: false };
        assert_eq!(time_left(&runs, &[turn(0), turn(1), turn(0)]), Some(Duration::from_secs(5)));
        assert_eq!(time_left(&runs, &[turn(7)]), Some(Duration::from_secs(2)));
        assert_eq!(time_left(&[], &[turn(0)]), None);
    }

    #[test]
    fn times_for_people() {
        let times = [(12, "12 s"), (70, "1 min 10 s"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")];
        for (seconds, text) in times {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }
}
