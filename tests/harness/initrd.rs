//! An initramfs of a shell script and a static busybox.

use std::path::{Path, PathBuf};

use vmm::boot::cpio::{Archive, Piece};

use super::machine::scratch;

/// An initramfs in a file that goes when this does.
pub struct Initrd(pub PathBuf);

impl Initrd {
    /// One whose `/init` is this script, with `/proc` and `/dev` mounted before it; `None`, after
    /// saying so, where there is no static busybox.
    pub fn script(script: &str) -> Option<Initrd> {
        Initrd::with(script, &[])
    }

    /// The same, with these files of the host, each by its name in the archive.
    pub fn with(script: &str, files: &[(String, &Path)]) -> Option<Initrd> {
        let Some(busybox) =
            ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok())
        else {
            super::host::skip("no busybox: apt-get install busybox-static");
            return None;
        };
        let setup = "/bin/busybox mount -t devtmpfs dev /dev; /bin/busybox mount -t proc proc /proc";
        let init = format!("#!/bin/busybox sh\n{setup}\n{script}\n");
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "proc", "sys"] {
            archive.directory(directory);
        }
        archive.bytes("bin/busybox", 0o755, &busybox);
        archive.bytes("init", 0o755, init.as_bytes());
        for (name, path) in files {
            archive.bytes(name, 0o755, &std::fs::read(path).expect("read a file for the archive"));
        }
        let bytes: Vec<u8> = archive.finish().0.into_iter().flat_map(in_memory).collect();
        let path = scratch("initrd");
        std::fs::write(&path, bytes).expect("write the initramfs");
        Some(Initrd(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Initrd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn in_memory(piece: Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::File { name, .. } => panic!("{name} was not put in by its bytes"),
    }
}
