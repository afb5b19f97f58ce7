//! Where the kernel describes its tracepoints: tracefs, which has two usual places.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::format::{Format, FormatError};
use super::program::Event;

const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why KVM's tracepoints are unknown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("tracefs is not mounted: mount -t tracefs tracefs {}", PLACES[0])]
    NotMounted,
    #[error("no permission to read {}: CAP_DAC_READ_SEARCH or root is needed", .0.display())]
    Denied(PathBuf),
    #[error("KVM has no tracepoints in {}", .0.display())]
    NoEvents(PathBuf),
    #[error("tracepoint {event}: its description {error}")]
    Format { event: &'static str, error: FormatError },
    #[error("read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
}

/// The tracepoints that this kernel has. Exits and entries must be among them.
pub fn formats() -> Result<Vec<(Event, Format)>, Error> {
    below(&PLACES.map(Path::new))
}

fn below(places: &[&Path]) -> Result<Vec<(Event, Format)>, Error> {
    let mut denied = None;
    for place in places {
        match fs::metadata(place.join("events")) {
            Ok(_) => return read(&place.join("events/kvm")),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => denied = Some(place.to_path_buf()),
            Err(_) => {}
        }
    }
    Err(denied.map_or(Error::NotMounted, Error::Denied))
}

fn read(events: &Path) -> Result<Vec<(Event, Format)>, Error> {
    if !events.is_dir() {
        return Err(Error::NoEvents(events.to_owned()));
    }
    let mut formats = Vec::new();
    for event in Event::ALL {
        let name = event.name();
        let path = events.join(name).join("format");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(Error::Denied(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => match event {
                Event::Exit | Event::Entry => return Err(Error::NoEvents(path)),
                _ => continue,
            },
            Err(error) => return Err(Error::Read { path, error }),
        };
        let format = Format::parse(&text).map_err(|error| Error::Format { event: name, error })?;
        formats.push((event, format));
    }
    Ok(formats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("vmm-tracefs-{name}-{}", std::process::id()))
    }

    #[test]
    fn either_place_will_do_and_none_is_said() {
        let (nowhere, here) = (scratch("nowhere"), scratch("here"));
        let places = [nowhere.as_path(), here.as_path()];
        let error = below(&places).unwrap_err();
        assert_eq!(error.to_string(), "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing");
        fs::create_dir_all(here.join("events")).unwrap();
        assert!(matches!(below(&places), Err(Error::NoEvents(_))));
        for event in ["kvm_exit", "kvm_entry", "kvm_pio"] {
            fs::create_dir_all(here.join("events/kvm").join(event)).unwrap();
            fs::write(here.join("events/kvm").join(event).join("format"), "name: x\nID: 9\n").unwrap();
        }
        let found: Vec<_> =
            below(&places).unwrap().into_iter().map(|(event, format)| (event, format.id)).collect();
        assert_eq!(found, [(Event::Exit, 9), (Event::Entry, 9), (Event::Pio, 9)]);
        fs::write(here.join("events/kvm/kvm_pio/format"), "nonsense").unwrap();
        let error = below(&places).unwrap_err().to_string();
        assert_eq!(error, "tracepoint kvm_pio: its description has no ID");
        fs::remove_dir_all(here).unwrap();
    }
}
