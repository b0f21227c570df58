//! Who holds what, why it lives, and where a handle came from.

use kobj_abi::{AskedRights, Era, Koid, LinkKind, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, CallError, Holder, Keeper, Limits, What};
use kobj_memory::Spin;

struct Scene {
    manager: Manager<Spin>,
    guests: [(RawHandle, Koid); 2],
}

const SAME: AskedRights = AskedRights::Same;

impl Scene {
    fn new() -> Self {
        let manager = Manager::new(Time(0), Era(7), Limits { seed: 1, ..Limits::default() }).unwrap();
        let boot = manager.boot();
        let guests = [(); 2].map(|()| {
            match manager.call(Time(0), boot.process, Call::CreateGuest { job: boot.job, inherit: false }).unwrap() {
                CallAnswer::Guest { handle, process } => (handle, process),
                other => panic!("{other:?}"),
            }
        });
        Self { manager, guests }
    }

    fn me(&self) -> Koid {
        self.manager.boot().process
    }

    fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let answer = self.manager.call(Time(0), process, call);
        self.manager.with(|core| core.audit().unwrap());
        answer
    }

    fn handle(&self, process: Koid, call: Call<'_>) -> RawHandle {
        match self.call(process, call).unwrap() {
            CallAnswer::Handle(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn koid(&self, process: Koid, handle: RawHandle) -> Koid {
        match self.call(process, Call::HandleInfo { handle }).unwrap() {
            CallAnswer::Info(info) => info.koid,
            other => panic!("{other:?}"),
        }
    }

    fn why(&self, koid: Koid) -> Vec<(Koid, LinkKind)> {
        self.manager.with(|core| core.why(koid)).unwrap().chain
    }
}

#[test]
fn holders_are_the_processes_with_handles_and_what_they_may() {
    let scene = Scene::new();
    let me = scene.me();
    let handle = scene.handle(me, Call::Create { what: What::Directory });
    let full = Rights::from_bits(match scene.call(me, Call::HandleInfo { handle }).unwrap() {
        CallAnswer::Info(info) => info.rights.bits(),
        other => panic!("{other:?}"),
    });
    let look = AskedRights::Exactly(Rights::LOOKUP);
    for (guest, _) in scene.guests {
        let copy = scene.handle(me, Call::Duplicate { handle, rights: SAME });
        scene.handle(me, Call::Transfer { handle: copy, process: guest, rights: look });
    }
    let CallAnswer::Holders(mut holders) = scene.call(me, Call::Holders { handle }).unwrap() else { panic!() };
    holders.sort_by_key(|holder| holder.process);
    let [first, second] = scene.guests.map(|(_, process)| Holder { process, handles: 1, rights: Rights::LOOKUP });
    assert_eq!(holders, [Holder { process: me, handles: 1, rights: full }, first, second]);
}

#[test]
fn why_goes_through_permanent_names_to_the_nearest_living_process() {
    let scene = Scene::new();
    let me = scene.me();
    let outer = scene.handle(me, Call::Create { what: What::Directory });
    let inner = scene.handle(me, Call::Create { what: What::Directory });
    let leaf = scene.handle(me, Call::Create { what: What::Directory });
    let [outer_koid, inner_koid, leaf_koid] = [outer, inner, leaf].map(|handle| scene.koid(me, handle));
    let link = |directory, handle| Call::Link { directory, name: b"x", handle, most: SAME, permanent: true };
    scene.call(me, link(outer, inner)).unwrap();
    scene.call(me, link(inner, leaf)).unwrap();
    assert_eq!(scene.why(leaf_koid), [(me, LinkKind::Holds)]);
    scene.call(me, Call::Close { handle: leaf }).unwrap();
    assert_eq!(scene.why(leaf_koid), [(me, LinkKind::Holds), (inner_koid, LinkKind::Contains)]);
    // Given to a guest that ends: then it is the outer one that keeps all.
    scene.handle(me, Call::Transfer { handle: inner, process: scene.guests[0].0, rights: SAME });
    assert_eq!(scene.why(leaf_koid), [(scene.guests[0].1, LinkKind::Holds), (inner_koid, LinkKind::Contains)]);
    scene.call(me, Call::Kill { handle: scene.guests[0].0 }).unwrap();
    while scene.manager.go_on() {}
    let chain = [(me, LinkKind::Holds), (outer_koid, LinkKind::Contains), (inner_koid, LinkKind::Contains)];
    assert_eq!(scene.why(leaf_koid), chain);
    let keepers = scene.call(me, Call::KeptBy { handle: outer }).unwrap();
    assert_eq!(keepers, CallAnswer::KeptBy(vec![Keeper { koid: me, kind: LinkKind::Holds }]));
}

#[test]
fn a_derived_handle_says_from_whom_it_came() {
    let scene = Scene::new();
    let me = scene.me();
    let first = scene.handle(me, Call::Create { what: What::Directory });
    let second = scene.handle(me, Call::Derive { handle: first, rights: SAME });
    let third = scene.handle(me, Call::Derive { handle: second, rights: SAME });
    let from = |handle| scene.call(me, Call::DerivedFrom { handle }).unwrap();
    assert_eq!(from(first), CallAnswer::DerivedFrom(vec![]));
    assert_eq!(from(second), CallAnswer::DerivedFrom(vec![me]));
    assert_eq!(from(third), CallAnswer::DerivedFrom(vec![me, me]));
}

#[test]
fn each_question_needs_inspect() {
    let scene = Scene::new();
    let me = scene.me();
    let full = scene.handle(me, Call::Create { what: What::Directory });
    let handle = scene.handle(me, Call::Replace { handle: full, rights: AskedRights::Exactly(Rights::LOOKUP) });
    let questions =
        [Call::Why { handle }, Call::Holders { handle }, Call::KeptBy { handle }, Call::DerivedFrom { handle }];
    for question in questions {
        let refused = scene.call(me, question).unwrap_err();
        assert!(matches!(refused, CallError::AccessDenied { missing: Rights::INSPECT, .. }), "{question:?}: {refused}");
    }
}
