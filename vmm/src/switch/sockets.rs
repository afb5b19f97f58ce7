//! Where a switch's ports listen. What is there already is never replaced, but for a socket at which nobody
//! listens: one whose switch was killed.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::status::{Fatal, Status};

/// A port's socket that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("--port {}: {}", path.display(), why(error))]
pub struct SocketError {
    path: PathBuf,
    error: io::Error,
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "exists already: another switch listens there, or it is no socket".into(),
        ErrorKind::InvalidInput => "longer than the 107 bytes that the path of a socket may have".into(),
        ErrorKind::PermissionDenied => "no permission to make a socket there".into(),
        _ => error.to_string(),
    }
}

impl Fatal for SocketError {
    fn status(&self) -> Status {
        match self.error.kind() {
            ErrorKind::PermissionDenied => Status::Permission,
            _ => Status::Device,
        }
    }
}

/// Sockets that listen; dropped, their files are gone.
pub struct Sockets(Vec<Socket>);

struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of its file.
    identity: Option<(u64, u64)>,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_behind(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

/// A socket answers so when whoever bound it is gone (unix(7)).
fn is_left_behind(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Sockets {
    /// Makes them all, or none.
    pub fn open(paths: &[PathBuf]) -> Result<Sockets, SocketError> {
        let mut sockets = Sockets(Vec::new());
        for path in paths {
            let listener = listen(path).map_err(|error| SocketError { path: path.clone(), error })?;
            sockets.0.push(Socket { path: path.clone(), listener, identity: identity(path) });
        }
        Ok(sockets)
    }

    /// The listening ends, with their names.
    pub fn listeners(&self) -> io::Result<Vec<(String, UnixListener)>> {
        let one = |socket: &Socket| Ok((socket.path.display().to_string(), socket.listener.try_clone()?));
        self.0.iter().map(one).collect()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in &self.0 {
            // Somebody may have put another file there meanwhile.
            if socket.identity.is_some() && identity(&socket.path) == socket.identity {
                let _ = fs::remove_file(&socket.path);
            }
        }
    }
}
