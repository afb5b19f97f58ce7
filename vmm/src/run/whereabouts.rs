//! Where each vCPU is, and how often it has halted: for the workers of devices, which may follow the one that
//! waits for them (`--follow-vcpu`).

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use devices::virtio::beside::Vcpu;
use devices::virtio::userspace::Follows;

use crate::config::{Config, Idle};
use crate::kvm::stats::Statistics;
use crate::status::say;
use crate::sys::affinity;

/// Of one machine, filled in as it starts.
pub struct Whereabouts {
    /// By vCPU, once it has started.
    threads: Vec<OnceLock<Thread>>,
    statistics: OnceLock<Arc<Statistics>>,
    /// CPUs that workers may use.
    everywhere: Vec<usize>,
    /// Whether any is to be followed.
    followed: bool,
    pinned: Vec<String>,
}

/// A vCPU's thread.
struct Thread {
    number: i32,
    /// CPUs that it may use by itself.
    everywhere: Vec<usize>,
    /// Workers for which it is kept where they are.
    kept: Mutex<u32>,
}

impl Thread {
    /// On this CPU, for one more worker.
    fn keep(&self, cpu: usize) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        affinity::allow(self.number, &[cpu])?;
        *kept += 1;
        Ok(())
    }

    /// By one of them.
    fn let_go(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept -= 1;
        if *kept == 0 {
            // It may have ended.
            let _ = affinity::allow(self.number, &self.everywhere);
        }
    }
}

impl Whereabouts {
    pub fn of(config: &Config) -> Arc<Whereabouts> {
        let everywhere = affinity::allowed();
        Arc::new(Whereabouts {
            threads: (0..config.vcpus).map(|_| OnceLock::new()).collect(),
            statistics: OnceLock::new(),
            // A vCPU that does not leave its CPU to halt has nothing to give away.
            followed: config.virtio.follow_vcpu && config.idle != Idle::Native && everywhere.len() > 1,
            everywhere,
            pinned: config.pin.workers.iter().map(|(worker, _)| worker.clone()).collect(),
        })
    }

    /// The calling thread is this vCPU's. Returns the CPUs that it may use.
    pub fn sits(&self, vcpu: u8) -> Vec<usize> {
        let everywhere = affinity::allowed();
        let thread =
            Thread { number: affinity::thread(), everywhere: everywhere.clone(), kept: Mutex::new(0) };
        if let Some(place) = self.threads.get(usize::from(vcpu)) {
            // Once for each.
            let _ = place.set(thread);
        }
        everywhere
    }

    /// Where halts are counted.
    pub fn count_by(&self, statistics: &Arc<Statistics>) {
        // Once for each machine.
        let _ = self.statistics.set(statistics.clone());
    }

    /// Whom workers of the device called `name` follow: it has `workers` of them, each with so many `queues`.
    /// Linux has vCPU n use the nth where there is one for each; of fewer nobody knows who uses which.
    pub fn follows(self: &Arc<Self>, name: &str, workers: u16, queues: u16) -> Follows {
        let all = self.clone();
        let mine = usize::from(workers) == self.threads.len()
            && !self.pinned.contains(&name.replace('.', ""))
            && self.followed;
        Arc::new(move |first| {
            let vcpu = usize::from(first / queues);
            mine.then(|| {
                Box::new(Followed { all: all.clone(), vcpu, stat: OnceCell::new() }) as Box<dyn Vcpu>
            })
        })
    }
}

/// One vCPU, as a worker sees it.
struct Followed {
    all: Arc<Whereabouts>,
    vcpu: usize,
    /// Its thread's line in /proc.
    stat: OnceCell<Option<File>>,
}

impl Followed {
    fn thread(&self) -> Option<&Thread> {
        self.all.threads.get(self.vcpu)?.get()
    }
}

impl Vcpu for Followed {
    fn halts(&self) -> Option<u64> {
        self.all.statistics.get()?.halts(self.vcpu)
    }

    fn cpu(&self) -> Option<usize> {
        let stat = self
            .stat
            .get_or_init(|| File::open(format!("/proc/self/task/{}/stat", self.thread()?.number)).ok());
        let mut line = [0; 512];
        let len = stat.as_ref()?.read_at(&mut line, 0).ok()?;
        let cpu = parse_cpu(std::str::from_utf8(&line[..len]).ok()?)?;
        self.all.everywhere.contains(&cpu).then_some(cpu)
    }

    fn keep(&self, cpu: Option<usize>) -> bool {
        let Some(thread) = self.thread() else { return false };
        let kept = match cpu {
            Some(cpu) => {
                thread.keep(cpu).and_then(|()| affinity::allow(0, &[cpu]).inspect_err(|_| thread.let_go()))
            }
            None => {
                thread.let_go();
                affinity::allow(0, &self.all.everywhere)
            }
        };
        kept.inspect_err(|error| say(format_args!("keep a worker with its vCPU: {error}"))).is_ok()
    }
}

/// The 39th of a line whose second is in brackets and may hold anything (proc(5), /proc/pid/stat: processor).
fn parse_cpu(stat: &str) -> Option<usize> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &str) -> Config {
        let args = std::iter::once("vmm").chain(flags.split(' ')).map(Into::into);
        match crate::cli::parse(args) {
            Ok(crate::cli::Command::Run(config)) => *config,
            _ => panic!("{flags} is no machine"),
        }
    }

    #[test]
    fn the_cpu_of_a_thread_is_found_in_its_line() {
        let line = "7 (v) cpu 0) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 \
                    31 32 33 34 35 5 0 0";
        assert_eq!(parse_cpu(line), Some(5));
        assert_eq!(parse_cpu("7 (vcpu0) S 1"), None);
    }

    #[test]
    fn a_queue_for_each_vcpu_is_followed_and_no_other() {
        let follows = |flags: &str, worker: &str, workers| {
            let all = Whereabouts::of(&config(flags));
            (all.follows(worker, workers, 2)(2).is_some(), all.everywhere.len() > 1)
        };
        for (flags, worker, workers, followed) in [
            ("--vcpus=2", "net.0", 2, true),
            ("--vcpus=2", "net.0", 1, false),
            ("--vcpus=2 --disk=path=a --pin=blk0@0", "blk.0", 2, false),
            ("--vcpus=2 --disk=path=a --pin=blk0@0", "net.0", 2, true),
            ("--vcpus=2 --idle=native", "net.0", 2, false),
            ("--vcpus=2 --follow-vcpu=off", "net.0", 2, false),
        ] {
            let (some, several) = follows(flags, worker, workers);
            assert_eq!(some, followed && several, "{flags} {worker} {workers}");
        }
    }

    fn followed(all: &Arc<Whereabouts>) -> Followed {
        Followed { all: all.clone(), vcpu: 0, stat: OnceCell::new() }
    }

    #[test]
    fn a_thread_is_where_it_says_and_a_worker_goes_there() {
        let all = Whereabouts::of(&config("--vcpus=1"));
        let cpus = all.everywhere.clone();
        let there = std::thread::spawn(move || {
            assert_eq!(all.sits(0), cpus);
            affinity::pin(cpus[0]).unwrap();
            let cpu = followed(&all).cpu();
            affinity::allow(0, &cpus).unwrap();
            assert!(cpu == Some(cpus[0]) && followed(&all).halts().is_none());
            let vcpu = affinity::thread();
            let worker = std::thread::spawn(move || {
                // Two workers: it is let go when neither is there any more.
                let (one, other) = (followed(&all), followed(&all));
                assert!(one.keep(cpu) && other.keep(cpu));
                assert_eq!((affinity::allowed(), affinity::allowed_of(vcpu)), (vec![cpus[0]], vec![cpus[0]]));
                assert!(one.keep(None));
                assert_eq!((affinity::allowed(), affinity::allowed_of(vcpu)), (cpus.clone(), vec![cpus[0]]));
                assert!(other.keep(None) && affinity::allowed_of(vcpu) == cpus);
            });
            worker.join().unwrap();
        });
        there.join().unwrap();
    }
}
