//! What KVM and /proc count, whatever the monitor.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const TRACING: &str = "/sys/kernel/tracing";
const KVM: &str = "/sys/kernel/debug/kvm";

/// One of KVM's debugfs counters over all machines (the benchmark runs one at a time).
pub fn kvm(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(Path::new(KVM).join(name))?;
    text.trim().parse().map_err(io::Error::other)
}

/// Histograms of tracepoints, filled by the kernel while they are armed.
pub struct Histogram {
    event: PathBuf,
    trigger: String,
}

/// Key (`field: value, field: value`) → hits.
pub type Counts = BTreeMap<String, u64>;

impl Histogram {
    /// Counts `event` (`kvm/kvm_pio`) by `keys` (`port,rw`) from now on.
    pub fn arm(event: &str, keys: &str) -> io::Result<Histogram> {
        let event = Path::new(TRACING).join("events").join(event);
        let trigger = format!("hist:keys={keys}:size=4096");
        fs::write(event.join("trigger"), &trigger)
            .map_err(|error| io::Error::new(error.kind(), format!("count {}: {error}", event.display())))?;
        Ok(Histogram { event, trigger })
    }

    /// What was counted since then.
    pub fn read(&self) -> io::Result<Counts> {
        Ok(parse(&fs::read_to_string(self.event.join("hist"))?))
    }
}

impl Drop for Histogram {
    fn drop(&mut self) {
        let _ = fs::write(self.event.join("trigger"), format!("!{}", self.trigger));
    }
}

/// Lines such as `{ port: 1016, rw: 1 } hitcount: 12` (Linux Documentation/trace/histogram.rst).
fn parse(text: &str) -> Counts {
    let line = |line: &str| {
        let (key, hits) = line.trim().strip_prefix('{')?.split_once("} hitcount:")?;
        let key = key.split_whitespace().collect::<Vec<_>>().join(" ");
        Some((key, hits.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Memory that a process holds beside its guest's, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    pub resident: u64,
    /// Anonymous, its own alone.
    pub private: u64,
}

/// A mapping of at least this many KiB is guest memory.
const GUEST: u64 = 128 << 10;

/// `/proc/PID/smaps`, without guest memory and without the mapped `kernel` image.
pub fn beside_guest(pid: u32, kernel: &Path) -> io::Result<Beside> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    Ok(sum(&text, &kernel.display().to_string()))
}

fn sum(smaps: &str, kernel: &str) -> Beside {
    let mut total = Beside::default();
    let mut counted = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        let value = second.and_then(|word| word.parse().ok()).unwrap_or(0);
        match first {
            "Size:" => counted &= value < GUEST,
            "Rss:" if counted => total.resident += value,
            "Anonymous:" if counted => total.private += value,
            // `start-end perms offset device inode path` opens a mapping.
            _ if !first.ends_with(':') => counted = !line.ends_with(kernel),
            _ => {}
        }
    }
    total
}

/// CPU time of a process so far, all threads, in milliseconds.
pub fn cpu_ms(pid: u32) -> io::Result<u64> {
    Ok(cpu_ns(pid)? / 1_000_000)
}

/// The same in nanoseconds.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // Its first word is the time on a CPU in nanoseconds (Linux Documentation/scheduler/sched-stats.rst).
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// CPU time in nanoseconds of the kernel's own threads called `name`.
pub fn kernel_threads_ns(name: &str) -> io::Result<u64> {
    let mut total = 0;
    for process in fs::read_dir("/proc")? {
        let path = process?.path();
        // One that ends meanwhile has nothing to tell.
        let called = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let pid = path.file_name().and_then(|number| number.to_str()?.parse().ok());
        if let (Some(pid), true) = (pid, called.trim() == name) {
            total += cpu_ns(pid)?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_read_by_key() {
        let text = "# event histogram\n\n{ port:       1016, rw:          1 } hitcount:         12\n\
                    { port:       1280, rw:          0 } hitcount:          3\n\nTotals:\n    Hits: 15\n";
        assert_eq!(
            parse(text),
            Counts::from([("port: 1016, rw: 1".into(), 12), ("port: 1280, rw: 0".into(), 3)])
        );
    }

    #[test]
    fn guest_memory_and_kernel_image_are_left_out() {
        let mapping = |range: &str, path: &str, size: u64| {
            format!(
                "{range} r--p 00000000 00:00 0 {path}\nSize: {size} kB\nRss: 8 kB\nAnonymous: 4 kB\nVmFlags: rd\n"
            )
        };
        let smaps = [
            mapping("1000-2000", "/bin/vmm", 64),
            mapping("2000-3000", "", 256 << 10),
            mapping("3000-4000", "/boot/vmlinux", 900),
            mapping("4000-5000", "[heap]", 12),
        ]
        .concat();
        assert_eq!(sum(&smaps, "/boot/vmlinux"), Beside { resident: 16, private: 8 });
    }
}
