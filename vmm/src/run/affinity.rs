//! `--pin`: whether the host lets a thread run on a CPU, said before there is a machine.

use std::{fs, io};

use crate::config::Pinning;
use crate::status::{Fatal, Status};
use crate::sys::affinity;

/// Why a thread cannot be kept on a CPU.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{flag}: this host has no CPU {cpu}; online are {online}")]
    NoCpu { flag: String, cpu: u16, online: String },
    #[error("{flag}: this process may not use CPU {cpu}: its cpuset allows others only")]
    NotAllowed { flag: String, cpu: u16 },
    #[error("{flag}: {error}")]
    Other { flag: String, error: io::Error },
}

impl Fatal for Error {
    fn status(&self) -> Status {
        match self {
            Error::NoCpu { .. } => Status::Usage,
            Error::NotAllowed { .. } => Status::Permission,
            Error::Other { .. } => Status::Resource,
        }
    }
}

/// Tries each CPU of `pinning` with the calling thread, which afterwards may run where it might before.
/// The kernel alone knows: a cpuset shows in no list that this process can read without a mount.
pub fn check(pinning: &Pinning) -> Result<(), Error> {
    let vcpus = pinning.vcpus.iter().map(|(vcpu, cpu)| (vcpu.to_string(), *cpu));
    let workers = pinning.workers.iter().map(|(worker, cpu)| (worker.clone(), *cpu));
    check_each(vcpus.chain(workers).map(|(thread, cpu)| (format!("--pin {thread}@{cpu}"), cpu)).collect())
}

/// The same for CPUs that any flags name.
pub fn check_each(pins: Vec<(String, u16)>) -> Result<(), Error> {
    if pins.is_empty() {
        return Ok(());
    }
    let before = affinity::allowed();
    let refused = pins.into_iter().find_map(|(flag, cpu)| {
        let error = affinity::pin(cpu.into()).err()?;
        Some(explain(flag, cpu, error, fs::read_to_string("/sys/devices/system/cpu/online").ok()))
    });
    affinity::allow(0, &before).map_err(|error| Error::Other { flag: "CPUs as before".into(), error })?;
    refused.map_or(Ok(()), Err)
}

/// EINVAL says both that there is no such CPU and that a cpuset keeps it away.
fn explain(flag: String, cpu: u16, error: io::Error, online: Option<String>) -> Error {
    let online = online.unwrap_or_default().trim().to_owned();
    match (error.kind(), contains(&online, cpu)) {
        (io::ErrorKind::InvalidInput, Some(false)) => Error::NoCpu { flag, cpu, online },
        (io::ErrorKind::InvalidInput, Some(true)) => Error::NotAllowed { flag, cpu },
        _ => Error::Other { flag, error },
    }
}

/// Whether a list of CPUs as the kernel writes it (`0-3,8`) holds `cpu`; `None` if it is no such list.
fn contains(list: &str, cpu: u16) -> Option<bool> {
    let mut found = false;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        found |= (first.parse().ok()?..=last.parse().ok()?).contains(&cpu);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(contains("0-3,8", 3), Some(true));
        assert_eq!(contains("0-3,8", 8), Some(true));
        assert_eq!(contains("0-3,8", 4), Some(false));
        assert_eq!(contains("", 0), None);
    }

    #[test]
    fn one_error_number_two_causes() {
        let explain = |cpu, online: &str| {
            explain(format!("--pin 0@{cpu}"), cpu, io::ErrorKind::InvalidInput.into(), Some(online.into()))
                .to_string()
        };
        assert_eq!(explain(9, "0-1\n"), "--pin 0@9: this host has no CPU 9; online are 0-1");
        assert!(explain(1, "0-1\n").starts_with("--pin 0@1: this process may not use CPU 1"));
    }

    #[test]
    fn trying_leaves_the_thread_where_it_may_run() {
        let before = affinity::allowed();
        let pinning = |cpu| Pinning { vcpus: vec![(0, cpu)], workers: vec![] };
        assert!(check(&pinning(before[0] as u16)).is_ok());
        assert!(matches!(check(&pinning(u16::MAX)), Err(Error::NoCpu { .. })));
        assert_eq!(affinity::allowed(), before);
    }
}
