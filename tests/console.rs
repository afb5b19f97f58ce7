//! The console at a terminal: raw mode, the keys that are the monitor's, and every way out.

mod harness;

use std::process::{Child, Command};

use harness::host;
use harness::machine::binary;
use harness::terminal::Terminal;
use harness::tiny::{self, Tiny};
use rustix::process::{Pid, Signal, kill_process};

/// Raises RTS, shows a prompt, then echoes what it reads; `q` ends it with status 7.
fn echo() -> Tiny {
    let mut code = tiny::out8(abi::port::COM1 + 4, 2);
    code.extend(tiny::print("ready> "));
    code.extend([0x66, 0xba, 0xfd, 0x03]); // again: mov dx, LSR
    code.extend([0xec, 0xa8, 0x01]); // in al, dx; test al, DR
    code.extend([0x74, 0xf7]); // jz again
    code.extend([0x66, 0xba, 0xf8, 0x03, 0xec]); // mov dx, RBR; in al, dx
    code.extend([0x3c, b'q', 0x74, 0x03]); // cmp al, 'q'; je quit
    code.extend([0xee, 0xeb, 0xeb]); // out dx, al; jmp again
    code.extend(tiny::exit(7)); // quit:
    Tiny::new(&code)
}

/// A machine at a terminal of its own, its guest ready and the terminal raw.
struct Seat {
    terminal: Terminal,
    vmm: Child,
    _guest: Tiny,
}

fn sit_down() -> Option<Seat> {
    host::any_guest()?;
    let (terminal, guest) = (Terminal::open(), echo());
    assert!(!terminal.is_raw());
    let mut command = Terminal::session(binary());
    command.args(guest.args()).args(["--report", "none"]);
    let vmm = terminal.start(command);
    terminal.until_shows("ready> ");
    assert!(terminal.is_raw());
    Some(Seat { terminal, vmm, _guest: guest })
}

impl Seat {
    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.vmm.id()).expect("a pid");
        kill_process(Pid::from_raw(pid).expect("not 0"), signal).expect("send a signal");
    }

    /// It ends now, with this status and the terminal as it was.
    #[track_caller]
    fn leaves_with(mut self, status: i32) -> String {
        assert_eq!(self.terminal.status(&mut self.vmm), Some(status), "{}", self.terminal.screen());
        assert!(!self.terminal.is_raw());
        self.terminal.screen()
    }
}

#[test]
fn the_guest_ends() {
    let Some(seat) = sit_down() else { return };
    seat.terminal.type_in(b"abc");
    seat.terminal.until_shows("abc");
    seat.terminal.type_in(b"q");
    seat.leaves_with(7);
}

#[test]
fn ctrl_a_x_ends_and_ctrl_a_h_helps() {
    let Some(seat) = sit_down() else { return };
    seat.terminal.type_in(b"\x01h");
    seat.terminal.until_shows("Ctrl-A x ends the machine");
    seat.terminal.type_in(b"\x01x");
    seat.leaves_with(0);
}

#[test]
fn ctrl_c_ctrl_z_and_ctrl_a_reach_the_guest() {
    let Some(seat) = sit_down() else { return };
    seat.terminal.type_in(b"<\x03\x1a\x1c\x01\x01>");
    seat.terminal.until_shows("<\x03\x1a\x1c\x01>");
    seat.terminal.type_in(b"q");
    seat.leaves_with(7);
}

#[test]
fn every_signal_that_can_be_answered_restores_the_terminal() {
    // SIGKILL cannot be; the reader of the terminal needs `stty sane` after it.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        if ignored(signal) {
            println!("skipped {signal:?}: ignored where this test was started, as by nohup, and so by vmm");
            continue;
        }
        let Some(seat) = sit_down() else { return };
        seat.send(signal);
        seat.leaves_with(128 + signal.as_raw());
    }
}

/// Whether whoever started this process had `signal` ignored (SigIgn of proc(5)).
fn ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// A shell with job control at a terminal, in which `vmm` is a job.
struct Shell {
    terminal: Terminal,
    bash: Child,
    _guest: Tiny,
}

fn shell(background: &str) -> Option<Shell> {
    host::any_guest()?;
    let (terminal, guest) = (Terminal::open(), echo());
    let mut command = Terminal::session("bash");
    command.args(["--norc", "--noprofile", "--noediting", "-i"]).env("PS1", "$ ");
    let bash = terminal.start(command);
    terminal.until_shows("$ ");
    let path = guest.args()[1].to_string_lossy().into_owned();
    let line = format!("{} --kernel {path} --report none {background}\n", binary().display());
    terminal.type_in(line.as_bytes());
    terminal.until_shows("ready> ");
    Some(Shell { terminal, bash, _guest: guest })
}

impl Shell {
    /// The guest is told to end: the shell sees its status, and has its terminal back.
    fn quit(mut self) {
        self.terminal.type_in(b"q");
        self.terminal.until("the terminal is restored", || !self.terminal.is_raw());
        self.terminal.type_in(b"echo status=$?\n");
        self.terminal.until_shows("status=7");
        self.terminal.type_in(b"exit\n");
        self.terminal.status(&mut self.bash);
    }
}

#[test]
fn a_job_stopped_and_continued_gives_the_terminal_back_and_takes_it_again() {
    let Some(shell) = shell("") else { return };
    let terminal = &shell.terminal;
    terminal.until("raw mode", || terminal.is_raw());
    let children = format!("/proc/{0}/task/{0}/children", shell.bash.id());
    let job = std::fs::read_to_string(children).expect("children of the shell");
    let stopped = Command::new("kill").arg("-TSTP").arg(job.trim()).status().expect("run kill");
    assert!(stopped.success());
    terminal.until_shows("Stopped");
    assert!(!terminal.is_raw());
    terminal.type_in(b"fg\n");
    terminal.until("raw mode again", || terminal.is_raw());
    shell.quit();
}

#[test]
fn a_background_job_leaves_the_terminal_alone_until_it_is_in_the_foreground() {
    let Some(shell) = shell("&") else { return };
    let terminal = &shell.terminal;
    terminal.type_in(b"echo still $((40 + 2)) here\n");
    terminal.until_shows("still 42 here");
    assert!(!terminal.is_raw());
    // bash doesn't tell a running job that it is in the foreground now: the next line does.
    terminal.type_in(b"fg\n");
    terminal.until("raw mode", || {
        terminal.type_in(b"\n");
        terminal.is_raw()
    });
    shell.quit();
}
