//! Entrances for fuzzing what is read: bytes in, no panic out. A fuzzer calls them ([`vmm/fuzz`]), and the
//! tests replay its corpus.
//!
//! - [`images`]  kernels and modules, from their headers into guest memory
//! - [`texts`]   what the host's kernel, a user, an earlier run or a guest has written

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use abi::record::Record;
use abi::workload::Spec;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::tempfile::TempFile;

use crate::boot::{image, load, modinfo, vmlinux};
use crate::cli;
use crate::compare::bundle::Bundle;
use crate::compare::{self, Format as Output, analysis, ledger};
use crate::config::Protocol;
use crate::kvm::stats::schema::Schema;
use crate::live::{screen, top};
use crate::topology;
use crate::trace::format::Format;

/// Guest memory: room for a block of a packed kernel, where one belongs.
const MEMORY: usize = 32 << 20;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("map memory")
}

/// A file that says `data`, and a path to it.
fn file(data: &[u8]) -> (File, PathBuf) {
    let file = TempFile::new_in(Path::new("/dev/shm")).expect("make a file in memory").into_file();
    file.write_all_at(data, 0).expect("fill it");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

/// A file of a kind that the first byte says: a kernel, a module, or what is packed in a kernel.
pub fn images(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let (file, path) = file(data);
    match kind % 5 {
        3 => drop(modinfo::depends(&file)),
        4 => {
            if let Ok(Some(packed)) = vmlinux::find(&file, (0, data.len() as u64)) {
                let _ = packed.unpack(&file, &memory(), 4 << 20, MEMORY as u64);
            }
        }
        protocol => {
            let protocol = [Protocol::Auto, Protocol::Linux, Protocol::Pvh][usize::from(protocol)];
            if let Ok(image) = image::identify(&file) {
                let _ = load::kernel(&memory(), MEMORY as u64, &path, (file, image), protocol);
            }
        }
    }
}

/// A text, or a statistics file, of a kind that the first byte says.
pub fn texts(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match kind % 8 {
        0 => {
            if let Ok(format) = Format::parse(&text) {
                let _ = format.field("exit_reason");
            }
        }
        1 => {
            let (_open, path) = file(data);
            if let Ok(mut bundle) = Bundle::read(&path) {
                bundle.join(bundle.clone());
                let classes = analysis::analyse(&bundle);
                for format in [Output::Json, Output::Csv, Output::Html] {
                    compare::render(format, &bundle, &classes);
                }
            }
        }
        2 => {
            let (mut stream, mut before) = (data, None);
            while let Ok(Some(now)) = top::next(&mut stream) {
                if let Some(before) = &before {
                    screen::lines(before, &now);
                }
                before = Some(now);
            }
        }
        3 => drop(topology::file::parse("fuzzed", &text)),
        4 => drop(cli::parse(std::iter::once("vmm").chain(text.split('\n')).map(Into::into))),
        5 => {
            let (_open, path) = file(data);
            drop(cli::parse(["vmm".into(), format!("--config={}", path.display()).into()]));
        }
        6 => {
            let (file, _) = file(data);
            if let Ok(schema) = Schema::read(&file) {
                let mut words = Vec::new();
                let _ = schema.read_data(&file, &mut words);
                schema.descriptors().iter().for_each(|descriptor| drop(descriptor.words(&words).to_vec()));
            }
        }
        _ => {
            for line in text.lines() {
                let _ = Record::decode(line);
                let _ = Spec::parse(line);
            }
            if let Ok(report) = serde_json::from_slice(data) {
                ledger::rows(&report);
                ledger::load(&report);
                ledger::rows_of_topology(&report);
                ledger::load_of_topology(&report);
            }
        }
    }
}

/// What the fuzzer has found worth keeping, again.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_the_fuzzer() {
        for (folder, target) in [("images", images as fn(&[u8])), ("texts", texts)] {
            let folder = format!("{}/fuzz/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files: Vec<_> =
                std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{folder}");
            files.iter().for_each(|file| target(&std::fs::read(file).unwrap()));
        }
    }
}
