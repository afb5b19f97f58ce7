//! Boots one kernel and one initramfs under `vmm` and under QEMU's microvm, interleaved, and lays
//! time, exits and memory side by side. `resources/bench/boot` runs it where KVM can run Linux.
//!
//! - [`guest`]     what runs as process 1 in the guest: this program itself
//! - [`monitor`]   the command lines that are compared
//! - [`measure`]   one run of each kind
//! - [`table`]     medians, spread, ratios, targets

mod guest;
mod measure;
mod monitor;
mod table;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::initramfs;
use measure::{Idle, Image, Traced};
use monitor::Monitor;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::run();
    }
    match parse(std::env::args().skip(1)).map_err(io::Error::other).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boot: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to measure with.
struct Plan {
    vmm: PathBuf,
    images: Vec<Image>,
    rounds: usize,
    detail: bool,
}

const USAGE: &str = "boot --vmm FILE --bzimage FILE --vmlinux FILE [--rounds N] [--detail]";

fn parse(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan { vmm: "vmm".into(), images: Vec::new(), rounds: 5, detail: false };
    while let Some(flag) = args.next() {
        if flag == "--detail" {
            plan.detail = true;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--vmm" => plan.vmm = value.into(),
            "--bzimage" => plan.images.push(Image { name: "bzImage", path: value.into() }),
            "--vmlinux" => plan.images.push(Image { name: "vmlinux", path: value.into() }),
            "--rounds" => plan.rounds = value.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.into()),
        }
    }
    if plan.images.is_empty() || plan.rounds == 0 {
        return Err(USAGE.into());
    }
    Ok(plan)
}

fn run(plan: &Plan) -> io::Result<()> {
    let initrd = std::env::temp_dir().join("boot-initramfs");
    std::fs::write(&initrd, initramfs::archive(&std::fs::read("/proc/self/exe")?, &[])?)?;
    let monitors = [Monitor::Vmm(plan.vmm.clone()), Monitor::QemuMicrovm];

    for image in &plan.images {
        let times = measure::times(&monitors, image, &initrd, plan.rounds)?;
        table::times(image, &monitors, &times);
    }
    for image in &plan.images {
        for serial in [true, false] {
            let traced = each(&monitors, |monitor| Traced::measure(monitor, image, &initrd, serial))?;
            table::exits(image, serial, &monitors, &traced);
            if plan.detail {
                table::detail(&monitors, &traced);
            }
        }
    }
    let idle = each(&monitors, |monitor| Idle::measure(monitor, &plan.images[0], &initrd))?;
    table::idle(&monitors, &idle);
    Ok(())
}

fn each<T>(monitors: &[Monitor], measure: impl FnMut(&Monitor) -> io::Result<T>) -> io::Result<Vec<T>> {
    monitors.iter().map(measure).collect()
}
