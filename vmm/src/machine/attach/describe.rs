//! What ACPI says of virtio-mmio devices: a page of registers and an interrupt each. PCI functions are
//! found on their bus.

use acpi_tables::{Aml, AmlSink, aml};

use devices::virtio::transport::mmio;

use super::Opened;
use crate::boot::layout;

/// A piece of the DSDT, encoded.
pub struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// Where the registers of device `index` are.
pub fn base(index: u32) -> u64 {
    layout::VIRTIO_MMIO + u64::from(index) * mmio::SIZE
}

/// Children of `\\_SB_`. `first_wire` is the pin of the first device.
pub fn devices(opened: &Opened, first_wire: u32) -> Vec<Raw> {
    (0..opened.wires()).map(|index| register_page(index, first_wire + index)).collect()
}

/// `LNRO0005` is what Linux calls a virtio-mmio device.
fn register_page(index: u32, gsi: u32) -> Raw {
    let hid = aml::Name::new("_HID".into(), &"LNRO0005");
    let uid = aml::Name::new("_UID".into(), &index);
    // DMA stays coherent.
    let coherent = aml::Name::new("_CCA".into(), &1u8);
    let page = aml::Memory32Fixed::new(true, base(index) as u32, mmio::SIZE as u32);
    let interrupt = aml::Interrupt::new(true, true, false, false, gsi);
    let crs = aml::ResourceTemplate::new(vec![&page, &interrupt]);
    let crs = aml::Name::new("_CRS".into(), &crs);
    let name = format!("VR{index:02X}");
    let mut bytes = Vec::new();
    aml::Device::new(name.as_str().into(), vec![&hid, &uid, &coherent, &crs]).to_aml_bytes(&mut bytes);
    Raw(bytes)
}
