//! Every kind of host object that kobj knows, one file each.

use crate::kind::Kind;
use kobj_abi::HostKind;

pub mod abstract_socket;
pub mod cgroup;
pub mod device_node;
pub mod fifo;
pub mod listener;
pub mod lock_file;
pub mod loop_device;
pub mod mapper_device;
pub mod mount;
pub mod namespace;
pub mod network_device;
pub mod pid_file;
pub mod posix_queue;
pub mod posix_semaphore;
pub mod process;
pub mod segment;
pub mod symbolic_link;
pub mod sysv_queue;
pub mod sysv_segment;
pub mod sysv_semaphore;
pub mod temporary_file;
pub mod temporary_folder;
pub mod unix_socket;

/// Every kind, in the order of its number. To add one: a file here and a line in this list.
pub static ALL: &[&dyn Kind] = &[
    &process::Process,
    &segment::Segment,
    &posix_semaphore::PosixSemaphore,
    &posix_queue::PosixQueue,
    &sysv_segment::SysvSegment,
    &sysv_semaphore::SysvSemaphore,
    &sysv_queue::SysvQueue,
    &unix_socket::UnixSocket,
    &abstract_socket::AbstractSocket,
    &listener::Listener,
    &lock_file::LockFile,
    &pid_file::PidFile,
    &temporary_file::TemporaryFile,
    &temporary_folder::TemporaryFolder,
    &symbolic_link::SymbolicLink,
    &device_node::DeviceNode,
    &fifo::Fifo,
    &mount::Mount,
    &namespace::Namespace,
    &network_device::NetworkDevice,
    &loop_device::LoopDevice,
    &mapper_device::MapperDevice,
    &cgroup::Cgroup,
];

/// The kind of that name, if this program knows how to look at it.
#[must_use]
pub fn of(kind: HostKind) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|known| known.kind() == kind)
}
