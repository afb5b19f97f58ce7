//! A vhost-user backend played in Rust: the process at the other end of a front end's socket. It serves
//! with the same workers as a device of ours, so that only the way there differs.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::tempfile::TempFile;

use crate::sys::Memory;
use crate::sys::socket::event_fd;
use crate::vhost_user::channel::{Channel, Incoming};
use crate::vhost_user::message::{
    Addresses, CONFIG_CHANGED, ConfigSpace, F_PROTOCOL, Inflight, Region, Request, RingState, protocol,
};
use crate::virtio::backend::{QueueBackend, QueueResources};
use crate::virtio::fault::Fault;
use crate::virtio::interrupt::{Interrupt, Silent};
use crate::virtio::ring::Layout;
use crate::virtio::userspace::{Group, Tuning, Userspace};

/// What a peer says of itself.
#[derive(Clone)]
pub struct Offer {
    pub features: u64,
    pub protocol: u64,
    pub queues: u64,
    pub config: Arc<Mutex<Vec<u8>>>,
}

impl Default for Offer {
    /// All that our front end can use.
    fn default() -> Offer {
        Offer {
            features: !(1 << 34),
            protocol: protocol::MQ
                | protocol::REPLY_ACK
                | protocol::CONFIG
                | protocol::INFLIGHT_SHMFD
                | protocol::BACKEND_REQ,
            queues: 16,
            config: Arc::default(),
        }
    }
}

/// Where a peer has noted what it holds; servers of tests use it.
pub type Notes = Arc<Mutex<Option<File>>>;

/// A peer that listens, and serves one front end after the other.
pub struct Peer {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    connection: Arc<Mutex<Option<UnixStream>>>,
    notices: Arc<Mutex<Option<Channel>>>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Listens at `socket`, whatever was there before, and serves with what `groups` makes.
    pub fn start(
        socket: &Path,
        offer: Offer,
        groups: impl Fn(&Notes) -> Vec<Group> + Send + 'static,
    ) -> Peer {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, connection) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let notices = Arc::new(Mutex::new(None));
        let (stopping, current, noticing) = (stop.clone(), connection.clone(), notices.clone());
        let thread = spawn(move || {
            while !stopping.load(Ordering::Acquire) {
                let Ok((stream, _)) = listener.accept() else {
                    sleep(Duration::from_millis(1));
                    continue;
                };
                *current.lock().unwrap() = Some(stream.try_clone().unwrap());
                let notes = Notes::default();
                let backend = Userspace::new("peer", u64::MAX, groups(&notes), Tuning::default());
                let channel = Channel::new(stream, Duration::from_secs(5)).unwrap();
                let offer = offer.clone();
                Serving {
                    channel,
                    offer,
                    backend,
                    notes,
                    notices: noticing.clone(),
                    memory: None,
                    regions: Vec::new(),
                    acked: 0,
                    rings: BTreeMap::new(),
                }
                .run();
            }
        });
        Peer { socket: socket.into(), stop, connection, notices, thread: Some(thread) }
    }

    /// Tells the front end that the configuration space has changed.
    pub fn config_changed(&self) {
        let notices = self.notices.lock().unwrap();
        notices.as_ref().expect("a front end that listens").notify(CONFIG_CHANGED).unwrap();
    }

    /// Ends without a word, its socket left behind.
    pub fn die(mut self) -> PathBuf {
        self.end();
        self.socket.clone()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(connection) = self.connection.lock().unwrap().take() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A ring, as far as it was told of.
struct Ring {
    size: u16,
    base: u16,
    addresses: Option<Addresses>,
    kick: Option<Arc<EventFd>>,
    call: Arc<dyn Interrupt>,
    on: bool,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring { size: 0, base: 0, addresses: None, kick: None, call: Arc::new(Silent), on: false }
    }
}

struct Call(EventFd);

impl Interrupt for Call {
    fn signal(&self) {
        let _ = self.0.write(1);
    }
    fn event(&self) -> Option<&EventFd> {
        Some(&self.0)
    }
}

/// One front end.
struct Serving {
    channel: Channel,
    offer: Offer,
    backend: Userspace,
    notes: Notes,
    notices: Arc<Mutex<Option<Channel>>>,
    memory: Option<Memory>,
    regions: Vec<Region>,
    acked: u64,
    rings: BTreeMap<u32, Ring>,
}

impl Serving {
    fn run(mut self) {
        while let Ok(mut message) = self.channel.receive() {
            let request = message.request().expect("our own front end makes sense");
            let code = request.code();
            let answer = self.obey(request, &mut message);
            let sent = match answer {
                Some((payload, fd)) => {
                    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
                    self.channel.answer(code, &payload, &fds)
                }
                None if message.header.need_reply => self.channel.answer(code, &[0; 8], &[]),
                None => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        self.backend.stop();
    }

    /// The answer to what has one.
    fn obey(&mut self, request: Request, message: &mut Incoming) -> Option<(Vec<u8>, Option<OwnedFd>)> {
        let number = |value: u64| Some((value.to_ne_bytes().to_vec(), None));
        match request {
            Request::GetFeatures => return number(self.offer.features),
            Request::GetProtocolFeatures => return number(self.offer.protocol),
            Request::GetQueueNum => return number(self.offer.queues),
            Request::SetFeatures(acked) => self.acked = acked,
            Request::SetMemTable(regions) => self.map(regions, std::mem::take(&mut message.fds)),
            Request::SetVringNum(RingState { index, value }) => self.ring(index).size = value as u16,
            Request::SetVringBase(RingState { index, value }) => self.ring(index).base = value as u16,
            Request::SetVringAddr(addresses) => self.ring(addresses.index).addresses = Some(addresses),
            Request::SetVringKick(fd) => {
                let kick = message.fds.pop().map(|fd| Arc::new(event_fd(fd)));
                self.change(|serving| serving.ring(fd.index.into()).kick = kick);
            }
            Request::SetVringCall(fd) => {
                if let Some(call) = message.fds.pop() {
                    self.ring(fd.index.into()).call = Arc::new(Call(event_fd(call)));
                }
            }
            Request::SetVringEnable(RingState { index, value }) => {
                self.change(|serving| serving.ring(index).on = value == 1);
            }
            Request::GetVringBase(RingState { index, .. }) => {
                self.change(|serving| serving.ring(index).kick = None);
                let value = self.ring(index).base.into();
                return Some((RingState { index, value }.encode(), None));
            }
            Request::GetConfig(ConfigSpace { offset, bytes, .. }) => {
                let mut config = self.offer.config.lock().unwrap().clone();
                config.resize(bytes.len(), 0);
                return Some((ConfigSpace { offset, flags: 0, bytes: config }.encode(), None));
            }
            Request::GetInflightFd(asked) => {
                let file = TempFile::new().unwrap().into_file();
                file.set_len(4096).unwrap();
                return Some((Inflight { size: 4096, ..asked }.encode(), Some(file.into())));
            }
            Request::SetInflightFd(_) => {
                *self.notes.lock().unwrap() = message.fds.pop().map(File::from);
            }
            Request::SetBackendReqFd => {
                let stream = UnixStream::from(message.fds.pop().unwrap());
                *self.notices.lock().unwrap() = Some(Channel::new(stream, Duration::from_secs(5)).unwrap());
            }
            Request::SetOwner | Request::SetProtocolFeatures(_) => {}
            other => panic!("our front end has no use for {other:?}"),
        }
        None
    }

    fn ring(&mut self, index: u32) -> &mut Ring {
        self.rings.entry(index).or_default()
    }

    fn map(&mut self, regions: Vec<Region>, fds: Vec<OwnedFd>) {
        let map = |(region, fd): (&Region, OwnedFd)| {
            let file = FileOffset::new(File::from(fd), region.offset);
            let mapped = MmapRegion::from_file(file, region.size as usize).unwrap();
            GuestRegionMmap::new(mapped, GuestAddress(region.guest)).unwrap()
        };
        let mapped = regions.iter().zip(fds).map(map).collect();
        self.memory = Some(Arc::new(GuestMemoryMmap::from_regions(mapped).unwrap()));
        self.regions = regions;
    }

    /// Changes which rings are served: all stop, and those that can go on where they were.
    fn change(&mut self, change: impl FnOnce(&mut Serving)) {
        for queue in self.backend.stop() {
            self.ring(queue.index.into()).base = queue.base;
        }
        change(self);
        let switched = self.offer.features & F_PROTOCOL != 0;
        let Some(memory) = self.memory.clone() else { return };
        let guest = |user: u64| {
            let region = self.regions.iter().find(|r| (r.user..r.user + r.size).contains(&user)).unwrap();
            user - region.user + region.guest
        };
        let queue = |(&index, ring): (&u32, &Ring)| {
            let (addresses, kick) = (ring.addresses?, ring.kick.clone()?);
            let layout = Layout {
                size: ring.size,
                descriptors: guest(addresses.descriptors),
                available: guest(addresses.available),
                used: guest(addresses.used),
            };
            (ring.on || !switched).then(|| QueueResources {
                index: index as u16,
                layout,
                base: ring.base,
                kick,
                call: ring.call.clone(),
                memory: memory.clone(),
                counters: Arc::default(),
                fault: Arc::new(Fault::new("peer")),
            })
        };
        let queues: Vec<_> = self.rings.iter().filter_map(queue).collect();
        if !queues.is_empty() {
            self.backend.start(queues, self.acked).unwrap();
        }
    }
}
