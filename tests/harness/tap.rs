//! Taps and bridges of a test's own, gone when it ends; and a host behind the tap that answers.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// An interface that goes when this does.
pub struct Interface {
    pub name: String,
    /// What it is to this test process: makes addresses differ.
    number: u32,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.map_err(|error| format!("no ip command, apt-get install iproute2: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Interface {
    fn add(kind: &str) -> Result<Interface, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmt{}x{number}", std::process::id());
        ip(&kind.replace("NAME", &name))?;
        let interface = Interface { name, number };
        ip(&format!("link set {} up", interface.name))?;
        Ok(interface)
    }

    /// A tap; why there is none, where this user or machine can't make one.
    pub fn tap(queues: bool) -> Result<Interface, String> {
        Interface::add(&format!("tuntap add NAME mode tap{}", if queues { " multi_queue" } else { "" }))
    }

    /// A tap that a user may use who could make none.
    pub fn tap_of(user: u32) -> Result<Interface, String> {
        Interface::add(&format!("tuntap add NAME mode tap user {user}"))
    }

    /// A bridge between these.
    pub fn bridge(taps: &[&Interface]) -> Result<Interface, String> {
        let bridge = Interface::add("link add NAME type bridge")?;
        for tap in taps {
            ip(&format!("link set {} master {}", tap.name, bridge.name))?;
        }
        Ok(bridge)
    }

    /// Gives the host an address on it: the network's first; the guest's is the second.
    pub fn address(&self) -> Result<(), String> {
        ip(&format!("addr add {}/24 dev {}", self.at(1), self.name))
    }

    /// An address of its network.
    pub fn at(&self, host: u8) -> String {
        format!("10.{}.{}.{host}", 100 + self.number, std::process::id() % 256)
    }

    /// The argument of a machine that has this tap.
    pub fn net(&self) -> [String; 2] {
        ["--net".into(), format!("tap={}", self.name)]
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.name));
    }
}

/// A program on the host that sends back what it gets.
pub struct Reflector {
    pub port: u16,
    /// Datagrams so far, and bytes of them that were not 0x55.
    pub datagrams: Arc<AtomicU64>,
    pub garbled: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reflector {
    /// At the host's address of `interface`; `answers`: else it only counts.
    pub fn at(interface: &Interface, answers: bool) -> Reflector {
        let socket = UdpSocket::bind((interface.at(1), 0)).expect("bind a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let port = socket.local_addr().expect("an address").port();
        let (datagrams, garbled) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let stop = Arc::<AtomicBool>::default();
        let (counted, wrong, stopped) = (datagrams.clone(), garbled.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
                counted.fetch_add(1, Ordering::Relaxed);
                let others = bytes[..len].iter().filter(|byte| **byte != 0x55).count();
                wrong.fetch_add(others as u64, Ordering::Relaxed);
                if answers {
                    let _ = socket.send_to(&bytes[..len], from);
                }
            }
        });
        Reflector { port, datagrams, garbled, stop, thread: Some(thread) }
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
