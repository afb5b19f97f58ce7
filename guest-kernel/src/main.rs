//! The kernel as an ELF file; its entry is in `arch::cpu`, its beginning in `kernel::enter`.
#![no_std]
#![no_main]

use core::fmt::Write;
use core::panic::PanicInfo;

use guest_kernel::arch::interrupts;
use guest_kernel::console::Console;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console::new(), "guest kernel: {info}");
    interrupts::panic()
}
