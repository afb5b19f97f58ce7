//! A tar image (POSIX.1-1988 ustar, and what GNU tar makes of it), read from its front to its end.

/// Headers and the padding of files.
const BLOCK: u64 = 512;
/// Fields of a header: size, its own checksum, type, and what every ustar has.
const SIZE: (usize, usize) = (124, 136);
const CHECKSUM: (usize, usize) = (148, 156);
const TYPE: usize = 156;
const MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Where an image comes from.
pub trait Image {
    /// Bytes of it, whole.
    fn bytes(&self) -> u64;
    /// Reads all of `bytes`; whether it could.
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool;
}

/// What is wrong with an image: words joined by `-`, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

/// One regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub at: u64,
    pub size: u64,
}

/// What is left of an image.
pub struct Files<'i, I>(pub &'i mut I, pub u64);

impl<I: Image> Files<'_, I> {
    /// The next regular file; directories, links and long names are passed over.
    pub fn take_next(&mut self) -> Result<Option<File>, Corrupt> {
        loop {
            let mut header = [0; BLOCK as usize];
            if self.1 + BLOCK > self.0.bytes() {
                // A zeroed block ends it; without one it was cut short.
                return Err(Corrupt("tar-has-no-end"));
            }
            if !self.0.read(self.1, &mut header) {
                return Err(Corrupt("tar-can't-be-read"));
            }
            if header.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let file = File { at: self.1 + BLOCK, size: check(&header)? };
            let end = file.size.checked_next_multiple_of(BLOCK).and_then(|size| file.at.checked_add(size));
            self.1 = end.filter(|end| *end <= self.0.bytes()).ok_or(Corrupt("tar-file-is-cut-short"))?;
            if matches!(header[TYPE], b'0' | 0) {
                return Ok(Some(file));
            }
        }
    }

    /// Reads all of a file, piece by piece.
    pub fn read(&mut self, file: File, mut each: impl FnMut(&[u8])) -> Result<(), Corrupt> {
        let mut piece = [0; 4096];
        let mut at = 0;
        while at < file.size {
            let len = (file.size - at).min(piece.len() as u64) as usize;
            if !self.0.read(file.at + at, &mut piece[..len]) {
                return Err(Corrupt("tar-can't-be-read"));
            }
            each(&piece[..len]);
            at += len as u64;
        }
        Ok(())
    }
}

/// The size that a sound header gives.
fn check(header: &[u8; BLOCK as usize]) -> Result<u64, Corrupt> {
    if header[MAGIC.0..].get(..MAGIC.1.len()) != Some(MAGIC.1) {
        return Err(Corrupt("tar-header-is-none"));
    }
    let counted = |(at, byte): (usize, &u8)| match (CHECKSUM.0..CHECKSUM.1).contains(&at) {
        true => u64::from(b' '),
        false => u64::from(*byte),
    };
    let sum: u64 = header.iter().enumerate().map(counted).sum();
    if number(&header[CHECKSUM.0..CHECKSUM.1]) != Some(sum) {
        return Err(Corrupt("tar-header-checksum-is-wrong"));
    }
    number(&header[SIZE.0..SIZE.1]).ok_or(Corrupt("tar-size-is-no-number"))
}

/// Octal digits, ended by a NUL or a space.
fn number(field: &[u8]) -> Option<u64> {
    let digits = field.split(|byte| matches!(byte, 0 | b' ')).find(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;
    use std::vec;
    use std::vec::Vec;

    impl Image for Vec<u8> {
        fn bytes(&self) -> u64 {
            Vec::len(self) as u64
        }
        fn read(&mut self, at: u64, bytes: &mut [u8]) -> bool {
            let there = self.get(at as usize..at as usize + bytes.len());
            there.map(|there| bytes.copy_from_slice(there)).is_some()
        }
    }

    fn member(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..4].copy_from_slice(b"name");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[156] = kind;
        header[257..262].copy_from_slice(b"ustar");
        sum(&mut header);
        header.extend(content);
        header.resize(header.len().next_multiple_of(512), 0);
        header
    }

    fn sum(header: &mut [u8]) {
        header[148..156].fill(b' ');
        let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn read(mut image: Vec<u8>) -> Result<Vec<Vec<u8>>, Corrupt> {
        let (mut files, mut contents) = (Files(&mut image, 0), Vec::new());
        while let Some(file) = files.take_next()? {
            let mut content = Vec::new();
            files.read(file, |piece| content.extend(piece))?;
            contents.push(content);
        }
        Ok(contents)
    }

    fn image() -> Vec<u8> {
        [member(b'5', b""), member(b'0', &[7; 5000]), member(b'L', b"long"), member(0, b"x"), vec![0; 1024]]
            .concat()
    }

    #[test]
    fn regular_files_are_read_whole() {
        assert_eq!(read(image()), Ok(vec![vec![7; 5000], b"x".to_vec()]));
        assert_eq!(read(vec![0; 512]), Ok(vec![]));
    }

    #[test]
    fn what_is_corrupt_is_said() {
        for cut in [0, 511, 512, 600, 5000, 6143] {
            let why = read(image()[..cut].to_vec()).unwrap_err();
            assert!(matches!(why.0, "tar-has-no-end" | "tar-file-is-cut-short"), "{cut}: {why:?}");
        }
        for (at, why) in [
            (257, "tar-header-is-none"),
            (3, "tar-header-checksum-is-wrong"),
            (150, "tar-header-checksum-is-wrong"),
            (512 + 130, "tar-header-checksum-is-wrong"),
        ] {
            let mut image = image();
            image[at] ^= 0x40;
            assert_eq!(read(image), Err(Corrupt(why)), "{at}");
        }
        let mut image = image();
        image[124..136].copy_from_slice(b"99999999999\0");
        sum(&mut image);
        assert_eq!(read(image.clone()), Err(Corrupt("tar-size-is-no-number")));
        image[124..136].copy_from_slice(b"77777777777\0");
        sum(&mut image);
        assert_eq!(read(image), Err(Corrupt("tar-file-is-cut-short")));
    }
}
