//! `vmm topology`: several machines at once, as typed.

use std::time::Duration;

use clap::{Args as _, Command, CommandFactory as _};

use super::usage::Usage;
use super::{Cli, file, parse};
use crate::config::report::Request;
use crate::config::{Report, timeout};
use crate::status::{Failure, Status};
use crate::sys::affinity;
use crate::topology::file::{self as written, Path, Scene, Topology};
use crate::topology::{Error, Plan, host};

/// Run several machines together, joined as a file says, with one report; without a NAME, list those that
/// there are. Ctrl-C ends them all, with the report
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from the list, or a topology of one's own in a file NAME.toml
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How its machines are joined [default: the first of its paths that this host can do]
    #[arg(long, value_name = "PATH", requires = "name")]
    path: Option<String>,
    /// KEY=VALUE: another value for one of those that it lists; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "name")]
    set: Vec<(String, String)>,
    /// Report: text, json or none, to stderr or to :FILE; may be repeated [default: text]
    #[arg(long, value_name = "FORMAT[:FILE]")]
    report: Vec<Request>,
    /// End it, with the report, after so many seconds [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = timeout::parse)]
    timeout: Option<Duration>,
}

/// `KEY=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not of the form KEY=VALUE"),
    }
}

impl Args {
    /// What is to be run; `None`: the list is asked for.
    pub fn resolve(self) -> Result<Option<Plan>, Failure> {
        let Some(name) = &self.name else { return Ok(None) };
        let topology = written::one_of(name)?;
        let scene = match &self.path {
            Some(name) => scene(&topology, path(&topology, name)?, &self.set)?,
            None => {
                let mut scenes = topology.paths.iter().map(|path| scene(&topology, path, &self.set));
                let first = scenes.next().transpose()?;
                let able = |scene: &Scene| host::lacks(scene).is_none();
                let mut chosen = first.clone().filter(able);
                while let Some(next) = scenes.next().filter(|_| chosen.is_none()) {
                    chosen = Some(next?).filter(able);
                }
                // Where it can do none, what the first lacks is said.
                match chosen.or(first) {
                    Some(scene) => scene,
                    None => return Ok(None),
                }
            }
        };
        let reports = Report::all(self.report).map_err(|error| Usage::flag("report", None, error))?;
        Ok(Some(plan(scene, reports, self.timeout)?))
    }
}

/// The path of this name.
pub fn path<'t>(topology: &'t Topology, name: &str) -> Result<&'t Path, Error> {
    let known: Vec<&str> = topology.paths.iter().map(|path| path.name.as_str()).collect();
    topology.paths.iter().find(|path| path.name == name).ok_or_else(|| {
        let hint = match abi::workload::nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("its paths are {}", known.join(", ")),
        };
        Error::Path { name: name.to_owned(), topology: topology.name.clone(), hint }
    })
}

/// A path with everything filled in, for the CPUs of this process.
pub fn scene(topology: &Topology, path: &Path, set: &[(String, String)]) -> Result<Scene, Error> {
    topology.scene(path, set, &affinity::allowed())
}

/// The scene as command lines, each of which is checked.
pub fn plan(scene: Scene, reports: Vec<Report>, timeout: Option<Duration>) -> Result<Plan, Failure> {
    let fail = |who: &str, why: &dyn std::fmt::Display| {
        Failure::new(Status::Image, &format!("topology {}: {who}: {why}", scene.name))
    };
    let flags_of = |who: &str, table: &toml::Table, command: &Command| {
        let flags = table.iter().map(|(key, value)| file::flags(key, value, command));
        let flags: Result<Vec<Vec<String>>, _> = flags.collect();
        flags.map(|flags| flags.concat()).map_err(|trouble| fail(who, &trouble))
    };
    let check = |who: &str, first: &[&str], flags: &[String]| {
        let words = first.iter().map(Into::into).chain(flags.iter().map(Into::into));
        parse(std::iter::once("vmm".into()).chain(words)).map(drop).map_err(|failure| fail(who, &failure))
    };
    let command = Cli::command();
    let mut machines = Vec::new();
    for machine in &scene.machines {
        let who = format!("machine {}", machine.name);
        let flags = flags_of(&who, &machine.keys, &command)?;
        // Its card is known when the path has been made.
        let card = format!("--net=vhost-user=socket,queues={}{}", scene.path.queues, more(&scene.path.net));
        check(&who, &[&card], &flags)?;
        machines.push(flags);
    }
    let who = format!("path {}", scene.path.name);
    let switch =
        flags_of(&who, &scene.path.switch, &super::switch::Args::augment_args(Command::new("switch")))?;
    if scene.path.by == written::By::Switch {
        check(&who, &["switch", "--port=a", "--port=b"], &switch)?;
    }
    Ok(Plan { scene, flags: machines, switch, reports, timeout })
}

fn more(net: &str) -> String {
    if net.is_empty() { String::new() } else { format!(",{net}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_is_complete_and_every_command_line_is_valid() {
        let all = written::all().unwrap();
        assert!(!all.is_empty());
        for topology in &all {
            for path in &topology.paths {
                // What has no value of its own is a file that the user names.
                let empty = topology.values.iter().filter(|(_, value)| value.is_empty());
                let set: Vec<_> = empty.map(|(key, _)| (key.clone(), "file".to_owned())).collect();
                let scene = scene(topology, path, &set).unwrap();
                let plan = plan(scene, Vec::new(), None);
                let failure = plan.err().map(|failure| failure.to_string());
                assert_eq!(failure, None, "{} by {}", topology.name, path.name);
            }
        }
    }
}
