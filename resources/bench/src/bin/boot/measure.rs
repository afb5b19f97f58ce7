//! One run of each kind: timed, traced, idle.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bench::counts::{self, Beside, Counts, Histogram};

use crate::guest;
use crate::monitor::Monitor;

/// A kernel in one of its formats.
pub struct Image {
    pub name: &'static str,
    pub path: PathBuf,
}

/// A boot that takes longer than this will not come.
const LIMIT: Duration = Duration::from_secs(120);

/// Exec → first line of userspace, one list for each monitor. A B B A, after one run of each that
/// does not count.
pub fn times(
    monitors: &[Monitor],
    image: &Image,
    initrd: &Path,
    rounds: usize,
) -> io::Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); monitors.len()];
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..monitors.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for which in order {
            let began = Instant::now();
            let machine = Machine::boot(&monitors[which], image, initrd, "")?;
            let time = began.elapsed();
            drop(machine);
            if round > 0 {
                times[which].push(time);
            }
        }
    }
    Ok(times)
}

/// The exits of a boot, until process 1 ends the machine.
pub struct Traced {
    /// All exits, by hardware reason.
    pub reasons: Counts,
    /// Those that returned to the monitor, by KVM's reason.
    pub userspace: Counts,
    /// Further histograms: name, counts.
    pub others: Vec<(&'static str, Counts)>,
}

const OTHERS: [(&str, &str, &str); 6] = [
    ("ports", "kvm/kvm_pio", "port,rw"),
    ("MMIO", "kvm/kvm_mmio", "type,gpa.hex"),
    ("MSRs", "kvm/kvm_msr", "ecx.hex,write"),
    ("CPUID leaves", "kvm/kvm_cpuid", "function.hex,index.hex"),
    // By the kernel's version one of these.
    ("interrupts", "kvm/kvm_inj_virq", "vec"),
    ("interrupts", "kvm/kvm_inj_virq", "vector"),
];

impl Traced {
    pub fn measure(monitor: &Monitor, image: &Image, initrd: &Path, serial: bool) -> io::Result<Traced> {
        let reasons = Histogram::arm("kvm/kvm_exit", "exit_reason")?;
        let userspace = Histogram::arm("kvm/kvm_userspace_exit", "reason")?;
        let others: Vec<_> = OTHERS
            .iter()
            .filter_map(|(name, event, keys)| Some((*name, Histogram::arm(event, keys).ok()?)))
            .collect();
        let parameters = format!("{}=1", guest::END);
        let mut child = monitor.command(&image.path, initrd, &parameters, serial).spawn()?;
        let mut output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let reader = thread::spawn(move || output.read_to_end(&mut Vec::new()));
        let ended = wait(&mut child);
        let _ = reader.join();
        ended?;
        Ok(Traced {
            reasons: reasons.read()?,
            userspace: userspace.read()?,
            others: others
                .iter()
                .map(|(name, histogram)| Ok((*name, histogram.read()?)))
                .collect::<io::Result<_>>()?,
        })
    }
}

/// Ten seconds of a guest that does nothing, and what its monitor holds then.
pub struct Idle {
    pub exits: u64,
    pub userspace: u64,
    pub cpu_ms: u64,
    pub memory: Beside,
}

impl Idle {
    pub const TIME: Duration = Duration::from_secs(10);

    pub fn measure(monitor: &Monitor, image: &Image, initrd: &Path) -> io::Result<Idle> {
        let machine = Machine::boot(monitor, image, initrd, "")?;
        let pid = machine.0.id();
        // What a kernel still does by itself after boot is not idleness.
        thread::sleep(Duration::from_secs(5));
        let userspace = Histogram::arm("kvm/kvm_userspace_exit", "reason")?;
        let (exits, cpu) = (counts::kvm("exits")?, counts::cpu_ms(pid)?);
        thread::sleep(Idle::TIME);
        Ok(Idle {
            exits: counts::kvm("exits")? - exits,
            userspace: userspace.read()?.values().sum(),
            cpu_ms: counts::cpu_ms(pid)? - cpu,
            memory: counts::beside_guest(pid, &image.path)?,
        })
    }
}

/// A machine whose userspace has spoken; killed when dropped.
struct Machine(Child);

impl Machine {
    fn boot(monitor: &Monitor, image: &Image, initrd: &Path, parameters: &str) -> io::Result<Machine> {
        let mut child = monitor.command(&image.path, initrd, parameters, true).spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let machine = Machine(child);
        let (spoke, speaks) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if String::from_utf8_lossy(&line).contains(guest::READY) {
                    // Nobody listens any more where the run was given up.
                    let _ = spoke.send(());
                }
            }
        });
        match speaks.recv_timeout(LIMIT) {
            Ok(()) => Ok(machine),
            Err(_) => Err(io::Error::other(format!("{}: no line from userspace", monitor.name()))),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(child: &mut Child) -> io::Result<()> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other("the machine did not end"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
