//! Tells the linker where the kernel lies.

fn main() {
    println!("cargo:rerun-if-changed=src/arch/kernel.ld");
    println!("cargo:rustc-link-arg-bins=-T{}/src/arch/kernel.ld", env!("CARGO_MANIFEST_DIR"));
}
