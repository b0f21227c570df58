//! A private place for one test: folders for programs, removed when it is dropped.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of one test; its name is also the test's tag, unique on the machine.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub root: PathBuf,
    /// A word that no other test uses in any name.
    pub tag: String,
    /// Counts the places of this process.
    pub serial: u32,
}

/// The folders of one program inside a [`Place`].
#[derive(Clone, Debug)]
pub struct Room {
    /// HOME.
    pub home: PathBuf,
    /// TMPDIR.
    pub tmp: PathBuf,
    /// For the program's sources, reports and pipes; belongs to the test, not to the job.
    pub desk: PathBuf,
    /// The test's tag and the room's name.
    pub tag: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Place {
    /// A fresh place, open to look into for every user.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn new() -> io::Result<Self> {
        // A killed test may have left a place of the same pid.
        let (serial, tag, root) = loop {
            let serial = COUNT.fetch_add(1, Ordering::Relaxed);
            let tag = format!("ke{}x{serial}z", std::process::id());
            let root = PathBuf::from("/tmp").join(format!("kobj-e2e-{tag}"));
            match fs::DirBuilder::new().mode(0o755).create(&root) {
                Ok(()) => break (serial, tag, root),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let place = Self { root, tag, serial };
        for (name, source) in crate::build::SOURCES {
            let path = place.root.join(name);
            fs::write(&path, source)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        Ok(place)
    }

    /// A room in this place for a program of user `uid`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn room(&self, name: &str, uid: u32) -> io::Result<Room> {
        let root = self.root.join(name);
        fs::DirBuilder::new().mode(0o755).create(&root)?;
        let room = Room {
            home: root.join("home"),
            tmp: root.join("tmp"),
            desk: root.join("desk"),
            tag: format!("{}{name}", self.tag),
        };
        for folder in [&room.home, &room.tmp, &room.desk] {
            fs::DirBuilder::new().mode(0o700).create(folder)?;
            own(folder, uid)?;
        }
        Ok(room)
    }
}

/// A place with one room and kobj in it.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn one_room(uid: u32) -> (Place, Room, PathBuf) {
    let place = Place::new().unwrap_or_else(|error| panic!("no place: {error}"));
    let room = place.room("a", uid).unwrap_or_else(|error| panic!("no room: {error}"));
    let kobj = crate::build::kobj(&place.root);
    (place, room, kobj)
}

/// Gives a path to a user and its group of the same number.
///
/// # Errors
/// Whatever the file system says.
pub fn own(path: &Path, uid: u32) -> io::Result<()> {
    chown(path, Some(uid), Some(uid))
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(&self.tag) {
                drop(fs::remove_file(entry.path()));
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("cannot remove {}: {error}", self.root.display());
        }
    }
}
