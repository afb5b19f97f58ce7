//! A machine that runs.
//!
//! - [`session`]    one machine from its configuration to its exit status
//! - [`machine`]    a thread for each vCPU, from the first instruction to the last
//! - [`vcpu`]       the vCPU loop: run, count, answer
//! - [`phases`]     from one mark of the guest to the next
//! - [`affinity`]   whether a thread may run where it is to be pinned
//! - [`cpu_group`]  a control group of its own, which limits its CPU time
//! - [`started`]    a vCPU's thread, from its start to its end
//! - [`seat`]       on its CPU, known to the tracer, in the sandbox
//! - [`whereabouts`] where each is now, for those who follow it
//! - [`threads`]    where a thread ran, and how long
//! - [`ledger`]     what each vCPU thread counts
//! - [`console`]    the serial port on this process's stdin and stdout
//! - [`signals`]    the signals that this process answers
//! - [`end`]        how a machine ended, in words
//! - [`afterwards`] what it has left behind, for the report
//! - [`last_words`] what a dying Linux says on its console
//! - [`supervise`]  the main thread: it waits, and says why the machine is to end
//! - [`settling`]   when pages of code are given back that only the past needed

pub mod affinity;
pub mod afterwards;
pub mod console;
pub mod cpu_group;
pub mod end;
pub mod last_words;
pub mod ledger;
pub mod machine;
pub mod phases;
pub mod seat;
pub mod session;
pub mod settling;
pub mod signals;
pub mod started;
pub mod supervise;
pub mod threads;
pub mod vcpu;
pub mod whereabouts;
