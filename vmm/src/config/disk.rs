//! `--disk`: a raw image or block device as a virtio disk.

use std::str::FromStr;

use devices::blk::Engine;
use devices::blk::image::Options;

use super::keys::{self, KeyError};
use super::word::choose;

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    pub image: Options,
    pub engine: Engine,
    pub queues: u16,
}

const KEYS: &[&str] = &["path", "ro", "direct", "engine", "queues", "serial"];

impl FromStr for Disk {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Disk, KeyError> {
        let mut disk = Disk { image: Options::default(), engine: Engine::Sync, queues: 1 };
        for item in keys::items(text, KEYS)? {
            match item.key {
                "path" => disk.image.path = item.text()?.into(),
                "ro" => disk.image.read_only = item.switch()?,
                "direct" => disk.image.direct = item.switch()?,
                "engine" => disk.engine = item.parse(engine)?,
                "queues" => disk.queues = item.parse(keys::queues)?,
                _ => disk.image.serial = item.text()?.into(),
            }
        }
        if disk.image.path.as_os_str().is_empty() {
            return Err(KeyError::Whole("names no file; path=FILE"));
        }
        Ok(disk)
    }
}

fn engine(text: &str) -> Result<Engine, super::word::UnknownWord> {
    choose(text, &[("sync", Engine::Sync), ("uring", Engine::Uring)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_it_is_written() {
        let disk: Disk = "path=a=b,ro,direct=off,engine=uring,queues=4,serial=S1".parse().unwrap();
        assert_eq!((disk.image.path.to_str(), disk.image.serial.as_str()), (Some("a=b"), "S1"));
        assert!(disk.image.read_only && !disk.image.direct);
        assert_eq!((disk.engine, disk.queues), (Engine::Uring, 4));
    }

    #[test]
    fn what_is_no_disk() {
        let error = |text: &str| text.parse::<Disk>().unwrap_err().to_string();
        assert_eq!(error("ro"), "names no file; path=FILE");
        assert_eq!(error("path="), "path needs a value: path=…");
        assert_eq!(error("path=a,path=b"), "path is given twice");
        assert_eq!(error("path=a,queues=17"), "queues=17: not a number from 1 to 16");
        assert!(error("paht=a").ends_with("did you mean path?"), "{}", error("paht=a"));
        assert!(error("path=a,engine=aio").contains("not one of sync, uring"));
    }
}
