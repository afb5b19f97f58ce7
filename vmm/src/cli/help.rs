//! The help: flags in groups, and for each knob the number of the report that proves it.

use std::ffi::OsString;
use std::fmt::Write;

use abi::workload;
use clap::Command;

use crate::config::Knob;

/// What `args`, which asks for help or version, is answered with.
pub fn text(command: Command, args: &[OsString]) -> String {
    let answer = with_evidence(command).try_get_matches_from(args);
    answer.err().map(|answer| answer.render().to_string()).unwrap_or_default()
}

/// `--help workloads`.
pub fn topic(args: &[OsString]) -> Option<String> {
    let [_, help, topic] = args else { return None };
    let asked = ["--help", "-h", "help"].iter().any(|word| help == word);
    (asked && topic == "workloads").then(workloads)
}

/// Adds to each knob's help where it shows.
fn with_evidence(command: Command) -> Command {
    command.mut_args(|arg| {
        let knob = Knob::ALL.into_iter().find(|knob| Some(knob.flag()) == arg.get_long());
        match (knob, arg.get_help()) {
            (Some(knob), Some(help)) => {
                let text = format!("{help} [shows in {}]", knob.evidence().join(", "));
                arg.help(text)
            }
            _ => arg,
        }
    })
}

/// The table of workloads: where each can run, what it shows, its keys with their defaults.
fn workloads() -> String {
    let mut text = String::from("Workloads, as --workload NAME[,key=value…] and vmm workload NAME\n");
    for workload in workload::ALL {
        let places = workload.places;
        let places = [(places.native, "native"), (places.linux, "linux"), (places.kernel, "built-in kernel")];
        let places: Vec<&str> = places.iter().filter(|(can, _)| *can).map(|(_, place)| *place).collect();
        _ = writeln!(text, "\n{}: {} [{}]", workload.name, workload.about, places.join(", "));
        keys(&mut text, workload.keys);
        let own = workload.keys.len();
        let common: Vec<&str> = workload.all_keys().skip(own).map(|key| key.name).collect();
        if !common.is_empty() {
            _ = writeln!(text, "    and {}", common.join(", "));
        }
    }
    text.push_str("\nWhat several take:\n");
    workload::COMMON.iter().for_each(|common| keys(&mut text, std::slice::from_ref(&common.key)));
    text
}

fn keys(text: &mut String, keys: &[workload::Key]) {
    for key in keys {
        _ = writeln!(text, "    {}={}  {}; {}", key.name, key.default, key.about, key.kind);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_knob_has_its_evidence_and_its_place_in_the_help() {
        let command = Cli::command();
        let knobs = command
            .get_arguments()
            .filter(|arg| arg.get_help_heading().is_some_and(|heading| heading.ends_with("knobs")))
            .filter_map(clap::Arg::get_long);
        let named: Vec<&str> = Knob::ALL.iter().map(|knob| knob.flag()).collect();
        assert_eq!(knobs.collect::<Vec<_>>(), named);
        assert!(Knob::ALL.iter().all(|knob| !knob.evidence().is_empty()));
    }

    #[test]
    fn a_line_of_help_says_where_its_knob_shows() {
        let help = text(Cli::command(), &["vmm".into(), "--help".into()]);
        // Lines are broken where the terminal ends.
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words.matches("[shows in").count(), Knob::ALL.len(), "{help}");
    }
}
