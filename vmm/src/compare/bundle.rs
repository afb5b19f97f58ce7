//! What a comparison has found, as data: `vmm.compare/1`. Tables and pictures are readers of it, and
//! bundles of several runs and machines can be joined.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::input::{self, InputError};
use crate::report::Host;
use crate::status::{Fatal, Status};

/// The name of this layout. A key may be added under it; none is removed or changes its meaning.
pub const SCHEMA: &str = "vmm.compare/1";

/// Larger than any bundle that a comparison of [`super::plan::MOST_RUNS`] runs would write.
const MAX_LEN: u64 = 1 << 30;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub schema: String,
    pub vmm: String,
    pub hosts: Vec<HostKind>,
    /// The first is what the others are compared with.
    pub settings: Vec<Setting>,
    /// Settings that this host cannot run, and why.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    pub metrics: Vec<Metric>,
    /// Every run, in the order in which they were made.
    pub runs: Vec<Run>,
    /// It was ended before its last run.
    pub interrupted: bool,
}

/// A host, as far as times depend on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostKind {
    /// `vmx`, `svm`, `pvm`, `unknown`.
    pub kvm: String,
    pub nested: Option<bool>,
    pub cpu: Option<String>,
    pub cpus: Option<usize>,
    pub kernel: Option<String>,
}

/// One way to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// `vhost=on vcpus=2`.
    pub name: String,
    /// Arguments of `vmm`.
    pub args: Vec<String>,
    /// A workload on the host itself, without a machine.
    pub native: bool,
    /// Words before the program: a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
    /// What is found on its console alone: `NAME=REGEX`, as `--metric` takes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<String>,
}

/// A setting that was asked for and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub name: String,
    pub why: String,
}

/// A number that each run may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub unit: Unit,
    pub better: Better,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    NsPerOp,
    /// As a user's pattern has found it.
    Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which of `hosts`.
    pub host: usize,
    /// Which of `settings`.
    pub setting: usize,
    pub round: u32,
    /// Kept, and in no median.
    pub warm_up: bool,
    /// Why it has no result, or not all of it.
    pub failed: Option<String>,
    pub status: u8,
    pub wall_us: u64,
    pub metrics: BTreeMap<String, f64>,
    /// Operations of all workloads; rows are divided by it.
    pub ops: u64,
    pub rows: Vec<Row>,
    pub load: Option<Load>,
}

/// A count of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub kind: Kind,
    pub name: String,
    pub count: i64,
    pub ns: Option<u64>,
}

/// Which part of the ledger, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Total,
    /// Disjoint parts of all exits, the rest that is not explained among them.
    Exit,
    /// Exits by the processor's reason.
    Hardware,
    /// Returns to userspace by device and register.
    Return,
    /// What idle vCPUs did.
    Halt,
    /// Queues of devices.
    Device,
    /// What the guest has counted itself.
    Guest,
    /// KVM's other counters.
    Beside,
    Pages,
}

/// How busy its threads were, in parts of the time that it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Each vCPU's thread.
    pub vcpus: Vec<f64>,
    /// All other threads of the monitor together.
    pub vmm: f64,
    /// vCPUs asleep in a halt, each vCPU's share.
    pub asleep: Option<f64>,
    /// vCPU threads that were ready and had no CPU, each one's share.
    pub waited: Option<f64>,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("bundle {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("bundle {}: larger than 1 GiB", path.display())]
    TooLong { path: PathBuf },
    #[error("bundle {}: not JSON to its end: {error}", path.display())]
    Json { path: PathBuf, error: serde_json::Error },
    #[error("bundle {}: its schema is {found}, not {SCHEMA}", path.display())]
    Schema { path: PathBuf, found: String },
    #[error("bundle {}: run {run} names a setting or host that is not there", path.display())]
    Dangling { path: PathBuf, run: usize },
    #[error("write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

impl Fatal for BundleError {
    fn status(&self) -> Status {
        match self {
            BundleError::Write { .. } => Status::Device,
            _ => Status::Image,
        }
    }
}

impl Bundle {
    pub fn new(host: HostKind, settings: Vec<Setting>) -> Bundle {
        Bundle {
            schema: SCHEMA.into(),
            vmm: env!("CARGO_PKG_VERSION").into(),
            hosts: vec![host],
            settings,
            skipped: Vec::new(),
            metrics: Vec::new(),
            runs: Vec::new(),
            interrupted: false,
        }
    }

    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        let mut text = String::new();
        let read = input::open("bundle", path)?.take(MAX_LEN + 1).read_to_string(&mut text);
        read.map_err(|error| BundleError::Read { path: path.to_owned(), error })?;
        if text.len() as u64 > MAX_LEN {
            return Err(BundleError::TooLong { path: path.to_owned() });
        }
        let json = |error| BundleError::Json { path: path.to_owned(), error };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
        let schema = value.get("schema").and_then(|schema| schema.as_str());
        if schema != Some(SCHEMA) {
            let found = schema.unwrap_or("missing").to_owned();
            return Err(BundleError::Schema { path: path.to_owned(), found });
        }
        let bundle: Bundle = serde_json::from_value(value).map_err(json)?;
        let there = |run: &Run| run.setting < bundle.settings.len() && run.host < bundle.hosts.len();
        match bundle.runs.iter().position(|run| !there(run)) {
            Some(run) => Err(BundleError::Dangling { path: path.to_owned(), run }),
            None => Ok(bundle),
        }
    }

    /// Takes the runs of `other` in. Settings that are alike in name and arguments are one.
    pub fn join(&mut self, other: Bundle) {
        let hosts = place(&mut self.hosts, other.hosts);
        let settings = place(&mut self.settings, other.settings);
        place(&mut self.metrics, other.metrics);
        self.runs.extend(other.runs.into_iter().map(|run| Run {
            host: hosts[run.host],
            setting: settings[run.setting],
            ..run
        }));
        place(&mut self.skipped, other.skipped);
        self.interrupted |= other.interrupted;
    }

    /// The runs of a setting on hosts of this class that count: no warm-ups.
    pub fn counted<'b>(&'b self, setting: usize, class: &'b str) -> impl Iterator<Item = &'b Run> {
        self.runs.iter().filter(move |run| {
            run.setting == setting && !run.warm_up && self.hosts[run.host].class() == class
        })
    }

    /// The classes of hosts, each once, in order.
    pub fn classes(&self) -> Vec<String> {
        let mut classes: Vec<String> = Vec::new();
        for class in self.hosts.iter().map(HostKind::class) {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }
}

/// The file is there whole, or as it was before.
pub fn write(path: &Path, text: &str) -> Result<(), BundleError> {
    let written = crate::report::write::to_file(path, text.as_bytes());
    written.map_err(|error| BundleError::Write { path: path.to_owned(), error })
}

/// Whether these can be written, while nothing has been done yet.
pub fn check(path: &Path) -> Result<(), BundleError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let error = match fs::metadata(folder) {
        Err(error) => error,
        Ok(_) if path.is_dir() => io::ErrorKind::IsADirectory.into(),
        Ok(_) => return Ok(()),
    };
    Err(BundleError::Write { path: path.to_owned(), error })
}

/// Adds what is not there yet; where each of `new` is now.
fn place<T: PartialEq>(known: &mut Vec<T>, new: Vec<T>) -> Vec<usize> {
    let at = |one: T| {
        known.iter().position(|other| *other == one).unwrap_or_else(|| {
            known.push(one);
            known.len() - 1
        })
    };
    new.into_iter().map(at).collect()
}

impl HostKind {
    /// Hosts of one class have comparable times: the same kind of KVM on the same processor.
    pub fn class(&self) -> String {
        let nested = if self.nested == Some(true) { " · nested" } else { "" };
        format!("KVM {}{nested} · {}", self.kvm, self.cpu.as_deref().unwrap_or("unknown processor"))
    }

    /// Whether a program (QEMU's TCG) plays its processor.
    pub fn is_emulated(&self) -> bool {
        self.cpu.as_deref().is_some_and(|cpu| cpu.contains("TCG"))
    }

    /// Why its times say little, if so.
    pub fn doubt(&self) -> Option<&'static str> {
        match () {
            () if self.is_emulated() => {
                Some("an emulated processor: counts are exact, times are not those of hardware")
            }
            () if self.kvm == "pvm" => {
                Some("no hardware virtualization: ring 0 is interpreted, times are not those of hardware")
            }
            () => None,
        }
    }
}

impl From<Host> for HostKind {
    fn from(host: Host) -> HostKind {
        let Host { kvm, nested, kernel, cpu, cpus } = host;
        HostKind { kvm: kvm.to_owned(), nested, cpu, cpus, kernel }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A bundle of two settings: `a`, and `b` at twice the time with a tenth of the halts.
    pub fn sample() -> Bundle {
        let host = HostKind {
            kvm: "svm".into(),
            nested: Some(false),
            cpu: Some("AMD <1>".into()),
            cpus: Some(2),
            kernel: None,
        };
        let setting = |name: &str| Setting {
            name: name.into(),
            args: vec![format!("--{name}")],
            native: false,
            within: vec![],
            figures: vec![],
        };
        let mut bundle = Bundle::new(host, vec![setting("idle=halt"), setting("idle=guest-poll")]);
        let metric = |name: &str, unit| Metric { name: name.into(), unit, better: Better::Lower };
        bundle.metrics = vec![metric("ipc", Unit::NsPerOp), metric("wall", Unit::Ns)];
        for (round, setting) in
            [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1), (3, 1), (3, 0), (4, 0), (4, 1)]
        {
            let time = if setting == 0 { 2000.0 } else { 1000.0 } + f64::from(round);
            let row = |kind, name: &str, count| Row { kind, name: name.into(), count, ns: None };
            let halts = if setting == 0 { 2000 } else { 200 };
            bundle.runs.push(Run {
                host: 0,
                setting,
                round,
                warm_up: round == 0,
                failed: None,
                status: 0,
                wall_us: 5000 + u64::from(round),
                metrics: [("ipc".into(), time), ("wall".into(), 5e6 + f64::from(round))].into(),
                ops: 1000,
                rows: vec![
                    row(Kind::Total, "exits", halts + 100),
                    row(Kind::Exit, "halt", halts),
                    row(Kind::Exit, "not explained", 100),
                ],
                load: Some(Load { vcpus: vec![0.9, 0.2], vmm: 0.01, asleep: Some(0.3), waited: Some(0.0) }),
            });
        }
        bundle
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written_and_joined_by_names() {
        let path = std::env::temp_dir().join(format!("vmm-bundle-{}.json", std::process::id()));
        let bundle = sample();
        write(&path, &serde_json::to_string(&bundle).unwrap()).unwrap();
        let mut read = Bundle::read(&path).unwrap();
        assert_eq!(read, bundle);
        let mut other = bundle.clone();
        other.settings.swap(0, 1);
        other.hosts[0].kvm = "vmx".into();
        read.join(other);
        assert_eq!((read.hosts.len(), read.settings.len(), read.runs.len()), (2, 2, 20));
        assert_eq!((read.runs[10].setting, read.runs[10].host), (1, 1));
        assert_eq!(read.classes().len(), 2);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_bundle_says_why() {
        let path = std::env::temp_dir().join(format!("vmm-no-bundle-{}.json", std::process::id()));
        let whole = serde_json::to_string(&sample()).unwrap();
        let dangling = whole.replace("\"setting\":1,\"round\":4", "\"setting\":7,\"round\":4");
        for (text, words) in [
            (&whole[..whole.len() / 2], "not JSON to its end"),
            (r#"{"schema": "vmm.report/1"}"#, "its schema is vmm.report/1, not vmm.compare/1"),
            (r#"{"runs": []}"#, "its schema is missing"),
            (r#"{"schema": "vmm.compare/1"}"#, "missing field"),
            (&dangling, "run 9 names a setting or host that is not there"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Bundle::read(&path).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.status().code(), 65);
        }
        fs::remove_file(path).unwrap();
    }
}
