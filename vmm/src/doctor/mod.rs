//! `vmm doctor`: what this host can do for a machine, and how to mend what it can't.
//!
//! - [`model`]    findings as data: `vmm.doctor/1`
//! - [`root`]     the files of /proc and /sys, or of a test's own tree
//! - [`kvm`], [`devices`], [`memory`], [`cpus`], [`counting`]  one file for each part of a host
//! - [`text`]     for people

mod counting;
mod cpus;
pub mod devices;
mod kvm;
mod memory;
mod model;
pub mod root;
mod text;

use kvm_ioctls::Kvm;

use crate::kvm::canary::Canary;
use crate::kvm::class::Class;
use crate::kvm::vm;
use crate::report::Host;
use crate::status::Status;

pub use model::{Checkup, Finding, SCHEMA, Verdict};

use root::Root;

/// Looks at this host. Runs a machine of sixty instructions, and changes nothing.
pub fn examine() -> Checkup {
    let root = Root::host();
    let class = Class::detect();
    let host = Host::detect(class);
    let opened = vm::open();
    let canary = Kvm::new().map(|kvm| Canary::run(&kvm, class)).unwrap_or_default();
    let mut findings = kvm::findings(&root, &opened, class, &canary);
    if host.nested == Some(true) {
        findings.push(kvm::nested());
    }
    findings.extend(devices::findings(&root));
    findings.extend(memory::findings(&root));
    findings.extend(cpus::findings(&root));
    findings.extend(counting::findings(&root, class, &canary));
    let status = kvm::status(&opened, &canary);
    Checkup {
        schema: SCHEMA,
        status: status.code(),
        host,
        findings,
        pools: memory::pools(&root),
        counters: counting::counters(&canary),
    }
}

/// What `vmm doctor` prints, and the status that it ends with.
pub fn run(json: bool) -> (String, Status) {
    let checkup = examine();
    let text = match json {
        true => {
            // Strings, numbers and maps with string keys: none of it can fail to be JSON.
            serde_json::to_string_pretty(&checkup).unwrap_or_default() + "\n"
        }
        false => text::render(&checkup),
    };
    let status = match checkup.status {
        0 => Status::Guest(0),
        77 => Status::Permission,
        _ => Status::NoKvm,
    };
    (text, status)
}
