//! The system calls that each thread of a machine may make, as programs for seccomp(2), made here so that a
//! machine starts with them as constants: `sandbox::filter`.
//!
//! A thread is started by another and keeps its filter: what a device's worker may do, the vCPU that
//! starts it may do, too. No filter lets a program be run, a file be made executable in memory, or a
//! socket reach beyond this host.
//!
//! A program is a search tree over the numbers of calls. The usual chain of comparisons (seccompiler's; 328
//! instructions for a vCPU) takes the kernel 200 µs to accept, for it tries each of its 460 calls on it, to
//! let those go that need no look at their arguments; and it is on the way to the first instruction. These
//! take 30 µs.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

#[path = "../src/sys/syscalls.rs"]
mod syscalls;

/// Any thread: memory, waiting, clocks, what is open already, and what a panic or an abort needs.
const ANY: &str = "brk munmap mremap madvise futex sched_yield clock_gettime gettimeofday clock_nanosleep \
    nanosleep restart_syscall read readv write writev pread64 pwrite64 close lseek fstat stat lstat \
    newfstatat statx fcntl getdents64 readlink getcwd getpid gettid tkill tgkill getrandom getrusage \
    getpgid sched_getaffinity rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack set_robust_list exit \
    exit_group";
/// Waiting for one of several files.
const WAIT: &str = "eventfd2 epoll_create1 epoll_ctl epoll_wait epoll_pwait poll ppoll";
/// A worker: requests of a guest, done to files that are open.
const WORKER: &str = "preadv pwritev preadv2 pwritev2 fdatasync fsync fallocate \
    sched_setaffinity bind";
/// What a ring does, seccomp does not see: only where a disk has one.
const URING: &str = "io_uring_setup io_uring_enter io_uring_register";
/// Talk with another process that serves a device.
const TALK: &str = "sendmsg recvmsg sendto recvfrom setsockopt getsockopt socketpair connect memfd_create \
    ftruncate shutdown";
/// A vCPU of a machine with devices starts and stops their workers.
const START: &str = "seccomp";
/// The main thread: watches, then counts on a machine of its own, and writes the reports.
const MAIN: &str = "open openat accept accept4 rename unlink rmdir uname capget capset timer_create timer_settime \
    timer_delete bpf sched_setaffinity";
/// A switch: its ports come and go, and what it tells them must not make it wait (`devices/src/sys/bell.rs`).
const SWITCH: &str = "fstatfs open openat accept accept4 rename unlink sched_setaffinity io_setup io_submit \
    io_getevents io_destroy";

/// What else an argument must be.
#[derive(Clone, Copy)]
struct Only {
    call: &'static str,
    argument: u8,
    mask: u32,
    is: u32,
}

const fn only(call: &'static str, argument: u8, mask: u32, is: u32) -> Only {
    Only { call, argument, mask, is }
}

const fn request(number: u32) -> Only {
    only("ioctl", 1, u32::MAX, number)
}

/// Any thread.
const ANY_ONLY: &[Only] = &[
    only("mmap", 2, libc::PROT_EXEC as u32, 0),
    only("mprotect", 2, libc::PROT_EXEC as u32, 0),
    // To read: threads ask /proc about themselves.
    only("open", 1, (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u32, 0),
    only("openat", 2, (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u32, 0),
    // The terminal is restored by whoever ends the machine.
    request(libc::TIOCGPGRP as u32),
    request(libc::TCSETS as u32),
    only("prctl", 0, u32::MAX, libc::PR_SET_NAME as u32),
];
/// KVM's, by the thread that runs a vCPU.
const VCPU_ONLY: &[Only] = &[
    request(0xae80),      // KVM_RUN
    request(0x8090_ae81), // KVM_GET_REGS
    request(0x8138_ae83), // KVM_GET_SREGS
    request(0x4008_ae6a), // KVM_SET_GSI_ROUTING
    request(0x4020_ae76), // KVM_IRQFD
    request(0x4040_ae79), // KVM_IOEVENTFD
    request(0x4020_ae46), // KVM_SET_USER_MEMORY_REGION
];
/// Taps, whose interfaces the kernel says changes of, disks, and interrupts where they are no irqfds.
const WORKER_ONLY: &[Only] = &[
    only("socket", 0, u32::MAX, libc::AF_NETLINK as u32),
    request(0x4008_ae61), // KVM_IRQ_LINE
    request(0x4020_aea5), // KVM_SIGNAL_MSI
    request(0x4008_af21), // VHOST_SET_VRING_CALL
    request(0x4008_af23), // VHOST_SET_VRING_BUSYLOOP_TIMEOUT
    request(0x4004_54d0), // TUNSETOFFLOAD
    request(0x4004_54d8), // TUNSETVNETHDRSZ
    request(0x4004_54d9), // TUNSETQUEUE
    request(0x1277),      // BLKDISCARD
    request(0x127f),      // BLKZEROOUT
    request(libc::FIONBIO as u32),
];
/// Naps that end when they are due.
const SWITCH_ONLY: &[Only] = &[only("prctl", 0, u32::MAX, libc::PR_SET_TIMERSLACK as u32)];
/// Threads, but no processes.
const START_ONLY: &[Only] = &[only("clone", 0, libc::CLONE_THREAD as u32, libc::CLONE_THREAD as u32)];
/// vhost's requests are all of one kind.
const VHOST_ONLY: &[Only] = &[only("ioctl", 1, 0xff00, 0xaf00)];
const TALK_ONLY: &[Only] =
    &[only("socket", 0, u32::MAX, libc::AF_UNIX as u32), request(libc::FIONBIO as u32)];
/// KVM's, and a terminal's. Not TIOCSTI, by which one types into it.
const MAIN_ONLY: &[Only] =
    &[only("ioctl", 1, 0xff00, 0xae00), request(libc::TCGETS as u32), request(libc::TIOCGWINSZ as u32)];

/// What one kind of thread may do.
struct Filter {
    name: &'static str,
    calls: &'static [&'static str],
    only: &'static [&'static [Only]],
}

const FILTERS: &[Filter] = &[
    Filter { name: "CONSOLE", calls: &[ANY, WAIT], only: &[ANY_ONLY] },
    Filter { name: "KEEPER", calls: &[ANY, WAIT, TALK], only: &[ANY_ONLY, TALK_ONLY] },
    Filter { name: "WORKER", calls: &[ANY, WAIT, WORKER, TALK], only: &[ANY_ONLY, WORKER_ONLY] },
    Filter {
        name: "WORKER_WITH_URING",
        calls: &[ANY, WAIT, WORKER, TALK, URING],
        only: &[ANY_ONLY, WORKER_ONLY],
    },
    Filter { name: "VCPU", calls: &[ANY], only: &[VCPU_ONLY, ANY_ONLY] },
    Filter {
        name: "VCPU_WITH_DEVICES",
        calls: &[ANY, WAIT, WORKER, TALK, START],
        only: &[VCPU_ONLY, ANY_ONLY, WORKER_ONLY, START_ONLY, VHOST_ONLY],
    },
    Filter {
        name: "VCPU_WITH_URING",
        calls: &[ANY, WAIT, WORKER, TALK, START, URING],
        only: &[VCPU_ONLY, ANY_ONLY, WORKER_ONLY, START_ONLY, VHOST_ONLY],
    },
    Filter {
        name: "MAIN",
        calls: &[ANY, WAIT, TALK, MAIN],
        only: &[ANY_ONLY, WORKER_ONLY, VHOST_ONLY, MAIN_ONLY],
    },
    Filter {
        name: "SWITCH",
        calls: &[ANY, WAIT, TALK, SWITCH],
        only: &[ANY_ONLY, TALK_ONLY, START_ONLY, SWITCH_ONLY],
    },
];

/// Writes them as Rust.
pub fn write(to: &Path) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for filter in FILTERS {
        writeln!(text, "pub static {}: &[libc::sock_filter] = &[", filter.name)?;
        for (code, jt, jf, k) in program(filter)? {
            writeln!(text, "libc::sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},")?;
        }
        writeln!(text, "];")?;
    }
    Ok(std::fs::write(to, text)?)
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// Past so many.
    Skip(usize),
    Allow,
    Refuse,
    /// Where the arguments of this call are looked at.
    Arguments(u32),
}

/// An instruction (linux/filter.h): code, operand, and where it goes on where it is true and where false.
type Insn = (u32, u32, To, To);

/// Loads a word of `struct seccomp_data`.
const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET;
/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xc000_003e;
/// Calls at a leaf of the tree, which are compared one after the other.
const LEAF: usize = 6;

/// Code, jumps where true and where false, operand.
type Placed = (u32, u8, u8, u32);

fn program(filter: &Filter) -> Result<Vec<Placed>, Box<dyn Error>> {
    let mut calls = BTreeMap::<u32, To>::new();
    let mut tests = BTreeMap::<u32, Vec<Only>>::new();
    for &only in filter.only.iter().copied().flatten() {
        let number = number(only.call)?;
        tests.entry(number).or_default().push(only);
        calls.insert(number, To::Arguments(number));
    }
    for call in filter.calls.iter().flat_map(|calls| calls.split_ascii_whitespace()) {
        calls.insert(number(call)?, To::Allow);
        tests.remove(&number(call)?);
    }
    let calls: Vec<(u32, To)> = calls.into_iter().collect();
    let mut insns: Vec<Insn> = vec![
        (LOAD, 4, To::Next, To::Next),
        (EQUAL, ARCH, To::Skip(1), To::Next),
        (RETURN, libc::SECCOMP_RET_KILL_PROCESS, To::Next, To::Next),
        (LOAD, 0, To::Next, To::Next),
    ];
    insns.extend(tree(&calls));
    let mut arguments = BTreeMap::new();
    for (number, tests) in &tests {
        arguments.insert(*number, insns.len());
        insns.extend(look(tests));
    }
    let end = insns.len();
    insns.push((RETURN, libc::SECCOMP_RET_ALLOW, To::Next, To::Next));
    insns.push((RETURN, libc::SECCOMP_RET_TRAP, To::Next, To::Next));
    let place = |at: usize, to: To| {
        let there = match to {
            To::Next => at + 1,
            To::Skip(count) => at + 1 + count,
            To::Allow => end,
            To::Refuse => end + 1,
            To::Arguments(number) => *arguments.get(&number)?,
        };
        u8::try_from(there - at - 1).ok()
    };
    let placed = insns
        .iter()
        .enumerate()
        .map(|(at, &(code, k, yes, no))| Some((code, place(at, yes)?, place(at, no)?, k)));
    placed.collect::<Option<_>>().ok_or_else(|| format!("the filter {} is too long", filter.name).into())
}

/// Finds a call.
fn tree(calls: &[(u32, To)]) -> Vec<Insn> {
    if calls.len() <= LEAF {
        let compare = |(at, &(number, to)): (usize, &(u32, To))| {
            (EQUAL, number, to, if at + 1 == calls.len() { To::Refuse } else { To::Next })
        };
        return calls.iter().enumerate().map(compare).collect();
    }
    let (lower, upper) = calls.split_at(calls.len() / 2);
    let below = tree(lower);
    [vec![(LEAST, upper[0].0, To::Skip(below.len()), To::Next)], below, tree(upper)].concat()
}

/// Looks at arguments: one of the tests must hold.
fn look(tests: &[Only]) -> Vec<Insn> {
    let mut insns = Vec::new();
    let mut loaded = None;
    for (at, only) in tests.iter().enumerate() {
        if loaded != Some(only.argument) {
            insns.push((LOAD, 16 + 8 * u32::from(only.argument), To::Next, To::Next));
        }
        loaded = Some(only.argument);
        if only.mask != u32::MAX {
            insns.push((AND, only.mask, To::Next, To::Next));
            loaded = None;
        }
        let otherwise = if at + 1 == tests.len() { To::Refuse } else { To::Next };
        insns.push((EQUAL, only.is, To::Allow, otherwise));
    }
    insns
}

fn number(call: &str) -> Result<u32, String> {
    let known = (0..512).find(|&number| syscalls::name(number) == Some(call));
    known.map(|number| number as u32).ok_or_else(|| format!("no system call {call}"))
}
