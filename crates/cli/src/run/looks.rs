//! The census of a run: one cheap look before, and what is new after.

use kobj_abi::HostKind;
use kobj_core::image::HostImage;
use kobj_host::holders::Holders;
use kobj_host::view::View;
use kobj_host::watch::Watches;
use kobj_host::{places, tables};
use rustix::fd::OwnedFd;
use std::collections::HashSet;

/// How things were before the command started.
pub(crate) struct Before {
    places: places::Before,
    tables: tables::Before,
    /// The watches see every creation with its maker, and every process.
    all_seen: bool,
}

/// What is new, by anybody; and what cannot be seen from here, each kind once.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) candidates: Vec<HostImage>,
    pub(crate) not_visible: Vec<(HostKind, String)>,
}

impl Before {
    /// Looks at the watched folders and at the kernel's tables.
    ///
    /// Where the watches see every creation with its maker, the living creations are the census of files, and sockets
    /// are told by who has them open: then neither needs a look before. What others make is not the job's, and no news.
    pub(crate) fn take(view: &View, watches: &mut Watches) -> Self {
        let all_seen = watches.sees_everything();
        let queues = watches.take_queues();
        if !all_seen {
            return Self {
                places: places::Before::take_by(view, queues),
                tables: tables::Before::take(view),
                all_seen,
            };
        }
        let no_folders = View { segment_folders: Vec::new(), temporary_folders: Vec::new(), ..view.clone() };
        let places = places::Before::take_by(&no_folders, queues);
        Self { places, tables: tables::Before::take_lasting(view), all_seen }
    }

    /// Ends the looks; what is left to close is better closed late.
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        self.places.into_descriptors()
    }

    /// Looks again. `members` are the job's living processes.
    pub(crate) fn news(&self, view: &View, members: &HashSet<u32>) -> News {
        let (mut candidates, blind_places) = self.places.candidates(view);
        let (others, mut not_visible) = self.tables.candidates(view);
        candidates.extend(others);
        if self.all_seen && !members.is_empty() {
            candidates.extend(sockets_of(view, members));
        }
        for (blind, why) in blind_places {
            if not_visible.iter().all(|(kind, _)| *kind != blind) {
                not_visible.push((blind, why));
            }
        }
        News { candidates, not_visible }
    }
}

/// The sockets that a process of the job has open.
fn sockets_of(view: &View, members: &HashSet<u32>) -> Vec<HostImage> {
    let sockets = tables::Before::sockets(view);
    let holders = Holders::of(view, &sockets);
    let is_held = |index: usize| holders.of_object(index).iter().any(|holder| members.contains(&holder.pid));
    sockets.into_iter().enumerate().filter(|(index, _)| is_held(*index)).map(|(_, socket)| socket).collect()
}
