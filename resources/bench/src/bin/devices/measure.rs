//! One machine, from its start to its end: what was counted while each work went on.

use std::io::{self, Read};
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use bench::counts::{self, Counts, Histogram};
use bench::sys;

use crate::guest::{BEGIN, END, RESULT, SECONDS, WORKS};
use crate::monitor::{Parts, Setting};
use crate::work::{self, Work};

/// What one work has cost.
#[derive(Clone, Debug)]
pub struct Sample {
    pub work: Work,
    pub ops: u64,
    pub ns: u64,
    pub exits: u64,
    pub userspace: u64,
    pub injected: u64,
    /// Of the monitor's threads and of the kernel's on its behalf.
    pub cpu_ns: u64,
    pub traced: Option<Traced>,
}

/// What costs time to count.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Exits by hardware reason.
    pub reasons: Counts,
    /// Accesses of model-specific registers, and interrupts injected, by vector.
    pub registers: Counts,
    pub vectors: Counts,
    pub syscalls: u64,
}

impl Traced {
    /// What came since `before`.
    fn since(mut self, before: &Traced) -> Traced {
        let pairs = [
            (&mut self.reasons, &before.reasons),
            (&mut self.registers, &before.registers),
            (&mut self.vectors, &before.vectors),
        ];
        for (now, before) in pairs {
            for (key, hits) in before {
                if let Some(more) = now.get_mut(key) {
                    *more -= hits;
                }
            }
        }
        self.syscalls -= before.syscalls;
        self
    }
}

/// A machine that takes this long, and its works, has wedged.
const LIMIT: Duration = Duration::from_secs(120);

/// So long it has for its last words.
const GRACE: Duration = Duration::from_secs(5);

/// Counters at one time.
struct Snapshot {
    exits: u64,
    userspace: u64,
    injected: u64,
    cpu_ns: u64,
    traced: Option<Traced>,
}

/// Counters of this run.
struct Meters {
    pid: u32,
    userspace: Histogram,
    traced: Option<[Histogram; 4]>,
}

impl Meters {
    fn arm(pid: u32, traced: bool) -> io::Result<Meters> {
        let userspace = Histogram::arm("kvm/kvm_userspace_exit", "reason")?;
        let all = || -> io::Result<_> {
            Ok([
                Histogram::arm("kvm/kvm_exit", "isa,exit_reason")?,
                Histogram::arm("kvm/kvm_msr", "write,ecx")?,
                // Its name depends on the kernel's version.
                Histogram::arm("kvm/kvm_inj_virq", "vector")
                    .or_else(|_| Histogram::arm("kvm/kvm_inj_virq", "vec"))?,
                Histogram::arm("raw_syscalls/sys_enter", "common_pid")?,
            ])
        };
        Ok(Meters { pid, userspace, traced: if traced { Some(all()?) } else { None } })
    }

    fn read(&self) -> io::Result<Snapshot> {
        let look = |[reasons, registers, vectors, calls]: &[Histogram; 4]| -> io::Result<_> {
            Ok(Traced {
                reasons: reasons.read()?,
                registers: registers.read()?,
                vectors: vectors.read()?,
                syscalls: self.ours(&calls.read()?),
            })
        };
        let traced = self.traced.as_ref().map(look).transpose()?;
        Ok(Snapshot {
            exits: counts::kvm("exits")?,
            userspace: self.userspace.read()?.values().sum(),
            injected: counts::kvm("irq_injections")?,
            cpu_ns: counts::cpu_ns(self.pid)? + counts::kernel_threads_ns(&format!("vhost-{}", self.pid))?,
            traced,
        })
    }

    /// System calls of the monitor's threads.
    fn ours(&self, by_thread: &Counts) -> u64 {
        let thread = |key: &str| key.rsplit([' ', '[', ']']).find_map(|word| word.parse::<u32>().ok());
        let task = |id| std::path::Path::new(&format!("/proc/{}/task/{id}", self.pid)).exists();
        by_thread.iter().filter(|(key, _)| thread(key).is_some_and(task)).map(|(_, hits)| hits).sum()
    }
}

/// Runs `works` on one machine.
pub fn run(
    setting: &Setting,
    parts: &Parts,
    works: &[Work],
    seconds: u64,
    traced: bool,
) -> io::Result<Vec<Sample>> {
    let words: Vec<&str> = works.iter().map(|work| work.word()).collect();
    let parameters = format!("{WORKS}={} {SECONDS}={seconds}", words.join(","));
    let mut machine = Machine(setting.command(parts, &parameters).spawn()?);
    let bytes = machine.listen()?;
    let samples = follow(&machine, &bytes, works.len(), traced);
    samples.map_err(|error| io::Error::other(format!("{}: {error}{}", setting.name, machine.last_words())))
}

/// Until there is a sample of each work.
fn follow(machine: &Machine, bytes: &Receiver<u8>, works: usize, traced: bool) -> io::Result<Vec<Sample>> {
    let meters = Meters::arm(machine.0.id(), traced)?;
    let began = Instant::now();
    let (mut samples, mut line) = (Vec::new(), Vec::new());
    let (mut before, mut after) = (None, None);
    while samples.len() < works {
        let left = LIMIT.saturating_sub(began.elapsed());
        let byte = match bytes.recv_timeout(left) {
            Ok(byte) => byte,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(io::Error::other("it ended too early")),
            Err(_) => return Err(io::Error::other("no word from the guest")),
        };
        match byte {
            BEGIN => before = Some(meters.read()?),
            END => after = Some(meters.read()?),
            b'\n' => {
                let text = String::from_utf8_lossy(&line).trim().to_string();
                line.clear();
                if let (Some((work, ops, ns)), Some(before), Some(after)) =
                    (result(&text), before.take_if(|_| after.is_some()), after.take())
                {
                    samples.push(sample(work, ops, ns, before, after));
                } else if text.contains("failed: ") || text.contains("panic") {
                    return Err(io::Error::other(text));
                }
            }
            byte => line.push(byte),
        }
    }
    Ok(samples)
}

/// `result WORK OPS NS`.
fn result(line: &str) -> Option<(Work, u64, u64)> {
    let rest = &line[line.find(RESULT)? + RESULT.len()..];
    let [work, ops, ns] = *rest.split(' ').collect::<Vec<_>>() else { return None };
    Some((work::Work::parse(work)?, ops.parse().ok()?, ns.parse().ok()?))
}

fn sample(work: Work, ops: u64, ns: u64, before: Snapshot, after: Snapshot) -> Sample {
    Sample {
        work,
        ops: ops.max(1),
        ns: ns.max(1),
        exits: after.exits - before.exits,
        userspace: after.userspace - before.userspace,
        injected: after.injected - before.injected,
        cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
        traced: after.traced.zip(before.traced).map(|(after, before)| after.since(&before)),
    }
}

/// Killed when dropped.
struct Machine(Child);

impl Machine {
    /// The bytes of its console, as they come.
    fn listen(&mut self) -> io::Result<Receiver<u8>> {
        let output = self.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut output = output;
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                // Nobody listens any more where the run was given up.
                for &byte in &bytes[..count] {
                    let _ = sender.send(byte);
                }
            }
        });
        Ok(receiver)
    }

    /// What it said on stderr, once it is at its end.
    fn last_words(&mut self) -> String {
        // `vmm` says where it stood.
        let asked = Instant::now();
        let _ = sys::ask_to_end(self.0.id());
        while asked.elapsed() < GRACE && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        if said.is_empty() { said } else { format!("; it said: {}", said.trim()) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_behind_what_else_is_on_the_line() {
        assert_eq!(result("\u{0}result out 12 345"), Some((Work::Out, 12, 345)));
        assert_eq!(result("result out 12"), None);
        assert_eq!(result("Run /init"), None);
    }
}
