//! A machine that runs.
//!
//! - [`vcpu`]       the vCPU loop: run, count, answer
//! - [`phases`]     from one mark of the guest to the next
//! - [`threads`]    where a thread ran, and how long
//! - [`ledger`]     what each vCPU thread counts
//! - [`console`]    the serial port on this process's stdin and stdout
//! - [`signals`]    the signals that this process answers
//! - [`supervise`]  the main thread: it waits, and says why the machine is to end

pub mod console;
pub mod ledger;
pub mod phases;
pub mod signals;
pub mod supervise;
pub mod threads;
pub mod vcpu;
