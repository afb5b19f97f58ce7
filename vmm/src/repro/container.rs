//! A container by the host's own tools: namespaces by `unshare`, limits by files of its control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const UNSHARE: &[&str] = &[
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--fork",
    "--ipc",
    "--uts",
    "--net",
    "--cgroup",
];
const GROUPS: &str = "/sys/fs/cgroup";
/// Microseconds of a CPU's time that a quota is of.
const PERIOD: usize = 100_000;

/// Both ends of a connection are in one container, as two zones are on one kernel.
const LOOPBACK: &str = "ip link set lo up";

/// Its control groups go when this does.
#[derive(Debug)]
pub struct Container {
    groups: Vec<PathBuf>,
}

impl Container {
    /// With at most `memory` bytes and the time of `cpus`, where control groups are this user's to make.
    pub fn new(cpus: usize, memory: u64) -> Result<Container, String> {
        within("true", "no container")?;
        Ok(Container { groups: groups(Path::new(GROUPS), cpus, memory) })
    }

    /// What is set before a command.
    pub fn words(&self) -> Vec<String> {
        let enter = self.groups.iter().map(|group| format!("echo $$ >{}/cgroup.procs && ", group.display()));
        let script = format!("{}exec {} \"$0\" \"$@\"", enter.collect::<String>(), UNSHARE.join(" "));
        vec!["sh".into(), "-c".into(), script]
    }

    /// The same, with the workload `serves` beside the command, which ends with it.
    pub fn with_server(&self, serves: &str) -> Result<Vec<String>, String> {
        within(LOOPBACK, "no loopback in a container (iproute2)")?;
        // First of the command's words is this program.
        let script = format!("{LOOPBACK} && {{ \"$1\" workload \"$0\" >/dev/null & exec \"$@\"; }}");
        Ok([self.words(), vec!["sh".into(), "-c".into(), script, serves.into()]].concat())
    }

    pub fn is_limited(&self) -> bool {
        !self.groups.is_empty()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for group in &self.groups {
            // Who is still in it keeps it.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Whether a command's line runs in such namespaces; `lack` begins what is said where it does not.
fn within(line: &str, lack: &str) -> Result<(), String> {
    let tried = Command::new(UNSHARE[0])
        .args(&UNSHARE[1..])
        .args(["sh", "-c", line])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("needs unshare (util-linux): {error}"))?;
    match tried.status.success() {
        true => Ok(()),
        false => Err(format!("{lack}: {}", String::from_utf8_lossy(&tried.stderr).trim())),
    }
}

/// Groups with both limits set: one of the unified tree, or one of each controller's; none where they are
/// not this user's to make.
fn groups(root: &Path, cpus: usize, memory: u64) -> Vec<PathBuf> {
    let name = format!("vmm-repro-{}", std::process::id());
    let (quota, period, memory) = ((cpus * PERIOD).to_string(), PERIOD.to_string(), memory.to_string());
    let unified = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    let unified = ["cpu", "memory"].iter().all(|one| unified.split_whitespace().any(|word| word == *one));
    let wanted = match unified {
        true => {
            vec![(root.join(name), vec![("cpu.max", format!("{quota} {period}")), ("memory.max", memory)])]
        }
        false => vec![
            (root.join("cpu").join(&name), vec![("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota)]),
            (root.join("memory").join(&name), vec![("memory.limit_in_bytes", memory)]),
        ],
    };
    let mut made = Container { groups: Vec::new() };
    for (group, limits) in wanted {
        if fs::create_dir(&group).is_err() {
            return Vec::new();
        }
        made.groups.push(group.clone());
        if limits.iter().any(|(file, limit)| fs::write(group.join(file), limit).is_err()) {
            return Vec::new();
        }
    }
    std::mem::take(&mut made.groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_group_can_be_made_there_is_none() {
        assert_eq!(groups(Path::new("/no/such"), 2, 1 << 30), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_command_runs_in_namespaces_of_its_own() {
        let Ok(container) = Container::new(1, 256 << 20) else { return };
        let words = container.words();
        let run = Command::new(&words[0]).args(&words[1..]).args(["sh", "-c", "echo $$; exit 3"]).output();
        let run = run.unwrap();
        assert_eq!((run.status.code(), String::from_utf8_lossy(&run.stdout).trim()), (Some(3), "1"));
        if let Ok(words) = container.with_server("x,y=1") {
            // Its server is this command's own program, with what it is to serve.
            let run = Command::new(&words[0]).args(&words[1..]).args(["echo", "z"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&run.stdout), "z\n");
        }
        let groups = container.groups.clone();
        drop(container);
        assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    }
}
