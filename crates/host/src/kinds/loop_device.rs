//! Loop devices with a file behind them.

use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, partitions};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{Holder, HostImage, Identity};
use kobj_platform::loop_ctl;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the kernel lists block devices.
pub(crate) const BLOCK: &str = "/sys/block";
/// How long letting go may take after the last close: some kernels leave it to a worker.
const AT_LAST: Duration = Duration::from_millis(200);

/// The kind.
pub struct LoopDevice;

/// A number in a file of a block device's folder.
pub(crate) fn number(folder: &Path, name: &str) -> Option<u64> {
    proc::decimal(proc::read(&folder.join(name), 64).ok()?.trim_ascii())
}

/// The block devices with something behind them whose names are `prefix` and a number, as objects of `kind`.
///
/// What tells a device's content from what was behind the same number before is the kernel's count of contents
/// (`diskseq`, Linux 5.15). Without it, or without sysfs, 0 stands for it.
pub(crate) fn devices(view: &View, kind: HostKind, prefix: &[u8]) -> Result<Vec<HostImage>, String> {
    let table = proc::table_of(view, "partitions")?;
    let image = |device: partitions::Device<'_>| {
        proc::decimal(device.name.strip_prefix(prefix)?)?;
        let folder = Path::new(BLOCK).join(OsStr::from_bytes(device.name));
        let sequence = i64::try_from(number(&folder, "diskseq").unwrap_or(0)).ok()?;
        let identity = Identity::Ipc { id: sequence, key: i64::try_from(device.node).ok()?, uid: 0 };
        let mut image = HostImage::new(kind, [b"/dev/", device.name].concat(), identity);
        image.size = Some(device.size);
        Some(image)
    };
    Ok(partitions::parse(&table).filter_map(image).collect())
}

/// The devices with a file behind them.
///
/// # Errors
/// Why the list cannot be read, as a sentence.
pub fn all(view: &View) -> Result<Vec<HostImage>, String> {
    devices(view, HostKind::LoopDevice, b"loop")
}

/// Whether the device still has behind it what it had.
fn same(view: &View, wanted: &HostImage) -> Result<(), Verdict> {
    let now = all(view).map_err(Verdict::Unknown)?;
    match now.iter().find(|image| image.name == wanted.name) {
        Some(image) if image.identity == wanted.identity => Ok(()),
        Some(_) => Err(Verdict::Replaced),
        None => Err(Verdict::Gone),
    }
}

/// Opens a block device so that nobody else can claim it, if its number is `node`. Fails while it is mounted, part of
/// another device, or claimed by a program; an ordinary open by another program does not count.
pub(crate) fn claim(image: &HostImage) -> Result<OwnedFd, Verdict> {
    let path = Path::new(OsStr::from_bytes(&image.name));
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let device = openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::BUSY => Verdict::InUse(Vec::new(), "exclusive open: mounted or claimed".into()),
        Errno::NOENT | Errno::NXIO | Errno::NODEV => Verdict::Gone,
        error => Verdict::Unknown(format!("exclusive open of {}: {error}", path.display())),
    })?;
    let stat = fstat(&device).map_err(|error| Verdict::Unknown(format!("fstat of {}: {error}", path.display())))?;
    let is_block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    match image.identity {
        Identity::Ipc { key, .. } if is_block && u64::try_from(key) == Ok(stat.st_rdev) => Ok(device),
        _ => Err(Verdict::Replaced),
    }
}

/// Who else has the device open, or mounted.
pub(crate) fn users(view: &View, image: &HostImage) -> Vec<Holder> {
    let mut holders = Holders::of(view, std::slice::from_ref(image)).of_object(0).to_vec();
    holders.retain(|holder| holder.pid != std::process::id());
    holders
}

/// Claims the device and looks for ordinary opens, which the claim does not see.
fn idle(view: &View, image: &HostImage) -> Result<OwnedFd, Verdict> {
    same(view, image)?;
    let device = claim(image).map_err(|verdict| match verdict {
        Verdict::InUse(_, words) => Verdict::InUse(users(view, image), words),
        other => other,
    })?;
    let users = users(view, image);
    if !users.is_empty() {
        return Err(Verdict::InUse(users, "processes have it open".into()));
    }
    same(view, image)?;
    Ok(device)
}

impl Kind for LoopDevice {
    fn kind(&self) -> HostKind {
        HostKind::LoopDevice
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Census,
            unused_is_left_over: false,
            is_named_by_path: true,
            end: "it stays until somebody detaches it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        Visibility::of(all(view), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match idle(view, image) {
            Ok(_) => Verdict::Unused("exclusive open: neither mounted nor claimed; no process has it open".into()),
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Outcome {
        let device = match idle(view, image) {
            Ok(device) => device,
            Err(verdict) => return Outcome::Left(verdict),
        };
        match loop_ctl::let_go(&device) {
            Ok(()) => {}
            Err(Errno::NXIO) => return Outcome::Left(Verdict::Gone),
            Err(Errno::BUSY) => return Outcome::Left(Verdict::InUse(users(view, image), "LOOP_CLR_FD: busy".into())),
            Err(error) => return Outcome::Failed(format!("LOOP_CLR_FD on {}: {error}", image.name.escape_ascii())),
        }
        drop(device);
        let deadline = Instant::now() + AT_LAST;
        while same(view, image).is_ok() {
            if Instant::now() >= deadline {
                return take_back(view, image);
            }
            std::thread::yield_now();
        }
        Outcome::Scrubbed("exclusive open: neither mounted nor claimed; let go".into())
    }
}

/// Somebody opened the device after the look: it would go at their last close. They keep it.
fn take_back(view: &View, image: &HostImage) -> Outcome {
    let path = Path::new(OsStr::from_bytes(&image.name));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let kept = openat(CWD, path, flags, Mode::empty()).and_then(loop_ctl::keep);
    let users = users(view, image);
    match kept {
        Ok(()) => Outcome::Left(Verdict::InUse(users, "opened meanwhile".into())),
        Err(Errno::NXIO) => Outcome::Scrubbed("let go at the last close".into()),
        Err(error) => {
            Outcome::Failed(format!("{} was opened meanwhile and goes when it is closed: {error}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};
    use std::fs::File;

    /// A loop device over a file of ours, let go at the end.
    struct Looped {
        folder: testing::Folder,
        name: String,
    }

    impl Looped {
        fn new(what: &str) -> Option<Self> {
            let skip = |why: &dyn std::fmt::Display| {
                println!("skipped: {what}: no loop device: {why}");
                None
            };
            let control = match File::open("/dev/loop-control") {
                Ok(control) => control,
                Err(error) => return skip(&error),
            };
            let folder = testing::Folder::new(what);
            let path = folder.path().join("disk");
            std::fs::write(&path, vec![0; 1 << 20]).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            // Others may take the free one first.
            for _ in 0..20 {
                let name = match loop_ctl::free_number(&control) {
                    Ok(number) => format!("/dev/loop{number}"),
                    Err(error) => return skip(&error),
                };
                let Ok(device) = File::options().read(true).write(true).open(&name) else { continue };
                if loop_ctl::put_behind(&device, &file).is_ok() {
                    return Some(Self { folder, name });
                }
            }
            skip(&"all are taken")
        }

        fn image(&self) -> Option<HostImage> {
            let mut found = Vec::new();
            assert_eq!(LoopDevice.census(&testing::view(), &mut found), Visibility::Whole);
            found.into_iter().find(|image| image.name == self.name.as_bytes())
        }

        fn is_ours(&self) -> bool {
            let disk = std::fs::metadata(self.folder.path().join("disk")).unwrap();
            let status = File::open(&self.name).and_then(|device| Ok(loop_ctl::status(&device)?));
            status.is_ok_and(|status| status.inode == std::os::unix::fs::MetadataExt::ino(&disk))
        }
    }

    impl Drop for Looped {
        fn drop(&mut self) {
            if self.is_ours() {
                let _ = File::open(&self.name).map(loop_ctl::let_go);
            }
        }
    }

    fn scrub(image: &HostImage) -> Outcome {
        LoopDevice.scrub(&testing::view(), image, &mut Hands::new(&mut |_| {}))
    }

    #[test]
    fn a_device_that_is_open_stays_and_an_idle_one_lets_go() {
        let Some(looped) = Looped::new("loop") else { return };
        let image = looped.image().unwrap();
        assert_eq!(image.size, Some(1 << 20));
        let text = "import sys\nf=open(sys.argv[1],'rb')\nprint('up',flush=True)\nsys.stdin.read()";
        let mut child = Python::start(text, &[&looped.name]);
        child.line();
        let verdict = LoopDevice.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {}));
        assert!(matches!(verdict, Verdict::InUse(..)), "open");
        let Outcome::Left(Verdict::InUse(holders, _)) = scrub(&image) else { panic!("not left in use") };
        assert!(holders.iter().any(|holder| holder.pid == child.pid()), "{holders:?}");
        drop(child);
        let claimed = (0..10_000).find_map(|_| claim(&image).ok()).unwrap();
        assert!(
            matches!(LoopDevice.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})), Verdict::InUse(..)),
            "claimed"
        );
        drop(claimed);
        // Another test, or the machine's own device manager, may have it open for a moment.
        let soon = |mut done: Box<dyn FnMut() -> bool + '_>| {
            (0..10_000).any(|_| {
                done() || {
                    std::thread::yield_now();
                    false
                }
            })
        };
        let judge = || LoopDevice.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {}));
        assert!(soon(Box::new(|| matches!(judge(), Verdict::Unused(_)))));
        assert!(looped.is_ours());
        assert!(soon(Box::new(|| matches!(scrub(&image), Outcome::Scrubbed(_)))));
        assert!(!looped.is_ours());
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::Gone | Verdict::Replaced)));
    }

    #[test]
    fn what_was_opened_after_the_look_keeps_its_file() {
        let Some(looped) = Looped::new("late") else { return };
        let image = looped.image().unwrap();
        let (late, other) = (File::open(&looped.name).unwrap(), File::open(&looped.name).unwrap());
        if let Err(error) = loop_ctl::let_go(&other) {
            println!("skipped: late: this kernel refuses while others have it open: {error}");
            return;
        }
        drop(other);
        let outcome = take_back(&testing::view(), &image);
        assert!(matches!(outcome, Outcome::Left(Verdict::InUse(..))), "{outcome:?}");
        assert!(!loop_ctl::status(&late).unwrap().lets_go_by_itself);
        drop(late);
        assert!(looped.is_ours());
    }

    #[test]
    fn another_content_behind_the_number_is_left() {
        let Some(looped) = Looped::new("other") else { return };
        let mut image = looped.image().unwrap();
        if let Identity::Ipc { id, .. } = &mut image.identity {
            *id += 1;
        }
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Replaced));
        assert!(looped.is_ours());
    }
}
