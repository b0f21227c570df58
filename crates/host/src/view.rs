//! From where and with what settings the host is looked at.

use std::path::{Path, PathBuf};

/// What is looked at, and on whose behalf. Made once per command.
#[derive(Clone, Debug)]
pub struct View {
    /// Where procfs is (`/proc`; another folder in tests of unreadable or hidden entries).
    pub proc: PathBuf,
    /// Where shared-memory segments live: `/dev/shm`, hugetlbfs mounts, and the configuration's `segment_folders`.
    pub segment_folders: Vec<PathBuf>,
    /// Where temporary files live: `TMPDIR`, `/tmp`, `/var/tmp`, `/run`, `/run/user/UID`; each once, real paths.
    pub temporary_folders: Vec<PathBuf>,
    /// Our effective user id.
    pub uid: u32,
}

impl View {
    /// The view of this process on this machine: the well-known folders, those of the configuration, and TMPDIR.
    ///
    /// Folders that do not exist are left out; each is named once, by its real path.
    #[must_use]
    pub fn of_this_process(segments: &[PathBuf], temporary: &[PathBuf], tmpdir: Option<PathBuf>) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let known =
            ["/tmp", "/var/tmp", "/run"].map(PathBuf::from).into_iter().chain([format!("/run/user/{uid}").into()]);
        let segment_folders = real_folders([PathBuf::from("/dev/shm")].into_iter().chain(segments.iter().cloned()));
        let mut temporary_folders = real_folders(known.chain(tmpdir).chain(temporary.iter().cloned()));
        temporary_folders.retain(|folder| !segment_folders.contains(folder));
        Self { proc: "/proc".into(), segment_folders, temporary_folders, uid }
    }
}

fn real_folders(folders: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut real: Vec<PathBuf> = Vec::new();
    for folder in folders.filter(|folder| folder.is_absolute()) {
        match folder.canonicalize() {
            Ok(path) if path.is_dir() && !real.contains(&path) && path != Path::new("/") => real.push(path),
            _ => {}
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_named_once_and_by_its_real_path() {
        let link = std::env::temp_dir().join(format!("kobj-view-{}", std::process::id()));
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        let view =
            View::of_this_process(&["/nonexistent".into()], &["relative".into(), "/".into()], Some(link.clone()));
        std::fs::remove_file(&link).unwrap();
        assert_eq!(view.temporary_folders.iter().filter(|f| *f == Path::new("/tmp")).count(), 1);
        assert!(!view.temporary_folders.contains(&link));
        assert!(!view.temporary_folders.contains(&PathBuf::from("/")));
        assert!(!view.segment_folders.contains(&PathBuf::from("/nonexistent")));
    }
}
