//! The snapshot that a backup is compared with.

use crate::id::Id;
use crate::snapshot::Snapshot;
use crate::tree::Time;

/// A snapshot to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The snapshot.
    pub id: Id,
    /// Its tree.
    pub tree: Id,
}

/// The parent that restic would choose: the newest snapshot of the same host and the same paths that is not younger than `until`.
#[must_use]
pub fn choose_parent<'vault>(
    snapshots: impl Iterator<Item = (&'vault Id, &'vault Snapshot)>,
    hostname: &str,
    paths: &[String],
    until: &Time,
) -> Option<Parent> {
    let sorted = |paths: &[String]| {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        paths.dedup();
        paths
    };
    let wanted = sorted(paths);
    snapshots
        .filter(|(_, snapshot)| snapshot.hostname == hostname && snapshot.time.instant() <= until.instant())
        .filter(|(_, snapshot)| sorted(&snapshot.paths) == wanted)
        .max_by_key(|(id, snapshot)| (snapshot.time.instant(), **id))
        .map(|(id, snapshot)| Parent { id: *id, tree: snapshot.tree })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_same_host_and_paths_is_the_parent() {
        let made = |time: &str, host: &str, paths: &[&str]| {
            let paths = paths.iter().map(ToString::to_string).collect();
            let mut snapshot = Snapshot::new(time.parse().unwrap(), Id::of(time.as_bytes()), paths);
            snapshot.hostname = host.to_string();
            (Id::of(format!("{time}{host}").as_bytes()), snapshot)
        };
        let all = [
            made("2026-01-01T00:00:00Z", "a", &["/x", "/y"]),
            made("2026-01-02T00:30:00+01:00", "a", &["/y", "/x"]),
            made("2026-01-03T00:00:00Z", "b", &["/x", "/y"]),
            made("2026-01-04T00:00:00Z", "a", &["/x"]),
            made("2026-01-09T00:00:00Z", "a", &["/x", "/y"]),
        ];
        let chosen = |host: &str, until: &str| {
            let paths = ["/x".to_string(), "/y".to_string()];
            choose_parent(all.iter().map(|(id, snapshot)| (id, snapshot)), host, &paths, &until.parse().unwrap())
                .map(|parent| parent.id)
        };
        assert_eq!(chosen("a", "2026-01-05T00:00:00Z"), Some(all[1].0));
        assert_eq!(chosen("a", "2026-01-10T00:00:00Z"), Some(all[4].0));
        assert_eq!(chosen("c", "2026-01-10T00:00:00Z"), None);
        assert_eq!(chosen("a", "2025-01-01T00:00:00Z"), None);
    }
}
