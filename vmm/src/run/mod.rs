//! A machine that runs.
//!
//! - [`ledger`]     what each vCPU thread counts
//! - [`console`]    the serial port on this process's stdin and stdout
//! - [`signals`]    the signals that this process answers
//! - [`supervise`]  the main thread: it waits, and says why the machine is to end

pub mod console;
pub mod ledger;
pub mod signals;
pub mod supervise;
