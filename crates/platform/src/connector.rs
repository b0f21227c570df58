//! The kernel's process connector: a netlink socket that tells of every fork, exec and exit on the machine.
//!
//! Since Linux 6.6 anyone may listen in the first PID and user namespace; before, root alone. An event is queued before
//! the process it speaks of runs its first instruction, so whoever drains the socket after seeing a deed of a process
//! has seen its fork.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const PROC_CN_MCAST_IGNORE: u32 = 2;
const EVENT_NONE: u32 = 0;
const EVENT_FORK: u32 = 1;
const EVENT_EXEC: u32 = 2;
const EVENT_EXIT: u32 = 0x8000_0000;
const NLMSG_DONE: u16 = 3;
/// Netlink header (16 bytes) and connector header (20 bytes).
const HEADERS: usize = 36;
/// The receive buffer asked for, in bytes; the kernel doubles it for its own bookkeeping.
const BUFFER_BYTES: usize = 8 << 20;
/// How many messages of other listeners are skipped while looking for the answer to our request.
const ANSWER_SEARCH: usize = 100_000;

/// One event of a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// A process or thread was made; it has not run yet. A thread if `child_pid != child_tgid`.
    Fork {
        /// The process it was made by; with `CLONE_PARENT` that one's parent.
        parent_tgid: u32,
        /// The new thread's id.
        child_pid: u32,
        /// The new thread's process.
        child_tgid: u32,
        /// When, in nanoseconds of the monotonic clock.
        at_ns: u64,
    },
    /// A process runs another program; its other threads are gone.
    Exec {
        /// The process.
        tgid: u32,
        /// When, in nanoseconds of the monotonic clock.
        at_ns: u64,
    },
    /// A thread has ended.
    Exit {
        /// The thread's id.
        pid: u32,
        /// Its process.
        tgid: u32,
    },
    /// The kernel had no room for some events: they are gone.
    Lost,
}

/// A listening socket.
#[derive(Debug)]
pub struct Connector {
    socket: OwnedFd,
    filtered: bool,
}

impl Connector {
    /// Listens. From then on every event is queued until read.
    ///
    /// # Errors
    /// A sentence that says why this machine, user or namespace does not let us.
    pub fn open() -> Result<Self, String> {
        let say = |what: &str, error: Errno| format!("process connector: {what}: {}", io::Error::from(error));
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::CONNECTOR),
        )
        .map_err(|error| say("no socket", error))?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
            // Without the right to more, the kernel's limit is what we get.
            let _ = sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES);
        }
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC))
            .map_err(|error| say("may not listen (root, or Linux 6.6)", error))?;
        let mut connector = Self { socket, filtered: false };
        if !connector.subscribe()? {
            return Err("process connector: silent here (it serves the first PID and user namespace only)".to_owned());
        }
        if has_filters() {
            // The kernel counts listeners: take the plain subscription back before the filtered one, which has no answer.
            connector.tell(PROC_CN_MCAST_IGNORE, None).map_err(|error| say("cannot subscribe", error))?;
            connector.filtered = true;
            let filter = EVENT_FORK | EVENT_EXEC | EVENT_EXIT;
            connector.tell(PROC_CN_MCAST_LISTEN, Some(filter)).map_err(|error| say("cannot subscribe", error))?;
        }
        Ok(connector)
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// How many bytes of events the kernel keeps for us, its own bookkeeping included.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        sockopt::socket_recv_buffer_size(&self.socket).unwrap_or(0)
    }

    /// Sets the size of the kernel's queue in bytes, its own bookkeeping included (tests of loss make it small).
    ///
    /// # Errors
    /// As the kernel says.
    pub fn set_buffer_bytes(&self, bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_recv_buffer_size(&self.socket, bytes)?)
    }

    /// The next event; `None` if there is none now.
    ///
    /// # Errors
    /// The socket itself failed: listen no more.
    pub fn next(&self) -> io::Result<Option<ProcessEvent>> {
        loop {
            let mut message = [0; 256];
            let length = match rustix::net::recvfrom(&self.socket, &mut message, RecvFlags::DONTWAIT) {
                Ok((_, length, sender)) => {
                    let kernel = sender.and_then(|address| SocketAddrNetlink::try_from(address).ok());
                    if kernel.is_none_or(|address| address.pid() != 0) {
                        continue;
                    }
                    length
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) => return Ok(Some(ProcessEvent::Lost)),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(event) = message.get(..length).and_then(parse) {
                return Ok(Some(event));
            }
        }
    }

    fn tell(&self, operation: u32, filter: Option<u32>) -> rustix::io::Result<()> {
        let request = request(operation, filter);
        rustix::net::sendto(&self.socket, &request, SendFlags::DONTWAIT, &SocketAddrNetlink::new(0, 0)).map(drop)
    }

    /// Asks for all events and looks for the answer, which the kernel queues before the call returns.
    fn subscribe(&self) -> Result<bool, String> {
        let failed = |error: Errno| format!("process connector: cannot subscribe: {}", io::Error::from(error));
        self.tell(PROC_CN_MCAST_LISTEN, None).map_err(failed)?;
        for _ in 0..ANSWER_SEARCH {
            let mut message = [0; 256];
            match rustix::net::recv(&self.socket, &mut message, RecvFlags::DONTWAIT) {
                Ok((_, length)) => match message.get(..length).and_then(answer) {
                    Some(0) => return Ok(true),
                    Some(error) => return Err(failed(crate::error_of(error as i32))),
                    None => {}
                },
                Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(false)
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if !self.filtered {
            // Kernels before 6.6 count listeners and do not notice that one is gone.
            let _ = self.tell(PROC_CN_MCAST_IGNORE, None);
        }
    }
}

/// Whether the kernel filters events and forgets closed listeners: since 6.6.
fn has_filters() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= (6, 6))
}

/// What tells our request from those of other listeners, whose answers everyone hears.
fn stamp() -> u32 {
    std::process::id() ^ 0x6b6f_626a
}

/// A request, for all events or for those in the filter.
fn request(operation: u32, filter: Option<u32>) -> Vec<u8> {
    let payload: u16 = if filter.is_some() { 8 } else { 4 };
    let mut message = Vec::with_capacity(HEADERS + 8);
    message.extend((HEADERS as u32 + u32::from(payload)).to_ne_bytes());
    message.extend(NLMSG_DONE.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend([0; 8]);
    for word in [CN_IDX_PROC, CN_VAL_PROC, 0, stamp()] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(payload.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend(operation.to_ne_bytes());
    message.extend(filter.map(u32::to_ne_bytes).into_iter().flatten());
    message
}

/// The 32-bit word at `offset`, if the message is that long.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let four = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// The event part of a connector message.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let ours = word(bytes, 16)? == CN_IDX_PROC && word(bytes, 20)? == CN_VAL_PROC;
    if ours { bytes.get(HEADERS..) } else { None }
}

/// The error number in the kernel's answer to our request.
fn answer(bytes: &[u8]) -> Option<u32> {
    let event = body(bytes)?;
    let ours = word(bytes, 28)? == stamp().wrapping_add(1);
    if ours && word(event, 0)? == EVENT_NONE { word(event, 16) } else { None }
}

/// The event in a message; `None` for those we do not ask for, and for anything cut short.
pub(crate) fn parse(bytes: &[u8]) -> Option<ProcessEvent> {
    let event = body(bytes)?;
    let low = word(event, 8)?;
    let high = word(event, 12)?;
    let at_ns = if cfg!(target_endian = "little") {
        u64::from(high) << 32 | u64::from(low)
    } else {
        u64::from(low) << 32 | u64::from(high)
    };
    match word(event, 0)? {
        EVENT_FORK => Some(ProcessEvent::Fork {
            parent_tgid: word(event, 20)?,
            child_pid: word(event, 24)?,
            child_tgid: word(event, 28)?,
            at_ns,
        }),
        EVENT_EXEC => Some(ProcessEvent::Exec { tgid: word(event, 20)?, at_ns }),
        EVENT_EXIT => Some(ProcessEvent::Exit { pid: word(event, 16)?, tgid: word(event, 20)? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_message_is_no_event() {
        let mut message = request(PROC_CN_MCAST_LISTEN, None);
        message.truncate(HEADERS);
        for word in [EVENT_FORK, 0, 5, 0, 10, 11, 12, 13] {
            message.extend(word.to_ne_bytes());
        }
        let whole = parse(&message);
        assert_eq!(whole, Some(ProcessEvent::Fork { parent_tgid: 11, child_pid: 12, child_tgid: 13, at_ns: 5 }));
        for length in 0..message.len() {
            assert_eq!(parse(&message[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_child_of_ours_is_heard_from_fork_to_exit() {
        let connector = match Connector::open() {
            Ok(connector) => connector,
            Err(why) => return println!("skipped: a_child_of_ours_is_heard_from_fork_to_exit: {why}"),
        };
        let mut child = std::process::Command::new("/bin/true").spawn().expect("spawn");
        child.wait().expect("wait");
        let mut seen = Vec::new();
        while let Some(event) = connector.next().expect("read") {
            seen.push(event);
        }
        let pid = child.id();
        let own = std::process::id();
        assert!(seen.iter().any(|event| matches!(event,
            ProcessEvent::Fork { parent_tgid, child_tgid, .. } if *parent_tgid == own && *child_tgid == pid)));
        assert!(
            seen.iter().any(|event| matches!(event, ProcessEvent::Exec { tgid, at_ns } if *tgid == pid && *at_ns > 0))
        );
        assert!(seen.contains(&ProcessEvent::Exit { pid, tgid: pid }));
    }
}
