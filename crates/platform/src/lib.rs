//! Linux calls that need care or that `rustix` lacks. With `memory`, the only room that may use `unsafe`.

pub mod arrival;
pub mod clock;
pub mod connector;
pub mod fanotify;
pub mod file_handle;
pub mod fork;
#[cfg(test)]
mod hostile;
pub mod isolation;
pub mod late_close;
pub mod lease;
pub mod loop_ctl;
pub mod mapped;
mod mask;
pub mod mount_ids;
pub mod netlink_diag;
pub mod section;
pub mod signals;
pub mod spawn;
pub mod startup;
pub mod sysv;

use rustix::io::Errno;

/// The error of a number that stands in a message: what is none in Linux is a broken protocol.
pub(crate) fn error_of(number: i32) -> Errno {
    if (1..4096).contains(&number) { Errno::from_raw_os_error(number) } else { Errno::PROTO }
}
