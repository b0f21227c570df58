//! System V message queues. The kernel keeps no creator and gives no exact answer about use.

use super::sysv_segment::{absent, id_of, same};
use super::sysv_semaphore::{is_named, living};
use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, Proc, sysvipc};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use kobj_platform::sysv;
use rustix::io::Errno;

/// The kind.
pub struct SysvQueue;

/// The image of one line of the kernel's table.
#[must_use]
pub fn image(row: &sysvipc::Msg) -> HostImage {
    let identity = Identity::Ipc { id: i64::from(row.id), key: i64::from(row.key), uid: row.creator_uid };
    let mut image = HostImage::new(HostKind::SysvQueue, row.id.to_string().into_bytes(), identity);
    image.size = Some(row.bytes);
    image.uid = Some(row.uid);
    image
}

/// What a look for sleepers has found.
enum Sleepers {
    /// None was found; so many processes could not be looked into.
    Nobody(usize),
    One(u32),
}

/// Looks for a thread that sleeps in a call on queue `id`: the kernel's table does not name receivers that wait.
fn sleepers(view: &View, id: i32) -> Sleepers {
    let Ok(proc) = Proc::open(&view.proc) else { return Sleepers::Nobody(1) };
    let mut unreadable = 0;
    for pid in proc.pids().unwrap_or_default() {
        let Ok(life) = proc.life(pid) else { continue };
        let mut threads = Vec::new();
        if life.subfolder("task").and_then(|folder| proc::numbered_entries(&folder, |t| threads.push(t))).is_err() {
            continue;
        }
        for thread in threads {
            match life.read(format!("task/{thread}/syscall").as_str(), 512) {
                Ok(text) if sleeps_on_queue(&text, id) => return Sleepers::One(pid),
                Err(error) if matches!(error.raw_os_error(), Some(1 | 13)) => {
                    let idle = life.stat().is_some_and(|stat| stat.is_kernel_thread() || stat.is_dead());
                    unreadable += usize::from(!idle);
                    break;
                }
                _ => {}
            }
        }
    }
    Sleepers::Nobody(unreadable)
}

/// `NUMBER 0xID ...` where the number is `msgsnd` or `msgrcv`.
fn sleeps_on_queue(text: &[u8], id: i32) -> bool {
    let mut fields = proc::words(text);
    let call = fields.next().and_then(proc::decimal);
    let first = fields.next().and_then(|word| proc::hexadecimal(word.strip_prefix(b"0x")?));
    call.is_some_and(|call| kobj_platform::sysv::QUEUE_CALLS.contains(&call))
        && first.is_some_and(|first| first as u32 == id as u32)
}

fn look(view: &View, image: &HostImage) -> Result<(i32, String), Verdict> {
    let id = id_of(image).ok_or(Verdict::Replaced)?;
    let state = sysv::msg(id).map_err(|error| absent(error, "msgctl IPC_STAT"))?;
    if !same(image, &state.permission) {
        return Err(Verdict::Replaced);
    }
    if !is_named(image) {
        let why = "the kernel does not say who has a System V queue in use; a person may name it";
        return Err(Verdict::Unknown(why.into()));
    }
    for (pid, did) in [(state.last_sender, "sent"), (state.last_receiver, "received")] {
        if pid != 0
            && let Some(command) = living(view, pid)
        {
            return Err(Verdict::InUse(Vec::new(), format!("process {pid} ({command}), which {did} last, lives")));
        }
    }
    match sleepers(view, id) {
        Sleepers::One(pid) => {
            let command = living(view, pid).unwrap_or_default();
            Err(Verdict::InUse(Vec::new(), format!("process {pid} ({command}) waits on it")))
        }
        // Others' processes cannot be looked into. The person who named the queue is told; whoever used it is dead.
        Sleepers::Nobody(unreadable) => {
            let unread = state.messages;
            let unseen =
                if unreadable > 0 { format!("; {unreadable} processes could not be seen") } else { String::new() };
            Ok((
                id,
                format!("its last users are dead, nobody waits on it, {unread} messages were not received{unseen}"),
            ))
        }
    }
}

impl Kind for SysvQueue {
    fn kind(&self) -> HostKind {
        HostKind::SysvQueue
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Tables,
            unused_is_left_over: true,
            is_named_by_path: false,
            end: "it stays until somebody removes it (IPC_RMID) or the machine restarts",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let all = |table: Vec<u8>| sysvipc::msg(&table).map(|row| image(&row)).collect::<Vec<_>>();
        Visibility::of(proc::table_of(view, "sysvipc/msg").map(all), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        look(view, image).map_or_else(|verdict| verdict, |(_, words)| Verdict::Unused(words))
    }

    fn scrub(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Outcome {
        match look(view, image) {
            Ok((id, words)) => match sysv::msg_remove(id) {
                Ok(()) => Outcome::Scrubbed(words),
                Err(Errno::INVAL | Errno::IDRM) => Outcome::Left(Verdict::Gone),
                Err(error) => Outcome::Failed(format!("msgctl IPC_RMID on queue {id}: {error}")),
            },
            Err(verdict) => Outcome::Left(verdict),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};
    use kobj_abi::{EvidenceKind, Strength};
    use kobj_core::image::Evidence;

    fn find(id: i32) -> HostImage {
        let mut all = Vec::new();
        assert_eq!(SysvQueue.census(&testing::view(), &mut all), Visibility::Whole);
        all.into_iter().find(|image| id_of(image) == Some(id)).unwrap()
    }

    fn scrub(image: &HostImage) -> Outcome {
        SysvQueue.scrub(&testing::view(), image, &mut Hands::new(&mut |_| {}))
    }

    #[test]
    fn only_a_named_queue_goes_and_only_when_nobody_waits_or_lives() {
        let id = sysv::msg_create(0, 0o600).unwrap();
        let mut image = find(id);
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::Unknown(_))));
        let detail = "named".to_owned();
        image.evidence.push(Evidence { kind: EvidenceKind::Person, strength: Strength::Proof, detail });
        let text = "
import ctypes, sys, struct, threading
libc = ctypes.CDLL(None); id = int(sys.argv[1]); space = ctypes.create_string_buffer(64)
if sys.argv[2] == 'wait':
    threading.Thread(target=lambda: libc.msgrcv(id, space, 8, 0, 0), daemon=True).start()
else: libc.msgsnd(id, struct.pack('l8s', 1, b'hello'), 8, 0)
print('up', flush=True); sys.stdin.read()";
        let id_text = id.to_string();
        let mut waiter = Python::start(text, &[&id_text, "wait"]);
        waiter.line();
        while !matches!(sleepers(&testing::view(), id), Sleepers::One(pid) if pid == waiter.pid()) {
            assert!(waiter.child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        let Outcome::Left(Verdict::InUse(_, why)) = scrub(&image) else { panic!("not left in use") };
        assert!(why.contains(&waiter.pid().to_string()), "{why}");
        drop(waiter);
        let mut user = Python::start(text, &[&id_text, "send"]);
        user.line();
        let Outcome::Left(Verdict::InUse(_, why)) = scrub(&image) else { panic!("not left in use") };
        assert!(why.contains("sent last"), "{why}");
        drop(user);
        let outcome = scrub(&image);
        let Outcome::Scrubbed(words) = outcome else { panic!("{outcome:?}") };
        assert!(words.contains("1 messages"), "{words}");
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Gone));
    }

    #[test]
    fn a_call_on_another_queue_is_no_use() {
        let line = |call: u64, id: u32| format!("{call} 0x{id:x} 0x7f 0x8 0x0 0x0 0x0 0x7ffc 0x7f0\n").into_bytes();
        let [send, receive] = sysv::QUEUE_CALLS;
        assert!(sleeps_on_queue(&line(send, 7), 7) && sleeps_on_queue(&line(receive, 7), 7));
        assert!(!sleeps_on_queue(&line(send, 8), 7) && !sleeps_on_queue(&line(1_000, 7), 7));
        for odd in [&b"running\n"[..], b"-1 0x7f 0x7f\n", b"", b"\xff"] {
            assert!(!sleeps_on_queue(odd, 7));
        }
    }
}
