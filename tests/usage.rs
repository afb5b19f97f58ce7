//! What a user can get wrong before a machine exists: one line that says what, and the right status.

mod harness;

use harness::machine::binary;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn vmm<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Output {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().expect("run vmm")
}

/// The program ends with `status`, nothing on stdout, and one line that holds `words`.
fn refused<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I, status: i32, words: &str) {
    let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let output = vmm(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    let told = format!("{args:?} ended with {:?} and said: {said}", output.status);
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert!(output.stdout.is_empty(), "{told}");
    assert!(said.starts_with("vmm: ") && said.ends_with('\n') && said.lines().count() == 1, "{told}");
    assert!(said.contains(words), "{words:?} is not in what {told}");
}

/// A folder of its own for each test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("vmm-usage-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("make a folder");
        Scratch(folder)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("write a file");
        path
    }

    fn fifo(&self) -> PathBuf {
        let path = self.0.join("fifo");
        let made = Command::new("mkfifo").arg(&path).status().expect("run mkfifo");
        assert!(made.success());
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_flag_or_word_that_does_not_exist_names_the_nearest() {
    for (args, words) in [
        ("--memry 1G", "--memry: no such flag; did you mean --memory?"),
        ("--vpcus=2", "--vpcus: no such flag; did you mean --vcpus?"),
        ("-x", "-x: no such flag; vmm --help lists all"),
        ("--frobnicate", "--frobnicate: no such flag; vmm --help lists all"),
        ("memory 1G", "memory: no such command; did you mean --memory?"),
        ("wrkload null", "wrkload: no such command; did you mean workload?"),
        ("--thp on", "on: no such command; did you mean --thp=on?"),
        ("--kernel k workload null", "--kernel: is a flag of a machine, not of workload"),
        ("workload", "is needed"),
        ("workload nul", "did you mean null?"),
        ("workload null call=3", "did you mean calls?"),
        ("--workload nul", "did you mean null?"),
        ("--workload exit=64", "status=64 is not valid"),
        ("--workload shell", "--workload: shell runs under Linux only"),
        (
            "--kernel k --initrd i --workload null",
            "--workload: is for the built-in init, which --initrd replaces",
        ),
    ] {
        refused(args.split(' '), 64, words);
    }
}

#[test]
fn a_value_that_cannot_be_says_why() {
    for (args, words) in [
        ("--vcpus 0", "--vcpus 0: a machine has at least 1 vCPU"),
        ("--vcpus 256", "--vcpus 256: a machine has at most 255 vCPUs"),
        ("--vcpus two", "--vcpus two: not a number; from 1 to 255"),
        ("--vcpus", "--vcpus: needs a value"),
        ("--memory 0", "--memory 0: at least 4M"),
        ("--memory 512", "did you mean 512M?"),
        ("--memory 1E", "--memory 1E: at most 64T"),
        ("--memory 99999999999999999999", "at most 64T"),
        ("--memory=-1M", "--memory -1M: not a size"),
        ("--memory 1.5G", "--memory 1.5G: not a size; a whole number"),
        ("--memory 67109889", "--memory 67109889: not a multiple of 4K, the page size; 64M and 65540K are"),
        (
            "--memory 513M --hugepages",
            "--memory 513M: not a multiple of 2M, the page size; 512M and 514M are",
        ),
        ("--memory 512M --hugepages=1G", "not a multiple of 1G, the page size; 1G and 2G are"),
        ("--hugepages=4M", "--hugepages 4M: not one of 2M, 1G, off"),
        ("--hugepages=2M --thp=on", "--hugepages: excludes --thp=on"),
        ("--thp=yes", "--thp yes: not one of on, off"),
        ("--prefault=", "--prefault"),
        ("--pin 0", "--pin 0: \"0\" is not of the form THREAD@CPU"),
        ("--pin 0@0,0@0", "--pin: vCPU 0 is pinned twice"),
        ("--vcpus 1 --pin 1@0", "--pin: there is no vCPU 1: this machine has 1"),
        ("--pin net0@0", "--pin: net0 names no worker thread"),
        ("--pin 0@-1", "is not of the form"),
        ("--cpu-limit 0", "--cpu-limit 0: at least 1 percent; leave it out to have no limit"),
        ("--cpu-limit half", "--cpu-limit half: not a whole number of percent of one CPU, as in 50 or 150"),
        ("--halt-poll 1us", "--halt-poll 1us: not a whole number of nanoseconds"),
        ("--halt-poll 4294967296", "more than 4294967295 ns"),
        ("--idle hlt", "--idle hlt: not one of halt, guest-poll, native; did you mean halt?"),
        (
            "--pv ipi,stel=off",
            "\"stel\" is not one of ipi, eoi, tlb, yield, steal, unhalt; did you mean steal?",
        ),
        ("--pv eoi=1", "eoi=1 is not one of on, off"),
        ("--pv eoi,eoi", "eoi is given twice"),
        ("--boot uefi", "--boot uefi: not one of auto, linux, pvh"),
        ("--console file=", "--console file=: names no file"),
        ("--console tty", "--console tty: not one of stdio, file=PATH, none"),
        ("--report xml", "--report xml: not one of text, json, live, none"),
        ("--report json:", "names no file"),
        ("--report none --report json", "none goes nowhere"),
        ("--report json:a --report text:a", "--report: a is to be written twice"),
        ("--timeout 0", "--timeout 0: ends the machine before it starts"),
        ("--timeout ten", "--timeout ten: not a number of seconds"),
        ("--timeout 1e99", "--timeout 1e99: at most 4294967295 seconds"),
        ("--memory 1G --memory 2G", "--memory: is given twice"),
        ("--config a --config b", "--config: is given twice"),
    ] {
        refused(args.split(' '), 64, words);
    }
}

#[test]
fn a_cpu_that_this_host_does_not_have() {
    // Any ELF will do: it is opened and not yet loaded.
    refused(
        ["--kernel", "/proc/self/exe", "--pin", "0@60000"],
        64,
        "--pin 0@60000: this host has no CPU 60000",
    );
}

#[test]
fn what_is_not_text_stays_one_line() {
    refused(["--memory", "1G\nvmm: all is well"], 64, "1G\\nvmm: all is well: not a size");
    refused(["--idle", "\u{1b}[31m"], 64, "\\u{1b}[31m: not one of halt");
    refused([OsStr::new("--vcpus"), OsStr::from_bytes(b"\xff")], 64, "not valid UTF-8");
    refused([OsStr::from_bytes(b"--\xff")], 64, "no such flag");
    refused(["--config", "no\nwhere"], 65, "config no\\nwhere: no such file");
}

#[test]
fn a_config_file_has_the_keys_of_the_flags() {
    let scratch = Scratch::new("keys");
    let mut at = 0;
    let mut file = |text: &str| {
        at += 1;
        scratch.file(&format!("{at}.toml"), text).display().to_string()
    };
    for (text, status, words) in [
        ("vcpu = 2", 65, ": vcpu: no such key; did you mean vcpus?"),
        ("zzzz = 2", 65, ": zzzz: no such key; valid are kernel, initrd, "),
        ("config = \"other\"", 65, ": config: no such key"),
        ("help = true", 65, ": help: no such key"),
        ("vcpus = 300", 65, ": vcpus 300: a machine has at most 255 vCPUs"),
        ("vcpus = 1\nvcpus = 2", 65, ": line 2: duplicate key"),
        ("vcpus = = 2", 65, ": line 1: "),
        ("[vcpus]\n[vcpus.of]\nx = 1", 65, ": vcpus: a string, number, boolean"),
        ("vcpus = 1979-05-27", 65, ": vcpus: a string, number, boolean"),
        ("prefault = 1", 65, ": prefault 1: not one of on, off"),
        ("memory = \"5M\"\nhugepages = \"2M\"", 65, ": memory 5M: not a multiple of 2M"),
        ("pv = { ipi = true, stel = false }", 65, "did you mean steal?"),
        ("cmdline = \"a\\u0000b\"", 65, "holds a NUL byte"),
        ("pin = [\"0@0\", \"0@1\"]", 65, ": pin: vCPU 0 is pinned twice"),
    ] {
        refused(["--config", &file(text)], status, words);
    }
    // Flags win, also where the file alone would be refused, and are blamed for what they say.
    let config = file("vcpus = 300\nmemory = \"1G\"");
    refused(["--config", &config, "--vcpus", "0"], 64, "vmm: --vcpus 0: a machine has at least 1 vCPU");
    refused(["--config", &config, "--vcpus=1", "--memory=3"], 64, "vmm: --memory 3: at least 4M");
}

#[test]
fn files_that_are_none() {
    let scratch = Scratch::new("files");
    let missing = scratch.0.join("missing");
    let (empty, fifo) = (scratch.file("empty", ""), scratch.fifo());
    let kernel = Path::new("/proc/self/exe");
    for (path, words) in [
        (missing.as_path(), "no such file"),
        (&scratch.0, "is a directory; a regular file is needed"),
        (&fifo, "is a FIFO; a regular file is needed"),
        (Path::new("/dev/zero"), "is a device; a regular file is needed"),
        (&empty, "is empty"),
    ] {
        refused([OsStr::new("--config"), path.as_os_str()], 65, words);
        refused([OsStr::new("--kernel"), path.as_os_str()], 65, words);
        let args = [OsStr::new("--kernel"), kernel.as_os_str(), OsStr::new("--initrd"), path.as_os_str()];
        refused(args, 65, words);
    }
    let binary = scratch.file("binary", b"\xff\xfe\x00");
    refused([OsStr::new("--config"), binary.as_os_str()], 65, "UTF-8");
    let huge = scratch.file("huge", vec![b'#'; (1 << 20) + 1]);
    refused([OsStr::new("--config"), huge.as_os_str()], 65, "larger than 1048576 bytes");
}

#[test]
fn help_names_every_knob_and_what_shows_it() {
    for args in [&["--help"][..], &["-h"], &["help"]] {
        let output = vmm(args);
        assert!(output.status.success() && output.stderr.is_empty());
        // Lines are broken where the terminal ends.
        let words = String::from_utf8(output.stdout).expect("help is UTF-8");
        let help = words.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["CPU knobs:", "Memory knobs:", "--halt-poll <NS>", "[shows in halts.poll_attempted,"] {
            assert!(help.contains(words), "no {words} in {help}");
        }
    }
    let version = String::from_utf8(vmm(["--version"]).stdout).expect("version is UTF-8");
    assert_eq!(version, format!("vmm {}\n", env!("CARGO_PKG_VERSION")));
    let workloads = String::from_utf8(vmm(["--help", "workloads"]).stdout).expect("help is UTF-8");
    assert!(workloads.contains("\nipc: ") && workloads.contains("items=800000"), "{workloads}");
}
