//! System V semaphore sets. The kernel keeps no creator and gives no exact answer about use.

use super::sysv_segment::{absent, id_of, same};
use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, Proc, sysvipc};
use crate::view::View;
use kobj_abi::{EvidenceKind, HostKind};
use kobj_core::image::{HostImage, Identity};
use kobj_platform::sysv;
use rustix::io::Errno;

/// The kind.
pub struct SysvSemaphore;

/// The image of one line of the kernel's table.
#[must_use]
pub fn image(row: &sysvipc::Sem) -> HostImage {
    let identity = Identity::Ipc { id: i64::from(row.id), key: i64::from(row.key), uid: row.creator_uid };
    let mut image = HostImage::new(HostKind::SysvSemaphore, row.id.to_string().into_bytes(), identity);
    image.uid = Some(row.uid);
    image
}

/// Whether somebody who takes the responsibility named the object: a person, or a tracer with proof of the maker.
pub(crate) fn is_named(image: &HostImage) -> bool {
    image.is_proved() || image.evidence.iter().any(|evidence| evidence.kind == EvidenceKind::Person)
}

/// The command of a process that lives, for a sentence.
pub(crate) fn living(view: &View, pid: u32) -> Option<String> {
    let life = Proc::open(&view.proc).ok()?.life(pid).ok()?;
    let stat = life.stat().filter(|stat| !stat.is_dead())?;
    Some(stat.command.escape_ascii().to_string())
}

/// What a person's word is checked against: nobody waits, and whoever used it last is dead.
fn look(view: &View, image: &HostImage) -> Result<(i32, String), Verdict> {
    let id = id_of(image).ok_or(Verdict::Replaced)?;
    let state = sysv::sem(id).map_err(|error| absent(error, "semctl IPC_STAT"))?;
    if !same(image, &state.permission) {
        return Err(Verdict::Replaced);
    }
    if !is_named(image) {
        let why = "the kernel does not say who has a System V semaphore in use; a person may name it";
        return Err(Verdict::Unknown(why.into()));
    }
    for index in 0..state.count {
        let used = sysv::sem_use(id, index).map_err(|error| match absent(error, "") {
            Verdict::Gone => Verdict::Gone,
            _ => Verdict::Unknown(format!("semctl GETNCNT on set {id}: {error}")),
        })?;
        let waiting = u64::from(used.waiting_to_rise) + u64::from(used.waiting_for_zero);
        if waiting > 0 {
            return Err(Verdict::InUse(Vec::new(), format!("semctl GETNCNT: {waiting} wait on semaphore {index}")));
        }
        if used.last_pid != 0
            && let Some(command) = living(view, used.last_pid)
        {
            let why = format!("process {} ({command}), which used semaphore {index} last, lives", used.last_pid);
            return Err(Verdict::InUse(Vec::new(), why));
        }
    }
    Ok((id, "semctl: nobody waits and nobody who used it last lives".into()))
}

impl Kind for SysvSemaphore {
    fn kind(&self) -> HostKind {
        HostKind::SysvSemaphore
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
        let all = |table: Vec<u8>| sysvipc::sem(&table).map(|row| image(&row)).collect::<Vec<_>>();
        Visibility::of(proc::table_of(view, "sysvipc/sem").map(all), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        look(view, image).map_or_else(|verdict| verdict, |(_, words)| Verdict::Unused(words))
    }

    fn scrub(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Outcome {
        match look(view, image) {
            Ok((id, words)) => match sysv::sem_remove(id) {
                Ok(()) => Outcome::Scrubbed(words),
                Err(Errno::INVAL | Errno::IDRM) => Outcome::Left(Verdict::Gone),
                Err(error) => Outcome::Failed(format!("semctl IPC_RMID on set {id}: {error}")),
            },
            Err(verdict) => Outcome::Left(verdict),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};
    use kobj_abi::Strength;
    use kobj_core::image::Evidence;

    fn find(id: i32) -> HostImage {
        let mut all = Vec::new();
        assert_eq!(SysvSemaphore.census(&testing::view(), &mut all), Visibility::Whole);
        all.into_iter().find(|image| id_of(image) == Some(id)).unwrap()
    }

    fn named(mut image: HostImage) -> HostImage {
        let detail = "named".to_owned();
        image.evidence.push(Evidence { kind: EvidenceKind::Person, strength: Strength::Proof, detail });
        image
    }

    fn scrub(image: &HostImage) -> Outcome {
        SysvSemaphore.scrub(&testing::view(), image, &mut Hands::new(&mut |_| {}))
    }

    #[test]
    fn only_a_named_set_goes_and_only_when_nobody_waits() {
        let id = sysv::sem_create(0, 2, 0o600).unwrap();
        let image = find(id);
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::Unknown(_))));
        let image = named(image);
        let text = "
import ctypes, sys, struct, threading
libc = ctypes.CDLL(None); id = int(sys.argv[1])
def op(index, n): return libc.semop(id, struct.pack('HhH', index, n, 0), 1)
if sys.argv[2] == 'wait':
    threading.Thread(target=lambda: op(1, -1), daemon=True).start()
else: op(0, 1)
print('up', flush=True); sys.stdin.read()";
        let id_text = id.to_string();
        let mut waiter = Python::start(text, &[&id_text, "wait"]);
        waiter.line();
        let waits = |wanted: u32| {
            while sysv::sem_use(id, 1).unwrap().waiting_to_rise != wanted {
                std::thread::yield_now();
            }
        };
        waits(1);
        let Outcome::Left(Verdict::InUse(_, why)) = scrub(&image) else { panic!("not left in use") };
        assert!(why.contains("1 wait on semaphore 1"), "{why}");
        drop(waiter);
        waits(0);
        let mut user = Python::start(text, &[&id_text, "use"]);
        user.line();
        let Outcome::Left(Verdict::InUse(_, why)) = scrub(&image) else { panic!("not left in use") };
        assert!(why.contains(&user.pid().to_string()), "{why}");
        drop(user);
        assert!(matches!(
            SysvSemaphore.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})),
            Verdict::Unused(_)
        ));
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Gone));
    }

    #[test]
    fn another_set_under_the_id_is_left() {
        let id = sysv::sem_create(0, 1, 0o600).unwrap();
        let mut image = named(find(id));
        image.identity = Identity::Ipc { id: i64::from(id), key: 5, uid: 0 };
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Replaced));
        sysv::sem_remove(id).unwrap();
    }
}
