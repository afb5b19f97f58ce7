//! An initramfs of a shell script and a static busybox (cpio newc: Linux
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::path::{Path, PathBuf};

use super::machine::scratch;

/// An initramfs in a file that goes when this does.
pub struct Initrd(pub PathBuf);

impl Initrd {
    /// One whose `/init` is this script, with `/proc` and `/dev` mounted before it; `None`, after
    /// saying so, where there is no static busybox.
    pub fn script(script: &str) -> Option<Initrd> {
        let Some(busybox) =
            ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok())
        else {
            super::host::skip("no busybox: apt-get install busybox-static");
            return None;
        };
        let setup = "/bin/busybox mount -t devtmpfs dev /dev; /bin/busybox mount -t proc proc /proc";
        let init = format!("#!/bin/busybox sh\n{setup}\n{script}\n");
        let mut archive = Vec::new();
        for directory in ["bin", "dev", "proc", "sys"] {
            entry(&mut archive, directory, 0o040_755, &[]);
        }
        entry(&mut archive, "bin/busybox", 0o100_755, &busybox);
        entry(&mut archive, "init", 0o100_755, init.as_bytes());
        entry(&mut archive, "TRAILER!!!", 0, &[]);
        let path = scratch("initrd");
        std::fs::write(&path, archive).expect("write the initramfs");
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

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    // Magic, inode, mode, user, group, links, time, size, two devices, length of the name, checksum.
    let number = archive.len() as u32;
    let fields = [number, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
