//! `--prefault`: every page of guest memory before the first instruction.

use std::io;

use super::{Error, host};
use crate::config::Memory;
use crate::sys::mapping::Mapping;

/// Has the kernel provide every page, or says why it can't before it starts.
pub fn prefault(asked: &Memory, mappings: &mut [Mapping]) -> Result<(), Error> {
    host::can_populate(asked)?;
    for mapping in mappings {
        match mapping.populate(0, mapping.size()) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => mapping.touch(4096),
            result => result.map_err(|error| Error::Populate { asked: asked.size, error })?,
        }
    }
    Ok(())
}
