use std::io::Write;
use std::thread;

use super::*;

const PATIENCE: Duration = Duration::from_millis(50);

/// A channel, and the socket at its other end.
fn pair() -> (Channel, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Channel::new(ours, PATIENCE).unwrap(), theirs)
}

#[test]
fn a_message_and_its_descriptors() {
    let (channel, peer) = pair();
    let peer = Channel::new(peer, PATIENCE).unwrap();
    let request = Request::SetBackendReqFd;
    channel.ask(&request, true, &[channel.as_fd()]).unwrap();
    let message = peer.receive().unwrap();
    assert!(message.header.need_reply && !message.header.reply);
    assert_eq!((message.request(), message.fds.len()), (Ok(request), 1));
    peer.answer(Code::SetBackendReqFd, &0_u64.to_ne_bytes(), &[]).unwrap();
    let answer = channel.receive_soon().unwrap();
    assert!(answer.header.reply);
    assert_eq!(answer.payload, [0; 8]);
}

#[test]
fn a_message_in_pieces_is_one_message() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let channel = Channel::new(ours, Duration::from_secs(60)).unwrap();
    let writer = thread::spawn(move || {
        let bytes =
            [&Header { code: 2, reply: false, need_reply: false, size: 8 }.encode()[..], &[7; 8]].concat();
        for piece in bytes.chunks(3) {
            peer.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        peer
    });
    assert_eq!(channel.receive().unwrap().request(), Ok(Request::SetFeatures(0x0707_0707_0707_0707)));
    drop(writer.join());
}

#[test]
fn a_peer_that_closes_stalls_or_babbles() {
    let (channel, peer) = pair();
    drop(peer);
    assert!(matches!(channel.receive(), Err(PeerError::Closed)));
    assert!(matches!(channel.ask(&Request::SetOwner, false, &[]), Err(PeerError::Closed)));

    let header = Header { code: 2, reply: false, need_reply: false, size: 8 }.encode();
    for (bytes, in_header) in [(&header[..5], true), (&header[..], false)] {
        let (channel, mut peer) = pair();
        peer.write_all(bytes).unwrap();
        assert!(matches!(channel.receive(), Err(PeerError::Silent(PATIENCE))), "{in_header}");
        peer.write_all(bytes).unwrap();
        drop(peer);
        assert!(matches!(channel.receive(), Err(PeerError::Cut)), "{in_header}");
    }

    let (channel, mut peer) = pair();
    peer.write_all(&[0xff; HEADER]).unwrap();
    assert!(matches!(channel.receive(), Err(PeerError::Nonsense(MessageError::Version(3)))));
}

#[test]
fn a_peer_that_never_reads() {
    let (channel, _peer) = pair();
    let space = super::super::message::ConfigSpace { offset: 0, flags: 0, bytes: vec![0; 256] };
    let flood = (0..10_000).find_map(|_| channel.ask(&Request::SetConfig(space.clone()), false, &[]).err());
    assert!(matches!(flood, Some(PeerError::Silent(PATIENCE))), "{flood:?}");
}

#[test]
fn more_descriptors_than_any_message_has() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for count in [MOST_REGIONS + 1, 64] {
        let (channel, peer) = pair();
        let before = open();
        let bytes = Header { code: 3, reply: false, need_reply: false, size: 0 }.encode();
        socket::send(&peer, &bytes, &vec![peer.as_fd(); count]).unwrap();
        assert!(matches!(channel.receive(), Err(PeerError::Fds)), "{count}");
        // Other tests open and close files meanwhile, but not this many.
        assert!(open() < before + MOST_REGIONS, "left open");
    }
}
