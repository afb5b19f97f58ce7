//! Why a topology cannot be run, or not be joined so.

use std::io;

use crate::config::input::InputError;
use crate::status::{Fatal, Status};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("topology {name}: no such topology; {hint}")]
    Unknown { name: String, hint: String },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("topology {name}: {why}")]
    File { name: String, why: String },
    #[error("--set {key}: topology {topology} has no such value; {hint}")]
    Set { key: String, topology: String, hint: String },
    #[error("--path {name}: topology {topology} has no such path; {hint}")]
    Path { name: String, topology: String, hint: String },
    #[error("path {path}: {}", lack.why)]
    Lacks { path: String, lack: Lack },
    #[error("{what} {object}: {error}")]
    Make { what: &'static str, object: String, error: io::Error },
    #[error("path {path}: {who} ended before it listened: {words}")]
    Silent { path: String, who: String, words: String },
}

/// What this host lacks, and how the program ends by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub status: Status,
    pub why: String,
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::Unknown { .. } | Error::Set { .. } | Error::Path { .. } => Status::Usage,
            Error::Input(_) | Error::File { .. } => Status::Image,
            Error::Lacks { lack, .. } => lack.status,
            Error::Make { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                Status::Permission
            }
            Error::Make { .. } | Error::Silent { .. } => Status::Device,
        }
    }
}
