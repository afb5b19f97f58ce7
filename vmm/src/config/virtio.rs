//! `--transport`, `--event-idx`, `--ioeventfd`, `--kicks`, `--irqfd`, `--busy-poll`, `--follow-vcpu`: how a driver and its device
//! reach each other.

use std::num::IntErrorKind;
use std::str::FromStr;
use std::time::Duration;

use devices::virtio::polling::BusyPoll;
use devices::virtio::transport::pci::Kicks;

use super::word::{self, UnknownWord};

/// The same for every virtio device of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtio {
    pub transport: Transport,
    /// Devices that the kernel can serve are served by it, unless they say otherwise.
    pub vhost: bool,
    /// VIRTIO_F_EVENT_IDX: each side says at which buffer it wants to be told.
    pub event_idx: bool,
    /// A kick wakes the worker in the kernel; off: it is an exit to userspace.
    pub ioeventfd: bool,
    /// Where a PCI device is kicked.
    pub kicks: Kicks,
    /// An interrupt is a write to an fd; off: it is an ioctl (KVM_SIGNAL_MSI).
    pub irqfd: bool,
    /// How long a worker polls its rings before it sleeps.
    pub busy_poll: BusyPoll,
    /// A worker that is asked for one thing at a time moves to the CPU of the vCPU that waits for it.
    pub follow_vcpu: bool,
}

impl Default for Virtio {
    fn default() -> Virtio {
        let (event_idx, ioeventfd, irqfd) = (true, true, true);
        Virtio {
            transport: Transport::Pci,
            vhost: false,
            event_idx,
            ioeventfd,
            kicks: Kicks::Port,
            irqfd,
            busy_poll: BusyPoll::Adaptive,
            follow_vcpu: true,
        }
    }
}

/// How a driver finds a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A PCI function with MSI-X.
    #[default]
    Pci,
    /// A page of registers and a wire.
    Mmio,
}

impl FromStr for Transport {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Transport, UnknownWord> {
        word::choose(text, &[("pci", Transport::Pci), ("mmio", Transport::Mmio)])
    }
}

/// `port` or `memory`, for `--kicks`.
pub fn kicks(text: &str) -> Result<Kicks, UnknownWord> {
    word::choose(text, &[("port", Kicks::Port), ("memory", Kicks::Memory)])
}

/// Why a worker cannot poll so long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusyPollError {
    #[error("not a whole number of microseconds; 0 turns polling off")]
    NotANumber,
    #[error("neither `auto` nor a whole number of microseconds; 0 turns polling off")]
    NeitherAutoNorNumber,
    #[error("more than 1000000 us, a second")]
    TooLong,
}

/// `auto` or microseconds, for `--busy-poll` of a machine.
pub fn polling(text: &str) -> Result<BusyPoll, BusyPollError> {
    match text {
        "auto" => Ok(BusyPoll::Adaptive),
        _ => busy_poll(text).map(BusyPoll::For).map_err(|error| match error {
            BusyPollError::NotANumber => BusyPollError::NeitherAutoNorNumber,
            other => other,
        }),
    }
}

/// Microseconds, for `--busy-poll` of a switch.
pub fn busy_poll(text: &str) -> Result<Duration, BusyPollError> {
    match text.parse::<u32>() {
        Ok(us) if us <= 1_000_000 => Ok(Duration::from_micros(us.into())),
        Ok(_) => Err(BusyPollError::TooLong),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(BusyPollError::TooLong),
        Err(_) => Err(BusyPollError::NotANumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_up_to_a_second() {
        assert_eq!(busy_poll("0"), Ok(Duration::ZERO));
        assert_eq!(busy_poll("1000000"), Ok(Duration::from_secs(1)));
        assert_eq!(busy_poll("1000001"), Err(BusyPollError::TooLong));
        assert_eq!(busy_poll("99999999999"), Err(BusyPollError::TooLong));
        assert_eq!(busy_poll("5us"), Err(BusyPollError::NotANumber));
        assert_eq!(polling("auto"), Ok(BusyPoll::Adaptive));
        assert_eq!(polling("0"), Ok(BusyPoll::OFF));
        assert_eq!(polling("7"), Ok(BusyPoll::For(Duration::from_micros(7))));
        assert_eq!(polling("on"), Err(BusyPollError::NeitherAutoNorNumber));
        assert_eq!(polling("1000001"), Err(BusyPollError::TooLong));
    }
}
