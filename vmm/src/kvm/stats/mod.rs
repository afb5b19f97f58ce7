//! KVM's own counters: the binary statistics of a VM and of each of its vCPUs.
//!
//! They count from the creation of their object, so "before" is zero without being read, and opening
//! them costs one system call for each object; the self-description is read with the first snapshot, or while the machine starts.

mod counters;
pub mod schema;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

pub use counters::Counters;
pub use schema::{Descriptor, Kind, Schema, SchemaError, Unit};

use crate::sys::kvm_stats::statistics_file;

/// The open statistics of one machine. Any thread may take a snapshot at any time.
#[derive(Debug)]
pub struct Statistics {
    vm: File,
    vcpus: Vec<File>,
    schemas: OnceLock<Option<Schemas>>,
}

#[derive(Debug)]
struct Schemas {
    vm: Schema,
    vcpu: Schema,
}

/// Why there are no statistics. The machine runs all the same; the report says `null`.
#[derive(Debug, thiserror::Error)]
#[error("open KVM's statistics of {of}: {}", reason(.source))]
pub struct Unavailable {
    of: String,
    source: io::Error,
}

fn reason(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL) => "this kernel has none (it needs Linux 5.14)".into(),
        _ => source.to_string(),
    }
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The VM's data.
    vm: Vec<u64>,
    /// The vCPUs' data, added up word by word.
    vcpus: Vec<u64>,
}

impl Statistics {
    /// Opens the statistics of a VM and its vCPUs.
    pub fn open<'a, V: AsRawFd + 'a>(
        vm: &impl AsRawFd,
        vcpus: impl IntoIterator<Item = &'a V>,
    ) -> Result<Statistics, Unavailable> {
        let vm = statistics_file(vm).map_err(|source| Unavailable { of: "the VM".into(), source })?;
        let vcpus = vcpus.into_iter().enumerate().map(|(i, vcpu)| {
            statistics_file(vcpu).map_err(|source| Unavailable { of: format!("vCPU {i}"), source })
        });
        Ok(Statistics { vm, vcpus: vcpus.collect::<Result<_, _>>()?, schemas: OnceLock::new() })
    }

    /// Reads the self-description now, so that the first snapshot need not.
    pub fn learn(&self) {
        self.schemas();
    }

    /// Reads all counters, some microseconds for each vCPU. `None` if the kernel's description of
    /// them makes no sense.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let schemas = self.schemas()?;
        let mut snapshot = Snapshot::default();
        schemas.vm.read_data(&self.vm, &mut snapshot.vm).ok()?;
        let mut one = Vec::new();
        for vcpu in &self.vcpus {
            schemas.vcpu.read_data(vcpu, &mut one).ok()?;
            snapshot.vcpus.resize(one.len(), 0);
            for (sum, value) in snapshot.vcpus.iter_mut().zip(&one) {
                *sum = sum.wrapping_add(*value);
            }
        }
        Some(snapshot)
    }

    /// The counters of a snapshot, by name.
    pub fn counters(&self, snapshot: &Snapshot) -> Option<Counters> {
        let schemas = self.schemas()?;
        Some(Counters {
            vm: scalars(&schemas.vm, &snapshot.vm).collect(),
            vcpus: scalars(&schemas.vcpu, &snapshot.vcpus).collect(),
        })
    }

    /// The counters of one vCPU alone, now.
    pub fn of_vcpu(&self, vcpu: usize) -> Option<Counters> {
        let schema = &self.schemas()?.vcpu;
        let mut data = Vec::new();
        schema.read_data(self.vcpus.get(vcpu)?, &mut data).ok()?;
        Some(Counters { vm: Box::default(), vcpus: scalars(schema, &data).collect() })
    }

    /// How often one vCPU has halted, now: one system call.
    pub fn halts(&self, vcpu: usize) -> Option<u64> {
        self.schemas()?.vcpu.read_one("halt_exits", self.vcpus.get(vcpu)?)
    }

    fn schemas(&self) -> Option<&Schemas> {
        let read = || {
            let vm = Schema::read(&self.vm).ok()?;
            let vcpu = self.vcpus.first().map(Schema::read).transpose().ok()?.unwrap_or_default();
            Some(Schemas { vm, vcpu })
        };
        self.schemas.get_or_init(read).as_ref()
    }
}

/// Names and values of the counters that are one number: all but the histograms.
fn scalars(schema: &Schema, data: &[u64]) -> impl Iterator<Item = (Box<str>, u64)> {
    let scalar = |d: &&Descriptor| !matches!(d.kind, Kind::LinearHistogram { .. } | Kind::LogHistogram);
    let value = |d: &Descriptor| Some((d.name.clone(), *d.words(data).first()?));
    schema.descriptors().iter().filter(scalar).filter_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_vm_says_why() {
        let null = File::open("/dev/null").unwrap();
        let error = Statistics::open(&null, [] as [&File; 0]).unwrap_err().to_string();
        assert_eq!(error, "open KVM's statistics of the VM: this kernel has none (it needs Linux 5.14)");
    }

    #[test]
    fn a_new_machine_counts_from_zero() {
        let Ok(kvm) = kvm_ioctls::Kvm::new() else {
            eprintln!("skipped: /dev/kvm cannot be opened here");
            return;
        };
        let vm = kvm.create_vm().unwrap();
        let vcpus = [vm.create_vcpu(0).unwrap(), vm.create_vcpu(1).unwrap()];
        let statistics = Statistics::open(&vm, &vcpus).unwrap();
        let counters = statistics.counters(&statistics.snapshot().unwrap()).unwrap();
        assert_eq!(counters.vcpus("exits"), Some(0));
        assert_eq!(counters.vm("no such counter"), None);
        assert!(counters.vm("remote_tlb_flush").is_some());
        assert_eq!(statistics.of_vcpu(1).and_then(|one| one.vcpus("exits")), Some(0));
        assert_eq!(statistics.of_vcpu(2), None);
        assert_eq!((statistics.halts(1), statistics.halts(2)), (Some(0), None));
        let wait = statistics.schemas().unwrap().vcpu.find("halt_wait_ns").cloned().unwrap();
        assert_eq!((wait.unit, wait.exponent), (Unit::Seconds, -9));
    }
}
