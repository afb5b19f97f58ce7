//! Every end is the right end: its status, its line on stderr, its report. Guests of a few
//! instructions, so these run on every kind of host.

mod harness;

use std::time::Duration;

use harness::host::{Host, any_guest};
use harness::machine::{Ended, Running, vmm};
use harness::tiny::{Tiny, exit, halt, out8, print, spin, triple_fault};
use serde_json::Value;

/// A machine of `code`.
fn run(code: &[u8], args: &[&str]) -> Ended {
    let guest = Tiny::new(code);
    vmm(guest.args()).args(["--memory", "16M"]).args(args.iter().copied()).run()
}

/// One that says `up` before it runs `code`, once it has said so; the guest's file goes with it.
fn running(code: &[u8], args: &[&str]) -> (Running, Tiny) {
    let guest = Tiny::new(&[print("up\n"), code.to_vec()].concat());
    let mut machine = vmm(guest.args()).args(["--memory", "16M"]).args(args.iter().copied()).spawn();
    machine.until("up");
    (machine, guest)
}

#[test]
fn the_status_that_the_guest_returns() {
    let Some(_) = any_guest() else { return };
    for status in [0, 1, 63] {
        let ended = run(&exit(status), &[]);
        ended.expect("exit", status.into());
        assert_eq!(ended.report["guest"]["code"], status);
    }
}

#[test]
fn what_was_printed_before_the_end_is_printed() {
    let Some(_) = any_guest() else { return };
    let text = "the quick brown fox jumps over the lazy dog\n";
    let ended = run(&[print(text), exit(5)].concat(), &[]);
    assert_eq!(ended.expect("exit", 5).stdout, text);
}

#[test]
fn power_off() {
    let Some(_) = any_guest() else { return };
    // SLP_TYP 5, SLP_EN (ACPI 6.5 §4.8.3.7).
    run(&out8(abi::port::ACPI_SLEEP_CONTROL, 5 << 2 | 1 << 5), &[]).expect("shutdown", 0);
}

#[test]
fn reset() {
    let Some(_) = any_guest() else { return };
    run(&out8(abi::port::ACPI_RESET, abi::port::ACPI_RESET_VALUE), &[]).expect("reset", 0);
}

#[test]
fn panic() {
    let Some(_) = any_guest() else { return };
    run(&out8(abi::port::PVPANIC, abi::port::PVPANIC_PANICKED), &[]).expect("panic", 80);
}

#[test]
fn triple_fault_shows_the_registers() {
    let Some(_) = any_guest() else { return };
    let ended = run(&[print("x"), triple_fault()].concat(), &["--report", "text"]);
    ended.expect("triple-fault", 81);
    assert!(ended.stderr.to_lowercase().contains("rip"), "{}", ended.stderr);
}

#[test]
fn an_instruction_that_kvm_cannot_emulate() {
    // Where ring 0 is interpreted, SSE arithmetic there is more than the interpreter knows.
    match any_guest() {
        None => return,
        Some(Host::Pvm) => {}
        Some(_) => return harness::host::skip("this host runs every instruction natively"),
    }
    let addps = [0x0f, 0x58, 0xc0];
    let ended = run(&addps, &[]);
    ended.expect("internal-error", 82);
    assert!(ended.stderr.contains("KVM internal error 1 (emulation failed)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("rip "), "{}", ended.stderr);
}

#[test]
fn timeout_of_a_halted_and_of_a_spinning_guest() {
    let Some(_) = any_guest() else { return };
    for (code, state) in [(halt(), "halted"), (spin(), "running")] {
        let ended = run(&code, &["--timeout", "1"]);
        ended.expect("timeout", 83);
        assert!(ended.wall >= Duration::from_secs(1), "{:?}", ended.wall);
        let stood = &ended.report["vcpus"][0]["stood"];
        assert_eq!(
            (stood["state"].as_str(), stood["mode"].as_str()),
            (Some(state), Some("protected")),
            "{stood}"
        );
        assert_eq!(
            (stood["ring"].as_u64(), stood["takes_interrupts"].as_bool()),
            (Some(0), Some(false)),
            "{stood}"
        );
    }
    let ended = run(&out8(abi::port::PVPANIC, abi::port::PVPANIC_PANICKED), &[]);
    assert_eq!(ended.report["vcpus"][0]["stood"], Value::Null);
}

#[test]
fn signals_end_the_machine_with_its_report() {
    let Some(_) = any_guest() else { return };
    for (name, number) in [("INT", 2), ("TERM", 15)] {
        for code in [halt(), spin()] {
            let (machine, _guest) = running(&code, &[]);
            machine.signal(name);
            machine.end().expect("signal", 128 + number);
        }
    }
}

#[test]
fn a_second_vcpu_that_never_starts_is_joined_all_the_same() {
    let Some(_) = any_guest() else { return };
    let ended = run(&exit(3), &["--vcpus", "4"]);
    ended.expect("exit", 3);
    assert_eq!(ended.report["time"]["vcpu_cpu_us"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_halted_guest_causes_no_exit_to_userspace_and_no_work() {
    let Some(_) = any_guest() else { return };
    let (machine, _guest) = running(&halt(), &["--timeout", "4"]);
    std::thread::sleep(Duration::from_secs(1));
    let before = machine.cpu();
    std::thread::sleep(Duration::from_secs(2));
    let spent = machine.cpu().saturating_sub(before);
    assert!(spent < Duration::from_millis(200), "{spent:?} of CPU in 2 s for a guest that sleeps");
    let ended = machine.end();
    ended.expect("timeout", 83);
    let exits = ended.report["exits"]["userspace"].as_array().expect("a list");
    let others: Vec<_> = exits
        .iter()
        .filter(|row| row["target"].as_str().is_none_or(|target| !target.starts_with("serial")))
        .filter(|row| row["reason"] != "interrupted")
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
