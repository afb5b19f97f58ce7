//! The initramfs: one program and a console.

use vmm::boot::cpio::{Archive, Piece};

/// An archive in which `init` is process 1.
pub fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.directory("dev");
    archive.device("dev/console", 0o600, 5, 1);
    archive.bytes("init", 0o755, init);
    let (pieces, _) = archive.finish();
    let bytes = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(bytes),
        // None was put in.
        Piece::File { .. } => None,
    });
    bytes.flatten().collect()
}
