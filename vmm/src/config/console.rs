//! `--console`: where the console goes, and which port of the guest's it is.

use std::path::PathBuf;
use std::str::FromStr;

use super::word::{self, UnknownWord};

/// The console of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    pub place: Place,
    pub port: Port,
}

/// Where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Stdio,
    File(PathBuf),
    /// No console at all.
    None,
}

/// What the guest sees of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    /// A UART: there from the first instruction on, several exits for each byte.
    #[default]
    Serial,
    /// A virtio console: once its driver is loaded, without an exit to userspace.
    Virtio,
}

/// Why the console cannot go there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    #[error("names no file; file=PATH")]
    NoPath,
    #[error("none has no port; leave {0:?} out")]
    NoPort(String),
    #[error(transparent)]
    Unknown(#[from] UnknownWord),
}

const PORTS: &[(&str, Port)] = &[("serial", Port::Serial), ("virtio", Port::Virtio)];

impl Console {
    /// Whether this machine has a virtio console.
    pub fn is_virtio(&self) -> bool {
        self.place != Place::None && self.port == Port::Virtio
    }
}

impl FromStr for Console {
    type Err = ConsoleError;

    /// A file's name may hold commas: only a port behind the last one is none of it.
    fn from_str(text: &str) -> Result<Console, ConsoleError> {
        let port = |word: &str| word::choose(word, PORTS);
        let (place, port) = match text.rsplit_once(',') {
            Some((place, word)) if place.starts_with("file=") => match port(word) {
                Ok(port) => (place, port),
                Err(_) => (text, Port::Serial),
            },
            Some((place, word)) => (place, port(word)?),
            None => (text, port(text).unwrap_or_default()),
        };
        let place = match place {
            "none" if place != text => return Err(ConsoleError::NoPort(text["none,".len()..].into())),
            // A port alone is at stdio.
            _ if PORTS.iter().any(|(word, _)| *word == place) => Place::Stdio,
            _ => self::place(place)?,
        };
        Ok(Console { place, port })
    }
}

fn place(text: &str) -> Result<Place, ConsoleError> {
    match text.strip_prefix("file=") {
        Some("") => Err(ConsoleError::NoPath),
        Some(path) => Ok(Place::File(path.into())),
        None if text == "file" => Err(ConsoleError::NoPath),
        None => {
            let words = [("stdio", Some(Place::Stdio)), ("file=PATH", None), ("none", Some(Place::None))];
            let words = words.each_ref().map(|(word, place)| (*word, place.as_ref()));
            word::choose(text, &words)?.cloned().ok_or(ConsoleError::NoPath)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(place: Place, port: Port) -> Result<Console, ConsoleError> {
        Ok(Console { place, port })
    }

    #[test]
    fn three_places_and_two_ports() {
        use Port::*;
        for (text, place, port) in [
            ("stdio", Place::Stdio, Serial),
            ("stdio,virtio", Place::Stdio, Virtio),
            ("virtio", Place::Stdio, Virtio),
            ("stdio,serial", Place::Stdio, Serial),
            ("none", Place::None, Serial),
            ("file=a=b", Place::File("a=b".into()), Serial),
            ("file=a,b", Place::File("a,b".into()), Serial),
            ("file=a,virtio", Place::File("a".into()), Virtio),
        ] {
            assert_eq!(text.parse(), console(place, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_console() {
        assert_eq!("file=".parse::<Console>(), Err(ConsoleError::NoPath));
        assert_eq!("file".parse::<Console>(), Err(ConsoleError::NoPath));
        let error = |text: &str| text.parse::<Console>().unwrap_err().to_string();
        assert_eq!(error("nome"), "not one of stdio, file=PATH, none; did you mean none?");
        assert_eq!(error("none,virtio"), "none has no port; leave \"virtio\" out");
        assert!(error("stdio,virtoi").contains("did you mean virtio?"), "{}", error("stdio,virtoi"));
        assert!(error("virtio,stdio").contains("not one of serial, virtio"));
        assert!(error("").contains("not one of stdio"));
    }
}
