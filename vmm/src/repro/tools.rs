//! The tools that everyone knows, beside our workloads: which there are is the catalogue's; they are on the
//! disk that `resources/image/build` makes, and run in guests and on this host alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::catalogue::Variant;
use crate::compare::bundle::{Bundle, Kind, Run, Setting};
use crate::compare::metric::Pattern;
use crate::compare::statistics;
use crate::status::{Fatal, Status};

/// Where `--tools` alone looks.
pub const FOLDER: &str = ".lab/image";
/// In it: the disk, and programs for this host.
const DISK: &str = "disk.img";
const PROGRAMS: &str = "bin";
/// What builds it.
const BUILDER: &str = "resources/image/build";

/// A tool that does what an experiment's own workload does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    /// What finds its result in what it prints, the number in a group.
    pub figure: String,
    /// What that number is.
    pub is: Is,
    /// What finds how many operations it has made, where that is not to be known before.
    pub operations: Option<String>,
    /// Of ours, what is held against it, where that is not the experiment's own metric.
    pub metric: Option<String>,
    /// Each beside the experiment's setting of the same name.
    #[serde(rename = "setting")]
    pub settings: Vec<Variant>,
}

/// How a figure becomes nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Is {
    /// A time, of so many nanoseconds for each of its units.
    Time(f64),
    /// The time of all operations together.
    Total(f64),
    /// What is done in so many nanoseconds.
    Rate(f64),
}

/// Both in the same place.
#[derive(Debug, Serialize)]
pub struct Pair {
    pub setting: String,
    /// For one operation, or as the metric says: medians.
    pub ours_ns: Option<f64>,
    pub tool_ns: Option<f64>,
    /// The tool's to ours.
    pub ratio: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// All exits of the guest for one operation: of the tool's, with its start and its end.
    pub ours_exits: Option<f64>,
    pub tool_exits: Option<f64>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Beside {
    pub name: String,
    pub pairs: Vec<Pair>,
    /// The tool's own runs.
    pub bundle: Bundle,
}

/// The folder that the script has made.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    #[error("--tools: {0}: no tools there; {BUILDER} makes them, and says where")]
    Absent(PathBuf),
    #[error("--tools: {0}: a comma in its name, which --disk has no room for")]
    Name(PathBuf),
    #[error("--tools: experiment {name} has none; these have: {}", known.join(", "))]
    None { name: String, known: Vec<String> },
}

impl Fatal for ToolsError {
    fn status(&self) -> Status {
        match self {
            ToolsError::Absent(_) => Status::Image,
            ToolsError::Name(_) | ToolsError::None { .. } => Status::Usage,
        }
    }
}

impl Folder {
    pub fn open(path: &Path) -> Result<Folder, ToolsError> {
        let absent = |_| ToolsError::Absent(path.to_owned());
        let real = path.canonicalize().map_err(absent)?;
        let folder = Folder(real);
        if !folder.0.join(DISK).is_file() || !folder.0.join(PROGRAMS).is_dir() {
            return Err(ToolsError::Absent(path.to_owned()));
        }
        // Nor a colon, which PATH is parted by.
        match folder.0.to_str() {
            Some(text) if !text.contains([',', ':']) => Ok(folder),
            _ => Err(ToolsError::Name(path.to_owned())),
        }
    }

    pub fn disk(&self) -> String {
        self.0.join(DISK).display().to_string()
    }

    /// Words before a program that is to find them first.
    pub fn first_in_path(&self) -> Vec<String> {
        let own = std::env::var("PATH").unwrap_or_default();
        vec!["env".into(), format!("PATH={}:{own}", self.0.join(PROGRAMS).display())]
    }

    /// Why `tool` is not there, if so.
    pub fn lacks(&self, tool: &Tool) -> Option<String> {
        let there = self.0.join(PROGRAMS).join(&tool.name).is_file();
        (!there).then(|| format!("no {} in {}: {BUILDER}", tool.name, self.0.display()))
    }
}

impl Tool {
    /// What is wrong with it, beside settings that are not the experiment's.
    pub fn check(&self) -> Result<(), String> {
        for pattern in self.patterns() {
            pattern.parse::<Pattern>().map_err(|error| format!("tool {}: {error}", self.name))?;
        }
        Ok(())
    }

    /// `NAME=REGEX` of all that is found in what it prints.
    fn patterns(&self) -> Vec<String> {
        let figure = format!("{}={}", self.own(), self.figure);
        let operations = self.operations.as_ref().map(|regex| format!("{}={regex}", self.count()));
        [figure].into_iter().chain(operations).collect()
    }

    /// The name of its figure, which is no workload's: hackbench is both.
    fn own(&self) -> String {
        format!("{}'s own figure", self.name)
    }

    fn count(&self) -> String {
        format!("{} operations", self.name)
    }

    /// One run of it.
    pub fn setting(&self, of: &Variant, values: &BTreeMap<String, String>, folder: &Folder) -> Setting {
        Setting {
            name: format!("{}, by {}", of.name, self.name),
            args: of.args(values),
            native: of.native,
            within: if of.native { folder.first_in_path() } else { Vec::new() },
            figures: self.patterns(),
        }
    }

    /// Takes its runs, those of all settings from number `first` on, out of `bundle`; `beside` are the names
    /// of ours that they stand beside.
    pub fn hold(&self, bundle: &mut Bundle, first: usize, beside: &[String], metric: &str) -> Beside {
        let mut own = Bundle { settings: bundle.settings.split_off(first), ..bundle.clone() };
        own.runs.retain(|run| run.setting >= first);
        bundle.runs.retain(|run| run.setting < first);
        for run in &mut own.runs {
            run.setting -= first;
            if let Some(operations) = run.metrics.get(&self.count()) {
                run.ops = *operations as u64;
            }
        }
        bundle.metrics.retain(|metric| bundle.runs.iter().any(|run| run.metrics.contains_key(&metric.name)));
        let metric = self.metric.as_deref().unwrap_or(metric);
        let pairs = beside.iter().enumerate().map(|(at, name)| self.pair(bundle, &own, at, name, metric));
        Beside { name: self.name.clone(), pairs: pairs.collect(), bundle: own }
    }

    fn pair(&self, ours: &Bundle, own: &Bundle, at: usize, name: &str, metric: &str) -> Pair {
        let number = ours.settings.iter().position(|setting| setting.name == name);
        let our_runs = ours.runs.iter().filter(|run| Some(run.setting) == number && !run.warm_up);
        let tool_runs = own.runs.iter().filter(|run| run.setting == at && !run.warm_up);
        let our_ns: Vec<f64> = our_runs.clone().filter_map(|run| run.metrics.get(metric)).copied().collect();
        let tool_ns: Vec<f64> = tool_runs.clone().filter_map(|run| self.ns(run)).collect();
        let ratio = statistics::ratio(&tool_ns, &our_ns);
        Pair {
            setting: name.to_owned(),
            ours_ns: statistics::median(&our_ns),
            tool_ns: statistics::median(&tool_ns),
            ratio: ratio.map(|ratio| ratio.value),
            interval: ratio.and_then(|ratio| ratio.interval),
            ours_exits: exits(our_runs),
            tool_exits: exits(tool_runs),
        }
    }

    fn ns(&self, run: &Run) -> Option<f64> {
        let figure = *run.metrics.get(&self.own())?;
        let ns = match self.is {
            Is::Time(one) => figure * one,
            Is::Total(one) => figure * one / run.ops as f64,
            Is::Rate(one) => one / figure,
        };
        ns.is_finite().then_some(ns)
    }
}

/// All exits for one operation: the median.
fn exits<'r>(runs: impl Iterator<Item = &'r Run>) -> Option<f64> {
    let of = |run: &Run| {
        let total = run.rows.iter().find(|row| row.kind == Kind::Total)?;
        (run.ops > 0 && run.failed.is_none()).then(|| total.count as f64 / run.ops as f64)
    };
    statistics::median(&runs.filter_map(of).collect::<Vec<_>>())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::compare::bundle::tests::sample;

    pub fn tool() -> Tool {
        toml::from_str(
            r#"
            name = "bench"
            figure = 'Time: ([0-9.]+)'
            is = { total = 1e9 }
            setting = [{ name = "idle=halt", args = ["--workload=tool"] }]
            "#,
        )
        .unwrap()
    }

    #[test]
    fn both_in_the_same_unit() {
        let mut bundle = sample();
        let ours = bundle.runs.iter().find(|run| run.setting == 0 && !run.warm_up).unwrap();
        let ns = ours.metrics["ipc"];
        let mut run = ours.clone();
        run.setting = bundle.settings.len();
        run.metrics = [(tool().own(), 3.0 * ns * ours.ops as f64 / 1e9)].into();
        let first = bundle.settings.len();
        bundle.settings.push(Setting { name: "idle=halt, by bench".into(), ..bundle.settings[0].clone() });
        bundle.runs.push(run);
        let beside = tool().hold(&mut bundle, first, &["idle=halt".into()], "ipc");
        assert_eq!(
            (bundle.settings.len(), beside.bundle.settings.len(), beside.bundle.runs.len()),
            (first, 1, 1)
        );
        assert!(bundle.runs.iter().all(|run| run.setting < first));
        let pair = &beside.pairs[0];
        assert!(pair.ratio.is_some_and(|ratio| (ratio - 3.0).abs() < 0.01), "{pair:?}");
        assert_eq!(pair.ours_exits, pair.tool_exits);
    }

    #[test]
    fn what_a_figure_is() {
        let run = |figure: f64| Run {
            metrics: [(tool().own(), figure)].into(),
            ops: 10,
            ..sample().runs[0].clone()
        };
        for (is, figure, ns) in [
            (Is::Time(1e3), 7.0, Some(7e3)),
            (Is::Total(1e9), 1.0, Some(1e8)),
            (Is::Rate(1e9), 1e3, Some(1e6)),
            (Is::Rate(1e9), 0.0, None),
        ] {
            assert_eq!(Tool { is, ..tool() }.ns(&run(figure)), ns);
        }
        let broken = Tool { figure: "(".into(), ..tool() };
        assert!(broken.check().unwrap_err().starts_with("tool bench: "));
    }

    #[test]
    fn a_folder_without_tools_says_what_makes_them() {
        let error = Folder::open(Path::new("/no/such")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--tools: /no/such: no tools there; resources/image/build makes them, and says where"
        );
        assert_eq!(error.status(), Status::Image);
        assert!(Folder::open(Path::new("/proc")).is_err());
    }
}
