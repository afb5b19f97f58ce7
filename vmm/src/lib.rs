//! A virtual machine monitor in which every tuning choice shows up in the numbers.

pub mod boot;
pub mod cli;
pub mod compare;
pub mod config;
pub mod doctor;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod init;
pub mod kvm {
    pub mod canary;
    pub mod class;
    pub mod doorbell;
    pub mod exit;
    pub mod msi;
    pub mod stats;
    pub mod stood;
    pub mod vcpu;
    pub mod vm;
}
pub mod live;
pub mod machine;

pub mod report;
pub mod repro;
pub mod run;
pub mod sandbox;
pub mod status;
pub mod switch;
pub mod sys;
pub mod topology;
pub mod trace;
pub mod workload;
