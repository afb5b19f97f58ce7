//! Builds the built-in guest kernel, for its own target and into its own directory, so that the
//! binary carries it: `boot::builtin::KERNEL`. Lists the experiments and topologies that it carries, too,
//! and compiles the filters of its threads.

#[path = "build/filters.rs"]
mod filters;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the workspace is above this crate")?;
    for watched in ["guest-kernel", ".cargo/config.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    for kind in ["experiments", "topologies"] {
        list(&root.join("resources").join(kind), &Path::new(&out).join(format!("{kind}.rs")))?;
    }
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=src/sys/syscalls.rs");
    filters::write(&Path::new(&out).join("filters.rs"))?;
    let target = Path::new(&out).join("guest-kernel");
    // Its flags come from .cargo/config.toml and its profile from Cargo.toml; those meant for this build
    // must not get there. All that it needs has been fetched with the rest of the workspace.
    let mut cargo = Command::new(env::var("CARGO")?);
    for flags in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
    ] {
        cargo.env_remove(flags);
    }
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .current_dir(root)
        .args(["build", "--release", "--offline", "--package=guest-kernel", "--features=bare"])
        .args(["--target=x86_64-unknown-none", "--config=profile.release.strip=\"symbols\""])
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    if !status.success() {
        return Err(format!("the guest kernel did not build: {status}").into());
    }
    println!(
        "cargo:rustc-env=GUEST_KERNEL={}",
        target.join("x86_64-unknown-none/release/guest-kernel").display()
    );
    Ok(())
}

/// Lists a catalogue, so that a new entry is a file and nothing else: `repro::catalogue`, `topology::file`.
fn list(folder: &Path, list: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let entry = |path: &PathBuf| Some(format!("({:?}, include_str!({path:?})),\n", path.file_stem()?));
    let entries: String = files.iter().filter_map(entry).collect();
    std::fs::write(list, format!("const FILES: &[(&str, &str)] = &[\n{entries}];\n"))?;
    Ok(())
}
