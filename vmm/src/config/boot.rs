//! `--kernel`, `--initrd`, `--cmdline`, `--modules`, `--boot`, `--workload`: what runs.

use std::path::PathBuf;
use std::str::FromStr;

use abi::workload::Spec;

use super::word::{self, UnknownWord};

/// What runs.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// `None`: the built-in guest kernel.
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
    /// A kernel's `lib/modules/VERSION`; `None`: looked for beside the kernel.
    pub modules: Option<PathBuf>,
    pub protocol: Protocol,
    /// `NAME[,key=value…]`, in command-line order.
    pub workloads: Vec<String>,
}

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Linux by its 64-bit entry; anything else by PVH.
    #[default]
    Auto,
    Linux,
    Pvh,
}

impl FromStr for Protocol {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Protocol, UnknownWord> {
        word::choose(text, &[("auto", Protocol::Auto), ("linux", Protocol::Linux), ("pvh", Protocol::Pvh)])
    }
}

/// Why these do not go together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    #[error("goes with --kernel: the built-in guest kernel has no use for it")]
    NeedsKernel,
    #[error("is for the built-in init, which --initrd replaces")]
    ReplacedInit,
    #[error("{name} runs in the built-in guest kernel only: leave --kernel out")]
    NotInLinux { name: &'static str },
    #[error("{name} runs under Linux only: --kernel names one")]
    NotInKernel { name: &'static str },
    #[error("{name} runs natively only: vmm workload {name}")]
    NotInAGuest { name: &'static str },
}

impl Boot {
    /// Whether the guest storms against all devices that there are, those without a driver included.
    pub fn storms(&self) -> bool {
        let specs = self.workloads.iter().filter_map(|text| Spec::parse(text).ok());
        self.kernel.is_none() && specs.into_iter().any(|spec| spec.workload.name == "chaos")
    }

    /// Whether a workload is a program on a disk.
    pub fn runs_tools(&self) -> bool {
        let mut specs = self.workloads.iter().filter_map(|text| Spec::parse(text).ok());
        specs.any(|spec| spec.workload.name == "tool")
    }

    /// Refuses what would be ignored; names the flag.
    pub fn check(&self) -> Result<(), (&'static str, BootError)> {
        let (builtin, own_init) = (self.kernel.is_none(), self.initrd.is_some());
        let modules = self.modules.is_some();
        let rules = [
            ("modules", builtin && modules, BootError::NeedsKernel),
            ("boot", builtin && self.protocol != Protocol::Auto, BootError::NeedsKernel),
            ("modules", own_init && modules, BootError::ReplacedInit),
            ("workload", !builtin && own_init && !self.workloads.is_empty(), BootError::ReplacedInit),
        ];
        if let Some((flag, _, error)) = rules.into_iter().find(|(_, broken, _)| *broken) {
            return Err((flag, error));
        }
        let specs = self.workloads.iter().filter_map(|text| Spec::parse(text).ok());
        for workload in specs.map(|spec| spec.workload) {
            let (name, places) = (workload.name, workload.places);
            let error = match (builtin, places.kernel, places.linux) {
                (true, true, _) | (false, _, true) => continue,
                (true, false, true) => BootError::NotInKernel { name },
                (false, true, false) => BootError::NotInLinux { name },
                (_, false, false) => BootError::NotInAGuest { name },
            };
            return Err(("workload", error));
        }
        Ok(())
    }
}

/// A kernel command line that no kernel could be given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("holds a NUL byte, which would end it for the kernel")]
pub struct CmdlineError;

/// A command line of any length: what is too long depends on the kernel's own header.
pub fn cmdline(text: &str) -> Result<String, CmdlineError> {
    if text.contains('\0') { Err(CmdlineError) } else { Ok(text.to_owned()) }
}

/// `NAME[,key=value…]` as the table of workloads accepts it.
pub fn workload(text: &str) -> Result<String, String> {
    let refused = |refusal: String| refusal.strip_prefix("workload ").map(str::to_owned).unwrap_or(refusal);
    Spec::parse(text).map(|spec| spec.text().to_owned()).map_err(|refusal| refused(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(kernel: bool, initrd: bool, workloads: &[&str]) -> Boot {
        let file = |is: bool| is.then(|| PathBuf::from("x"));
        let workloads = workloads.iter().map(|text| workload(text).unwrap()).collect();
        Boot { kernel: file(kernel), initrd: file(initrd), workloads, ..Boot::default() }
    }

    #[test]
    fn nothing_is_ignored() {
        assert_eq!(boot(false, false, &["ipc,items=5"]).check(), Ok(()));
        assert_eq!(boot(true, true, &[]).check(), Ok(()));
        assert_eq!(boot(false, true, &["root"]).check(), Ok(()));
        assert_eq!(boot(true, true, &["null"]).check(), Err(("workload", BootError::ReplacedInit)));
        let pvh = Boot { protocol: Protocol::Pvh, ..Boot::default() };
        assert_eq!(pvh.check(), Err(("boot", BootError::NeedsKernel)));
        let modules = Boot { modules: Some("x".into()), ..boot(true, true, &[]) };
        assert_eq!(modules.check(), Err(("modules", BootError::ReplacedInit)));
    }

    #[test]
    fn a_workload_runs_where_it_can() {
        let refused = |kernel, workload| boot(kernel, false, &[workload]).check().unwrap_err().1;
        assert_eq!(refused(false, "shell"), BootError::NotInKernel { name: "shell" });
        assert_eq!(refused(true, "root"), BootError::NotInLinux { name: "root" });
    }

    #[test]
    fn a_command_line_ends_where_it_ends() {
        assert_eq!(cmdline("quiet -- a"), Ok("quiet -- a".into()));
        assert_eq!(cmdline("a\0b"), Err(CmdlineError));
    }
}
