//! Whose is it? Evidence for each candidate, from the layers in use. Only proof lets a scrub go on.

use kobj_abi::{EvidenceKind, HostKind, Layer, Strength};
use kobj_core::image::{Creator, Evidence, HostImage, Identity};
use kobj_host::holders::Holders;
use kobj_host::kind::Maker;
use kobj_host::kinds;
use kobj_host::makers::Made;
use kobj_host::record::Contents;
use kobj_host::view::View;
use kobj_host::watch::Watches;
use std::collections::HashSet;

/// Candidates, sorted by what the layers say of them.
#[derive(Debug, Default)]
pub(crate) struct Attributed {
    /// Proved to be the job's own.
    pub(crate) own: Vec<HostImage>,
    /// Nobody's by proof.
    pub(crate) unattributed: Vec<HostImage>,
}

/// What was seen of a job: its watches while it runs, its record afterwards.
pub(crate) trait Witness {
    /// Who made the file of that identity.
    fn maker(&self, identity: &Identity) -> Option<Made>;
    /// Whether every creation on that device was seen, so that a file without a maker is not the job's.
    fn sees_all_makers(&self, device: u64) -> bool;
    /// Whether the process that the kernel keeps as an object's creator was the job's.
    fn made_by_pid(&self, pid: u32) -> Option<Strength>;
    /// Whether every process of the job was seen, so that a creator which is not the job's is somebody else's.
    fn sees_all_processes(&self) -> bool;
    /// The name of the command that a process of the job ran.
    fn name_of(&self, pid: u32) -> Option<Vec<u8>>;
}

impl Witness for Watches {
    fn maker(&self, identity: &Identity) -> Option<Made> {
        self.maker(identity)
    }

    fn sees_all_makers(&self, device: u64) -> bool {
        self.sees_all_makers(device)
    }

    fn made_by_pid(&self, pid: u32) -> Option<Strength> {
        self.made_by_pid(pid)
    }

    fn sees_all_processes(&self) -> bool {
        self.living().is_some()
    }

    fn name_of(&self, pid: u32) -> Option<Vec<u8>> {
        self.family().name_of(pid).map(|name| name.to_vec())
    }
}

/// A record says what was made up to its last event, and nothing of what came later.
impl Witness for Contents {
    fn maker(&self, identity: &Identity) -> Option<Made> {
        self.of(identity)
    }

    fn sees_all_makers(&self, _device: u64) -> bool {
        false
    }

    fn made_by_pid(&self, pid: u32) -> Option<Strength> {
        self.made_by_pid(pid)
    }

    fn sees_all_processes(&self) -> bool {
        false
    }

    fn name_of(&self, pid: u32) -> Option<Vec<u8>> {
        self.creations.values().find(|made| made.pid == pid).map(|made| made.command.to_vec())
    }
}

/// What one candidate is to the job.
enum Whose {
    /// The job's, by proof.
    Own,
    /// Somebody else's: a layer that sees every maker saw another one.
    Foreign,
    /// Not known.
    Unknown,
}

/// Sorts `candidates`. `members` are the job's living processes.
pub(crate) fn attribute(
    candidates: Vec<HostImage>,
    witness: &dyn Witness,
    view: &View,
    members: &HashSet<u32>,
) -> Attributed {
    let (held, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|image| maker_of(image.kind) == Some(Maker::Holders));
    let mut sorted = Attributed::default();
    for mut image in others {
        let whose = match image.identity {
            Identity::File { device, .. } if has_a_maker(image.kind) => by_file_event(&mut image, device, witness),
            _ if maker_of(image.kind) == Some(Maker::CreatorPid) => by_creator(&mut image, witness),
            _ => Whose::Unknown,
        };
        sorted.put(image, whose);
    }
    if !held.is_empty() {
        let holders = Holders::of(view, &held);
        for (index, mut image) in held.into_iter().enumerate() {
            image.holders = holders.of_object(index).to_vec();
            let whose = by_holders(&mut image, members, holders.unreadable == 0);
            sorted.put(image, whose);
        }
    }
    sorted
}

impl Attributed {
    fn put(&mut self, mut image: HostImage, whose: Whose) {
        match whose {
            Whose::Own => self.own.push(image),
            Whose::Foreign => {}
            Whose::Unknown => {
                let detail = "was not there before the job, which is no proof of anything".to_owned();
                image.evidence.push(Evidence { kind: EvidenceKind::Difference, strength: Strength::Hint, detail });
                self.unattributed.push(image);
            }
        }
    }
}

/// What can prove who made objects of that kind.
fn maker_of(kind: HostKind) -> Option<Maker> {
    kinds::facts(kind).map(|facts| facts.maker)
}

/// Whether objects of that kind are made by an event in a folder.
pub(crate) fn has_a_maker(kind: HostKind) -> bool {
    maker_of(kind) == Some(Maker::FileEvent)
}

fn by_file_event(image: &mut HostImage, device: u64, witness: &dyn Witness) -> Whose {
    let Some(made) = witness.maker(&image.identity) else {
        // Every maker on this file system was seen, and the job was not among those of this inode.
        return if witness.sees_all_makers(device) { Whose::Foreign } else { Whose::Unknown };
    };
    let Identity::File { born, .. } = image.identity else { return Whose::Unknown };
    let strength = made.strength_if_born(born);
    image.creator = Some(creator_of(&made));
    image.evidence.push(evidence_of(&made, strength));
    match strength {
        Strength::Proof => Whose::Own,
        Strength::Hint => Whose::Unknown,
    }
}

/// The maker as a report names it.
pub(crate) fn creator_of(made: &Made) -> Creator {
    Creator { pid: made.pid, command: made.command.to_vec(), at: Some(made.window_start) }
}

fn evidence_of(made: &Made, strength: Strength) -> Evidence {
    let command = match &made.command[..] {
        b"" => "of a name that was not read in time".to_owned(),
        name => String::from_utf8_lossy(name).into_owned(),
    };
    let (from, to) = (clock(made.window_start.0), clock(made.window_end.0));
    let (kind, how) = match made.layer {
        Layer::Fanotify => (EvidenceKind::Fanotify, "a file event names its maker"),
        _ => (EvidenceKind::Inotify, "it was new and open in one process alone"),
    };
    let doubt = match strength {
        Strength::Proof => "",
        Strength::Hint => {
            "; not a proof: that number was not the job's alone, or the inode is older or was opened by others"
        }
    };
    let detail = format!("made by pid {} ({command}) of the job between {from} and {to}: {how}{doubt}", made.pid);
    Evidence { kind, strength, detail }
}

/// The time of day in UTC, to the millisecond.
fn clock(microseconds: i64) -> String {
    let of_day = microseconds.rem_euclid(86_400_000_000) / 1000;
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03} UTC", of_day / 1000 % 60, of_day % 1000)
}

fn by_creator(image: &mut HostImage, witness: &dyn Witness) -> Whose {
    let Some(pid) = image.maker_pid else { return Whose::Unknown };
    let Some(strength) = witness.made_by_pid(pid) else {
        return if witness.sees_all_processes() { Whose::Foreign } else { Whose::Unknown };
    };
    let command = witness.name_of(pid).unwrap_or_default();
    image.creator = Some(Creator { pid, command, at: None });
    let detail = match strength {
        Strength::Proof => format!("the kernel keeps pid {pid} as its creator, a number that was the job's alone"),
        Strength::Hint => format!("the kernel keeps pid {pid} as its creator, a number that was not the job's alone"),
    };
    image.evidence.push(Evidence { kind: EvidenceKind::SysvCreator, strength, detail });
    match strength {
        Strength::Proof => Whose::Own,
        Strength::Hint => Whose::Unknown,
    }
}

/// A socket that only the job's own processes have open is the job's; one that only others have is not.
fn by_holders(image: &mut HostImage, members: &HashSet<u32>, all_seen: bool) -> Whose {
    let ours = image.holders.iter().filter(|holder| members.contains(&holder.pid)).count();
    if ours == 0 {
        return if all_seen && !image.holders.is_empty() { Whose::Foreign } else { Whose::Unknown };
    }
    if ours < image.holders.len() || !all_seen {
        return Whose::Unknown;
    }
    let pid = image.holders[0].pid;
    image.creator = Some(Creator { pid, command: image.holders[0].command.clone(), at: None });
    let detail = format!("new, and open in the job's processes alone (pid {pid})");
    image.evidence.push(Evidence { kind: EvidenceKind::Family, strength: Strength::Proof, detail });
    Whose::Own
}

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_abi::HoldHow;
    use kobj_core::image::{FileHandle, Holder, Time};

    /// A witness of one maker, or of none.
    #[derive(Default)]
    struct One {
        made: Option<Made>,
        creator: Option<Strength>,
        sees_all: bool,
    }

    impl Witness for One {
        fn maker(&self, _: &Identity) -> Option<Made> {
            self.made.clone()
        }
        fn sees_all_makers(&self, _: u64) -> bool {
            self.sees_all
        }
        fn made_by_pid(&self, _: u32) -> Option<Strength> {
            self.creator
        }
        fn sees_all_processes(&self) -> bool {
            self.sees_all
        }
        fn name_of(&self, _: u32) -> Option<Vec<u8>> {
            Some(b"maker".to_vec())
        }
    }

    fn made(strength: Strength) -> Option<Made> {
        let (window_start, window_end) = (Time(1_000_000), Time(2_000_000));
        let command = b"maker"[..].into();
        Some(Made { pid: 7, command, window_start, window_end, strength, layer: Layer::Fanotify, is_birth: false })
    }

    fn segment(born: i64) -> HostImage {
        let handle = FileHandle::new(1, b"handle");
        let identity = Identity::File { device: 1, inode: 2, handle, born: Some(Time(born)) };
        HostImage::new(HostKind::Segment, b"/dev/shm/x".to_vec(), identity)
    }

    fn sysv() -> HostImage {
        let identity = Identity::Ipc { id: 1, key: 0, uid: 0 };
        let mut image = HostImage::new(HostKind::SysvSegment, b"1".to_vec(), identity);
        image.maker_pid = Some(7);
        image
    }

    fn check(image: HostImage, witness: &One) -> &'static str {
        let view = View { proc: "/proc".into(), segment_folders: Vec::new(), temporary_folders: Vec::new(), uid: 0 };
        let sorted = attribute(vec![image], witness, &view, &HashSet::new());
        match (sorted.own.as_slice(), sorted.unattributed.as_slice()) {
            ([own], []) => {
                assert!(own.is_proved() && own.creator.is_some());
                "own"
            }
            ([], [unknown]) => {
                assert!(!unknown.is_proved(), "only proof makes an object the job's");
                "unattributed"
            }
            ([], []) => "foreign",
            _ => "twice",
        }
    }

    #[test]
    fn a_file_is_the_job_s_only_by_a_proof_whose_window_holds_its_birth() {
        let proof = One { made: made(Strength::Proof), ..One::default() };
        assert_eq!(check(segment(1_500_000), &proof), "own");
        assert_eq!(check(segment(5_000_000), &proof), "unattributed", "born later: another file, or a link to one");
        assert_eq!(check(segment(10), &proof), "unattributed", "born before the event: a hard link to an old file");
        let hint = One { made: made(Strength::Hint), ..One::default() };
        assert_eq!(check(segment(1_500_000), &hint), "unattributed");
    }

    #[test]
    fn what_nobody_saw_made_is_foreign_only_where_every_maker_is_seen() {
        assert_eq!(check(segment(1), &One::default()), "unattributed");
        assert_eq!(check(segment(1), &One { sees_all: true, ..One::default() }), "foreign");
        assert_eq!(check(sysv(), &One::default()), "unattributed");
        assert_eq!(check(sysv(), &One { sees_all: true, ..One::default() }), "foreign");
    }

    #[test]
    fn a_sysv_segment_is_the_job_s_by_a_creator_that_was_the_job_s_alone() {
        assert_eq!(check(sysv(), &One { creator: Some(Strength::Proof), ..One::default() }), "own");
        assert_eq!(check(sysv(), &One { creator: Some(Strength::Hint), ..One::default() }), "unattributed");
    }

    #[test]
    fn queues_and_semaphores_have_no_creator_and_are_nobody_s() {
        for kind in [HostKind::SysvQueue, HostKind::SysvSemaphore, HostKind::Mount, HostKind::LoopDevice] {
            let image = HostImage::new(kind, b"1".to_vec(), Identity::Ipc { id: 1, key: 0, uid: 0 });
            let all = One { made: made(Strength::Proof), creator: Some(Strength::Proof), sees_all: true };
            assert_eq!(check(image, &all), "unattributed", "{}", kind.name());
        }
    }

    #[test]
    fn a_socket_belongs_to_the_job_only_if_nobody_else_has_it_open() {
        let holder = |pid| Holder { pid, command: b"server".to_vec(), how: HoldHow::Listen };
        let socket = |pids: &[u32]| {
            let identity = Identity::File { device: 1, inode: 2, handle: None, born: None };
            let mut image = HostImage::new(HostKind::Listener, b"tcp 127.0.0.1:1".to_vec(), identity);
            image.holders = pids.iter().map(|pid| holder(*pid)).collect();
            image
        };
        let members = HashSet::from([1, 2]);
        assert!(matches!(by_holders(&mut socket(&[1, 2]), &members, true), Whose::Own));
        assert!(matches!(by_holders(&mut socket(&[1, 3]), &members, true), Whose::Unknown));
        assert!(matches!(by_holders(&mut socket(&[3]), &members, true), Whose::Foreign));
        assert!(matches!(by_holders(&mut socket(&[1]), &members, false), Whose::Unknown), "some could not be seen");
        assert!(matches!(by_holders(&mut socket(&[]), &members, true), Whose::Unknown));
    }

    #[test]
    fn the_time_of_day_wraps_at_midnight() {
        assert_eq!(clock(86_400_000_000 + 3_723_004_000), "01:02:03.004 UTC");
        assert_eq!(clock(-1_000), "23:59:59.999 UTC");
    }
}
