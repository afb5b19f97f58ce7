//! Threads and CPUs.
//!
//! - [`thread`]     the table of threads
//! - [`ready`]      who can run, on each CPU
//! - [`waiters`]    who waits on which word
//! - [`scheduler`]  who runs: looks for work, then halts
pub mod ready;
#[cfg(target_os = "none")]
pub mod scheduler;
pub mod thread;
pub mod waiters;
