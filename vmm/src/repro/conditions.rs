//! What an experiment needs, and whether this host has it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::catalogue::{Need, Variant};
use super::container::Container;
use super::scratch;
use crate::boot::image::{self, Image};
use crate::config::memory::Size;
use crate::kvm::class::Class;
use crate::kvm::vm;
use crate::machine::memory;
use crate::report::text::units;
use crate::sys::affinity;
use crate::topology::{file, host};

/// Of a container, where no machine's memory is said.
const CONTAINER_MEMORY: u64 = 1 << 30;

/// What such a kernel says of itself.
const RT: &str = "PREEMPT_RT";

/// This host, as far as experiments ask.
pub struct Here {
    class: Class,
    /// Why no machine runs.
    no_kvm: Option<String>,
    cpus: usize,
    free_hugepages: u64,
    /// Bytes of memory that can still be had, where that is known.
    available: Option<u64>,
    kernel: Option<PathBuf>,
    rt_kernel: Option<PathBuf>,
}

impl Here {
    pub fn look(kernel: Option<PathBuf>, rt_kernel: Option<PathBuf>) -> Here {
        let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
        Here {
            class: Class::detect(),
            no_kvm: vm::open().err().map(|error| error.to_string()),
            cpus: affinity::allowed().len(),
            free_hugepages: free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            available: memory::available(),
            kernel,
            rt_kernel,
        }
    }

    /// Why this host cannot run it, if so.
    pub fn lacks(&self, variant: &Variant, values: &BTreeMap<String, String>) -> Option<String> {
        if let Some(why) = self.no_kvm.as_ref().filter(|_| !variant.native && !variant.container) {
            return Some(why.clone());
        }
        let lack = variant.needs.iter().find_map(|need| self.lacks_one(*need, values));
        let lack = lack.or_else(|| self.lacks_memory(&variant.args(values)));
        lack.or_else(|| variant.is_topology().then(|| Self::lacks_path(variant, values)).flatten())
    }

    /// What its path between machines needs, as `vmm topology` would say.
    fn lacks_path(variant: &Variant, values: &BTreeMap<String, String>) -> Option<String> {
        let args = variant.args(values);
        let topology = file::one_of(args.get(1)?).ok()?;
        let path = args.iter().find_map(|arg| arg.strip_prefix("--path="))?;
        let path = topology.paths.iter().find(|known| known.name == path)?;
        let pairs = args.iter().filter_map(|arg| arg.strip_prefix("--set=")?.split_once('='));
        let set: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        // What is wrong with the topology itself, its run says.
        let scene = topology.scene(path, &set, &affinity::allowed()).ok()?;
        host::lacks(&scene).map(|lack| lack.why)
    }

    /// More than is there makes the kernel kill somebody, at the published sizes.
    fn lacks_memory(&self, args: &[String]) -> Option<String> {
        if args.iter().any(|arg| arg.starts_with("--hugepages")) {
            // Its pool was asked.
            return None;
        }
        let sizes = args.iter().flat_map(|arg| arg.split(','));
        let sizes = sizes.filter_map(|word| word.strip_prefix("--memory=").or(word.strip_prefix("size=")));
        let asked = sizes.filter_map(|size| size.parse::<Size>().ok()).map(|size| size.0).max()?;
        let available = self.available.filter(|available| asked > *available)?;
        let [asked, available] = [asked, available].map(units::size);
        Some(format!("needs {asked} of memory, and this host has {available} available"))
    }

    /// One with the CPUs of this process and the memory that a machine has.
    pub fn container(&self, values: &BTreeMap<String, String>) -> Result<Container, String> {
        let memory = values.get("memory").and_then(|size| size.parse::<Size>().ok());
        Container::new(self.cpus, memory.map_or(CONTAINER_MEMORY, |size| size.0))
    }

    fn lacks_one(&self, need: Need, values: &BTreeMap<String, String>) -> Option<String> {
        let cpus = |count: usize| {
            (self.cpus < count).then(|| format!("needs {count} CPUs, and this process has {}", self.cpus))
        };
        match need {
            Need::Linux | Need::RtLinux if self.class == Class::Pvm => {
                Some("a stock Linux does not boot on a kvm_pvm host: needs vmx or svm".into())
            }
            Need::Linux if self.kernel.is_none() => Some("needs a Linux kernel: --kernel FILE".into()),
            Need::RtLinux => match &self.rt_kernel {
                None => Some(
                    "needs a PREEMPT_RT kernel: --rt-kernel FILE; resources/lab/kernels rt fetches one"
                        .into(),
                ),
                Some(path) => lacks_preempt_rt(path),
            },
            Need::Hardware if self.class == Class::Pvm => {
                Some("a guest's ring 0 is interpreted on a kvm_pvm host: needs vmx or svm".into())
            }
            Need::Tools if values.get("tools").is_none_or(String::is_empty) => {
                Some("needs known tools: --tools; resources/image/build makes them".into())
            }
            Need::RealTime => lacks_priority(),
            Need::Linux | Need::Hardware | Need::Tools => None,
            Need::TwoCpus => cpus(2),
            Need::FourCpus => cpus(4),
            Need::DirectIo => scratch::lacks_direct_io(),
            Need::Hugepages => {
                let memory = values.get("memory").and_then(|size| size.parse::<Size>().ok());
                let pages = memory.map_or(1, |size| size.0.div_ceil(2 << 20));
                (self.free_hugepages < pages).then(|| {
                    let free = self.free_hugepages;
                    format!("needs {pages} free huge pages, and the pool has {free}: see vmm doctor")
                })
            }
        }
    }
}

/// Why this user's threads get no real-time priority, if so: one tries it.
fn lacks_priority() -> Option<String> {
    let tried = std::thread::spawn(|| affinity::before_others(1)).join().ok()?;
    let error = tried.err()?;
    Some(format!("needs a real-time priority: {error}; root has it, or who may by ulimit -r"))
}

/// Why `path` is not PREEMPT_RT, if so: a bzImage carries its version in words before all that is compressed.
fn lacks_preempt_rt(path: &Path) -> Option<String> {
    let file = File::open(path).map_err(image::Error::from);
    let found = file.and_then(|file| match image::identify(&file)? {
        Image::BzImage(bzimage) => {
            let mut setup = vec![0; bzimage.setup_size as usize];
            file.read_exact_at(&mut setup, 0)?;
            Ok(setup.windows(RT.len()).any(|word| word == RT.as_bytes()))
        }
        // An ELF says it somewhere among all of its data; the guest's own console does, too.
        Image::Elf(_) => Ok(true),
    });
    match found {
        Ok(true) => None,
        Ok(false) => Some(format!("{} is not a {RT} kernel", path.display())),
        Err(error) => Some(format!("kernel {} {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let (kernel, rt_kernel, available) = (None, None, Some(4 << 30));
        let pvm = Here {
            class: Class::Pvm,
            no_kvm: None,
            cpus: 2,
            free_hugepages: 100,
            available,
            kernel,
            rt_kernel,
        };
        let sizes = [("memory".to_owned(), "256M".to_owned())].into();
        let lacks = |here: &Here, need| here.lacks_one(need, &sizes);
        assert!(lacks(&pvm, Need::Linux).unwrap().contains("vmx or svm"));
        assert!(lacks(&pvm, Need::FourCpus).unwrap().contains("needs 4 CPUs, and this process has 2"));
        assert!(lacks(&pvm, Need::Hugepages).unwrap().contains("needs 128 free huge pages"));
        assert_eq!(lacks(&pvm, Need::TwoCpus), None);
        let svm = Here { class: Class::Svm, free_hugepages: 128, ..pvm };
        assert_eq!((lacks(&svm, Need::Hugepages), lacks(&svm, Need::Hardware)), (None, None));
        assert!(lacks(&svm, Need::Linux).unwrap().contains("--kernel FILE"));
        assert!(lacks(&svm, Need::RtLinux).unwrap().contains("resources/lab/kernels rt"));
        let unfit = Here { rt_kernel: Some("/proc/self/exe".into()), ..svm };
        assert_eq!(lacks(&unfit, Need::RtLinux), None);
        let none = Here { rt_kernel: Some("/no/such".into()), ..unfit };
        assert!(lacks(&none, Need::RtLinux).unwrap().starts_with("kernel /no/such can't be read"));
        let svm = none;
        let sized = |word: &str| svm.lacks_memory(&[word.to_owned()]);
        let why = "needs 8.00 GiB of memory, and this host has 4.00 GiB available";
        assert_eq!(sized("--memory=8G").as_deref(), Some(why));
        assert_eq!(sized("gups,ring=3,size=8G").as_deref(), Some(why));
        assert_eq!((sized("--memory=4G"), sized("rr,size=200")), (None, None));
        let none = Here { no_kvm: Some("open /dev/kvm: there is none".into()), ..svm };
        let mut variant: Variant = toml::from_str("name = 'x'\nargs = []").unwrap();
        assert!(none.lacks(&variant, &sizes).unwrap().contains("there is none"));
        variant.native = true;
        assert_eq!(none.lacks(&variant, &sizes), None);
    }
}
