//! A comparison from its plan to its bundle: every run in its turn, progress on stderr.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::bundle::{Bundle, HostKind, Setting, Skipped};
use super::length::{self, Length, time};
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
    /// The flag that asked for so much, and the one that asks for less.
    pub flags: (&'static str, &'static str),
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("{asked}: {settings} settings make {runs} runs, about {} by {by}: --yes makes them; \
             fewer are {fewer} and --repeat 2", time(*.left))]
    Long {
        asked: &'static str,
        settings: usize,
        runs: usize,
        left: Duration,
        by: &'static str,
        fewer: &'static str,
    },
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
    let (settings, runs) = (plan.settings.len(), turns.len());
    let known = Length::of(&plan.settings, &turns);
    let mut progress = Progress::new(io::stderr().is_terminal());
    for (at, turn) in turns.iter().enumerate() {
        let setting = &plan.settings[turn.setting];
        let (left, by) = match at {
            0 => (known.about(), "their workloads"),
            _ => (length::left(&bundle.runs, &turns[at..]), "the first"),
        };
        if let Some(left) = left.filter(|left| *left > LONG && at < 2 && !plan.yes) {
            progress.end();
            let (asked, fewer) = plan.flags;
            return Err(SessionError::Long { asked, settings, runs, left, by, fewer }.into());
        }
        if at == 0 {
            say(format_args!("{settings} settings make {runs} runs: {known}"));
        }
        progress.show(at, runs, setting, left);
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
                say(format_args!("ended by signal {number} after {at} of {runs} runs"));
                bundle.interrupted = true;
                return Ok((bundle, Some(number)));
            }
        }
    }
    progress.end();
    Ok((bundle, None))
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
