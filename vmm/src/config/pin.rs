//! `--pin`: which thread runs on which host CPU.

use std::str::FromStr;

use super::word::UnknownWord;

/// Which thread runs where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    /// `(vCPU, host CPU)`.
    pub vcpus: Vec<(u8, u16)>,
    /// `(worker, host CPU)`: `net0`, `blk1`.
    pub workers: Vec<(String, u16)>,
}

/// One `THREAD@CPU` as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    thread: Thread,
    cpu: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Thread {
    Vcpu(u8),
    Worker(String),
}

/// Why a thread cannot be pinned so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("{0:?} is not of the form THREAD@CPU, as in 0@2 or net0@1")]
    Form(String),
    #[error("there is no vCPU {vcpu}: this machine has {vcpus}, numbered from 0")]
    NoVcpu { vcpu: u8, vcpus: u8 },
    #[error("{worker} names no worker thread: {unknown}")]
    NoWorker { worker: String, unknown: UnknownWord },
    #[error("{worker} names no worker thread: this machine has no device with one")]
    NoWorkers { worker: String },
    #[error("{0} is pinned twice")]
    Twice(String),
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Pin, PinError> {
        let form = || PinError::Form(text.to_owned());
        let (thread, cpu) = text.split_once('@').ok_or_else(form)?;
        let cpu = cpu.parse().map_err(|_| form())?;
        let thread = if thread.starts_with(|c: char| c.is_ascii_alphabetic()) {
            Thread::Worker(thread.to_owned())
        } else {
            Thread::Vcpu(thread.parse().map_err(|_| form())?)
        };
        Ok(Pin { thread, cpu })
    }
}

impl Pinning {
    /// Each pin names a thread that a machine of `vcpus` and these `workers` has, and none twice.
    pub fn new(pins: Vec<Pin>, vcpus: u8, workers: &[String]) -> Result<Pinning, PinError> {
        let mut pinning = Pinning::default();
        for Pin { thread, cpu } in pins {
            match thread {
                Thread::Vcpu(vcpu) if vcpu >= vcpus => return Err(PinError::NoVcpu { vcpu, vcpus }),
                Thread::Vcpu(vcpu) if pinning.vcpus.iter().any(|(other, _)| *other == vcpu) => {
                    return Err(PinError::Twice(format!("vCPU {vcpu}")));
                }
                Thread::Vcpu(vcpu) => pinning.vcpus.push((vcpu, cpu)),
                Thread::Worker(worker) if workers.is_empty() => return Err(PinError::NoWorkers { worker }),
                Thread::Worker(worker) if !workers.contains(&worker) => {
                    let unknown = UnknownWord::new(&worker, workers.iter().map(String::as_str));
                    return Err(PinError::NoWorker { worker, unknown });
                }
                Thread::Worker(worker) if pinning.workers.iter().any(|(other, _)| *other == worker) => {
                    return Err(PinError::Twice(worker));
                }
                Thread::Worker(worker) => pinning.workers.push((worker, cpu)),
            }
        }
        Ok(pinning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinning(text: &str) -> Result<Pinning, PinError> {
        let pins = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Pinning::new(pins, 2, &["net0".into()])
    }

    #[test]
    fn threads_of_this_machine() {
        let pinned = pinning("0@2,net0@1,1@2").unwrap();
        assert_eq!(pinned.vcpus, [(0, 2), (1, 2)]);
        assert_eq!(pinned.workers, [("net0".to_owned(), 1)]);
    }

    #[test]
    fn what_cannot_be_pinned() {
        for text in ["", "0", "0@", "@1", "0@-1", "0@x", "0@65536", "256@0", "0@1@2"] {
            assert!(matches!(pinning(text), Err(PinError::Form(_))), "{text}");
        }
        assert_eq!(pinning("2@0"), Err(PinError::NoVcpu { vcpu: 2, vcpus: 2 }));
        assert_eq!(pinning("0@0,0@1"), Err(PinError::Twice("vCPU 0".into())));
        assert_eq!(pinning("net0@0,net0@1"), Err(PinError::Twice("net0".into())));
        let error = pinning("net1@0").unwrap_err().to_string();
        assert!(error.ends_with("did you mean net0?"), "{error}");
    }
}
