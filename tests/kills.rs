//! `kill -9` in mid-write, many times in a row, each machine going on where the last one was killed: what a
//! guest was told is flushed is there, and nothing of the dead is in the way of the next.
//!
//! The guest keeps a journal: numbered records, flushed in groups; after each flush its console says which
//! ones are kept. The next start finds the last whole one. `KILLS` asks for so many kills instead of a few
//! for each way to the disk, `KILLS_SEED` for other moments.

mod harness;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};

use harness::host::{any_guest, in_lab, note, skip};
use harness::machine::{Ended, Machine, scratch, vmm};

/// Ways from the guest's request to the disk.
const WAYS: [&str; 4] = ["engine=sync", "engine=uring", "engine=sync,direct", "engine=uring,direct"];
/// Bytes of a record, as the workloads below have it, and of the image: a few kills go round it.
const RECORD: u64 = 16 << 10;
const IMAGE: u64 = 64 * RECORD;
const JOURNAL: &str = "journal,size=16k,items=1000000";
/// One that has written some, so that each way is judged by more than zeroes; and one that only looks.
const FIRST: &str = "journal,size=16k,items=100";
const LAST: &str = "journal,size=16k,items=0";

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Moments that look like none, the same ones for the same seed (Marsaglia's xorshift).
struct Moments(u64);

impl Moments {
    /// One in the first so many milliseconds.
    fn within(&mut self, milliseconds: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros((self.0 >> 8) % (1000 * milliseconds))
    }
}

/// A folder with one image, and what has been said of what is on it.
struct Disk {
    folder: PathBuf,
    way: &'static str,
    /// The last record that the guest said is kept.
    kept: u64,
    /// Machines that found more than that: the one before was killed between a write and its flush.
    ahead: u64,
    /// Machines that came as far as to say what they found.
    looked: u64,
}

impl Disk {
    fn new(way: &'static str) -> Disk {
        let folder = scratch("kills");
        fs::create_dir(&folder).expect("make a folder");
        let image = fs::File::create(folder.join("image"));
        image.and_then(|image| image.set_len(IMAGE)).expect("make an image");
        Disk { folder, way, kept: 0, ahead: 0, looked: 0 }
    }

    fn machine(&self, workload: &str) -> Machine {
        let disk = format!("path={},{}", self.folder.join("image").display(), self.way);
        vmm(["--memory", "32M", "--workload", workload, "--disk", &disk])
    }

    /// What a machine found is not less than what the one before it was told.
    fn judge(&mut self, machine: &Ended) {
        // A line that the kill has cut says nothing.
        let whole = machine.stdout.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut lines = whole.lines().filter_map(|line| line.trim_end().strip_prefix("journal: "));
        let Some(found) = lines.next() else { return };
        let (whole, highest): (u64, u64) = found
            .strip_prefix("found ")
            .and_then(|words| words.split_once(" of "))
            .and_then(|(whole, highest)| Some((whole.parse().ok()?, highest.parse().ok()?)))
            .unwrap_or_else(|| panic!("{found}"));
        assert!(whole >= self.kept, "{}: {} was kept, {whole} of {highest} is there", self.way, self.kept);
        self.looked += 1;
        self.ahead += u64::from(whole > self.kept);
        let kept = lines.next_back().and_then(|line| line.strip_prefix("kept ")?.parse().ok());
        self.kept = kept.unwrap_or(whole).max(self.kept);
    }

    /// One that has ended by itself holds no lock, not even until its io_uring is gone, too.
    fn is_free(&self) {
        let image = fs::File::options().write(true).open(self.folder.join("image")).expect("open the image");
        fcntl_lock(&image, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
    }

    /// A record is torn.
    fn spoil(&self, number: u64) {
        let image = fs::File::options().write(true).open(self.folder.join("image")).expect("open the image");
        let place = number * RECORD % IMAGE + RECORD / 2;
        image.write_all_at(&[0; 512], place).expect("write to it");
    }

    /// Nothing is left of a machine but its image: no file, no process that still names its folder.
    fn is_left_alone(&self, pid: u32) {
        let entries = fs::read_dir(&self.folder).expect("the folder");
        let names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names, ["image"]);
        let folder = self.folder.to_str().expect("in ASCII");
        for process in fs::read_dir("/proc").expect("/proc").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(folder), "{:?} lives on", process.path());
        }
        // The sight of `vmm top`: an abstract socket.
        let sockets = fs::read_to_string("/proc/net/unix").expect("/proc/net/unix");
        assert!(!sockets.lines().any(|line| line.ends_with(&format!("@vmm/{pid}"))), "{sockets}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Memory that is shared by name, and the host's huge pages that somebody has.
fn shared_and_huge() -> (usize, String) {
    let shared = fs::read_dir("/dev/shm").map_or(0, Iterator::count);
    let memory = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    (shared, memory.lines().filter(|line| line.starts_with("HugePages_Free")).collect())
}

#[test]
fn what_was_flushed_is_there_and_nothing_is_in_the_way() {
    let Some(_) = any_guest() else { return };
    let kills = from_environment("KILLS").unwrap_or(if in_lab() { 8 } else { 20 });
    let seed = from_environment("KILLS_SEED").filter(|seed| *seed > 0).unwrap_or(0x5eed);
    let mut moments = Moments(seed);
    let before = shared_and_huge();
    for way in WAYS {
        let mut disk = Disk::new(way);
        let first = disk.machine(FIRST).run();
        if first.status == 66 {
            skip(&format!("{way}: {}", first.stderr.trim_end()));
            continue;
        }
        first.expect("exit", 0);
        disk.is_free();
        disk.judge(&first);
        assert_eq!(disk.kept, 100, "{}", first.stdout);
        let report = format!("json:{}", disk.folder.join("report").display());
        let machine = disk.machine(JOURNAL).args(["--report", &report]);
        for kill in 0..kills.div_ceil(WAYS.len() as u64) {
            let mut running = machine.spawn();
            let pid = running.pid();
            // One in four while it starts, the others while it writes.
            if kill % 4 != 3 {
                running.until("kept");
            }
            sleep(moments.within(if in_lab() { 400 } else { 40 }));
            running.signal("KILL");
            let killed = running.end();
            assert_eq!(killed.status, 128 + 9, "{way}, seed {seed}: {}", killed.stderr);
            disk.judge(&killed);
            disk.is_left_alone(pid);
        }
        let last = disk.machine(LAST).run();
        last.expect("exit", 0);
        disk.judge(&last);
        let (kept, ahead, looked) = (disk.kept, disk.ahead, disk.looked);
        assert_eq!(last.value(LAST, "found"), kept);
        // The guest would have noticed.
        disk.spoil(kept);
        assert_eq!(disk.machine(LAST).run().value(LAST, "found"), kept - 1);
        note(
            "figure",
            &format!("{way}: {looked} starts, {kept} records kept, {ahead} starts found more than was said"),
        );
    }
    assert_eq!(shared_and_huge(), before);
}
