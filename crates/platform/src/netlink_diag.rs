//! The kernel's list of sockets (`sock_diag`): exact names, peers and inodes, for our own network namespace.

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const FAMILY_UNIX: u8 = 1;
const FAMILY_INET: u8 = 2;
const FAMILY_INET6: u8 = 10;
const HEADER: usize = 16;
/// Longer than the longest answer that the kernel builds.
const BUFFER: usize = 64 << 10;
/// No machine has more sockets; an answer that never ends is cut here.
const MOST_ANSWERS: usize = 16 << 20;
/// The kernel answers at once; this is for a kernel that does not.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state of a TCP socket that listens; the number of its bit in a mask of states.
pub const LISTEN: u8 = 10;
/// The state of an established TCP connection, or of a connected unix socket.
pub const ESTABLISHED: u8 = 1;

/// A unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its inode in sockfs.
    pub inode: u64,
    /// 1 stream, 2 datagram, 5 sequenced packets.
    pub kind: u8,
    /// [`LISTEN`], [`ESTABLISHED`] or another.
    pub state: u8,
    /// Its bound name: a path, or NUL and the abstract name. `None` if it is not bound.
    pub name: Option<Vec<u8>>,
    /// The device and inode of the file it is bound to, both cut to 32 bits, the device in the kernel's form.
    pub file: Option<(u32, u32)>,
    /// The inode of the socket it is connected to, if that still exists.
    pub peer: Option<u64>,
    /// Sockets that have connected to this one and were not accepted yet.
    pub pending: Vec<u64>,
    /// Who made it (Linux 5.3).
    pub uid: Option<u32>,
}

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InetSocket {
    /// Our side.
    pub local: SocketAddr,
    /// The other side; port 0 if there is none.
    pub remote: SocketAddr,
    /// The state's number.
    pub state: u8,
    /// The owner.
    pub uid: u32,
    /// Its inode in sockfs; 0 if no descriptor leads to it.
    pub inode: u64,
}

/// Every unix socket of our network namespace.
///
/// # Errors
/// `NOENT` or `PROTONOSUPPORT`: the kernel lacks this list. Others as the calls give them.
pub fn unix_sockets() -> rustix::io::Result<Vec<UnixSocket>> {
    let mut request = [0_u8; 24];
    request[0] = FAMILY_UNIX;
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    // Name, file, peer, pending, user.
    request[12..16].copy_from_slice(&0x4f_u32.to_ne_bytes());
    let mut found = Vec::new();
    dump(&request, |answer| found.extend(unix_socket(answer)))?;
    Ok(found)
}

/// Every TCP socket of our network namespace, of both families, in one of the states of `mask` (bit = state's number).
///
/// # Errors
/// As [`unix_sockets`].
pub fn tcp_sockets(mask: u32) -> rustix::io::Result<Vec<InetSocket>> {
    let mut found = Vec::new();
    for family in [FAMILY_INET, FAMILY_INET6] {
        let mut request = [0_u8; 56];
        (request[0], request[1]) = (family, 6);
        request[4..8].copy_from_slice(&mask.to_ne_bytes());
        dump(&request, |answer| found.extend(inet_socket(answer)))?;
    }
    Ok(found)
}

/// Sends one request for a list and gives each answer's body to `visit`.
fn dump(body: &[u8], mut visit: impl FnMut(&[u8])) -> rustix::io::Result<()> {
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(u32::try_from(HEADER + body.len()).map_err(|_| Errno::INVAL)?.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0_u8; BUFFER];
    for _ in 0..MOST_ANSWERS {
        let length = match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, length)) => length.min(BUFFER),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        if each_message(&buffer[..length], &mut visit)? || length == 0 {
            return Ok(());
        }
    }
    Err(Errno::MSGSIZE)
}

/// Visits the messages of one packet; whether the last of the list was among them.
pub(crate) fn each_message(mut packet: &[u8], visit: &mut impl FnMut(&[u8])) -> rustix::io::Result<bool> {
    while let (Some(length), Some(kind)) = (word(packet, 0), half(packet, 4)) {
        let length = length as usize;
        let Some(body) = packet.get(HEADER..length) else { break };
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = word(body, 0).unwrap_or(0) as i32;
                return if code == 0 { Ok(true) } else { Err(crate::error_of(code.wrapping_neg())) };
            }
            _ => visit(body),
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn unix_socket(answer: &[u8]) -> Option<UnixSocket> {
    let &[FAMILY_UNIX, kind, state, ..] = answer else { return None };
    let mut socket = UnixSocket { inode: u64::from(word(answer, 4)?), kind, state, ..UnixSocket::default() };
    let mut rest = answer.get(16..)?;
    while let (Some(length), Some(attribute)) = (half(rest, 0), half(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        match attribute {
            0 => socket.name = (!value.is_empty()).then(|| name(value)),
            1 => socket.file = word(value, 0).and_then(|inode| Some((word(value, 4)?, inode))),
            2 => socket.peer = word(value, 0).filter(|inode| *inode != 0).map(u64::from),
            3 => socket.pending = value.chunks_exact(4).filter_map(|four| word(four, 0)).map(u64::from).collect(),
            7 => socket.uid = word(value, 0),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

/// An abstract name begins with a NUL and holds any bytes; a path ends at its first NUL.
fn name(value: &[u8]) -> Vec<u8> {
    match value.iter().position(|byte| *byte == 0) {
        Some(end) if end > 0 => value[..end].to_vec(),
        _ => value.to_vec(),
    }
}

pub(crate) fn inet_socket(answer: &[u8]) -> Option<InetSocket> {
    let &[family, state, ..] = answer else { return None };
    let port = |at: usize| Some(u16::from_be_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let four: [u8; 4] = answer.get(at..at + 4)?.try_into().ok()?;
        let sixteen: [u8; 16] = answer.get(at..at + 16)?.try_into().ok()?;
        match family {
            FAMILY_INET => Some(IpAddr::V4(Ipv4Addr::from(four))),
            FAMILY_INET6 => Some(IpAddr::V6(Ipv6Addr::from(sixteen))),
            _ => None,
        }
    };
    Some(InetSocket {
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
        state,
        uid: word(answer, 64)?,
        inode: u64::from(word(answer, 68)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};

    fn inode(descriptor: impl std::os::fd::AsFd) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor.as_fd())))
            .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
            .unwrap()
    }

    #[test]
    fn names_peers_and_pending_connections_are_exact() {
        let odd = [&b"kobj\n\0\xff"[..], &std::process::id().to_ne_bytes()].concat();
        let address = UnixAddress::from_abstract_name(&odd).unwrap();
        let server = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&address).unwrap();
        let find = |wanted: u64| unix_sockets().unwrap().into_iter().find(|s| s.inode == wanted).unwrap();
        let listening = find(inode(&server));
        assert_eq!(listening.name.as_deref(), Some(&[&b"\0"[..], &odd].concat()[..]));
        assert_eq!((listening.state, listening.pending), (LISTEN, vec![inode(&client)]));
        assert_eq!(listening.uid, Some(rustix::fs::fstat(&server).unwrap().st_uid));
        let (accepted, _) = server.accept().unwrap();
        assert_eq!(find(inode(&client)).peer, Some(inode(&accepted)));
        assert_eq!(find(inode(&accepted)).peer, Some(inode(&client)));
        assert!(find(inode(&server)).pending.is_empty());
    }

    #[test]
    fn tcp_sockets_are_found_by_state() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = match tcp_sockets(1 << LISTEN) {
            Ok(all) => all,
            Err(error) => return println!("skipped: tcp_sockets: {error}"),
        };
        let own = listening.iter().find(|s| s.inode == inode(&server)).unwrap();
        assert_eq!((own.local, own.remote.port()), (server.local_addr().unwrap(), 0));
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        assert!(listening.iter().all(|s| s.state == LISTEN));
        let connected = tcp_sockets(1 << ESTABLISHED).unwrap();
        let own = connected.iter().find(|s| s.inode == inode(&client)).unwrap();
        assert_eq!(own.remote, server.local_addr().unwrap());
    }

    #[test]
    fn broken_answers_are_skipped() {
        for odd in [&[][..], &[1], &[1, 1, 1, 0, 5, 0, 0, 0], &[9; 15], &[2; 71]] {
            assert_eq!(unix_socket(odd), None);
            assert_eq!(inet_socket(odd), None);
        }
        let cut = [&[1, 1, 1, 0][..], &7_u32.to_ne_bytes(), &[0; 8], &[200, 0, 0, 0, 65]].concat();
        assert_eq!(unix_socket(&cut).map(|s| (s.inode, s.name)), Some((7, None)));
        let mut seen = 0;
        let zero_length = [0_u8; 64];
        assert_eq!(each_message(&zero_length, &mut |_: &[u8]| seen += 1), Ok(false));
        assert_eq!(seen, 0);
    }
}
