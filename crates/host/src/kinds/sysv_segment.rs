//! System V shared memory segments.

use crate::hands::{ClosedSegment, Hands, QuarantineNote};
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, sysvipc};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use kobj_platform::sysv;
use rustix::io::Errno;

/// Set by the kernel on a segment that was removed while attached: it goes with its last attachment.
const REMOVED: u32 = 0o1000;

/// The kind.
pub struct SysvSegment;

/// The image of one line of the kernel's table; none for a segment that was removed already.
#[must_use]
pub fn image(row: &sysvipc::Shm) -> Option<HostImage> {
    if row.mode & REMOVED != 0 {
        return None;
    }
    let identity = Identity::Ipc { id: i64::from(row.id), key: i64::from(row.key), uid: row.creator_uid };
    let mut image = HostImage::new(HostKind::SysvSegment, row.id.to_string().into_bytes(), identity);
    image.size = Some(row.size);
    image.uid = Some(row.uid);
    image.maker_pid = Some(row.creator_pid).filter(|pid| *pid != 0);
    Some(image)
}

/// What tells a System V object from others: id, key and creator.
pub(crate) fn same(image: &HostImage, permission: &sysv::Permission) -> bool {
    matches!(image.identity, Identity::Ipc { key, uid, .. }
        if key == i64::from(permission.key) && uid == permission.creator_uid)
}

/// The id as the calls take it.
pub(crate) fn id_of(image: &HostImage) -> Option<i32> {
    match image.identity {
        Identity::Ipc { id, .. } => i32::try_from(id).ok().filter(|id| *id >= 0),
        _ => None,
    }
}

/// What an error of a state call says about the object.
pub(crate) fn absent(error: Errno, what: &str) -> Verdict {
    match error {
        Errno::INVAL | Errno::IDRM => Verdict::Gone,
        other => Verdict::Unknown(format!("{what}: {other}")),
    }
}

fn state(image: &HostImage) -> Result<(i32, sysv::Shm), Verdict> {
    let id = id_of(image).ok_or(Verdict::Replaced)?;
    let state = sysv::shm(id).map_err(|error| absent(error, "shmctl IPC_STAT"))?;
    if !same(image, &state.permission) {
        return Err(Verdict::Replaced);
    }
    if u32::from(state.permission.mode) & REMOVED != 0 {
        return Err(Verdict::Gone);
    }
    Ok((id, state))
}

/// Names nobody: a look at all processes for each of a thousand segments would cost more than one for all of them.
fn in_use(attached: u64) -> Verdict {
    Verdict::InUse(Vec::new(), format!("shmctl IPC_STAT: {attached} attached"))
}

impl Kind for SysvSegment {
    fn kind(&self) -> HostKind {
        HostKind::SysvSegment
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::CreatorPid,
            new_in: NewIn::Tables,
            unused_is_left_over: true,
            is_named_by_path: false,
            end: "it stays until somebody removes it (IPC_RMID) or the machine restarts",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let all = |table: Vec<u8>| sysvipc::shm(&table).filter_map(|row| image(&row)).collect::<Vec<_>>();
        Visibility::of(proc::table_of(view, "sysvipc/shm").map(all), found)
    }

    fn judge(&self, _view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match state(image) {
            Ok((_, state)) if state.attached == 0 => Verdict::Unused("shmctl IPC_STAT: nobody has it attached".into()),
            Ok((_, state)) => in_use(state.attached),
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, _view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        match state(image) {
            Ok((id, before)) if before.attached == 0 => {
                let sysv::Permission { mode, key, creator_uid, .. } = before.permission;
                hands.note(QuarantineNote::SegmentClosed(ClosedSegment { id, mode: mode & 0o777, key, creator_uid }));
                let outcome = remove_idle(image, id, mode, || ());
                // One that could not be given its mode back may be by the next scrub.
                if !matches!(outcome, Outcome::Failed(_)) {
                    hands.note(QuarantineNote::SegmentOpen);
                }
                outcome
            }
            Ok((_, before)) => Outcome::Left(in_use(before.attached)),
            Err(verdict) => Outcome::Left(verdict),
        }
    }
}

/// Closes the segment to new attachments (all but a privileged process's), asks for the last time, and removes it or
/// puts its mode back. `meanwhile` is what others do between the two.
fn remove_idle(image: &HostImage, id: i32, mode: u16, meanwhile: impl FnOnce()) -> Outcome {
    let failed = |call: &str, error: Errno| Outcome::Failed(format!("shmctl {call} on segment {id}: {error}"));
    match sysv::shm_set_mode(id, 0) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::IDRM) => return Outcome::Left(Verdict::Gone),
        Err(error) => return failed("IPC_SET", error),
    }
    meanwhile();
    let outcome = match sysv::shm(id) {
        Ok(state) if !same(image, &state.permission) => Outcome::Left(Verdict::Replaced),
        Ok(state) if state.attached > 0 => Outcome::Left(in_use(state.attached)),
        Ok(_) => match sysv::shm_remove(id) {
            Ok(()) => return Outcome::Scrubbed("shmctl IPC_STAT with mode 0: nobody has it attached".into()),
            Err(error) => failed("IPC_RMID", error),
        },
        Err(error) => Outcome::Left(absent(error, "shmctl IPC_STAT")),
    };
    match sysv::shm_set_mode(id, mode) {
        Ok(()) | Err(Errno::INVAL | Errno::IDRM) => outcome,
        Err(error) => Outcome::Failed(format!(
            "segment {id} is in use, and its mode {:o} could not be put back: {error}",
            mode & 0o777
        )),
    }
}

/// Gives a segment that a scrub had closed when it was killed its mode back, if it is the same and still closed. Says why
/// not if that fails. The caller knows that its id has its meaning in this IPC namespace.
#[must_use]
pub fn reopen(segment: &ClosedSegment) -> Option<String> {
    let now = sysv::shm(segment.id).ok()?.permission;
    let is_same = (now.key, now.creator_uid) == (segment.key, segment.creator_uid);
    if !is_same || u32::from(now.mode) & REMOVED != 0 || now.mode & 0o777 != 0 {
        return None;
    }
    match sysv::shm_set_mode(segment.id, segment.mode) {
        Ok(()) | Err(Errno::INVAL | Errno::IDRM) => None,
        Err(error) => Some(format!(
            "segment {} was closed by a scrub that was broken off, and its mode {:o} could not be put back: {error}",
            segment.id, segment.mode
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::Holders;
    use crate::testing;
    use kobj_abi::HoldHow;

    fn find(id: i32) -> Option<HostImage> {
        let mut all = Vec::new();
        assert_eq!(SysvSegment.census(&testing::view(), &mut all), Visibility::Whole);
        all.into_iter().find(|image| id_of(image) == Some(id))
    }

    fn scrub(image: &HostImage) -> Outcome {
        SysvSegment.scrub(&testing::view(), image, &mut Hands::new(&mut |_| {}))
    }

    #[test]
    fn an_unattached_segment_is_judged_unused_and_goes() {
        let id = sysv::shm_create(0, 8192, 0o600).unwrap();
        let image = find(id).unwrap();
        assert_eq!((image.size, image.maker_pid), (Some(8192), Some(std::process::id())));
        assert!(matches!(
            SysvSegment.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})),
            Verdict::Unused(_)
        ));
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
        assert_eq!(find(id), None);
        assert_eq!(SysvSegment.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})), Verdict::Gone);
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Gone));
    }

    #[test]
    fn one_attached_between_plan_and_deletion_stays_as_it_was() {
        let id = sysv::shm_create(0, 4096, 0o640).unwrap();
        let image = find(id).unwrap();
        assert!(matches!(
            SysvSegment.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})),
            Verdict::Unused(_)
        ));
        let attachment = sysv::shm_attach(id).unwrap();
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::InUse(..))));
        let holders = Holders::of(&testing::view(), std::slice::from_ref(&image));
        assert!(
            holders.of_object(0).iter().any(|h| h.pid == std::process::id() && h.how == HoldHow::Attach),
            "{holders:?}"
        );
        assert_eq!(sysv::shm(id).unwrap().permission.mode & 0o777, 0o640);
        drop(attachment);
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
    }

    #[test]
    fn one_attached_in_the_last_moment_gets_its_mode_back() {
        let id = sysv::shm_create(0, 4096, 0o640).unwrap();
        let image = find(id).unwrap();
        let mut attachment = None;
        let outcome = remove_idle(&image, id, 0o640, || {
            assert_eq!(sysv::shm(id).unwrap().permission.mode & 0o777, 0);
            attachment = sysv::shm_attach(id).ok();
        });
        if attachment.is_none() {
            println!("skipped: last moment: only a privileged process can attach then");
            return assert!(matches!(outcome, Outcome::Scrubbed(_)));
        }
        assert!(matches!(outcome, Outcome::Left(Verdict::InUse(..))));
        assert_eq!(sysv::shm(id).unwrap().permission.mode & 0o777, 0o640);
        drop(attachment);
        assert_eq!(remove_idle(&image, id, 0o640, || sysv::shm_remove(id).unwrap()), Outcome::Left(Verdict::Gone));
    }

    #[test]
    fn it_is_written_down_before_it_is_closed_and_can_be_opened_again_from_that() {
        let id = sysv::shm_create(0, 4096, 0o640).unwrap();
        let image = find(id).unwrap();
        let mode = || sysv::shm(id).map(|state| state.permission.mode & 0o777);
        let mut notes = Vec::new();
        let mut note = |note| notes.push((note, mode().ok()));
        let outcome = SysvSegment.scrub(&testing::view(), &image, &mut Hands::new(&mut note));
        assert!(matches!(outcome, Outcome::Scrubbed(_)));
        let [(QuarantineNote::SegmentClosed(closed), Some(0o640)), (QuarantineNote::SegmentOpen, None)] = notes[..]
        else {
            panic!("{notes:?}")
        };
        assert_eq!((closed.id, closed.mode), (id, 0o640));
        let id = sysv::shm_create(0, 4096, 0o640).unwrap();
        let mode = || sysv::shm(id).map(|state| state.permission.mode & 0o777);
        sysv::shm_set_mode(id, 0).unwrap();
        assert_eq!(reopen(&ClosedSegment { id, key: 77, ..closed }), None);
        assert_eq!(mode(), Ok(0), "that was another one");
        assert_eq!(reopen(&ClosedSegment { id, ..closed }), None);
        assert_eq!(mode(), Ok(0o640));
        assert_eq!(reopen(&ClosedSegment { id, mode: 0o600, ..closed }), None);
        assert_eq!(mode(), Ok(0o640), "it was open already");
        sysv::shm_remove(id).unwrap();
        assert_eq!(reopen(&ClosedSegment { id, ..closed }), None, "gone");
    }

    #[test]
    fn its_owner_alone_may_scrub_it() {
        let id = sysv::shm_create(0, 4096, 0o666).unwrap();
        let image = find(id).unwrap();
        testing::as_another_user("kinds::sysv_segment::tests::as_another_user_own_segments_go_and_others_stay");
        assert_eq!(sysv::shm(id).unwrap().permission.mode & 0o777, 0o666, "another user has changed it");
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
    }

    #[test]
    #[ignore = "run as another user by the test above"]
    fn as_another_user_own_segments_go_and_others_stay() {
        let id = sysv::shm_create(0, 4096, 0o640).unwrap();
        let image = find(id).unwrap();
        let attachment = sysv::shm_attach(id).unwrap();
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::InUse(..))));
        assert_eq!(sysv::shm(id).unwrap().permission.mode & 0o777, 0o640);
        drop(attachment);
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
        let mut all = Vec::new();
        SysvSegment.census(&testing::view(), &mut all);
        let others: Vec<_> = all.iter().filter(|image| image.uid == Some(0)).collect();
        assert!(!others.is_empty());
        for other in others {
            assert!(matches!(scrub(other), Outcome::Failed(_) | Outcome::Left(_)), "{other:?}");
        }
    }

    #[test]
    fn another_segment_under_the_id_is_left() {
        let id = sysv::shm_create(0, 4096, 0o600).unwrap();
        let mut image = find(id).unwrap();
        image.identity = Identity::Ipc { id: i64::from(id), key: 77, uid: 0 };
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Replaced));
        assert!(find(id).is_some());
        sysv::shm_remove(id).unwrap();
    }

    #[test]
    fn one_removed_while_attached_is_no_longer_there() {
        let id = sysv::shm_create(0, 4096, 0o600).unwrap();
        let image = find(id).unwrap();
        let attachment = sysv::shm_attach(id).unwrap();
        sysv::shm_remove(id).unwrap();
        assert_eq!(find(id), None);
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Gone));
        drop(attachment);
    }

    #[test]
    fn a_missing_table_is_said() {
        let folder = testing::Folder::new("no-sysv");
        let view = View { proc: folder.path().to_path_buf(), ..testing::view() };
        assert!(matches!(SysvSegment.census(&view, &mut Vec::new()), Visibility::NotVisible(_)));
    }
}
