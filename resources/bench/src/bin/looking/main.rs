//! What looking costs: the same exits of a guest that does nothing else, with no trace (A), with
//! `--trace-exits` (B) and under `perf kvm stat record` (C), interleaved A B C C B A. Cost is CPU time of
//! all processes together beyond that of A; B's is to be at most a quarter of C's.
//! `resources/bench/looking` runs it where KVM takes exits from the processor.
//!
//! - [`sys`]  CPU time of children

mod sys;

use std::io::{self, Error};
use std::process::{Command, ExitCode, Stdio};

/// A target of the project: cost of the trace over that of perf.
const TARGET: f64 = 0.25;

/// How a guest is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Not,
    Trace,
    Perf,
}

const LOOKS: [Look; 3] = [Look::Not, Look::Trace, Look::Perf];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vmm, exits, rounds] = &arguments[..] else {
        eprintln!("looking: needs the path of vmm, a number of exits and one of rounds");
        return ExitCode::from(64);
    };
    match (exits.parse(), rounds.parse()) {
        (Ok(exits), Ok(rounds)) => match run(vmm, exits, rounds) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("looking: {error}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(64),
    }
}

fn run(vmm: &str, exits: u64, rounds: usize) -> io::Result<()> {
    println!("a guest of {exits} CPUIDs, CPU time of all processes in ms");
    println!("{:>8}{:>12}{:>12}{:>12}", "round", "no trace", "traced", "perf");
    let mut all: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        let mut sums = [0.0; 3];
        for look in LOOKS.into_iter().chain(LOOKS.into_iter().rev()) {
            sums[look as usize] += one(vmm, exits, look)? / 2.0;
        }
        println!("{round:>8}{:>12.1}{:>12.1}{:>12.1}", sums[0], sums[1], sums[2]);
        for (all, sum) in all.iter_mut().zip(sums) {
            all.push(sum);
        }
    }
    let [not, trace, perf] = all.map(median);
    let (trace, perf) = (trace - not, perf - not);
    let each = |ms: f64| ms * 1e6 / exits as f64;
    println!(
        "median cost of an exit: traced {:.0} ns, perf kvm stat record {:.0} ns",
        each(trace),
        each(perf)
    );
    println!("ratio {:.2}; aimed at: at most {TARGET}", trace / perf);
    Ok(())
}

/// CPU time of one run, in milliseconds.
fn one(vmm: &str, exits: u64, look: Look) -> io::Result<f64> {
    let record = std::env::temp_dir().join(format!("looking-{}.data", std::process::id()));
    let guest = format!("probe,what=cpuid,items={exits}");
    let mut command = match look {
        Look::Perf => {
            let mut perf = Command::new("perf");
            perf.args(["kvm", "stat", "record", "-o"]).arg(&record).arg(vmm);
            perf
        }
        _ => Command::new(vmm),
    };
    command.args(["--memory", "64M", "--console", "none", "--report", "none", "--workload", &guest]);
    command.args((look == Look::Trace).then_some("--trace-exits"));
    let before = sys::children_ms();
    let done = command.stdin(Stdio::null()).output()?;
    let ms = sys::children_ms() - before;
    let _ = std::fs::remove_file(&record);
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() || said.contains("not traced") || said.contains("lost") {
        return Err(Error::other(format!("{look:?}: {}: {said}", done.status)));
    }
    Ok(ms)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
