//! The devices, as they were found, and how they are put back.

use crate::arch::device::Io;
use crate::kernel::MACHINE;
use crate::virtio::device::{self, Place, TYPES};
use crate::virtio::registers::Registers;

/// Most devices that a storm reaches.
const MOST: usize = 16;
/// Where no memory is: 3 to 4 GiB, with every register of the machine.
pub const HOLE: u64 = 0xc000_0000;

/// One device.
#[derive(Clone, Copy)]
pub struct Target {
    pub place: Place,
    pub kind: u16,
    /// Of a PCI function: its configuration space, its command register and BARs as they were.
    pub config: usize,
    header: [u32; HEADER],
}

/// Words of a header that can be changed, from the command register to the last BAR.
const HEADER: usize = 9;
const COMMAND: usize = 4;

/// All of them.
pub struct Targets {
    list: [Option<Target>; MOST],
    len: usize,
}

impl Targets {
    pub fn find() -> Targets {
        let buses = MACHINE.buses();
        let mut targets = Targets { list: [None; MOST], len: 0 };
        for kind in TYPES {
            for place in (0..).map_while(|index| device::find(&Io, &buses, kind, index).ok()) {
                let config = match place {
                    Place::Pci(at) => at.config,
                    Place::Mmio(_) => 0,
                };
                let word = |n: usize| if config == 0 { 0 } else { Io.load32(config + COMMAND + 4 * n) };
                let target = Target { place, kind, config, header: core::array::from_fn(word) };
                if let Some(slot) = targets.list.get_mut(targets.len) {
                    *slot = Some(target);
                    targets.len += 1;
                }
            }
        }
        targets
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn by_pci(&self) -> bool {
        self.iter().any(|target| target.config != 0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.list.iter().flatten()
    }

    pub fn get(&self, index: usize) -> Option<&Target> {
        self.list.get(index)?.as_ref()
    }

    /// Puts all of them back.
    pub fn restore(&self) {
        self.iter().for_each(Target::restore);
    }
}

impl Target {
    /// Puts the function where it was found, with decoding and MSI-X on.
    pub fn restore(&self) {
        let Place::Pci(at) = self.place else { return };
        // BARs first: the command register is what makes them answer.
        for (n, value) in self.header.iter().enumerate().skip(3).chain([(0, &self.header[0])]) {
            Io.store32(self.config + COMMAND + 4 * n, *value);
        }
        at.enable_msix(&Io);
    }

    /// Where its registers are, and how many bytes of them.
    pub fn registers(&self) -> (usize, usize) {
        match self.place {
            Place::Pci(at) => (at.common, 0x4000),
            Place::Mmio(at) => (at.base, 0x1000),
        }
    }

    /// Where its status is.
    pub fn status(&self) -> usize {
        match self.place {
            Place::Pci(at) => at.common + 20,
            Place::Mmio(at) => at.base + 0x70,
        }
    }

    /// Whether an access may change what interrupts the device sends: that is for [`super::msix`].
    pub fn is_table(&self, start: usize, len: usize) -> bool {
        match self.place {
            Place::Pci(at) => start < at.table + 16 * usize::from(at.vectors) && start + len > at.table,
            Place::Mmio(_) => false,
        }
    }
}

/// Where memory below 4 GiB ends.
pub fn memory_end() -> u64 {
    MACHINE.memory_end() as u64
}
