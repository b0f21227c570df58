//! The census of a run: one cheap look before, and what is new after.

use kobj_abi::{HostKind, Layer};
use kobj_core::image::HostImage;
use kobj_host::view::View;
use kobj_host::watch::Watches;
use kobj_host::{places, tables};
use rustix::fd::OwnedFd;

/// How things were before the command started.
pub(crate) struct Before {
    places: places::Before,
    tables: tables::Before,
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
    /// Where the watches see every creation with its maker, folders inside the watched ones need no look.
    pub(crate) fn take(view: &View, watches: &Watches) -> Self {
        let all_seen = watches.living().is_some() && watches.layers().contains(&Layer::Fanotify);
        let places = if all_seen { places::Before::take_outer(view) } else { places::Before::take(view) };
        Self { places, tables: tables::Before::take(view) }
    }

    /// Ends the looks; what is left to close is better closed late.
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        self.places.into_descriptors()
    }

    /// Looks again.
    pub(crate) fn news(&self, view: &View) -> News {
        let (mut candidates, blind_places) = self.places.candidates(view);
        let (others, mut not_visible) = self.tables.candidates(view);
        candidates.extend(others);
        for (blind, why) in blind_places {
            if not_visible.iter().all(|(kind, _)| *kind != blind) {
                not_visible.push((blind, why));
            }
        }
        News { candidates, not_visible }
    }
}
