//! Listening TCP sockets and bound UDP sockets of our network namespace. They live and go with the processes that hold
//! them, so nothing is ever scrubbed here.

use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, inet};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use kobj_platform::netlink_diag;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::net::SocketAddr;
use std::sync::OnceLock;

/// The kind.
pub struct Listener;

/// The device number of the file system that all sockets of this machine are in.
#[must_use]
pub fn socket_device() -> Option<u64> {
    static DEVICE: OnceLock<Option<u64>> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
        Some(rustix::fs::fstat(&socket).ok()?.st_dev)
    })
}

/// What tells a socket from others. The device is 0 where no socket can be made to learn it.
#[must_use]
pub fn socket_identity(inode: u64) -> Identity {
    Identity::File { device: socket_device().unwrap_or(0), inode, handle: None, born: None }
}

/// A socket that waits for others, from whichever table it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Where.
    pub local: SocketAddr,
    /// The owner.
    pub uid: u32,
    /// Its inode in sockfs; sockets of the kernel's own have none and are left out.
    pub inode: u64,
}

/// The image of one socket: `tcp 127.0.0.1:8080`.
#[must_use]
pub fn image(bound: &Bound) -> HostImage {
    let name = format!("{} {}", bound.protocol, bound.local).into_bytes();
    let mut image = HostImage::new(HostKind::Listener, name, socket_identity(bound.inode));
    image.uid = Some(bound.uid);
    image
}

/// The TCP sockets that listen. The kernel's list of listeners alone: the text tables walk every connection slot, which
/// takes milliseconds; they are the fallback.
///
/// # Errors
/// Why neither can be read, as a sentence.
pub fn tcp(view: &View) -> Result<Vec<Bound>, String> {
    let bound = |local, uid, inode| Bound { protocol: "tcp", local, uid, inode };
    let mut found: Vec<Bound> = match netlink_diag::tcp_sockets(1 << netlink_diag::LISTEN) {
        Ok(sockets) => sockets.iter().map(|socket| bound(socket.local, socket.uid, socket.inode)).collect(),
        Err(error) => {
            let table = proc::read(&view.proc.join("self/net/tcp"), proc::TABLE)
                .map_err(|text| format!("sock_diag: {error}; /proc/net/tcp cannot be read: {text}"))?;
            let six = proc::read(&view.proc.join("self/net/tcp6"), proc::TABLE).unwrap_or_default();
            let sockets = inet::parse(&table).chain(inet::parse(&six));
            let listening = sockets.filter(|socket| socket.state == inet::LISTEN);
            listening.map(|socket| bound(socket.local, socket.uid, socket.inode)).collect()
        }
    };
    found.retain(|bound| bound.inode != 0);
    found.sort_unstable_by_key(|bound| bound.inode);
    Ok(found)
}

/// The UDP sockets of one of the two tables that are bound and not connected.
pub fn udp(table: &[u8]) -> impl Iterator<Item = Bound> + '_ {
    inet::parse(table)
        .filter(|socket| socket.inode != 0 && socket.local.port() != 0 && socket.remote.port() == 0)
        .map(|socket| Bound { protocol: "udp", local: socket.local, uid: socket.uid, inode: socket.inode })
}

fn all(view: &View) -> Result<Vec<Bound>, String> {
    let mut found = tcp(view)?;
    let table = proc::read(&view.proc.join("self/net/udp"), proc::TABLE)
        .map_err(|error| format!("/proc/net/udp cannot be read: {error}"))?;
    found.extend(udp(&table));
    // A machine without IPv6 has no such table.
    found.extend(udp(&proc::read(&view.proc.join("self/net/udp6"), proc::TABLE).unwrap_or_default()));
    Ok(found)
}

/// Who holds a socket that is still there. A socket that no process seems to hold is held by one that cannot be seen.
pub(crate) fn held(view: &View, image: &HostImage) -> Verdict {
    let holders = Holders::of(view, std::slice::from_ref(image)).of_object(0).to_vec();
    if holders.is_empty() {
        return Verdict::Unknown("it is there, and the process that holds it cannot be seen".into());
    }
    Verdict::InUse(holders, "it lives as long as a process holds it".into())
}

impl Kind for Listener {
    fn kind(&self) -> HostKind {
        HostKind::Listener
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Holders,
            new_in: NewIn::Tables,
            unused_is_left_over: false,
            is_named_by_path: false,
            end: "it goes with its last descriptor",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        Visibility::of(all(view).map(|bound| bound.iter().map(image).collect::<Vec<_>>()), found)
    }

    fn judge(&self, view: &View, wanted: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match all(view) {
            Ok(bound) if bound.iter().any(|one| image(one).identity == wanted.identity) => held(view, wanted),
            Ok(_) => Verdict::Gone,
            Err(why) => Verdict::Unknown(why),
        }
    }

    /// Ends with its processes, never by itself.
    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        Outcome::Left(self.judge(view, image, hands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kobj_abi::HoldHow;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn find(name: &str) -> Option<HostImage> {
        let mut found = Vec::new();
        assert_eq!(Listener.census(&testing::view(), &mut found), Visibility::Whole);
        found.into_iter().find(|image| image.name == name.as_bytes())
    }

    #[test]
    fn listeners_and_bound_sockets_are_found_with_their_holder_and_go_with_it() {
        let view = testing::view();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let names = [format!("tcp {}", tcp.local_addr().unwrap()), format!("udp {}", udp.local_addr().unwrap())];
        for name in &names {
            let image = find(name).unwrap();
            let Outcome::Left(Verdict::InUse(holders, _)) = Listener.scrub(&view, &image, &mut Hands::new(&mut |_| {}))
            else {
                panic!("{name} not left in use")
            };
            assert!(holders.iter().any(|h| h.pid == std::process::id() && h.how == HoldHow::Listen), "{holders:?}");
        }
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(find(&format!("tcp {}", client.local_addr().unwrap())).is_none(), "a connection waits for nobody");
        let image = find(&names[0]).unwrap();
        drop((tcp, client));
        assert_eq!(Listener.judge(&view, &image, &mut Hands::new(&mut |_| {})), Verdict::Gone);
    }
}
