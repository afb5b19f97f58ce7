//! The workloads on a Linux kernel: the host's own by `vmm workload`, the guest's by
//! [`crate::init`]. What they do is written in the `workloads` crate; here is the kernel that they
//! run on.

mod datagrams;
mod disk;
mod hackbench;
mod hogs;
mod http;
mod linux;
pub mod native;
mod start;
mod streams;
pub mod tool;
mod urgent;

use abi::record::{Outcome, Record};
use abi::workload::Spec;

use linux::Linux;
use workloads::platform::Unavailable;

/// Runs one workload to its end: 0, or 1 where something went wrong or can't be done here.
pub fn run(spec: &Spec<'_>, results: &mut dyn FnMut(&Record<'_>)) -> u8 {
    let mut status = 0;
    let mut results = |record: &Record<'_>| {
        status = status.max(u8::from(record.outcome != Outcome::Ok));
        results(record);
    };
    let linux = Linux::new();
    let own = match spec.workload.name {
        // Linux has sockets and processes to hack on; elsewhere it is made of semaphores.
        "hackbench" => hackbench::run(&linux, spec, &mut results),
        "http" => http::run(&linux, spec, &mut results),
        "tool" => tool::run(spec, &["sh"], &mut results),
        "rr" | "bulk" if spec.word("over") == "tcp" => streams::run(&linux, spec, &mut results),
        "jitter" => urgent::at(spec.number("priority"), || workloads::run(&linux, spec, &mut results)),
        "ipc" => hogs::beside(spec.count("hogs"), || workloads::run(&linux, spec, &mut results)),
        _ => {
            workloads::run(&linux, spec, &mut results);
            Ok(())
        }
    };
    if let Err(Unavailable(why)) = own {
        results(&Record::without(spec.text(), Outcome::Unavailable(why)));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `text`'s records, and its status.
    fn lines(text: &str) -> (Vec<String>, u8) {
        let mut lines = Vec::new();
        let status = run(&Spec::parse(text).unwrap(), &mut |record| {
            let mut line = String::new();
            record.encode(&mut line).unwrap();
            lines.push(line);
        });
        (lines, status)
    }

    #[test]
    fn probes_of_what_every_kernel_has() {
        for what in ["cpuid", "syscall", "timer", "touch"] {
            let (lines, status) = lines(&format!("probe,what={what},items=5"));
            assert!(status == 0 && lines[0].contains(" ok ops=5 "), "{lines:?}");
        }
        let (lines, status) = lines("probe,what=kick");
        assert!(status == 1 && lines[0].contains("unavailable:only-in-the-built-in-kernel"), "{lines:?}");
    }

    #[test]
    fn linux_refuses_to_write_a_read_only_null_file() {
        let (lines, status) = lines("null,calls=10");
        assert!(lines[0].starts_with("null,calls=10 read-only ok ops=20 "), "{lines:?}");
        assert!(lines[0].contains(" refused=10"), "{lines:?}");
        assert!(lines[1].contains(" refused=0"), "{lines:?}");
        assert_eq!(status, 0);
    }

    #[test]
    fn what_needs_another_kernel_says_so() {
        for text in [
            "null,gate=call",
            "null,ring=0",
            "ipc,idle=poll",
            "probe",
            "blk,blk=poll",
            "rr,over=tcp,net=poll",
        ] {
            let (lines, status) = lines(text);
            assert!(lines[0].contains(" - unavailable:"), "{lines:?}");
            assert_eq!(status, 1, "{text}");
        }
    }

    #[test]
    fn two_threads_hand_over_every_item() {
        let (lines, _) = lines("ipc,items=200,spin=10");
        let words = ["ipc,items=200,spin=10 - ok ops=200 ", "unavailable:needs-two-cpus"];
        assert!(words.iter().any(|words| lines[0].contains(words)), "{lines:?}");
    }
}
