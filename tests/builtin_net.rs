//! The network of the built-in guest kernel, whole: what a datagram costs, by interrupts or polled, from
//! one queue or several, and that it arrives.

mod harness;

use std::sync::atomic::Ordering;

use harness::host::{any_guest, linux_guest, skip};
use harness::kernels;
use harness::machine::{Machine, vmm};
use harness::tap::{Interface, Reflector};

/// A machine with this tap and these workloads.
fn machine(tap: &Interface, workloads: &[&str]) -> Machine {
    let words = workloads.iter().flat_map(|workload| ["--workload", workload]);
    vmm(["--memory", "128M"]).args(tap.net()).args(words)
}

/// A tap at which the host answers, if this test can run.
fn answering_tap(queues: bool) -> Option<(Interface, Reflector)> {
    any_guest()?;
    let tap = Interface::tap(queues).and_then(|tap| tap.address().map(|()| tap));
    match tap {
        Err(why) => {
            skip(&why);
            None
        }
        Ok(tap) => {
            let reflector = Reflector::at(&tap, true);
            Some((tap, reflector))
        }
    }
}

/// The keys that tell a guest who is who.
fn ends(tap: &Interface, reflector: &Reflector) -> String {
    format!("role=send,address={},peer={}:{}", tap.at(2), tap.at(1), reflector.port)
}

#[test]
fn every_request_is_answered_on_either_transport() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let workload = format!("rr,items=200,size=700,{}", ends(&tap, &reflector));
    for (knobs, mmio) in [
        (&["--transport=pci"][..], false),
        (&["--transport=mmio"], true),
        (&["--event-idx=off"], false),
        (&["--irqfd=off", "--ioeventfd=off"], false),
    ] {
        let ended = machine(&tap, &[&workload]).args(knobs).run();
        ended.expect("exit", 0);
        assert_eq!((ended.value(&workload, "ops"), ended.value(&workload, "lost")), (200, 0), "{knobs:?}");
        assert!(ended.value(&workload, "interrupts") > 0, "{knobs:?}");
        let kicks = ended.value(&workload, "kicks") + ended.value(&workload, "kicks_avoided");
        assert!(kicks >= 200, "{knobs:?}: {kicks}");
        // Each interrupt is read and acknowledged there.
        let interrupts = ended.value(&workload, "interrupts");
        assert!(!mmio || ended.returns(&workload) >= interrupts, "{knobs:?}");
    }
    assert!(reflector.datagrams.load(Ordering::Relaxed) >= 800);
    assert_eq!(reflector.garbled.load(Ordering::Relaxed), 0);
}

#[test]
fn an_event_index_saves_a_sender_its_kicks() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let workload = format!("udp,items=3000,{}", ends(&tap, &reflector));
    let kicks = |knobs: &[&str]| {
        // On one CPU the worker has mostly seen all there is, and sleeps, before the sender goes on.
        let ended =
            machine(&tap, &[&workload]).args(["--pin", "0@0,net0@0", "--busy-poll=0"]).args(knobs).run();
        ended.expect("exit", 0);
        assert_eq!(ended.value(&workload, "ops") + ended.value(&workload, "dropped"), 3000, "{knobs:?}");
        ended.value(&workload, "kicks")
    };
    // By an index the worker says that it comes back by itself, up to there. By a flag it has all or none.
    let (mut with, mut without) = (0, 0);
    for _ in 0..8 {
        with += kicks(&[]);
        without += kicks(&["--event-idx=off"]);
        if 4 * with + 100 < without {
            return;
        }
    }
    assert!(with + without < 200, "{with} kicks with it, {without} without");
    skip("the scheduler never let the card's worker sleep, so that nobody was kicked: nothing to compare");
}

#[test]
fn a_card_waits_for_what_it_may_do_in_a_second() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let workload = format!("rr,items=10,size=700,{}", ends(&tap, &reflector));
    let [flag, net] = tap.net();
    // Two frames for each request: some are saved up, the others wait for 50 ms.
    let words = ["--memory", "128M", "--workload", &workload, &flag];
    let ended = vmm(words).args([format!("{net},rate=20ops")]).run();
    ended.expect("exit", 0);
    assert_eq!((ended.value(&workload, "ops"), ended.value(&workload, "lost")), (10, 0));
    let queues = ended.report["devices"][0]["queues"].as_array().expect("queues");
    let waits: u64 = queues.iter().filter_map(|queue| queue["throttled"].as_u64()).sum();
    assert!(waits >= 10, "{queues:#?}");
}

#[test]
fn a_polled_card_takes_no_exit() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let ends = ends(&tap, &reflector);
    let (few, many) = (format!("rr,net=poll,items=20,{ends}"), format!("rr,net=poll,items=200,{ends}"));
    let ended = machine(&tap, &[&few, &many]).args(["--busy-poll", "1000000"]).run();
    ended.expect("exit", 0);
    assert_eq!((ended.value(&few, "ops"), ended.value(&many, "ops")), (20, 200));
    assert_eq!(ended.value(&many, "interrupts"), 0);
    // The worker looks at the ring by itself.
    assert!(ended.value(&many, "kicks") <= 10, "{}", ended.value(&many, "kicks"));
    // What is left is bringing the card up, and the record.
    assert!(ended.returns(&many).abs_diff(ended.returns(&few)) <= 8, "{}", ended.returns(&many));
}

#[test]
fn polled_datagrams_take_no_exit() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let ends = ends(&tap, &reflector);
    let (few, many) = (format!("udp,net=poll,items=200,{ends}"), format!("udp,net=poll,items=4000,{ends}"));
    let ended = machine(&tap, &[&few, &many]).args(["--busy-poll", "1000000"]).run();
    ended.expect("exit", 0);
    assert_eq!(ended.value(&many, "ops") + ended.value(&many, "dropped"), 4000);
    assert_eq!(ended.value(&many, "interrupts"), 0);
    // The worker looks at the ring by itself.
    assert!(ended.value(&many, "kicks") <= 40, "{}", ended.value(&many, "kicks"));
    assert!(ended.returns(&many).abs_diff(ended.returns(&few)) <= 8, "{}", ended.returns(&many));
}

#[test]
fn a_batch_is_one_kick() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let workload = format!("udp,items=640,batch=32,size=200,{}", ends(&tap, &reflector));
    let ended = machine(&tap, &[&workload]).run();
    ended.expect("exit", 0);
    assert_eq!((ended.value(&workload, "ops"), ended.value(&workload, "dropped")), (640, 0));
    assert!(ended.value(&workload, "kicks") <= 60, "{}", ended.value(&workload, "kicks"));
    // The host's socket may be full for a while; what came is what was sent.
    let (came, garbled) = (&reflector.datagrams, &reflector.garbled);
    assert!(came.load(Ordering::Relaxed) > 0 && garbled.load(Ordering::Relaxed) == 0);
}

#[test]
fn each_cpu_has_a_pair_of_its_own() {
    let Some((tap, reflector)) = answering_tap(true) else { return };
    let workload = format!("packets,threads=4,items=50,{}", ends(&tap, &reflector));
    let [flag, net] = tap.net();
    for (vcpus, used) in [("2", &[1, 3][..]), ("1", &[1])] {
        let words = ["--memory", "128M", "--vcpus", vcpus, "--workload", &workload, &flag];
        let ended = vmm(words).args([format!("{net},queues=2")]).run();
        ended.expect("exit", 0);
        // Each thread asks a port of its own, of which the host has the first alone.
        assert_eq!(ended.value(&workload, "ops"), 50);
        let queues = ended.report["devices"][0]["queues"].as_array().expect("queues");
        assert_eq!(queues.len(), 5);
        let sent = |queue: &usize| queues[*queue]["chains"].as_u64().unwrap_or(0) > 0;
        assert!([1, 3].iter().all(|queue| used.contains(queue) == sent(queue)), "{queues:#?}");
    }
}

#[test]
fn a_stream_between_two_machines_loses_nothing() {
    let Some(_) = any_guest() else { return };
    let build = || -> Result<_, String> {
        let taps = [Interface::tap(false)?, Interface::tap(false)?];
        let bridge = Interface::bridge(&[&taps[0], &taps[1]])?;
        Ok((taps, bridge))
    };
    let ([left, right], _bridge) = match build() {
        Ok(built) => built,
        Err(why) => return skip(&why),
    };
    let sink = "bulk,address=10.9.9.1,items=100,threads=2";
    let send = "bulk,role=send,address=10.9.9.2,peer=10.9.9.1,items=100,threads=2,batch=8";
    let receiver = machine(&left, &[sink]).spawn();
    let sender = machine(&right, &[send]).run();
    let receiver = receiver.end();
    sender.expect("exit", 0);
    receiver.expect("exit", 0);
    for (ended, workload) in [(&sender, send), (&receiver, sink)] {
        assert_eq!(ended.value(workload, "ops"), 200);
        assert_eq!(ended.value(workload, "bytes"), 200 * 16384);
    }
}

#[test]
fn the_same_request_from_a_linux_guest() {
    if linux_guest().is_none() {
        return;
    }
    let (Some(kernel), Some((tap, reflector))) = (kernels::cloud(), answering_tap(false)) else { return };
    let workload = format!("rr,items=20,{}", ends(&tap, &reflector));
    let ended = vmm(["--memory", "256M", "--cmdline", "quiet", "--workload", &workload])
        .args(tap.net())
        .args(["--kernel".into(), kernel.bzimage.into_os_string()])
        .args(["--modules".into(), kernel.modules.into_os_string()])
        .run();
    ended.expect("exit", 0);
    assert_eq!(ended.value(&workload, "ops"), 20);
}

#[test]
fn nobody_there_and_no_card() {
    let Some((tap, reflector)) = answering_tap(false) else { return };
    let nobody = format!("rr,role=send,items=1,address={},peer={}", tap.at(2), tap.at(99));
    let after = format!("rr,items=5,{}", ends(&tap, &reflector));
    let ended = machine(&tap, &[&nobody, &after]).run();
    ended.expect("exit", 0);
    assert_eq!(ended.record(&nobody)["outcome"], "unavailable:nobody-answers");
    assert_eq!(ended.value(&after, "ops"), 5);
    let ended =
        vmm(["--memory", "128M", "--workload", "udp", "--workload", "fault", "--workload", "bulk"]).run();
    ended.expect("exit", 0);
    assert_eq!(ended.record("udp")["outcome"], "unavailable:no-such-device");
    assert_eq!(ended.record("bulk")["outcome"], "unavailable:no-such-device");
}
