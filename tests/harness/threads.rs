//! What the threads of a process do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// CPU time of all of them so far.
pub fn cpu(process: u32) -> Duration {
    tasks(process).iter().map(|task| spent(task)).sum()
}

/// A line for each: its CPU time in the second that this takes, and where it waits in the kernel; and what
/// KVM has counted meanwhile, where debugfs says so.
pub fn busy(process: u32) -> String {
    let before: Vec<_> = tasks(process).into_iter().map(|task| (spent(&task), task)).collect();
    let counted = kvm();
    std::thread::sleep(Duration::from_secs(1));
    let moved = counted.into_iter().zip(kvm()).filter(|(before, after)| before != after);
    let counts: String = moved
        .map(|((name, before), (_, after))| format!("{name}: {} more\n", after.wrapping_sub(before)))
        .collect();
    let line = |(before, task): (Duration, PathBuf)| {
        let spent = spent(&task).saturating_sub(before).as_millis();
        format!("{}: {spent} ms in a second, at {}\n", read(&task, "comm"), read(&task, "wchan"))
    };
    before.into_iter().map(line).collect::<String>() + &counts
}

/// KVM's counters, of all machines.
fn kvm() -> Vec<(String, u64)> {
    let files = fs::read_dir("/sys/kernel/debug/kvm").into_iter().flatten().flatten();
    let count = |file: fs::DirEntry| {
        let count = fs::read_to_string(file.path()).ok()?.trim().parse().ok()?;
        Some((file.file_name().to_string_lossy().into_owned(), count))
    };
    files.filter_map(count).collect()
}

fn tasks(process: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.map(|task| task.path()).collect()
}

fn read(task: &Path, name: &str) -> String {
    fs::read_to_string(task.join(name)).unwrap_or_default().trim().to_owned()
}

/// Nanoseconds on a CPU come first (Linux Documentation/scheduler/sched-stats.rst).
fn spent(task: &Path) -> Duration {
    let text = read(task, "schedstat");
    let nanoseconds = text.split_whitespace().next().and_then(|spent| spent.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
