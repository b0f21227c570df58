//! Unix sockets bound to a path.
//!
//! Judge: connecting to it with a datagram socket, a type that no server accepts by mistake. Refused: bound by nobody, in
//! any network namespace. Any other type or a success: alive. It goes through a private folder and is asked again there.

use crate::classify::{Look, path_of};
use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::quarantine::{self, Place, Refusal};
use crate::view::View;
use crate::{places, proc};
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice;

/// This kind.
#[derive(Debug)]
pub struct UnixSocket;

/// What the judge says of a dead one.
const REFUSED: &str = "connection refused: bound by nobody, in any network namespace";

impl Kind for UnixSocket {
    fn kind(&self) -> HostKind {
        HostKind::UnixSocket
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::FileEvent,
            new_in: NewIn::Folders,
            unused_is_left_over: true,
            is_named_by_path: false,
            end: "it stays until somebody deletes it",
        }
    }

    /// Those in the temporary folders, and wherever a socket of this network namespace is bound.
    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let first = found.len();
        let visibility = places::census(view, self.kind(), found);
        let mut known: HashSet<Vec<u8>> = found[first..].iter().map(|image| image.name.clone()).collect();
        let look = Look::new(view);
        let table = match proc::read(&view.proc.join("net/unix"), proc::TABLE) {
            Ok(table) => table,
            Err(error) => return Visibility::NotVisible(format!("bound sockets cannot be listed: {error}")),
        };
        for socket in proc::unix::parse(&table).filter(|socket| socket.name.starts_with(b"/")) {
            if !known.insert(socket.name.clone()) {
                continue;
            }
            let path = Path::new(OsStr::from_bytes(&socket.name));
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
                && let Ok(folder) = crate::hands::open_folder(parent)
                && let Ok(image) = look.image(folder.as_fd(), parent, name)
                && image.kind == self.kind()
            {
                found.push(image);
            }
        }
        visibility
    }

    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        let pointed =
            quarantine::place(hands, path_of(image)).and_then(|place| quarantine::point(&place, &image.identity));
        match pointed {
            Ok((pointer, stat)) if stat.is_socket() => with_holders(view, image, probe(pointer.as_fd())),
            Ok(_) => Verdict::Replaced,
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        let result = match quarantine::place(hands, path_of(image)) {
            Ok(place) => scrub_at(view, hands, &place, &image.identity),
            Err(verdict) => Err(verdict.into()),
        };
        match result {
            Ok(()) => Outcome::Scrubbed(REFUSED.to_owned()),
            Err(Refusal::Verdict(verdict)) => Outcome::Left(with_holders(view, image, verdict)),
            Err(refusal) => refusal.into(),
        }
    }
}

/// Adds who holds a socket that is alive, as far as that can be seen.
fn with_holders(view: &View, image: &HostImage, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::InUse(_, words) => {
            Verdict::InUse(Holders::of(view, slice::from_ref(image)).found.pop().unwrap_or_default(), words)
        }
        other => other,
    }
}

/// Asks the socket that a descriptor points at. By its descriptor, not its name: names can be longer than an address,
/// and may lead elsewhere a moment later.
fn probe(pointer: BorrowedFd<'_>) -> Verdict {
    let path = format!("/proc/self/fd/{}", pointer.as_raw_fd());
    let asked = SocketAddrUnix::new(path).and_then(|address| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(rustix::net::connect(&socket, &address))
    });
    match asked {
        Ok(Err(Errno::CONNREFUSED)) => Verdict::Unused(REFUSED.to_owned()),
        Ok(Ok(()) | Err(Errno::PROTOTYPE)) => {
            Verdict::InUse(Vec::new(), "it answers: somebody has it bound".to_owned())
        }
        Ok(Err(error)) | Err(error) => Verdict::Unknown(format!("the socket cannot be asked: {error}")),
    }
}

fn must_be_dead(pointer: BorrowedFd<'_>) -> Result<(), Verdict> {
    match probe(pointer) {
        Verdict::Unused(_) => Ok(()),
        other => Err(other),
    }
}

/// Asks the socket at `place`.
pub(crate) fn ask(place: &Place<'_>, identity: &Identity) -> Result<(), Verdict> {
    must_be_dead(quarantine::point(place, identity)?.0.as_fd())
}

/// Deletes a dead socket's name.
pub(crate) fn scrub_at(
    view: &View,
    hands: &mut Hands<'_>,
    place: &Place<'_>,
    identity: &Identity,
) -> Result<(), Refusal> {
    let (pointer, stat) = quarantine::point(place, identity)?;
    if !stat.is_socket() {
        return Err(Verdict::Replaced.into());
    }
    must_be_dead(pointer.as_fd())?;
    quarantine::unmounted(view, hands, place)?;
    let moved = quarantine::move_in(hands, place, &stat)?;
    if let Err(verdict) = must_be_dead(pointer.as_fd()) {
        quarantine::put_back(hands, place, &moved)?;
        return Err(verdict.into());
    }
    quarantine::unlink(hands, place, &moved)
}
