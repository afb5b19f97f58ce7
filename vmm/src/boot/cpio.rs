//! A cpio archive in the "newc" format, as the kernel unpacks one into its first root
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! An archive is a list of pieces: small ones in memory, file contents as open files. Its length is
//! known before anything is read, and a file's bytes go from the page cache straight to where
//! the archive is wanted. The same entries always make the same bytes.

use std::fs::File;

/// File types of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// A part of an archive, in order.
#[derive(Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// The first `len` bytes of `file`; `name` is for messages.
    File {
        file: File,
        len: u32,
        name: String,
    },
}

impl Piece {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File { len, .. } => u64::from(*len),
        }
    }
}

/// An archive under construction.
#[derive(Debug, Default)]
pub struct Archive {
    pieces: Vec<Piece>,
    len: u64,
    entries: u32,
}

impl Archive {
    /// A directory; its parent comes before it. Paths are relative to the root: `dev`.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, 0, (0, 0));
    }

    /// A character device.
    pub fn device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER | mode, 0, (major, minor));
    }

    /// A file with contents that are already in memory.
    pub fn bytes(&mut self, path: &str, mode: u32, content: &[u8]) {
        // Only this program's own short lists come here.
        self.entry(path, REGULAR | mode, content.len() as u32, (0, 0));
        self.push(content);
        self.pad();
    }

    /// A file with the first `len` bytes of `file`, read when the archive is copied.
    pub fn file(&mut self, path: &str, mode: u32, file: File, len: u32) {
        self.entry(path, REGULAR | mode, len, (0, 0));
        self.len += u64::from(len);
        self.pieces.push(Piece::File { file, len, name: path.to_owned() });
        self.pad();
    }

    /// The pieces, and how many bytes they are together.
    pub fn finish(mut self) -> (Vec<Piece>, u64) {
        self.entry("TRAILER!!!", 0, 0, (0, 0));
        (self.pieces, self.len)
    }

    fn entry(&mut self, name: &str, mode: u32, size: u32, device: (u32, u32)) {
        self.entries += 1;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let name_size = name.len() as u32 + 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.push(header.as_bytes());
        self.push(name.as_bytes());
        self.push(&[0]);
        self.pad();
    }

    /// Headers and contents begin at multiples of four bytes.
    fn pad(&mut self) {
        let missing = self.len.next_multiple_of(4) - self.len;
        self.push(&[0; 3][..missing as usize]);
    }

    /// Appends to the last piece in memory.
    fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::Bytes(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(archive: Archive) -> Vec<u8> {
        let (pieces, len) = archive.finish();
        let mut out = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend(bytes),
                Piece::File { len, .. } => out.extend(vec![b'f'; len as usize]),
            }
        }
        assert_eq!(out.len() as u64, len);
        out
    }

    #[test]
    fn an_entry_is_a_header_a_name_and_padded_contents() {
        let mut archive = Archive::default();
        archive.bytes("init", 0o755, b"hello");
        let out = flat(archive);
        let header = "070701 00000001 000081ed 00000000 00000000 00000001 00000000 00000005 \
                      00000000 00000000 00000000 00000000 00000005 00000000"
            .replace(' ', "");
        assert_eq!(&out[..110], header.as_bytes());
        // 110 + "init\0" is 115, padded to 116; 5 bytes of contents are padded to 124.
        assert_eq!(&out[110..124], b"init\0\0hello\0\0\0");
        assert_eq!(&out[124..130], b"070701");
        assert_eq!(out.len() % 4, 0);
    }

    #[test]
    fn devices_and_files_keep_their_numbers() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.device("dev/console", 0o600, 5, 1);
        archive.file("x", 0o644, File::open("/dev/null").unwrap(), 6);
        let out = String::from_utf8(flat(archive)).unwrap();
        assert!(out.contains("0000000500000001"), "{out}");
        // 110 bytes and "x\0" are a multiple of four, and "ffffff" is padded to the next.
        assert!(out.contains("x\0ffffff\0\x00070701"), "{out}");
        assert!(out.contains("TRAILER!!!\0"));
    }
}
