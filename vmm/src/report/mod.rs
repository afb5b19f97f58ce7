//! What a run has shown: facts → report → text, JSON.
//!
//! - [`facts`]      what the run of a machine leaves behind
//! - [`birth`]      when this process began
//! - [`host`]       which host it was
//! - [`model`]      the report as data: `vmm.report/1`
//! - [`build`]      facts → model, from the parts
//!   [`userspace`] (ledgers → rows), [`kernel`] (KVM's counters, and which to believe),
//!   [`hardware`] (the tracer's counts), [`adds_up`] (what is left over), `hot` and `advice` (what took most time), [`phases`], [`resolved`] (configuration), [`got`] and
//!   [`evidence`] (knobs)
//! - [`text`], [`json`]  the model for people and for programs
//! - [`write`]      to stderr, to files

pub mod adds_up;
mod advice;
pub mod birth;
mod build;
mod device;
pub mod evidence;
pub mod facts;
pub mod got;
pub mod hardware;
pub mod host;
mod hot;
pub mod json;
pub mod kernel;
pub mod model;
pub mod phases;
pub mod resolved;
pub mod text;
pub mod userspace;
pub mod write;

#[cfg(test)]
mod tests;

pub use birth::Birth;
pub use build::build;
pub use facts::{Facts, Got, MarkFacts, MemoryFacts, VcpuFacts};
pub use host::Host;
pub use model::Report;
