//! The kernel's own tables before and after a job: what is new in them.
//!
//! The look before is kept as bytes wherever the kernel prints a table, and parsed only if the look after differs. What
//! is new was made meanwhile by anybody at all: a candidate, never evidence. Files are found by other means; locks on
//! files are told with their holders ([`crate::holders`]); control groups are the containment's business.

use crate::kind::{Kind, NewIn, Visibility};
use crate::kinds::{
    self, abstract_socket, listener, mount, namespace, network_device, sysv_queue, sysv_segment, sysv_semaphore,
};
use crate::proc::{Proc, mountinfo, sysvipc, unix};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use kobj_platform::{mount_ids, sysv};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::Path;

/// Kinds that cannot be seen from here, and why; each kind once.
pub type NotVisible = Vec<(HostKind, String)>;

/// A kind, and what its census gave.
type Listed = (&'static dyn Kind, Result<Vec<HostImage>, String>);

/// What was there before.
pub struct Before {
    looks: Vec<(Source, Result<Look, String>)>,
    /// Kinds without a table, and what their census gave.
    listed: Vec<Listed>,
    /// The table of mounts, held open: the kernel says by a poll whether it changed since it was opened.
    mounts: Option<OwnedFd>,
}

/// A look at a source.
#[derive(Debug)]
enum Look {
    /// The kernel's table as it was printed.
    Table(Vec<u8>),
    /// What a list without a table gave.
    Objects(Vec<HostImage>),
    /// The lasting ids of the mounts: a twentieth of the time that their table takes.
    Mounts(Vec<u64>),
}

/// Where objects are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Shm,
    Sem,
    Msg,
    Unix,
    Tcp,
    Udp,
    Udp6,
    Mounts,
    Interfaces,
}

impl Source {
    const ALL: [Self; 9] =
        [Self::Shm, Self::Sem, Self::Msg, Self::Unix, Self::Tcp, Self::Udp, Self::Udp6, Self::Mounts, Self::Interfaces];

    /// The kinds that are read from it.
    const fn kinds(self) -> &'static [HostKind] {
        match self {
            Self::Shm => &[HostKind::SysvSegment],
            Self::Sem => &[HostKind::SysvSemaphore],
            Self::Msg => &[HostKind::SysvQueue],
            Self::Unix => &[HostKind::AbstractSocket],
            Self::Tcp | Self::Udp | Self::Udp6 => &[HostKind::Listener],
            Self::Mounts => &[HostKind::Mount, HostKind::Namespace],
            Self::Interfaces => &[HostKind::NetworkDevice],
        }
    }

    /// Whether what it lists ends with the last process that has it open.
    const fn lives_with_its_holder(self) -> bool {
        matches!(self, Self::Unix | Self::Tcp | Self::Udp | Self::Udp6)
    }

    /// A look that found nothing.
    const fn nothing(self) -> Look {
        match self.table() {
            Some(_) => Look::Table(Vec::new()),
            None => Look::Objects(Vec::new()),
        }
    }

    /// The table's name in procfs, where it has one.
    const fn table(self) -> Option<&'static str> {
        match self {
            Self::Shm => Some("sysvipc/shm"),
            Self::Sem => Some("sysvipc/sem"),
            Self::Msg => Some("sysvipc/msg"),
            Self::Unix => Some("self/net/unix"),
            Self::Udp => Some("self/net/udp"),
            Self::Udp6 => Some("self/net/udp6"),
            Self::Mounts => Some("self/mountinfo"),
            Self::Interfaces => Some("self/net/dev"),
            Self::Tcp => None,
        }
    }

    /// Whether there is surely none of its objects.
    fn is_empty_now(self, counts: Option<[u64; 3]>) -> bool {
        matches!((self, counts), (Self::Shm, Some([0, ..])) | (Self::Sem, Some([_, 0, _])) | (Self::Msg, Some([.., 0])))
    }

    /// The look before: where a cheaper one than the table tells new from old, that.
    fn first_look(self, view: &View, proc: &Result<Proc, String>, counts: Option<[u64; 3]>) -> Result<Look, String> {
        match self {
            _ if self.is_empty_now(counts) => Ok(self.nothing()),
            Self::Mounts if is_ours(view) => match mount_ids::all() {
                Ok(ids) => Ok(Look::Mounts(ids)),
                Err(_) => self.look(view, proc),
            },
            _ => self.look(view, proc),
        }
    }

    fn look(self, view: &View, proc: &Result<Proc, String>) -> Result<Look, String> {
        match (self, self.table()) {
            (_, Some(name)) => match proc.as_ref().map_err(Clone::clone)?.table(name) {
                Ok(table) => Ok(Look::Table(table)),
                // A machine without IPv6 has no such table, and no such sockets.
                Err(_) if self == Self::Udp6 => Ok(Look::Table(Vec::new())),
                Err(error) => Err(format!("/proc/{name} cannot be read: {error}")),
            },
            (_, None) => listener::tcp(view).map(|bound| Look::Objects(bound.iter().map(listener::image).collect())),
        }
    }

    /// What a table says, as objects.
    fn images(self, table: &[u8]) -> Vec<HostImage> {
        match self {
            Self::Shm => sysvipc::shm(table).filter_map(|row| sysv_segment::image(&row)).collect(),
            Self::Sem => sysvipc::sem(table).map(|row| sysv_semaphore::image(&row)).collect(),
            Self::Msg => sysvipc::msg(table).map(|row| sysv_queue::image(&row)).collect(),
            Self::Udp | Self::Udp6 => listener::udp(table).map(|bound| listener::image(&bound)).collect(),
            Self::Interfaces => network_device::images(table),
            Self::Unix | Self::Mounts | Self::Tcp => Vec::new(),
        }
    }
}

impl Before {
    /// Takes a look at all tables.
    #[must_use]
    pub fn take(view: &View) -> Self {
        Self::look(view, Source::ALL.into_iter())
    }

    fn look(view: &View, sources: impl Iterator<Item = Source>) -> Self {
        let proc = open(view);
        // Opened before it is read: a change in between is then seen twice and not missed.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mounts = rustix::fs::open(view.proc.join("self/mountinfo"), flags, Mode::empty()).ok();
        let counts = sysv_counts(view);
        let by_census = kinds::ALL.iter().filter(|kind| kind.facts().new_in == NewIn::Census);
        Self {
            mounts,
            looks: sources.map(|source| (source, source.first_look(view, &proc, counts))).collect(),
            listed: by_census.map(|kind| (*kind, list(*kind, view))).collect(),
        }
    }

    /// The same without sockets: for whom an exact family tree tells whose a socket is, by who has it open.
    #[must_use]
    pub fn take_lasting(view: &View) -> Self {
        Self::look(view, Source::ALL.into_iter().filter(|source| !source.lives_with_its_holder()))
    }

    /// The sockets that are there now, without a look before: they end with the last process that has them open.
    pub fn sockets(view: &View) -> Vec<HostImage> {
        let sources = Source::ALL.into_iter().filter(|source| source.lives_with_its_holder());
        let nothing = sources.map(|source| (source, Ok(source.nothing()))).collect();
        Self { looks: nothing, listed: Vec::new(), mounts: None }.candidates(view).0
    }

    /// What is there now and was not then, kind by kind; and the kinds that could not be seen then or now.
    #[must_use]
    pub fn candidates(&self, view: &View) -> (Vec<HostImage>, NotVisible) {
        let proc = open(view);
        let (mut found, mut not_visible) = (Vec::new(), NotVisible::new());
        let counts = sysv_counts(view);
        for (source, before) in &self.looks {
            if before.is_ok() && source.is_empty_now(counts) {
                continue;
            }
            if *source == Source::Mounts && before.is_ok() && self.mounts_are_the_same() {
                continue;
            }
            let new = match (before.as_ref(), source.look(view, &proc)) {
                (Ok(before), Ok(after)) => fresh(view, *source, before, after),
                (Err(why), _) => Err(why.clone()),
                (_, Err(why)) => Err(why),
            };
            match new {
                Ok(images) => found.extend(images),
                Err(why) => {
                    for kind in source.kinds() {
                        if !not_visible.iter().any(|(known, _)| known == kind) {
                            not_visible.push((*kind, why.clone()));
                        }
                    }
                }
            }
        }
        for (kind, before) in &self.listed {
            match (before, list(*kind, view)) {
                (Ok(before), Ok(after)) => found.extend(without(before, after)),
                (Err(why), _) => not_visible.push((kind.kind(), why.clone())),
                (_, Err(why)) => not_visible.push((kind.kind(), why)),
            }
        }
        (found, not_visible)
    }
}

impl Before {
    /// Whether the kernel says that no mount came or went: cheaper than reading them all again.
    fn mounts_are_the_same(&self) -> bool {
        let Some(mounts) = &self.mounts else { return false };
        let mut asked = [PollFd::new(mounts, PollFlags::PRI)];
        matches!(poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }
}

/// Whether the view's procfs is the one that the calls of this process are about.
fn is_ours(view: &View) -> bool {
    view.proc == Path::new("/proc")
}

/// How many System V objects of each sort there are: mostly none, and then no table has to be read.
fn sysv_counts(view: &View) -> Option<[u64; 3]> {
    is_ours(view).then(|| sysv::counts().ok()).flatten()
}

fn open(view: &View) -> Result<Proc, String> {
    Proc::open(&view.proc).map_err(|error| format!("{} cannot be opened: {error}", view.proc.display()))
}

/// A kind's census; part of one is none: what was hidden before would look new after.
fn list(kind: &dyn Kind, view: &View) -> Result<Vec<HostImage>, String> {
    let mut found = Vec::new();
    match kind.census(view, &mut found) {
        Visibility::Whole => Ok(found),
        Visibility::NotVisible(why) => Err(why),
    }
}

fn fresh(view: &View, source: Source, before: &Look, after: Look) -> Result<Vec<HostImage>, String> {
    match (before, after) {
        (Look::Table(before), Look::Table(after)) if *before == after => Ok(Vec::new()),
        (Look::Table(before), Look::Table(after)) => match source {
            Source::Mounts => Ok(fresh_mounts(before, &after)),
            Source::Unix => fresh_sockets(view, before),
            _ => Ok(without(&source.images(before), source.images(&after))),
        },
        (Look::Objects(before), Look::Objects(after)) => Ok(without(before, after)),
        (Look::Mounts(before), Look::Table(after)) => mounts_without(before, &after),
        _ => Ok(Vec::new()),
    }
}

/// Those of `after` whose identity `before` does not have.
fn without(before: &[HostImage], mut after: Vec<HostImage>) -> Vec<HostImage> {
    let known: HashSet<&Identity> = before.iter().map(|image| &image.identity).collect();
    after.retain(|image| !known.contains(&image.identity));
    after
}

/// The table shows names inexactly: it only says that something changed, and which inodes were there.
fn fresh_sockets(view: &View, before: &[u8]) -> Result<Vec<HostImage>, String> {
    let known: HashSet<u64> = unix::parse(before).map(|socket| socket.inode).collect();
    let mut now = abstract_socket::all(view)?;
    now.retain(|image| matches!(image.identity, Identity::File { inode, .. } if !known.contains(&inode)));
    Ok(now)
}

/// For kernels without lasting ids.
fn fresh_mounts(before: &[u8], after: &[u8]) -> Vec<HostImage> {
    let key = |mount: &mountinfo::Mount| (mount.id, mount.device, mount.point.clone());
    let known: HashSet<_> = mountinfo::parse(before).map(|mount| key(&mount)).collect();
    images_of_mounts(mountinfo::parse(after).filter(|mount| !known.contains(&key(mount))))
}

/// Those in the table whose lasting ids were not there before.
fn mounts_without(before: &[u64], after: &[u8]) -> Result<Vec<HostImage>, String> {
    let known: HashSet<u64> = before.iter().copied().collect();
    let say =
        |error: Errno| format!("the mounts could be listed before and cannot now: {}", std::io::Error::from(error));
    let mut new = HashSet::new();
    for id in mount_ids::all().map_err(say)?.into_iter().filter(|id| !known.contains(id)) {
        match mount_ids::in_mountinfo(id) {
            Ok(number) => _ = new.insert(number),
            // Gone again: in no table either.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(say(error)),
        }
    }
    Ok(images_of_mounts(mountinfo::parse(after).filter(|mount| new.contains(&mount.id))))
}

/// Lasting ids are asked for new mounts alone: asking takes two calls each.
fn images_of_mounts(new: impl Iterator<Item = mountinfo::Mount>) -> Vec<HostImage> {
    let new = new.filter(|mount| !mount::is_infrastructure(mount));
    new.map(|mount| namespace::image(&mount).unwrap_or_else(|| mount::image(&mount))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rustix::mount::{MountFlags, UnmountFlags};
    use std::net::{TcpListener, UdpSocket};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    fn has(found: &[HostImage], kind: HostKind, id: i32) -> bool {
        let wanted = i64::from(id);
        found.iter().any(|i| i.kind == kind && matches!(i.identity, Identity::Ipc { id, .. } if id == wanted))
    }

    fn named(found: &[HostImage], kind: HostKind, name: &[u8]) -> bool {
        found.iter().any(|image| image.kind == kind && image.name == name)
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
    fn new_sockets_are_found_by_their_exact_names() {
        let view = testing::view();
        let old = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = Before::take(&view);
        let name = [testing::unique("new").as_bytes(), b"\n\xff"].concat();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let unix = UnixListener::bind_addr(&address).unwrap();
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (found, not_visible) = before.candidates(&view);
        assert_eq!(not_visible, []);
        assert!(named(&found, HostKind::AbstractSocket, &[b"@", &name[..]].concat()));
        let listens = |address: String| named(&found, HostKind::Listener, address.as_bytes());
        assert!(listens(format!("tcp {}", tcp.local_addr().unwrap())));
        assert!(listens(format!("udp {}", udp.local_addr().unwrap())));
        assert!(!listens(format!("tcp {}", old.local_addr().unwrap())));
        drop((unix, tcp, udp));
        let (found, _) = before.candidates(&view);
        assert!(!named(&found, HostKind::AbstractSocket, &[b"@", &name[..]].concat()));
    }

    #[test]
    fn a_new_mount_is_found() {
        let view = testing::view();
        let folder = testing::Folder::new("new-mount");
        let before = Before::take(&view);
        if let Err(error) = rustix::mount::mount("kobj-test", folder.path(), c"tmpfs", MountFlags::empty(), c"size=4k")
        {
            return println!("skipped: new mount: tmpfs cannot be mounted: {error}");
        }
        let (found, _) = before.candidates(&view);
        rustix::mount::unmount(folder.path(), UnmountFlags::DETACH).unwrap();
        let name = folder.path().as_os_str().as_bytes();
        assert_eq!(found.iter().filter(|i| i.kind == HostKind::Mount && i.name == name).count(), 1);
        let (found, _) = before.candidates(&view);
        assert!(!named(&found, HostKind::Mount, name));
    }

    #[test]
    fn mounts_for_namespaces_are_told_from_others_and_ips_own_is_no_news() {
        let before = b"36 35 0:20 / /a rw - tmpfs tmpfs rw\n";
        let after = b"36 35 0:20 / /a rw - tmpfs tmpfs rw\n\
            37 35 254:0 /run/netns /run/netns rw - ext4 /dev/vda rw\n\
            38 37 0:4 net:[4026532206] /run/netns/x rw - nsfs nsfs rw\n39 35 0:22 / /b\\040c rw - tmpfs tmpfs rw\n";
        let found = fresh_mounts(before, after);
        assert_eq!(found.len(), 2);
        assert!(named(&found, HostKind::Namespace, b"/run/netns/x"));
        assert!(named(&found, HostKind::Mount, b"/b c"));
    }

    #[test]
    fn a_kind_without_a_table_is_compared_by_its_census() {
        let folder = testing::Folder::new("partitions");
        let view = View { proc: folder.path().to_path_buf(), ..testing::view() };
        let write = |lines: &str| std::fs::write(folder.path().join("partitions"), lines).unwrap();
        write("major minor  #blocks  name\n\n   7        1       1024 loop1\n");
        let before = Before::take(&view);
        write("major minor  #blocks  name\n\n   7        1       1024 loop1\n   7   99001       1024 loop99001\n");
        let (found, not_visible) = before.candidates(&view);
        assert!(named(&found, HostKind::LoopDevice, b"/dev/loop99001"), "{found:?}");
        assert_eq!(found.iter().filter(|image| image.kind == HostKind::LoopDevice).count(), 1);
        assert!(not_visible.iter().all(|(kind, _)| *kind != HostKind::LoopDevice));
        std::fs::remove_file(folder.path().join("partitions")).unwrap();
        let (found, not_visible) = before.candidates(&view);
        assert!(found.iter().all(|image| image.kind != HostKind::LoopDevice));
        assert_eq!(not_visible.iter().filter(|(kind, _)| *kind == HostKind::LoopDevice).count(), 1);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_named_once() {
        let folder = testing::Folder::new("tables");
        let view = View { proc: folder.path().to_path_buf(), ..testing::view() };
        let (_, not_visible) = Before::take(&view).candidates(&view);
        let tables = Source::ALL.iter().filter(|source| source.table().is_some() && **source != Source::Udp6);
        for kind in tables.flat_map(|source| source.kinds()) {
            assert_eq!(not_visible.iter().filter(|(known, _)| known == kind).count(), 1, "{}", kind.name());
        }
    }

    /// Prints what a look costs: `cargo test --release -p kobj-host look_costs -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn look_costs() {
        let view = testing::view();
        let time = |work: &mut dyn FnMut()| {
            let mut best = std::time::Duration::MAX;
            for _ in 0..50 {
                let start = std::time::Instant::now();
                work();
                best = best.min(start.elapsed());
            }
            best
        };
        println!("take {:?}", time(&mut || drop(Before::take(&view))));
        for source in Source::ALL {
            let proc = open(&view);
            println!("{source:?} {:?}", time(&mut || drop(source.look(&view, &proc))));
        }
        let before = Before::take(&view);
        println!("candidates {:?}", time(&mut || drop(before.candidates(&view))));
    }
}
