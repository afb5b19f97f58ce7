//! What the driver sees of a device behind either transport: status, features, queue set-up, and the
//! move of queues into the backend and back. A transport only decodes registers onto this.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::{DataPath, QueueResources};
use super::counters::{Counters, QueueCounts, ThreadCounts};
use super::device::{Device, Kind};
use super::fault::Fault;
use super::interrupt::Line;
use super::ring::Layout;
use super::status::{DEVICE_NEEDS_RESET, Event, Status};
use crate::sys::Memory;

/// A device with what every transport needs to know about it.
pub struct Front {
    device: Box<dyn Device>,
    memory: Memory,
    status: Status,
    /// The status as it was before a reset that isn't complete.
    leaving: Option<u8>,
    /// Ring features that may be offered.
    ring_features: u64,
    acked: u64,
    /// Selectors of the 64 feature bits' halves: device's and driver's.
    pub device_half: u32,
    pub driver_half: u32,
    pub queue_select: u16,
    queues: Vec<FrontQueue>,
    /// Counts the changes of configuration space.
    generation: u8,
    fault: Arc<Fault>,
}

/// A queue as the driver has set it up so far.
pub struct FrontQueue {
    pub max: u16,
    pub layout: Layout,
    pub enabled: bool,
    pub kick: Arc<EventFd>,
    counters: Arc<Counters>,
}

/// What the transport must do after a status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// Forget interrupts and doorbells.
    Reset,
}

/// What the report says of a device.
#[derive(Clone, Debug)]
pub struct DeviceCounts {
    pub name: String,
    pub kind: &'static str,
    pub data_path: &'static str,
    /// How often the driver was told to reset it.
    pub faults: u64,
    pub queues: Vec<QueueCounts>,
    pub threads: Vec<ThreadCounts>,
    pub operations: Vec<OperationCounts>,
}

/// One kind of operation of a device: how often, how much, how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationCounts {
    pub name: &'static str,
    pub count: u64,
    pub bytes: u64,
    pub errors: u64,
    /// Nanoseconds from taking a request to giving it back, each within 1/16; the maximum is exact.
    pub ns_p50: u64,
    pub ns_p99: u64,
    pub ns_max: u64,
}

impl Front {
    /// A device in `memory`; `event_idx` offers VIRTIO_F_EVENT_IDX.
    pub fn new(device: Box<dyn Device>, memory: Memory, event_idx: bool) -> io::Result<Front> {
        let queue = |&max: &u16| {
            Ok(FrontQueue {
                max,
                layout: Layout { size: max, ..Layout::default() },
                enabled: false,
                kick: Arc::new(EventFd::new(EFD_NONBLOCK)?),
                counters: Arc::default(),
            })
        };
        let queues = device.queue_sizes().iter().map(queue).collect::<io::Result<_>>()?;
        let fault = Arc::new(Fault::new(device.name()));
        let ring_features = 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | u64::from(event_idx) << VIRTIO_RING_F_EVENT_IDX;
        Ok(Front {
            device,
            memory,
            status: Status::default(),
            leaving: None,
            ring_features,
            acked: 0,
            device_half: 0,
            driver_half: 0,
            queue_select: 0,
            queues,
            generation: 0,
            fault,
        })
    }

    pub fn name(&self) -> &str {
        self.device.name()
    }

    pub fn kind(&self) -> Kind {
        self.device.kind()
    }

    /// Every queue, by index.
    pub fn queues(&self) -> &[FrontQueue] {
        &self.queues
    }

    /// The queue that the driver has selected, if there is such a queue.
    pub fn selected(&self) -> Option<&FrontQueue> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// The same, to be changed: only between FEATURES_OK and DRIVER_OK, and before it is enabled.
    pub fn settle(&mut self) -> Option<&mut FrontQueue> {
        let settling = self.status.settling();
        self.queues.get_mut(usize::from(self.queue_select)).filter(|queue| settling && !queue.enabled)
    }

    fn offered(&mut self) -> u64 {
        let device = self.device.features();
        (device | self.ring_features) & self.device.backend().features()
    }

    /// The half of the device's features that is selected.
    pub fn device_features(&mut self) -> u32 {
        half(self.offered(), self.device_half)
    }

    /// The half of the driver's features that is selected.
    pub fn driver_features(&self) -> u32 {
        half(self.acked, self.driver_half)
    }

    /// The driver accepts features; only before FEATURES_OK.
    pub fn accept(&mut self, bits: u32) {
        if self.status.choosing() && self.driver_half < 2 {
            let shift = 32 * self.driver_half;
            self.acked = self.acked & !(0xffff_ffff << shift) | u64::from(bits) << shift;
        }
    }

    /// The status register. It reads as zero when a reset is complete (§2.4.2), for which a driver looks again
    /// and again; until then as it was.
    pub fn status(&mut self) -> u8 {
        if let Some(status) = self.leaving {
            if !self.device.backend().stopped() {
                return status;
            }
            self.leaving = None;
        }
        self.status.bits() | if self.fault.needs_reset() { DEVICE_NEEDS_RESET } else { 0 }
    }

    /// True from DRIVER_OK to reset.
    pub fn live(&self) -> bool {
        self.status.live()
    }

    /// The driver writes status. `line(queue)` gives a queue's interrupt, `line(None)` that of the
    /// configuration.
    pub fn write_status(&mut self, value: u8, line: impl Fn(Option<u16>) -> Line) -> Change {
        if self.leaving.is_some() {
            if value == 0 {
                return Change::Reset;
            }
            // Who doesn't look whether its reset is complete takes that for granted.
            self.finish_reset();
        }
        // Modern only: a driver that does not take VERSION_1 is refused (§6.3).
        let acceptable = self.acked & !self.offered() == 0 && self.acked & 1 << VIRTIO_F_VERSION_1 != 0;
        let before = self.status();
        let (status, event) = self.status.write(value, acceptable);
        self.status = status;
        match event {
            Event::None => Change::None,
            Event::Agreed => {
                self.device.agreed(self.acked);
                Change::None
            }
            Event::Live => {
                self.device.agreed(self.acked);
                self.start(line);
                Change::None
            }
            Event::Reset => {
                self.reset(before);
                Change::Reset
            }
        }
    }

    fn start(&mut self, line: impl Fn(Option<u16>) -> Line) {
        self.fault.connect(Some(line(None)));
        let enabled = self.queues.iter().enumerate().filter(|(_, queue)| queue.enabled);
        // Before anyone serves: the kernel and other processes would say no more than "bad address".
        for (index, queue) in enabled.clone() {
            if let Err(error) = queue.layout.resolve(&self.memory) {
                return self.fault.raise(&format_args!("queue {index}: {error}"));
            }
        }
        let resources = enabled.map(|(index, queue)| QueueResources {
            index: index as u16,
            layout: queue.layout,
            base: 0,
            kick: queue.kick.clone(),
            call: line(Some(index as u16)),
            memory: self.memory.clone(),
            counters: queue.counters.clone(),
            fault: self.fault.clone(),
        });
        let resources = resources.collect();
        if let Err(error) = self.device.backend().start(resources, self.acked) {
            self.fault.raise(&error);
        }
    }

    /// Forgets what the driver has set, and stops every queue: at once, but for those of another process that
    /// takes its time. Until then its status reads as it was `before`.
    fn reset(&mut self, before: u8) {
        if !self.device.backend().stop_soon() {
            self.leaving = Some(before);
        }
        self.fault.connect(None);
        self.fault.clear();
        self.status = Status::default();
        self.acked = 0;
        (self.device_half, self.driver_half, self.queue_select) = (0, 0, 0);
        for queue in &mut self.queues {
            queue.enabled = false;
            queue.layout = Layout { size: queue.max, ..Layout::default() };
        }
    }

    /// Waits until a reset is complete.
    pub fn finish_reset(&mut self) {
        if self.leaving.take().is_some() {
            self.device.backend().stop();
        }
    }

    /// True if another than this process serves the queues.
    pub fn offloaded(&mut self) -> bool {
        self.device.backend().data_path() != DataPath::Userspace
    }

    /// Stops every queue for good: the machine ends, what the driver has set no longer matters, nor what
    /// another process that doesn't answer still does to memory that nobody uses any more.
    pub fn quiesce(&mut self) {
        self.device.backend().stop_soon();
    }

    /// A kick that came as an exit. One to a queue that does not exist is ignored.
    pub fn kick(&mut self, queue: u32) {
        if let Some(queue) = usize::try_from(queue).ok().and_then(|index| self.queues.get(index))
            && self.live()
        {
            queue.counters.kick_exits.add(1);
            // It fails only where 2^64 kicks wait.
            let _ = queue.kick.write(1);
        }
    }

    /// A driver that finds another number afterwards has read a mixture, and reads again (§2.5.1).
    pub fn generation(&mut self) -> u8 {
        self.generation = self.generation.wrapping_add(self.device.refresh().into());
        self.generation
    }

    /// The driver reads configuration space; what lies beyond it reads as zero.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(rest) = usize::try_from(offset).ok().and_then(|offset| self.device.config().get(offset..))
        {
            let count = rest.len().min(data.len());
            data[..count].copy_from_slice(&rest[..count]);
        }
    }

    /// The driver writes configuration space.
    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let Ok(offset) = usize::try_from(offset) {
            self.device.write_config(offset, data);
        }
    }

    /// What its queues have done, at any time.
    pub fn counts(&mut self) -> DeviceCounts {
        let backend = self.device.backend();
        let queues = self.queues.iter().zip(0..);
        let counts = |(queue, index): (&FrontQueue, u16)| {
            queue.counters.snapshot(&queue.kick, backend.serves_here(index))
        };
        let queues = queues.map(counts).collect();
        DeviceCounts {
            name: self.device.name().into(),
            kind: self.device.kind().name,
            data_path: self.device.backend().data_path().label(),
            faults: self.fault.count(),
            queues,
            threads: self.device.backend().threads(),
            operations: self.device.operations(),
        }
    }
}

fn half(bits: u64, select: u32) -> u32 {
    match select {
        0 => bits as u32,
        1 => (bits >> 32) as u32,
        _ => 0,
    }
}

impl FrontQueue {
    /// The driver sets the size: a power of two, at most the largest, or it is ignored and the
    /// queue fails when it starts.
    pub fn set_size(&mut self, size: u16) {
        if size.is_power_of_two() && size <= self.max {
            self.layout.size = size;
        }
    }
}

/// Replaces the low or the high half of a 64-bit register.
pub fn set_half(register: &mut u64, high: bool, value: u32) {
    let shift = if high { 32 } else { 0 };
    *register = *register & !(0xffff_ffff << shift) | u64::from(value) << shift;
}

#[cfg(test)]
mod tests;
