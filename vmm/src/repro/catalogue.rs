//! The published experiments as data. A new experiment is a file in `resources/experiments/`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use abi::workload::nearest;
use serde::{Deserialize, Serialize};

use super::tools::Tool;
use crate::config::input::{self, InputError};
use crate::status::{Fatal, Status};

// `FILES`: the name and text of each, from the build script.
include!(concat!(env!("OUT_DIR"), "/experiments.rs"));

/// Larger than any experiment.
const MAX_LEN: u64 = 1 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    #[serde(skip_deserializing)]
    pub name: String,
    pub title: String,
    /// Where it was published.
    pub source: String,
    pub compared: String,
    /// What was wrong with the published runs, and how it is mended here.
    pub defects: Option<String>,
    /// Of [`crate::compare::metric`].
    pub metric: String,
    /// Why it should come out so.
    pub mechanism: String,
    /// The published unit, where it is a rate: what one nanosecond for one operation is in it.
    pub rate: Option<Rate>,
    /// What stands in braces in the arguments, at a size that fits every host…
    pub small: BTreeMap<String, String>,
    /// …and at the published one.
    pub full: BTreeMap<String, String>,
    #[serde(rename = "setting")]
    pub settings: Vec<Variant>,
    #[serde(rename = "published", default)]
    pub published: Vec<Published>,
    #[serde(rename = "claim", default)]
    pub claims: Vec<Claim>,
    /// What everyone knows and that does the same.
    pub tool: Option<Tool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub unit: String,
    pub one: f64,
}

/// One way to run it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    /// `vmm workload` on the host itself.
    #[serde(default)]
    pub native: bool,
    /// The same in namespaces and a control group of its own.
    #[serde(default)]
    pub container: bool,
    /// In the container, too: the workload of the other end.
    serves: Option<String>,
    #[serde(default)]
    pub needs: Vec<Need>,
    args: Vec<String>,
}

/// What a host must have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// A kernel of `--kernel`, and a host that runs it.
    Linux,
    /// One of `--rt-kernel` that is PREEMPT_RT, and such a host.
    RtLinux,
    /// A real-time priority for this user.
    RealTime,
    /// The folder of `--tools`, of which it runs one in place of a workload of ours.
    Tools,
    /// Hardware virtualization.
    Hardware,
    #[serde(rename = "2-cpus")]
    TwoCpus,
    #[serde(rename = "4-cpus")]
    FourCpus,
    /// Free pages of 2 MiB for all of its memory.
    Hugepages,
    /// Files of the folder for temporary ones can be read past the page cache.
    DirectIo,
}

/// A figure as it was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    pub what: String,
    pub value: f64,
    pub unit: String,
    /// Which of ours it is held against.
    pub setting: Option<String>,
    /// What was measured, where that is not the experiment's own metric.
    pub metric: Option<String>,
    /// `what` of the row to which its ratio is; otherwise the first that has a setting.
    pub base: Option<String>,
}

/// What is said to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Claim {
    /// The metric, against another setting.
    Time { setting: String, than: String, time: Direction },
    /// A row of the ledger, for one operation: this much less or more than in another setting.
    Moves {
        setting: String,
        than: String,
        count: String,
        moves: Moves,
        factor: f64,
        /// For the larger of the two: any count is many times as much as none.
        at_least: f64,
        /// Two settings that do less of the same: what of `setting` and of `than` goes beyond theirs.
        beyond: Option<[String; 2]>,
    },
    /// A row that hardly occurs.
    Rare { setting: String, count: String, at_most: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Lower,
    Higher,
    Same,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moves {
    Falls,
    Rises,
}

/// Why an experiment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("repro {name}: no such experiment; {hint}")]
    Unknown { name: String, hint: String },
    #[error("--only {0}: no setting has that in its name")]
    None(String),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("experiment {name}: {why}")]
    File { name: String, why: String },
}

impl Fatal for CatalogueError {
    fn status(&self) -> Status {
        match self {
            CatalogueError::Unknown { .. } | CatalogueError::None(_) => Status::Usage,
            CatalogueError::Input(_) | CatalogueError::File { .. } => Status::Image,
        }
    }
}

/// Every experiment, by name.
pub fn all() -> Result<Vec<Experiment>, CatalogueError> {
    FILES.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The one of this name, or in this file.
pub fn one(name: &str) -> Result<Experiment, CatalogueError> {
    if let Some((name, text)) = FILES.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    if name.ends_with(".toml") {
        let mut text = String::new();
        let read = input::open("experiment", Path::new(name))?.take(MAX_LEN).read_to_string(&mut text);
        read.map_err(|error| CatalogueError::File { name: name.into(), why: error.to_string() })?;
        return parse(name, &text);
    }
    let hint = match nearest(name, FILES.iter().map(|(known, _)| *known)) {
        Some(near) => format!("did you mean {near}?"),
        None => "vmm repro lists all; a file ends in .toml".into(),
    };
    Err(CatalogueError::Unknown { name: name.into(), hint })
}

fn parse(name: &str, text: &str) -> Result<Experiment, CatalogueError> {
    let fail = |why: String| CatalogueError::File { name: name.into(), why };
    let mut experiment: Experiment = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
    experiment.name = name.to_owned();
    let known = |setting: &str| experiment.settings.iter().any(|known| known.name == setting);
    let published = experiment.published.iter().filter_map(|row| row.setting.as_deref());
    let claimed = experiment.claims.iter().flat_map(Claim::settings);
    let tools = experiment.tool.iter().flat_map(|tool| &tool.settings).map(|setting| setting.name.as_str());
    if let Some(unknown) = published.chain(claimed).chain(tools).find(|setting| !known(setting)) {
        return Err(fail(format!("names a setting that it does not have: {unknown}")));
    }
    if let Some(of) = experiment.settings.iter().find(|of| of.serves.is_some() && !of.container) {
        return Err(fail(format!("serves in no container: {}", of.name)));
    }
    experiment.tool.as_ref().map_or(Ok(()), Tool::check).map_err(fail)?;
    let bases = experiment.published.iter().filter_map(|row| row.base.as_deref());
    let row = |what: &str| experiment.published.iter().any(|row| row.what == what);
    match bases.into_iter().find(|base| !row(base)) {
        Some(unknown) => Err(fail(format!("a ratio is to a row that was not published: {unknown}"))),
        None => Ok(experiment),
    }
}

impl Experiment {
    /// Whether known tools have a part in it.
    pub fn has_tools(&self) -> bool {
        self.tool.is_some() || self.settings.iter().any(|setting| setting.needs.contains(&Need::Tools))
    }
}

impl Variant {
    /// Whether it is several machines, `vmm topology`.
    pub fn is_topology(&self) -> bool {
        self.args.first().is_some_and(|word| word == "topology")
    }

    /// Whether it wants a disk: `{disk}` is a file of `disk-size`.
    pub fn wants_disk(&self) -> bool {
        self.args.iter().any(|arg| arg.contains("{disk}"))
    }

    /// Its command line, with every brace filled in.
    pub fn args(&self, values: &BTreeMap<String, String>) -> Vec<String> {
        self.args.iter().map(|arg| fill(arg, values)).collect()
    }

    /// The workload of the other end, likewise.
    pub fn serves(&self, values: &BTreeMap<String, String>) -> Option<String> {
        self.serves.as_ref().map(|workload| fill(workload, values))
    }
}

fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}

impl Claim {
    fn settings(&self) -> Vec<&str> {
        match self {
            Claim::Time { setting, than, .. } => vec![setting, than],
            Claim::Moves { setting, than, beyond, .. } => {
                [setting, than].into_iter().chain(beyond.iter().flatten()).map(String::as_str).collect()
            }
            Claim::Rare { setting, .. } => vec![setting],
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    #[test]
    fn every_experiment_is_complete_and_every_command_line_is_valid() {
        let all = all().unwrap();
        assert!(all.len() >= 20, "{}", all.len());
        for experiment in &all {
            assert!(!experiment.claims.is_empty(), "{}: claims nothing", experiment.name);
            assert_eq!(
                experiment.small.keys().collect::<Vec<_>>(),
                experiment.full.keys().collect::<Vec<_>>(),
                "{}",
                experiment.name
            );
            for sizes in [&experiment.small, &experiment.full] {
                let tools = experiment.tool.iter().flat_map(|tool| &tool.settings);
                for setting in experiment.settings.iter().chain(tools) {
                    let files = [
                        ("kernel", "bzImage"),
                        ("rt-kernel", "bzImage"),
                        ("disk", "disk"),
                        ("direct", ",direct"),
                        ("tools", "disk.img"),
                    ];
                    let files = files.map(|(key, value)| (key.to_owned(), value.to_owned()));
                    let values = sizes.clone().into_iter().chain(files).collect();
                    if let Some(serves) = setting.serves(&values) {
                        assert!(abi::workload::Spec::parse(&serves).is_ok(), "{serves}");
                    }
                    let args = setting.args(&values);
                    let line = std::iter::once("vmm".to_owned()).chain(args.clone()).map(Into::into);
                    let parsed = crate::cli::parse(line);
                    assert!(parsed.is_ok(), "{}: {args:?}: {}", experiment.name, parsed.unwrap_err());
                    assert!(args.iter().all(|arg| !arg.contains(['{', '}'])), "{args:?}");
                }
            }
            for claim in &experiment.claims {
                let Claim::Moves { factor, at_least, .. } = claim else { continue };
                assert!(*factor > 1.0 && *at_least > 0.0, "{}: {claim:?}", experiment.name);
            }
            for row in &experiment.published {
                let rate = experiment.rate.as_ref().is_some_and(|rate| rate.unit == row.unit);
                assert!(
                    rate || row.unit.starts_with("ns") || row.unit == "s",
                    "{}: {}",
                    experiment.name,
                    row.unit
                );
            }
        }
    }

    #[test]
    fn what_is_no_experiment() {
        let error = |name: &str| one(name).unwrap_err().to_string();
        assert_eq!(error("ipx"), "repro ipx: no such experiment; did you mean ipc?");
        assert!(error("no/such.toml").contains("no such file"));
        let text = FILES.iter().find(|(name, _)| *name == "ipc").unwrap().1;
        for (broken, words) in [
            (
                text.replace("than = \"built-in kernel, halts\"", "than = \"x\""),
                "names a setting that it does not have: x",
            ),
            (
                text.replace("hogs=2\"]", "hogs=2\"]\nserves = \"x\""),
                "serves in no container: Linux guest, low",
            ),
            (text.replace("title", "titel"), "unknown field `titel`"),
            (text.replace("needs = [\"2-cpus\"]", "needs = [\"3-cpus\"]"), "unknown variant"),
            ("title = ".into(), "expected"),
        ] {
            let error = parse("x", &broken).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
