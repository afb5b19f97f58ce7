//! Each figure, what is aimed at, and whether it is reached.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use bench::tap::Tap;

use crate::report::Report;
use crate::{BARE, Plan};

/// Runs of the built-in kernel to one of Linux: they are short, so that some are disturbed by nobody.
const SHORT: usize = 5;
const THEIR_CALLS: &str = "null,calls=100000";
/// A tap, and who is at its ends.
const TAP: &str = "kerneltap0";
const HOST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);

/// Measures and prints them all.
pub fn all(plan: &Plan) -> io::Result<()> {
    println!("{:<58} {:>10} {:>10}", "figure", "got", "aim");
    calls(plan)?;
    hand_overs(plan)?;
    ready(plan)?;
    disk(plan)?;
    // Who may not make a tap still has the other figures.
    card(plan).or_else(|error| {
        println!("udp: not measured: {error}");
        Ok(())
    })
}

/// Whether a figure is to be at least, or at most, what is aimed at.
#[derive(Clone, Copy)]
enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

fn row(figure: &str, got: Option<f64>, aim: Option<Aim>) {
    let number = |value: f64| match value {
        100.0.. => format!("{value:.0}"),
        0.01..0.1 => format!("{value:.3}"),
        ..0.1 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    };
    let shown = got.map_or("-".into(), number);
    let (sign, reached) = match (aim, got) {
        (Some(Aim::AtLeast(aim)), got) => (format!(">= {}", number(aim)), got.map(|got| got >= aim)),
        (Some(Aim::AtMost(aim)), got) => (format!("<= {}", number(aim)), got.map(|got| got <= aim)),
        (None, _) => (String::new(), None),
    };
    let verdict = match reached {
        Some(true) => "reached",
        Some(false) => "missed",
        None => "",
    };
    println!("{}", format!("{figure:<58} {shown:>10} {sign:>10}  {verdict}").trim_end());
}

fn ratio(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below?)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The shortest of the rounds: what others on this machine have disturbed least.
#[derive(Default)]
struct Best(Option<f64>);

impl Best {
    fn take(&mut self, time: Option<f64>) {
        self.0 = [self.0, time].into_iter().flatten().reduce(f64::min);
    }
}

/// The same workloads in a Linux guest.
fn linux(plan: &Plan, arguments: &[&str]) -> io::Result<Option<Report>> {
    let Some(kernel) = &plan.linux else { return Ok(None) };
    let kernel = kernel.display().to_string();
    Report::of(&plan.vmm, &[&["--kernel", &kernel, "--memory", "512M"], arguments].concat()).map(Some)
}

/// Nanoseconds of a call on this host's own kernel: the published figure's other side.
fn natively(plan: &Plan) -> io::Result<Option<f64>> {
    let output = Command::new(&plan.vmm).args(["workload", THEIR_CALLS]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |name: &str| {
        let mut words = text.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.parse::<f64>().ok())
    };
    Ok(ratio(number("ns="), number("ops=")))
}

fn calls(plan: &Plan) -> io::Result<()> {
    let (call, syscall, steps) =
        ("null,gate=call,calls=100000", "null,gate=syscall,calls=100000", "probe,what=steps,items=100");
    let workloads = ["--workload", call, "--workload", syscall, "--workload", steps];
    let (mut direct, mut crossing, mut theirs) = (Best::default(), Best::default(), Best::default());
    let mut metal = Best::default();
    let (mut instructions, mut crossed) = (None, None);
    for round in 0..SHORT * plan.rounds {
        let report = Report::of(&plan.vmm, &workloads)?;
        direct.take(report.each_ns(call));
        crossing.take(report.each_ns(syscall));
        let each = |name| report.value(steps, name).map(|all| all as f64 / 200.0);
        (instructions, crossed) = (each("instructions"), each("by_syscall"));
        metal.take(natively(plan)?);
        if round == 0 && report.each_ns(syscall).is_none() {
            println!("null: by syscall from ring 3: {}", report.outcome(syscall));
        }
        if round < plan.rounds
            && let Some(linux) = linux(plan, &["--workload", THEIR_CALLS])?
        {
            theirs.take(linux.each_ns(THEIR_CALLS));
        }
    }
    row("null: ns a direct call", direct.0, None);
    row(
        "null: a syscall from ring 3 over a direct call",
        ratio(crossing.0, direct.0),
        Some(Aim::AtLeast(7.3)),
    );
    let metal = ratio(metal.0, direct.0);
    row("null: this host's own Linux over a direct call", metal, Some(Aim::AtLeast(7.3)));
    if plan.linux.is_some() {
        let theirs = ratio(theirs.0, direct.0);
        row("null: the Linux guest's over a direct call", theirs, Some(Aim::AtLeast(7.3)));
    }
    row("null: instructions a direct call, its loop included", instructions, Some(Aim::AtMost(25.0)));
    row("null: instructions a syscall from ring 3", crossed, None);
    Ok(())
}

fn hand_overs(plan: &Plan) -> io::Result<()> {
    const ITEMS: f64 = 2_000.0;
    let (halt, spin) = ("ipc,items=2000", "ipc,items=2000,idle=spin:20000");
    let (mut halting, mut spinning, mut theirs) = (Best::default(), Best::default(), Best::default());
    let (mut halts, mut ipis) = (Vec::new(), Vec::new());
    for round in 0..SHORT * plan.rounds {
        let report = Report::of(&plan.vmm, &["--vcpus", "2", "--workload", halt, "--workload", spin])?;
        halting.take(report.each_ns(halt));
        spinning.take(report.each_ns(spin));
        halts.extend(report.halts(spin).map(|count| 100.0 * count as f64 / ITEMS));
        ipis.extend(report.value(spin, "ipis").map(|count| 100.0 * count as f64 / ITEMS));
        if round < plan.rounds
            && let Some(linux) = linux(plan, &["--vcpus", "2", "--workload", halt])?
        {
            theirs.take(linux.each_ns(halt));
        }
    }
    row("ipc: HLT exits in 100 items, spinning first", median(halts), Some(Aim::AtMost(1.0)));
    row("ipc: IPIs in 100 items, spinning first", median(ipis), Some(Aim::AtMost(1.0)));
    row("ipc: rate of spinning over halting", ratio(halting.0, spinning.0), Some(Aim::AtLeast(2.4)));
    if plan.linux.is_some() {
        row("ipc: rate of spinning over the Linux guest's", ratio(theirs.0, spinning.0), None);
    }
    Ok(())
}

fn ready(plan: &Plan) -> io::Result<()> {
    let ours = std::env::current_exe()?;
    let (mut bare, mut whole, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut private = None;
    for _ in 0..SHORT * plan.rounds {
        let output = Command::new(&ours).arg(BARE).output()?;
        let least = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>();
        let least =
            least.map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))?;
        let report = Report::of(&plan.vmm, &["--workload", "ready"])?;
        // Two that follow each other are disturbed alike.
        if let Some(us) = report.at("/time/exec_to_ready_us") {
            bare.push(least);
            whole.push(us as f64);
            ratios.push(us as f64 / least);
        }
        private = report.at("/memory/vmm_private_bytes").map(|bytes| bytes as f64 / 1024.0);
    }
    row("ready: us from exec until a bare probe has entered", median(bare), None);
    row("ready: us from exec until the kernel is ready", median(whole), None);
    row("ready: the kernel over a bare probe", median(ratios), Some(Aim::AtMost(2.0)));
    row("ready: KiB of private memory beyond the guest's", private, Some(Aim::AtMost(1024.0)));
    Ok(())
}

fn disk(plan: &Plan) -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("kernel-disk-{}", std::process::id()));
    File::create(&path)?.set_len(64 << 20)?;
    let disk = format!("path={}", path.display());
    let (few, many) = ("blk,blk=poll,items=10000", "blk,blk=poll,items=20000");
    let done = polled(plan, "blk", "request", ["--disk", &disk], few, many);
    let _ = std::fs::remove_file(&path);
    done
}

fn card(plan: &Plan) -> io::Result<()> {
    let tap = Tap::make(TAP, HOST)?;
    // Swallows them.
    let sink = UdpSocket::bind((HOST, 0))?;
    let to = format!("address={GUEST},peer={}", sink.local_addr()?);
    let datagrams = |items| format!("udp,role=send,net=poll,batch=32,items={items},{to}");
    let net = format!("tap={TAP}");
    let done = polled(plan, "udp", "datagram", ["--net", &net], &datagrams(10_000), &datagrams(20_000));
    drop(tap);
    done
}

/// What twice as many operations of a polled device cost more: the steady state, without bringing it up.
fn polled(plan: &Plan, name: &str, what: &str, device: [&str; 2], few: &str, many: &str) -> io::Result<()> {
    let [flag, keys] = device;
    let report = Report::of(
        &plan.vmm,
        &[flag, keys, "--busy-poll", "1000000", "--workload", few, "--workload", many],
    )?;
    let more = |count: &dyn Fn(&str) -> Option<u64>| {
        Some(count(many)?.saturating_sub(count(few)?) as f64 / 10_000.0)
    };
    for counter in ["interrupts", "kicks"] {
        let count = more(&|workload| report.value(workload, counter));
        row(&format!("{name}: {counter} a polled {what}"), count, Some(Aim::AtMost(0.001)));
    }
    let returns = more(&|workload| report.returns(workload));
    row(&format!("{name}: exits to the monitor a polled {what}"), returns, Some(Aim::AtMost(0.001)));
    let us = report.each_ns(many).map(|ns| ns / 1000.0);
    row(&format!("{name}: us a polled {what}"), us, None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(Vec::new())), (Some(2.0), None));
        assert_eq!((ratio(Some(6.0), Some(3.0)), ratio(None, Some(1.0))), (Some(2.0), None));
    }
}
