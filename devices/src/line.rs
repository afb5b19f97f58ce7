//! Both ends of a console's line: what a port sees of the host, and the host of a port, be it the serial
//! one or virtio.

/// What a port is plugged into. Called on threads that serve the guest: neither may block.
pub trait Line: Send {
    /// The guest sends a byte.
    fn transmit(&mut self, byte: u8);
    /// The input queue was full and is at most half full now.
    fn room(&mut self);
}

/// A port, as whoever types into it sees it.
pub trait Port: Send {
    /// Bytes that [`Port::push`] would take now.
    fn space(&self) -> usize;

    /// Input for the guest; returns how many bytes of it were taken. [`Line::room`] tells when to come
    /// again after the queue has been full.
    fn push(&mut self, input: &[u8]) -> usize;

    /// What has crossed the line so far.
    fn traffic(&self) -> Traffic;
}

/// Bytes that crossed the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the guest.
    pub sent: u64,
    /// Read by the guest.
    pub received: u64,
}
