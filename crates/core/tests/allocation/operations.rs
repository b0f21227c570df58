//! Every operation of the core with each of its allocations refused once, and every end with all of them refused.

use super::{at_each_allocation, without_allocation};
use kobj_abi::{AskedRights, Era, HostKind, Koid, LinkKind, ObjectType, RawHandle};
use kobj_core::image::{Creator, Evidence, Holder, HostImage, Identity, Time};
use kobj_core::types::process;
use kobj_core::{
    BadHandlePolicy, Boot, Call, CallAnswer, CallError, Core, CreateError, Effect, EndError, EraError, Limits,
    LinkError, Outcome, QueryError, Resource, ScrubError, What,
};
use std::fmt::Write;

const SAME: AskedRights = AskedRights::Same;
const NOW: Time = Time(1);

/// A manager with a job, two guests in it, and handles of each kind; `filled` says of how many things there are, so that
/// for one or another of these the next one needs new storage.
struct Scene {
    core: Core,
    boot: Boot,
    job: RawHandle,
    other_job: RawHandle,
    guest: RawHandle,
    process: Koid,
    /// In the embedder's table: nothing derived from it, something, and what was derived.
    plain: RawHandle,
    root: RawHandle,
    derived: RawHandle,
    /// In the guest's table.
    guests_own: RawHandle,
}

impl Scene {
    fn new(filled: usize) -> Self {
        let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
        let boot = core.boot(NOW).unwrap();
        let mut scene = Self {
            job: boot.job,
            other_job: boot.job,
            guest: boot.job,
            process: boot.process,
            plain: boot.job,
            root: boot.job,
            derived: boot.job,
            guests_own: boot.job,
            core,
            boot,
        };
        scene.job = scene.handle(Call::CreateJob { job: boot.job });
        scene.other_job = scene.handle(Call::CreateJob { job: boot.job });
        (scene.guest, scene.process) = scene.make_guest();
        scene.plain = scene.handle(Call::Create { what: What::Directory });
        scene.call(Call::SetInheritable { handle: scene.plain, inheritable: true }).unwrap();
        scene.root = scene.handle(Call::Create { what: What::Directory });
        scene.derived = scene.handle(Call::Derive { handle: scene.root, rights: SAME });
        let Ok(CallAnswer::Handle(own)) = scene.core.call(NOW, scene.process, Call::Create { what: What::Directory })
        else {
            panic!("nothing of the guest's own")
        };
        scene.guests_own = own;
        for _ in 0..filled {
            scene.make_guest();
            let job = scene.handle(Call::CreateJob { job: scene.other_job });
            scene.handle(Call::Derive { handle: scene.root, rights: SAME });
            scene.handle(Call::Duplicate { handle: job, rights: SAME });
        }
        scene
    }

    fn call(&mut self, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.core.call(NOW, self.boot.process, call)
    }

    fn handle(&mut self, call: Call<'_>) -> RawHandle {
        match self.call(call) {
            Ok(CallAnswer::Handle(handle)) => handle,
            other => panic!("{call:?}: {other:?}"),
        }
    }

    fn make_guest(&mut self) -> (RawHandle, Koid) {
        match self.call(Call::CreateGuest { job: self.job, inherit: true }) {
            Ok(CallAnswer::Guest { handle, process }) => (handle, process),
            other => panic!("{other:?}"),
        }
    }
}

/// What can be seen of a manager: what lives and how often it is referred to, and what all accounts have; and its books agree.
fn seen(core: &Core) -> String {
    core.audit().unwrap_or_else(|imbalance| panic!("{imbalance}"));
    let mut seen = format!("{} nodes\n", core.derivation_nodes());
    let resources = ObjectType::ALL.map(|object_type| Resource::ObjectsOf(object_type.number()));
    for counter in 1..=core.balance().rows().map(|(_, tally)| tally.live).sum::<u64>() + 8 {
        let koid = Koid::new(Era(7), counter as u32).unwrap();
        let Ok(info) = core.query(koid) else { continue };
        let used = |resource| core.usage(koid, resource).map(|usage| (usage.used, usage.limit)).ok();
        let usage = [Resource::Objects, Resource::Handles, Resource::Bytes].into_iter().chain(resources).map(used);
        writeln!(seen, "{koid} {} {:?} {:?}", info.references, info.owner, usage.collect::<Vec<_>>()).unwrap();
    }
    seen
}

/// A call with each of its allocations refused, on managers that are filled differently. At least `most` were refused once.
fn check(most: u32, call: impl Fn(&Scene) -> Call<'static>) {
    let mut refused = 0;
    for filled in [0, 1, 5, 6, 7, 8, 13, 14, 29, 30, 31] {
        let mut before = Scene::new(filled);
        let seen_before = seen(&before.core);
        let example = call(&before);
        before.call(example).unwrap_or_else(|error| panic!("{example:?}: {error}"));
        refused = refused.max(at_each_allocation(
            || Scene::new(filled),
            |scene| scene.call(call(scene)),
            |scene, error| {
                assert_eq!(error, CallError::NoMemory {});
                assert_eq!(seen(&scene.core), seen_before);
            },
        ));
    }
    assert!(refused >= most, "{refused} allocations");
}

#[test]
fn objects_jobs_and_guests_are_made_or_not() {
    check(1, |_| Call::Create { what: What::Directory });
    check(1, |_| Call::Create { what: What::SymbolicLink { target: b"somewhere" } });
    check(2, |scene| Call::CreateJob { job: scene.job });
    check(3, |scene| Call::CreateGuest { job: scene.other_job, inherit: false });
    check(4, |scene| Call::CreateGuest { job: scene.job, inherit: true });
}

#[test]
fn handles_are_made_and_moved_or_not() {
    check(1, |scene| Call::Duplicate { handle: scene.plain, rights: SAME });
    check(1, |scene| Call::Derive { handle: scene.plain, rights: SAME });
    check(1, |scene| Call::Derive { handle: scene.derived, rights: SAME });
    check(0, |scene| Call::Replace { handle: scene.derived, rights: SAME });
    check(0, |scene| Call::Transfer { handle: scene.derived, process: scene.guest, rights: SAME });
}

#[test]
fn quotas_are_set_and_charges_moved_or_not() {
    let rare = Resource::ObjectsOf(kobj_abi::ObjectType::HostObject.number());
    check(0, |scene| Call::SetQuota { handle: scene.job, resource: rare, limit: 7 });
    check(0, |scene| Call::SetBadHandlePolicy { job: scene.job, policy: BadHandlePolicy::Kill });
    let recharge = |scene: &Scene| Call::Recharge { handle: scene.plain, from: scene.boot.job, to: scene.other_job };
    check(0, recharge);
}

#[test]
fn closing_revoking_and_killing_allocate_nothing() {
    let mut scene = Scene::new(40);
    let me = scene.boot.process;
    let guests_own = scene.guests_own;
    let bad = [Call::SetBadHandlePolicy { job: scene.job, policy: BadHandlePolicy::Kill }];
    bad.into_iter().for_each(|call| drop(scene.call(call).unwrap()));
    let (mut killed, mut pieces) = (0, 0);
    let done = without_allocation(|| {
        let core = &mut scene.core;
        let closed = core.call(NOW, me, Call::Close { handle: scene.plain }).is_ok();
        while core.call(NOW, me, Call::Revoke { handle: scene.root }) == Ok(CallAnswer::GoOn) {
            pieces += 1;
        }
        let revoked = core.call(NOW, me, Call::HandleInfo { handle: scene.derived }).is_err();
        let guest = core.call(NOW, me, Call::Kill { handle: scene.guest }).is_ok();
        while core.go_on() {}
        let refused = core.call(NOW, scene.process, Call::Close { handle: guests_own }).is_err();
        let job = core.call(NOW, me, Call::Kill { handle: scene.job }).is_ok();
        let other = core.call(NOW, me, Call::Kill { handle: scene.other_job }).is_ok();
        while core.go_on() {}
        core.shut_down();
        while let Some(effect) = core.next_effect() {
            killed += u32::from(matches!(effect, Effect::Killed { .. }));
        }
        [closed, revoked, guest, refused, job, other, core.audit().is_ok()]
    });
    assert_eq!(done, [true; 7]);
    assert_eq!(killed, 42, "each guest and the embedder's own process, told without memory");
    assert!(scene.core.finish().unwrap().is_zero());
}

// What kobj run uses: objects by koid.

fn image() -> HostImage {
    let mut image = HostImage::new(HostKind::SysvSegment, b"4711".to_vec(), Identity::Ipc { id: 1, key: 2, uid: 3 });
    image.creator = Some(Creator { pid: 7, command: b"maker".to_vec(), at: None });
    image.holders.push(Holder { pid: 8, command: b"holder".to_vec(), how: kobj_abi::HoldHow::Map });
    let (kind, strength) = (kobj_abi::EvidenceKind::Unused, kobj_abi::Strength::Proof);
    image.evidence.push(Evidence { kind, strength, detail: "nobody maps it".into() });
    image
}

struct Run {
    core: Core,
    job: Koid,
    process: Koid,
    object: Koid,
}

impl Run {
    fn new() -> Self {
        let mut core = Core::new(Era(7));
        let job = core.create_job(NOW, None, None).unwrap();
        let request = process::Request { pid: 9, started: 1, ended: false };
        let process = core.create_process(NOW, Some(job), request, Some(b"command")).unwrap();
        let object = core.create_host_object(NOW, job, image(), Some(process)).unwrap();
        core.link(process, LinkKind::Holds, object).unwrap();
        Self { core, job, process, object }
    }
}

fn check_run<T, E: core::fmt::Debug + PartialEq>(
    least: u32,
    operation: impl Fn(&mut Run) -> Result<T, E>,
    refusal: impl Fn(&Run) -> E,
) {
    let before = seen(&Run::new().core);
    let refused = at_each_allocation(Run::new, operation, |run, error| {
        assert_eq!(error, refusal(run));
        assert_eq!(seen(&run.core), before);
    });
    assert!(refused >= least, "{refused} allocations");
}

#[test]
fn what_a_run_makes_is_made_or_not() {
    let no_memory = |run: &Run| CreateError::NoMemory { job: Some(run.job) };
    let make_job = |run: &mut Run| run.core.create_job(NOW, Some(run.job), Some(b"inner"));
    let refused = at_each_allocation(Run::new, make_job, |run, error| {
        assert!(matches!(error, CreateError::NoMemory { .. }), "{error}");
        assert_eq!(seen(&run.core), seen(&Run::new().core));
    });
    assert!(refused >= 2, "the books and the name: {refused}");
    let request = process::Request { pid: 10, started: 1, ended: false };
    check_run(
        1,
        |run| run.core.create_process(NOW, Some(run.job), request, Some(b"a long name of a command")),
        no_memory,
    );
    // The image is the caller's, made before.
    let images = std::cell::RefCell::new(Vec::from_iter((0..64).map(|_| image())));
    let make = |run: &mut Run| {
        let image = images.borrow_mut().pop().expect("an image");
        run.core.create_host_object(NOW, run.job, image, Some(run.process))
    };
    check_run(1, make, no_memory);
    let refused = (20..40).map(|filled| {
        let make = || {
            let mut run = Run::new();
            for _ in 0..filled {
                run.core.link(run.process, LinkKind::WaitsOn, run.job).unwrap();
            }
            run
        };
        let before = seen(&make().core);
        at_each_allocation(
            make,
            |run| run.core.link(run.process, LinkKind::WaitsOn, run.job),
            |run, error| {
                assert_eq!(error, LinkError::NoMemory { source: run.process });
                assert_eq!(seen(&run.core), before);
            },
        )
    });
    assert_eq!(refused.sum::<u32>(), 1, "links come by the bucket");
    check_run(0, |run| run.core.open_era(Era(8)), |_| EraError::NoMemory);
}

#[test]
fn questions_are_answered_or_not_and_reservations_made_or_not() {
    let no_answer = |run: &Run| QueryError::NoMemory { koid: run.object };
    check_run(1, |run| run.core.query(run.object), no_answer);
    check_run(5, |run| run.core.image(run.object), no_answer);
    check_run(1, |run| run.core.why(run.object), no_answer);
    check_run(5, |run| run.core.begin_scrub(run.object), |run| ScrubError::NoMemory { koid: run.object });
    check_run(0, |run| run.core.end_process(run.process), |run| EndError::NoMemory { koid: run.process });
}

#[test]
fn what_a_run_ends_needs_no_memory() {
    let mut run = Run::new();
    for pid in 10..60 {
        let request = process::Request { pid, started: 1, ended: false };
        let process = run.core.create_process(NOW, Some(run.job), request, None).unwrap();
        run.core.link(process, LinkKind::Holds, run.object).unwrap();
    }
    let inner = run.core.create_job(NOW, Some(run.job), None).unwrap();
    let held = run.core.create_host_object(NOW, inner, image(), None).unwrap();
    run.core.reference(held).unwrap();
    let scrub = run.core.begin_scrub(run.object).unwrap();
    let mut ended = 0;
    let done = without_allocation(|| {
        let core = &mut run.core;
        let scrubbed = core.done(scrub, Outcome::Left).is_ok();
        let closed = core.close(run.object).is_ok();
        let killed = core.kill_job(run.job).is_ok();
        while core.go_on() {}
        while let Some(effect) = core.next_effect() {
            let Effect::EndProcess { ticket, koid, .. } = effect else { continue };
            ended += 1;
            // Some are seen to be gone before their effect is, each with its loose ends.
            let gone = ended % 2 == 0 && core.process_ended(koid).is_ok();
            let _settled = core.done(ticket, Outcome::Destroyed).is_ok() || gone;
        }
        while core.go_on() {}
        let released = core.release(held).is_ok();
        while core.go_on() {}
        [scrubbed, closed, killed, released, core.audit().is_ok()]
    });
    assert_eq!((done, ended), ([true; 5], 51));
    assert!(run.core.finish().unwrap().is_zero());
}

/// The system directory and a Type object for each type are made, or nothing of it is.
#[test]
fn the_system_directory_is_made_or_not() {
    let make = || {
        let mut core = Core::with_limits(Era(7), Limits::default());
        core.boot(NOW).unwrap();
        core
    };
    let live = make().live();
    let refused = at_each_allocation(
        make,
        |core| core.system_directory(NOW),
        |core, error| {
            assert_eq!(error, CallError::NoMemory {});
            assert_eq!(core.live(), live);
            core.audit().unwrap();
        },
    );
    assert!(refused >= 4, "two lists, two names: {refused}");
}
