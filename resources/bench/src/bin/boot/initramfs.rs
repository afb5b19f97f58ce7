//! The initramfs: one program and a console (cpio newc: Linux
//! Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive in which `init` is process 1.
pub fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(init.len() + 1024);
    entry(&mut archive, "dev", 0o040_755, (0, 0), &[]);
    entry(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
    entry(&mut archive, "init", 0o100_755, (0, 0), init);
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    // Inode, mode, user, group, links, time, size, device of the file, device that it is, length of
    // the name with its NUL, checksum.
    let inode = archive.len() as u32;
    let (major, minor) = device;
    let name_length = name.len() as u32 + 1;
    let fields = [inode, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, major, minor, name_length, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
