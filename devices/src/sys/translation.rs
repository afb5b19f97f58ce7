//! Guest addresses to host memory, by every way there is, against a model that asks of each byte alone: all
//! addresses and lengths about small regions, with neighbours and gaps, and about the end of 64 bits.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::Memory;
use super::peer::{Part, PeerMemory, Pieces};
use super::segments::Segments;
use super::window::Window;
use crate::fuzz::memory_file;
use crate::vhost_user::message::Region;

/// Where regions begin, and their bytes: from 0, a gap, two that meet, a gap, the last bytes that may be one.
const REGIONS: [(u64, u64); 5] = [(0, 5), (16, 16), (32, 8), (44, 1), (u64::MAX - 16, 16)];
/// Where a region begins in its peer's file.
const OFFSETS: [u64; 5] = [0, 48, 3, 4095, 7];
const USER: u64 = 0x1_0000;

/// The region of this byte; none has a byte beyond the end.
fn region(byte: u128) -> Option<usize> {
    let holds =
        |&(start, size): &(u64, u64)| (start.into()..u128::from(start) + u128::from(size)).contains(&byte);
    REGIONS.iter().position(holds)
}

/// What a byte of memory holds: no two hold the same.
fn stamp(byte: u128) -> u8 {
    (byte as u8 & 0x3f) + if byte >> 32 == 0 { 0 } else { 0x40 }
}

/// The bytes of a range and the region of each; `None` where any is no memory.
fn model(address: u64, len: u64) -> Option<(Vec<u8>, Vec<usize>)> {
    let bytes = u128::from(address)..u128::from(address) + u128::from(len);
    let regions: Option<Vec<usize>> = bytes.clone().map(region).collect();
    regions.map(|regions| (bytes.map(stamp).collect(), regions))
}

/// Every address and length about the regions, and lengths that lead from any of them around the end.
fn ranges() -> impl Iterator<Item = (u64, u64)> {
    let addresses = (0..64).chain(u64::MAX - 40..=u64::MAX).chain([1 << 31, 1 << 32, 1 << 63]);
    let lengths = (0..64).chain([1 << 31, u64::from(u32::MAX)]);
    addresses.flat_map(move |address| lengths.clone().map(move |len| (address, len)))
}

fn one_region(regions: &[usize]) -> bool {
    regions.windows(2).all(|two| two[0] == two[1])
}

#[test]
fn guest_memory_is_what_the_model_says() {
    let places = REGIONS.map(|(start, size)| (GuestAddress(start), size as usize));
    let memory: Memory = Arc::new(GuestMemoryMmap::from_ranges(&places).unwrap());
    for (start, size) in REGIONS {
        for byte in start..start + size {
            memory.write_obj(stamp(byte.into()), GuestAddress(byte)).unwrap();
        }
    }
    let (mut whole, mut across) = (0, 0);
    for (address, len) in ranges() {
        let said = model(address, len);
        let mut segments = Segments::new(&memory);
        assert_eq!(segments.push(address, len as u32), said.is_some(), "{address:#x}+{len:#x}");
        if let Some((bytes, regions)) = &said {
            let mut read = vec![0; bytes.len()];
            assert_eq!(segments.len(), bytes.len());
            assert_eq!(segments.read(&mut read), bytes.len());
            assert_eq!(&read, bytes, "{address:#x}+{len:#x}");
            across += usize::from(!one_region(regions));
        }
        for align in [1, 2, 4, 16] {
            let there = said.as_ref().is_some_and(|(_, regions)| one_region(regions))
                && (len > 0 || region(address.into()).is_some())
                && address.is_multiple_of(align);
            let window = Window::new(&memory, address, len as usize, align);
            assert_eq!(window.is_some(), there, "{address:#x}+{len:#x} by {align}");
            whole += usize::from(there);
        }
    }
    assert!(whole > 100 && across > 10, "{whole} {across}");
}

#[test]
fn a_peers_memory_is_what_the_model_says() {
    let mut memory = PeerMemory::default();
    // In an order that is not that of their addresses.
    for at in [3, 0, 4, 2, 1] {
        let ((guest, size), offset) = (REGIONS[at], OFFSETS[at]);
        let file = memory_file(8192);
        file.write_all_at(&[0xff; 8192], 0).unwrap();
        let bytes: Vec<u8> = (guest..guest + size).map(|byte| stamp(byte.into())).collect();
        file.write_all_at(&bytes, offset).unwrap();
        memory = memory.with(Region { guest, size, user: user(at), offset }, file.into()).unwrap();
    }
    let memory = Arc::new(memory);
    let mut pieces = Pieces::default();
    for (address, len) in ranges() {
        let said = model(address, len);
        // What was found before is the guess of what is looked for next: from each region.
        for (near, _) in REGIONS {
            pieces.reset(&memory);
            assert!(pieces.push(near, 1));
            assert_eq!(pieces.push(address, len as u32), said.is_some(), "{address:#x}+{len:#x}");
            let Some((bytes, _)) = &said else { continue };
            let mut read = vec![0; bytes.len() + 2];
            assert_eq!(pieces.read(&mut Default::default(), &mut read), bytes.len() + 1);
            assert_eq!(read[1..=bytes.len()], bytes[..], "{address:#x}+{len:#x}");
        }
        if len < 64 {
            let mut read = vec![0; len as usize];
            assert_eq!(memory.read(address, &mut read), said.is_some(), "{address:#x}+{len:#x}");
            assert!(said.as_ref().is_none_or(|(bytes, _)| *bytes == read));
        }
        for align in [1, 2, 4, 16] {
            // Words are atomic: the host's address must be aligned like the guest's.
            let host = region(address.into()).map(|at| address - REGIONS[at].0 + OFFSETS[at]);
            let there = said.as_ref().is_some_and(|(_, regions)| one_region(regions))
                && host.is_some_and(|host| host.is_multiple_of(align))
                && address.is_multiple_of(align);
            let part = Part::new(&memory, address, len as usize, align);
            assert_eq!(part.is_some(), there, "{address:#x}+{len:#x} by {align}");
        }
    }
}

/// Apart from each other, and not in the guest's order.
fn user(at: usize) -> u64 {
    USER * (REGIONS.len() - at) as u64
}

#[test]
fn a_peers_own_addresses_are_what_the_model_says() {
    let mut memory = PeerMemory::default();
    for (at, (guest, size)) in REGIONS.into_iter().enumerate() {
        memory =
            memory.with(Region { guest, size, user: user(at), offset: 0 }, memory_file(4096).into()).unwrap();
    }
    for near in [0, user(4), user(3), user(2), user(1), user(0), u64::MAX - 100] {
        for address in near.saturating_sub(40)..near + 64 {
            let at = (0..REGIONS.len()).find(|&at| (user(at)..user(at) + REGIONS[at].1).contains(&address));
            let guest = at.map(|at| REGIONS[at].0 + (address - user(at)));
            assert_eq!(memory.guest_address(address), guest, "{address:#x}");
        }
    }
}

/// One more region, of every size at every place about another: the two are apart or it is refused.
#[test]
fn regions_that_overlap_or_wrap_are_refused() {
    let first = Region { guest: 20, size: 8, user: USER, offset: 0 };
    let memory = PeerMemory::default().with(first, memory_file(4096).into()).unwrap();
    for guest in (0..40).chain(u64::MAX - 10..=u64::MAX) {
        for size in 0..30 {
            let second = Region { guest, size, user: 2 * USER, offset: 0 };
            let end = u128::from(guest) + u128::from(size);
            let shared = (guest.into()..end).any(|byte| (20..28).contains(&byte));
            let taken = memory.with(second, memory_file(4096).into()).is_ok();
            assert_eq!(taken, size > 0 && !shared && end <= u64::MAX.into(), "{guest:#x}+{size}");
        }
    }
}
