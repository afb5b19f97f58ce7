//! A machine while it runs: its rates, once a second.
//!
//! - [`orders`]   what the main thread asks of vCPU threads, and what they hand over
//! - [`sight`]    a machine at one moment, as data: counts since its start
//! - [`watch`]    takes a sight each second, for whoever looks
//! - [`screen`]   two sights → text of 80 columns
//! - [`top`]      `vmm top`: somebody who looks from another terminal
//!
//! Nobody looks: nothing is counted, copied or woken for it. A machine listens on a socket; the main
//! thread, which sleeps in any case, hears of it. Somebody looks: once a second each vCPU thread is
//! kicked out of its guest and copies its ledger on its way back in. The ledger stays its thread's own,
//! without a lock.

pub mod orders;
pub mod screen;
pub mod sight;
pub mod top;
pub mod watch;
