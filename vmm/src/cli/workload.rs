//! `vmm workload NAME`: a built-in workload on this kernel, for the baseline column.

use crate::cli::usage::Usage;
use crate::config::boot;

/// Run a built-in workload natively, on this kernel, for the baseline column
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME[,key=value…], as --workload takes it; `vmm --help workloads` lists them
    #[arg(value_name = "NAME")]
    name: String,
    /// key=value, more of the same
    #[arg(value_name = "ARGS")]
    keys: Vec<String>,
}

impl Args {
    /// The workload with its keys, as the table of workloads accepts it.
    pub fn resolve(self) -> Result<String, Usage> {
        let mut text = self.name;
        for key in self.keys {
            text.push(',');
            text.push_str(&key);
        }
        boot::workload(&text).map_err(|why| Usage { object: "workload".into(), value: Some(text), why })
    }
}
