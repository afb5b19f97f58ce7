//! Peers that lie, stall, talk nonsense or turn bad.

use std::os::fd::AsFd;

use super::*;

/// A peer whose every connection is met by `act`, with its number; the rest of the time it only listens.
struct Rogue(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Rogue {
    fn start(socket: &Path, act: impl Fn(&Channel, u32) -> Result<(), PeerError> + Send + 'static) -> Rogue {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = spawn(move || {
            let mut connections = 0;
            while !stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let channel = Channel::new(stream, Duration::from_secs(1)).unwrap();
                        // What it runs into is its own affair.
                        let _ = act(&channel, connections);
                        connections += 1;
                    }
                    Err(_) => sleep(Duration::from_millis(1)),
                }
            }
        });
        Rogue(stop, Some(thread))
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        if let Some(thread) = self.1.take() {
            thread.join().unwrap();
        }
    }
}

/// Answers like an honest peer without queues, except to `code`: there `act` does what it does.
fn honest_but(
    channel: &Channel,
    offer: &Offer,
    code: Code,
    act: impl Fn(&Channel) -> Result<(), PeerError>,
) -> Result<(), PeerError> {
    honest_unless(channel, offer, |asked| if asked == code { act(channel).map(|()| true) } else { Ok(false) })
}

/// The same, except where `acts` says that it has done what there was to do.
fn honest_unless(
    channel: &Channel,
    offer: &Offer,
    acts: impl Fn(Code) -> Result<bool, PeerError>,
) -> Result<(), PeerError> {
    loop {
        let message = channel.receive()?;
        let asked = message.request()?.code();
        if acts(asked)? {
            continue;
        }
        let number = match asked {
            Code::GetFeatures => offer.features,
            Code::GetProtocolFeatures => offer.protocol,
            Code::GetQueueNum => offer.queues,
            Code::GetConfig | Code::GetVringBase => {
                channel.answer(asked, &message.payload, &[])?;
                continue;
            }
            _ if message.header.need_reply => 0,
            _ => continue,
        };
        channel.answer(asked, &number.to_ne_bytes(), &[])?;
    }
}

fn refusal(name: &str, act: impl Fn(&Channel) -> Result<(), PeerError> + Send + 'static) -> String {
    let socket = Scratch::new(name);
    let _rogue = Rogue::start(&socket, move |channel, _| act(channel));
    let error = Disk::open("blk.0", address(&socket), 2, &Tuning::default()).map(|_| ()).unwrap_err();
    let text = error.to_string();
    let start = format!("use vhost-user socket {}: ", socket.display());
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).into()
}

#[test]
fn a_peer_that_lies_about_what_it_can_do() {
    let lie = |name: &str, change: fn(&mut Offer)| {
        let mut offer = Offer::default();
        change(&mut offer);
        refusal(name, move |channel| honest_but(channel, &offer, Code::GetStatus, |_| Ok(())))
    };
    let text = lie("legacy", |offer| offer.features &= !(1 << 32));
    assert_eq!(text, "the peer does not offer VIRTIO_F_VERSION_1");
    let text = lie("queues", |offer| offer.queues = 1);
    assert_eq!(text, "the peer serves 1 queues, 2 were asked");
    let text = lie("single", |offer| offer.protocol &= !protocol::MQ);
    assert_eq!(text, "the peer serves 1 queues, 2 were asked");
    let text = lie("bare", |offer| offer.protocol &= !protocol::CONFIG);
    assert_eq!(text, "the peer does not offer VHOST_USER_PROTOCOL_F_CONFIG");
    let text = lie("plain", |offer| offer.features &= !F_PROTOCOL);
    assert_eq!(text, "the peer serves 1 queues, 2 were asked");
}

type Act = fn(&Channel) -> Result<(), PeerError>;

#[test]
fn a_peer_that_closes_stalls_or_talks_nonsense_at_any_question() {
    let cases: [(&str, Act, &str); 7] = [
        ("closes", |_| Err(PeerError::Closed), "the peer closed the connection"),
        ("stalls", |_| Ok(()), "the peer did not answer within 0.3 s"),
        ("other", |c| c.answer(Code::SetMemTable, &[0; 8], &[]), "the peer answered something else"),
        ("short", |c| c.answer(Code::GetFeatures, &[0; 3], &[]), "something else"),
        ("asks", |c| c.ask(&Request::GetStatus, false, &[]), "something else"),
        ("fds", |c| c.ask(&Request::SetOwner, false, &[c.as_fd(); MOST_REGIONS + 1]), "more than 8 file"),
        ("cut", |c| c.send_raw(&[1, 0, 0, 0, 5]).and(Err(PeerError::Cut)), "in the middle of a message"),
    ];
    let codes = [Code::GetFeatures, Code::GetProtocolFeatures, Code::GetQueueNum, Code::SetOwner];
    for (name, act, says) in cases {
        for code in codes {
            let offer = Offer::default();
            let text =
                refusal(&format!("{name}-{code:?}"), move |channel| honest_but(channel, &offer, code, act));
            assert!(text.contains(says), "{name} at {code:?}: {text}");
        }
    }
    let text = refusal("garbage", |channel| {
        channel.send_raw(&[0xff; 64])?;
        // Who closes at once may be found gone before the garbage is read.
        loop {
            channel.receive()?;
        }
    });
    assert!(text.ends_with(&MessageError::Version(3).to_string()), "{text}");
    let text = refusal("config", |channel| {
        honest_but(channel, &Offer::default(), Code::GetConfig, |c| c.answer(Code::GetConfig, &[], &[]))
    });
    assert_eq!(text, "GetConfig: the peer answered something else");
    let text = refusal("no", |channel| {
        honest_but(channel, &Offer::default(), Code::SetOwner, |c| c.answer(Code::SetOwner, &[1; 8], &[]))
    });
    assert!(text.starts_with("SetOwner: the peer refused it"), "{text}");
}

/// One that keeps no notes of what it holds, as [`honest_but`] has none, but where it is asked for them.
fn offers(code: Code) -> Offer {
    let mut offer = Offer::default();
    if code != Code::GetInflightFd {
        offer.protocol &= !protocol::INFLIGHT_SHMFD;
    }
    offer
}

#[test]
fn a_peer_that_stalls_holds_up_nobody() {
    let socket = Scratch::new("stalls");
    for code in [
        Code::SetFeatures,
        Code::SetMemTable,
        Code::GetInflightFd,
        Code::SetVringNum,
        Code::SetVringBase,
        Code::SetVringAddr,
        Code::SetVringCall,
        Code::SetVringKick,
        Code::SetVringEnable,
        Code::GetVringBase,
    ] {
        let asked = Arc::new(AtomicBool::new(false));
        let stalls = asked.clone();
        let _rogue = Rogue::start(&socket, move |channel, _| {
            honest_but(channel, &offers(code), code, |_| {
                stalls.store(true, Ordering::Release);
                Ok(())
            })
        });
        // Whoever waited for it would never come back.
        let address = Address { socket: socket.to_path_buf(), patience: Duration::from_secs(3600) };
        let disk = Disk::open("blk.0", address, 1, &Tuning::default()).unwrap();
        let mut rig = Rig::new(Box::new(disk), false);
        rig.bring_up(16, HINTS);
        offer(&mut rig, 0);
        if code != Code::GetVringBase {
            until(|| asked.load(Ordering::Acquire).then_some(()));
            assert_eq!(rig.load(20, 1), 15, "{code:?}");
            rig.store(20, 1, 0);
        } else {
            // As soon as the peer has them.
            rig.store(20, 1, 0);
            while rig.load(20, 1) == 0 {
                rig.bring_up(16, HINTS);
                sleep(Duration::from_millis(1));
                rig.store(20, 1, 0);
            }
            until(|| asked.load(Ordering::Acquire).then_some(()));
        }
        assert_eq!(rig.load(20, 1), 15, "the reset is not complete: {code:?}");
        rig.bus.lock().unwrap().quiesce();
    }
}

#[test]
fn a_reset_is_complete_when_the_peer_has_answered_or_is_lost() {
    let socket = Scratch::new("slow-reset");
    for answers in [true, false] {
        let (told, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (tells, asks) = (told.clone(), asked.clone());
        let _rogue = Rogue::start(&socket, move |channel, connection| {
            if connection > 0 {
                return Ok(());
            }
            honest_unless(channel, &offers(Code::GetVringBase), |code| {
                tells.fetch_or(code == Code::SetVringEnable, Ordering::AcqRel);
                let stalls = code == Code::GetVringBase;
                if stalls {
                    asks.store(true, Ordering::Release);
                    sleep(if answers { Duration::from_millis(150) } else { Duration::ZERO });
                }
                Ok(stalls && !answers)
            })
        });
        let mut rig = disk(&socket, 1);
        until(|| told.load(Ordering::Acquire).then_some(()));
        rig.store(20, 1, 0);
        assert_eq!(rig.load(20, 1), 15);
        until(|| (rig.load(20, 1) == 0).then_some(()));
        assert!(asked.load(Ordering::Acquire));
        rig.bring_up(16, HINTS);
    }
}

#[test]
fn a_peer_that_turns_bad_later_is_given_up_and_nothing_is_lost() {
    let socket = Scratch::new("later-bad");
    for code in [Code::SetMemTable, Code::GetInflightFd, Code::SetVringKick, Code::SetVringEnable] {
        let rogue = Rogue::start(&socket, move |channel, connection| {
            if connection > 0 {
                return Ok(());
            }
            honest_but(channel, &offers(code), code, |_| Ok(()))
        });
        let mut rig = disk(&socket, 1);
        let head = offer(&mut rig, 0);
        assert_eq!(rig.load(20, 1), 15, "the driver waits: {code:?}");
        // The device is reset all the same, and an honest peer finds it ready.
        drop(rogue);
        let _peer = Peer::start(&socket, Offer::default(), ones(1));
        assert_eq!(rig.wait(0), (head, 64), "{code:?}");
        rig.bring_up(16, HINTS);
        ask(&mut rig, 0);
    }
}
