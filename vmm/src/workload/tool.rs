//! A program that others know, in place of a workload of ours. What it finds, it prints itself.

use std::process::{Command, Stdio};
use std::time::Instant;

use abi::record::{Outcome, Record};
use abi::workload::Spec;
use workloads::platform::Unavailable;

use super::streams::{PATIENCE, connect};

/// The name in its records, which have no room for a command line.
const NAME: &str = "tool";

/// Runs `command=` by the shell that `shell` leads to, once `peer=` takes calls, where one is given. Its time
/// is that of the whole program, with its start and its end.
pub fn run(spec: &Spec<'_>, shell: &[&str], results: &mut dyn FnMut(&Record<'_>)) -> Result<(), Unavailable> {
    if spec.given("peer") {
        // It is there: nothing is asked by this.
        drop(connect(spec, PATIENCE)?);
    }
    let (program, words) = shell.split_first().ok_or(Unavailable("no-shell"))?;
    let mut command = Command::new(program);
    command.args(words).arg("-c").arg(spec.word("command")).stdin(Stdio::null());
    let start = Instant::now();
    let status = command.status().map_err(|_| Unavailable("no-shell"))?;
    let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    match status.code() {
        Some(0) => results(&Record::new(NAME, "-", spec.number("items"), ns)),
        Some(127) => results(&Record::without(NAME, Outcome::Failed("no-such-program-there"))),
        Some(status) => results(&Record::without(NAME, Outcome::Failed(&format!("status-{status}")))),
        None => results(&Record::without(NAME, Outcome::Failed("killed"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(text: &str) -> String {
        let mut line = String::new();
        run(&Spec::parse(text).unwrap(), &["sh"], &mut |record| record.encode(&mut line).unwrap()).unwrap();
        line
    }

    #[test]
    fn its_status_is_its_outcome() {
        let line = ran("tool,command=true,items=3");
        let record = Record::decode(&line).unwrap();
        assert_eq!((record.workload, record.outcome, record.ops), ("tool", Outcome::Ok, 3));
        assert!(record.ns > 0);
        for (command, words) in [
            ("exit 3", "failed:status-3"),
            ("no-such-program-there 2>&-", "failed:no-such-program-there"),
            ("kill -9 $$", "failed:killed"),
        ] {
            let line = ran(&format!("tool,command={command}"));
            assert!(line.contains(words), "{line}");
        }
    }
}
