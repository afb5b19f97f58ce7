//! What a kernel file is, told by its content.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::segments::Segment;

/// A kernel that can be entered, and what its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Linux/x86 boot protocol 2.06 or later with a 64-bit entry point
    /// (Documentation/arch/x86/boot.rst).
    BzImage(BzImage),
    Elf(Elf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// Bytes of real-mode code before the protected-mode kernel.
    pub setup_size: u64,
    /// Where the kernel decompresses to, and how much it needs from there on.
    pub pref_address: u64,
    pub init_size: u64,
    /// `payload_offset`, `payload_length`: the compressed vmlinux, within the file.
    pub payload: (u64, u64),
    /// The kernel's longest command line, without the NUL.
    pub cmdline_size: u32,
    /// `initrd_addr_max`.
    pub initrd_max: u64,
    /// `6.1.0-42-cloud-amd64`, where the header tells.
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    pub entry: u64,
    pub segments: Vec<Segment>,
    /// One past the highest physical address of any loaded segment.
    pub end: u64,
    /// XEN_ELFNOTE_PHYS32_ENTRY: the PVH entry point.
    pub pvh: Option<u32>,
    /// Linux marks itself by notes of owner "Linux" (since 4.19).
    pub linux: bool,
}

/// Why a file is no kernel, in words that follow its path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("is empty")]
    Empty,
    #[error("is neither a bzImage nor an ELF kernel")]
    Unknown,
    #[error("is cut short: its header promises {promised} bytes, the file has {has}")]
    CutShort { promised: u64, has: u64 },
    #[error("is an ELF file for another machine (e_machine {0}, need 62, x86-64)")]
    Machine(u16),
    #[error("is a 32-bit ELF file; need a 64-bit one")]
    Elf32,
    #[error("is an ELF file of type {0}; need an executable (2) or a position-independent one (3)")]
    ElfType(u16),
    #[error("has a malformed ELF header: {0}")]
    Malformed(&'static str),
    #[error("has boot protocol {:#06x} without a 64-bit entry; need a 64-bit Linux 3.8 or later", .0)]
    Protocol(u16),
    #[error("can't be read: {0}")]
    Read(#[from] std::io::Error),
}

/// `HdrS` at 0x202 (boot.rst, "The Real-Mode Kernel Header").
const HDRS: u32 = 0x5372_6448;
/// XLF_KERNEL_64 of `xloadflags`.
const XLF_KERNEL_64: u16 = 1;
/// Real kernels have a dozen; the file may say anything.
const MAX_PROGRAM_HEADERS: u16 = 128;
/// Real note segments are under a kilobyte.
const MAX_NOTES: u64 = 0x1_0000;

/// Reads the headers of `file`.
pub fn identify(file: &File) -> Result<Image, Error> {
    let size = file.metadata()?.len();
    if size == 0 {
        return Err(Error::Empty);
    }
    let mut head = vec![0; size.min(0x1000) as usize];
    file.read_exact_at(&mut head, 0)?;
    if head.starts_with(b"\x7fELF") {
        elf(file, &head, size).map(Image::Elf)
    } else if u32_at(&head, 0x202) == Some(HDRS) {
        bzimage(file, &head, size).map(Image::BzImage)
    } else if head.len() < 0x206 && u16_at(&head, 0) == Some(0x5a4d) {
        Err(Error::CutShort { promised: 0x206, has: size })
    } else {
        Err(Error::Unknown)
    }
}

fn bzimage(file: &File, head: &[u8], size: u64) -> Result<BzImage, Error> {
    let short = |promised| Error::CutShort { promised, has: size };
    let byte = |at: usize| head.get(at).copied().ok_or(short(at as u64 + 1));
    let word = |at: usize| u16_at(head, at).ok_or(short(at as u64 + 2));
    let long = |at: usize| u32_at(head, at).ok_or(short(at as u64 + 4));
    let protocol = word(0x206)?;
    if protocol < 0x020c || word(0x236)? & XLF_KERNEL_64 == 0 {
        return Err(Error::Protocol(protocol));
    }
    let setup_size = match byte(0x1f1)? {
        0 => 5 * 512,
        sectors => (u64::from(sectors) + 1) * 512,
    };
    // `syssize` counts the protected-mode code in 16-byte paragraphs.
    let promised = setup_size + u64::from(long(0x1f4)?) * 16;
    if size < promised {
        return Err(short(promised));
    }
    let payload = (setup_size + u64::from(long(0x248)?), u64::from(long(0x24c)?));
    if payload.0 + payload.1 > size {
        return Err(short(payload.0 + payload.1));
    }
    let pref_address = u64::from(long(0x258)?) | u64::from(long(0x25c)?) << 32;
    Ok(BzImage {
        setup_size,
        pref_address,
        init_size: u64::from(long(0x260)?),
        payload,
        cmdline_size: long(0x238)?,
        initrd_max: u64::from(long(0x22c)?),
        version: version(file, u64::from(word(0x20e)?) + 0x200, setup_size),
    })
}

/// The first word of the version string that the setup code carries.
fn version(file: &File, at: u64, setup_size: u64) -> Option<String> {
    let mut text = [0; 128];
    let take = text.len().min(usize::try_from(setup_size.checked_sub(at)?).ok()?);
    file.read_exact_at(&mut text[..take], at).ok()?;
    let end = text.iter().position(|b| *b == 0 || *b == b' ')?;
    let word = std::str::from_utf8(&text[..end]).ok()?;
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'/')).then(|| word.to_owned())
}

fn elf(file: &File, head: &[u8], size: u64) -> Result<Elf, Error> {
    if head.len() < 64 {
        return Err(Error::CutShort { promised: 64, has: size });
    }
    if head[4] != 2 {
        return Err(Error::Elf32);
    }
    if head[5] != 1 {
        return Err(Error::Malformed("not little-endian"));
    }
    let kind = u16_at(head, 16).unwrap_or(0);
    let machine = u16_at(head, 18).unwrap_or(0);
    if machine != 62 {
        return Err(Error::Machine(machine));
    }
    if kind != 2 && kind != 3 {
        return Err(Error::ElfType(kind));
    }
    let (offset, count) = (u64_at(head, 32).unwrap_or(0), u16_at(head, 56).unwrap_or(0));
    if u16_at(head, 54) != Some(56) || count == 0 || count > MAX_PROGRAM_HEADERS {
        return Err(Error::Malformed("program headers"));
    }
    let end = offset.checked_add(u64::from(count) * 56).ok_or(Error::Malformed("program header offset"))?;
    if end > size {
        return Err(Error::CutShort { promised: end, has: size });
    }
    let mut headers = vec![0; usize::from(count) * 56];
    file.read_exact_at(&mut headers, offset)?;

    let mut found = Elf { entry: u64_at(head, 24).unwrap_or(0), ..Elf::default() };
    for header in headers.chunks_exact(56) {
        let field = |at| u64_at(header, at).unwrap_or(0);
        let (offset, paddr, in_file, in_memory) = (field(8), field(24), field(32), field(40));
        let last = offset.checked_add(in_file).ok_or(Error::Malformed("segment offset"))?;
        match u32_at(header, 0) {
            Some(PT_LOAD) if last > size => return Err(Error::CutShort { promised: last, has: size }),
            Some(PT_LOAD) if in_file > in_memory => return Err(Error::Malformed("segment size")),
            Some(PT_LOAD) => {
                let end = paddr.checked_add(in_memory).ok_or(Error::Malformed("segment address"))?;
                found.end = found.end.max(end);
                found.segments.extend(Segment::read(header));
            }
            Some(PT_NOTE) if last <= size && in_file <= MAX_NOTES => {
                let mut notes = vec![0; in_file as usize];
                file.read_exact_at(&mut notes, offset)?;
                read_notes(&notes, &mut found);
            }
            _ => {}
        }
    }
    if found.end == 0 {
        return Err(Error::Malformed("no segment to load"));
    }
    Ok(found)
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// xen/include/public/elfnote.h.
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// Each note: name size, descriptor size, type; then both, padded to four bytes.
fn read_notes(mut notes: &[u8], found: &mut Elf) {
    while let (Some(name_size), Some(desc_size), Some(kind)) =
        (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8))
    {
        let name_at = 12usize;
        let desc_at = name_at.saturating_add((name_size as usize).saturating_add(3) & !3);
        let next = desc_at.saturating_add((desc_size as usize).saturating_add(3) & !3);
        let name = notes.get(name_at..name_at.saturating_add(name_size as usize)).unwrap_or(&[]);
        match name {
            b"Linux\0" => found.linux = true,
            b"Xen\0" if kind == XEN_ELFNOTE_PHYS32_ENTRY => found.pvh = u32_at(notes, desc_at),
            _ => {}
        }
        notes = notes.get(next..).unwrap_or(&[]);
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        file.write_all(bytes).unwrap();
        file
    }

    /// A 64-bit executable with one loaded segment and one note segment.
    pub(crate) fn tiny_elf(notes: &[u8]) -> Vec<u8> {
        let mut elf = vec![0u8; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[16] = 2;
        elf[18] = 62;
        elf[24..32].copy_from_slice(&0x10_0000u64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        elf[64] = 1;
        elf[64 + 24..64 + 32].copy_from_slice(&0x10_0000u64.to_le_bytes());
        elf[64 + 40..64 + 48].copy_from_slice(&0x1000u64.to_le_bytes());
        let note = 64 + 56;
        elf[note] = 4;
        elf[note + 8..note + 16].copy_from_slice(&176u64.to_le_bytes());
        elf[note + 32..note + 40].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        elf.extend_from_slice(notes);
        elf
    }

    fn note(owner: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [owner.len() as u32, desc.len() as u32, kind] {
            note.extend_from_slice(&word.to_le_bytes());
        }
        for part in [owner, desc] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn notes_tell_linux_from_pvh() {
        let pvh = note(b"Xen\0", 18, &0x10_0040u32.to_le_bytes());
        let linux = note(b"Linux\0", 0x101, &[0]);
        let Ok(Image::Elf(found)) = identify(&file(&tiny_elf(&pvh))) else { panic!() };
        assert_eq!((found.pvh, found.linux, found.end), (Some(0x10_0040), false, 0x10_1000));
        let Ok(Image::Elf(found)) = identify(&file(&tiny_elf(&[linux, pvh].concat()))) else { panic!() };
        assert_eq!((found.pvh, found.linux), (Some(0x10_0040), true));
    }

    #[test]
    fn notes_that_lie_end_the_walk() {
        let mut found = Elf::default();
        for lie in [[0xff; 12], [0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0, 18, 0, 0, 0]] {
            read_notes(&lie, &mut found);
        }
        assert_eq!(found, Elf::default());
    }

    #[test]
    fn every_truncation_of_an_elf_is_refused_in_words() {
        let whole = tiny_elf(&note(b"Xen\0", 18, &[0; 4]));
        for cut in 1..176 {
            assert!(identify(&file(&whole[..cut])).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn what_is_no_kernel() {
        assert!(matches!(identify(&file(b"")), Err(Error::Empty)));
        assert!(matches!(identify(&file(b"#!/bin/sh\n")), Err(Error::Unknown)));
        let mut other = tiny_elf(&[]);
        other[18] = 183;
        assert!(matches!(identify(&file(&other)), Err(Error::Machine(183))));
        other[4] = 1;
        assert!(matches!(identify(&file(&other)), Err(Error::Elf32)));
    }
}
