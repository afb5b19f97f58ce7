//! `vmm repro`: published experiments, run again here, with the mechanism beside the number.
//!
//! - [`catalogue`]   the experiments as data: `resources/experiments/*.toml`
//! - [`conditions`]  what an experiment needs, and whether this host has it
//! - [`scratch`], [`container`]  a disk, and a container by the host's own tools
//! - [`tools`]       the tools that everyone knows, beside our workloads
//! - [`judge`]       claims and published rows against what was found
//! - [`text`], [`page`]  for people

mod catalogue;
mod conditions;
mod container;
mod judge;
mod page;
mod scratch;
mod text;
mod tools;

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::compare::bundle::{self, Bundle, Setting};
use crate::compare::session::{self, Plan};
use crate::compare::{Format, Output, analysis};
use crate::status::{Failure, Status, say};

pub use catalogue::{CatalogueError, Experiment};
pub use tools::FOLDER as TOOLS;

use catalogue::{Need, Variant};
use conditions::Here;
use judge::Judgement;
use scratch::Scratch;
use tools::{Beside, Folder, ToolsError};

/// The name of this layout. A key may be added under it; none is removed or changes its meaning.
pub const SCHEMA: &str = "vmm.repro/1";

/// Seconds that a machine has at the small size, many times what the slowest takes where every CPU is emulated:
/// one that hangs is a failed run, and the next goes on.
const SMALL_TIMEOUT: u32 = 300;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Job {
    pub which: Which,
    /// The published size, and not one that fits everywhere.
    pub full: bool,
    /// For what runs in a Linux guest.
    pub kernel: Option<PathBuf>,
    /// For what runs in one that is PREEMPT_RT.
    pub rt_kernel: Option<PathBuf>,
    /// The folder of tools that are to run beside our workloads.
    pub tools: Option<PathBuf>,
    /// Settings with one of these in their names; empty: all.
    pub only: Vec<String>,
    pub warm_ups: u32,
    pub rounds: u32,
    pub yes: bool,
    pub outputs: Vec<Output>,
}

#[derive(Clone, Debug)]
pub enum Which {
    /// Say which there are.
    List,
    All,
    /// A name of the catalogue, or a file.
    One(String),
}

/// One experiment that was run.
#[derive(Serialize)]
pub struct Result {
    pub experiment: Experiment,
    pub full: bool,
    /// Settings that this host cannot run, and why.
    pub left_out: Vec<(String, String)>,
    pub bundle: Bundle,
    pub judgement: Judgement,
    /// A known tool in the same places.
    pub beside: Option<Beside>,
}

#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    vmm: &'static str,
    experiments: &'a [Result],
}

/// Runs and tells; 1 where a run has failed.
pub fn run(job: &Job) -> std::result::Result<Status, Failure> {
    let experiments = match &job.which {
        Which::List => {
            print(&text::list(&catalogue::all()?));
            return Ok(Status::Guest(0));
        }
        Which::All => catalogue::all()?,
        Which::One(name) => vec![catalogue::one(name)?],
    };
    let experiments = chosen(experiments, &job.only)?;
    for output in &job.outputs {
        if output.format == Format::Csv {
            return Err(Failure::new(Status::Usage, "--out: repro writes json and html"));
        }
        bundle::check(&output.file)?;
    }
    let folder = job.tools.as_deref().map(Folder::open).transpose()?;
    if folder.is_some() && !experiments.iter().any(Experiment::has_tools) {
        let known = catalogue::all()?.into_iter().filter(Experiment::has_tools);
        let name = experiments.into_iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
        return Err(ToolsError::None { name, known: known.map(|one| one.name).collect() }.into());
    }
    let here = Here::look(job.kernel.clone(), job.rt_kernel.clone());
    let (mut results, mut signal) = (Vec::new(), None);
    for experiment in experiments {
        let (result, ended) = reproduce(job, &here, folder.as_ref(), experiment)?;
        print(&text::render(&result));
        results.push(result);
        // What ends the next one, or the host, takes nothing from those that were run.
        write(&job.outputs, &results)?;
        signal = ended;
        if signal.is_some() {
            break;
        }
    }
    let runs = results.iter().flat_map(|result| {
        let beside = result.beside.iter().flat_map(|beside| &beside.bundle.runs);
        result.bundle.runs.iter().chain(beside)
    });
    let failed = runs.filter(|run| run.failed.is_some() && !run.warm_up).count();
    Ok(match signal {
        Some(number) => Status::Signal(number),
        None if failed > 0 => Status::Guest(1),
        None => Status::Guest(0),
    })
}

/// Each with the settings that are wanted; without those that have none.
fn chosen(
    mut experiments: Vec<Experiment>,
    only: &[String],
) -> std::result::Result<Vec<Experiment>, CatalogueError> {
    if !only.is_empty() {
        for experiment in &mut experiments {
            experiment.settings.retain(|setting| only.iter().any(|text| setting.name.contains(text)));
        }
        experiments.retain(|experiment| !experiment.settings.is_empty());
    }
    match experiments.is_empty() {
        true => Err(CatalogueError::None(only.join(", "))),
        false => Ok(experiments),
    }
}

/// One experiment, as far as this host can run it.
fn reproduce(
    job: &Job,
    here: &Here,
    folder: Option<&Folder>,
    experiment: Experiment,
) -> std::result::Result<(Result, Option<u8>), Failure> {
    let mut values = if job.full { experiment.full.clone() } else { experiment.small.clone() };
    for (key, kernel) in [("kernel", &job.kernel), ("rt-kernel", &job.rt_kernel)] {
        let kernel = kernel.as_ref().map(|path| path.display().to_string());
        values.insert(key.into(), kernel.unwrap_or_default());
    }
    // Where the host's own requests go past the page cache, a guest's do, too.
    let direct = if scratch::lacks_direct_io().is_none() { ",direct" } else { "" };
    values.insert("direct".into(), direct.into());
    values.insert("tools".into(), folder.map(Folder::disk).unwrap_or_default());
    let lacks = |of: &Variant| here.lacks(of, &values);
    let disk = match experiment.settings.iter().any(|of| of.wants_disk() && lacks(of).is_none()) {
        true => Scratch::new(values.get("disk-size").map_or("64M", String::as_str)).map(Some),
        false => Ok(None),
    };
    if let Ok(Some(disk)) = &disk {
        values.insert("disk".into(), disk.path().display().to_string());
    }
    // A host that has no room for it still runs what wants none.
    let no_disk = disk.as_ref().err().map(|failure| format!("needs a disk: {failure}"));
    let lacks =
        |of: &Variant| here.lacks(of, &values).or_else(|| no_disk.clone().filter(|_| of.wants_disk()));
    let able: Vec<_> = experiment.settings.iter().map(lacks).collect();
    let runs = || experiment.settings.iter().zip(&able).filter(|(_, lack)| lack.is_none());
    let container = match runs().any(|(setting, _)| setting.container) {
        true => Some(here.container(&values)),
        false => None,
    };
    let limited = |mut setting: Setting| {
        let has_one = setting.args.iter().any(|arg| arg.starts_with("--timeout"));
        if !job.full && !setting.native && !has_one {
            setting.args.push(format!("--timeout={SMALL_TIMEOUT}"));
        }
        setting
    };
    let mut left_out = Vec::new();
    let mut settings = Vec::new();
    for (setting, lack) in experiment.settings.iter().zip(&able) {
        let within = match &container {
            Some(Ok(container)) if setting.container => match setting.serves(&values) {
                Some(serves) => container.with_server(&serves),
                None => Ok(container.words()),
            },
            Some(Err(why)) if setting.container => Err(why.clone()),
            _ => Ok(Vec::new()),
        };
        match (lack, within) {
            (Some(why), _) => left_out.push((setting.name.clone(), why.clone())),
            (None, Err(why)) => left_out.push((setting.name.clone(), why)),
            (None, Ok(mut within)) => {
                let native = setting.native || setting.container;
                // A machine has them on its disk.
                if let Some(folder) = folder.filter(|_| native && setting.needs.contains(&Need::Tools)) {
                    within.extend(folder.first_in_path());
                }
                let (name, args) = (setting.name.clone(), setting.args(&values));
                settings.push(limited(Setting { name, args, native, within, figures: Vec::new() }));
            }
        }
    }
    let (ours, mut beside) = (settings.len(), Vec::new());
    let tool = experiment.tool.as_ref().zip(folder);
    for (tool, folder, of) in
        tool.iter().flat_map(|(tool, folder)| tool.settings.iter().map(move |of| (tool, folder, of)))
    {
        if !experiment.settings.iter().any(|wanted| wanted.name == of.name) {
            continue;
        }
        match lacks(of).or_else(|| folder.lacks(tool)) {
            Some(why) => left_out.push((format!("{}, by {}", of.name, tool.name), why)),
            None => {
                settings.push(limited(tool.setting(of, &values, folder)));
                beside.push(of.name.clone());
            }
        }
    }
    if let Some(Ok(container)) = &container
        && !container.is_limited()
    {
        say("the container has namespaces alone: its control groups are not this user's to make");
    }
    say(format_args!("{}: {}", experiment.name, experiment.title));
    let plan = Plan {
        settings,
        skipped: Vec::new(),
        patterns: Vec::new(),
        warm_ups: job.warm_ups,
        rounds: job.rounds,
        yes: job.yes,
        flags: (if job.full { "--full" } else { "--repeat" }, "--only TEXT"),
    };
    let (mut bundle, signal) = session::run(&plan)?;
    between_ends(&mut bundle, &experiment.metric);
    // Where it ran nowhere, `left_out` says why.
    let tool = tool.filter(|_| !beside.is_empty());
    let beside = tool.map(|(tool, _)| tool.hold(&mut bundle, ours, &beside, &experiment.metric));
    let judgement = judge::judge(&experiment, &bundle);
    Ok((Result { experiment, full: job.full, left_out, bundle, judgement, beside }, signal))
}

/// Two ends natively measure what a topology measures of two machines, which has a name of its own.
fn between_ends(bundle: &mut Bundle, metric: &str) {
    let Some(workload) = metric.strip_suffix(" through") else { return };
    let native = |at: usize| bundle.settings.get(at).is_some_and(|setting| setting.native);
    for run in bundle.runs.iter_mut().filter(|run| native(run.setting)) {
        if let Some(ns) = run.metrics.remove(workload) {
            run.metrics.insert(metric.to_owned(), ns);
        }
    }
    if !bundle.metrics.iter().any(|known| known.name == metric) {
        bundle
            .metrics
            .iter_mut()
            .filter(|known| known.name == workload)
            .for_each(|known| known.name = metric.to_owned());
    }
    bundle.metrics.retain(|known| bundle.runs.iter().any(|run| run.metrics.contains_key(&known.name)));
}

fn write(outputs: &[Output], results: &[Result]) -> std::result::Result<(), Failure> {
    for output in outputs {
        let text = match output.format {
            Format::Html => page::render(results),
            _ => json(results),
        };
        bundle::write(&output.file, &text)?;
    }
    Ok(())
}

fn json(results: &[Result]) -> String {
    let written = Written { schema: SCHEMA, vmm: env!("CARGO_PKG_VERSION"), experiments: results };
    // Strings, numbers, lists: none of it can fail to be JSON.
    serde_json::to_string_pretty(&written).unwrap_or_default() + "\n"
}

fn print(text: &str) {
    // A reader that has closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl Result {
    /// What the ledger says of each setting.
    fn classes(&self) -> Vec<analysis::ClassResult> {
        analysis::analyse(&self.bundle)
    }
}
