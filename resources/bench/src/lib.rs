//! What the benchmarks share.
//!
//! - [`initramfs`] the archive that holds a benchmark's own program as process 1, and modules
//! - [`counts`]    exits from KVM's debugfs and tracepoints, memory and CPU time from /proc
//! - [`table`]     columns, medians
//! - [`tap`]       a tap of the host's own network
//! - [`sys`]       what has no safe wrapper: port writes, a guest's network address

pub mod counts;
pub mod initramfs;
pub mod sys;
pub mod table;
pub mod tap;
