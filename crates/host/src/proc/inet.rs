//! `/proc/net/{tcp,tcp6,udp,udp6}`.

use super::{decimal, hexadecimal, lines, words};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A connection is established.
pub const ESTABLISHED: u8 = 1;
/// The peer closed its side.
pub const CLOSE_WAIT: u8 = 8;
/// A TCP socket listens.
pub const LISTEN: u8 = 10;

/// A line of one of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inet {
    /// Our side.
    pub local: SocketAddr,
    /// The other side; port 0 if there is none.
    pub remote: SocketAddr,
    /// The state's number.
    pub state: u8,
    /// The owner.
    pub uid: u32,
    /// The socket's inode in sockfs; 0 if no descriptor leads to it.
    pub inode: u64,
}

/// The sockets in the table.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Inet> + '_ {
    lines(text).filter_map(line)
}

fn line(line: &[u8]) -> Option<Inet> {
    let mut fields = words(line);
    decimal(fields.next()?.strip_suffix(b":")?)?;
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = u8::try_from(hexadecimal(fields.next()?)?).ok()?;
    let uid = u32::try_from(decimal(fields.nth(3)?)?).ok()?;
    let inode = decimal(fields.nth(1)?)?;
    Some(Inet { local, remote, state, uid, inode })
}

/// `0100007F:07E8`: the address's 32-bit words as this machine's byte order has them, the port as a number.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (host, port) = (&text[..colon], u16::try_from(hexadecimal(&text[colon + 1..])?).ok()?);
    let word = |part: &[u8]| u32::try_from(hexadecimal(part)?).ok().map(u32::to_ne_bytes);
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(host)?)),
        32 => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.chunks_exact_mut(4).zip(host.chunks_exact(8)) {
                to.copy_from_slice(&word(from)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn nonsense_is_skipped() {
        for wrong in
            [&b"  sl  local_address"[..], b"0: 0100007F 0:0 0A", b"0: 0100007F:1 00000000:0 0A 0:0 0:0 0 x", b"\xff: "]
        {
            assert_eq!(parse(wrong).count(), 0);
        }
    }

    #[test]
    fn real_sockets_are_found_with_their_addresses() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let text = crate::proc::read(std::path::Path::new("/proc/self/net/udp"), crate::proc::TABLE).unwrap();
        let own = parse(&text).find(|socket| socket.local == udp.local_addr().unwrap()).unwrap();
        assert_eq!(own.inode, rustix::fs::fstat(&udp).unwrap().st_ino);
        if let Ok(tcp) = TcpListener::bind("[::1]:0") {
            let text = crate::proc::read(std::path::Path::new("/proc/self/net/tcp6"), crate::proc::TABLE).unwrap();
            let own = parse(&text).find(|socket| socket.local == tcp.local_addr().unwrap()).unwrap();
            assert_eq!((own.state, own.remote.port()), (LISTEN, 0));
        } else {
            println!("skipped: tcp6: no IPv6 here");
        }
    }
}
