//! Calls by handles, with memory that is refused at every single allocation: an error, and nothing half done.

use super::Row;
use crate::Machine;
use alloc::vec::Vec;
use kobj_abi::{AskedRights, Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::image::Time;
use kobj_core::{Boot, Call, CallAnswer, CallError, Core, Effect, Limits, What};

const NOW: Time = Time(1_000_000);

/// An embedded manager with one guest in a job.
struct Scene {
    core: Core,
    boot: Boot,
    job: RawHandle,
    guest: (RawHandle, Koid),
}

impl Scene {
    fn new() -> Self {
        let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
        let boot = core.boot(NOW).expect("an embedded manager");
        let me = boot.process;
        let CallAnswer::Handle(job) = core.call(NOW, me, Call::CreateJob { job: boot.job }).expect("a job") else {
            panic!("no handle")
        };
        let guest = core.call(NOW, me, Call::CreateGuest { job, inherit: false }).expect("a guest");
        let CallAnswer::Guest { handle, process } = guest else { panic!("no guest") };
        Self { core, boot, job, guest: (handle, process) }
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

    fn directory(&mut self) -> RawHandle {
        self.handle(Call::Create { what: What::Directory })
    }

    /// Refuses the first allocation of a call, then the second, and so on, until the call succeeds; gives what it
    /// answers, and how often it was refused.
    fn refused(&mut self, machine: &Machine, call: Call<'_>) -> (CallAnswer, u64) {
        for allocations in 0..100 {
            let live = self.core.live();
            (machine.refuse_after)(Some(allocations));
            let answer = self.call(call);
            (machine.refuse_after)(None);
            self.core.audit().expect("the books agree");
            match answer {
                Ok(answer) => return (answer, allocations),
                Err(error) => assert_eq!((error.code(), self.core.live()), (ErrorCode::NoMemory, live)),
            }
            while self.core.go_on() {}
        }
        panic!("{call:?} never succeeds")
    }

    /// Does it with no memory at all.
    fn without_memory<T>(&mut self, machine: &Machine, action: impl FnOnce(&mut Self) -> T) -> T {
        (machine.refuse_after)(Some(0));
        let done = action(self);
        (machine.refuse_after)(None);
        self.core.audit().expect("the books agree");
        done
    }

    fn end(mut self) {
        self.core.shut_down();
        while self.core.next_effect().is_some() {}
        let ending = self.core.finish().expect("the books agree");
        assert!(ending.is_zero(), "{:?}", ending.left);
    }
}

/// Makes as many as a bucket has, each with every allocation refused in turn; at least one is refused in all.
fn made_in_spite(machine: &Machine, count: usize, mut call: impl FnMut(&Scene) -> Call<'static>) {
    let mut scene = Scene::new();
    let mut refusals = 0;
    for _ in 0..count {
        let call = call(&scene);
        let (_, refused) = scene.refused(machine, call);
        refusals += refused;
    }
    assert!(refusals > 0, "nothing asked for memory");
    scene.end();
}

const SAME: AskedRights = AskedRights::Same;

pub(super) const ROWS: &[Row] = &[
    ("directories are made whole or not at all", |machine| {
        made_in_spite(machine, 200, |_| Call::Create { what: What::Directory });
    }),
    ("guests are made whole or not at all", |machine| {
        made_in_spite(machine, 100, |scene| Call::CreateGuest { job: scene.job, inherit: false });
    }),
    ("handles are made whole or not at all", |machine| {
        made_in_spite(machine, 600, |scene| Call::Duplicate { handle: scene.job, rights: SAME });
    }),
    ("a move that has no memory leaves the sender its handle", |machine| {
        let mut scene = Scene::new();
        let process = scene.guest.0;
        let mut refusals = 0;
        for _ in 0..200 {
            let handle = scene.directory();
            let (answer, refused) = scene.refused(machine, Call::Transfer { handle, process, rights: SAME });
            assert!(matches!(answer, CallAnswer::Handle(_)));
            assert_eq!(scene.call(Call::Close { handle }).map_err(CallError::code), Err(ErrorCode::BadHandle));
            refusals += refused;
        }
        assert!(refusals > 0);
        scene.end();
    }),
    ("closing a thousand handles asks for no memory", |machine| {
        let mut scene = Scene::new();
        let live = scene.core.live();
        let handles: Vec<RawHandle> = (0..1000).map(|_| scene.directory()).collect();
        let closed = scene.without_memory(machine, |scene| {
            handles.iter().filter(|handle| scene.call(Call::Close { handle: **handle }).is_ok()).count()
        });
        while scene.core.go_on() {}
        assert_eq!((closed, scene.core.live()), (1000, live));
        scene.end();
    }),
    ("killing a guest with a thousand handles asks for no memory, and the embedder is told", |machine| {
        let mut scene = Scene::new();
        let (process, guest) = scene.guest;
        let live = scene.core.live();
        for _ in 0..1000 {
            let handle = scene.directory();
            scene.handle(Call::Transfer { handle, process, rights: SAME });
        }
        scene.without_memory(machine, |scene| {
            scene.call(Call::Kill { handle: process }).expect("a kill");
            while scene.core.go_on() {}
        });
        assert!(matches!(scene.core.next_effect(), Some(Effect::Killed { koid, .. }) if koid == guest));
        assert_eq!(scene.core.live(), live, "the process stays for whoever has a handle to it");
        scene.end();
    }),
    ("symbolic links are made whole or not at all", |machine| {
        made_in_spite(machine, 200, |_| Call::Create { what: What::SymbolicLink { target: b"a/b" } });
    }),
    ("jobs are made whole or not at all", |machine| {
        made_in_spite(machine, 100, |scene| Call::CreateJob { job: scene.job });
    }),
    ("killing a job asks for no memory", |machine| {
        let mut scene = Scene::new();
        let job = scene.job;
        for _ in 0..50 {
            let handle = scene.handle(Call::CreateJob { job });
            scene.call(Call::CreateGuest { job: handle, inherit: false }).expect("a guest");
        }
        scene.without_memory(machine, |scene| {
            scene.call(Call::Kill { handle: job }).expect("a kill");
            while scene.core.go_on() {}
        });
        scene.end();
    }),
    ("a killed guest makes no calls", |_| {
        let mut scene = Scene::new();
        scene.call(Call::Kill { handle: scene.guest.0 }).expect("a kill");
        let refused = scene.core.call(NOW, scene.guest.1, Call::Create { what: What::Directory });
        assert!(matches!(refused.map_err(CallError::code), Err(ErrorCode::Dying)));
        scene.end();
    }),
    ("one guest's handle is nothing to another", |_| {
        let mut scene = Scene::new();
        let handle = scene.directory();
        let refused = scene.core.call(NOW, scene.guest.1, Call::HandleInfo { handle });
        assert_eq!(refused, Err(CallError::BadHandle { handle }));
        scene.end();
    }),
    ("rights shrink, and asking for more is refused", |_| {
        let mut scene = Scene::new();
        let handle = scene.directory();
        let few = AskedRights::Exactly(Rights::LOOKUP | Rights::DUPLICATE);
        let handle = scene.handle(Call::Replace { handle, rights: few });
        let more = AskedRights::Exactly(Rights::LOOKUP | Rights::CREATE);
        let refused = scene.call(Call::Duplicate { handle, rights: more });
        assert_eq!(refused.map_err(CallError::code), Err(ErrorCode::AccessDenied));
        scene.end();
    }),
];
