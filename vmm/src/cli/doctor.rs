//! `vmm doctor`: what this host can do, and how to mend what it can't.

/// Say what this host can do (KVM, vhost, huge pages, permissions, counters), and how to mend what it
/// can't; ends with 69 where there is no usable KVM, with 77 where there is no permission
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The same as JSON
    #[arg(long)]
    pub json: bool,
}
