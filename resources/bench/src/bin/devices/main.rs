//! Drives one disk and one network card under `vmm`, QEMU's microvm and q35, and alioth, interleaved, and
//! lays rates, exits, interrupts and CPU time for each operation side by side, with what is aimed at
//! beside them. `resources/bench/devices` runs it where KVM can run Linux.
//!
//! - [`work`]    what is measured, and its targets
//! - [`monitor`] the command lines that are compared
//! - [`guest`]   what runs as process 1 in the guest: this program itself
//! - [`server`]  the other end of the wire
//! - [`measure`] one machine, what was counted
//! - [`table`]   medians, spread, ratios, targets

mod guest;
mod measure;
mod monitor;
mod server;
mod table;
mod work;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench::initramfs;
use bench::sys::Terminal;
use vmm::boot::modules::{Tree, beside};

use monitor::{Kind, Parts, Setting};
use table::Points;
use work::Work;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::run();
    }
    match parse(std::env::args().skip(1)).map_err(io::Error::other).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("devices: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to measure.
struct Plan {
    vmm: PathBuf,
    alioth: Option<PathBuf>,
    kernel: PathBuf,
    modules: Option<PathBuf>,
    settings: Vec<Setting>,
    works: Vec<Work>,
    rounds: usize,
    seconds: u64,
    detail: bool,
}

const USAGE: &str = "devices --vmm FILE [--alioth FILE] [--against FILE] --kernel FILE [--modules DIR] [--settings NAME,…] [--with 'KNOBS']… \
                     [--works NAME,…] [--rounds N] [--seconds S] [--detail]";

fn parse(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan {
        vmm: "vmm".into(),
        alioth: None,
        kernel: PathBuf::new(),
        modules: None,
        settings: monitor::all(),
        works: Work::ALL.to_vec(),
        rounds: 2,
        seconds: 2,
        detail: false,
    };
    let (mut further, mut against) = (Vec::new(), None);
    while let Some(flag) = args.next() {
        if flag == "--detail" {
            plan.detail = true;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--vmm" => plan.vmm = value.into(),
            "--alioth" => plan.alioth = Some(value.into()),
            "--kernel" => plan.kernel = value.into(),
            "--modules" => plan.modules = Some(value.into()),
            "--settings" => {
                let names: Vec<&str> = value.split(',').collect();
                plan.settings.retain(|setting| names.contains(&setting.name.as_str()));
            }
            "--against" => against = Some(PathBuf::from(value)),
            "--with" => further.push(Setting::with(&value)),
            "--works" => plan.works = work::list(&value).ok_or(USAGE)?,
            "--rounds" => plan.rounds = value.parse().map_err(|_| USAGE)?,
            "--seconds" => plan.seconds = value.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.into()),
        }
    }
    plan.settings.retain(|setting| setting.kind != Kind::Alioth || plan.alioth.is_some());
    plan.settings.extend(further);
    if let Some(program) = &against {
        let ours = plan.settings.iter().filter(|setting| setting.kind == Kind::Vmm);
        let others: Vec<Setting> = ours.map(|setting| setting.by(program)).collect();
        plan.settings.extend(others);
    }
    if plan.kernel == Path::new("") || plan.settings.is_empty() || plan.works.is_empty() {
        return Err(USAGE.into());
    }
    Ok(plan)
}

/// What Linux needs to drive the devices, over either transport.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net"];
/// Of the disk, all of it allocated.
const DISK: usize = 256 << 20;

fn run(plan: &Plan) -> io::Result<()> {
    let tree = plan.modules.clone().or_else(|| beside(&plan.kernel, None));
    let tree =
        tree.ok_or_else(|| io::Error::other("no modules beside the kernel; name them by --modules"))?;
    let modules = Tree::open(&tree).and_then(|tree| tree.resolve(&MODULES)).map_err(io::Error::other)?;
    let directory = std::env::temp_dir();
    let parts = Parts {
        vmm: plan.vmm.clone(),
        alioth: plan
            .alioth
            .clone()
            .map(|program| io::Result::Ok((program, Terminal::open()?)))
            .transpose()?,
        kernel: plan.kernel.clone(),
        initrd: directory.join("devices-initramfs"),
        disk: directory.join("devices-disk"),
    };
    std::fs::write(&parts.initrd, initramfs::archive(&std::fs::read("/proc/self/exe")?, &modules)?)?;
    let mut disk = File::create(&parts.disk)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..DISK / piece.len() {
        disk.write_all(&piece)?;
    }
    let _wire = server::Wire::open()?;

    let mut points: Vec<Points<'_>> =
        plan.settings.iter().map(|setting| Points { setting, samples: Vec::new() }).collect();
    // A B B A; after the rounds whose times count, one that is traced.
    for round in 0..=plan.rounds {
        let mut order: Vec<usize> = (0..points.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let traced = round == plan.rounds;
        for which in order {
            let setting = points[which].setting;
            let works = setting.works(&plan.works);
            if works.is_empty() {
                continue;
            }
            match measure::run(setting, &parts, &works, plan.seconds, traced) {
                Ok(samples) => points[which].samples.extend(samples),
                // The others' points still count.
                Err(error) => eprintln!("devices: round {round}: {error}"),
            }
        }
    }
    table::all(&points, &plan.works, plan.detail);
    Ok(())
}
