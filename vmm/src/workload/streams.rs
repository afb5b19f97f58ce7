//! Requests one at a time, and messages one way, by TCP: what needs a kernel with streams.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abi::histogram::Histogram;
use abi::record::Record;
use abi::workload::Spec;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use workloads::platform::{Platform, Unavailable};

use super::linux::Linux;

/// The other side may still be starting.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(20);

/// `rr` and `bulk`, as streams.
pub fn run(linux: &Linux, spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)) -> Result<(), Unavailable> {
    linux.prepare(spec)?;
    if spec.word("net") == "poll" {
        return Err(Unavailable("streams-sleep-for-what-comes"));
    }
    let mut record = match (spec.workload.name, spec.word("role")) {
        ("rr", "send") => ask(linux, spec)?,
        ("rr", _) => answer(linux, spec)?,
        (_, "send") => send(linux, spec)?,
        _ => sink(linux, spec)?,
    };
    linux.counters(&mut |name, value| record = record.with(name, value));
    results(&record);
    Ok(())
}

fn ask<'s>(linux: &Linux, spec: &Spec<'s>) -> Result<Record<'s>, Unavailable> {
    let mut stream = connect(spec, PATIENCE)?;
    let request = vec![0x55; spec.count("size")];
    let mut response = request.clone();
    let limit = Limit::new(linux, spec);
    let mut times = Histogram::new();
    let start = linux.now();
    let mut asked = start;
    while limit.allows(times.count(), asked) {
        let done = stream.write_all(&request).and_then(|()| stream.read_exact(&mut response));
        if done.is_err() {
            break;
        }
        let now = linux.now();
        times.record(now - asked);
        asked = now;
    }
    if times.count() == 0 {
        return Err(Unavailable("nobody-answers"));
    }
    let record = Record::new(spec.text(), "-", times.count(), asked - start).with("lost", 0);
    Ok(record.with("p50_ns", times.p50()).with("p99_ns", times.p99()).with("max_ns", times.max()))
}

fn answer<'s>(linux: &Linux, spec: &Spec<'s>) -> Result<Record<'s>, Unavailable> {
    let mut stream = Door::open(spec)?.next(PATIENCE).ok_or(Unavailable("nobody-asks"))?;
    let mut message = vec![0; spec.count("size")];
    let (start, mut answers) = (linux.now(), 0);
    while stream.read_exact(&mut message).and_then(|()| stream.write_all(&message)).is_ok() {
        answers += 1;
    }
    let bytes = answers * message.len() as u64;
    Ok(Record::new(spec.text(), "-", answers, linux.now() - start).with("bytes", bytes))
}

fn send<'s>(linux: &Linux, spec: &Spec<'s>) -> Result<Record<'s>, Unavailable> {
    let streams = (0..spec.count("threads").max(1)).map(|_| connect(spec, PATIENCE));
    let streams = streams.collect::<Result<Vec<_>, _>>()?;
    let message = vec![0x55; spec.count("size")];
    let limit = Limit::new(linux, spec);
    let start = linux.now();
    let sent = in_threads(streams, |mut stream| {
        let mut sent = 0;
        while limit.allows(sent, if limit.deadline == u64::MAX { 0 } else { linux.now() }) {
            if stream.write_all(&message).is_err() {
                return 0;
            }
            sent += 1;
        }
        // The other side closes when it has all of it.
        let closed = stream.shutdown(Shutdown::Write).and_then(|()| stream.read(&mut [0]));
        if closed.is_ok() { sent } else { 0 }
    })?;
    let bytes = sent * message.len() as u64;
    Ok(Record::new(spec.text(), "-", sent, linux.now() - start).with("bytes", bytes))
}

fn sink<'s>(linux: &Linux, spec: &Spec<'s>) -> Result<Record<'s>, Unavailable> {
    let door = Door::open(spec)?;
    let callers = (0..spec.count("threads").max(1)).map(|_| door.next(PATIENCE));
    let streams = callers.collect::<Option<Vec<_>>>().ok_or(Unavailable("nobody-is-there"))?;
    let start = linux.now();
    let bytes = in_threads(streams, |mut stream| {
        let (mut buffer, mut bytes) = (vec![0; 1 << 17], 0);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            bytes += count as u64;
        }
        bytes
    })?;
    let messages = bytes / spec.number("size").max(1);
    Ok(Record::new(spec.text(), "-", messages, linux.now() - start).with("bytes", bytes))
}

/// The sum over all streams, each in a thread of its own.
fn in_threads(streams: Vec<TcpStream>, body: impl Fn(TcpStream) -> u64 + Sync) -> Result<u64, Unavailable> {
    let sum = AtomicU64::new(0);
    let (body, sum_of) = (&body, &sum);
    thread::scope(|scope| {
        streams.into_iter().try_for_each(|stream| {
            let run = move || _ = sum_of.fetch_add(body(stream), Ordering::Relaxed);
            thread::Builder::new().spawn_scoped(scope, run).map(drop)
        })
    })
    .map_err(|_| Unavailable("no-more-threads"))?;
    Ok(sum.into_inner())
}

/// When a thread ends.
struct Limit {
    items: u64,
    /// On the platform's clock.
    deadline: u64,
}

impl Limit {
    fn new(linux: &Linux, spec: &Spec<'_>) -> Limit {
        // Of these, requests alone may end by time.
        let deadline = match spec.workload.key("seconds").map_or(0, |key| spec.number(key.name)) {
            0 => u64::MAX,
            seconds => linux.now().saturating_add(seconds * 1_000_000_000),
        };
        Limit { items: spec.number("items"), deadline }
    }

    fn allows(&self, done: u64, now: u64) -> bool {
        done < self.items && now < self.deadline
    }
}

/// To `peer=`, which may not be there yet.
pub fn connect(spec: &Spec<'_>, patience: Duration) -> Result<TcpStream, Unavailable> {
    let (address, port) = spec.peer("peer").unwrap_or_default();
    let to = SocketAddrV4::new(address.into(), port.unwrap_or(1300));
    let until = Instant::now() + patience;
    loop {
        match TcpStream::connect_timeout(&to.into(), Duration::from_secs(1)) {
            Ok(stream) => {
                // A request waits for nothing.
                stream.set_nodelay(true).map_err(|_| Unavailable("no-socket-options"))?;
                return Ok(stream);
            }
            Err(_) if Instant::now() >= until => return Err(Unavailable("nobody-is-there")),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Where callers come in, at `port=`.
pub struct Door {
    listener: TcpListener,
    epoll: Epoll,
}

impl Door {
    pub fn open(spec: &Spec<'_>) -> Result<Door, Unavailable> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, spec.number("port") as u16));
        let listener = listener.map_err(|_| Unavailable("port-in-use"))?;
        let watched = || -> io::Result<Epoll> {
            listener.set_nonblocking(true)?;
            let epoll = Epoll::new()?;
            epoll.ctl(ControlOperation::Add, listener.as_raw_fd(), EpollEvent::new(EventSet::IN, 0))?;
            Ok(epoll)
        };
        let epoll = watched().map_err(|_| Unavailable("no-socket-options"))?;
        Ok(Door { listener, epoll })
    }

    /// The next caller; `None`: nobody within `patience`.
    pub fn next(&self, patience: Duration) -> Option<TcpStream> {
        let until = Instant::now() + patience;
        loop {
            if let Ok((stream, _)) = self.listener.accept() {
                return stream.set_nodelay(true).is_ok().then_some(stream);
            }
            let left = until.checked_duration_since(Instant::now())?;
            let wait = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
            // Another thread may have taken the caller, or a signal come: the clock decides.
            let _ = self.epoll.wait(wait, &mut [EpollEvent::default()]);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Both sides of a workload over this machine's own loopback: operations of the one, then of the other.
    pub fn both(
        run: impl Fn(&Spec<'_>, &mut dyn FnMut(&Record<'_>)) -> Result<(), Unavailable> + Sync,
        serves: &str,
        asks: &str,
    ) -> (u64, u64) {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let one = |text: String| {
            let mut ops = 0;
            run(&Spec::parse(&text).unwrap(), &mut |record| ops += record.ops).map(|()| ops)
        };
        thread::scope(|scope| {
            let server = scope.spawn(|| one(format!("{serves},port={port}")));
            let asked = one(format!("{asks},peer=127.0.0.1:{port}"));
            (asked.unwrap(), server.join().unwrap().unwrap())
        })
    }

    #[test]
    fn every_request_is_answered_and_every_message_arrives() {
        let run = |spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)| run(&Linux::new(), spec, results);
        let asked = "rr,over=tcp,role=send,items=20,size=100";
        assert_eq!(both(run, "rr,over=tcp,size=100", asked), (20, 20));
        let sent = "bulk,over=tcp,role=send,threads=2,items=30,size=64k";
        assert_eq!(both(run, "bulk,over=tcp,threads=2,size=64k", sent), (60, 60));
    }

    #[test]
    fn who_waits_for_nobody_ends() {
        let spec = Spec::parse("rr,over=tcp,role=send,peer=127.0.0.1:1").unwrap();
        assert!(connect(&spec, Duration::from_millis(1)).is_err());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let text = format!("rr,over=tcp,port={port}");
        let door = Door::open(&Spec::parse(&text).unwrap()).unwrap();
        assert!(door.next(Duration::from_millis(1)).is_none());
    }
}
