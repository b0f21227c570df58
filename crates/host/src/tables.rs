//! The kernel's own tables before and after a job: what is new in them.
//!
//! The look before is kept as bytes and parsed only if the look after differs. What is new was made meanwhile by
//! anybody at all: a candidate, never evidence.

use crate::kinds::{sysv_queue, sysv_segment, sysv_semaphore};
use crate::proc::{Proc, sysvipc};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use std::collections::HashSet;

/// A table as it was read, or why it could not be.
type Table = Result<Vec<u8>, String>;

/// What was there before.
pub struct Before {
    tables: Vec<(Source, Table)>,
}

/// Kinds that cannot be seen from here, and why; each kind once.
pub type NotVisible = Vec<(HostKind, String)>;

/// A table of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Shm,
    Sem,
    Msg,
}

impl Source {
    const ALL: [Self; 3] = [Self::Shm, Self::Sem, Self::Msg];

    /// The kinds that are read from it.
    const fn kinds(self) -> &'static [HostKind] {
        match self {
            Self::Shm => &[HostKind::SysvSegment],
            Self::Sem => &[HostKind::SysvSemaphore],
            Self::Msg => &[HostKind::SysvQueue],
        }
    }

    fn read(self, proc: &Result<Proc, String>) -> Table {
        let name = match self {
            Self::Shm => "sysvipc/shm",
            Self::Sem => "sysvipc/sem",
            Self::Msg => "sysvipc/msg",
        };
        let proc = proc.as_ref().map_err(Clone::clone)?;
        proc.table(name).map_err(|error| format!("/proc/{name} cannot be read: {error}"))
    }

    /// What the table says, as objects.
    fn images(self, table: &[u8]) -> Vec<HostImage> {
        match self {
            Self::Shm => sysvipc::shm(table).filter_map(|row| sysv_segment::image(&row)).collect(),
            Self::Sem => sysvipc::sem(table).map(|row| sysv_semaphore::image(&row)).collect(),
            Self::Msg => sysvipc::msg(table).map(|row| sysv_queue::image(&row)).collect(),
        }
    }
}

impl Before {
    /// Takes a look at all tables.
    #[must_use]
    pub fn take(view: &View) -> Self {
        let proc = open(view);
        Self { tables: Source::ALL.into_iter().map(|source| (source, source.read(&proc))).collect() }
    }

    /// What is there now and was not then, kind by kind; and the kinds that could not be seen then or now.
    #[must_use]
    pub fn candidates(&self, view: &View) -> (Vec<HostImage>, NotVisible) {
        let proc = open(view);
        let (mut found, mut not_visible) = (Vec::new(), NotVisible::new());
        for (source, before) in &self.tables {
            match (before.as_ref(), source.read(&proc).as_ref()) {
                (Ok(before), Ok(after)) => {
                    if before != after {
                        found.extend(fresh(*source, before, after));
                    }
                }
                (Err(why), _) | (_, Err(why)) => {
                    not_visible.extend(source.kinds().iter().map(|kind| (*kind, why.clone())));
                }
            }
        }
        (found, not_visible)
    }
}

fn open(view: &View) -> Result<Proc, String> {
    Proc::open(&view.proc).map_err(|error| format!("{} cannot be opened: {error}", view.proc.display()))
}

fn fresh(source: Source, before: &[u8], after: &[u8]) -> Vec<HostImage> {
    let known: HashSet<Identity> = source.images(before).into_iter().map(|image| image.identity).collect();
    let mut images = source.images(after);
    images.retain(|image| !known.contains(&image.identity));
    images
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kobj_platform::sysv;

    fn has(found: &[HostImage], kind: HostKind, id: i32) -> bool {
        let wanted = i64::from(id);
        found.iter().any(|i| i.kind == kind && matches!(i.identity, Identity::Ipc { id, .. } if id == wanted))
    }

    #[test]
    fn what_is_new_is_found_and_what_was_there_is_not() {
        let view = testing::view();
        let old = sysv::shm_create(0, 4096, 0o600).unwrap();
        let before = Before::take(&view);
        let attachment = sysv::shm_attach(old).unwrap(); // changes the line, not the object
        let made = (
            sysv::shm_create(0, 4096, 0o600).unwrap(),
            sysv::sem_create(0, 1, 0o600).unwrap(),
            sysv::msg_create(0, 0o600).unwrap(),
        );
        let (now, _) = before.candidates(&view);
        sysv::shm_remove(made.0).unwrap();
        sysv::sem_remove(made.1).unwrap();
        sysv::msg_remove(made.2).unwrap();
        let (later, _) = before.candidates(&view);
        drop(attachment);
        sysv::shm_remove(old).unwrap();
        assert!(has(&now, HostKind::SysvSegment, made.0));
        assert!(has(&now, HostKind::SysvSemaphore, made.1));
        assert!(has(&now, HostKind::SysvQueue, made.2));
        assert!(!has(&now, HostKind::SysvSegment, old));
        assert!(!has(&later, HostKind::SysvSegment, made.0));
    }

    #[test]
    fn a_table_that_cannot_be_read_is_named() {
        let folder = testing::Folder::new("tables");
        let view = View { proc: folder.path().to_path_buf(), ..testing::view() };
        let (found, not_visible) = Before::take(&view).candidates(&view);
        assert!(found.is_empty());
        for kind in [HostKind::SysvSegment, HostKind::SysvSemaphore, HostKind::SysvQueue] {
            assert!(not_visible.iter().any(|(k, _)| *k == kind), "{}", kind.name());
        }
    }
}
