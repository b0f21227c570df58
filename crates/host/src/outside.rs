//! Which leftover processes of a job serve somebody outside it.
//!
//! A process serves an outsider if a socket of it is connected to one, if a pipe or a piece of shared memory of it is
//! open there too, or if it shows something on a terminal whose other side is there. What the command inherited from
//! whoever started it connects nobody: the caller names those objects. A peer that is there but whose process cannot be
//! found is an outsider with process id 0: unknown is never nobody.
//!
//! A process of the job whose descriptors cannot be read (one that is not dumpable) is judged by the sockets of its user
//! that no readable process has: what else it may have got from outside after its start stays unseen.

use crate::proc::{self, Life, Proc, fdinfo, inet, maps, unix};
use crate::view::View;
use kobj_abi::HoldHow;
use kobj_core::image::Holder;
use kobj_platform::late_close::close_late;
use kobj_platform::netlink_diag::{self, ESTABLISHED, InetSocket, LISTEN, UnixSocket};
use rustix::event::{Timespec, poll};
use rustix::fs::{RawDir, Statx};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::net::SocketAddr;

/// A TCP peer closed its side and may still wait for the answer.
const CLOSE_WAIT: u8 = inet::CLOSE_WAIT;
/// The states of TCP sockets that matter here.
const INET_STATES: [u8; 3] = [ESTABLISHED, CLOSE_WAIT, LISTEN];
/// A unix socket of datagrams: connecting one only sets where its messages go.
const DATAGRAMS: u8 = 2;
/// The majors of the slave sides of terminals, and the number of the master sides.
const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;
const MASTER: (u32, u32) = (5, 2);
/// `O_CLOEXEC` as fdinfo prints it.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// For each process of `job` that serves somebody outside, whom. Processes that serve nobody are not in the map.
///
/// `inherited` are the objects (device, inode) that the job's command got from outside when it was started. kobj itself
/// is nobody. A [`Holder`] with process id 0 is a remote host or a process that could not be found; `command` says which.
///
/// Who serves a process that itself serves a known outsider serves him too: a terminal server's programs are what its
/// client looks at.
#[must_use]
pub fn serves_outside(view: &View, job: &HashSet<u32>, inherited: &HashSet<(u64, u64)>) -> HashMap<u32, Vec<Holder>> {
    serves_after(view, job, inherited, &mut || {
        // To close a socket makes the kernel collect those that only travel in each other.
        close_late(Vec::new());
        let moment = Timespec { tv_sec: 0, tv_nsec: MOMENT_NS };
        let _ = poll(&mut [], Some(&moment));
    })
}

/// As [`serves_outside`], with what is done between two looks.
fn serves_after(
    view: &View,
    job: &HashSet<u32>,
    inherited: &HashSet<(u64, u64)>,
    wait: &mut dyn FnMut(),
) -> HashMap<u32, Vec<Holder>> {
    for _ in 1..LOOKS {
        let served = serves(view, job, inherited);
        if served.values().flatten().all(|holder| holder.command != UNSEEN) {
            return served;
        }
        wait();
    }
    serves(view, job, inherited)
}

fn serves(view: &View, job: &HashSet<u32>, inherited: &HashSet<(u64, u64)>) -> HashMap<u32, Vec<Holder>> {
    let mut served = serves_directly(view, job, inherited);
    let mut inside = job.clone();
    loop {
        let known = |pid: &u32| served.get(pid).is_some_and(|holders| holders.iter().any(|holder| holder.pid != 0));
        let before = inside.len();
        inside.retain(|pid| !known(pid));
        if inside.len() == before || inside.is_empty() {
            return served;
        }
        for (pid, holders) in serves_directly(view, &inside, inherited) {
            served.entry(pid).or_insert(holders);
        }
    }
}

fn serves_directly(view: &View, job: &HashSet<u32>, inherited: &HashSet<(u64, u64)>) -> HashMap<u32, Vec<Holder>> {
    let mut served = Served::default();
    let Ok(proc) = Proc::open(&view.proc) else {
        job.iter().for_each(|pid| served.unknown(*pid, "the process table cannot be read"));
        return served.0;
    };
    let ours = Ours::of(view, &proc, job, inherited, &mut served);
    let links = ours.links(view, &mut served);
    if !links.is_empty() {
        look_outside(&proc, job, &links, &mut served);
    }
    served.0
}

/// What a command that is started now inherits: the objects behind our own descriptors that survive an exec.
#[must_use]
pub fn inherited(view: &View) -> HashSet<(u64, u64)> {
    let mut given = HashSet::new();
    let Ok(own) = Proc::open(&view.proc).and_then(|proc| proc.life(std::process::id())) else { return given };
    each_descriptor(&own, |name, look| {
        let info = own.read([b"fdinfo/", name].concat().as_slice(), proc::SMALL).map(|text| fdinfo::parse(&text));
        let closed_on_exec = info.ok().and_then(|info| info.flags).is_some_and(|flags| flags & CLOSE_ON_EXEC != 0);
        if !closed_on_exec {
            given.insert((proc::device_of(look), look.stx_ino));
        }
    });
    given
}

/// What stands for the holder of a socket that nobody is seen to have. He hides, or lives in another PID namespace; or
/// there is none any more: the sockets of a process that has just ended, and those in messages that nobody will read, are
/// let go a moment later. So such an answer is asked for again.
const UNSEEN: &[u8] = b"unknown (a process that cannot be seen)";
/// How often at most is looked while a holder is not seen.
const LOOKS: usize = 4;
/// How long between two such looks.
const MOMENT_NS: i64 = 12_000_000;

/// Whom each process of the job serves.
#[derive(Default)]
struct Served(HashMap<u32, Vec<Holder>>);

impl Served {
    fn add(&mut self, servers: &[u32], holder: &Holder) {
        for server in servers {
            let list = self.0.entry(*server).or_default();
            if !list.contains(holder) {
                list.push(holder.clone());
            }
        }
    }

    fn unknown(&mut self, server: u32, why: &str) {
        self.add(&[server], &Holder { pid: 0, command: why.as_bytes().to_vec(), how: HoldHow::Descriptor });
    }
}

/// What an object is to the processes of the job that have it: they, each once.
type Servers<K> = HashMap<K, Vec<u32>>;

fn note<K: std::hash::Hash + Eq>(servers: &mut Servers<K>, key: K, pid: u32) {
    let list = servers.entry(key).or_default();
    if list.last() != Some(&pid) {
        list.push(pid);
    }
}

/// What the job's processes have that could lead outside.
#[derive(Default)]
struct Ours {
    /// By inode; without those that were inherited.
    sockets: Servers<u64>,
    /// All of them: a connection between two of these stays inside.
    inside: HashSet<u64>,
    pipes: Servers<(u64, u64)>,
    memory: Servers<(u64, u64)>,
    segments: Servers<u64>,
    /// By the terminal's number under `/dev/pts`.
    terminals: Servers<u32>,
    /// Processes whose descriptors cannot be read, with their users.
    unreadable: Vec<(u32, u32)>,
    /// A process for each other network namespace that processes of the job live in.
    elsewhere: HashMap<u64, u32>,
}

/// What to look for in the processes outside: each leads to the processes of the job on the other end.
#[derive(Default)]
struct Links {
    peers: Servers<u64>,
    pipes: Servers<(u64, u64)>,
    memory: Servers<(u64, u64)>,
    segments: Servers<u64>,
    terminals: Servers<u32>,
    remote: Vec<(SocketAddr, Vec<u32>)>,
    /// Connected sockets that may be those of an unreadable process of the job, each with the socket it is connected to.
    /// They are if nobody else has them.
    suspects: Vec<Suspect>,
}

/// A connected socket of the user of an unreadable process.
struct Suspect {
    inode: u64,
    peer: Option<u64>,
    remote: Option<SocketAddr>,
    servers: Vec<u32>,
}

impl Links {
    fn is_empty(&self) -> bool {
        self.peers.is_empty()
            && self.pipes.is_empty()
            && self.memory.is_empty()
            && self.segments.is_empty()
            && self.terminals.is_empty()
            && self.remote.is_empty()
            && self.suspects.is_empty()
    }

    fn maps(&self) -> bool {
        !self.memory.is_empty() || !self.segments.is_empty()
    }
}

impl Ours {
    fn of(view: &View, proc: &Proc, job: &HashSet<u32>, inherited: &HashSet<(u64, u64)>, served: &mut Served) -> Self {
        let mut ours = Self::default();
        let our_network = rustix::fs::stat(view.proc.join("self/ns/net")).map(|stat| stat.st_ino).ok();
        for pid in job {
            let Ok(life) = proc.life(*pid) else { continue };
            let Some(stat) = life.stat() else { continue };
            if stat.is_dead() {
                continue;
            }
            let readable = each_descriptor(&life, |_, look| {
                let key = (proc::device_of(look), look.stx_ino);
                let given = inherited.contains(&key);
                match look.stx_mode & 0o170_000 {
                    0o140_000 => {
                        ours.inside.insert(look.stx_ino);
                        if !given {
                            note(&mut ours.sockets, look.stx_ino, *pid);
                        }
                    }
                    0o010_000 if !given => note(&mut ours.pipes, key, *pid),
                    0o020_000 if !given => {
                        // In the background of its own terminal it shows nothing.
                        let background = stat.terminal == packed(look) && stat.foreground != stat.group as i32;
                        if let Some(number) = terminal_of(look).filter(|_| !background) {
                            note(&mut ours.terminals, number, *pid);
                        }
                    }
                    _ => {}
                }
            });
            let mapped = life.read("maps", proc::TABLE);
            match &mapped {
                Ok(text) if readable => ours.mappings(view, text, *pid, inherited),
                _ if life.stat().is_none_or(|stat| stat.is_dead()) => {}
                _ => match life.read("status", proc::SMALL).ok().and_then(|text| proc::status::parse(&text).uid) {
                    Some(uid) => ours.unreadable.push((*pid, uid)),
                    None => served.unknown(*pid, "unknown (it cannot be looked into)"),
                },
            }
            if let Ok(look) = life.leads_to("ns/net")
                && our_network.is_some_and(|network| network != look.stx_ino)
            {
                ours.elsewhere.insert(look.stx_ino, *pid);
            }
        }
        ours
    }

    /// Memory that this process may write and others may see.
    fn mappings(&mut self, view: &View, text: &[u8], pid: u32, inherited: &HashSet<(u64, u64)>) {
        for map in maps::parse(text).filter(|map| map.shared && map.writable) {
            if map.path.starts_with(b"/SYSV") {
                note(&mut self.segments, map.inode, pid);
            } else if is_memory(view, map.path) && !inherited.contains(&(map.device, map.inode)) {
                note(&mut self.memory, (map.device, map.inode), pid);
            }
        }
    }

    fn links(self, view: &View, served: &mut Served) -> Links {
        let mut links = Links::default();
        if !self.sockets.is_empty() || !self.unreadable.is_empty() {
            let unix = netlink_diag::unix_sockets();
            let unknown_peers = unix.is_err();
            let unix = unix.unwrap_or_default();
            self.unix_links(&unix, &mut links);
            let known: HashSet<u64> = unix.iter().map(|socket| socket.inode).collect();
            let others = self.sockets.keys().any(|inode| !known.contains(inode));
            if unknown_peers || others || !self.unreadable.is_empty() {
                let sockets = inet_sockets(view);
                self.inet_links(&sockets, &mut links);
                self.suspects(&unix, &sockets, &mut links);
            }
            if others {
                self.elsewhere(view, &mut links, served);
            }
        }
        Links { pipes: self.pipes, memory: self.memory, segments: self.segments, terminals: self.terminals, ..links }
    }

    /// The connected sockets of the users of unreadable processes. What no readable process has may be theirs.
    fn suspects(&self, unix: &[UnixSocket], inet: &[InetSocket], links: &mut Links) {
        let of = |uid: u32| -> Vec<u32> {
            self.unreadable.iter().filter(|(_, user)| *user == uid).map(|(pid, _)| *pid).collect()
        };
        let inside = |inode: u64| self.inside.contains(&inode);
        for socket in unix.iter().filter(|socket| !inside(socket.inode)) {
            let servers = socket.uid.map(of).unwrap_or_default();
            let ends = socket.peer.iter().chain(&socket.pending).filter(|peer| !inside(**peer));
            if !servers.is_empty() {
                links.suspects.extend(ends.map(|peer| Suspect {
                    inode: socket.inode,
                    peer: Some(*peer),
                    remote: None,
                    servers: servers.clone(),
                }));
            }
        }
        for socket in inet.iter().filter(|s| s.state == ESTABLISHED && s.inode != 0 && !inside(s.inode)) {
            let servers = of(socket.uid);
            if !servers.is_empty() {
                let remote = Some(canonical(socket.remote));
                links.suspects.push(Suspect { inode: socket.inode, peer: None, remote, servers });
            }
        }
    }

    /// Sockets made in another network namespace are in that one's tables, which have no peers for unix sockets.
    fn elsewhere(&self, view: &View, links: &mut Links, served: &mut Served) {
        for pid in self.elsewhere.values() {
            let table = |name: &str| {
                let path = view.proc.join(pid.to_string()).join("net").join(name);
                proc::read(&path, proc::TABLE).unwrap_or_default()
            };
            let mut sockets = Vec::new();
            for name in ["tcp", "tcp6"] {
                sockets.extend(inet::parse(&table(name)).map(|socket| InetSocket {
                    local: socket.local,
                    remote: socket.remote,
                    state: socket.state,
                    uid: socket.uid,
                    inode: socket.inode,
                }));
            }
            sockets.retain(|socket| INET_STATES.contains(&socket.state));
            self.inet_links(&sockets, links);
            let unix = table("unix");
            let connected: Vec<u64> =
                unix::parse(&unix).filter(|socket| socket.connected).map(|socket| socket.inode).collect();
            // If all who are connected there are the job's, they are so with each other.
            if connected.iter().any(|inode| !self.inside.contains(inode)) {
                for server in connected.iter().filter_map(|inode| self.sockets.get(inode)).flatten() {
                    served.unknown(*server, "unknown (connected in another network namespace)");
                }
            }
        }
    }

    fn unix_links(&self, sockets: &[UnixSocket], links: &mut Links) {
        let mut link = |servers: &[u32], peer: u64| servers.iter().for_each(|pid| note(&mut links.peers, peer, *pid));
        let outside = |inode: &u64| !self.inside.contains(inode);
        for socket in sockets {
            if let Some(servers) = self.sockets.get(&socket.inode) {
                // A socket of datagrams that only sends somewhere (a log) serves nobody.
                if let Some(peer) = socket.peer.filter(outside)
                    && socket.kind != DATAGRAMS
                {
                    link(servers, peer);
                }
                socket.pending.iter().filter(|inode| outside(inode)).for_each(|inode| link(servers, *inode));
            } else if outside(&socket.inode)
                && let Some(servers) = socket.peer.and_then(|peer| self.sockets.get(&peer))
            {
                link(servers, socket.inode);
            }
        }
    }

    fn inet_links(&self, sockets: &[InetSocket], links: &mut Links) {
        let ends = |socket: &InetSocket| (canonical(socket.local), canonical(socket.remote));
        let by_ends: HashMap<_, _> = sockets.iter().map(|socket| (ends(socket), socket)).collect();
        let listeners: Vec<_> = sockets.iter().filter(|socket| socket.state == LISTEN).collect();
        // A connection that was not accepted yet has no inode: it is its listener's.
        let owners = |socket: &InetSocket| -> Option<&[u32]> {
            let inode = if socket.inode != 0 {
                socket.inode
            } else {
                let (local, _) = ends(socket);
                let accepts = |l: &&&InetSocket| {
                    l.local.port() == local.port()
                        && (l.local.ip().is_unspecified() || canonical(l.local).ip() == local.ip())
                };
                listeners.iter().find(accepts)?.inode
            };
            self.sockets.get(&inode).map(Vec::as_slice)
        };
        for socket in sockets.iter().filter(|socket| socket.state != LISTEN) {
            let Some(servers) = owners(socket) else { continue };
            let (local, remote) = ends(socket);
            match by_ends.get(&(remote, local)) {
                Some(peer) if self.inside.contains(&peer.inode) || owners(peer).is_some() => {}
                Some(peer) if peer.inode != 0 => {
                    servers.iter().for_each(|pid| note(&mut links.peers, peer.inode, *pid));
                }
                _ if socket.state == ESTABLISHED => links.remote.push((remote, servers.to_vec())),
                _ => {}
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The TCP sockets that listen or are connected; by text where the kernel lacks the list.
fn inet_sockets(view: &View) -> Vec<InetSocket> {
    if let Ok(sockets) = netlink_diag::tcp_sockets(INET_STATES.iter().map(|state| 1 << state).sum()) {
        return sockets;
    }
    let mut sockets = Vec::new();
    for name in ["self/net/tcp", "self/net/tcp6"] {
        let table = proc::read(&view.proc.join(name), proc::TABLE).unwrap_or_default();
        sockets.extend(inet::parse(&table).filter(|socket| INET_STATES.contains(&socket.state)).map(|socket| {
            InetSocket {
                local: socket.local,
                remote: socket.remote,
                state: socket.state,
                uid: socket.uid,
                inode: socket.inode,
            }
        }));
    }
    sockets
}

/// Whether a mapping of this path is memory meant for sharing, and not a file, a device or a cache.
fn is_memory(view: &View, path: &[u8]) -> bool {
    path.starts_with(b"/memfd:")
        || path == b"/dev/zero (deleted)"
        || view.segment_folders.iter().any(|folder| {
            path.strip_prefix(folder.as_os_str().as_encoded_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
        })
}

fn terminal_of(look: &Statx) -> Option<u32> {
    let offset = look.stx_rdev_major.checked_sub(*TERMINALS.start())?;
    TERMINALS.contains(&look.stx_rdev_major).then(|| offset * 256 + look.stx_rdev_minor)
}

/// A device number as `/proc/PID/stat` prints the terminal's.
fn packed(look: &Statx) -> u32 {
    let (major, minor) = (look.stx_rdev_major, look.stx_rdev_minor);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Looks at each descriptor; whether all could be looked at. A process that has ended has none.
fn each_descriptor(life: &Life, mut visit: impl FnMut(&[u8], &Statx)) -> bool {
    let folder = match life.subfolder("fd") {
        Ok(folder) => folder,
        Err(error) => return error.kind() != std::io::ErrorKind::PermissionDenied,
    };
    let mut space = [MaybeUninit::<u8>::uninit(); 32 << 10];
    let mut entries = RawDir::new(&folder, &mut space);
    let mut readable = true;
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        match proc::look(&folder, name) {
            Ok(look) => visit(name.to_bytes(), &look),
            Err(Errno::ACCESS | Errno::PERM) => readable = false,
            Err(_) => {}
        }
    }
    readable
}

/// Finds the other ends among all processes that are not the job's.
fn look_outside(proc: &Proc, job: &HashSet<u32>, links: &Links, served: &mut Served) {
    let us = std::process::id();
    let mut unseen: HashSet<u64> = links.peers.keys().copied().collect();
    // Who has which socket; only needed where a process of the job cannot be read.
    let mut owners: HashMap<u64, u32> = HashMap::new();
    for pid in proc.pids().unwrap_or_default() {
        if job.contains(&pid) {
            continue;
        }
        let Ok(life) = proc.life(pid) else { continue };
        let mut hits: Vec<(&[u32], HoldHow)> = Vec::new();
        each_descriptor(&life, |name, look| {
            let key = (proc::device_of(look), look.stx_ino);
            let servers = match look.stx_mode & 0o170_000 {
                0o140_000 => {
                    unseen.remove(&look.stx_ino);
                    if !links.suspects.is_empty() {
                        owners.insert(look.stx_ino, pid);
                    }
                    links.peers.get(&look.stx_ino)
                }
                0o010_000 => links.pipes.get(&key),
                0o020_000 if (look.stx_rdev_major, look.stx_rdev_minor) == MASTER && !links.terminals.is_empty() => {
                    let name = [b"fdinfo/", name].concat();
                    let info = life.read(name.as_slice(), proc::SMALL).map(|text| fdinfo::parse(&text));
                    info.ok().and_then(|info| info.terminal).and_then(|number| links.terminals.get(&number))
                }
                0o100_000 => links.memory.get(&key),
                _ => None,
            };
            hits.extend(servers.map(|servers| (servers.as_slice(), HoldHow::Descriptor)));
        });
        let table = if links.maps() { life.read("maps", proc::TABLE).unwrap_or_default() } else { Vec::new() };
        for map in maps::parse(&table).filter(|map| map.shared) {
            if map.path.starts_with(b"/SYSV") {
                hits.extend(links.segments.get(&map.inode).map(|servers| (servers.as_slice(), HoldHow::Attach)));
            } else {
                let servers = links.memory.get(&(map.device, map.inode));
                hits.extend(servers.map(|servers| (servers.as_slice(), HoldHow::Map)));
            }
        }
        if pid == us || hits.is_empty() {
            continue;
        }
        let command = life.command();
        for (servers, how) in hits {
            served.add(servers, &Holder { pid, command: command.clone(), how });
        }
    }
    for peer in unseen {
        let servers = links.peers.get(&peer).map_or(&[][..], Vec::as_slice);
        served.add(servers, &Holder { pid: 0, command: UNSEEN.to_vec(), how: HoldHow::Descriptor });
    }
    for suspect in links.suspects.iter().filter(|suspect| !owners.contains_key(&suspect.inode)) {
        let pid = suspect.peer.and_then(|peer| owners.get(&peer)).copied().unwrap_or(0);
        let command = match (proc.life(pid), suspect.remote) {
            (Ok(life), _) if pid != 0 => life.command(),
            (_, Some(remote)) => remote.to_string().into_bytes(),
            _ => UNSEEN.to_vec(),
        };
        if pid != us {
            served.add(&suspect.servers, &Holder { pid, command, how: HoldHow::Descriptor });
        }
    }
    for (address, servers) in &links.remote {
        let command = address.to_string().into_bytes();
        served.add(servers, &Holder { pid: 0, command, how: HoldHow::Descriptor });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};
    use kobj_platform::sysv;
    use std::process::{Command, Stdio};

    const READY: &str = "\nprint('up', flush=True)\nsys.stdin.read()";

    /// The standard streams of a test's child lead to this test, as a command's lead to whoever started it.
    fn given(child: &Python) -> HashSet<(u64, u64)> {
        let inode = |fd: u32| std::fs::metadata(format!("/proc/{}/fd/{fd}", child.pid())).unwrap();
        use std::os::unix::fs::MetadataExt;
        let own = (0..3).map(|fd| (inode(fd).dev(), inode(fd).ino()));
        own.chain(inherited(&testing::view())).collect()
    }

    fn served(servers: &[&Python]) -> HashMap<u32, Vec<Holder>> {
        let job = servers.iter().map(|child| child.pid()).collect();
        let inherited = servers.iter().flat_map(|child| given(child)).collect();
        serves_outside(&testing::view(), &job, &inherited)
    }

    fn start(text: &str, arguments: &[&str]) -> Python {
        let mut child = Python::start(&format!("import os, sys, socket, mmap\n{text}{READY}"), arguments);
        assert_eq!(child.line(), "up");
        child
    }

    #[test]
    fn a_client_on_a_unix_socket_is_an_outsider_until_it_is_of_the_job() {
        let name = testing::unique("unix");
        let server = start("s = socket.socket(1, 1); s.bind('\\0' + sys.argv[1]); s.listen()", &[&name]);
        assert_eq!(served(&[&server]), HashMap::new(), "nobody is connected");
        let client = start("c = socket.socket(1, 1); c.connect('\\0' + sys.argv[1])", &[&name]);
        // Not accepted: it waits in the listener's queue.
        let found = served(&[&server]);
        let list = &found[&server.pid()];
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].pid, &list[0].command[..]), (client.pid(), &b"python3"[..]));
        assert_eq!(served(&[&server, &client]), HashMap::new());
    }

    #[test]
    fn an_accepted_client_is_an_outsider_and_a_log_is_not() {
        let name = testing::unique("log");
        let outside = start("s = socket.socket(1, 2); s.bind('\\0' + sys.argv[1])", &[&name]);
        let writer = start("c = socket.socket(1, 2); c.connect('\\0' + sys.argv[1]); c.send(b'x')", &[&name]);
        assert_eq!(served(&[&writer]), HashMap::new(), "it only sends");
        assert_eq!(served(&[&outside])[&outside.pid()][0].pid, writer.pid(), "somebody sends to it");
        let name = testing::unique("accepted");
        let text = "s = socket.socket(1, 1); s.bind('\\0' + sys.argv[1]); s.listen(); print('listens', flush=True); c = s.accept()";
        let mut server = Python::start(&format!("import sys, socket\n{text}{READY}"), &[&name]);
        assert_eq!(server.line(), "listens");
        let client = start("c = socket.socket(1, 1); c.connect('\\0' + sys.argv[1])", &[&name]);
        assert_eq!(server.line(), "up");
        assert_eq!(served(&[&server])[&server.pid()][0].pid, client.pid());
    }

    #[test]
    fn a_peer_that_nobody_is_seen_to_have_is_looked_for_again() {
        let name = testing::unique("flight");
        // The client's end lies in a message that its new owner has not read yet, and the client is dead.
        let text = "s = socket.socket(1, 2); s.bind('\\0' + sys.argv[1]); print('bound', flush=True); sys.stdin.readline(); \
                    f = socket.recv_fds(s, 1, 1); print('has it', flush=True)";
        let mut owner = Python::start(&format!("import sys, socket\n{text}{READY}"), &[&name]);
        assert_eq!(owner.line(), "bound");
        let text = "s = socket.socket(1, 1); s.bind('\\0' + sys.argv[1] + 's'); s.listen()";
        let server = start(text, &[&name]);
        let text = "c = socket.socket(1, 1); c.connect('\\0' + sys.argv[1] + 's'); o = socket.socket(1, 2); \
                    o.connect('\\0' + sys.argv[1]); socket.send_fds(o, [b'x'], [c.fileno()])";
        drop(start(text, &[&name]));
        let job = HashSet::from([server.pid()]);
        let mut looks = 1;
        let unseen = serves_after(&testing::view(), &job, &given(&server), &mut || looks += 1);
        assert_eq!((unseen[&server.pid()][0].pid, &unseen[&server.pid()][0].command[..], looks), (0, UNSEEN, LOOKS));
        let seen = serves_after(&testing::view(), &job, &given(&server), &mut || {
            owner.say("go");
            assert_eq!(owner.line(), "has it");
        });
        assert_eq!(seen[&server.pid()][0].pid, owner.pid());
    }

    #[test]
    fn a_tcp_client_is_an_outsider() {
        let text = "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True)";
        let mut server = Python::start(&format!("import sys, socket\n{text}{READY}"), &[]);
        let port = server.line();
        assert_eq!(server.line(), "up");
        assert_eq!(served(&[&server]), HashMap::new());
        let client = start("c = socket.create_connection(('127.0.0.1', int(sys.argv[1])))", &[&port]);
        assert_eq!(served(&[&server])[&server.pid()][0].pid, client.pid(), "waits to be accepted");
        assert_eq!(served(&[&client])[&client.pid()][0].pid, 0, "the server has not taken it");
        assert_eq!(served(&[&server, &client]), HashMap::new());
    }

    #[test]
    fn one_that_cannot_be_read_is_judged_by_its_users_sockets() {
        testing::as_another_user("outside::tests::as_another_user_an_agent_is_judged");
    }

    #[test]
    #[ignore = "run as another user by the test above"]
    fn as_another_user_an_agent_is_judged() {
        let name = testing::unique("agent");
        let text = "import ctypes; ctypes.CDLL(None).prctl(4, 0)\ns = socket.socket(1, 1); s.bind('\\0' + sys.argv[1]); s.listen()";
        let agent = start(text, &[&name]);
        assert!(std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).is_err(), "it can be read after all");
        let job = HashSet::from([agent.pid()]);
        let view = testing::view();
        assert_eq!(serves_outside(&view, &job, &inherited(&view)), HashMap::new());
        let client = start("c = socket.socket(1, 1); c.connect('\\0' + sys.argv[1])", &[&name]);
        let found = serves_outside(&view, &job, &inherited(&view));
        assert_eq!(found[&agent.pid()][0].pid, client.pid());
        let both = HashSet::from([agent.pid(), client.pid()]);
        let mut given_to_client = given(&client);
        given_to_client.extend(inherited(&view));
        assert_eq!(serves_outside(&view, &both, &given_to_client), HashMap::new());
    }

    #[test]
    fn a_client_in_another_network_namespace_is_seen_there() {
        let text = "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True)\n\
                    u = socket.socket(1, 1); u.bind('\\0' + sys.argv[1]); u.listen()\nprint('listens', flush=True)\n\
                    a = u.accept()";
        let name = testing::unique("netns");
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", "ip link set lo up; exec python3 \"$@\"", "sh"]);
        let mut server = Python::start_by(command, &format!("import os, sys, socket\n{text}{READY}"), &[&name]);
        let port = server.line();
        if server.line() != "listens" {
            return println!("skipped: another network namespace: unshare --net or ip refused");
        }
        let inside = |text: &str, argument: &str| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{}/ns/net", server.child.id())).args(["--", "python3"]);
            let mut child = Python::start_by(command, &format!("import sys, socket\n{text}{READY}"), &[argument]);
            assert_eq!(child.line(), "up");
            child
        };
        assert_eq!(served(&[&server]), HashMap::new());
        let tcp = inside("c = socket.create_connection(('127.0.0.1', int(sys.argv[1])))", &port);
        assert_eq!(served(&[&server])[&server.pid()][0].pid, tcp.pid());
        drop(tcp);
        let unix = inside("c = socket.socket(1, 1); c.connect('\\0' + sys.argv[1])", &name);
        assert_eq!(server.line(), "up");
        assert_eq!(served(&[&server])[&server.pid()][0].pid, 0, "who it is cannot be said");
        assert_eq!(served(&[&server, &unix]), HashMap::new());
    }

    #[test]
    fn inherited_streams_serve_nobody_and_a_shared_pipe_does() {
        let reader = start("", &[]);
        assert_eq!(served(&[&reader]), HashMap::new());
        let (read, write) = std::io::pipe().unwrap();
        let mut command = Command::new("cat");
        let mut cat = command.stdin(read).stdout(Stdio::null()).spawn().unwrap();
        let view = testing::view();
        let (job, given) = (HashSet::from([cat.id()]), inherited(&view));
        drop(command);
        // The writing end is in this process, which stands for kobj: nobody.
        assert_eq!(serves_outside(&view, &job, &given), HashMap::new());
        let mut command = Command::new("cat");
        let mut writer = command.stdin(Stdio::piped()).stdout(write).spawn().unwrap();
        drop(command);
        let found = serves_outside(&view, &job, &given);
        assert_eq!(found[&cat.id()][0].pid, writer.id());
        drop(writer.stdin.take());
        writer.wait().unwrap();
        cat.wait().unwrap();
    }

    #[test]
    fn shared_memory_counts_if_the_job_can_write_it() {
        let path = std::path::Path::new("/dev/shm").join(testing::unique("memory"));
        if std::fs::write(&path, [0; 4096]).is_err() {
            println!("skipped: shared_memory: no /dev/shm");
            return;
        }
        let text = "f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 4096); f.close()";
        let writer = start(text, &[path.to_str().unwrap()]);
        let alone = served(&[&writer]);
        let other = start("f = open(sys.argv[1])", &[path.to_str().unwrap()]);
        let shared = served(&[&writer]);
        let reader = served(&[&other]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(alone, HashMap::new());
        assert_eq!(shared[&writer.pid()][0].pid, other.pid());
        assert_eq!(reader, HashMap::new(), "it only reads");
    }

    #[test]
    fn a_segment_attached_on_both_sides_counts() {
        let id = sysv::shm_create(0, 4096, 0o600).unwrap();
        let text = "import ctypes; l = ctypes.CDLL(None); l.shmat.restype = ctypes.c_void_p; l.shmat(int(sys.argv[1]), None, 0)";
        let (one, two) = (start(text, &[&id.to_string()]), start(text, &[&id.to_string()]));
        sysv::shm_remove(id).unwrap();
        assert_eq!(
            served(&[&one])[&one.pid()],
            [Holder { pid: two.pid(), command: b"python3".to_vec(), how: HoldHow::Attach }]
        );
        assert_eq!(served(&[&one, &two]), HashMap::new());
    }

    #[test]
    fn in_the_background_of_its_own_terminal_it_shows_nothing() {
        // The outsider has the master side; its child leads the session in the foreground and starts one in the background.
        let text = "
import os, sys, pty
r, w = os.pipe()
leader, master = pty.fork()
if leader == 0:
    os.close(r)
    back = os.fork()
    if back == 0:
        os.setpgid(0, 0)
        os.write(w, b'%d\\n' % os.getpid())
        os.close(w)
    else: os.close(w)
    os.read(0, 1)
    os._exit(0)
os.close(w)
print(leader, os.read(r, 20).decode().strip(), flush=True)
sys.stdin.read()
os.kill(leader, 9)";
        let mut outside = Python::start(text, &[]);
        let pids: Vec<u32> = outside.line().split(' ').map(|pid| pid.parse().unwrap()).collect();
        let mut given = given(&outside);
        given.extend(inherited(&testing::view()));
        let serves = |pid| serves_outside(&testing::view(), &HashSet::from([pid]), &given).remove(&pid);
        let (leader, background) = (serves(pids[0]), serves(pids[1]));
        let stop = |pid: u32| {
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32)?, rustix::process::Signal::KILL)
                .ok()
        };
        stop(pids[1]);
        let holders = |found: &Option<Vec<Holder>>, pid| found.iter().flatten().any(|holder| holder.pid == pid);
        assert!(holders(&leader, outside.pid()), "{leader:?}");
        assert!(!holders(&background, outside.pid()), "{background:?}");
    }

    #[test]
    fn a_terminal_of_an_outsider_counts_unless_it_was_inherited() {
        let mut outside = Python::start(
            "import os, sys, pty\nm, s = pty.openpty()\nprint(os.ttyname(s), flush=True)\nsys.stdin.read()",
            &[],
        );
        let terminal = outside.line();
        let server = start("t = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)", &[&terminal]);
        assert_eq!(served(&[&server])[&server.pid()][0].pid, outside.pid());
        use std::os::unix::fs::MetadataExt;
        let mut inherited = given(&server);
        let stat = std::fs::metadata(&terminal).unwrap();
        inherited.insert((stat.dev(), stat.ino()));
        let job = HashSet::from([server.pid()]);
        assert_eq!(serves_outside(&testing::view(), &job, &inherited), HashMap::new());
    }
}
