//! How process 1 speaks to the monitor: by ports, which are the same on every host.

use abi::mark::Mark;
use abi::port;
use abi::record::{LINE, Record};

use crate::sys::port::Ports;

/// The monitor's test device, if this kernel lets us use its ports.
pub struct Monitor {
    ports: Option<Ports>,
}

impl Monitor {
    pub fn open() -> Monitor {
        let ports = Ports::open(port::EXIT, port::EXIT_LEN);
        if let Err(error) = &ports {
            eprintln!("vmm init: no access to ports, so no marks and no status: {error}");
        }
        Monitor { ports: ports.ok() }
    }

    /// How far the guest has come.
    pub fn mark(&self, mark: Mark) {
        if let Some(ports) = &self.ports {
            ports.write_u32(port::MARK, mark.encode());
        }
    }

    /// A result, as text; to the console where there are no ports.
    pub fn record(&self, record: &Record<'_>) {
        let mut line = line(record);
        match &self.ports {
            Some(ports) => {
                line.push(b'\n');
                ports.write_bytes(port::RECORD, &line);
            }
            None => println!("{}", String::from_utf8_lossy(&line)),
        }
    }

    /// Ends the machine; returns where there is no such port.
    pub fn exit(&self, status: u8) {
        if let Some(ports) = &self.ports {
            ports.write_u8(port::EXIT, status);
        }
    }
}

/// A record's line without its newline, no longer than a reader takes.
fn line(record: &Record<'_>) -> Vec<u8> {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = record.encode(&mut line);
    let mut line = line.into_bytes();
    line.truncate(LINE - 1);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_what_the_monitor_reads() {
        assert_eq!(line(&Record::new("null", "-", 2, 3)), b"null - ok ops=2 ns=3");
        assert_eq!(line(&Record::new(&"x".repeat(LINE), "-", 2, 3)).len(), LINE - 1);
    }
}
