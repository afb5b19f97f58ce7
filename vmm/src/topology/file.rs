//! A topology as it is written: machines, and the paths by which they may be joined. A new one is a file
//! in `resources/topologies/`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path as File;

use abi::workload::nearest;
use devices::switch::PORTS;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::error::Error;
use crate::config::input;

// `FILES`: the name and text of each, from the build script.
include!(concat!(env!("OUT_DIR"), "/topologies.rs"));

/// Larger than any topology.
const MAX_LEN: u64 = 1 << 20;
/// Keys of a machine that are no flags of it.
const NAME: &str = "name";
const SERVES: &str = "serves";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    #[serde(skip)]
    pub name: String,
    pub title: String,
    /// What stands in braces elsewhere.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// What is an operation of the whole.
    pub measure: Option<Measure>,
    #[serde(rename = "machine")]
    machines: Vec<Table>,
    #[serde(rename = "path", default)]
    pub paths: Vec<Path>,
    /// In place of paths: those of this topology.
    #[serde(default)]
    paths_of: Option<String>,
}

/// A number of a machine's first record; its time for one is what is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    pub machine: String,
    #[serde(default = "ops")]
    pub count: String,
}

fn ops() -> String {
    "ops".into()
}

/// One way to join the machines.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    pub name: String,
    pub by: By,
    /// Queue pairs of each card.
    #[serde(default = "one")]
    pub queues: u16,
    /// The kernel's vhost serves the cards; for taps.
    #[serde(default)]
    pub vhost: bool,
    /// More keys of each machine's `--net`.
    #[serde(default)]
    pub net: String,
    /// Values that are others on this path.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Taps that exist, one for each machine; without them, they and their bridge are made and removed.
    #[serde(default)]
    pub taps: Vec<String>,
    /// Flags of `vmm switch`, as keys.
    #[serde(default)]
    pub switch: Table,
    /// A vhost-user backend of another make. `{socket.NAME}` is where it listens for a machine.
    #[serde(default)]
    pub command: Vec<String>,
}

fn one() -> u16 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Taps on a Linux bridge.
    Bridge,
    /// `vmm switch`.
    Switch,
    /// Another program.
    Command,
}

/// A topology with one path chosen and every brace filled in.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: String,
    pub title: String,
    pub path: Path,
    pub measure: Option<Measure>,
    pub machines: Vec<Machine>,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub name: String,
    /// It does not end by itself: it is ended when all others have.
    pub serves: bool,
    /// Its flags, as the keys of `--config`.
    pub keys: Table,
}

/// Those that the program carries.
pub fn all() -> Result<Vec<Topology>, Error> {
    FILES.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The one of this name, or in this file.
pub fn one_of(name: &str) -> Result<Topology, Error> {
    if let Some((name, text)) = FILES.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    if name.ends_with(".toml") {
        let mut text = String::new();
        let read = input::open("topology", File::new(name))?.take(MAX_LEN).read_to_string(&mut text);
        read.map_err(|error| Error::File { name: name.into(), why: error.to_string() })?;
        return parse(name, &text);
    }
    let hint = match nearest(name, FILES.iter().map(|(known, _)| *known)) {
        Some(near) => format!("did you mean {near}?"),
        None => "vmm topology lists all; a file ends in .toml".into(),
    };
    Err(Error::Unknown { name: name.into(), hint })
}

/// A topology of this name, as `text` describes it.
pub(crate) fn parse(name: &str, text: &str) -> Result<Topology, Error> {
    let fail = |why: String| Error::File { name: name.into(), why };
    let topology: Topology = toml::from_str(text).map_err(|error| fail(input::toml_trouble(text, &error)))?;
    let mut topology = Topology { name: name.to_owned(), ..topology };
    if let Some(other) = &topology.paths_of {
        let known = FILES.iter().find(|(known, _)| known == other);
        let theirs = known.and_then(|(_, text)| toml::from_str::<Topology>(text).ok());
        let theirs =
            theirs.ok_or_else(|| fail(format!("paths_of = {other:?}: there is no such topology")))?;
        topology.paths.extend(theirs.paths);
    }
    topology.check().map_err(fail)?;
    Ok(topology)
}

impl Topology {
    /// What is wrong with it, whichever path is chosen.
    fn check(&self) -> Result<(), String> {
        let mut names: Vec<&str> = Vec::new();
        for table in &self.machines {
            let name = table.get(NAME).and_then(Value::as_str).ok_or("a machine has no name")?;
            if !plain(name) || names.contains(&name) {
                return Err(format!("machine {name:?}: needs a name of its own, of letters, digits and -"));
            }
            if !matches!(table.get(SERVES), None | Some(Value::Boolean(_))) {
                return Err(format!("machine {name}: serves is true or false"));
            }
            if table.contains_key("report") || table.contains_key("net") {
                return Err(format!("machine {name}: net and report are the topology's own to say"));
            }
            names.push(name);
        }
        if names.is_empty() || names.len() > *PORTS.end() {
            return Err(format!("has {} machines; 1 to {} can be joined", names.len(), PORTS.end()));
        }
        if self.machines.iter().all(serves) {
            return Err("every machine serves: none ends it".into());
        }
        if let Some(measure) = self.measure.as_ref().filter(|measure| !names.contains(&&*measure.machine)) {
            return Err(format!("measures {}, which is no machine of it", measure.machine));
        }
        for (at, path) in self.paths.iter().enumerate() {
            let wrong = |why: &str| Err(format!("path {}: {why}", path.name));
            if self.paths[..at].iter().any(|other| other.name == path.name) {
                return wrong("is there twice");
            }
            match path.by {
                _ if path.name.contains([',', ';']) => return wrong("no name: it has a comma or semicolon"),
                By::Switch | By::Command if path.vhost => return wrong("vhost is for by = \"bridge\""),
                By::Switch | By::Command if !path.taps.is_empty() => {
                    return wrong("taps are for by = \"bridge\"");
                }
                By::Bridge | By::Command if !path.switch.is_empty() => {
                    return wrong("switch is for by = \"switch\"");
                }
                By::Command if path.command.is_empty() => return wrong("by = \"command\" needs command"),
                By::Bridge | By::Switch if !path.command.is_empty() => {
                    return wrong("command is for by = \"command\"");
                }
                By::Bridge if !path.taps.is_empty() && path.taps.len() != names.len() => {
                    return wrong("needs a tap for each machine, or none");
                }
                _ if !(1..=16).contains(&path.queues) => return wrong("queues are 1 to 16"),
                _ => {}
            }
            if let Some(unknown) = path.set.keys().find(|key| !self.values.contains_key(*key)) {
                return wrong(&format!("sets {unknown}, which is none of its values"));
            }
        }
        if self.paths.is_empty() { Err("has no path".into()) } else { Ok(()) }
    }

    /// It by one of its paths, with `set` in place of its values. `cpus` are those that may be used.
    pub fn scene(&self, path: &Path, set: &[(String, String)], cpus: &[usize]) -> Result<Scene, Error> {
        let mut values = self.values.clone();
        values.extend(path.set.clone());
        for (key, value) in set {
            match values.get_mut(key) {
                Some(known) => known.clone_from(value),
                None => {
                    let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
                    let hint = match nearest(key, known.iter().copied()) {
                        Some(near) => format!("did you mean {near}?"),
                        None => format!("its values are {}", known.join(", ")),
                    };
                    return Err(Error::Set { key: key.clone(), topology: self.name.clone(), hint });
                }
            }
        }
        let fill = Fill { values: &values, cpus };
        let fail = |why| Error::File { name: self.name.clone(), why };
        let machines = self.machines.iter().map(|table| {
            let mut keys = fill.table(table)?;
            let name = keys.remove(NAME).and_then(|name| name.as_str().map(str::to_owned));
            let serves = keys.remove(SERVES).and_then(|serves| serves.as_bool());
            Ok(Machine { name: name.unwrap_or_default(), serves: serves.unwrap_or(false), keys })
        });
        Ok(Scene {
            name: self.name.clone(),
            title: self.title.clone(),
            measure: self.measure.clone(),
            machines: machines.collect::<Result<_, String>>().map_err(fail)?,
            path: Path {
                switch: fill.table(&path.switch).map_err(fail)?,
                net: fill.text(&path.net).map_err(fail)?,
                command: path
                    .command
                    .iter()
                    .map(|word| fill.text(word))
                    .collect::<Result<_, _>>()
                    .map_err(fail)?,
                ..path.clone()
            },
        })
    }
}

fn serves(machine: &Table) -> bool {
    machine.get(SERVES).and_then(Value::as_bool).unwrap_or(false)
}

fn plain(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !name.is_empty() && name.len() <= 32 && name.chars().all(fine)
}

/// What braces stand for.
struct Fill<'a> {
    values: &'a BTreeMap<String, String>,
    cpus: &'a [usize],
}

impl Fill<'_> {
    fn table(&self, table: &Table) -> Result<Table, String> {
        table.iter().map(|(key, value)| Ok((key.clone(), self.value(value)?))).collect()
    }

    fn value(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(text)?),
            Value::Array(values) => {
                Value::Array(values.iter().map(|value| self.value(value)).collect::<Result<_, _>>()?)
            }
            Value::Table(table) => Value::Table(self.table(table)?),
            other => other.clone(),
        })
    }

    /// `{size}` is a value, `{cpu2}` the third CPU that may be used, around again where there are fewer;
    /// `{socket.NAME}` stays, for whoever makes the sockets.
    fn text(&self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("{text:?}: a brace stays open"))?;
            match self.one(name) {
                Some(value) if value.is_empty() => {
                    return Err(format!("{name} has no value: --set {name}=…"));
                }
                Some(value) => filled.push_str(&value),
                None if name.starts_with("socket.") => filled.push_str(&format!("{{{name}}}")),
                None => {
                    let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
                    return Err(format!("{{{name}}}: no such value; valid are {}, cpu0", known.join(", ")));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn one(&self, name: &str) -> Option<String> {
        if let Some(value) = self.values.get(name) {
            return Some(value.clone());
        }
        let number: usize = name.strip_prefix("cpu")?.parse().ok()?;
        Some(self.cpus.get(number.checked_rem(self.cpus.len())?)?.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
        title = "two"
        values = { size = "50", empty = "" }
        measure = { machine = "right" }
        [[machine]]
        name = "right"
        pin = "0@{cpu0}"
        workload = ["udp,size={size}"]
        [[machine]]
        name = "left"
        serves = true
        [[path]]
        name = "switch"
        by = "switch"
        switch = { cpu = "{cpu3}" }
        set = { size = "200" }
    "#;

    fn wrong(from: &str, to: &str) -> String {
        assert!(TWO.contains(from));
        parse("t", &TWO.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn braces_are_values_of_the_file_the_path_and_the_user() {
        let topology = parse("t", TWO).unwrap();
        let scene = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            topology.scene(&topology.paths[0], &set, &[4, 6])
        };
        let filled = scene(&[]).unwrap();
        assert_eq!(filled.machines[0].keys["workload"].as_array().unwrap()[0].as_str(), Some("udp,size=200"));
        assert_eq!(filled.machines[0].keys["pin"].as_str(), Some("0@4"));
        assert_eq!(filled.path.switch["cpu"].as_str(), Some("6"));
        assert!(filled.machines[1].serves && filled.machines[1].keys.is_empty());
        let filled = scene(&[("size", "1500")]).unwrap();
        assert_eq!(
            filled.machines[0].keys["workload"].as_array().unwrap()[0].as_str(),
            Some("udp,size=1500")
        );
        let error = scene(&[("sise", "1")]).unwrap_err().to_string();
        assert_eq!(error, "--set sise: topology t has no such value; did you mean size?");
    }

    #[test]
    fn what_is_no_topology_says_why_in_one_line() {
        for (from, to, words) in [
            ("title", "titel", "line 2: unknown field `titel`"),
            ("name = \"left\"", "name = \"right\"", "machine \"right\": needs a name of its own"),
            ("name = \"left\"", "memory = \"1G\"", "a machine has no name"),
            ("serves = true", "serves = 1", "machine left: serves is true or false"),
            ("serves = true", "net = \"tap=a\"", "machine left: net and report are the topology's own"),
            ("{ machine = \"right\" }", "{ machine = \"x\" }", "measures x, which is no machine of it"),
            ("by = \"switch\"", "by = \"bridge\"", "path switch: switch is for by = \"switch\""),
            ("by = \"switch\"", "by = \"swich\"", "unknown variant `swich`"),
            ("by = \"switch\"", "by = \"switch\"\nvhost = true", "path switch: vhost is for"),
            ("by = \"switch\"", "by = \"switch\"\nqueues = 17", "path switch: queues are 1 to 16"),
            ("set = { size = \"200\" }", "set = { x = \"1\" }", "path switch: sets x, which is none"),
            ("pin = \"0@{cpu0}\"", "serves = true", "every machine serves"),
            ("title", "paths_of = \"x\"\ntitle", "paths_of = \"x\": there is no such topology"),
        ] {
            let error = wrong(from, to);
            assert!(error.starts_with("topology t: ") && error.contains(words), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        for (text, words) in
            [("{x}", "{x}: no such value"), ("{size", "a brace stays open"), ("{empty}", "--set empty=")]
        {
            let topology = parse("t", &TWO.replace("{size}", text)).unwrap();
            let error = topology.scene(&topology.paths[0], &[], &[0]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(one_of("no/such.toml").unwrap_err().to_string().contains("no such file"));
        assert!(one_of("nonesuch").unwrap_err().to_string().contains("vmm topology lists all"));
    }
}
