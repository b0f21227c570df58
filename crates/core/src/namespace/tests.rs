//! Names through the calls: what they grant, what they keep, and how they go.

use super::PERMANENCE;
use crate::account::{NoLeases, Resource};
use crate::call::{Call, CallAnswer, CallError, Entry, What};
use crate::guests::Boot;
use crate::image::Time;
use crate::manager::{Core, Limits};
use crate::names::LINKS_MOST;
use kobj_abi::{AskedRights, Era, ErrorCode, Koid, ObjectType, Operation, RawHandle, Rights};
use std::format;
use std::string::String;
use std::vec::Vec;

const SAME: AskedRights = AskedRights::Same;

const fn exactly(rights: Rights) -> AskedRights {
    AskedRights::Exactly(rights)
}

/// A manager with the embedder's process, which calls, and a guest in a job inside the first one.
struct Scene {
    core: Core,
    boot: Boot,
    job: RawHandle,
    guest: Koid,
}

impl Scene {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..limits });
        let boot = core.boot(Time(0)).unwrap();
        let Ok(CallAnswer::Handle(job)) = core.call(Time(0), boot.process, Call::CreateJob { job: boot.job }) else {
            panic!("no job")
        };
        match core.call(Time(0), boot.process, Call::CreateGuest { job, inherit: false }) {
            Ok(CallAnswer::Guest { process, .. }) => Self { core, boot, job, guest: process },
            other => panic!("{other:?}"),
        }
    }

    fn call_by(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let answer = self.core.call(Time(0), process, call);
        self.core.audit().unwrap_or_else(|imbalance| panic!("{call:?}: {imbalance}"));
        answer
    }

    fn call(&mut self, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.call_by(self.boot.process, call)
    }

    fn handle(&mut self, call: Call<'_>) -> Result<RawHandle, CallError> {
        match self.call(call)? {
            CallAnswer::Handle(handle) => Ok(handle),
            other => panic!("{call:?}: {other:?}"),
        }
    }

    fn directory(&mut self) -> RawHandle {
        self.handle(Call::Create { what: What::Directory }).unwrap()
    }

    fn symbolic_link(&mut self, target: &str) -> RawHandle {
        self.handle(Call::Create { what: What::SymbolicLink { target: target.as_bytes() } }).unwrap()
    }

    fn link_as(
        &mut self,
        directory: RawHandle,
        name: &str,
        handle: RawHandle,
        most: AskedRights,
        permanent: bool,
    ) -> Result<(), CallError> {
        self.call(Call::Link { directory, name: name.as_bytes(), handle, most, permanent }).map(drop)
    }

    fn link(&mut self, directory: RawHandle, name: &str, handle: RawHandle) {
        self.link_as(directory, name, handle, SAME, false).unwrap();
    }

    fn open_as(&mut self, directory: RawHandle, path: &str, rights: AskedRights) -> Result<RawHandle, CallError> {
        self.handle(Call::Open { directory, path: path.as_bytes(), rights, expected: None, follow: true })
    }

    fn open(&mut self, directory: RawHandle, path: &str) -> Result<RawHandle, CallError> {
        self.open_as(directory, path, SAME)
    }

    fn close(&mut self, handle: RawHandle) {
        self.call(Call::Close { handle }).unwrap();
    }

    fn koid(&mut self, handle: RawHandle) -> Koid {
        match self.call(Call::HandleInfo { handle }) {
            Ok(CallAnswer::Info(info)) => info.koid,
            other => panic!("{other:?}"),
        }
    }

    fn rights(&mut self, handle: RawHandle) -> Rights {
        match self.call(Call::HandleInfo { handle }) {
            Ok(CallAnswer::Info(info)) => info.rights,
            other => panic!("{other:?}"),
        }
    }

    fn less(&mut self, handle: RawHandle, rights: Rights) -> RawHandle {
        self.handle(Call::Duplicate { handle, rights: exactly(rights) }).unwrap()
    }

    fn list(&mut self, directory: RawHandle) -> Vec<Entry> {
        let mut list = Vec::new();
        let mut cursor = 0;
        loop {
            match self.call(Call::Enumerate { directory, cursor }) {
                Ok(CallAnswer::Entry(Some(entry))) => {
                    cursor = entry.cursor;
                    list.push(*entry);
                }
                Ok(CallAnswer::Entry(None)) => return list,
                other => panic!("{other:?}"),
            }
        }
    }

    fn names(&mut self, directory: RawHandle) -> Vec<String> {
        let name = |entry: Entry| String::from_utf8(entry.name.as_bytes().into()).unwrap();
        self.list(directory).into_iter().map(name).collect()
    }

    fn live(&self, object_type: ObjectType) -> u64 {
        self.core.balance().of(object_type).live
    }

    /// What the root job is charged in bytes.
    fn bytes(&self) -> u64 {
        let root = self.core.find(self.boot.root_job).unwrap();
        let account = self.core.job(root).unwrap().account.unwrap();
        self.core.accounts.usage(account, Resource::Bytes, &NoLeases).unwrap().used
    }

    fn end(mut self) {
        self.core.shut_down();
        while self.core.next_effect().is_some() {}
        assert!(self.core.names.is_empty(), "names are left");
        let ending = self.core.finish().unwrap();
        assert!(ending.is_zero(), "{:?}", ending.left);
    }
}

fn code<T: core::fmt::Debug>(refused: Result<T, CallError>) -> ErrorCode {
    refused.unwrap_err().code()
}

#[test]
fn a_temporary_name_goes_with_the_last_handle() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let first = scene.directory();
    scene.link(root, "first", first);
    let second = scene.open(root, "first").unwrap();
    assert_eq!(scene.koid(first), scene.koid(second));
    scene.close(first);
    assert!(scene.open(root, "first").is_ok());
    assert_eq!(scene.names(root), ["first"]);
    let handles: Vec<_> = [second].into_iter().chain(scene.other_handles_of(second)).collect();
    for handle in handles {
        scene.close(handle);
    }
    assert_eq!(scene.names(root), [""; 0]);
    assert_eq!(code(scene.open(root, "first")), ErrorCode::NotFound);
    assert_eq!(scene.live(ObjectType::Directory), 1, "the root alone");
    scene.end();
}

impl Scene {
    /// The caller's other handles to the object of one.
    fn other_handles_of(&mut self, handle: RawHandle) -> Vec<RawHandle> {
        let caller = self.core.caller(self.boot.process).unwrap();
        let wanted = self.koid(handle);
        let mut all = Vec::new();
        let mut from = 0;
        while let kobj_memory::Next::Found(pin) = caller.table.next_from(from, u32::MAX) {
            from = pin.index() + 1;
            let other = pin.handle().unwrap();
            drop(pin);
            if other != handle && self.koid(other) == wanted {
                all.push(other);
            }
        }
        all
    }
}

#[test]
fn a_permanent_name_keeps_its_object_and_is_charged() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let kept = scene.directory();
    let before = scene.bytes();
    scene.link_as(root, "kept", kept, SAME, true).unwrap();
    assert_eq!(scene.bytes(), before + PERMANENCE.bytes);
    scene.close(kept);
    let kept = scene.open(root, "kept").unwrap();
    scene.call(Call::Rename { directory: root, from: b"kept", to: &[b'k'; 255] }).unwrap();
    assert!(scene.list(root)[0].permanent);
    // Temporary again, and permanent again; either twice is nothing.
    for permanent in [false, false, true, true] {
        scene.call(Call::SetPermanent { handle: kept, permanent }).unwrap();
        assert_eq!(scene.list(root)[0].permanent, permanent);
    }
    scene.close(kept);
    assert_eq!(scene.live(ObjectType::Directory), 2);
    scene.call(Call::Unlink { directory: root, name: &[b'k'; 255] }).unwrap();
    assert_eq!(scene.live(ObjectType::Directory), 1, "nothing keeps it any more");
    let unnamed = scene.directory();
    assert_eq!(code(scene.call(Call::SetPermanent { handle: unnamed, permanent: true })), ErrorCode::WrongName);
    scene.end();
}

#[test]
fn a_jobs_permanent_name_ends_it_when_it_is_taken_away() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let job = scene.handle(Call::CreateJob { job: scene.job }).unwrap();
    scene.link_as(root, "job", job, SAME, true).unwrap();
    scene.close(job);
    let job = scene.open(root, "job").unwrap();
    let guest = scene.call(Call::CreateGuest { job, inherit: false });
    assert!(guest.is_ok(), "a job that has a permanent name is not left alone: {guest:?}");
    let Ok(CallAnswer::Guest { handle, .. }) = guest else { return };
    scene.call(Call::Kill { handle }).unwrap();
    scene.close(handle);
    scene.close(job);
    assert_eq!(scene.live(ObjectType::Job), 3);
    scene.call(Call::Unlink { directory: root, name: b"job" }).unwrap();
    assert_eq!(scene.live(ObjectType::Job), 2);
    scene.end();
}

#[test]
fn a_temporary_name_goes_though_something_else_keeps_the_object() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let job = scene.job;
    scene.link(root, "job", job);
    scene.close(job);
    assert_eq!(scene.names(root), [""; 0]);
    assert_eq!(scene.live(ObjectType::Job), 2, "there is a guest in it");
    scene.end();
}

#[test]
fn opening_gives_what_the_entry_grants_and_no_more() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let object = scene.symbolic_link("x");
    let most = Rights::READ | Rights::DUPLICATE;
    scene.link_as(root, "object", object, exactly(most), false).unwrap();
    let read = |rights, follow| Call::Open { directory: root, path: b"object", rights, expected: None, follow };
    let opened = scene.handle(read(SAME, false)).unwrap();
    assert_eq!(scene.rights(opened), most);
    let opened = scene.handle(read(exactly(Rights::NONE), false)).unwrap();
    assert_eq!(scene.rights(opened), Rights::NONE);
    let koid = scene.koid(object);
    let asked = Rights::READ | Rights::TRANSFER;
    let object_type = ObjectType::SymbolicLink.number();
    let refused = CallError::TooManyRights { koid, object_type, asked, most };
    assert_eq!(scene.call(read(exactly(asked), false)), Err(refused));
    let reserved = Rights::from_bits(1 << 11);
    assert_eq!(scene.call(read(exactly(reserved), false)), Err(CallError::ReservedRights { asked: reserved }));
    // What is linked with a handle of few rights grants few.
    let few = scene.less(object, Rights::DUPLICATE);
    scene.call(Call::Unlink { directory: root, name: b"object" }).unwrap();
    assert!(matches!(
        scene.link_as(root, "object", few, exactly(most), false),
        Err(CallError::TooManyRights { most: Rights::DUPLICATE, .. })
    ));
    assert_eq!(
        code(scene.link_as(root, "object", few, SAME, true)),
        ErrorCode::AccessDenied,
        "permanence needs MANAGE"
    );
    scene.link(root, "object", few);
    let opened = scene.handle(read(SAME, false)).unwrap();
    assert_eq!(scene.rights(opened), Rights::DUPLICATE);
    let expected = Some(ObjectType::Directory.number());
    let call = Call::Open { directory: root, path: b"object", rights: SAME, expected, follow: false };
    assert!(matches!(scene.call(call), Err(CallError::UnexpectedType { .. })));
    assert_eq!(
        code(scene.open_as(root, "none", exactly(reserved))),
        ErrorCode::BadArgument,
        "before the path is walked"
    );
    scene.end();
}

#[test]
fn a_walk_needs_lookup_of_each_entry_and_stays_below_its_start() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let [open, shut, inner, leaf] = [(); 4].map(|()| scene.directory());
    scene.link(root, "open", open);
    scene.link_as(root, "shut", shut, exactly(Rights::ENUMERATE), false).unwrap();
    scene.link(open, "inner", inner);
    scene.link(shut, "leaf", leaf);
    let up = scene.symbolic_link("../../open");
    scene.link(inner, "up", up);
    let koid = scene.koid(shut);
    let denied = CallError::AccessDenied { koid, operation: Operation::Open, missing: Rights::LOOKUP };
    assert_eq!(scene.open(root, "shut/leaf"), Err(denied));
    assert!(scene.open(shut, "leaf").is_ok(), "the handle allows it");
    let opened = scene.open(root, "open/inner/up").unwrap();
    assert_eq!(scene.koid(opened), scene.koid(open));
    let directory = scene.koid(open);
    assert_eq!(scene.open(open, "inner/up"), Err(CallError::AboveStart { directory }));
    let directory = scene.koid(inner);
    assert_eq!(scene.open(root, "open/inner/none"), Err(CallError::NotFound { directory }));
    assert!(matches!(scene.open(root, "open/inner/up/inner/up/none"), Err(CallError::NotFound { .. })));
    let blind = scene.less(root, Rights::ENUMERATE);
    assert_eq!(code(scene.open(blind, "//")), ErrorCode::AccessDenied, "what is asked is looked at after the handle");
    assert_eq!(code(scene.open(root, "//")), ErrorCode::BadArgument);
    assert_eq!(code(scene.open(up, "x")), ErrorCode::WrongType);
    let round = scene.symbolic_link("round");
    scene.link(root, "round", round);
    assert_eq!(code(scene.open(root, "round")), ErrorCode::LinkLoop);
    let not_followed = Call::Open { directory: root, path: b"round", rights: SAME, expected: None, follow: false };
    let link = scene.handle(not_followed).unwrap();
    assert_eq!(scene.call(Call::ReadLink { handle: link }), Ok(CallAnswer::Target(b"round".to_vec())));
    assert_eq!(code(scene.call(Call::ReadLink { handle: root })), ErrorCode::WrongType);
    let through =
        Call::Open { directory: root, path: b"open/inner/up/inner", rights: SAME, expected: None, follow: true };
    assert!(scene.handle(through).is_ok());
    let bad = What::SymbolicLink { target: b"a/../b" };
    assert_eq!(scene.call(Call::Create { what: bad }), Err(CallError::BadPath { bytes: 6 }));
    assert_eq!(LINKS_MOST, 32);
    scene.end();
}

#[test]
fn a_name_is_refused_for_the_first_reason() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let [above, below] = [(); 2].map(|()| scene.directory());
    scene.link(root, "above", above);
    scene.link(above, "below", below);
    let koid = scene.koid(above);
    assert_eq!(scene.link_as(root, "above", above, SAME, false), Err(CallError::NameExists { koid }));
    assert_eq!(scene.link_as(below, "round", above, SAME, false), Err(CallError::AlreadyNamed { koid }));
    scene.call(Call::Unlink { directory: root, name: b"above" }).unwrap();
    assert_eq!(scene.link_as(below, "round", above, SAME, false), Err(CallError::Cycle { koid }));
    assert_eq!(scene.link_as(above, "self", above, SAME, false), Err(CallError::Cycle { koid }));
    let unnamed = scene.directory();
    assert_eq!(code(scene.link_as(unnamed, "self", unnamed, SAME, false)), ErrorCode::Cycle);
    assert_eq!(scene.link_as(below, "a/b", above, SAME, false), Err(CallError::BadName { bytes: 3 }));
    assert_eq!(code(scene.call(Call::Unlink { directory: root, name: b"above" })), ErrorCode::NotFound);
    let mut deepest = below;
    for _ in 0..63 {
        let next = scene.directory();
        scene.link(deepest, "down", next);
        deepest = next;
    }
    let one_more = scene.directory();
    let koid = scene.koid(deepest);
    assert_eq!(scene.link_as(deepest, "down", one_more, SAME, false), Err(CallError::TooDeep { koid, most: 64 }));
    let create =
        Call::OpenOrCreate { directory: deepest, name: b"x", what: What::Directory, rights: SAME, exclusive: true };
    assert_eq!(code(scene.call(create)), ErrorCode::TooDeep);
    assert_eq!(code(scene.link_as(root, "above", above, SAME, false)), ErrorCode::TooDeep);
    scene.call(Call::Rename { directory: above, from: b"below", to: b"below" }).unwrap();
    assert_eq!(code(scene.call(Call::Rename { directory: above, from: b"none", to: b"below" })), ErrorCode::NotFound);
    scene.link(above, "other", unnamed);
    let koid = scene.koid(unnamed);
    let taken = Call::Rename { directory: above, from: b"below", to: b"other" };
    assert_eq!(scene.call(taken), Err(CallError::NameExists { koid }));
    scene.end();
}

#[test]
fn open_or_create_is_one_step_and_says_which_it_was() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let call = |what, rights, exclusive| Call::OpenOrCreate { directory: root, name: b"it", what, rights, exclusive };
    let few = Rights::LOOKUP | Rights::INSPECT;
    let Ok(CallAnswer::Opened { handle, created: true }) = scene.call(call(What::Directory, exactly(few), false))
    else {
        panic!("not created")
    };
    assert_eq!((scene.rights(handle), scene.list(root)[0].most, scene.list(root)[0].permanent), (few, few, false));
    let Ok(CallAnswer::Opened { handle: second, created: false }) = scene.call(call(What::Directory, SAME, false))
    else {
        panic!("not opened")
    };
    assert_eq!(scene.koid(second), scene.koid(handle));
    assert_eq!(code(scene.call(call(What::Directory, SAME, true))), ErrorCode::NameExists);
    let link = What::SymbolicLink { target: b"x" };
    assert!(matches!(scene.call(call(link, SAME, false)), Err(CallError::UnexpectedType { .. })));
    assert!(matches!(
        scene.call(call(What::Directory, exactly(Rights::READ), false)),
        Err(CallError::TooManyRights { .. })
    ));
    assert_eq!(code(scene.call(call(What::SymbolicLink { target: b"" }, SAME, false))), ErrorCode::BadArgument);
    // CREATE alone is enough to make what must be new, and not to open what is there.
    let create = scene.less(root, Rights::CREATE);
    let by = |name, exclusive| Call::OpenOrCreate { directory: create, name, what: link, rights: SAME, exclusive };
    assert!(matches!(scene.call(by(b"new", true)), Ok(CallAnswer::Opened { created: true, .. })));
    assert_eq!(code(scene.call(by(b"new", false))), ErrorCode::AccessDenied);
    assert!(matches!(
        scene.call(call(What::Directory, exactly(Rights::READ), true)),
        Err(CallError::NameExists { .. })
    ));
    let made = scene.core.balance().of(ObjectType::Directory).created;
    let too_many = Call::OpenOrCreate {
        directory: root,
        name: b"n",
        what: What::Directory,
        rights: exactly(Rights::READ),
        exclusive: true,
    };
    assert_eq!(code(scene.call(too_many)), ErrorCode::AccessDenied);
    assert_eq!(scene.core.balance().of(ObjectType::Directory).created, made, "nothing was made");
    scene.end();
}

#[test]
fn a_list_is_in_the_order_of_linking_and_bears_changes() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let objects: Vec<RawHandle> = (0..6).map(|_| scene.directory()).collect();
    for (number, object) in objects.iter().enumerate() {
        scene.link(root, &format!("n{}", 9 - number), *object);
    }
    assert_eq!(scene.names(root), ["n9", "n8", "n7", "n6", "n5", "n4"]);
    let Ok(CallAnswer::Entry(Some(third))) = scene.call(Call::Enumerate { directory: root, cursor: 2 }) else {
        panic!("no entry")
    };
    assert_eq!(third.name.as_bytes(), b"n7");
    // The one stood on goes, the next one too, one far behind is renamed, a new one comes.
    scene.call(Call::Unlink { directory: root, name: b"n7" }).unwrap();
    scene.close(objects[3]);
    scene.call(Call::Rename { directory: root, from: b"n5", to: b"a" }).unwrap();
    let new = scene.directory();
    scene.link(root, "new", new);
    let mut cursor = third.cursor;
    let mut rest = Vec::new();
    while let Ok(CallAnswer::Entry(Some(entry))) = scene.call(Call::Enumerate { directory: root, cursor }) {
        cursor = entry.cursor;
        rest.push(entry.name.as_bytes().to_vec());
    }
    assert_eq!(rest, [&b"a"[..], b"n4", b"new"]);
    assert_eq!(scene.call(Call::Enumerate { directory: root, cursor: u64::MAX }), Ok(CallAnswer::Entry(None)));
    let blind = scene.less(root, Rights::LOOKUP);
    assert_eq!(code(scene.call(Call::Enumerate { directory: blind, cursor: 0 })), ErrorCode::AccessDenied);
    scene.end();
}

#[test]
fn a_directory_that_ends_lets_its_names_go_in_bounded_steps() {
    const MANY: u32 = 500;
    let mut scene = Scene::with_limits(Limits { work_per_step: 8, ..Limits::default() });
    let root = scene.boot.directory;
    let before = scene.bytes();
    let directory = scene.directory();
    let held = scene.directory();
    for number in 0..MANY {
        let object = scene.directory();
        scene.link_as(directory, &format!("{number}"), object, SAME, number % 2 == 0).unwrap();
        scene.close(object);
        while scene.core.go_on() {}
    }
    scene.link_as(directory, "held", held, SAME, true).unwrap();
    assert_eq!(scene.live(ObjectType::Directory), u64::from(MANY / 2) + 3);
    scene.close(directory);
    assert!(scene.core.has_work() && scene.core.names.len() > MANY / 2 - 20, "eight at a time");
    // Its names mean nothing from that instant, though most are there yet.
    assert_eq!(code(scene.call(Call::SetPermanent { handle: held, permanent: true })), ErrorCode::WrongName);
    let (koid, top) = (scene.koid(held), scene.koid(root));
    assert_eq!(scene.core.path(koid, &mut [0; 100]), Ok((koid, &b""[..])));
    scene.link(root, "held", held);
    assert_eq!(scene.core.path(koid, &mut [0; 100]), Ok((top, &b"held"[..])));
    let mut steps = 0;
    while scene.core.go_on() {
        steps += 1;
    }
    assert!(steps > MANY / 16, "{steps}");
    assert_eq!((scene.core.names.len(), scene.live(ObjectType::Directory)), (1, 2));
    let slots = (0..MANY).filter_map(kobj_memory::Place::new);
    assert_eq!(slots.filter(|place| scene.core.names.is_directory(*place)).count(), 2, "root and one that was named");
    scene.close(held);
    assert_eq!(scene.bytes(), before);
    scene.end();
}

#[test]
fn a_jobs_end_takes_its_names_and_what_is_held_from_outside_lives_on_unnamed() {
    let mut scene = Scene::new();
    let root = scene.boot.directory;
    let before = scene.bytes();
    let guest = scene.guest;
    let directory = scene.koid(root);
    let lookup = scene.core.grant(guest, directory, SAME).unwrap();
    let make = |scene: &mut Scene, name: &[u8], permanent| {
        let make = Call::OpenOrCreate { directory: lookup, name, what: What::Directory, rights: SAME, exclusive: true };
        let Ok(CallAnswer::Opened { handle, .. }) = scene.call_by(guest, make) else { panic!("not made") };
        scene.call_by(guest, Call::SetPermanent { handle, permanent }).unwrap();
        handle
    };
    let inner = make(&mut scene, b"held", true);
    make(&mut scene, b"kept by its name", true);
    make(&mut scene, b"kept by a handle", false);
    let mine = scene.directory();
    scene.link(root, "mine", mine);
    let held = scene.open(root, "held").unwrap();
    // In the job's own directory: something of its own, something of another job.
    let what = What::SymbolicLink { target: b"x" };
    let call = Call::OpenOrCreate { directory: inner, name: b"own", what, rights: SAME, exclusive: true };
    assert!(scene.call_by(guest, call).is_ok());
    let other = scene.directory();
    scene.link_as(held, "other", other, SAME, true).unwrap();
    let koid = scene.koid(held);
    scene.call(Call::Kill { handle: scene.job }).unwrap();
    while scene.core.go_on() {}
    scene.core.audit().unwrap();
    assert_eq!(scene.names(root), ["mine"]);
    assert_eq!((scene.names(held), scene.koid(held)), (Vec::from([String::from("other")]), koid));
    scene.link(root, "named again", held);
    assert!(scene.open(root, "named again/other").is_ok());
    let more = scene.directory();
    // Whose job has ended is charged to the job around it from now on.
    scene.link_as(held, "more", more, SAME, true).unwrap();
    let others = scene.other_handles_of(held);
    for handle in [mine, other, more, held, scene.job].into_iter().chain(others) {
        let rest = scene.other_handles_of(handle);
        for handle in rest.into_iter().chain([handle]) {
            let _closed_before = scene.call(Call::Close { handle });
        }
    }
    while scene.core.go_on() {}
    assert_eq!(scene.names(root), [""; 0]);
    assert_eq!(scene.live(ObjectType::Directory), 1);
    assert!(scene.bytes() < before, "the job and its guest are gone, and with them all charges");
    scene.end();
}

/// splitmix64.
fn random(state: &mut u64, most: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ (word >> 31)) % most as u64) as usize
}

#[test]
fn whatever_is_called_the_books_agree_and_all_can_be_ended() {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "a/b", "c/d/a", "", "a name that is too long for its entry"];
    for seed in 0..6 {
        let mut scene = Scene::with_limits(Limits { work_per_step: 3, ..Limits::default() });
        let mut state = seed;
        let mut handles = Vec::from([scene.boot.directory]);
        let mut done = 0;
        for _ in 0..1500 {
            let [directory, handle] = [(); 2].map(|()| handles[random(&mut state, handles.len())]);
            let [name, to] = [(); 2].map(|()| NAMES[random(&mut state, NAMES.len())].as_bytes());
            let flag = random(&mut state, 2) == 0;
            let rights = [SAME, SAME, exactly(Rights::LOOKUP | Rights::DUPLICATE)][random(&mut state, 3)];
            let what =
                [What::Directory, What::Directory, What::SymbolicLink { target: b"../a/b" }][random(&mut state, 3)];
            let call = match random(&mut state, 12) {
                0 => Call::Create { what },
                1 | 2 => Call::Link { directory, name, handle, most: rights, permanent: flag },
                3 => Call::Unlink { directory, name },
                4 => Call::Rename { directory, from: name, to },
                5 | 6 => Call::Open { directory, path: name, rights, expected: None, follow: flag },
                7 | 8 => Call::OpenOrCreate { directory, name, what, rights, exclusive: flag },
                9 => Call::Enumerate { directory, cursor: random(&mut state, 10) as u64 },
                10 => Call::SetPermanent { handle, permanent: flag },
                _ if handle != scene.boot.directory => Call::Close { handle },
                _ => Call::ReadLink { handle },
            };
            let answer = scene.call(call);
            done += u32::from(answer.is_ok());
            match answer {
                Ok(CallAnswer::Handle(handle) | CallAnswer::Opened { handle, .. }) => handles.push(handle),
                Ok(_) if matches!(call, Call::Close { .. }) => handles.retain(|other| *other != handle),
                _ => {}
            }
        }
        assert!(done > 400, "{done} of 1500 were done");
        while scene.core.go_on() {}
        scene.core.audit().unwrap();
        scene.end();
    }
}
