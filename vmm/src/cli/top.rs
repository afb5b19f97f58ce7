//! `vmm top`: a machine's rates, from another terminal.

use crate::cli::usage::Usage;
use crate::live::top::Machine;

/// Show the rates of a machine that runs, each second, until it ends
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Process id of a vmm, or @NAME of its socket, as `ss -lx` shows it: vmm/PID
    #[arg(value_name = "PID|SOCKET")]
    machine: String,
    /// End after so many times
    #[arg(long, value_name = "N")]
    count: Option<u32>,
}

impl Args {
    /// Which machine, and how often.
    pub fn resolve(self) -> Result<(Machine, Option<u32>), Usage> {
        let wrong = || Usage {
            object: "top".into(),
            value: Some(self.machine.clone()),
            why: "not a process id, nor the name of a socket that begins with @".into(),
        };
        let machine = match self.machine.strip_prefix('@') {
            Some("") => return Err(wrong()),
            Some(name) => Machine::Socket(name.into()),
            None => Machine::Pid(self.machine.parse().map_err(|_| wrong())?),
        };
        Ok((machine, self.count))
    }
}
