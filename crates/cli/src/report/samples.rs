//! Reports for tests: the example, and one whose names are hostile.

use super::schema::{Action, BalanceRow, Containment, Exit, JobRow, NotVisible, Outputs, Report, Straggler};
use kobj_abi::{Era, EvidenceKind, HoldHow, HostKind, Koid, Layer, ObjectType, Strength, Tag};
use kobj_core::image::{Creator, Evidence, FileHandle, Holder, HostImage, Identity, Time};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// 2026-11-24T06:05:18Z.
pub(crate) const START: Time = Time(1_795_500_318_000_000);

pub(crate) fn tag(object_type: ObjectType, counter: u32) -> Tag {
    Tag { letters: object_type.letters(), koid: Koid::new(Era(0x6924_e0a1), counter).unwrap() }
}

fn creator() -> Option<Creator> {
    Some(Creator { pid: 4702, command: b"train.py".to_vec(), at: Some(Time(START.0 + 120_000)) })
}

fn made_by_job(detail: &str) -> Evidence {
    Evidence { kind: EvidenceKind::Fanotify, strength: Strength::Proof, detail: detail.into() }
}

fn segment(name: &str, size: u64, inode: u64) -> HostImage {
    let identity = Identity::File { device: 0x1d, inode, handle: FileHandle::new(1, &[1, 2, 3]), born: Some(START) };
    let mut image = HostImage::new(HostKind::Segment, name.into(), identity);
    image.size = Some(size);
    image.creator = creator();
    image.evidence = vec![made_by_job("made by pid 4702 (train.py) at 06:05:18.120")];
    image
}

fn row(image: &HostImage, counter: u32, action: Action, why: &str) -> Straggler {
    let object_type = if image.kind == HostKind::Process { ObjectType::Process } else { ObjectType::HostObject };
    Straggler::new(image, tag(object_type, counter), action, why.into())
}

/// The example.
pub(crate) fn train() -> Report {
    let command: Vec<OsString> = vec!["python3".into(), "train.py".into()];
    let mut job = JobRow::new(tag(ObjectType::Job, 1), None, &command, START);
    job.ended = Some(Time(START.0 + 2_500_000));
    job.exit = Some(Exit { signal: Some(9), code: 137, timed_out: false });
    job.containment = Containment::Cgroup;
    job.tracing =
        vec![Layer::Census, Layer::Cookie, Layer::Ancestry, Layer::SysvCreator, Layer::Connector, Layer::Fanotify];
    let mut process =
        HostImage::new(HostKind::Process, b"4711 worker".to_vec(), Identity::Process { pid: 4711, started: 99 });
    process.creator = creator();
    let mut sysv =
        HostImage::new(HostKind::SysvSegment, b"32769".to_vec(), Identity::Ipc { id: 32769, key: 0, uid: 1000 });
    sysv.size = Some(4096);
    sysv.creator = creator();
    let mut used = segment("/dev/shm/psm_99ff", 64 << 20, 78);
    used.holders = vec![Holder { pid: 5102, command: b"other.py".to_vec(), how: HoldHow::Map }];
    let mut report = Report::new(job);
    report.stragglers = vec![
        row(&process, 2, Action::Terminated, "its job is over"),
        row(&segment("/dev/shm/psm_1a2b", 1 << 30, 77), 3, Action::Scrubbed, "the job's own and used by nobody"),
        row(&sysv, 4, Action::Scrubbed, "the job's own and used by nobody"),
        row(&used, 5, Action::InUse, "open in pid 5102 (other.py)"),
    ];
    let books = |kind, created, destroyed, scrubbed, left| BalanceRow {
        kind,
        exact: true,
        created: Some(created),
        destroyed: Some(destroyed),
        scrubbed,
        left,
    };
    report.balance = vec![
        books(HostKind::Process, 20, 19, 1, 0),
        books(HostKind::Segment, 20, 18, 1, 1),
        BalanceRow { kind: HostKind::SysvSegment, exact: false, created: None, destroyed: None, scrubbed: 1, left: 0 },
    ];
    report.outputs = Some(Outputs { count: 2, bytes: 3000, files: Vec::new() });
    report.not_visible = vec![NotVisible { kind: HostKind::Key, why: "no layer of this mode sees keys".into() }];
    report
}

/// Names and commands chosen by an enemy.
pub(crate) fn hostile() -> Report {
    let command = vec![OsString::from_vec(b"/tmp/\xff\x1b[2Jx".to_vec()), "]]><a>".into()];
    let mut report = Report::new(JobRow::new(tag(ObjectType::Job, 1), None, &command, START));
    let mut image = segment("/dev/shm/", 1, 79);
    image.name.extend_from_slice(b"a\nkobj: job \"x\" left nothing\x1b]0;owned\x07\xfe' $(reboot)");
    image.creator = Some(Creator { pid: 7, command: b"\x1b[31m\nevil\xff".to_vec(), at: None });
    image.evidence[0].detail = "made by \u{202e}\u{1b}[2J".into();
    report.stragglers = vec![row(&image, 2, Action::Reported, "not asked for\u{9b}2J")];
    report.unattributed = vec![row(&image, 3, Action::Reported, "no proof")];
    report
}
