//! A virtual machine monitor in which every tuning choice shows up in the numbers.

pub mod config;
pub mod kvm {
    pub mod exit;
}
