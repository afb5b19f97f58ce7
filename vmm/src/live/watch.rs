//! Takes a sight of the machine each second, for whoever looks: `--report live`, and those who have
//! connected to its socket.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::orders::Orders;
use super::screen;
use super::sight::{Row, Sight, Vcpu};
use crate::kvm::class::Class;
use crate::kvm::stats::Statistics;
use crate::report::userspace;
use crate::run::vcpu::Buses;
use crate::sys::clock::Moment;
use crate::sys::kick::Kicker;
use crate::sys::peer;
use crate::trace::Tracer;

/// From one sight to the next.
const BEAT: Duration = Duration::from_secs(1);
/// How long vCPU threads have to hand over their copies.
const PAUSE: Duration = Duration::from_millis(30);
/// Nobody needs more windows on one machine.
const MOST_GUESTS: usize = 8;
/// KVM's counters that are shown, by the report's names.
const SHOWN: [(&str, &str); 8] = [
    ("io", "io_exits"),
    ("mmio", "mmio_exits"),
    ("halt", "halt_exits"),
    ("irq", "irq_exits"),
    ("irq_window", "irq_window_exits"),
    ("page_fault", "pf_taken"),
    ("hypercall", "hypercalls"),
    ("injected", "irq_injections"),
];

/// The name of a machine's socket, in the namespace of names without files.
pub fn socket(pid: u32) -> String {
    format!("vmm/{pid}")
}

/// What there is to look at.
pub struct Scene<'a> {
    pub orders: Arc<Orders>,
    pub kickers: Vec<Kicker>,
    pub statistics: Option<Arc<Statistics>>,
    pub buses: Arc<Buses>,
    pub tracer: Option<&'a Tracer>,
}

/// Where `--report live` goes.
enum Stderr {
    /// Nobody asked.
    Silent,
    /// A terminal of its own: drawn anew each time.
    Screen,
    /// A file or a pipe: a line each time.
    Log,
}

/// The eyes of one machine.
pub struct Watch<'a> {
    scene: Scene<'a>,
    listener: Option<UnixListener>,
    guests: Vec<UnixStream>,
    stderr: Stderr,
    began: Moment,
    since: Instant,
    last: Option<Sight>,
    next: Instant,
    /// vCPU threads have been asked for their copies.
    asked: bool,
}

impl<'a> Watch<'a> {
    /// Begins to listen. `live`: `--report live` was asked for; `console`: the guest's console has this
    /// process's standard output. A name that somebody else has costs the machine nothing but this view.
    pub fn new(scene: Scene<'a>, live: bool, console: bool) -> Watch<'a> {
        let listener = SocketAddr::from_abstract_name(socket(std::process::id()))
            .and_then(|name| UnixListener::bind_addr(&name))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        let stderr = match (live, io::stderr().is_terminal()) {
            (false, _) => Stderr::Silent,
            (true, false) => Stderr::Log,
            (true, true) if console && io::stdout().is_terminal() => {
                let pid = std::process::id();
                crate::status::say(format_args!(
                    "the console has this terminal; from another: vmm top {pid}"
                ));
                Stderr::Silent
            }
            (true, true) => Stderr::Screen,
        };
        let now = Instant::now();
        Watch {
            scene,
            listener: listener.ok(),
            guests: Vec::new(),
            stderr,
            began: Moment::now(),
            since: now,
            last: None,
            next: now,
            asked: false,
        }
    }

    /// Readable when somebody wants to look.
    pub fn fd(&self) -> Option<RawFd> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Lets in whoever has come, if it is root or this user.
    pub fn on_knock(&mut self) {
        while let Some((guest, _)) = self.listener.as_ref().and_then(|listener| listener.accept().ok()) {
            let welcome = peer::credentials(&guest).is_ok_and(|peer| peer.may_look());
            if welcome && self.guests.len() < MOST_GUESTS && guest.set_nonblocking(true).is_ok() {
                if !self.is_watched() {
                    self.next = Instant::now();
                }
                self.guests.push(guest);
            }
        }
    }

    /// When it wants to be called; `None` while nobody looks.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_watched().then_some(self.next)
    }

    fn is_watched(&self) -> bool {
        !self.guests.is_empty() || !matches!(self.stderr, Stderr::Silent)
    }

    /// Does what is due.
    pub fn tick(&mut self) {
        if !self.is_watched() || Instant::now() < self.next {
            return;
        }
        self.asked = !self.asked;
        if self.asked {
            self.scene.orders.look();
            self.scene.kickers.iter().for_each(|kicker| kicker.kick());
            self.next = Instant::now() + PAUSE;
            return;
        }
        let sight = self.sight();
        self.show(&sight);
        self.last = Some(sight);
        self.next += BEAT - PAUSE;
    }

    fn show(&mut self, sight: &Sight) {
        // What cannot be written is not worth a machine.
        if let Some(before) = &self.last {
            let text = match self.stderr {
                Stderr::Silent => String::new(),
                Stderr::Screen => format!("\x1b[H\x1b[J{}\n", screen::lines(before, sight).join("\n")),
                Stderr::Log => format!("vmm: {}\n", screen::line(before, sight)),
            };
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
        // Numbers and strings: nothing in a sight can fail to be JSON.
        let mut line = serde_json::to_vec(sight).unwrap_or_default();
        line.push(b'\n');
        // Who does not keep up, or has gone, looks no more.
        self.guests.retain_mut(|guest| guest.write(&line).is_ok_and(|written| written == line.len()));
    }

    fn sight(&self) -> Sight {
        let scene = &self.scene;
        let statistics = scene.statistics.as_deref();
        let vcpu = |(number, kicker): (usize, &Kicker)| {
            let counters = statistics.and_then(|statistics| statistics.of_vcpu(number));
            let value = |name| counters.as_ref().and_then(|counters| counters.vcpus(name)).unwrap_or(0);
            Vcpu {
                cpu_ns: cpu_ns(*kicker).unwrap_or(0),
                exits: value("exits"),
                halts: value("halt_exits"),
                asleep_ns: value("halt_wait_ns"),
            }
        };
        let all = statistics.and_then(|statistics| statistics.counters(&statistics.snapshot()?));
        let shown = |(name, of): (&str, &str)| Some((name.to_owned(), all.as_ref()?.vcpus(of)?));
        let traced = scene.tracer.and_then(|tracer| self.traced(tracer));
        Sight {
            pid: std::process::id(),
            kvm: Class::detect().label().into(),
            at_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            vcpus: scene.kickers.iter().enumerate().map(vcpu).collect(),
            kernel: SHOWN.into_iter().filter_map(shown).collect(),
            traced: traced.is_some(),
            rows: traced.unwrap_or_else(|| self.returned()),
        }
    }

    /// The rows of the ledgers.
    fn returned(&self) -> Vec<Row> {
        let rate = self.began.until(Moment::now());
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for row in self.scene.orders.copies().iter().flatten() {
            let target = userspace::target(row.key, &self.scene.buses);
            let what = format!("{} {}", row.key.kind.label(), target.unwrap_or_default());
            let sum = sums.entry(what).or_default();
            *sum = (sum.0 + row.count, sum.1 + rate.ns(row.ticks));
        }
        rows(sums)
    }

    /// The rows of the tracer; `None` where this host has no exits to show.
    fn traced(&self, tracer: &Tracer) -> Option<Vec<Row>> {
        let traced = tracer.collect().ok()?;
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let exits = crate::report::hardware::rows(&traced, self.scene.kickers.len(), &self.scene.buses);
        for row in exits {
            let what = format!("{} {}", row.reason, row.target.unwrap_or_default());
            let sum = sums.entry(what).or_default();
            *sum = (sum.0 + row.count, sum.1 + row.ns_total);
        }
        (!sums.is_empty()).then(|| rows(sums))
    }
}

fn rows(sums: BTreeMap<String, (u64, u64)>) -> Vec<Row> {
    sums.into_iter().map(|(what, (count, ns))| Row { what: what.trim_end().to_owned(), count, ns }).collect()
}

/// Nanoseconds on a CPU come first (Documentation/scheduler/sched-stats.rst).
fn cpu_ns(thread: Kicker) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", thread.thread())).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
