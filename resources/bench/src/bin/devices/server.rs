//! The other end of the wire, on the host: echoes, swallows or pours, as a connection's first byte says.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use bench::tap::Tap;

/// The host's address on the tap.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const PORT: u16 = 7;
/// Bytes of one write or read of a stream.
pub const PIECE: usize = 64 << 10;
pub const TAP: &str = "benchtap0";

/// What the server does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Echo = b'e',
    Sink = b'o',
    Source = b'i',
}

/// A tap with the server behind it, gone when dropped.
pub struct Wire {
    _tap: Tap,
}

impl Wire {
    pub fn open() -> io::Result<Wire> {
        let tap = Tap::make(TAP, ADDRESS)?;
        let listener = TcpListener::bind((ADDRESS, PORT))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection ends with its guest.
                thread::spawn(move || drop(serve(stream)));
            }
        });
        Ok(Wire { _tap: tap })
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut mode = [0];
    stream.read_exact(&mut mode)?;
    let mut piece = vec![0; PIECE];
    match mode[0] {
        mode if mode == Mode::Echo as u8 => loop {
            stream.read_exact(&mut piece[..1])?;
            stream.write_all(&piece[..1])?;
        },
        mode if mode == Mode::Sink as u8 => while stream.read(&mut piece)? > 0 {},
        _ => loop {
            stream.write_all(&piece)?;
        },
    }
    Ok(())
}
