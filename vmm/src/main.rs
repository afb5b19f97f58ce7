//! Parse, build, run, print, exit code.
fn main() {}
