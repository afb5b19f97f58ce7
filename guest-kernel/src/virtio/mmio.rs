//! A virtio device as a page of registers (virtio 1.2 §4.2), and its pin of the IOAPIC.

use abi::boot_info::Mmio;

use super::Refused;
use super::registers::Registers;

/// Devices that are looked at: as many as QEMU's microvm has places for.
const MOST: usize = 24;
/// The word by which a loader says where one is (Linux, admin-guide/kernel-parameters.rst, virtio_mmio.device).
const WORD: &str = "virtio_mmio.device=";
/// Bytes from one of our monitor's to the next.
const OURS: usize = 0x1000;
/// Registers lie below it, with room for a page of them.
const MAPPED: usize = (4 << 30) - 0x1000;
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// Pins of the IOAPIC, and its registers (82093AA §3.1): which one, and its value.
const PINS: u32 = 24;
const IOAPIC: usize = 0xfec0_0000;
const IOAPIC_VALUE: usize = IOAPIC + 0x10;

/// Where devices are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pages: [Page; MOST],
    count: usize,
}

/// One device's page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub base: usize,
    pin: u32,
}

impl Pages {
    /// Those of our monitor, one behind the other, and those that the command line names: `SIZE@BASE:PIN`.
    pub fn new(ours: Mmio, command_line: &str) -> Pages {
        let base = |n| (ours.base as usize).checked_add(n as usize * OURS).filter(|base| *base < MAPPED);
        let side_by_side =
            (0..ours.count).map_while(|n| Some(Page { base: base(n)?, pin: ours.pin.checked_add(n)? }));
        let named = command_line.split_whitespace().filter_map(|word| Page::named(word.strip_prefix(WORD)?));
        let mut pages = Pages::default();
        for (place, page) in pages.pages.iter_mut().zip(side_by_side.chain(named)) {
            *place = page;
            pages.count += 1;
        }
        pages
    }
}

/// The page that is the `index`th of this virtio type.
pub fn find(io: &dyn Registers, pages: &Pages, kind: u16, index: usize) -> Result<Page, Refused> {
    let is_one = |page: &Page| {
        let id = [0, 4, 8].map(|register| io.load32(page.base + register));
        id == [MAGIC, 2, kind.into()]
    };
    let there = pages.pages.iter().take(pages.count).copied();
    there.filter(is_one).nth(index).ok_or(Refused("no-such-device"))
}

impl Page {
    /// As `SIZE@BASE:PIN` has it; what lies beyond the memory that is mapped is none.
    fn named(word: &str) -> Option<Page> {
        let (_, place) = word.split_once('@')?;
        let mut parts = place.split(':');
        let base = usize::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok()?;
        let pin = parts.next()?.parse().ok().filter(|pin| *pin < PINS)?;
        (base.is_multiple_of(4) && base < MAPPED).then_some(Page { base, pin })
    }

    /// The page at `base`, whose interrupt is this pin.
    pub const fn at(base: usize, pin: u32) -> Page {
        Page { base, pin }
    }

    /// Routes the pin, edge-triggered, to an interrupt vector of `cpu` (82093AA §3.2.4).
    pub fn route(&self, io: &dyn Registers, cpu: usize, interrupt: u8) {
        self.redirect(io, interrupt.into(), cpu as u8);
    }

    /// Sets the pin's redirection: vector, delivery and trigger; and whom it goes to.
    pub fn redirect(&self, io: &dyn Registers, interrupt: u32, destination: u8) {
        for (half, value) in [(1, u32::from(destination) << 24), (0, interrupt)] {
            io.store32(IOAPIC, 0x10 + 2 * self.pin + half);
            io.store32(IOAPIC_VALUE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bank;
    use super::*;

    #[test]
    fn a_page_is_found_by_its_type() {
        const PAGE: usize = 0x200;
        let bank = Bank::new(4 * PAGE);
        for (n, (version, kind)) in [(2u32, 1u32), (2, 2), (1, 2), (2, 2)].into_iter().enumerate() {
            bank.put(n * PAGE, b"virt");
            bank.put(n * PAGE + 4, &version.to_le_bytes());
            bank.put(n * PAGE + 8, &kind.to_le_bytes());
        }
        let line = "quiet virtio_mmio.device=512@0x0:5 virtio_mmio.device=512@0x200:6 workload=ready \
                    virtio_mmio.device=512@0x400:7 virtio_mmio.device=512@0x600:8";
        let pages = Pages::new(Mmio::default(), line);
        assert_eq!(find(&bank, &pages, 2, 0), Ok(Page { base: PAGE, pin: 6 }));
        assert_eq!(find(&bank, &pages, 2, 1), Ok(Page { base: 3 * PAGE, pin: 8 }));
        assert_eq!(find(&bank, &pages, 2, 2), Err(Refused("no-such-device")));
    }

    #[test]
    fn our_monitors_lie_side_by_side_and_nonsense_is_nowhere() {
        let pages = Pages::new(Mmio { base: 0xe020_0000, count: 2, pin: 3 }, "");
        assert_eq!(pages.count, 2);
        assert_eq!(pages.pages[1], Page { base: 0xe020_1000, pin: 4 });
        let beyond = Mmio { base: MAPPED as u64 - OURS as u64, count: 2, pin: 3 };
        assert_eq!(Pages::new(beyond, "").count, 1);
        for word in
            ["512@0x0", "512@feb00000:5", "0xfeb00000:5", "512@0xfeb00000:24", "4K@0xfffff800:5", "1@0x2:1"]
        {
            assert_eq!(Page::named(word), None, "{word}");
        }
        assert_eq!(Page::named("512@0xfeb00e00:12:0"), Some(Page { base: 0xfeb0_0e00, pin: 12 }));
        let many = [WORD, "512@0xfeb00000:5 "].concat().repeat(MOST + 1);
        assert_eq!(Pages::new(Mmio::default(), &many).count, MOST);
    }
}
