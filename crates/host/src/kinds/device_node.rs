//! Device nodes that somebody made in a temporary folder.
//!
//! No judge: opening a device to probe it may do anything. Reported, never deleted.

use crate::kinds::unjudged_file::UnjudgedFile;
use kobj_abi::HostKind;

/// This kind.
pub static DEVICE_NODE: UnjudgedFile =
    UnjudgedFile { kind: HostKind::DeviceNode, why: "no judge: a device is not opened to find out who uses it" };
