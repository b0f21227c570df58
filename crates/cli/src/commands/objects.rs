//! Finding objects: a census of kinds, and what a person means by a NAME.

use crate::config::Config;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity, Time};
use kobj_host::classify::classify;
use kobj_host::kind::Visibility;
use kobj_host::kinds;
use kobj_host::proc::{self, Proc, sysvipc};
use kobj_host::view::View;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The view of this machine, with the configuration's folders.
pub(crate) fn view() -> Result<View, String> {
    view_with(std::env::var_os("TMPDIR").map(PathBuf::from))
}

/// The same with another folder for temporary files.
pub(crate) fn view_with(tmpdir: Option<PathBuf>) -> Result<View, String> {
    let config = Config::load(&|name| std::env::var_os(name))?;
    Ok(View::of_this_process(&config.segment_folders, &config.temporary_folders, tmpdir))
}

/// What was found, and what could not be seen.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Every object, kind by kind.
    pub(crate) found: Vec<HostImage>,
    /// Kinds that could not be seen whole, and why.
    pub(crate) not_visible: Vec<(HostKind, String)>,
}

impl Census {
    /// Looks at the kinds that are wanted.
    pub(crate) fn of(view: &View, wanted: impl Fn(HostKind) -> bool) -> Self {
        let mut census = Self::default();
        for kind in kinds::ALL.iter().filter(|kind| wanted(kind.kind())) {
            if let Visibility::NotVisible(why) = kind.census(view, &mut census.found) {
                census.not_visible.push((kind.kind(), why));
            }
        }
        census
    }

    /// Says on standard error what could not be seen: "cannot look" and "nothing there" are different answers.
    pub(crate) fn tell_not_visible(&self) {
        for (kind, why) in &self.not_visible {
            let why = crate::report::escape::for_terminal(why.as_bytes());
            crate::tell(&format!("kobj: not visible: {}: {why}\n", kind.name()));
        }
    }
}

/// What a person typed: NAME, KIND:NAME, PATH, PID or ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    kind: Option<HostKind>,
    name: Vec<u8>,
}

impl Wanted {
    /// Reads it; KIND counts only where it is a kind's name.
    pub(crate) fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|b| *b == b':');
        let kind = colon.and_then(|at| HostKind::from_name(std::str::from_utf8(&bytes[..at]).ok()?));
        match (kind, colon) {
            (Some(_), Some(at)) => Self { kind, name: bytes[at + 1..].to_vec() },
            _ => Self { kind: None, name: bytes.to_vec() },
        }
    }

    /// As typed, for messages.
    pub(crate) fn shown(&self) -> String {
        let kind = self.kind.map_or(String::new(), |kind| format!("{}:", kind.name()));
        format!("{kind}{}", crate::report::escape::for_terminal(&self.name))
    }

    /// Every object that is meant. A number may mean a process and System V objects of all kinds: all are given.
    pub(crate) fn find(&self, view: &View) -> Vec<HostImage> {
        let fits = |kind: HostKind| self.kind.is_none_or(|wanted| wanted == kind);
        // Abstract names often look like paths.
        if self.name.contains(&b'/') && !self.name.starts_with(b"@") {
            return self.at_path(view, fits);
        }
        let mut exact = Census::of(view, fits).found;
        let mut loose = exact.clone();
        exact.retain(|image| is_called(image, &self.name));
        if !exact.is_empty() {
            return exact;
        }
        let mut in_folder = self.at_path(view, fits);
        if in_folder.is_empty() {
            loose.retain(|image| is_short_for(image, &self.name));
            in_folder = loose;
        }
        in_folder
    }

    /// The file at the path, and mounts and devices of that name.
    fn at_path(&self, view: &View, fits: impl Fn(HostKind) -> bool) -> Vec<HostImage> {
        let Some(path) = absolute(Path::new(OsStr::from_bytes(&self.name))) else { return Vec::new() };
        // Groups may be many: they are listed only where one may be meant.
        let may_be_group = self.kind == Some(HostKind::Cgroup) || path.starts_with("/sys/fs/cgroup");
        let by_path = |kind| is_named_by_path(kind) && (kind != HostKind::Cgroup || may_be_group);
        let mut found = Census::of(view, |kind| by_path(kind) && fits(kind)).found;
        found.retain(|image| image.name == path.as_os_str().as_bytes());
        found.extend(file_at(view, &path).filter(|image| self.kind.is_none_or(|kind| kind == image.kind)));
        found
    }
}

/// Whether objects of the kind are called by what is, or looks like, the path of another object, a file or folder.
pub(crate) fn is_named_by_path(kind: HostKind) -> bool {
    kinds::facts(kind).is_some_and(|facts| facts.is_named_by_path)
}

/// Whether that is the object's whole name; a process goes by its number.
fn is_called(image: &HostImage, name: &[u8]) -> bool {
    match image.identity {
        Identity::Process { pid, .. } => name == pid.to_string().as_bytes() || image.name == name,
        _ => image.name == name,
    }
}

/// Whether the name is the last part of the object's path, or its abstract name without the sign.
fn is_short_for(image: &HostImage, name: &[u8]) -> bool {
    let last = image.name.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let short = match image.kind {
        HostKind::PosixSemaphore => last.strip_prefix(b"sem.").unwrap_or(last),
        HostKind::AbstractSocket => image.name.strip_prefix(b"@").unwrap_or(&image.name),
        HostKind::Process => return false,
        // `tcp 127.0.0.1:80` is 127.0.0.1:80, and :80.
        HostKind::Listener => {
            let address = image.name.rsplit(|b| *b == b' ').next().unwrap_or_default();
            let port = address.iter().rposition(|b| *b == b':').map_or(&[][..], |at| &address[at..]);
            return !name.is_empty() && (address == name || port == name);
        }
        _ => last,
    };
    !name.is_empty() && (short == name || last == name)
}

/// The path with its folder resolved, its last name not followed.
fn absolute(path: &Path) -> Option<PathBuf> {
    let Some(name) = path.file_name() else { return path.canonicalize().ok() };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(folder.canonicalize().ok()?.join(name))
}

/// What lies at an absolute path; nothing too where it may not be looked at.
pub(crate) fn file_at(view: &View, path: &Path) -> Option<HostImage> {
    classify(view, path).ok().flatten()
}

/// The one object that is meant, or a sentence about none.
pub(crate) fn find_some(view: &View, name: &OsString) -> Result<Vec<HostImage>, String> {
    let wanted = Wanted::parse(name);
    let found = wanted.find(view);
    if found.is_empty() {
        return Err(format!(
            "'{}' names nothing that can be seen from here; kobj census lists what is",
            wanted.shown()
        ));
    }
    Ok(found)
}

/// Whether "nobody uses it" says that an object of that kind is a leftover.
pub(crate) fn unused_is_left_over(kind: HostKind) -> bool {
    kinds::facts(kind).is_some_and(|facts| facts.unused_is_left_over)
}

/// Whether the object is part of how the system is set up, used right now or not.
pub(crate) fn is_infrastructure(image: &HostImage) -> bool {
    let well_known: [&[u8]; 7] = [
        b"/tmp/.X11-unix",
        b"/tmp/.ICE-unix",
        b"/tmp/.XIM-unix",
        b"/tmp/.font-unix",
        b"/tmp/.Test-unix",
        b"/tmp/snap-private-tmp",
        b"/tmp/systemd-private-",
    ];
    let is_made_at_boot = matches!(image.kind, HostKind::TemporaryFolder | HostKind::TemporaryFile);
    (is_made_at_boot && image.name.starts_with(b"/run/"))
        || well_known.iter().any(|known| image.name.starts_with(known))
        || image.name.starts_with(b"/var/tmp/systemd-private-")
}

/// Whether a mount belongs to the system's own set-up: naming a folder must not unmount what everything stands on.
pub(crate) fn is_system_mount(image: &HostImage) -> bool {
    let kept: [&[u8]; 16] = [
        b"/",
        b"/boot",
        b"/dev",
        b"/etc",
        b"/home",
        b"/opt",
        b"/proc",
        b"/root",
        b"/run",
        b"/srv",
        b"/sys",
        b"/tmp",
        b"/usr",
        b"/var",
        b"/var/tmp",
        b"/run/user",
    ];
    let is_below = |root: &[u8]| image.name.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"));
    image.kind == HostKind::Mount
        && (kept.contains(&image.name.as_slice()) || [&b"/dev"[..], b"/proc", b"/sys"].into_iter().any(is_below))
}

/// How long ago objects were born or, where only that is known, last changed: never more than the true age.
#[derive(Debug)]
pub(crate) struct Ages {
    now: Time,
    boot: Option<i64>,
    ticks_per_second: u64,
    changed: HashMap<(HostKind, i64), i64>,
}

impl Ages {
    /// Reads the clock, the time of boot and the change times of System V objects.
    pub(crate) fn read(view: &View) -> Self {
        let table = |name: &str| Proc::open(&view.proc).and_then(|proc| proc.table(name)).unwrap_or_default();
        let mut changed = HashMap::new();
        let (shm, sem, msg) = (table("sysvipc/shm"), table("sysvipc/sem"), table("sysvipc/msg"));
        changed.extend(sysvipc::shm(&shm).map(|row| ((HostKind::SysvSegment, i64::from(row.id)), row.changed)));
        changed.extend(sysvipc::sem(&sem).map(|row| ((HostKind::SysvSemaphore, i64::from(row.id)), row.changed)));
        changed.extend(sysvipc::msg(&msg).map(|row| ((HostKind::SysvQueue, i64::from(row.id)), row.changed)));
        let stat = table("stat");
        let boot = proc::lines(&stat).find_map(|line| line.strip_prefix(b"btime ")).and_then(proc::decimal);
        let boot = boot.and_then(|seconds| i64::try_from(seconds).ok());
        Self {
            now: crate::report::time::now(),
            boot,
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            changed,
        }
    }

    /// Seconds; `None` where nothing tells.
    pub(crate) fn of(&self, image: &HostImage) -> Option<u64> {
        u64::try_from(self.now.0.div_euclid(1_000_000) - self.changed_s(image)?).ok()
    }

    /// When it was born or, where only that is known, last changed: seconds since 1970.
    pub(crate) fn changed_s(&self, image: &HostImage) -> Option<i64> {
        self.changed_us(image).map(|changed| changed.div_euclid(1_000_000))
    }

    /// The same in microseconds, where they are known.
    pub(crate) fn changed_us(&self, image: &HostImage) -> Option<i64> {
        let seconds = match &image.identity {
            // Files that an image builder wrote are born at 0, which tells nothing.
            Identity::File { born, .. } => return born.map(|born| born.0).filter(|born| *born > 0),
            Identity::Ipc { id, .. } => self.changed.get(&(image.kind, *id)).copied()?,
            Identity::Process { started, .. } => {
                self.boot? + i64::try_from(started / self.ticks_per_second.max(1)).ok()?
            }
        };
        seconds.checked_mul(1_000_000)
    }
}

/// The user id's name in /etc/passwd, else the number.
#[derive(Debug)]
pub(crate) struct Users(HashMap<u32, Vec<u8>>);

impl Users {
    /// Reads /etc/passwd; users of other sources stay numbers.
    pub(crate) fn read() -> Self {
        let table = proc::read(Path::new("/etc/passwd"), proc::TABLE).unwrap_or_default();
        let user = |line: &[u8]| {
            let mut fields = line.split(|b| *b == b':');
            let name = fields.next()?.to_vec();
            Some((u32::try_from(proc::decimal(fields.nth(1)?)?).ok()?, name))
        };
        Self(table.split(|b| *b == b'\n').filter_map(user).collect())
    }

    /// Name or number.
    pub(crate) fn name(&self, uid: u32) -> Vec<u8> {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_kind_before_a_colon_narrows() {
        assert_eq!(
            Wanted::parse(OsStr::new("sysv-queue:7")),
            Wanted { kind: Some(HostKind::SysvQueue), name: b"7".to_vec() }
        );
        assert_eq!(Wanted::parse(OsStr::new("127.0.0.1:80")), Wanted { kind: None, name: b"127.0.0.1:80".to_vec() });
        let raw = OsString::from_vec(b"segment:/dev/shm/\xff".to_vec());
        assert_eq!(Wanted::parse(&raw).name, b"/dev/shm/\xff");
    }

    #[test]
    fn short_names_are_the_last_part_of_a_path() {
        let image = |kind, name: &str| {
            HostImage::new(kind, name.into(), Identity::File { device: 1, inode: 2, handle: None, born: None })
        };
        assert!(is_short_for(&image(HostKind::PosixSemaphore, "/dev/shm/sem.a"), b"a"));
        assert!(is_short_for(&image(HostKind::PosixSemaphore, "/dev/shm/sem.a"), b"sem.a"));
        assert!(is_short_for(&image(HostKind::AbstractSocket, "@x/y"), b"x/y"));
        assert!(!is_short_for(&image(HostKind::Segment, "/dev/shm/"), b""));
        let listener = image(HostKind::Listener, "tcp [::1]:80");
        assert!(is_short_for(&listener, b"[::1]:80") && is_short_for(&listener, b":80"));
        assert!(!is_short_for(&listener, b":8") && !is_short_for(&listener, b"80") && !is_short_for(&listener, b""));
    }

    #[test]
    fn what_everything_stands_on_is_no_leftover_mount() {
        let mount = |name: &str| {
            let identity = Identity::Ipc { id: 1, key: 0, uid: 0 };
            is_system_mount(&HostImage::new(HostKind::Mount, name.into(), identity))
        };
        assert!(["/", "/tmp", "/proc", "/sys/fs/cgroup", "/dev/shm"].into_iter().all(mount));
        assert!(!["/mnt", "/tmp/at", "/run/netns", "/home/me/at", "/devices"].into_iter().any(mount));
    }

    #[test]
    fn a_birth_at_zero_tells_no_age() {
        let ages = Ages { now: Time(5_000_000_000), boot: None, ticks_per_second: 100, changed: HashMap::new() };
        let age = |born: Option<i64>| {
            let identity = Identity::File { device: 1, inode: 2, handle: None, born: born.map(Time) };
            ages.of(&HostImage::new(HostKind::TemporaryFile, b"/tmp/x".to_vec(), identity))
        };
        assert_eq!(age(Some(4_000_000_000)), Some(1_000));
        assert_eq!((age(Some(0)), age(Some(-1)), age(None), age(Some(6_000_000_000))), (None, None, None, None));
    }

    #[test]
    fn what_the_system_set_up_is_no_leftover() {
        let image = |kind, name: &str| {
            HostImage::new(kind, name.into(), Identity::File { device: 1, inode: 2, handle: None, born: None })
        };
        for (kind, name) in [
            (HostKind::TemporaryFolder, "/run/user"),
            (HostKind::TemporaryFolder, "/tmp/.X11-unix"),
            (HostKind::TemporaryFolder, "/var/tmp/systemd-private-1-x"),
        ] {
            assert!(is_infrastructure(&image(kind, name)), "{name}");
        }
        assert!(!is_infrastructure(&image(HostKind::UnixSocket, "/run/mine.sock")));
        assert!(!is_infrastructure(&image(HostKind::TemporaryFolder, "/tmp/mine")));
        assert!(!unused_is_left_over(HostKind::Mount) && !unused_is_left_over(HostKind::Process));
    }
}
