//! Debian's kernels, where `resources/lab/kernels` put them.

use std::path::{Path, PathBuf};

/// One unpacked kernel package.
pub struct Kernel {
    /// As Debian ships it, compressed.
    pub bzimage: PathBuf,
    /// The ELF inside it.
    pub vmlinux: PathBuf,
    /// The same with only its PVH note to say how it is entered, if it was made.
    pub pvh: PathBuf,
    /// `lib/modules/VERSION`.
    pub modules: PathBuf,
}

/// `linux-image-cloud-amd64`: small, for virtual machines.
pub fn cloud() -> Option<Kernel> {
    find("cloud")
}

/// `linux-image-amd64`: every driver there is.
pub fn amd64() -> Option<Kernel> {
    find("amd64")
}

/// `linux-image-rt-amd64`: PREEMPT_RT.
pub fn rt() -> Option<Kernel> {
    find("rt")
}

/// `None`, after saying so, where nobody has fetched it.
fn find(name: &str) -> Option<Kernel> {
    let cache = std::env::var_os("LAB_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.lab"), PathBuf::from);
    let tree = cache.join(name);
    // Whole names: what lies beside a kernel is looked for where the file really is.
    let real = |file: &str| std::fs::canonicalize(tree.join(file)).ok();
    let kernel = || {
        Some(Kernel {
            bzimage: real("bzImage")?,
            vmlinux: real("vmlinux")?,
            pvh: tree.join("vmlinux-pvh"),
            modules: real("modules")?,
        })
    };
    let found = kernel();
    if found.is_none() {
        super::host::skip(&format!("no kernel in {}: run resources/lab/kernels {name}", tree.display()));
    }
    found
}
