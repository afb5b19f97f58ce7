//! `struct virtio_pci_common_cfg` (virtio 1.2 §4.1.4.3): registers onto the [`Front`].

use crate::virtio::front::{Front, set_half};

/// "No vector": no interrupt (§4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// The registers that belong to this transport: which vector serves what.
pub struct Common {
    config_vector: u16,
    queue_vectors: Vec<u16>,
}

/// The driver may only store a field in its own width, a 64-bit one in halves (§4.1.3.1).
fn word(data: &[u8]) -> Option<u32> {
    let mut bytes = [0; 4];
    bytes.get_mut(..data.len())?.copy_from_slice(data);
    Some(u32::from_le_bytes(bytes))
}

impl Common {
    pub fn new(queues: u16) -> Common {
        Common { config_vector: NO_VECTOR, queue_vectors: vec![NO_VECTOR; queues.into()] }
    }

    /// The vector of a queue, or of the configuration.
    pub fn vector(&self, queue: Option<u16>) -> u16 {
        queue.map_or(self.config_vector, |queue| self.queue_vectors[usize::from(queue)])
    }

    /// After a device reset nothing has a vector.
    pub fn reset(&mut self) {
        *self = Common::new(self.queue_vectors.len() as u16);
    }

    /// The field at `offset`.
    pub fn name(offset: u64) -> &'static str {
        match offset {
            0..4 => "DEVICE_FEATURE_SELECT",
            4..8 => "DEVICE_FEATURE",
            8..12 => "DRIVER_FEATURE_SELECT",
            12..16 => "DRIVER_FEATURE",
            16..18 => "CONFIG_MSIX_VECTOR",
            18..20 => "NUM_QUEUES",
            20 => "DEVICE_STATUS",
            21 => "CONFIG_GENERATION",
            22..24 => "QUEUE_SELECT",
            24..26 => "QUEUE_SIZE",
            26..28 => "QUEUE_MSIX_VECTOR",
            28..30 => "QUEUE_ENABLE",
            30..32 => "QUEUE_NOTIFY_OFF",
            32..40 => "QUEUE_DESC",
            40..48 => "QUEUE_DRIVER",
            48..56 => "QUEUE_DEVICE",
            _ => "COMMON_CONFIG",
        }
    }

    /// A load of any width; fields of a queue that does not exist read as 0, its size too.
    pub fn read(&self, front: &mut Front, offset: u64, data: &mut [u8]) {
        let index = usize::from(front.queue_select);
        let queue = front.selected().map(|queue| (queue.layout, queue.enabled)).unwrap_or_default();
        let vector = self.queue_vectors.get(index).copied().unwrap_or(NO_VECTOR);
        let (layout, enabled) = (queue.0, queue.1);
        let value: u64 = match offset {
            0 => front.device_half.into(),
            4 => front.device_features().into(),
            8 => front.driver_half.into(),
            12 => front.driver_features().into(),
            16 => self.config_vector.into(),
            18 => self.queue_vectors.len() as u64,
            20 => front.status().into(),
            21 => front.generation().into(),
            22 => front.queue_select.into(),
            24 => layout.size.into(),
            26 => vector.into(),
            28 => enabled.into(),
            30 if index < self.queue_vectors.len() => index as u64,
            32 => layout.descriptors,
            36 => layout.descriptors >> 32,
            40 => layout.available,
            44 => layout.available >> 32,
            48 => layout.used,
            52 => layout.used >> 32,
            _ => 0,
        };
        let bytes = value.to_le_bytes();
        for (to, from) in data.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    /// A store. One to the status is handed back: it needs the whole function.
    pub fn write(&mut self, front: &mut Front, vectors: u16, offset: u64, data: &[u8]) -> Option<u8> {
        let width = match offset {
            0..16 | 32..56 => 4,
            20 => 1,
            _ => 2,
        };
        let value = word(data).filter(|_| data.len() == width)?;
        // Vectors beyond the table are refused by reading back as none (§4.1.5.1.2).
        let vector = if value < u32::from(vectors) { value as u16 } else { NO_VECTOR };
        match offset {
            0 => front.device_half = value,
            8 => front.driver_half = value,
            12 => front.accept(value),
            16 => self.config_vector = vector,
            20 => return Some(value as u8),
            22 => front.queue_select = value as u16,
            24 => drop(front.settle().map(|queue| queue.set_size(value as u16))),
            26 => {
                if let Some(slot) = self.queue_vectors.get_mut(usize::from(front.queue_select)) {
                    *slot = vector;
                }
            }
            // §4.1.4.3.2: the driver must not write 0.
            28 => drop(front.settle().filter(|_| value == 1).map(|queue| queue.enabled = true)),
            32 | 36 => self.set(front, value, |layout| &mut layout.descriptors, offset == 36),
            40 | 44 => self.set(front, value, |layout| &mut layout.available, offset == 44),
            48 | 52 => self.set(front, value, |layout| &mut layout.used, offset == 52),
            _ => {}
        }
        None
    }

    fn set(
        &self,
        front: &mut Front,
        value: u32,
        field: impl Fn(&mut crate::virtio::ring::Layout) -> &mut u64,
        high: bool,
    ) {
        if let Some(queue) = front.settle() {
            set_half(field(&mut queue.layout), high, value);
        }
    }
}
