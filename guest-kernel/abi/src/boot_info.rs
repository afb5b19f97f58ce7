//! What the built-in guest kernel is told, and the state in which it is entered.
//!
//! The monitor lays one page into guest memory and enters every vCPU, all at once, at the ELF's
//! entry point, with:
//!
//! | | |
//! |---|---|
//! | mode | long mode, CPL 0; CR0 = PG, WP, NE, ET, MP, PE; CR4 = PAE, OSFXSR, OSXMMEXCPT; EFER = LMA, LME, NXE, SCE |
//! | CR3 | identity map of 0 to 4 GiB, and of all memory above, by 2 MiB pages; every level present, writable and user |
//! | CS, SS, DS, ES | flat: 64-bit code, read-write data. GDTR, IDTR, TR: anything; the kernel loads its own |
//! | RDI | physical address of the page with this information |
//! | RSI | number of this vCPU, which is also its local APIC's id |
//! | RFLAGS | 2: interrupts off. Other registers, the stack pointer too: anything |
//! | local APIC | on, as xAPIC or x2APIC; where ring 0 is interpreted better as xAPIC, which ring 3 drives without a gate; second vCPUs are RUNNABLE, not waiting for a start-up IPI |
//!
//! The page tables and this page lie below 1 MiB; the kernel lets that megabyte alone, takes the
//! memory from its own end on, and relies on its being zero.

/// Length of the page.
pub const PAGE: usize = 4096;
/// First bytes of the page.
pub const MAGIC: u64 = u64::from_le_bytes(*b"vmmboot1");
/// Bytes before the command line.
const HEADER: usize = 128;
/// Bits of the fifth word.
const INTERPRETED: u32 = 1 << 0;
const APIC: u32 = 1 << 1;
const X2APIC: u32 = 1 << 2;
const DEADLINE: u32 = 1 << 3;
/// Longest command line.
pub const COMMAND_LINE: usize = PAGE - HEADER;

/// How the host runs the guest's ring 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring0 {
    /// Natively: VMX, SVM.
    Native,
    /// By an emulator, hundreds of nanoseconds an instruction: kvm_pvm.
    Interpreted,
}

/// Every CPU's local APIC as it is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apic {
    /// In x2APIC mode.
    pub x2: bool,
    /// Its timer can be set to a value of the time stamp counter.
    pub tsc_deadline: bool,
}

/// virtio-mmio devices: a page of registers and a pin of the IOAPIC each, one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mmio {
    pub base: u64,
    pub count: u32,
    /// Of the first.
    pub pin: u32,
}

/// The root, a tar image; of no length: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    pub start: u64,
    pub len: u64,
}

/// The contents of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootInfo<'a> {
    /// End of memory below 4 GiB that is the kernel's; it begins at 0 and has no hole. The root lies
    /// behind it.
    pub low_end: u64,
    /// End of memory above 4 GiB; 4 GiB or less: there is none.
    pub high_end: u64,
    /// Frequency of the time stamp counter; 0: not known.
    pub tsc_khz: u32,
    pub vcpus: u32,
    pub ring0: Ring0,
    /// `None`: the kernel asks the CPU, which takes two ways into ring 0.
    pub apic: Option<Apic>,
    /// Configuration space of PCI bus 0; 0: there is no PCI.
    pub ecam: u64,
    pub mmio: Mmio,
    pub root: Root,
    /// Words; each `workload=NAME[,key=value…]` runs in turn, without any the tour runs.
    pub command_line: &'a str,
}

impl<'a> BootInfo<'a> {
    /// The page; `None` where the command line is longer than [`COMMAND_LINE`].
    pub fn encode(&self) -> Option<[u8; PAGE]> {
        let mut page = [0; PAGE];
        let (header, text) = page.split_at_mut(HEADER);
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = flag(self.ring0 == Ring0::Interpreted, INTERPRETED)
            | self.apic.map_or(0, |apic| APIC | flag(apic.x2, X2APIC) | flag(apic.tsc_deadline, DEADLINE));
        let words = [
            MAGIC,
            self.low_end,
            self.high_end,
            u64::from(self.tsc_khz) | u64::from(self.vcpus) << 32,
            u64::from(flags) | (self.command_line.len() as u64) << 32,
            self.ecam,
            self.mmio.base,
            u64::from(self.mmio.count) | u64::from(self.mmio.pin) << 32,
            self.root.start,
            self.root.len,
        ];
        for (bytes, word) in header.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        text.get_mut(..self.command_line.len())?.copy_from_slice(self.command_line.as_bytes());
        Some(page)
    }

    /// Reads the page.
    pub fn decode(page: &'a [u8; PAGE]) -> Option<BootInfo<'a>> {
        let (header, text) = page.split_at(HEADER);
        let word = |at: usize| header[8 * at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if word(0) != MAGIC {
            return None;
        }
        let command_line = core::str::from_utf8(text.get(..(word(4) >> 32) as usize)?).ok()?;
        let has = |bit: u32| word(4) as u32 & bit != 0;
        Some(BootInfo {
            low_end: word(1),
            high_end: word(2),
            tsc_khz: word(3) as u32,
            vcpus: (word(3) >> 32) as u32,
            ecam: word(5),
            mmio: Mmio { base: word(6), count: word(7) as u32, pin: (word(7) >> 32) as u32 },
            root: Root { start: word(8), len: word(9) },
            ring0: if has(INTERPRETED) { Ring0::Interpreted } else { Ring0::Native },
            apic: has(APIC).then(|| Apic { x2: has(X2APIC), tsc_deadline: has(DEADLINE) }),
            command_line,
        })
    }
}

/// The workloads a command line asks for, in order.
pub fn workloads(command_line: &str) -> impl Iterator<Item = &str> {
    command_line.split_whitespace().filter_map(|word| word.strip_prefix("workload="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_carries_everything() {
        let info = BootInfo {
            low_end: 3 << 30,
            high_end: 5 << 30,
            tsc_khz: 2_000_000,
            vcpus: 3,
            ring0: Ring0::Interpreted,
            apic: Some(Apic { x2: false, tsc_deadline: true }),
            ecam: 0xe000_0000,
            mmio: Mmio { base: 0xe020_0000, count: 3, pin: 2 },
            root: Root { start: 0xbfff_0000, len: 10240 },
            command_line: "quiet workload=ipc,items=5  workload=ready",
        };
        let page = info.encode().unwrap();
        assert_eq!(BootInfo::decode(&page), Some(info));
        assert!(workloads(info.command_line).eq(["ipc,items=5", "ready"]));
    }

    #[test]
    fn another_page_is_refused_and_a_long_line_too() {
        assert_eq!(BootInfo::decode(&[0; PAGE]), None);
        let long = [b'x'; COMMAND_LINE + 1];
        let command_line = core::str::from_utf8(&long).unwrap();
        let info = BootInfo {
            low_end: 0,
            high_end: 0,
            tsc_khz: 0,
            vcpus: 1,
            ring0: Ring0::Native,
            apic: None,
            ecam: 0,
            mmio: Mmio::default(),
            root: Root::default(),
            command_line,
        };
        assert_eq!(info.encode(), None);
        let mut page = BootInfo { command_line: "", ..info }.encode().unwrap();
        page[39] = 0xff;
        assert_eq!(BootInfo::decode(&page), None);
    }
}
