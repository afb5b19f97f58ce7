//! One mechanism, many times; and exceptions on purpose.

use abi::workload::Spec;

use crate::arch::exceptions;

/// An exception: the workload ends here.
pub fn fault(spec: &Spec<'_>) {
    match spec.word("kind") {
        "pf" => exceptions::page_fault(),
        "gp" => exceptions::general_protection(),
        "de" => exceptions::divide_error(),
        _ => exceptions::undefined_opcode(),
    }
}
