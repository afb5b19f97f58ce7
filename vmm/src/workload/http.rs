//! One static page, fetched over and over, each time by a connection of its own (HTTP/1.0): what accepts
//! and small packets cost. Server and client are the smallest that do so and check what they get.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use abi::histogram::Histogram;
use abi::record::Record;
use abi::workload::Spec;
use workloads::platform::{Platform, Unavailable};

use super::linux::Linux;
use super::streams::{Door, PATIENCE, connect};

/// Longest request that is read.
const REQUEST: usize = 4096;
/// Between two looks whether others have served the last request.
const LOOK: Duration = Duration::from_millis(100);
/// Afterwards nobody comes any more.
const SILENCE: Duration = Duration::from_secs(2);
/// Whoever is silent in the middle of a request has gone.
const STUCK: Duration = Duration::from_secs(10);
/// Requests of one thread that fail in a row, before it gives up.
const FAILURES: u32 = 3;

pub fn run(linux: &Linux, spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)) -> Result<(), Unavailable> {
    linux.prepare(spec)?;
    let mut record = if spec.word("role") == "get" { get(linux, spec)? } else { serve(linux, spec)? };
    linux.counters(&mut |name, value| record = record.with(name, value));
    results(&record);
    Ok(())
}

/// What is served, and what is expected.
fn page(spec: &Spec<'_>) -> Vec<u8> {
    (0..spec.count("size")).map(|at| b'a' + (at % 26) as u8).collect()
}

/// Fetches, `concurrency` at a time.
fn get<'s>(linux: &Linux, spec: &Spec<'s>) -> Result<Record<'s>, Unavailable> {
    let page = page(spec);
    let (begun, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let times = Mutex::new(Histogram::new());
    // The first finds out whether anybody is there; nothing is asked by it.
    drop(connect(spec, PATIENCE)?);
    let deadline = match spec.number("seconds") {
        0 => u64::MAX,
        seconds => linux.now().saturating_add(seconds * 1_000_000_000),
    };
    let start = linux.now();
    in_threads(spec.count("concurrency"), || {
        let mut own = Histogram::new();
        let mut in_a_row = 0;
        while in_a_row < FAILURES
            && linux.now() < deadline
            && begun.fetch_add(1, Ordering::Relaxed) < spec.number("items")
        {
            let asked = linux.now();
            match fetch(spec, &page) {
                true => {
                    own.record(linux.now() - asked);
                    in_a_row = 0;
                }
                false => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    in_a_row += 1;
                }
            }
        }
        times.lock().unwrap_or_else(PoisonError::into_inner).merge(&own);
    })?;
    let ns = linux.now() - start;
    let times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    if times.count() == 0 {
        return Err(Unavailable("nobody-serves-the-page"));
    }
    let bytes = times.count() * page.len() as u64;
    let record = Record::new(spec.text(), "-", times.count(), ns).with("bytes", bytes);
    let record = record.with("failed", failed.into_inner()).with("p50_ns", times.p50());
    Ok(record.with("p99_ns", times.p99()).with("max_ns", times.max()))
}

/// Whether the page came, and nothing else: an error page is no result.
fn fetch(spec: &Spec<'_>, page: &[u8]) -> bool {
    let got = || -> io::Result<Vec<u8>> {
        let mut stream = connect(spec, Duration::ZERO).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        stream.set_read_timeout(Some(STUCK))?;
        stream.write_all(b"GET /page HTTP/1.0\r\n\r\n")?;
        let mut got = Vec::with_capacity(page.len() + 128);
        stream.read_to_end(&mut got)?;
        Ok(got)
    };
    let Ok(got) = got() else { return false };
    let body = got.windows(4).position(|end| end == b"\r\n\r\n").map(|end| &got[end + 4..]);
    got.starts_with(b"HTTP/1.0 200 ") && body == Some(page)
}

/// Serves until `items` have been fetched, or nobody comes any more.
fn serve<'s>(linux: &Linux, spec: &Spec<'s>) -> Result<Record<'s>, Unavailable> {
    let page = page(spec);
    let door = Door::open(spec)?;
    let first = door.next(PATIENCE).ok_or(Unavailable("nobody-comes"))?;
    drop(first);
    let (served, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let (start, last) = (linux.now(), AtomicU64::new(0));
    // The page is sent by as many as there may be requests under way, up to a few for each CPU.
    let threads = spec.count("concurrency").min(linux.cpus() * 4);
    in_threads(threads, || {
        let mut silent = Duration::ZERO;
        while silent < SILENCE && served.load(Ordering::Relaxed) < spec.number("items") {
            let Some(stream) = door.next(LOOK) else {
                silent += LOOK;
                continue;
            };
            silent = Duration::ZERO;
            match reply(stream, &page) {
                Ok(true) => served.fetch_add(1, Ordering::Relaxed),
                Ok(false) | Err(_) => refused.fetch_add(1, Ordering::Relaxed),
            };
            last.fetch_max(linux.now(), Ordering::Relaxed);
        }
    })?;
    let served = served.into_inner();
    let ns = last.into_inner().saturating_sub(start);
    let record = Record::new(spec.text(), "-", served, ns).with("bytes", served * page.len() as u64);
    Ok(record.with("refused", refused.into_inner()))
}

/// Whether it was the page that was asked for.
fn reply(mut stream: TcpStream, page: &[u8]) -> io::Result<bool> {
    stream.set_read_timeout(Some(STUCK))?;
    let mut request = Vec::new();
    let mut part = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(false),
            count if request.len() + count > REQUEST => return Ok(false),
            count => request.extend_from_slice(&part[..count]),
        }
    }
    if !request.starts_with(b"GET /page ") {
        stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(false);
    }
    let head =
        format!("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(page)?;
    Ok(true)
}

fn in_threads(threads: usize, body: impl Fn() + Sync) -> Result<(), Unavailable> {
    let body = &body;
    thread::scope(|scope| {
        (0..threads).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, body).map(drop))
    })
    .map_err(|_| Unavailable("no-more-threads"))
}

#[cfg(test)]
mod tests {
    use super::super::streams::tests::both;
    use super::*;

    #[test]
    fn every_page_is_fetched_and_is_the_page() {
        let run = |spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)| run(&Linux::new(), spec, results);
        for concurrency in [1, 8] {
            let keys = format!("items=40,concurrency={concurrency}");
            assert_eq!(both(run, &format!("http,{keys}"), &format!("http,role=get,{keys}")), (40, 40));
        }
    }

    #[test]
    fn another_page_is_no_result() {
        let keys = "items=2";
        let run = |spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)| {
            let done = run(&Linux::new(), spec, results);
            match spec.word("role") {
                "get" => {
                    assert_eq!(done, Err(Unavailable("nobody-serves-the-page")));
                    Ok(())
                }
                _ => done,
            }
        };
        let (fetched, _) =
            both(run, &format!("http,size=100,{keys}"), &format!("http,role=get,size=101,{keys}"));
        assert_eq!(fetched, 0);
    }
}
