//! `--prefault`: every page of guest memory before the first instruction.

use std::io;

use super::{Error, host};
use crate::config::Memory;
use crate::sys::mapping::Mapping;

/// A write to every one of these reaches every page, whatever its size.
const SMALLEST_PAGE: usize = 4096;

/// Has the kernel provide every page, or says why it can't before it starts. One thread: a second one
/// was no faster, as the time goes into clearing memory, not into waiting.
pub fn prefault(asked: &Memory, mappings: &mut [Mapping]) -> Result<(), Error> {
    host::can_populate(asked)?;
    for mapping in mappings {
        match mapping.populate() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                mapping.as_mut_slice().iter_mut().step_by(SMALLEST_PAGE).for_each(|byte| *byte = 0);
            }
            result => result.map_err(|error| Error::Populate { asked: asked.size, error })?,
        }
    }
    Ok(())
}
