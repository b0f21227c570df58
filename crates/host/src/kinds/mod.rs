//! Every kind of host object that kobj knows, one file each.

use crate::hands::Hands;
use crate::kind::{Facts, Kind, Outcome, Verdict};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

pub mod abstract_socket;
pub mod cgroup;
pub mod device_node;
pub mod fifo;
pub mod judged_file;
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
pub mod unjudged_file;

/// Every kind, in the order of its number. To add one: a file here and a line in this list.
pub static ALL: &[&dyn Kind] = &[
    &process::Process,
    &segment::SEGMENT,
    &posix_semaphore::POSIX_SEMAPHORE,
    &posix_queue::PosixQueue,
    &sysv_segment::SysvSegment,
    &sysv_semaphore::SysvSemaphore,
    &sysv_queue::SysvQueue,
    &unix_socket::UnixSocket,
    &abstract_socket::AbstractSocket,
    &listener::Listener,
    &lock_file::LOCK_FILE,
    &pid_file::PID_FILE,
    &temporary_file::TEMPORARY_FILE,
    &temporary_folder::TemporaryFolder,
    &symbolic_link::SYMBOLIC_LINK,
    &device_node::DEVICE_NODE,
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

/// Destroys each of `images` that its judge gives free at that moment, in their order, neighbours of one kind together.
/// One outcome for each.
pub fn scrub_all(view: &View, images: &[&HostImage], hands: &mut Hands<'_>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(images.len());
    for group in images.chunk_by(|one, next| one.kind == next.kind) {
        match of(group[0].kind) {
            Some(kind) => outcomes.extend(kind.scrub_all(view, group, hands)),
            None => outcomes.extend(group.iter().map(|image| Outcome::Left(Verdict::Unknown(no_judge(image.kind))))),
        }
    }
    outcomes
}

/// Why nothing of a kind without a file here is ever destroyed.
#[must_use]
pub fn no_judge(kind: HostKind) -> String {
    format!("kobj has no judge for objects of kind {}", kind.name())
}

/// What holds for each object of that kind, if this program knows how to look at it.
#[must_use]
pub fn facts(kind: HostKind) -> Option<Facts> {
    of(kind).map(Kind::facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Maker, NewIn};

    #[test]
    fn each_kind_is_listed_once_in_the_order_of_the_numbers() {
        assert!(ALL.is_sorted_by(|before, after| (before.kind() as u8) < (after.kind() as u8)));
    }

    #[test]
    fn each_kind_has_a_row_in_the_documents() {
        let page = include_str!("../../../../docs/objects/host-object.md");
        for kind in ALL {
            let name = kind.kind().name();
            assert!(page.lines().any(|line| line.starts_with(&format!("| `{name}` | "))), "{name} has no row");
        }
    }

    #[test]
    fn a_kinds_facts_agree_with_each_other() {
        for kind in ALL {
            let (facts, name) = (kind.facts(), kind.kind().name());
            assert!(
                facts.maker != Maker::FileEvent || facts.new_in == NewIn::Folders,
                "{name}: no folder shows its events"
            );
            assert!(!(facts.maker == Maker::Holders && facts.unused_is_left_over), "{name}: unused, it is gone");
            assert!(facts.end.starts_with("it "), "{name}: {}", facts.end);
        }
    }
}
