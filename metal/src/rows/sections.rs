//! Sections on the heap: where there is no operating system, the platform's memory is the embedder's own.

use super::Row;
use crate::Machine;
use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{AskedRights, Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::embed::{Manager, Mapped};
use kobj_core::image::Time;
use kobj_core::platform::{Heap, HeapView, View};
use kobj_core::types::section::Request;
use kobj_core::{Call, CallAnswer, CallError, Core, Limits};
use kobj_memory::Spin;

const NOW: Time = Time(1_000_000);
/// What all sections together may have.
const ROOM_BYTES: u64 = 1 << 20;

/// A manager with the heap for its sections, and one guest.
struct Scene {
    manager: Manager<Spin, Heap>,
    me: Koid,
    /// The embedder's handle, and by what it calls.
    guest: (RawHandle, Koid),
}

impl Scene {
    fn new() -> Self {
        let limits = Limits { seed: 1, ..Limits::default() };
        let manager: Manager<Spin, Heap> =
            Manager::with_platform(NOW, Era(7), limits, Heap::new(ROOM_BYTES)).expect("a manager");
        let boot = manager.boot();
        let guest = manager.call(NOW, boot.process, Call::CreateGuest { job: boot.job, inherit: false });
        let Ok(CallAnswer::Guest { handle, process }) = guest else { panic!("no guest: {guest:?}") };
        Self { manager, me: boot.process, guest: (handle, process) }
    }

    fn create(&self, size_bytes: u64) -> Result<RawHandle, CallError> {
        self.manager.create_section(NOW, self.me, Request { size_bytes, lazy: false })
    }

    fn map(&self, process: Koid, handle: RawHandle, access: Access) -> Result<Mapped<HeapView>, CallError> {
        self.manager.map(process, handle, Part { offset_bytes: 0, size_bytes: 4096 }, access)
    }

    fn close(&self, handle: RawHandle) {
        self.manager.call(NOW, self.me, Call::Close { handle }).expect("a handle that is open");
        while self.manager.go_on() {}
    }

    /// A handle with fewer rights, given to the guest.
    fn give(&self, handle: RawHandle, rights: Rights) -> RawHandle {
        let rights = AskedRights::Exactly(rights | Rights::TRANSFER);
        let handle = self.handle(Call::Duplicate { handle, rights });
        self.handle(Call::Transfer { handle, process: self.guest.0, rights: AskedRights::Same })
    }

    fn handle(&self, call: Call<'_>) -> RawHandle {
        match self.manager.call(NOW, self.me, call) {
            Ok(CallAnswer::Handle(handle)) => handle,
            other => panic!("{call:?}: {other:?}"),
        }
    }

    fn end(self) {
        self.manager.with(Core::shut_down);
        while self.manager.next_effect().is_some() {}
        assert_eq!(self.manager.platform().counts(), (0, 0));
        let core = self.manager.with(|core| core::mem::replace(core, Core::new(Era(8))));
        assert!(core.finish().expect("the books agree").is_zero());
    }
}

fn code<T>(result: Result<T, CallError>) -> Option<ErrorCode> {
    result.err().map(CallError::code)
}

/// Does it with every allocation refused in turn, until it succeeds.
fn refused<T>(machine: &Machine, scene: &Scene, action: impl Fn(&Scene) -> Result<T, CallError>) -> T {
    let before = (scene.manager.with(|core| core.live()), scene.manager.platform().counts());
    for allocations in 0..100 {
        (machine.refuse_after)(Some(allocations));
        let result = action(scene);
        (machine.refuse_after)(None);
        scene.manager.with(|core| core.audit()).expect("the books agree");
        match result {
            Ok(done) => {
                assert!(allocations > 0, "nothing asked for memory");
                return done;
            }
            Err(error) => assert_eq!(error.code(), ErrorCode::NoMemory),
        }
        assert_eq!((scene.manager.with(|core| core.live()), scene.manager.platform().counts()), before);
    }
    panic!("it never succeeds")
}

pub(super) const ROWS: &[Row] = &[
    ("a section is zeroes, and keeps what is written", |_| {
        let scene = Scene::new();
        let handle = scene.create(4096).expect("a section");
        let Mapped { view, id } = scene.map(scene.me, handle, Access::ReadWrite).expect("a view");
        let mut bytes = [1; 100];
        view.read(4000 - 4, &mut bytes).expect("within the view");
        assert_eq!(bytes, [0; 100]);
        view.write(3, b"words").expect("within the view");
        view.read(1, &mut bytes).expect("within the view");
        assert_eq!(&bytes[..8], b"\0\0words\0");
        scene.manager.unmap(id);
        scene.end();
    }),
    ("two processes see the same bytes", |_| {
        let scene = Scene::new();
        let handle = scene.create(4096).expect("a section");
        let theirs = scene.give(handle, Rights::MAP_READ);
        let ours = scene.map(scene.me, handle, Access::ReadWrite).expect("a view");
        let theirs = scene.map(scene.guest.1, theirs, Access::Read).expect("a view");
        ours.view.write(8, b"shared").expect("within the view");
        let mut bytes = [0; 6];
        theirs.view.read(8, &mut bytes).expect("within the view");
        assert_eq!(&bytes, b"shared");
        assert_eq!(theirs.view.write(0, b"x"), Err(ViewError::ReadOnly));
        scene.end();
    }),
    ("without the right to write nothing is mapped to be written", |_| {
        let scene = Scene::new();
        let handle = scene.create(4096).expect("a section");
        let theirs = scene.give(handle, Rights::MAP_READ);
        assert_eq!(code(scene.map(scene.guest.1, theirs, Access::ReadWrite)), Some(ErrorCode::AccessDenied));
        scene.end();
    }),
    ("past its end nothing is mapped, read or written", |_| {
        let scene = Scene::new();
        let handle = scene.create(4096).expect("a section");
        let part = Part { offset_bytes: 1, size_bytes: 4096 };
        assert!(scene.manager.map(scene.me, handle, part, Access::Read).is_err());
        let mapped = scene.map(scene.me, handle, Access::ReadWrite).expect("a view");
        assert!(mapped.view.write(4090, b"words and words").is_err());
        assert!(mapped.view.read(u64::MAX, &mut [0; 9]).is_err());
        scene.end();
    }),
    ("a section larger than what there is is refused before anything is taken", |machine| {
        let scene = Scene::new();
        let before = (machine.live_bytes)();
        for size_bytes in [ROOM_BYTES + 1, 1 << 50, u64::MAX] {
            assert_eq!(code(scene.create(size_bytes)), Some(ErrorCode::NoMemory));
        }
        assert_eq!((machine.live_bytes)(), before);
        scene.end();
    }),
    ("its memory goes with the last handle and the last view", |machine| {
        let scene = Scene::new();
        scene.close(scene.create(4096).expect("a section"));
        let before = (machine.live_bytes)();
        let handle = scene.create(ROOM_BYTES).expect("a section");
        let mapped = scene.map(scene.me, handle, Access::Read).expect("a view");
        scene.close(handle);
        assert!((machine.live_bytes)() >= before + ROOM_BYTES as usize, "the view keeps it");
        scene.manager.unmap(mapped.id);
        drop(mapped);
        while scene.manager.go_on() {}
        assert_eq!(scene.manager.platform().counts(), (0, 0));
        assert!((machine.live_bytes)() < before + 4096);
        scene.end();
    }),
    ("the views of a killed guest are taken from it", |_| {
        let scene = Scene::new();
        let handle = scene.create(4096).expect("a section");
        let theirs = scene.give(handle, Rights::MAP_READ);
        let mapped = scene.map(scene.guest.1, theirs, Access::Read).expect("a view");
        scene.manager.call(NOW, scene.me, Call::Kill { handle: scene.guest.0 }).expect("a kill");
        while scene.manager.go_on() {}
        assert_eq!(mapped.view.read(0, &mut [0; 4]), Err(ViewError::Unmapped));
        assert_eq!(scene.manager.platform().counts(), (1, 0));
        scene.end();
    }),
    ("sections and views are made whole or not at all", |machine| {
        let scene = Scene::new();
        let handle = refused(machine, &scene, |scene| scene.create(4096));
        let mapped = refused(machine, &scene, |scene| scene.map(scene.me, handle, Access::Read));
        scene.manager.unmap(mapped.id);
        scene.end();
    }),
];
