//! What a kernel module says that it needs: `depends=` in the `.modinfo` section of its ELF file
//! (Linux include/linux/module.h; ELF-64 Object File Format, sections).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Real string tables and `.modinfo` sections are a few kilobytes.
const MAX_SECTION: u64 = 1 << 20;
/// Bytes of an ELF-64 section header.
const SECTION_HEADER: usize = 64;

/// Why a file is no kernel module, in words that follow its path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("is not a kernel module: {0}")]
    Malformed(&'static str),
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
}

/// The names of the modules that must be loaded before this one.
pub fn depends(file: &File) -> Result<Vec<String>, Error> {
    let info = modinfo(file)?;
    let mut names = Vec::new();
    for field in info.split(|byte| *byte == 0) {
        let Some(list) = field.strip_prefix(b"depends=") else { continue };
        for name in list.split(|byte| *byte == b',').filter(|name| !name.is_empty()) {
            names.push(
                std::str::from_utf8(name).map_err(|_| Error::Malformed("depends= is no text"))?.to_owned(),
            );
        }
    }
    Ok(names)
}

fn modinfo(file: &File) -> Result<Vec<u8>, Error> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).map_err(|_| Error::Malformed("shorter than an ELF header"))?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(Error::Malformed("not a little-endian 64-bit ELF file"));
    }
    let table = u64_at(&header, 0x28);
    let (count, names) = (u16_at(&header, 0x3c), u16_at(&header, 0x3e));
    if usize::from(u16_at(&header, 0x3a)) != SECTION_HEADER || names >= count {
        return Err(Error::Malformed("section table of an unknown shape"));
    }
    let mut sections = vec![0; usize::from(count) * SECTION_HEADER];
    file.read_exact_at(&mut sections, table).map_err(|_| Error::Malformed("section table beyond the end"))?;
    let (sections, _) = sections.as_chunks::<SECTION_HEADER>();
    let strings = sections.get(usize::from(names)).ok_or(Error::Malformed("no section names"))?;
    let strings = content(file, strings)?;
    for section in sections {
        let name = strings.get(u32_at(section, 0) as usize..).unwrap_or_default();
        if name.starts_with(b".modinfo\0") {
            return content(file, section);
        }
    }
    Err(Error::Malformed("no .modinfo section"))
}

fn content(file: &File, section: &[u8; SECTION_HEADER]) -> Result<Vec<u8>, Error> {
    let (offset, size) = (u64_at(section, 0x18), u64_at(section, 0x20));
    if size > MAX_SECTION {
        return Err(Error::Malformed("a section of more than 1 MiB where names belong"));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, offset).map_err(|_| Error::Malformed("a section beyond the end"))?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8; 64], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; 64], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8; 64], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The smallest ELF file that is a module depending on `depends`.
#[cfg(test)]
pub(super) fn synthetic(depends: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let info = format!("license=GPL\0depends={depends}\0name=x\0");
    let (names_at, info_at) = (64u64, 64 + names.len() as u64);
    let table = info_at + info.len() as u64;
    let mut out = vec![0; 64];
    out[..6].copy_from_slice(b"\x7fELF\x02\x01");
    out[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    out[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
    out.extend_from_slice(names);
    out.extend_from_slice(info.as_bytes());
    for (name, at, size) in [(0u32, 0, 0), (1, info_at, info.len()), (10, names_at, names.len())] {
        let mut section = [0; SECTION_HEADER];
        section[..4].copy_from_slice(&name.to_le_bytes());
        section[0x18..0x20].copy_from_slice(&at.to_le_bytes());
        section[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
        out.extend_from_slice(&section);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.write_all(bytes).unwrap();
        depends(&file)
    }

    #[test]
    fn dependencies_are_split_at_commas() {
        assert_eq!(read(&synthetic("")).unwrap(), Vec::<String>::new());
        assert_eq!(read(&synthetic("virtio,virtio_ring")).unwrap(), ["virtio", "virtio_ring"]);
    }

    #[test]
    fn cut_anywhere_it_is_an_error() {
        let module = synthetic("a");
        for len in 0..module.len() {
            assert!(read(&module[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn every_byte_may_be_anything() {
        let module = synthetic("a");
        for at in 0..module.len() {
            let mut bent = module.clone();
            bent[at] = 0xff;
            let _ = read(&bent);
        }
    }
}
