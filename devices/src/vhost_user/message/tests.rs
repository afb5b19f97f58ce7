use super::*;

fn examples() -> Vec<Request> {
    let state = RingState { index: 3, value: 256 };
    let fd = RingFd { index: 3, present: true };
    let region = Region { guest: 0x1_0000_0000, size: 2 << 20, user: 0x7f00_0000_0000, offset: 4096 };
    let space = ConfigSpace { offset: 4, flags: 0, bytes: vec![1, 2, 3] };
    let inflight = Inflight { size: 8192, offset: 0, queues: 2, queue_size: 256 };
    let addresses = Addresses { index: 1, flags: 0, descriptors: 16, used: 32, available: 48, log: 0 };
    vec![
        Request::GetFeatures,
        Request::SetFeatures(1 << 32 | F_PROTOCOL),
        Request::SetOwner,
        Request::ResetOwner,
        Request::SetMemTable(vec![region, Region { guest: 0, ..region }]),
        Request::SetVringNum(state),
        Request::SetVringAddr(addresses),
        Request::SetVringBase(state),
        Request::GetVringBase(state),
        Request::SetVringKick(fd),
        Request::SetVringCall(RingFd { present: false, ..fd }),
        Request::SetVringErr(fd),
        Request::GetProtocolFeatures,
        Request::SetProtocolFeatures(protocol::MQ | protocol::REPLY_ACK),
        Request::GetQueueNum,
        Request::SetVringEnable(state),
        Request::NetSetMtu(1500),
        Request::SetBackendReqFd,
        Request::GetConfig(space.clone()),
        Request::SetConfig(space),
        Request::GetInflightFd(inflight),
        Request::SetInflightFd(inflight),
        Request::ResetDevice,
        Request::GetMaxMemSlots,
        Request::AddMemReg(region),
        Request::RemMemReg(region),
        Request::SetStatus(15),
        Request::GetStatus,
    ]
}

fn header(code: u32, size: usize) -> Header {
    Header { code, reply: false, need_reply: false, size: size as u32 }
}

#[test]
fn every_request_comes_back_as_it_was() {
    let examples = examples();
    assert_eq!(examples.iter().map(Request::code).collect::<Vec<_>>(), Code::ALL);
    for request in examples {
        let bytes = request.encode();
        let header = header(request.code() as u32, bytes.len());
        assert_eq!(Request::decode(&header, &bytes, *request.fds().end()), Ok(request));
    }
}

#[test]
fn every_other_length_and_number_of_fds_is_refused() {
    for request in examples() {
        let (code, whole) = (request.code(), request.encode());
        let fds = *request.fds().end();
        for cut in 0..whole.len() {
            // Without its padding an inflight description is one, too.
            if whole.len() == 24 && cut == 20 && matches!(code, Code::GetInflightFd | Code::SetInflightFd) {
                continue;
            }
            let decoded = Request::decode(&header(code as u32, cut), &whole[..cut], fds);
            assert_eq!(decoded, Err(MessageError::Size(code, cut)), "{request:?}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        let decoded = Request::decode(&header(code as u32, longer.len()), &longer, fds);
        assert_eq!(decoded, Err(MessageError::Size(code, longer.len())), "{request:?}");
        let decoded = Request::decode(&header(code as u32, whole.len()), &whole, fds + 1);
        assert_eq!(decoded, Err(MessageError::Fds(code, fds + 1)), "{request:?}");
    }
}

#[test]
fn headers() {
    let plain = header(2, 8);
    for header in [plain, Header { reply: true, ..plain }, Header { need_reply: true, ..plain }] {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
    let mut bytes = plain.encode();
    bytes[4] = 2;
    assert_eq!(Header::decode(&bytes), Err(MessageError::Version(2)));
    let size = MOST_PAYLOAD as u32 + 1;
    assert_eq!(Header::decode(&Header { size, ..plain }.encode()), Err(MessageError::Long(size)));
}

#[test]
fn numbers_that_a_peer_makes_up() {
    assert_eq!(Request::decode(&header(7, 0), &[], 0), Err(MessageError::Unknown(7)));
    let mut table = Request::SetMemTable(Vec::new()).encode();
    table[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
    let decoded = Request::decode(&header(5, table.len()), &table, 0);
    assert_eq!(decoded, Err(MessageError::Regions(Code::SetMemTable, u32::MAX)));
    // A configuration space that says more than it holds.
    let mut space = ConfigSpace { offset: 0, flags: 0, bytes: vec![0; 8] }.encode();
    space[4..8].copy_from_slice(&9_u32.to_ne_bytes());
    assert_eq!(ConfigSpace::decode(&space), None);
    let most = ConfigSpace { offset: 0, flags: 0, bytes: vec![0; MOST_CONFIG + 1] };
    assert_eq!(ConfigSpace::decode(&most.encode()), None);
}
