//! The newest report, kept one per user in the state folder: `kobj last`, `kobj scrub --from last`.

use crate::report::files::{REPORT_BYTES_MAX, bounded, replace};
use crate::report::schema::Report;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const FILE: &str = "last.json";

/// The state folder of this user: `$XDG_STATE_HOME/kobj`, `~/.local/state/kobj`; root without HOME: `/var/lib/kobj`.
pub(crate) fn folder(get: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").filter(|home| !is_anothers(home)).map(|home| home.join(".local/state")))
        .map(|base| base.join("kobj"))
        .or_else(|| rustix::process::geteuid().is_root().then(|| "/var/lib/kobj".into()))
}

/// Under sudo HOME may be another user's: folders of root's have no place there.
fn is_anothers(home: &Path) -> bool {
    std::fs::metadata(home).is_ok_and(|found| found.uid() != rustix::process::geteuid().as_raw())
}

/// Keeps `report` as the newest. Called only where something was left, so that a clean run costs nothing here.
pub(crate) fn save_last(report: &Report) -> Result<(), String> {
    let get = |name: &str| std::env::var_os(name);
    let Some(folder) = folder(&get) else {
        return Err("no HOME and no XDG_STATE_HOME: kobj last has nowhere to keep it".into());
    };
    save_in(&folder, report).map_err(|e| format!("cannot keep the report for kobj last in {}: {e}", folder.display()))
}

fn save_in(folder: &Path, report: &Report) -> io::Result<()> {
    make_private(folder)?;
    replace(&folder.join(FILE), report.to_line().as_bytes(), 0o600)
}

/// The newest report, if one was kept.
pub(crate) fn load_last() -> Result<Option<Report>, String> {
    let get = |name: &str| std::env::var_os(name);
    match folder(&get) {
        Some(folder) => load_from(&folder),
        None => Ok(None),
    }
}

fn load_from(folder: &Path) -> Result<Option<Report>, String> {
    let path = folder.join(FILE);
    let named = |e: String| format!("{}: {e}", path.display());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(named(e.to_string())),
    };
    // What it names may be scrubbed: believe only what we wrote ourselves.
    let found = file.metadata().map_err(|e| named(e.to_string()))?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(named("is not a file that only this user can write; it is not believed".into()));
    }
    let bytes = bounded(file, REPORT_BYTES_MAX).map_err(|e| named(e.to_string()))?;
    Report::from_json(&bytes).map(Some).map_err(named)
}

/// Makes the folder, 0700, with its parents; one that is there must be ours and nobody else's to write.
fn make_private(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(parent)?;
    }
    match rustix::fs::mkdir(folder, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let found = std::fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("the folder is not this user's own, writable by nobody else; chmod 700 it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::train;
    use std::os::unix::fs::PermissionsExt as _;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kobj-state-{name}-{}", std::process::id()))
    }

    #[test]
    fn the_newest_report_is_kept_for_this_user_alone() {
        let base = scratch("keep");
        let folder = base.join("a/kobj");
        assert_eq!(load_from(&folder), Ok(None));
        save_in(&folder, &train()).unwrap();
        assert_eq!(load_from(&folder), Ok(Some(train())));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn what_others_could_write_is_not_believed() {
        let folder = scratch("writable");
        save_in(&folder, &train()).unwrap();
        let file = folder.join(FILE);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(load_from(&folder).unwrap_err().contains("not believed"));
        std::fs::rename(&file, folder.join("moved")).unwrap();
        std::os::unix::fs::symlink("moved", &file).unwrap();
        assert!(load_from(&folder).is_err());
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(save_in(&folder, &train()).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_folder_follows_the_xdg_rules() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        assert_eq!(folder(&with(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")])), Some("/s/kobj".into()));
        assert_eq!(folder(&with(&[("XDG_STATE_HOME", "rel"), ("HOME", "/h")])), Some("/h/.local/state/kobj".into()));
    }

    #[test]
    fn a_home_of_another_user_s_is_none() {
        let home = std::env::temp_dir().join(format!("kobj-state-home-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let get = |name: &str| (name == "HOME").then(|| home.clone().into_os_string());
        let own = folder(&get);
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&home, Some(65534), None).unwrap();
        } else {
            println!("skipped: a_home_of_another_user_s_is_none: needs root to make another's folder");
        }
        let anothers = folder(&get);
        std::fs::remove_dir(&home).unwrap();
        assert_eq!(own, Some(home.join(".local/state/kobj")));
        if is_root {
            assert_eq!(anothers, Some("/var/lib/kobj".into()));
        }
    }
}
