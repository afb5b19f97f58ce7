//! Parse, build, run, print, exit code.
fn main() {
    if vmm::init::is_init() {
        vmm::init::run();
    }
}
