//! Guest output and input through pipes and files: nothing lost, nobody made to wait.

mod harness;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::host;
use harness::machine::{binary, scratch};
use harness::tiny::{self, Tiny};

/// Bytes of a flood: three times what a pipe holds. Each is an exit, even by `rep outsb`.
const FLOOD: usize = 192 << 10;

/// Whether there is a host for this that needs no minutes: in the lab a byte takes a millisecond.
fn quick() -> bool {
    if host::in_lab() {
        host::skip(
            "hundreds of thousands of exits take minutes in the lab; run on the machine's own /dev/kvm",
        );
        return false;
    }
    host::any_guest().is_some()
}

/// Prints `FLOOD` bytes of its own headers, over and over, a page at a time, then ends with status 5.
fn flood() -> Tiny {
    let mut code = vec![0x66, 0xba, 0xf8, 0x03, 0xfc]; // mov dx, THR; cld
    code.push(0xbb); // mov ebx, pages
    code.extend((FLOOD as u32 / 4096).to_le_bytes());
    code.push(0xbe); // again: mov esi, 0x100000
    code.extend(0x10_0000u32.to_le_bytes());
    code.push(0xb9); // mov ecx, 4096
    code.extend(4096u32.to_le_bytes());
    code.extend([0xf3, 0x6e]); // rep outsb
    code.extend([0x4b, 0x75, 0xf1]); // dec ebx; jnz again
    code.extend(tiny::exit(5));
    Tiny::new(&code)
}

/// Echoes `count` bytes of its input, then ends with status 6.
fn echo(count: u32) -> Tiny {
    let mut code = tiny::out8(abi::port::COM1 + 4, 2);
    code.push(0xbb); // mov ebx, count
    code.extend(count.to_le_bytes());
    code.extend([0x66, 0xba, 0xfd, 0x03]); // again: mov dx, LSR
    code.extend([0xec, 0xa8, 0x01]); // in al, dx; test al, DR
    code.extend([0x74, 0xf7]); // jz again
    code.extend([0x66, 0xba, 0xf8, 0x03, 0xec, 0xee]); // mov dx, RBR; in al, dx; out dx, al
    code.extend([0x4b, 0x75, 0xee]); // dec ebx; jnz again
    code.extend(tiny::exit(6));
    Tiny::new(&code)
}

fn vmm(guest: &Tiny) -> Command {
    let mut command = Command::new(binary());
    command.args(guest.args()).args(["--report", "none"]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn status(child: &mut Child) -> Option<i32> {
    child.wait().expect("wait for vmm").code()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| b"0123456789abcdef"[i * 7 / 5 % 16]).collect()
}

#[test]
fn a_flood_arrives_whole_through_a_slow_pipe() {
    if !quick() {
        return;
    }
    let guest = flood();
    let mut child = vmm(&guest).stdout(Stdio::piped()).spawn().expect("start vmm");
    let mut pipe = child.stdout.take().expect("piped");
    let mut all = Vec::new();
    let mut chunk = [0; 16 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut chunk) {
        all.extend_from_slice(&chunk[..count]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((all.len(), status(&mut child)), (FLOOD, Some(5)));
    let page = &all[..4096];
    assert!(page.starts_with(b"\x7fELF") && all.chunks(4096).all(|other| other == page));
}

#[test]
fn a_reader_who_has_gone_or_never_reads_does_not_stop_the_machine() {
    if !quick() {
        return;
    }
    let guest = flood();
    let start = || vmm(&guest).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start vmm");
    let mut child = start();
    drop(child.stdout.take());
    ends_with_loss(child, "Broken pipe");

    let (began, mut child) = (Instant::now(), start());
    let _pipe = child.stdout.take();
    ends_with_loss(child, "the reader took too long");
    assert!(began.elapsed() >= Duration::from_secs(3), "it was given time");
}

/// The guest's own status, and one line that says what was lost and why.
#[track_caller]
fn ends_with_loss(child: Child, why: &str) {
    let ended = child.wait_with_output().expect("wait for vmm");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(5), "{stderr}");
    let said: Vec<&str> = stderr.lines().filter(|line| line.contains("bytes of output lost")).collect();
    assert!(matches!(said[..], [line] if line.contains(why)), "{stderr}");
}

#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    if !quick() {
        return;
    }
    let guest = flood();
    let mut child = vmm(&guest).stdout(Stdio::piped()).spawn().expect("start vmm");
    let _pipe = child.stdout.take();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let sent = Command::new("kill").arg(child.id().to_string()).status().expect("run kill");
    assert!(sent.success());
    assert!(matches!(status(&mut child), Some(5 | 143)));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn input_larger_than_every_buffer_arrives_whole() {
    if !quick() {
        return;
    }
    let sent = pattern(20_000);
    let guest = echo(sent.len() as u32);
    let path = scratch("input");
    fs::write(&path, &sent).expect("write the input");
    let ended = vmm(&guest).stdin(File::open(&path).expect("open it")).output().expect("run vmm");
    let _ = fs::remove_file(&path);
    assert!(ended.stdout == sent, "from a file");
    assert_eq!(ended.status.code(), Some(6));

    let mut child = vmm(&guest).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start vmm");
    let mut pipe = child.stdin.take().expect("piped");
    let copy = sent.clone();
    let writer = std::thread::spawn(move || pipe.write_all(&copy).map(|()| pipe));
    let mut all = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut all).expect("read");
    assert!(all == sent, "from a pipe");
    assert_eq!(status(&mut child), Some(6));
    drop(writer.join());
}

#[test]
fn a_console_file_gets_it_all_and_a_bad_one_is_refused() {
    if !quick() {
        return;
    }
    let (guest, path) =
        (Tiny::new(&[tiny::print("to a file\n"), tiny::exit(0)].concat()), scratch("console"));
    let console = format!("file={}", path.display());
    let ended = vmm(&guest).args(["--console", &console]).output().expect("run vmm");
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0));
    assert_eq!(fs::read_to_string(&path).expect("read it"), "to a file\n");
    let _ = fs::remove_file(&path);

    let ended = vmm(&guest).args(["--console", "file=/"]).stderr(Stdio::piped()).output().expect("run vmm");
    let line = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(66), "{line}");
    assert!(line.contains("console file /") && line.lines().count() == 1, "{line}");

    let ended = vmm(&guest).args(["--console", "none"]).output().expect("run vmm");
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0));
}

#[test]
fn a_stderr_that_takes_nothing_changes_no_status() {
    if !quick() {
        return;
    }
    let guest = Tiny::new(&tiny::exit(9));
    let mut child = vmm(&guest).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start vmm");
    drop(child.stderr.take());
    assert_eq!(status(&mut child), Some(9), "closed");
    let full = File::options().write(true).open("/dev/full").expect("open /dev/full");
    let mut child = vmm(&guest).stdout(Stdio::null()).stderr(full).spawn().expect("start vmm");
    assert_eq!(status(&mut child), Some(9), "full");
}
