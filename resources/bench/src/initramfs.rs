//! The initramfs: one program, a console, and the modules that the program loads.

use std::fs;
use std::io;

use vmm::boot::cpio::{Archive, Piece};
use vmm::boot::modules::Module;

/// Where process 1 finds its modules, named so that their order is the order to load them.
pub const MODULES: &str = "modules";

/// An archive in which `init` is process 1.
pub fn archive(init: &[u8], modules: &[Module]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", MODULES] {
        archive.directory(directory);
    }
    archive.device("dev/console", 0o600, 5, 1);
    for (module, number) in modules.iter().zip(100..) {
        let file = module.path.file_name().unwrap_or_default().to_string_lossy();
        archive.bytes(&format!("{MODULES}/{number}-{file}"), 0o644, &fs::read(&module.path)?);
    }
    archive.bytes("init", 0o755, init);
    let (pieces, _) = archive.finish();
    let bytes = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(bytes),
        // None was put in.
        Piece::File { .. } => None,
    });
    Ok(bytes.flatten().collect())
}
