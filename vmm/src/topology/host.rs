//! Whether this host can do what a path needs.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::Lack;
use super::file::{By, Scene};
use crate::doctor::devices::{NET_ADMIN, capable};
use crate::doctor::root::Root;
use crate::kvm::class::Class;
use crate::kvm::vm;
use crate::status::Status;

/// What it lacks first; `None`: nothing that is known beforehand.
pub fn lacks(scene: &Scene) -> Option<Lack> {
    let path = &scene.path;
    let linux = scene.machines.iter().any(|machine| machine.keys.contains_key("kernel"));
    machines(linux).or_else(|| match path.by {
        By::Bridge => taps(path.taps.is_empty()).or_else(|| path.vhost.then(vhost).flatten()),
        By::Switch => None,
        By::Command => program(path.command.first()?),
    })
}

fn lack(status: Status, why: impl Into<String>) -> Option<Lack> {
    Some(Lack { status, why: why.into() })
}

fn machines(linux: bool) -> Option<Lack> {
    if let Err(error) = vm::open() {
        return lack(Status::NoKvm, error.to_string());
    }
    if linux && Class::detect() == Class::Pvm {
        return lack(Status::NoKvm, "a stock Linux does not boot on a kvm_pvm host: needs vmx or svm");
    }
    None
}

fn opens(path: &str, mend: &str) -> Option<Lack> {
    let error = OpenOptions::new().read(true).write(true).open(path).err()?;
    match error.kind() {
        ErrorKind::PermissionDenied => lack(Status::Permission, format!("no permission to open {path}")),
        _ => lack(Status::Device, format!("needs {path}: {mend}")),
    }
}

fn taps(made: bool) -> Option<Lack> {
    opens("/dev/net/tun", "modprobe tun").or_else(|| match made && !capable(&Root::host(), NET_ADMIN) {
        true => lack(
            Status::Permission,
            "taps and bridges are made by root alone: run as root, or name taps = […] that exist",
        ),
        false => None,
    })
}

fn vhost() -> Option<Lack> {
    opens("/dev/vhost-net", "modprobe vhost_net")
}

fn program(name: &str) -> Option<Lack> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = match name.contains('/') {
        true => Path::new(name).exists(),
        false => {
            std::env::split_paths(&places).map(|place: PathBuf| place.join(name)).any(|path| path.exists())
        }
    };
    if found { None } else { lack(Status::Device, format!("needs {name}, which is not installed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!((program("sh"), program("/bin/sh")), (None, None));
        let lack = program("no-such-program").unwrap();
        assert_eq!(lack.status, Status::Device);
        assert_eq!(lack.why, "needs no-such-program, which is not installed");
        assert_eq!(opens("/dev/null", ""), None);
        assert_eq!(opens("/dev/nonesuch", "make it").unwrap().why, "needs /dev/nonesuch: make it");
    }
}
