//! Closing descriptors whose close waits for the kernel, without waiting.
//!
//! The last close of an inotify or fanotify group waits 6 to 15 ms for a grace period, and so does the end of a process
//! that has one open. Descriptors in flight on a unix socket are closed by the kernel's own worker: they are sent over a
//! pair of sockets whose two ends travel in the same message, so that nobody can ever receive it, and the kernel's
//! collector of such loops lets go of all of them later. The collector looks whenever a unix socket is closed, so one more
//! is made and closed.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// How many descriptors go into one message, the two ends of the pair included.
const IN_ONE_MESSAGE: usize = 16;

/// Closes all of `descriptors` soon; returns before it is done. Where that cannot be, they are closed at once.
pub fn close_late(descriptors: Vec<OwnedFd>) {
    for group in descriptors.chunks(IN_ONE_MESSAGE - 2) {
        // A failure (too many in flight for this user) costs only the wait: the caller's copies close below.
        let _ = send_away(group);
    }
    drop(descriptors);
    // The pair's ends are held by the message, so their close was none. This one is, and starts the collector.
    drop(rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None));
}

/// How long a watch is waited for while all that a user may have are taken.
const PATIENCE: Duration = Duration::from_millis(400);

/// Opens a watch; while all that the user may have are taken, tries again for 0.4 s.
///
/// The kernel takes about 8 ms to close one, one after the other, and whoever closes late does not wait for that: short
/// runs in a fast row use up the 128 that are usual, and then go at the pace of the closing.
///
/// # Errors
/// What `open` said; "too many open files" at once if it is this process's descriptors that are used up.
pub fn patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        let result = open();
        let is_out_of_watches =
            result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE) && has_descriptors());
        if !is_out_of_watches || begun.elapsed() > PATIENCE {
            return result;
        }
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

fn has_descriptors() -> bool {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

fn send_away(group: &[OwnedFd]) -> rustix::io::Result<()> {
    let (first, second) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut travellers: Vec<BorrowedFd<'_>> = group.iter().map(AsFd::as_fd).collect();
    travellers.push(first.as_fd());
    travellers.push(second.as_fd());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_ONE_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&travellers));
    rustix::net::sendmsg(&first, &[IoSlice::new(&[0])], &mut control, SendFlags::DONTWAIT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify;

    #[test]
    fn closing_a_watch_does_not_wait_for_the_kernel() {
        let mut times: Vec<u128> = (0..41)
            .map(|_| {
                let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify");
                inotify::add_watch(&watch, "/tmp", inotify::WatchFlags::CREATE).expect("watch");
                let begun = Instant::now();
                close_late(vec![watch]);
                begun.elapsed().as_micros()
            })
            .collect();
        times.sort_unstable();
        println!("late close: median {} us, p95 {} us", times[20], times[38]);
        // A plain close waits for a grace period: 6 ms and more. The bound leaves room for a loaded machine.
        assert!(times[20] < 2_000, "median {} us", times[20]);
    }

    #[test]
    fn the_descriptors_are_really_closed_in_the_end() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        close_late(vec![writer]);
        // The last writer's close is seen as a hang-up; the collector runs within moments.
        let mut polled = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
        let wait = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut polled, Some(&wait)), Ok(1));
        assert!(polled[0].revents().contains(rustix::event::PollFlags::HUP));
    }
}
