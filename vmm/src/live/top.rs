//! `vmm top`: looks at a machine from another terminal. It only reads.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use super::screen;
use super::sight::Sight;
use super::watch::socket;
use crate::status::{Fatal, Status};
use crate::sys::peer;

/// A longer line is no sight: one of 255 vCPUs and all rows is a tenth of it.
const LONGEST: u64 = 1 << 20;

/// Which machine to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    Pid(u32),
    /// The name of its socket, without the @.
    Socket(String),
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("look at process {0}: no such process")]
    NoProcess(u32),
    #[error("look at process {0}: it is no vmm that runs a machine")]
    NoMachine(u32),
    #[error("look at machine @{0}: {1}")]
    Socket(String, io::Error),
    #[error("look at process {0}: another process answers in its name")]
    Impostor(u32),
    #[error("read from the machine: {0}")]
    Read(io::Error),
    #[error("read from the machine: it speaks another version's language")]
    Language,
    #[error("write to stdout: {0}")]
    Write(io::Error),
}

impl Fatal for Error {
    fn status(&self) -> Status {
        Status::Device
    }
}

/// Shows the machine's rates each second, `count` times or until it ends.
pub fn run(machine: &Machine, count: Option<u32>) -> Result<(), Error> {
    let mut sights = BufReader::new(connect(machine)?);
    let terminal = io::stdout().is_terminal();
    let mut before: Option<Sight> = None;
    let mut left = count;
    while left != Some(0) {
        let Some(now) = next(&mut sights)? else {
            return write("the machine has ended\n");
        };
        if let Some(before) = &before {
            let lines = screen::lines(before, &now).join("\n");
            write(&if terminal { format!("\x1b[H\x1b[J{lines}\n") } else { format!("{lines}\n\n") })?;
            left = left.map(|left| left - 1);
        }
        before = Some(now);
    }
    Ok(())
}

fn write(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // A reader that has closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(Error::Write),
    }
}

/// The next sight; `None`: the machine has ended.
pub(crate) fn next(sights: &mut impl BufRead) -> Result<Option<Sight>, Error> {
    let mut line = Vec::new();
    sights.take(LONGEST).read_until(b'\n', &mut line).map_err(Error::Read)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(|_| Error::Language)
}

fn connect(machine: &Machine) -> Result<UnixStream, Error> {
    let name = match machine {
        Machine::Pid(pid) if !Path::new("/proc").join(pid.to_string()).exists() => {
            return Err(Error::NoProcess(*pid));
        }
        Machine::Pid(pid) => socket(*pid),
        Machine::Socket(name) => name.clone(),
    };
    let stream = SocketAddr::from_abstract_name(&name).and_then(|address| UnixStream::connect_addr(&address));
    match (machine, stream) {
        (Machine::Pid(pid), Ok(stream)) => {
            // Names of sockets are there for the taking: that it is the process itself, the kernel knows.
            let own = peer::credentials(&stream).is_ok_and(|peer| peer.pid == *pid);
            if own { Ok(stream) } else { Err(Error::Impostor(*pid)) }
        }
        (Machine::Socket(_), Ok(stream)) => Ok(stream),
        (Machine::Pid(pid), Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Error::NoMachine(*pid))
        }
        (_, Err(error)) => Err(Error::Socket(name, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_a_sight_or_said_to_be_none() {
        let mut lines = &b"{\"pid\":1,\"kvm\":\"svm\",\"at_us\":5,\"vcpus\":[],\"kernel\":[],\"traced\":false,\"rows\":[]}\nno\n"[..];
        assert_eq!(next(&mut lines).unwrap().map(|sight| sight.at_us), Some(5));
        assert!(matches!(next(&mut lines), Err(Error::Language)));
        assert!(next(&mut lines).unwrap().is_none());
        let endless = vec![b'{'; 2 << 20];
        assert!(matches!(next(&mut &endless[..]), Err(Error::Language)));
    }

    #[test]
    fn processes_that_are_no_machine() {
        let error = run(&Machine::Pid(u32::MAX), None).unwrap_err().to_string();
        assert_eq!(error, "look at process 4294967295: no such process");
        let own = std::process::id();
        let error = run(&Machine::Pid(own), None).unwrap_err().to_string();
        assert_eq!(error, format!("look at process {own}: it is no vmm that runs a machine"));
        let name = format!("vmm-test/{own}");
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        assert!(connect(&Machine::Socket(name)).is_ok());
    }
}
