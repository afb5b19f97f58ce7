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
