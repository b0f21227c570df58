//! Linux calls that need care or that `rustix` lacks. With `memory`, the only room that may use `unsafe`.

pub mod arrival;
pub mod connector;
pub mod fanotify;
pub mod file_handle;
pub mod isolation;
pub mod late_close;
pub mod lease;
pub mod loop_ctl;
pub mod mapped;
pub mod mount_ids;
pub mod netlink_diag;
pub mod signals;
pub mod spawn;
pub mod startup;
pub mod sysv;
