//! ACPI tables of a hardware-reduced machine (ACPI 6.5): what is there, and above all what isn't, so
//! that the kernel doesn't look for it. Each absence below is exits that need not happen.

use abi::port;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml, aml::AddressSpaceCacheable};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;

const OEM: [u8; 6] = *b"VMM   ";
const TABLE: [u8; 8] = *b"VMMVMM  ";

/// IAPC_BOOT_ARCH (ACPI 6.5 §5.2.9.3): no VGA, no CMOS RTC; bits 0 and 1 clear: no legacy devices, no
/// i8042.
const VGA_NOT_PRESENT: u16 = 1 << 2;
const CMOS_RTC_NOT_PRESENT: u16 = 1 << 5;

/// What the machine has.
pub struct Hardware<'a> {
    pub vcpus: u8,
    /// Global system interrupt of the serial port; `None`: there is none.
    pub serial_gsi: Option<u32>,
    /// Whether an IOAPIC is there; MSI needs none.
    pub ioapic: bool,
    /// More devices for `\_SB_`, as AML.
    pub devices: &'a [&'a dyn Aml],
    /// Whether PCI bus 0 is there, its configuration space at [`layout::ECAM`].
    pub pci: bool,
}

/// Writes all tables and returns the address of the RSDP.
pub fn write(memory: &GuestMemoryMmap, hardware: &Hardware) -> Result<u64, GuestMemoryError> {
    let mut at = layout::ACPI + Rsdp::len().next_multiple_of(16) as u64;
    let mut put = |table: &[u8]| {
        let here = at;
        at = (at + table.len() as u64).next_multiple_of(16);
        memory.write_slice(table, GuestAddress(here)).map(|()| here)
    };
    let dsdt = put(dsdt(hardware).as_slice())?;
    let mut entries = vec![put(&bytes(&fadt(dsdt)))?, put(&bytes(&madt(hardware)))?];
    if hardware.pci {
        let mut mcfg = MCFG::new(OEM, TABLE, 1);
        mcfg.add_ecam(layout::ECAM, 0, 0, 0);
        entries.push(put(&bytes(&mcfg))?);
    }
    let mut xsdt = XSDT::new(OEM, TABLE, 1);
    for entry in entries {
        xsdt.add_entry(entry);
    }
    let xsdt = put(&bytes(&xsdt))?;
    memory.write_slice(&bytes(&Rsdp::new(OEM, xsdt)), GuestAddress(layout::ACPI))?;
    Ok(layout::ACPI)
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn io_port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into())
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, 1)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = (VGA_NOT_PRESENT | CMOS_RTC_NOT_PRESENT).into();
    fadt.reset_reg = io_port(port::ACPI_RESET);
    fadt.reset_value = port::ACPI_RESET_VALUE;
    fadt.sleep_control_reg = io_port(port::ACPI_SLEEP_CONTROL);
    fadt.sleep_status_reg = io_port(port::ACPI_SLEEP_STATUS);
    fadt.finalize()
}

fn madt(hardware: &Hardware) -> MADT {
    let mut madt = MADT::new(OEM, TABLE, 1, LocalInterruptController::Address(0xfee0_0000));
    for id in 0..hardware.vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    if hardware.ioapic {
        madt.add_structure(IoApic::new(0, layout::IOAPIC as u32, 0));
    }
    madt
}

fn dsdt(hardware: &Hardware) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, 1);
    // \_S5: SLP_TYP 5 for soft off, written to the sleep control register.
    let s5 = aml::Name::new("_S5_".into(), &aml::Package::new(vec![&5u8, &0u8]));
    dsdt.append_slice(&bytes(&s5));

    // PVPANIC: bound by the kernel's pvpanic-mmio driver, which takes port resources too.
    let pvpanic_hid = aml::Name::new("_HID".into(), &"QEMU0001");
    let pvpanic_io = aml::IO::new(port::PVPANIC, port::PVPANIC, 1, 1);
    let pvpanic_crs = aml::ResourceTemplate::new(vec![&pvpanic_io]);
    let pvpanic_crs = aml::Name::new("_CRS".into(), &pvpanic_crs);
    let pvpanic = aml::Device::new("PANC".into(), vec![&pvpanic_hid, &pvpanic_crs]);
    let mut children: Vec<&dyn Aml> = vec![&pvpanic];

    let com1 = hardware.serial_gsi.map(com1);
    let com1 = com1.as_ref().map(|bytes| Raw(bytes));
    children.extend(com1.as_ref().map(|raw| raw as &dyn Aml));
    let pci = hardware.pci.then(pci_root);
    let pci = pci.as_ref().map(|bytes| Raw(bytes));
    children.extend(pci.as_ref().map(|raw| raw as &dyn Aml));
    children.extend(hardware.devices);
    dsdt.append_slice(&bytes(&aml::Scope::new("_SB_".into(), children)));
    dsdt
}

/// A 16550A: edge-triggered, active high, as ISA devices are.
fn com1(gsi: u32) -> Vec<u8> {
    let hid = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501"));
    let uid = aml::Name::new("_UID".into(), &0u8);
    let io = aml::IO::new(port::COM1, port::COM1, 1, port::COM1_LEN as u8);
    let interrupt = aml::Interrupt::new(true, true, false, false, gsi);
    let crs = aml::ResourceTemplate::new(vec![&interrupt, &io]);
    let crs = aml::Name::new("_CRS".into(), &crs);
    bytes(&aml::Device::new("COM1".into(), vec![&hid, &uid, &crs]))
}

/// The root bridge: one bus, and the window that BARs live in. What is not in its resources, Linux does
/// not look for.
fn pci_root() -> Vec<u8> {
    let hid = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0A08"));
    let cid = aml::Name::new("_CID".into(), &aml::EISAName::new("PNP0A03"));
    let (segment, uid) = (aml::Name::new("_SEG".into(), &0u8), aml::Name::new("_UID".into(), &0u8));
    let buses = aml::AddressSpace::new_bus_number(0u16, 0u16);
    let (start, end) = (layout::PCI_MMIO_START as u32, layout::PCI_MMIO_END as u32 - 1);
    let window = aml::AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, start, end, None);
    let ports = aml::AddressSpace::new_io(layout::PCI_PORTS.start, layout::PCI_PORTS.end - 1, None);
    let crs = aml::ResourceTemplate::new(vec![&buses, &window, &ports]);
    let crs = aml::Name::new("_CRS".into(), &crs);
    let mut all = bytes(&aml::Device::new("PCI0".into(), vec![&hid, &cid, &segment, &uid, &crs]));

    // Linux uses MCFG only where a motherboard resource claims the same range (PCI Firmware 3.3 §4.1.2).
    let hid = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0C02"));
    let ecam = aml::Memory32Fixed::new(true, layout::ECAM as u32, layout::ECAM_LEN as u32);
    let crs = aml::ResourceTemplate::new(vec![&ecam]);
    let crs = aml::Name::new("_CRS".into(), &crs);
    all.extend(bytes(&aml::Device::new("ECAM".into(), vec![&hid, &crs])));
    all
}

/// AML that is encoded already.
struct Raw<'a>(&'a [u8]);

impl Aml for Raw<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Address;

    #[test]
    fn every_table_sums_to_zero_and_stays_in_its_place() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        let hardware = Hardware { vcpus: 255, serial_gsi: Some(4), ioapic: true, devices: &[], pci: true };
        let rsdp = GuestAddress(write(&memory, &hardware).unwrap());
        let read = |at: u64, len: usize| {
            let mut bytes = vec![0; len];
            memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
            bytes
        };
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
        assert_eq!(sum(&read(rsdp.raw_value(), 36)), 0);
        let xsdt: u64 = memory.read_obj(rsdp.unchecked_add(24)).unwrap();
        let len: u32 = memory.read_obj(GuestAddress(xsdt + 4)).unwrap();
        assert_eq!(sum(&read(xsdt, len as usize)), 0);
        for entry in (36..len as u64).step_by(8) {
            let table: u64 = memory.read_obj(GuestAddress(xsdt + entry)).unwrap();
            let len: u32 = memory.read_obj(GuestAddress(table + 4)).unwrap();
            assert_eq!(sum(&read(table, len as usize)), 0, "table {entry}");
            assert!(table + u64::from(len) < layout::ACPI_END);
        }
    }
}
