//! What every test of whole machines shares: run the binary as a user does, judge it by its report.
//!
//! - [`host`]     what this machine's /dev/kvm can run; a test that cannot run says so in words
//! - [`initrd`]   an initramfs of a shell script
//! - [`kernels`]  Debian's kernels, where `resources/lab/kernels` put them
//! - [`machine`]  one run of the binary: arguments in; status, output and report out
//! - [`shell`]    a Linux guest with a shell on its console
//! - [`tap`]      interfaces of a test's own, and a host behind them
//! - [`terminal`] a user at a terminal
//! - [`threads`]  what the threads of a process do
//! - [`tools`]    a disk of programs for guests to run
//! - [`tiny`]     guests of a few instructions, which run on every kind of host
//! - [`user`]     somebody who is not root

// Each test binary includes this room and uses its own part of it.
#![allow(dead_code)]

pub mod host;
pub mod initrd;
pub mod kernels;
pub mod machine;
pub mod shell;
pub mod tap;
pub mod terminal;
pub mod threads;
pub mod tiny;
pub mod tools;
pub mod user;
