//! The pages of this program's own file that are mapped.

use std::ffi::{c_int, c_void};

const PAGE: usize = 4096;

/// Gives back the pages of code and constants: what is needed again is mapped again, from the page cache,
/// and the rest (reading options, building the machine) no longer counts as ours. Costs a system call for
/// each of two or three segments, and some twenty soft page faults afterwards. A debugger's breakpoints
/// are lost, too.
pub fn give_back() {
    // SAFETY: `segments` has the signature that is asked for, and needs no data.
    unsafe { libc::dl_iterate_phdr(Some(segments), std::ptr::null_mut()) };
}

/// The first object is the program itself; it has no others, being static.
unsafe extern "C" fn segments(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the C library hands over a live structure, whose table has as many headers as it says.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (base + header.p_vaddr as usize) & !(PAGE - 1);
        let end = (base + (header.p_vaddr + header.p_memsz) as usize).next_multiple_of(PAGE);
        // SAFETY: a segment that is never written to is the file's content, and comes back as that. The
        // advice is taken or not.
        unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_comes_again() {
        let before = format!("{:?}", [1.5, f64::NAN]);
        give_back();
        assert_eq!(format!("{:?}", [1.5, f64::NAN]), before);
    }
}
