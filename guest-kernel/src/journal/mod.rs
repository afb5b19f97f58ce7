//! A journal on a disk: numbered records, flushed in groups, that are found again after any end.
//!
//! Record `n` is a function of `n` alone and lies in slot `n % slots`, over the one that was there a round
//! before. The records of a group are under way together, then comes a flush, and only then does the
//! console say that they are kept. Whoever starts next may believe that.
//!
//! - [`record`]   what a record is, and whether one is whole
//! - [`find`]     from what each slot holds to the last record that can be believed
//! - `keep`       the workload

pub mod find;
#[cfg(target_os = "none")]
mod keep;
pub mod record;

#[cfg(target_os = "none")]
pub use keep::run;
