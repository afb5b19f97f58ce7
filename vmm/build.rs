//! Builds the built-in guest kernel, for its own target and into its own directory, so that the
//! binary carries it: `boot::builtin::KERNEL`.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the workspace is above this crate")?;
    for watched in ["guest-kernel", ".cargo/config.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
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
