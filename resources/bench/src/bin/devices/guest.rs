//! Process 1 of the guest: loads the modules of disk and network card, does one work after the other,
//! and tells about it through the serial port, a byte at a time and past the kernel's driver, so that
//! a mark costs one exit; by the driver, where the processor does not let a process use ports.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use abi::workload::Spec;
use bench::{initramfs, sys};
use vmm::sys::init::{load_module, mount};

use crate::server::{self, Mode, PIECE, PORT};
use crate::work::{self, Work};

/// Bytes that no console line holds: a work begins, has ended.
pub const BEGIN: u8 = 1;
pub const END: u8 = 2;
/// How long the host has, after each of them, to look at its counters.
const PAUSE: Duration = Duration::from_millis(250);
/// Before a result's line.
pub const RESULT: &str = "result ";
/// Kernel parameters, which Linux hands to process 1 as environment variables.
pub const WORKS: &str = "bench_works";
pub const SECONDS: &str = "bench_seconds";
/// The driver has a queue for polled requests, and the disk's loads poll; absent where they don't.
pub const POLL: &str = "bench_poll";
/// Marks go by this device: a process may not use ports.
pub const TERMINAL: &str = "bench_terminal";
/// Ends the machine: `vmm`'s exit port, and QEMU's isa-debug-exit put there.
pub const EXIT_PORT: u16 = 0x500;
/// The serial port's data register.
const SERIAL: u16 = 0x3f8;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

pub fn run() -> ! {
    let mut voice = Voice::Port;
    if let Err(error) = serve(&mut voice) {
        voice.say(&format!("failed: {error}\n"));
    }
    // Where it does not end, the host has all that it waits for, or gives up and says so.
    if let Voice::Port = voice {
        let _ = sys::out8(EXIT_PORT, 0);
    }
    loop {
        std::thread::park();
    }
}

/// How the host is told.
enum Voice {
    Port,
    Terminal(File),
}

impl Voice {
    fn say(&mut self, line: &str) {
        line.bytes().for_each(|byte| self.mark(byte));
    }

    fn mark(&mut self, byte: u8) {
        // Without either there is nobody to tell.
        let _ = match self {
            Voice::Port => sys::out8(SERIAL, byte),
            Voice::Terminal(file) => file.write_all(&[byte]),
        };
    }
}

fn parameter(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

fn serve(voice: &mut Voice) -> io::Result<()> {
    mount(c"/dev", c"devtmpfs").or_else(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => Ok(()),
        _ => Err(error),
    })?;
    if let Some(path) = std::env::var_os(TERMINAL) {
        *voice = Voice::Terminal(File::options().write(true).open(path)?);
    }
    let mut modules: Vec<PathBuf> = fs::read_dir(format!("/{}", initramfs::MODULES))?
        .map(|e| Ok(e?.path()))
        .collect::<io::Result<_>>()?;
    modules.sort();
    let poll = std::env::var_os(POLL).is_some();
    for path in modules {
        let disk = path.file_name().is_some_and(|name| name.to_string_lossy().contains("virtio_blk"));
        let parameters = if poll && disk { c"poll_queues=1" } else { c"" };
        load_module(&File::open(&path)?, path.extension().is_none_or(|end| end != "ko"), parameters)
            .map_err(|error| io::Error::other(format!("load {}: {error}", path.display())))?;
    }
    let works = work::list(&parameter(WORKS)?).ok_or(io::ErrorKind::InvalidInput)?;
    let seconds: u64 = parameter(SECONDS)?.parse().map_err(io::Error::other)?;
    if works.iter().any(|work| !work.is_disk()) {
        sys::address("eth0", ADDRESS)?;
    }
    // What a kernel still does by itself after boot is not the work's.
    sleep(Duration::from_secs(1));
    for work in works {
        let (ops, ns) = perform(work, seconds, poll, voice)?;
        sleep(PAUSE);
        voice.say(&format!("{RESULT}{} {ops} {ns}\n", work.word()));
    }
    Ok(())
}

/// Operations and nanoseconds, between the two marks.
fn perform(work: Work, seconds: u64, poll: bool, voice: &mut Voice) -> io::Result<(u64, u64)> {
    if let Some(requests) = work.requests() {
        let way = if poll { "poll" } else { "irq" };
        let text = format!("{requests},seconds={seconds},blk={way}");
        let spec = Spec::parse(&text).map_err(|refusal| io::Error::other(refusal.to_string()))?;
        let mut result = (0, 0);
        begin(voice);
        let status = vmm::workload::run(&spec, &mut |record| result = (record.ops, record.ns));
        voice.mark(END);
        return if status == 0 { Ok(result) } else { Err(io::Error::other(text)) };
    }
    let mode = match work {
        Work::RoundTrip => Mode::Echo,
        Work::Out => Mode::Sink,
        _ => Mode::Source,
    };
    let server = SocketAddr::from((server::ADDRESS, PORT));
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[mode as u8])?;
    let mut piece = vec![0; PIECE];
    begin(voice);
    let (start, time) = (Instant::now(), Duration::from_secs(seconds));
    let mut done = 0;
    while start.elapsed() < time {
        done += match mode {
            Mode::Echo => {
                stream.write_all(&[0])?;
                stream.read_exact(&mut piece[..1])?;
                1
            }
            Mode::Sink => stream.write(&piece)? as u64,
            Mode::Source => stream.read(&mut piece)? as u64,
        };
    }
    let ns = start.elapsed().as_nanos() as u64;
    voice.mark(END);
    Ok((if mode == Mode::Echo { done } else { done / PIECE as u64 }, ns))
}

fn begin(voice: &mut Voice) {
    voice.mark(BEGIN);
    sleep(PAUSE);
}
