//! A virtio device as a page of registers (virtio 1.2 §4.2), and its pin of the IOAPIC.

use super::Refused;
use super::registers::Registers;

/// Bytes from one page to the next.
const PAGE: usize = 0x1000;
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// Registers of the IOAPIC (82093AA §3.1): which one, and its value.
const IOAPIC: usize = 0xfec0_0000;
const IOAPIC_VALUE: usize = IOAPIC + 0x10;

/// Where the pages are, and the pin of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pub base: usize,
    pub count: usize,
    pub pin: u32,
}

/// One device's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub base: usize,
    pin: u32,
}

/// The page that is the `index`th of this virtio type.
pub fn find(io: &dyn Registers, pages: Pages, kind: u16, index: usize) -> Result<Page, Refused> {
    let page = |n: usize| Page::at(pages.base + n * PAGE, pages.pin + n as u32);
    let is_one = |page: &Page| {
        let id = [0, 4, 8].map(|register| io.load32(page.base + register));
        id == [MAGIC, 2, kind.into()]
    };
    (0..pages.count).map(page).filter(is_one).nth(index).ok_or(Refused("no-such-device"))
}

impl Page {
    /// The page at `base`, whose interrupt is this pin.
    pub const fn at(base: usize, pin: u32) -> Page {
        Page { base, pin }
    }

    /// Routes the pin, edge-triggered, to an interrupt vector of `cpu` (82093AA §3.2.4).
    pub fn route(&self, io: &dyn Registers, cpu: usize, interrupt: u8) {
        for (half, value) in [(1, (cpu as u32) << 24), (0, interrupt.into())] {
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
        let bank = Bank::new(4 * PAGE);
        for (n, (version, kind)) in [(2u32, 1u32), (2, 2), (1, 2), (2, 2)].into_iter().enumerate() {
            bank.put(n * PAGE, b"virt");
            bank.put(n * PAGE + 4, &version.to_le_bytes());
            bank.put(n * PAGE + 8, &kind.to_le_bytes());
        }
        let pages = Pages { base: 0, count: 4, pin: 2 };
        assert_eq!(find(&bank, pages, 2, 0), Ok(Page { base: PAGE, pin: 3 }));
        assert_eq!(find(&bank, pages, 2, 1), Ok(Page { base: 3 * PAGE, pin: 5 }));
        assert_eq!(find(&bank, pages, 2, 2), Err(Refused("no-such-device")));
    }
}
