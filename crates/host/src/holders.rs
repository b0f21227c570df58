//! Who holds an object: one pass over all processes for any number of wanted objects.
//!
//! What a process holds is compared by device and inode as `stat` gives them, never by name. A process that cannot be
//! looked into is counted as unreadable: then "no holder found" means "unknown", not "nobody". Descriptor tables of
//! threads that unshared theirs (`CLONE_FILES` undone) are not looked at.

use crate::classify::path_of;
use crate::kinds::{listener, process};
use crate::proc::{self, Life, Proc, locks, maps, mountinfo};
use crate::view::View;
use crate::{identity, listing, tree};
use kobj_abi::{HoldHow, HostKind};
use kobj_core::image::{Holder, HostImage, Identity};
use kobj_platform::netlink_diag;
use rustix::fs::{RawDir, Statx};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many processes make a second thread worth its start.
const WORTH_A_THREAD: usize = 24;

/// How many files in folders are looked for at most.
const INSIDE_MAX: usize = 10_000;

/// Who holds each of the wanted objects.
#[derive(Debug, Default)]
pub struct Holders {
    /// In the order of the wanted objects; each process once for each way of holding, ascending by process id.
    pub found: Vec<Vec<Holder>>,
    /// How many processes (or kinds of processes, where they are hidden) could not be looked into.
    pub unreadable: usize,
}

impl Holders {
    /// Looks at every process once.
    ///
    /// Files, sockets and namespaces are found by descriptor, mapping, working or root folder and lock; System V
    /// segments by attachment; block devices also by mounts from them; mounts by what is open on them.
    #[must_use]
    pub fn of(view: &View, wanted: &[HostImage]) -> Self {
        Self::find(view, wanted, 0)
    }

    /// The same; a folder is held also by whoever has something that lies in it.
    #[must_use]
    pub fn of_trees(view: &View, wanted: &[HostImage]) -> Self {
        Self::find(view, wanted, INSIDE_MAX)
    }

    fn find(view: &View, wanted: &[HostImage], inside_max: usize) -> Self {
        let mut holders = Self { found: vec![Vec::new(); wanted.len()], unreadable: 0 };
        if wanted.is_empty() {
            return holders;
        }
        let Some((proc, pids)) = Proc::open(&view.proc).and_then(|p| p.pids().map(|pids| (p, pids))).ok() else {
            holders.unreadable = 1;
            return holders;
        };
        let wanted = Wanted::of(view, &proc, wanted, inside_max);
        let pass =
            Pass { proc: &proc, wanted: &wanted, pids: &pids, next: AtomicUsize::new(0), seen: Mutex::default() };
        let mut hits = pass.run(pids.len() > WORTH_A_THREAD);
        hits.by_lock(&wanted, &proc);
        hits.list.sort_unstable_by_key(|hit| (hit.object, hit.pid, hit.how));
        hits.list.dedup();
        let mut commands: HashMap<u32, Vec<u8>> = HashMap::new();
        for hit in &hits.list {
            let name = || proc.life(hit.pid).map(|life| life.command()).unwrap_or_default();
            let command = commands.entry(hit.pid).or_insert_with(name).clone();
            if let Some(list) = holders.found.get_mut(hit.object) {
                list.push(Holder { pid: hit.pid, command, how: hit.how });
            }
        }
        holders.unreadable = hits.unreadable + usize::from(process::hidden(view).is_some());
        holders
    }

    /// Who holds the wanted object of that index.
    #[must_use]
    pub fn of_object(&self, index: usize) -> &[Holder] {
        self.found.get(index).map_or(&[], Vec::as_slice)
    }
}

/// One way in which one process holds one wanted object.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hit {
    object: usize,
    pid: u32,
    how: HoldHow,
}

#[derive(Default)]
struct Hits {
    list: Vec<Hit>,
    unreadable: usize,
}

impl Hits {
    /// Locks of processes whose descriptors could not be read: the kernel's own table names them.
    fn by_lock(&mut self, wanted: &Wanted, proc: &Proc) {
        for lock in &wanted.locks {
            let Some(pid) = lock.pid.filter(|pid| proc.life(*pid).is_ok()) else { continue };
            for &(object, device) in wanted.by_inode.get(&lock.inode).map_or(&[][..], Vec::as_slice) {
                if same_device(device, lock.device) {
                    self.list.push(Hit { object, pid, how: HoldHow::Lock });
                }
            }
        }
    }
}

/// Whether a device number as the kernel's tables print it may be that of `stat`: on file systems without a device of
/// their own the two may differ, so the inode has to do.
fn same_device(stat: u64, table: u64) -> bool {
    stat == table || (rustix::fs::major(stat) == 0 && rustix::fs::major(table) == 0)
}

/// The wanted objects, by what is seen of them.
#[derive(Default)]
struct Wanted {
    /// By device and inode; with how a descriptor of it counts.
    files: HashMap<(u64, u64), Vec<(usize, HoldHow)>>,
    /// The same by inode alone, with the device, for tables that print another one.
    by_inode: HashMap<u64, Vec<(usize, u64)>>,
    segments: HashMap<u64, usize>,
    nodes: HashMap<u64, usize>,
    mounts: HashMap<u64, usize>,
    mount_devices: HashSet<u64>,
    folders: Vec<(usize, Vec<u8>)>,
    maps: bool,
    namespaces: bool,
    bound: bool,
    mount_tables: bool,
    our_mounts: Option<u64>,
    locks: Vec<locks::Lock>,
}

impl Wanted {
    fn of(view: &View, proc: &Proc, images: &[HostImage], inside_max: usize) -> Self {
        let mut wanted = Self::default();
        let mut room = inside_max;
        for (object, image) in images.iter().enumerate() {
            wanted.add(object, image);
            if image.kind == HostKind::TemporaryFolder && room > 0 {
                wanted.add_inside(object, image, &mut room);
            }
        }
        if !wanted.by_inode.is_empty() {
            let table = proc.table("locks").unwrap_or_default();
            wanted.locks = locks::parse(&table).filter(|lock| wanted.by_inode.contains_key(&lock.inode)).collect();
        }
        if wanted.bound {
            wanted.add_bound(images);
        }
        if wanted.mount_tables {
            wanted.our_mounts = rustix::fs::stat(view.proc.join("self/ns/mnt")).ok().map(|stat| stat.st_ino);
        }
        wanted
    }

    fn add(&mut self, object: usize, image: &HostImage) {
        match (image.kind, &image.identity) {
            (kind, Identity::File { device, inode, .. }) => {
                let how = match kind {
                    HostKind::Listener | HostKind::AbstractSocket | HostKind::UnixSocket => HoldHow::Listen,
                    _ => HoldHow::Descriptor,
                };
                self.files.entry((*device, *inode)).or_default().push((object, how));
                let is_socket = how == HoldHow::Listen;
                self.bound |= kind == HostKind::UnixSocket;
                if !is_socket {
                    self.by_inode.entry(*inode).or_default().push((object, *device));
                }
                self.namespaces |= kind == HostKind::Namespace;
                self.maps |= !is_socket && !matches!(kind, HostKind::Namespace | HostKind::Fifo | HostKind::Cgroup);
                if matches!(kind, HostKind::TemporaryFolder | HostKind::Cgroup) {
                    self.folders.push((object, image.name.clone()));
                    self.mount_tables = true;
                }
            }
            (HostKind::SysvSegment, Identity::Ipc { id, .. }) => {
                if let Ok(id) = u64::try_from(*id) {
                    self.segments.insert(id, object);
                    self.maps = true;
                }
            }
            (HostKind::LoopDevice | HostKind::MapperDevice, Identity::Ipc { key, .. }) => {
                if let Ok(node) = u64::try_from(*key) {
                    self.nodes.insert(node, object);
                    self.mount_tables = true;
                }
            }
            (HostKind::Mount, Identity::Ipc { id, key, .. }) => {
                if let (Ok(id), Ok(device)) = (u64::try_from(*id), u64::try_from(*key)) {
                    self.mounts.insert(id, object);
                    self.mount_devices.insert(device);
                    self.folders.push((object, image.name.clone()));
                    self.mount_tables = true;
                    self.maps = true;
                }
            }
            _ => {}
        }
    }

    /// Whoever has something in a folder holds the folder.
    fn add_inside(&mut self, object: usize, image: &HostImage, room: &mut usize) {
        let Identity::File { device, .. } = image.identity else { return };
        let Ok(folder) = listing::open(path_of(image)) else { return };
        let is_asked =
            identity::of_descriptor(folder.as_fd()).is_ok_and(|(_, found)| identity::same(&found, &image.identity));
        let inodes = if is_asked { tree::inodes(folder, *room) } else { Vec::new() };
        *room -= inodes.len();
        for inode in inodes {
            self.files.entry((device, inode)).or_default().push((object, HoldHow::Descriptor));
            self.by_inode.entry(inode).or_default().push((object, device));
        }
    }

    /// A socket that is bound to a file is held by whoever has the socket itself, which is another object.
    fn add_bound(&mut self, images: &[HostImage]) {
        let Some(socket_device) = listener::socket_device() else { return };
        // Inodes and devices are cut to 32 bits in the list.
        let mut by_inode: HashMap<u32, Vec<(usize, u64)>> = HashMap::new();
        for (object, image) in images.iter().enumerate().filter(|(_, image)| image.kind == HostKind::UnixSocket) {
            if let Identity::File { device, inode, .. } = image.identity {
                by_inode.entry(inode as u32).or_default().push((object, device));
            }
        }
        for socket in netlink_diag::unix_sockets().unwrap_or_default() {
            // An accepted connection bears the name and the file of its listener too.
            let Some((device, inode)) = socket.file.filter(|_| socket.state != netlink_diag::ESTABLISHED) else {
                continue;
            };
            for &(object, wanted) in by_inode.get(&inode).map_or(&[][..], Vec::as_slice) {
                // The device is the kernel's own, which `stat` may show otherwise.
                let kernel = (rustix::fs::major(wanted) << 20) | rustix::fs::minor(wanted);
                let named = images.get(object).is_some_and(|image| socket.name.as_ref() == Some(&image.name));
                if device == kernel || named {
                    let of_socket = self.files.entry((socket_device, socket.inode)).or_default();
                    of_socket.push((object, HoldHow::Listen));
                }
            }
        }
    }

    /// Calls `hit` for each wanted object that a look has found.
    fn match_look(&self, look: &Statx, mut hit: impl FnMut(usize, HoldHow)) {
        if let Some(objects) = self.files.get(&(proc::device_of(look), look.stx_ino)) {
            objects.iter().for_each(|&(object, how)| hit(object, how));
        }
        if !self.nodes.is_empty()
            && let Some(&object) = self.nodes.get(&proc::node_of(look))
            && look.stx_mode & 0o170_000 == 0o060_000
        {
            hit(object, HoldHow::Descriptor);
        }
        if !self.mounts.is_empty()
            && let Some(&object) = self.mounts.get(&look.stx_mnt_id)
        {
            hit(object, HoldHow::Descriptor);
        }
    }
}

/// One pass, shared by its threads: each takes the next process that nobody has taken.
struct Pass<'a> {
    proc: &'a Proc,
    wanted: &'a Wanted,
    pids: &'a [u32],
    next: AtomicUsize,
    /// Mount namespaces whose table was read.
    seen: Mutex<HashSet<u64>>,
}

impl Pass<'_> {
    fn run(&self, two: bool) -> Hits {
        if !two {
            return self.work();
        }
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().spawn_scoped(scope, || self.work());
            let mut hits = self.work();
            match helper.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(more)) => {
                    hits.list.extend(more.list);
                    hits.unreadable += more.unreadable;
                }
                // What a thread that ended badly had taken was not looked at.
                Ok(Err(_)) => hits.unreadable += 1,
                Err(_) => {}
            }
            hits
        })
    }

    fn work(&self) -> Hits {
        let mut hits = Hits::default();
        // Relaxed: only the number must be handed out once; what was found is handed over by the join.
        while let Some(&pid) = self.pids.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let life = match self.proc.life(pid) {
                Ok(life) => life,
                Err(error) => {
                    hits.unreadable += usize::from(error.kind() == ErrorKind::PermissionDenied);
                    continue;
                }
            };
            if !self.look_into(&life, &mut hits) {
                let nothing_in_it = life.stat().is_some_and(|stat| stat.is_kernel_thread() || stat.is_dead());
                hits.unreadable += usize::from(!nothing_in_it);
            }
        }
        hits
    }

    /// Whether all of the process could be looked at. One that ends meanwhile holds nothing.
    fn look_into(&self, life: &Life, hits: &mut Hits) -> bool {
        let pid = life.pid;
        let by_descriptor = self.descriptors(life, hits);
        for name in ["cwd", "root"] {
            if let Ok(look) = life.leads_to(name) {
                self.wanted.match_look(&look, |object, _| hits.list.push(Hit { object, pid, how: HoldHow::Cwd }));
            }
        }
        if self.wanted.namespaces {
            self.namespaces(life, hits);
        }
        if self.wanted.mount_tables {
            self.mount_table(life, hits);
        }
        let by_map = !self.wanted.maps || self.mappings(life, hits);
        by_descriptor && by_map
    }

    fn descriptors(&self, life: &Life, hits: &mut Hits) -> bool {
        let folder = match life.subfolder("fd") {
            Ok(folder) => folder,
            Err(error) => return error.kind() != ErrorKind::PermissionDenied,
        };
        let mut space = [MaybeUninit::<u8>::uninit(); 32 << 10];
        let mut entries = RawDir::new(&folder, &mut space);
        let mut readable = true;
        let pid = life.pid;
        while let Some(entry) = entries.next() {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            match proc::look(&folder, name) {
                Ok(look) => self.wanted.match_look(&look, |object, how| {
                    hits.list.push(Hit { object, pid, how });
                    if !self.wanted.locks.is_empty() && self.is_locked(life, name.to_bytes(), look.stx_ino) {
                        hits.list.push(Hit { object, pid, how: HoldHow::Lock });
                    }
                }),
                Err(Errno::ACCESS | Errno::PERM) => readable = false,
                Err(_) => {}
            }
        }
        readable
    }

    /// Whether the descriptor has a lock on the file, by its fdinfo: the only place that names a description's lock.
    fn is_locked(&self, life: &Life, descriptor: &[u8], inode: u64) -> bool {
        let name = [b"fdinfo/", descriptor].concat();
        life.read(name.as_slice(), proc::SMALL)
            .is_ok_and(|text| locks::of_descriptor(&text).any(|lock| lock.inode == inode))
    }

    fn namespaces(&self, life: &Life, hits: &mut Hits) {
        for name in ["ns/net", "ns/mnt", "ns/user", "ns/pid", "ns/ipc", "ns/uts", "ns/cgroup", "ns/time"] {
            if let Ok(look) = life.leads_to(name) {
                let pid = life.pid;
                self.wanted.match_look(&look, |object, _| hits.list.push(Hit { object, pid, how: HoldHow::Cwd }));
            }
        }
    }

    /// Mounts from or on a wanted object, once for each mount namespace, in the name of the first process found in it.
    fn mount_table(&self, life: &Life, hits: &mut Hits) {
        let Ok(look) = life.leads_to("ns/mnt") else { return };
        let known = self.seen.lock().is_ok_and(|seen| seen.contains(&look.stx_ino));
        // The kernel's own threads live in the first namespace and use nothing in it.
        if known || life.stat().is_none_or(|stat| stat.is_kernel_thread()) {
            return;
        }
        if !self.seen.lock().is_ok_and(|mut seen| seen.insert(look.stx_ino)) {
            return;
        }
        let Ok(table) = life.read("mountinfo", proc::TABLE) else { return };
        let ours = self.wanted.our_mounts == Some(look.stx_ino);
        let pid = life.pid;
        for mount in mountinfo::parse(&table) {
            if let Some(&object) = self.wanted.nodes.get(&mount.device) {
                hits.list.push(Hit { object, pid, how: HoldHow::Mount });
            }
            // Paths of another namespace are other paths.
            for (object, folder) in self.wanted.folders.iter().filter(|_| ours) {
                let below = mount.point.strip_prefix(folder.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
                let on_it = mount.point == *folder && !self.wanted.mounts.values().any(|m| m == object);
                if below || on_it {
                    hits.list.push(Hit { object: *object, pid, how: HoldHow::Mount });
                }
            }
        }
    }

    fn mappings(&self, life: &Life, hits: &mut Hits) -> bool {
        let text = match life.read("maps", proc::TABLE) {
            Ok(text) => text,
            Err(error) => return error.kind() != ErrorKind::PermissionDenied,
        };
        let pid = life.pid;
        for map in maps::parse(&text) {
            if map.path.starts_with(b"/SYSV")
                && let Some(&object) = self.wanted.segments.get(&map.inode)
            {
                hits.list.push(Hit { object, pid, how: HoldHow::Attach });
            }
            let objects = self.wanted.by_inode.get(&map.inode).map_or(&[][..], Vec::as_slice);
            let on_mount = self.wanted.mount_devices.contains(&map.device);
            if objects.is_empty() && !on_mount {
                continue;
            }
            match life.leads_to(&map_file(&map)) {
                Ok(look) => self.wanted.match_look(&look, |object, _| {
                    hits.list.push(Hit { object, pid, how: HoldHow::Map });
                }),
                // Not allowed to follow it: the printed numbers have to do, and a doubt counts as a holder.
                Err(_) => {
                    for &(object, device) in objects {
                        if same_device(device, map.device) {
                            hits.list.push(Hit { object, pid, how: HoldHow::Map });
                        }
                    }
                }
            }
        }
        true
    }
}

/// The mapping's name under `map_files`: the same addresses without leading zeroes.
fn map_file(map: &maps::Map<'_>) -> String {
    let mut name = String::from("map_files/");
    for (index, address) in map.range.split(|byte| *byte == b'-').enumerate() {
        if index > 0 {
            name.push('-');
        }
        let digits = address.iter().position(|byte| *byte != b'0').map_or(&b"0"[..], |first| &address[first..]);
        name.extend(digits.iter().map(|byte| *byte as char));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn image_of(path: &Path, kind: HostKind) -> HostImage {
        let stat = std::fs::metadata(path).unwrap();
        let identity = Identity::File { device: stat.dev(), inode: stat.ino(), handle: None, born: None };
        HostImage::new(kind, path.as_os_str().as_encoded_bytes().to_vec(), identity)
    }

    fn ways(holders: &Holders, object: usize, pid: u32) -> Vec<HoldHow> {
        holders.of_object(object).iter().filter(|h| h.pid == pid).map(|h| h.how).collect()
    }

    #[test]
    fn each_way_of_holding_a_file_is_told_apart() {
        let folder = testing::Folder::new("ways");
        let names = ["open", "mapped", "gone", "posix", "ofd", "flock", "free"];
        for name in names {
            std::fs::write(folder.path().join(name), [0; 4096]).unwrap();
        }
        let text = "
import os, sys, mmap, fcntl, struct
os.chdir(sys.argv[1])
a = os.open('open', os.O_RDONLY)
def mapped(name):
    fd = os.open(name, os.O_RDWR); m = mmap.mmap(fd, 4096); os.close(fd); return m
b = mapped('mapped'); c = mapped('gone')
d = open('posix', 'r+'); fcntl.lockf(d, fcntl.LOCK_EX)
e = open('ofd', 'r+'); fcntl.fcntl(e, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
f = open('flock'); fcntl.flock(f, fcntl.LOCK_SH)
print('up', flush=True); sys.stdin.read()";
        let mut child = Python::start(text, &[folder.path().to_str().unwrap()]);
        assert_eq!(child.line(), "up");
        let mut wanted: Vec<_> =
            names.iter().map(|name| image_of(&folder.path().join(name), HostKind::TemporaryFile)).collect();
        wanted.push(image_of(folder.path(), HostKind::TemporaryFolder));
        std::fs::remove_file(folder.path().join("gone")).unwrap();
        let holders = Holders::of(&testing::view(), &wanted);
        let of = |object| ways(&holders, object, child.pid());
        assert_eq!(of(0), [HoldHow::Descriptor]);
        assert_eq!(of(1), [HoldHow::Descriptor, HoldHow::Map], "Python keeps a copy of the descriptor");
        assert!(of(2).contains(&HoldHow::Map), "deleted: {:?}", of(2));
        for (object, name) in names.iter().enumerate().take(6).skip(3) {
            assert_eq!(of(object), [HoldHow::Descriptor, HoldHow::Lock], "{name}");
        }
        assert_eq!(of(6), []);
        assert!(holders.of_object(6).is_empty());
        assert_eq!(of(7), [HoldHow::Cwd]);
        let trees = Holders::of_trees(&testing::view(), &wanted);
        let inside = [HoldHow::Descriptor, HoldHow::Map, HoldHow::Lock, HoldHow::Cwd];
        let found = ways(&trees, 7, child.pid());
        assert!(inside.iter().all(|how| found.contains(how)), "whoever has something in it: {found:?}");
        assert_eq!(holders.of_object(0)[0].command, b"python3");
    }

    #[test]
    fn descriptors_are_found_wherever_they_lie_in_the_table() {
        let folder = testing::Folder::new("table");
        let numbers = [0, 3, 4, 9, 200, 900];
        let paths: Vec<_> = numbers.iter().map(|number| folder.path().join(number.to_string())).collect();
        paths.iter().for_each(|path| std::fs::write(path, "").unwrap());
        let wanted: Vec<_> = paths.iter().map(|path| image_of(path, HostKind::TemporaryFile)).collect();
        // Dense with gaps behind; then with the gaps at once.
        for dense in [150, 0] {
            let text = "
import os, sys, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
os.dup2(0, 1000); numbers = [0, 3, 4, 9, 200, 900]
for number in range(int(sys.argv[2])): number in (0, 1, 2) or os.dup2(2, number)
for number in numbers:
    fd = os.open(f'{sys.argv[1]}/{number}', os.O_RDONLY)
    if fd != number: os.dup2(fd, number); os.close(fd)
print('up', flush=True); os.read(1000, 1)";
            let mut child = Python::start(text, &[folder.path().to_str().unwrap(), &dense.to_string()]);
            assert_eq!(child.line(), "up");
            let holders = Holders::of(&testing::view(), &wanted);
            for (object, number) in numbers.iter().enumerate() {
                let found = ways(&holders, object, child.pid());
                assert_eq!(found, [HoldHow::Descriptor], "descriptor {number} of a table dense to {dense}");
            }
        }
    }

    #[test]
    fn a_bound_socket_is_held_by_who_listens_and_not_by_who_is_connected() {
        let folder = testing::Folder::new("bound");
        let path = folder.path().join("socket");
        let text = "import sys, socket\ns = socket.socket(1, 1)\nif sys.argv[2] == 's': s.bind(sys.argv[1]); s.listen()\n\
                    else: s.connect(sys.argv[1])\nprint('up', flush=True)\nsys.stdin.read()";
        let start = |role: &str| {
            let mut child = Python::start(text, &[path.to_str().unwrap(), role]);
            assert_eq!(child.line(), "up");
            child
        };
        let server = start("s");
        let wanted = [image_of(&path, HostKind::UnixSocket)];
        let client = start("c");
        let holders = Holders::of(&testing::view(), &wanted);
        assert_eq!(ways(&holders, 0, server.pid()), [HoldHow::Listen]);
        assert_eq!(ways(&holders, 0, client.pid()), []);
    }

    #[test]
    fn a_mapping_is_not_taken_for_another_file_of_the_same_inode() {
        let folder = testing::Folder::new("inode");
        let path = folder.path().join("a");
        std::fs::write(&path, [0; 4096]).unwrap();
        let mut other = image_of(&path, HostKind::TemporaryFile);
        if let Identity::File { device, .. } = &mut other.identity {
            *device ^= 1;
        }
        let text = "import os,sys,mmap\nfd=os.open(sys.argv[1],2);m=mmap.mmap(fd,4096)\nprint('up',flush=True)\nsys.stdin.read()";
        let mut child = Python::start(text, &[path.to_str().unwrap()]);
        child.line();
        let holders = Holders::of(&testing::view(), &[other, image_of(&path, HostKind::TemporaryFile)]);
        assert_eq!(ways(&holders, 0, child.pid()), []);
        assert!(ways(&holders, 1, child.pid()).contains(&HoldHow::Map));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_never_nobody() {
        let folder = testing::Folder::new("unreadable");
        let life = folder.path().join("4711");
        std::fs::create_dir_all(life.join("fd")).unwrap();
        std::fs::write(life.join("stat"), b"4711 (a) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 1 2 3\n").unwrap();
        let view = View { proc: folder.path().to_path_buf(), ..testing::view() };
        let wanted = [image_of(folder.path(), HostKind::TemporaryFolder)];
        let seen = Holders::of(&view, &wanted);
        assert_eq!(
            (seen.unreadable, seen.of_object(0).len()),
            (0, 0),
            "a file that is gone is that of an ended process"
        );
        // Processes that are not even listed count too.
        std::fs::create_dir(folder.path().join("self")).unwrap();
        let line = format!("20 19 0:5 / {} rw - proc proc rw,hidepid=2\n", folder.path().display());
        std::fs::write(folder.path().join("self/mountinfo"), line).unwrap();
        assert_eq!(Holders::of(&view, &wanted).unreadable, 1);
        let nowhere = View { proc: folder.path().join("none"), ..testing::view() };
        assert_eq!(Holders::of(&nowhere, &wanted).unreadable, 1);
        testing::as_another_user("holders::tests::as_another_user_the_rest_is_unreadable");
    }

    #[test]
    #[ignore = "run as another user by the test above"]
    fn as_another_user_the_rest_is_unreadable() {
        assert!(!rustix::process::geteuid().is_root());
        // A process of root's cannot be looked into; the kernel's own threads and the dead hold nothing.
        let wanted = [image_of(Path::new("/"), HostKind::TemporaryFolder)];
        let seen = Holders::of(&testing::view(), &wanted);
        let all = Proc::open(Path::new("/proc")).unwrap().pids().unwrap().len();
        assert!(seen.unreadable > 0 && seen.unreadable < all, "{} of {all}", seen.unreadable);
    }
}
