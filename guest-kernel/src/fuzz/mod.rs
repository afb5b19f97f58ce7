//! Entrances for fuzzing what a loader, a disk, a device or the network may say to this kernel: bytes in, no
//! panic out. A fuzzer calls them ([`guest-kernel/fuzz`]), and the tests replay its corpus.

mod boot;
mod driver;
mod frames;
mod tar;

pub use boot::boot;
pub use driver::driver;
pub use frames::frames;
pub use tar::tar;

/// What is mapped on any machine.
const MAPPED: usize = 4 << 30;

/// What the fuzzer has found worth keeping, again.
#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn the_corpus_of_the_fuzzer() {
        for (folder, target) in
            [("boot", boot as fn(&[u8])), ("tar", tar), ("driver", driver), ("frames", frames)]
        {
            let folder = format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files: Vec<_> =
                std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{folder}");
            files.iter().for_each(|file| target(&std::fs::read(file).unwrap()));
        }
    }
}
