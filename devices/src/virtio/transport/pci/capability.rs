//! The capabilities by which a driver finds the parts of the BAR (virtio 1.2 §4.1.4).

use super::{BAR_SIZE, DEVICE, DOORBELL_STRIDE, DOORBELLS, ISR, PENDING, TABLE};
use crate::pci::config::ConfigSpace;

const VENDOR_SPECIFIC: u8 = 0x09;
const MSI_X: u8 = 0x11;

/// `cfg_type` of a virtio capability.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR_STATUS: u8 = 3;
const DEVICE_CONFIG: u8 = 4;
const ACCESS: u8 = 5;

/// Which BAR a capability is about, in what follows ID and link; and the one of ports.
const BAR: usize = 2;
pub const PORTS_BAR: u8 = 2;

/// MSI-X (PCI Local Bus 3.0 §6.8.2): the table and the pending bits are in BAR 0.
pub fn msix(config: &mut ConfigSpace, vectors: u16) -> usize {
    let mut body = [0; 10];
    body[0..2].copy_from_slice(&(vectors - 1).to_le_bytes());
    body[2..6].copy_from_slice(&(TABLE as u32).to_le_bytes());
    body[6..10].copy_from_slice(&(PENDING as u32).to_le_bytes());
    config.add_capability(MSI_X, &body, &[0, 0xc0])
}

/// The five of virtio, and a second place for doorbells, which is liked better, where there are `ports`. Returns
/// where the configuration access capability is.
pub fn virtio(config: &mut ConfigSpace, ports: u16) -> usize {
    add(config, COMMON, 0, ISR, &[]);
    let stride = (DOORBELL_STRIDE as u32).to_le_bytes();
    if ports > 0 {
        let mut body = body(NOTIFY, 0, ports.into(), &stride);
        body[BAR] = PORTS_BAR;
        config.add_capability(VENDOR_SPECIFIC, &body, &[]);
    }
    add(config, NOTIFY, DOORBELLS, BAR_SIZE - DOORBELLS, &stride);
    add(config, ISR_STATUS, ISR, 1, &[]);
    add(config, DEVICE_CONFIG, DEVICE, TABLE - DEVICE, &[]);
    let (body, mut writable) = (body(ACCESS, 0, 0, &[0; 4]), [0xff; 18]);
    // The driver sets bar, offset, length and data (§4.1.4.9), nothing else.
    writable[..2].fill(0);
    writable[3..6].fill(0);
    config.add_capability(VENDOR_SPECIFIC, &body, &writable)
}

fn add(config: &mut ConfigSpace, kind: u8, offset: u64, len: u64, more: &[u8]) {
    config.add_capability(VENDOR_SPECIFIC, &body(kind, offset, len, more), &[]);
}

/// `struct virtio_pci_cap` after ID and link, and what follows it.
fn body(kind: u8, offset: u64, len: u64, more: &[u8]) -> Vec<u8> {
    let mut body = vec![16 + more.len() as u8, kind, 0, 0, 0, 0];
    body.extend((offset as u32).to_le_bytes());
    body.extend((len as u32).to_le_bytes());
    body.extend(more);
    body
}
