//! Unix sockets bound to an abstract name in our network namespace. They live and go with the processes that hold them.

use super::listener::{held, socket_identity};
use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, unix};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;
use kobj_platform::netlink_diag::{self, UnixSocket};

/// A unix socket of datagrams: bound, it takes them from anybody.
const DATAGRAMS: u8 = 2;

/// The kind.
pub struct AbstractSocket;

/// The image of a socket that waits for others under an abstract name: `@name`. An accepted connection bears its
/// listener's name too, and a client's may be of the kernel's making: neither is such a socket.
#[must_use]
pub fn image(socket: &UnixSocket) -> Option<HostImage> {
    let name = socket.name.as_ref()?.strip_prefix(b"\0")?;
    let waits = socket.state == netlink_diag::LISTEN || (socket.kind == DATAGRAMS && !made_by_kernel(name));
    waits.then(|| HostImage::new(HostKind::AbstractSocket, [b"@", name].concat(), socket_identity(socket.inode)))
}

/// The kernel gives five hexadecimal digits to a socket that is to have any name.
fn made_by_kernel(name: &[u8]) -> bool {
    name.len() == 5 && name.iter().all(u8::is_ascii_hexdigit)
}

/// The abstract sockets now: exact names from the kernel's list, else what the text table shows of them.
///
/// # Errors
/// Why neither can be read, as a sentence.
pub fn all(view: &View) -> Result<Vec<HostImage>, String> {
    let sockets = netlink_diag::unix_sockets().or_else(|error| {
        let table = proc::read(&view.proc.join("self/net/unix"), proc::TABLE)
            .map_err(|text| format!("sock_diag: {error}; /proc/net/unix cannot be read: {text}"))?;
        let socket = |line: unix::Unix| UnixSocket {
            inode: line.inode,
            kind: u8::try_from(line.kind).unwrap_or(0),
            state: if line.listens { netlink_diag::LISTEN } else { 0 },
            name: line.name.strip_prefix(b"@").map(|name| [b"\0", name].concat()),
            ..UnixSocket::default()
        };
        Ok::<_, String>(unix::parse(&table).map(socket).collect())
    })?;
    Ok(sockets.iter().filter_map(image).collect())
}

impl Kind for AbstractSocket {
    fn kind(&self) -> HostKind {
        HostKind::AbstractSocket
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
        Visibility::of(all(view), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match all(view) {
            Ok(images) if images.iter().any(|one| one.identity == image.identity) => held(view, image),
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
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    #[test]
    fn a_name_of_odd_bytes_is_found_once_and_goes_with_its_holder() {
        let view = testing::view();
        let name = [testing::unique("abs").as_bytes(), b"\n\0 @\xff"].concat();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let server = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&address).unwrap();
        let accepted = server.accept().unwrap();
        let shown = [b"@", &name[..]].concat();
        let mut found = Vec::new();
        assert_eq!(AbstractSocket.census(&view, &mut found), Visibility::Whole);
        let own: Vec<_> = found.into_iter().filter(|image| image.name == shown).collect();
        assert_eq!(own.len(), 1, "{own:?}");
        let Verdict::InUse(holders, _) = AbstractSocket.judge(&view, &own[0], &mut Hands::new(&mut |_| {})) else {
            panic!("not in use")
        };
        assert!(holders.iter().any(|h| h.pid == std::process::id() && h.how == HoldHow::Listen), "{holders:?}");
        drop((server, client, accepted));
        assert_eq!(AbstractSocket.judge(&view, &own[0], &mut Hands::new(&mut |_| {})), Verdict::Gone);
    }
}
