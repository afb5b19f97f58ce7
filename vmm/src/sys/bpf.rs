//! bpf(2): maps and programs, and the tracepoints that run them (perf_event_open(2)).

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use super::checked;

/// An instruction (Linux Documentation/bpf/standardization/instruction-set.rst): eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    pub code: u8,
    /// Destination in the lower four bits, source in the upper.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// Kinds of map that are used here (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum MapKind {
    Hash = 1,
    Array = 2,
}

/// Kinds of program that are used here (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum ProgramKind {
    Tracepoint = 5,
    RawTracepoint = 17,
}

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_NEXT_KEY: libc::c_long = 4;
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_RUN: libc::c_long = 10;
const OBJECT_INFO: libc::c_long = 15;
/// `_IOW('$', 8, u32)` and `_IO('$', 0)` (linux/perf_event.h).
const PERF_SET_BPF: libc::Ioctl = 0x4004_2408;
const PERF_TRACEPOINT: u32 = 2;
const PERF_FLAG_CLOEXEC: libc::c_ulong = 8;
/// Bytes of the verifier's words that are kept, enough for its verdict.
const LOG: usize = 1 << 16;

/// `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct CreateMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

/// For BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM and BPF_MAP_GET_NEXT_KEY.
#[repr(C)]
struct Element {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// For BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    returned: u32,
    sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    contexts: [u64; 2],
    flags: u32,
    cpu: u32,
    batch: u32,
    _pad: u32,
}

/// For BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct Info {
    object: u32,
    len: u32,
    info: u64,
}

/// `struct perf_event_attr` in its second version, which every kernel knows.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 7],
}

/// A call that makes a descriptor, or none.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is live, is as long as said, and holds pointers to live memory of the lengths that
    // the callers in this file give beside them.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) })
}

/// The owner of a descriptor that the kernel has just made.
fn owned(fd: libc::c_long) -> File {
    // SAFETY: nobody else has it.
    unsafe { File::from_raw_fd(fd as RawFd) }
}

/// Memory that programs and this process share by key.
#[derive(Debug)]
pub struct Map {
    fd: File,
    key: usize,
    value: usize,
}

impl Map {
    /// Of `entries` values of `value` bytes, by keys of `key` bytes.
    pub fn new(kind: MapKind, key: usize, value: usize, entries: u32) -> io::Result<Map> {
        let mut attr = CreateMap {
            kind: kind as u32,
            key_size: key as u32,
            value_size: value as u32,
            entries,
            flags: 0,
        };
        Ok(Map { fd: owned(bpf(MAP_CREATE, &mut attr)?), key, value })
    }

    /// As programs name it.
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Copies the value of `key` into `value`; false where there is none.
    pub fn get(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        if key.len() != self.key || value.len() != self.value {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attr = self.element(key.as_ptr(), value.as_mut_ptr());
        found(bpf(MAP_LOOKUP, &mut attr))
    }

    /// Sets the value of `key`.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len() != self.key || value.len() != self.value {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // BPF_MAP_UPDATE_ELEM only reads the value.
        let mut attr = self.element(key.as_ptr(), value.as_ptr().cast_mut());
        bpf(MAP_UPDATE, &mut attr).map(drop)
    }

    /// Turns `key` into the key after it, or into the first where `first` says so; false at the end.
    pub fn next(&self, key: &mut [u8], first: bool) -> io::Result<bool> {
        if key.len() != self.key {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let before = key.to_vec();
        let from = if first { std::ptr::null() } else { before.as_ptr() };
        let mut attr = self.element(from, key.as_mut_ptr());
        found(bpf(MAP_NEXT_KEY, &mut attr))
    }

    fn element(&self, key: *const u8, value: *mut u8) -> Element {
        Element { map: self.number() as u32, _pad: 0, key: key as u64, value: value as u64, flags: 0 }
    }
}

fn found(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A program in the kernel. The verifier has seen that it ends and touches nothing but its maps.
#[derive(Debug)]
pub struct Program(File);

/// A program that the kernel doesn't take.
#[derive(Debug)]
pub struct Refused {
    pub error: io::Error,
    /// The verifier's last words.
    pub verdict: String,
}

impl Program {
    pub fn load(kind: ProgramKind, insns: &[Insn]) -> Result<Program, Refused> {
        let mut attr = Load {
            kind: kind as u32,
            insn_count: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
        };
        let error = match bpf(PROGRAM_LOAD, &mut attr) {
            Ok(fd) => return Ok(Program(owned(fd))),
            Err(error) => error,
        };
        // Once more, to hear why.
        let mut log = vec![0u8; LOG];
        (attr.log_level, attr.log_size, attr.log) = (1, LOG as u32, log.as_mut_ptr() as u64);
        let _ = bpf(PROGRAM_LOAD, &mut attr).map(owned);
        let words = String::from_utf8_lossy(&log);
        let mut lines = words.trim_end_matches('\0').lines().filter(|line| !line.starts_with("processed "));
        Err(Refused { error, verdict: lines.next_back().unwrap_or_default().to_owned() })
    }

    /// Runs it once, in this thread, and answers what it returns.
    pub fn run(&self) -> io::Result<u32> {
        let mut attr = Run { program: self.0.as_raw_fd() as u32, ..Run::default() };
        bpf(PROGRAM_RUN, &mut attr)?;
        Ok(attr.returned)
    }

    /// Runs it whenever any thread passes `tracepoint`, until the file that this answers is closed.
    pub fn attach(&self, tracepoint: u64) -> io::Result<File> {
        let mut attr = PerfEvent {
            kind: PERF_TRACEPOINT,
            size: size_of::<PerfEvent>() as u32,
            config: tracepoint,
            ..PerfEvent::default()
        };
        // Of this thread, on any CPU: what it counts is not looked at, it only carries the program.
        // SAFETY: `attr` is live and as long as it says.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &mut attr,
                0,
                -1 as libc::c_int,
                -1 as libc::c_int,
                PERF_FLAG_CLOEXEC,
            )
        };
        let event = owned(checked(fd)?);
        let program = libc::c_long::from(self.0.as_raw_fd());
        // SAFETY: the request takes the number of a program; the result is checked.
        checked(unsafe { libc::ioctl(event.as_raw_fd(), PERF_SET_BPF, program) }.into())?;
        Ok(event)
    }

    /// How often it was passed over because another program was running on the same CPU.
    pub fn misses(&self) -> io::Result<u64> {
        /// `recursion_misses` in `struct bpf_prog_info`; kernels before 5.12 leave it zero.
        const MISSES: usize = 208;
        let mut info = [0u64; MISSES / 8 + 1];
        let mut attr = Info {
            object: self.0.as_raw_fd() as u32,
            len: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        bpf(OBJECT_INFO, &mut attr)?;
        Ok(info[MISSES / 8])
    }
}
