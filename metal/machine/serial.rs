//! The first serial line, and the way out: both are ports.

use core::arch::asm;
use core::fmt;

/// First serial line: data, and line status with "a byte can be taken" as bit 5.
const DATA: u16 = 0x3f8;
const STATUS: u16 = 0x3fd;
const CAN_TAKE: u8 = 1 << 5;
/// Where `-device isa-debug-exit,iobase=0xf4` listens: a value v ends the emulator with the status 2 v + 1.
const EXIT: u16 = 0xf4;

/// The serial line. Without state: whoever needs it makes one.
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while read(STATUS) & CAN_TAKE == 0 {
                core::hint::spin_loop();
            }
            write(DATA, byte);
        }
        Ok(())
    }
}

/// Ends the machine: the emulator's status is 33 if all held, 35 if not, so that it is neither success nor an error of
/// the emulator's own.
pub(crate) fn exit(held: bool) -> ! {
    loop {
        write(EXIT, if held { 16 } else { 17 });
    }
}

fn read(port: u16) -> u8 {
    let value;
    // SAFETY: the port must be one whose reading changes nothing that compiled code relies on. The callers read the
    // line status alone. A port of a device that writes memory by itself would break it.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

fn write(port: u16, value: u8) {
    // SAFETY: the port must be one whose writing changes nothing that compiled code relies on. The callers write to the
    // serial line and to the exit alone. A port of a device that writes memory by itself would break it.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}
