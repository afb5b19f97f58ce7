//! `vmm switch`: a switch between machines, as typed.

use std::path::PathBuf;
use std::time::Duration;

use devices::switch::{Full, PORTS};

use super::usage::Usage;
use crate::config::report::Request;
use crate::config::{Report, timeout, virtio, word};
use crate::switch::Plan;

/// Switch frames between machines: a vhost-user backend with a port for each. SIGINT and SIGTERM end it
/// with its report; SIGUSR1 writes the report as of now
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket on which a port listens, for one machine at a time (vhost-user front ends: --net
    /// vhost-user=SOCKET, QEMU's -netdev vhost-user, DPDK's virtio-user); 2 to 64 ports
    #[arg(long = "port", value_name = "SOCKET", required = true)]
    ports: Vec<PathBuf>,
    /// A polling thread on each of these host CPUs, as in 2,3 [default: one thread, on any]
    #[arg(long = "cpu", value_name = "LIST", value_delimiter = ',')]
    cpus: Vec<u16>,
    /// Microseconds that a thread polls before it sleeps; on a CPU that others keep busy it polls by naps of
    /// 40 µs, counted in its report [default: 0]
    #[arg(long, value_name = "US", value_parser = virtio::busy_poll)]
    busy_poll: Option<Duration>,
    /// Where a receiver has no buffer: drop the frame and count it, or let the sender wait, until the
    /// receiver has taken nothing for a second [default: drop]
    #[arg(long, value_name = "drop|wait", value_parser = full)]
    full: Option<Full>,
    /// Seconds after which a silent Ethernet address is forgotten [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    age: Option<u32>,
    /// Report: text, json or none, to stderr or to :FILE; may be repeated [default: text]
    #[arg(long, value_name = "FORMAT[:FILE]")]
    report: Vec<Request>,
    /// A line on stderr for each port, every so many seconds [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = timeout::parse)]
    live: Option<Duration>,
    /// End, with the report, after so many seconds [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = timeout::parse)]
    timeout: Option<Duration>,
    /// Once it runs, it gives up privileges, files and system calls that it needs no more; off: to debug it
    /// [default: on]
    #[arg(long, value_name = "on|off", value_parser = word::switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    sandbox: Option<bool>,
}

fn full(text: &str) -> Result<Full, word::UnknownWord> {
    word::choose(text, &[("drop", Full::Drop), ("wait", Full::Wait)])
}

impl Args {
    /// What these flags mean together.
    pub fn resolve(self) -> Result<Plan, Usage> {
        let wrong = |flag: &str, value: Option<String>, why: String| Usage {
            object: format!("--{flag}"),
            value,
            why,
        };
        if !PORTS.contains(&self.ports.len()) {
            let (least, most) = (PORTS.start(), PORTS.end());
            return Err(wrong(
                "port",
                None,
                format!("a switch has {least} to {most}, not {}", self.ports.len()),
            ));
        }
        if let Some(port) = twice(&self.ports) {
            return Err(wrong("port", Some(port.display().to_string()), "is given twice".into()));
        }
        if let Some(cpu) = twice(&self.cpus) {
            return Err(wrong("cpu", Some(cpu.to_string()), "is given twice".into()));
        }
        Ok(Plan {
            ports: self.ports,
            cpus: self.cpus,
            busy_poll: self.busy_poll.unwrap_or_default(),
            full: self.full.unwrap_or_default(),
            age: Duration::from_secs(self.age.unwrap_or(300).into()),
            reports: Report::all(self.report).map_err(|error| Usage::flag("report", None, error))?,
            live: self.live,
            timeout: self.timeout,
            sandbox: self.sandbox.unwrap_or(true),
        })
    }
}

fn twice<T: PartialEq>(values: &[T]) -> Option<&T> {
    values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)).map(|(_, value)| value)
}
