//! The built-in guest kernel, whole: what its report says about each mechanism. It runs on every kind
//! of host.

mod harness;

use harness::host::{Host, any_guest, note, skip};
use harness::machine::{Ended, scratch, vmm};
use serde_json::Value;

/// A machine that runs these workloads.
fn run(vcpus: u8, workloads: &[&str]) -> Ended {
    let words = workloads.iter().flat_map(|workload| ["--workload", workload]);
    vmm(["--memory", "128M", "--vcpus", &vcpus.to_string()]).args(words).run()
}

/// The records of `workload`: what is asked of [`Ended`] most.
fn records<'e>(ended: &'e Ended, workload: &str) -> Vec<&'e Value> {
    let all = ended.report["records"].as_array().expect("records");
    let records: Vec<&Value> = all.iter().filter(|record| record["workload"] == workload).collect();
    assert!(!records.is_empty(), "no record of {workload}: {all:#?}\n{}", ended.stderr);
    records
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Exits to the monitor in the phase of this name, but for those that hand over its records.
fn returns(ended: &Ended, phase: &str) -> u64 {
    let phases = ended.report["phases"].as_array().expect("phases");
    let phase = phases.iter().find(|one| one["name"] == phase).expect("the phase");
    let rows = phase["exits"]["userspace"].as_array().expect("rows");
    let told = |row: &&Value| row["target"].as_str().is_some_and(|target| target.starts_with("exit-port"));
    rows.iter().filter(|row| !told(row)).map(|row| number(&row["count"])).sum()
}

#[test]
fn ready_with_few_exits_and_instructions() {
    let Some(host) = any_guest() else { return };
    let ended = run(1, &["ready"]);
    ended.expect("exit", 0);
    let rows = ended.report["exits"]["userspace"].as_array().expect("rows");
    let exits: u64 = rows.iter().map(|row| number(&row["count"])).sum();
    assert!(exits <= 64, "{exits} exits to the monitor");
    if host == Host::Pvm {
        let emulated = number(&ended.report["exits"]["kernel"]["emulated"]);
        assert!(emulated < 20_000, "{emulated} instructions of ring 0");
    }
}

#[test]
fn the_status_asked_for() {
    let Some(_) = any_guest() else { return };
    run(1, &["exit=7"]).expect("exit", 7);
    run(2, &["null,calls=10,gate=call", "exit=0"]).expect("exit", 0);
}

#[test]
fn null_takes_no_exit() {
    let Some(host) = any_guest() else { return };
    let gates = [
        "null,calls=20000,gate=call",
        "null,calls=20000,gate=table",
        "null,calls=20000",
        "probe,what=syscall,items=10",
    ];
    let ended = run(1, &gates);
    ended.expect("exit", 0);
    for gate in &gates[..2] {
        let [read_only, read_write] = records(&ended, gate)[..] else { panic!("two records of {gate}") };
        assert_eq!((number(&read_only["ops"]), number(&read_only["values"]["refused"])), (40_000, 20_000));
        assert_eq!((number(&read_write["ops"]), number(&read_write["values"]["refused"])), (40_000, 0));
        assert_eq!(returns(&ended, gate), 0);
    }
    for syscall in &gates[2..] {
        let syscall = records(&ended, syscall)[0];
        if host == Host::Pvm {
            assert_eq!(syscall["outcome"], "unavailable:syscall-stays-in-ring-3-here");
        } else {
            assert_eq!(syscall["outcome"], "ok");
        }
    }
}

#[test]
fn ring_0_is_for_hosts_that_run_it() {
    let Some(host) = any_guest() else { return };
    let ended = run(2, &["ipc,items=200,spin=10,ring=0"]);
    let record = records(&ended, "ipc,items=200,spin=10,ring=0")[0];
    let expected = if host == Host::Pvm { "unavailable:ring-0-is-interpreted-here" } else { "ok" };
    assert_eq!(record["outcome"], expected);
}

#[test]
fn who_waits_halts_or_looks_longer() {
    let Some(_) = any_guest() else { return };
    const ITEMS: u64 = 2000;
    let (halt, poll) = ("ipc,items=2000,spin=50", "ipc,items=2000,spin=50,idle=poll");
    let ended = run(2, &[halt, poll]);
    ended.expect("exit", 0);
    let value = |workload: &str, name: &str| number(&records(&ended, workload)[0]["values"][name]);
    for workload in [halt, poll] {
        assert_eq!(number(&records(&ended, workload)[0]["ops"]), ITEMS);
    }
    // At least every second item finds the other side asleep; often both do.
    assert!(value(halt, "halts") >= ITEMS / 4, "{}", value(halt, "halts"));
    assert!(value(poll, "halts") <= ITEMS / 100, "{}", value(poll, "halts"));
    assert!(value(poll, "ipis") <= ITEMS / 100, "{}", value(poll, "ipis"));
    let phases = ended.report["phases"].as_array().expect("phases");
    let halts = |name: &str| {
        let phase = phases.iter().find(|phase| phase["name"] == name).expect("the phase");
        number(&phase["halts"]["exits"])
    };
    // What the guest says and what KVM has counted.
    assert!(halts(halt) >= ITEMS / 4 && halts(poll) <= ITEMS / 100, "{} {}", halts(halt), halts(poll));
    let ns = |workload: &str| number(&records(&ended, workload)[0]["ns"]);
    note(
        "figure",
        &format!("ipc: halting takes {:.2} times as long as polling", ns(halt) as f64 / ns(poll) as f64),
    );
}

#[test]
fn one_cpu_where_two_are_needed() {
    let Some(_) = any_guest() else { return };
    let ended = run(1, &["ipc", "zeropages", "probe,what=ipi-spin"]);
    ended.expect("exit", 0);
    for workload in ["ipc", "zeropages", "probe,what=ipi-spin"] {
        assert_eq!(records(&ended, workload)[0]["outcome"], "unavailable:needs-two-cpus");
    }
}

#[test]
fn too_much_for_its_memory() {
    let Some(_) = any_guest() else { return };
    let ended = run(1, &["gups,size=1g", "stream,size=1g", "null,gate=call,calls=10"]);
    ended.expect("exit", 0);
    for workload in ["gups,size=1g", "stream,size=1g"] {
        assert_eq!(records(&ended, workload)[0]["outcome"], "unavailable:too-little-memory");
    }
    assert!(ended.stdout.contains("guest kernel: 1024 MiB are asked for, 12"), "{}", ended.stdout);
    assert_eq!(records(&ended, "null,gate=call,calls=10")[0]["outcome"], "ok");
}

#[test]
fn too_little_memory_says_how_much_is_needed() {
    vmm(["--memory", "3M", "--workload", "ready"]).run().expect_refusal(64, "at least 4M");
    let root = scratch("root");
    std::fs::File::create(&root).and_then(|file| file.set_len(40 << 20)).expect("make an image");
    let initrd = root.display().to_string();
    let ended = vmm(["--memory", "32M", "--workload", "root", "--initrd", &initrd]).run();
    ended.expect_refusal(64, "32 MiB of memory are too little for the built-in kernel, which needs 4");
    let _ = std::fs::remove_file(root);
}

#[test]
fn an_exception_ends_its_workload_alone() {
    let Some(_) = any_guest() else { return };
    let kinds = ["fault,kind=ud", "fault,kind=pf", "fault,kind=gp", "fault,kind=de"];
    let after = "ipc,items=100,spin=10";
    let ended = run(2, &[&kinds[..], &[after]].concat());
    ended.expect("exit", 0);
    for (kind, vector) in kinds.into_iter().zip([6, 14, 13, 0]) {
        assert_eq!(records(&ended, kind)[0]["outcome"], "failed:exception");
        assert!(ended.stdout.contains(&format!("exception {vector} in ring 3 on CPU 0")), "{}", ended.stdout);
    }
    assert!(ended.stdout.contains("cr2 0x7ffffffff000"), "{}", ended.stdout);
    assert_eq!(records(&ended, after)[0]["outcome"], "ok");
}

#[test]
fn an_exception_in_ring_0_ends_the_machine() {
    let Some(_) = any_guest() else { return };
    for (kind, vector) in [("ud", 6), ("pf", 14)] {
        let ended = run(1, &[&format!("fault,kind={kind},ring=0"), "exit=5"]);
        ended.expect("panic", 80);
        assert!(ended.stdout.contains(&format!("exception {vector} in ring 0 on CPU 0")), "{}", ended.stdout);
        for register in ["rip 0000", "cr2 0x", " rflags ", "rax 0000", "r15 0000"] {
            assert!(ended.stdout.contains(register), "{register}: {}", ended.stdout);
        }
    }
}

#[test]
fn every_workload_gives_its_records() {
    let Some(_) = any_guest() else { return };
    let workloads = [
        "stream,size=3m,rounds=2",
        "gups,size=1m,items=10000",
        "linpack,size=256,rounds=1",
        "gups,size=8m,items=10000,pages=4k",
        "compress,size=256k",
        "hackbench,groups=1,loops=2",
        "pagecache,size=1m,cache=lru",
        "pagecache,size=1m,cache=tagged",
        "zeropages,items=200,zeropool=off",
        "jitter,items=5",
        "probe,what=cpuid,items=10",
        "probe,what=pio,items=10",
        "probe,what=mmio,items=10",
        "probe,what=gate,items=10",
        "probe,what=hlt,items=10",
        "probe,what=ipi-self,items=10",
        "probe,what=ipi-spin,items=10",
        "probe,what=ipi-halt,items=10",
        "probe,what=timer,items=10",
        "probe,what=touch,items=10",
    ];
    let ended = run(2, &workloads);
    ended.expect("exit", 0);
    for workload in workloads {
        for record in records(&ended, workload) {
            assert_eq!(record["outcome"], "ok", "{workload}");
            assert!(number(&record["ops"]) > 0 && number(&record["ns"]) > 0, "{record}");
        }
    }
    // An exit each, and of the kind that was asked for.
    for probe in ["probe,what=pio,items=10", "probe,what=mmio,items=10"] {
        assert_eq!(returns(&ended, probe), 10, "{probe}");
    }
    let hits = |workload| number(&records(&ended, workload)[0]["values"]["hits"]);
    assert_eq!((hits("pagecache,size=1m,cache=lru"), hits("pagecache,size=1m,cache=tagged")), (0, 128));
}

#[test]
fn small_pages_are_small() {
    let Some(host) = any_guest() else { return };
    let (small, large) = ("gups,size=16m,items=1000,pages=4k", "gups,size=16m,items=1000");
    let ended = run(1, &[small, large]);
    ended.expect("exit", 0);
    assert!([small, large].iter().all(|workload| records(&ended, workload)[0]["outcome"] == "ok"));
    // Where the host shadows the guest's page tables, it counts each page that they name.
    if host == Host::Pvm {
        let phases = ended.report["phases"].as_array().expect("phases");
        let faults = |name: &str| {
            let phase = phases.iter().find(|phase| phase["name"] == name).expect("the phase");
            number(&phase["exits"]["kernel"]["page_fault"])
        };
        assert!(faults(small) >= 4096 && faults(large) < 200, "{} {}", faults(small), faults(large));
    }
}

#[test]
fn the_tour() {
    let Some(_) = any_guest() else { return };
    let ended = vmm(["--report", "text"]).run();
    ended.expect("exit", 0);
    for stop in &abi::tour::TOUR {
        records(&ended, stop.workload);
        assert!(ended.stderr.contains(&format!("\n{} ", stop.workload)), "{}", ended.stderr);
    }
    // What exits one of them takes: a halt is one.
    assert!(ended.stderr.contains("\n    halt 1."), "{}", ended.stderr);
    assert!(ended.stderr.contains("\ntry next "), "{}", ended.stderr);
}

#[test]
fn other_monitors_boot_the_same_file() {
    const QEMU: &str = "qemu-system-x86_64";
    if std::process::Command::new(QEMU).arg("--version").output().is_err() {
        return skip("no qemu-system-x86_64: apt-get install qemu-system-x86");
    }
    let kernel = scratch("kernel");
    std::fs::write(&kernel, vmm::boot::builtin::KERNEL).expect("write the kernel");
    let workloads = "workload=null,calls=1000 workload=null,calls=1000,ring=0,gate=table workload=ipc,items=50 \
                     workload=blk,items=20,depth=4 workload=fault workload=jitter,items=5 workload=exit=3";
    let image = scratch("disk");
    std::fs::File::create(&image).and_then(|file| file.set_len(1 << 20)).expect("make an image");
    let drive = format!("file={},if=none,id=disk,format=raw", image.display());
    let disk = ["-drive", &drive, "-device", "virtio-blk-pci,drive=disk,disable-legacy=on"];
    // Where there is no ACPI, microvm says on the command line where its devices are, and not how many CPUs.
    let page = ["-drive", &drive, "-device", "virtio-blk-device,drive=disk"];
    let page = [&page[..], &["-global", "virtio-mmio.force-legacy=false"]].concat();
    let served = "blk,items=20,depth=4 - ok ops=20 ";
    for (machine, devices, blk, cpus) in [
        ("microvm", &[][..], "blk,items=20,depth=4 - unavailable:no-such-device ", 2),
        ("microvm,acpi=off", &page, served, 1),
        ("q35", &disk, served, 2),
    ] {
        let ended = std::process::Command::new("timeout")
            .args([
                "60",
                QEMU,
                "-M",
                machine,
                "-cpu",
                "max",
                "-m",
                "128",
                "-smp",
                "2",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(devices)
            .args(["-monitor", "none", "-serial", "stdio", "-append", workloads])
            // Status 3 at our exit port is QEMU's status 3 * 2 + 1.
            .args(["-device", "isa-debug-exit,iobase=0x500,iosize=1", "-kernel"])
            .arg(&kernel)
            .output()
            .expect("run qemu");
        let text = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(7), "{machine}: {text}");
        for line in [
            "null,calls=1000 read-only ok ops=2000 ",
            "null,calls=1000,ring=0,gate=table read-write ok ops=2000 ",
            &format!(" MiB of memory free, {cpus} CPUs, clock measured"),
            if cpus == 1 {
                "ipc,items=50 - unavailable:needs-two-cpus "
            } else {
                "ipc,items=50 - ok ops=50 "
            },
            blk,
            "fault - failed:exception ",
            "jitter,items=5 - ok ops=5 ",
        ] {
            assert!(text.contains(line), "{machine}: no {line:?} in {text}");
        }
    }
    let _ = std::fs::remove_file(kernel);
    let _ = std::fs::remove_file(image);
}

/// As any other monitor would: by PVH, with what ACPI and kvmclock say.
#[test]
fn this_monitor_boots_it_as_a_file() {
    let Some(_) = any_guest() else { return };
    let kernel = scratch("kernel");
    std::fs::write(&kernel, vmm::boot::builtin::KERNEL).expect("write the kernel");
    let image = scratch("disk");
    std::fs::File::create(&image).and_then(|file| file.set_len(1 << 20)).expect("make an image");
    let workloads = "workload=ipc,items=50 workload=blk,items=20 workload=exit=3";
    let machine =
        vmm(["--memory", "128M", "--vcpus", "2", "--cmdline", workloads, "--kernel"]).args([&kernel]);
    let ended = machine.args(["--disk".into(), format!("path={}", image.display())]).run();
    ended.expect("exit", 3);
    for line in [
        " MiB of memory free, 2 CPUs, clock by kvmclock",
        "ipc,items=50 - ok ops=50 ",
        "blk,items=20 - ok ops=20 ",
    ] {
        assert!(ended.stdout.contains(line), "no {line:?} in {}", ended.stdout);
    }
    let _ = std::fs::remove_file(kernel);
    let _ = std::fs::remove_file(image);
}

#[test]
fn sixty_four_cpus() {
    let Some(_) = any_guest() else { return };
    let workload = "hackbench,groups=2,loops=2";
    let ended = run(64, &[workload]);
    ended.expect("exit", 0);
    assert_eq!(number(&records(&ended, workload)[0]["ops"]), 2 * 20 * 20 * 2);
}

#[test]
fn a_direct_call_is_few_instructions() {
    let Some(host) = any_guest() else { return };
    let workload = "probe,what=steps,items=50";
    let ended = run(1, &[workload]);
    ended.expect("exit", 0);
    let instructions = number(&records(&ended, workload)[0]["values"]["instructions"]);
    assert!((2 * 50 * 4..=2 * 50 * 25).contains(&instructions), "{instructions} of a hundred calls");
    // A real one is twice as many, of which four change the ring: SYSCALL, SWAPGS twice, SYSRET.
    let values = &records(&ended, workload)[0]["values"];
    assert!(number(&values["by_table"]) > instructions);
    assert_eq!(values["by_syscall"].is_null(), host == Host::Pvm);
    if let Some(crossing) = values["by_syscall"].as_u64() {
        assert!(crossing > number(&values["by_table"]) && crossing <= 2 * 50 * 40, "{crossing}");
    }
}

#[test]
fn unknown_words_are_refused_before_there_is_a_machine() {
    run(1, &["nul"]).expect_refusal(64, "did you mean null?");
    run(1, &["ipc,item=3"]).expect_refusal(64, "did you mean items?");
    run(1, &["null,gate=door"]).expect_refusal(64, "one of call, table, syscall");
    run(1, &["shell"]).expect_refusal(64, "shell");
    // What the workload would ignore, with the keys that it has.
    run(1, &["blk,threads=2"])
        .expect_refusal(64, "Known: rw size depth disk file items blk seconds ring idle");
    run(1, &["null,pages=4k"]).expect_refusal(64, "Known: calls gate seconds ring idle");
    run(1, &["ready,idle=poll"]).expect_refusal(64, "it has none");
}
