//! `vmm topology`: several machines as one thing: joined, started and ended together, with one report.
//!
//! - [`file`]     what is written: machines, and the paths between them
//! - [`host`]     whether this host can do a path
//! - [`join`]     a path made: taps on a bridge, a switch, another program
//! - [`leftovers`]  what one that was killed has left, removed
//! - [`session`]  all processes from the first to the last
//! - [`model`]    what came of it, as data: `vmm.topology/1`; [`text`]: for people

mod error;
pub mod file;
pub mod host;
mod join;
mod leftovers;
mod model;
mod session;
mod text;

use std::time::Duration;

pub use error::Error;
use file::Scene;
pub use model::SCHEMA;

use crate::config::Report;
use crate::report::{json, write};
use crate::status::{Failure, Status};

/// One topology by one path.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scene: Scene,
    /// Flags of each machine, without its card and its report.
    pub flags: Vec<Vec<String>>,
    /// Of the switch, without its ports and its report.
    pub switch: Vec<String>,
    pub reports: Vec<Report>,
    pub timeout: Option<Duration>,
}

/// Runs it to its end and tells.
pub fn run(plan: &Plan) -> Result<Status, Failure> {
    write::check(&plan.reports)?;
    if let Some(lack) = host::lacks(&plan.scene) {
        return Err(Error::Lacks { path: plan.scene.path.name.clone(), lack }.into());
    }
    let (outcome, status) = session::run(plan)?;
    let report = model::Report::new(&plan.scene, outcome, status);
    write::each(&plan.reports, || text::render(&report), || json::render(&report))?;
    Ok(status)
}

/// Those that the program carries, for people.
pub fn list() -> Result<String, Error> {
    Ok(text::list(&file::all()?))
}
