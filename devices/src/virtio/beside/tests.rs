//! A worker, and a vCPU that only remembers where it was told to go.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::*;

/// Halts at each look, where it does; moves to where it is told.
#[derive(Default)]
struct Played {
    halts: AtomicU64,
    busy: AtomicBool,
    cpu: AtomicUsize,
    refuses: bool,
    kept: Mutex<Vec<Option<usize>>>,
}

impl Vcpu for Arc<Played> {
    fn halts(&self) -> Option<u64> {
        Some(self.halts.fetch_add(u64::from(!self.busy.load(Relaxed)), Relaxed))
    }
    fn cpu(&self) -> Option<usize> {
        Some(self.cpu.load(Relaxed))
    }
    fn keep(&self, cpu: Option<usize>) -> bool {
        self.kept.lock().unwrap().push(cpu);
        !self.refuses
    }
}

fn serve(beside: &mut Beside, counters: &Counters, kicks: u32) {
    for _ in 0..kicks {
        beside.woken(true);
        beside.served(1, true, false, counters);
    }
}

#[test]
fn it_goes_where_the_vcpu_is_and_leaves_in_the_end() {
    let (vcpu, counters) = (Arc::new(Played::default()), Counters::default());
    vcpu.cpu.store(3, Relaxed);
    let mut beside = Beside::new(Box::new(vcpu.clone()));
    serve(&mut beside, &counters, 100);
    assert_eq!(*vcpu.kept.lock().unwrap(), [Some(3)]);
    assert_eq!(beside.nap(), Some(20));
    std::thread::sleep(rule::IDLE);
    beside.woken(false);
    assert_eq!((vcpu.kept.lock().unwrap().last(), beside.nap()), (Some(&None), None));
    vcpu.cpu.store(1, Relaxed);
    serve(&mut beside, &counters, 100);
    drop(beside);
    assert_eq!(*vcpu.kept.lock().unwrap(), [Some(3), None, Some(1), None]);
    assert_eq!((counters.follows.get(), counters.beside.get()), (2, 160));
}

#[test]
fn a_busy_guest_keeps_its_cpu_and_a_host_that_refuses_is_asked_once() {
    let busy = Arc::new(Played { busy: true.into(), ..Played::default() });
    let refusing = Arc::new(Played { refuses: true, ..Played::default() });
    for (vcpu, asked) in [(busy, 0), (refusing, 1)] {
        let counters = Counters::default();
        let mut beside = Beside::new(Box::new(vcpu.clone()));
        serve(&mut beside, &counters, 300);
        drop(beside);
        assert_eq!(vcpu.kept.lock().unwrap().len(), asked);
        assert_eq!(counters.beside.get(), 0);
    }
}

#[test]
fn who_may_not_go_back_lets_its_vcpu_go_once() {
    /// Goes along, and not back.
    struct Stuck(Arc<Mutex<Vec<Option<usize>>>>);
    impl Vcpu for Stuck {
        fn halts(&self) -> Option<u64> {
            None
        }
        fn cpu(&self) -> Option<usize> {
            Some(0)
        }
        fn keep(&self, cpu: Option<usize>) -> bool {
            self.0.lock().unwrap().push(cpu);
            cpu.is_some()
        }
    }
    let kept = Arc::default();
    let mut beside = Beside::new(Box::new(Stuck(Arc::clone(&kept))));
    beside.keep(Some(0));
    beside.keep(None);
    drop(beside);
    assert_eq!(*kept.lock().unwrap(), [Some(0), None]);
}
