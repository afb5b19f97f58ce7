//! The switch between machines of the built-in kernel, as ratios to what this host can do at best, in one
//! run. `resources/bench/switch` runs it.
//!
//! - [`bare`]      a copy from ring to ring, and a flag between two CPUs
//! - [`topology`]  one run of `vmm topology`, by its report

mod bare;
mod topology;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use topology::Run;

const USAGE: &str = "switch --vmm FILE [--rounds N] | --flag";
/// A frame of 64 bytes less the headers of Ethernet, IPv4 and UDP.
const SMALL: &str = "size=22";

struct Plan {
    vmm: PathBuf,
    rounds: usize,
}

fn main() -> ExitCode {
    // For the script: nanoseconds, no more.
    if std::env::args().skip(1).eq(["--flag"]) {
        return match bare::flag(&vmm::sys::affinity::allowed()) {
            Ok(ns) => {
                println!("{ns:.0}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("switch: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match parse(std::env::args().skip(1)).map_err(io::Error::other).and_then(|plan| measure(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("switch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan { vmm: "vmm".into(), rounds: 3 };
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--vmm" => plan.vmm = value.into(),
            "--rounds" => plan.rounds = value.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.into()),
        }
    }
    if plan.rounds == 0 { Err(USAGE.into()) } else { Ok(plan) }
}

fn measure(plan: &Plan) -> io::Result<()> {
    let cpus = vmm::sys::affinity::allowed();
    // Where they take turns on a CPU, each needs the other's nap for every ring of datagrams, and every request.
    let few = cpus.len() < 3;
    if few {
        println!("machines and switch share {} CPUs: polled figures want one CPU each", cpus.len());
    }
    let (datagrams, requests) =
        if few { ("items=1000000", "items=2000") } else { ("items=2000000", "items=20000") };
    println!("{:<64} {:>10} {:>8}", "figure", "got", "aim");
    // Where the receiver is slower, its sender is to be paced by it: each datagram that is sent arrives.
    let polled = &["net=poll", "busy-poll=1000000", "full=wait", SMALL, "batch=64"];
    let one_way = best(plan, "udp-one-way", "switch", &[polled, &[datagrams][..]].concat())?;
    let copy = bare::copy();
    row("one bare copy of a 64-byte frame from ring to ring, ns", copy, None);
    row("one datagram in a 64-byte frame, one way, polled, ns", one_way.ns, None);
    row("that rate, of the bare copy's, %", 100.0 * copy / one_way.ns, Some((true, 15.0)));
    row("interrupts for a datagram, polled", one_way.interrupts, Some((false, 0.0)));
    row("kicks for a datagram, polled", one_way.kicks, Some((false, 0.001)));
    row("exits for a datagram, polled", one_way.exits, Some((false, 0.001)));
    let asleep = &["net=irq", "busy-poll=0", "full=wait", "batch=64", "items=256000", SMALL];
    let slept = best(plan, "udp-one-way", "switch", asleep)?;
    row("one datagram in a 64-byte frame, one way, asleep, ns", slept.ns, None);
    row("that rate, of the bare copy's, %", 100.0 * copy / slept.ns, None);
    row("interrupts for a datagram, asleep", slept.interrupts, Some((false, 1.0 / 64.0)));
    row("kicks for a datagram, asleep", slept.kicks, Some((false, 1.0 / 64.0)));
    let request = best(plan, "rr", "switch", &["net=poll", "busy-poll=1000000", requests])?;
    let flag = bare::flag(&cpus)?;
    row("a flag to another CPU and back, ns", flag, None);
    row("a request and its answer, polled, ns", request.ns, None);
    row("that, in round trips of the flag", request.ns / flag, Some((false, 5.0)));
    // Where three that poll share two CPUs each waits for the others' turns, whatever is between them: then
    // those that sleep say more.
    let by_bridge = [
        ("polled", one_way.ns, [polled, &["items=50000"][..]].concat()),
        ("asleep", slept.ns, [&asleep[..4], &["items=50000", SMALL]].concat()),
    ];
    for (how, switch, set) in by_bridge {
        match best(plan, "udp-one-way", "bridge", &set) {
            Ok(bridge) => {
                row(&format!("one datagram by a bridge and this process, {how}, ns"), bridge.ns, None);
                row(
                    &format!("the switch's rate to that one's, {how} (aimed at in the lab)"),
                    bridge.ns / switch,
                    Some((true, 8.0)),
                );
            }
            Err(why) => println!("by a bridge, {how}: skipped: {why}"),
        }
    }
    Ok(())
}

/// The shortest of the rounds: what others on this machine have disturbed least.
fn best(plan: &Plan, topology: &str, path: &str, set: &[&str]) -> io::Result<Run> {
    let vmm: &Path = &plan.vmm;
    let runs: Vec<Run> =
        (0..plan.rounds).map(|_| topology::run(vmm, topology, path, set)).collect::<io::Result<_>>()?;
    let best = runs.into_iter().min_by(|a, b| a.ns.total_cmp(&b.ns));
    best.ok_or_else(|| io::Error::other("no rounds"))
}

/// `aim`: at least, or else at most, so much.
fn row(figure: &str, got: f64, aim: Option<(bool, f64)>) {
    let number = |value: f64| match value {
        0.0 => "0".into(),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    let (aim, verdict) = match aim {
        None => (String::new(), ""),
        Some((true, aim)) => (format!(">= {}", number(aim)), if got >= aim { "reached" } else { "missed" }),
        Some((false, aim)) => (format!("<= {}", number(aim)), if got <= aim { "reached" } else { "missed" }),
    };
    println!("{}", format!("{figure:<64} {:>10} {aim:>8}  {verdict}", number(got)).trim_end());
}
