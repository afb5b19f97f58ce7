//! `--disk`: a raw image or block device as a virtio disk, or a disk that another process serves.

use std::path::PathBuf;
use std::str::FromStr;

use devices::blk::Engine;
use devices::blk::image::Options;
use devices::virtio::rate::Rate;

use super::keys::{self, KeyError};
use super::rate;
use super::word::choose;

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    pub medium: Medium,
    pub queues: u16,
    pub rate: Rate,
}

/// What is behind it.
#[derive(Clone, Debug)]
pub enum Medium {
    Image(Options, Engine),
    /// A vhost-user backend that listens at this socket.
    VhostUser(PathBuf),
}

const KEYS: &[&str] = &["path", "ro", "direct", "engine", "queues", "serial", "rate", "vhost-user"];

impl FromStr for Disk {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Disk, KeyError> {
        let (mut image, mut engine, mut queues) = (Options::default(), None, 1);
        let (mut socket, mut rate) = (None, Rate::default());
        let items = keys::items(text, KEYS)?;
        for item in &items {
            match item.key {
                "path" => image.path = item.text()?.into(),
                "ro" => image.read_only = item.switch()?,
                "direct" => image.direct = item.switch()?,
                "engine" => engine = Some(item.parse(self::engine)?),
                "queues" => queues = item.parse(keys::queues)?,
                "rate" => rate = item.parse(rate::parse)?,
                "vhost-user" => socket = Some(item.parse(keys::socket)?),
                _ => image.serial = item.text()?.into(),
            }
        }
        let medium = match socket {
            Some(_) if items.iter().any(|item| !matches!(item.key, "vhost-user" | "queues")) => {
                return Err(KeyError::Whole("beside vhost-user= only queues= is ours to say"));
            }
            Some(socket) => Medium::VhostUser(socket),
            None if image.path.as_os_str().is_empty() => {
                return Err(KeyError::Whole("names no file; path=FILE or vhost-user=SOCKET"));
            }
            None => Medium::Image(image, engine.unwrap_or_else(Engine::best)),
        };
        Ok(Disk { medium, queues, rate })
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
        let disk: Disk = "path=a=b,ro,direct=off,engine=uring,queues=4,serial=S1,rate=2M".parse().unwrap();
        let Medium::Image(image, engine) = disk.medium else { panic!("no image") };
        assert_eq!((image.path.to_str(), image.serial.as_str()), (Some("a=b"), "S1"));
        assert!(image.read_only && !image.direct);
        assert_eq!((engine, disk.queues), (Engine::Uring, 4));
        assert_eq!(disk.rate.bytes.map(u64::from), Some(2 << 20));
        let disk: Disk = "vhost-user=/run/a.sock,queues=2".parse().unwrap();
        assert!(matches!(disk.medium, Medium::VhostUser(path) if path.ends_with("a.sock")));
    }

    #[test]
    fn what_is_no_disk() {
        let error = |text: &str| text.parse::<Disk>().unwrap_err().to_string();
        assert_eq!(error("ro"), "names no file; path=FILE or vhost-user=SOCKET");
        assert_eq!(error("vhost-user=a,ro"), "beside vhost-user= only queues= is ours to say");
        assert!(error("vhostuser=a").ends_with("did you mean vhost-user?"), "{}", error("vhostuser=a"));
        assert!(error(&format!("vhost-user={}", "a".repeat(108))).contains("at most 107"));
        assert_eq!(error("path="), "path needs a value: path=…");
        assert_eq!(error("path=a,path=b"), "path is given twice");
        assert_eq!(error("path=a,queues=17"), "queues=17: not a number from 1 to 16");
        assert!(error("paht=a").ends_with("did you mean path?"), "{}", error("paht=a"));
        assert!(error("path=a,engine=aio").contains("not one of sync, uring"));
    }
}
