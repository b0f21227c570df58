//! What one thread does without the lock: making, duplicating and ending unnamed objects of one user's type.

use super::Manager;
use crate::call::{Call, CallAnswer, CallError};
use crate::image::Time;
use crate::leases::Leased;
use crate::manager::Core;
use crate::platform::Platform;
use crate::user_type::{ObjectType, Refused, TypeKey, watched};
use kobj_abi::{AskedRights, Denied, Koid, Operation, RawHandle, Rights, check};
use kobj_memory::{
    AddHandle, Closed, Content, Dropped, Ended, Lease, LeaseError, Lock, Objects, PinError, Place, Reserved, Stamp,
};

/// One thread's share of a manager, for objects of one type and in the name of one process. It can be sent to another thread.
///
/// What it makes is charged as everything is, and ends as everything does; only that nobody waits for anybody. What a step
/// of the core is needed for (a named object, another type's, a derived handle) goes there by itself. Dropped, it gives
/// back what it has left.
#[derive(Debug)]
pub struct Thread<'m, L: Lock, P: Platform, T: ObjectType> {
    manager: &'m Manager<L, P>,
    key: TypeKey<T>,
    rights: Rights,
    leased: Leased,
    /// Where things are made was noted when this began: then all that is made goes through the core, which notes it.
    is_traced: bool,
}

impl<L: Lock, P: Platform> Manager<L, P> {
    /// A share of the manager for the calling thread.
    ///
    /// # Errors
    /// [`CallError::NoProcess`], [`CallError::Dying`], [`CallError::NoMemory`]; [`CallError::NotRegistered`] for a key of
    /// another manager.
    pub fn thread<T: ObjectType>(&self, process: Koid, key: &TypeKey<T>) -> Result<Thread<'_, L, P, T>, CallError> {
        let (leased, info, is_traced) =
            self.with(|core| (core.lease_for(process, key), core.type_info(key.number()), core.is_tracing()));
        let rights = info.map_or(Rights::NONE, |info| info.rights);
        Ok(Thread { manager: self, key: *key, rights, leased: leased?, is_traced })
    }
}

impl<L: Lock, P: Platform, T: ObjectType> Thread<'_, L, P, T> {
    /// The process in whose name it makes objects.
    #[must_use]
    pub fn process(&self) -> Koid {
        self.leased.process
    }

    /// Makes an unnamed object, with all that its type can do.
    ///
    /// # Errors
    /// [`CallError::Refused`] by the type's create hook, [`CallError::Quota`], [`CallError::NoMemory`],
    /// [`CallError::Dying`]: nothing changed, and the state is dropped.
    #[inline]
    #[track_caller]
    pub fn create(&mut self, now: Time, state: T::State) -> Result<RawHandle, CallError> {
        if T::HAS_OPEN_HOOKS || self.is_traced {
            // The type is told of each handle, and its place is noted, which the core does.
            return self.manager.create_own(now, self.leased.process, &self.key, state);
        }
        T::create(&state).map_err(|Refused| CallError::Refused { number: self.key.number() })?;
        let mut state = state;
        // A thread that was just refilled may find that others have called its credit back: it asks again, as they do.
        loop {
            let Some(reserved) = self.leased.table.take_kept(&mut self.leased.slots) else {
                self.refill()?;
                continue;
            };
            match self.leased.lease.create_user(self.key.state_key(), now.0, state) {
                Ok(object) => {
                    let content =
                        Content { object: object.place(), rights: self.rights, node: None, inheritable: false };
                    return self.commit(reserved, content);
                }
                Err((error, back)) => {
                    state = back;
                    self.keep(reserved);
                    self.asked_again(error)?;
                }
            }
        }
    }

    /// Makes a handle valid that has been counted. If its process is being ended, the sweep of its table may be past the slot:
    /// then it is closed here, if the sweep does not.
    ///
    /// Of a thread that makes a handle valid and then looks whether its lease is closed, and a killer that closes the lease
    /// and then sweeps, one sees the other.
    #[inline]
    fn commit(&mut self, reserved: Reserved, content: Content) -> Result<RawHandle, CallError> {
        let handle = self.leased.table.commit(reserved, content);
        if self.leased.lease.is_closed() {
            return Err(self.too_late(handle));
        }
        Ok(handle)
    }

    #[cold]
    fn too_late(&mut self, handle: RawHandle) -> CallError {
        if let Ok(Closed::Now(content)) = self.leased.table.close_into(handle, &mut self.leased.slots) {
            self.closed(content);
        }
        CallError::Dying { koid: self.leased.process }
    }

    /// An equal handle, as [`Call::Duplicate`].
    ///
    /// # Errors
    /// As [`Call::Duplicate`].
    #[inline]
    #[track_caller]
    pub fn duplicate(&mut self, now: Time, handle: RawHandle, rights: AskedRights) -> Result<RawHandle, CallError> {
        if T::HAS_OPEN_HOOKS || self.is_traced {
            return self.by_a_step(now, Call::Duplicate { handle, rights });
        }
        let Some(reserved) = self.leased.table.take_kept(&mut self.leased.slots) else {
            self.refill()?;
            return self.by_a_step(now, Call::Duplicate { handle, rights });
        };
        let table = self.leased.table.clone();
        let pin = match table.pin(handle) {
            Ok(pin) => pin,
            Err(PinError::BadHandle | PinError::TooManyPins) => {
                self.keep(reserved);
                return self.by_a_step(now, Call::Duplicate { handle, rights });
            }
        };
        let content = pin.content();
        let given = self.given(content, rights);
        let counted = given.filter(|_| self.leased.lease.open_handle().is_ok());
        let Some(rights) = counted else {
            // Refused, derived, or without credit: the core says which, or does it.
            self.keep(reserved);
            self.manager.leave(self.leased.process, &table, pin);
            return self.by_a_step(now, Call::Duplicate { handle, rights });
        };
        if self.manager.objects.add_handle(content.object) != AddHandle::Counted {
            self.leased.lease.close_handle();
            self.keep(reserved);
            self.manager.leave(self.leased.process, &table, pin);
            return Err(CallError::TooManyReferences { koid: self.leased.process });
        }
        self.manager.leave(self.leased.process, &table, pin);
        self.commit(reserved, Content { rights, inheritable: false, ..content })
    }

    /// The rights of an equal of a handle that this thread can make by itself: to an object of its own type, since another one
    /// may be told of each handle.
    fn given(&self, content: Content, asked: AskedRights) -> Option<Rights> {
        let number = self.manager.objects.look_at(content.object).ok()?.1.type_number();
        if number != self.key.number() {
            return None;
        }
        match check(number, content.rights, Operation::Duplicate) {
            Ok(()) if content.node.is_none() => asked.within(content.rights),
            Ok(()) | Err(Denied::WrongType | Denied::AccessDenied { .. }) => None,
        }
    }

    /// Closes a handle of its process, whatever it means.
    ///
    /// # Errors
    /// [`CallError::BadHandle`].
    #[inline]
    pub fn close(&mut self, now: Time, handle: RawHandle) -> Result<(), CallError> {
        if T::HAS_OPEN_HOOKS {
            return self.manager.call(now, self.leased.process, Call::Close { handle }).map(drop);
        }
        match self.leased.table.close_into(handle, &mut self.leased.slots) {
            Ok(Closed::Now(content)) => self.closed(content),
            // Somebody looks at it this moment: whoever ends the last look hands it over.
            Ok(Closed::Later(_)) => {}
            // The core knows the process's policy for bad handles.
            Err(_) => return self.manager.call(now, self.leased.process, Call::Close { handle }).map(drop),
        }
        Ok(())
    }

    /// What a closed handle counted is given back.
    #[inline]
    fn closed(&mut self, content: Content) {
        if self.is_own(content) {
            return self.drop_handle(content.object);
        }
        let (process, table) = (self.leased.process, &self.leased.table);
        self.manager.with(|core| core.gave_up_by(process, table, content));
    }

    /// Whether a closed handle was of this thread's type and derived from none.
    #[inline]
    fn is_own(&self, content: Content) -> bool {
        let number = self.manager.objects.look_at(content.object).map(|(_, header)| header.type_number());
        content.node.is_none() && number == Ok(self.key.number())
    }

    #[inline]
    fn drop_handle(&mut self, place: Place) {
        match self.manager.objects.drop_handle(place) {
            // Who buries is decided before a hook runs: he runs both of them.
            Dropped::Last(ended) if self.leased.lease.may_bury(&ended) => {
                let (objects, lease) = (&self.manager.objects, &mut self.leased.lease);
                let mut ending = Ending { objects, lease, ended: Some(ended), is_closed: false };
                ending.run_hooks::<T>();
                if let Some(ended) = ending.ended.take() {
                    let _freed = ending.lease.close_last(ended);
                }
            }
            // Named once, linked, or charged to somebody else: the core buries it and runs its destroy hook.
            Dropped::Last(ended) => {
                self.leased.lease.close_handle();
                let koid = koid_of(&ended);
                if let (Some(state), Some(koid)) = (ended.state_as::<T::State>(), koid) {
                    watched(&self.manager.objects, || T::last_close(koid, state));
                }
                drop(ended);
                self.manager.with(|core| core.named_one_ended(place, koid));
            }
            Dropped::LastHandle(held) => {
                self.leased.lease.close_handle();
                if let Ok(object) = held.reference() {
                    self.manager.with(|core| core.last_handle_of_own(object));
                }
                drop(held);
                self.manager.go_on();
            }
            Dropped::Remaining | Dropped::None => self.leased.lease.close_handle(),
        }
    }

    fn keep(&mut self, reserved: Reserved) {
        self.leased.table.keep(&mut self.leased.slots, reserved);
    }

    #[cold]
    fn asked_again(&mut self, error: LeaseError) -> Result<(), CallError> {
        match error {
            LeaseError::Closed => Err(CallError::Dying { koid: self.leased.process }),
            LeaseError::WrongType => Err(CallError::NoMemory {}),
            LeaseError::NoCredit | LeaseError::NoPlace | LeaseError::NoKoid => self.refill(),
        }
    }

    #[cold]
    fn refill(&mut self) -> Result<(), CallError> {
        self.manager.with(|core: &mut Core| core.refill(&mut self.leased))
    }

    #[cold]
    #[track_caller]
    fn by_a_step(&mut self, now: Time, call: Call<'_>) -> Result<RawHandle, CallError> {
        match self.manager.call(now, self.leased.process, call)? {
            CallAnswer::Handle(handle) => Ok(handle),
            _ => Err(CallError::NoProcess { process: self.leased.process }),
        }
    }
}

/// The last handle of an object in the hands of its hooks. Whether or not they come back, what it counted is given back once.
struct Ending<'a, 'o> {
    objects: &'a Objects,
    lease: &'a mut Lease,
    ended: Option<Ended<'o>>,
    /// Whether the last-close hook came back.
    is_closed: bool,
}

impl Ending<'_, '_> {
    fn run_hooks<T: ObjectType>(&mut self) {
        let Some(ended) = &self.ended else { return };
        if let (Some(state), Some(koid)) = (ended.state_as::<T::State>(), koid_of(ended)) {
            T::last_close(koid, state);
            self.is_closed = true;
            T::destroy(koid, state);
        }
    }
}

impl Drop for Ending<'_, '_> {
    fn drop(&mut self) {
        let Some(ended) = self.ended.take() else { return };
        self.objects.count_panic();
        if self.is_closed {
            let _freed = self.lease.close_last(ended);
        } else {
            // Its destroy hook is still to run: the core has that done.
            self.lease.close_handle();
            drop(ended);
        }
    }
}

fn koid_of(ended: &Ended<'_>) -> Option<Koid> {
    match ended.stamp() {
        Stamp::Live(tag) => Some(tag.koid),
        Stamp::Dead(_) | Stamp::Free => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::call::Resource;
    use kobj_abi::Era;
    use kobj_memory::Spin;

    struct Item;

    impl ObjectType for Item {
        const TAG: [u8; 4] = *b"ITEM";
        const NAME: &'static str = "item";
        const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
        type State = u64;
    }

    /// A thread closes the last handle of a named object; before it comes to the core, another one has the object buried and
    /// names a new one, which stands in the same slot.
    #[test]
    fn a_name_stays_that_another_object_in_the_same_slot_got_meanwhile() {
        const NOW: Time = Time(0);
        let manager: Manager<Spin> = Manager::new(NOW, Era(7), Limits::default()).unwrap();
        let (boot, key) = (manager.boot(), manager.register::<Item>().unwrap());
        let named = |name| {
            let handle = manager.create_own(NOW, boot.process, &key, 1).unwrap();
            let (directory, most) = (boot.directory, AskedRights::Same);
            let call = Call::Link { directory, name, handle, most, permanent: false };
            manager.call(NOW, boot.process, call).unwrap();
            let Ok(CallAnswer::Info(info)) = manager.call(NOW, boot.process, Call::HandleInfo { handle }) else {
                panic!("no info")
            };
            let place = manager.with(|core| core.find(info.koid).unwrap().place());
            (handle, info.koid, place)
        };
        let is_named = |koid| manager.with(|core| core.name_of(koid).is_some());
        let (handle, first, place) = named(b"first");
        // As `drop_handle` does it, up to where it waits for the lock.
        let table = manager.table(boot.process).unwrap();
        assert!(matches!(table.close(handle), Ok(Closed::Now(_))));
        let Dropped::Last(ended) = manager.objects.drop_handle(place) else { panic!("it is the last") };
        drop(ended);
        while manager.go_on() {}
        assert!(!is_named(first));
        let (_, second, same) = named(b"second");
        assert_eq!(same, place, "the slot lives again");
        manager.with(|core| core.named_one_ended(place, Some(first)));
        assert!(is_named(second));
        manager.with(|core| core.named_one_ended(place, Some(second)));
        assert!(!is_named(second), "the check is by the koid");
    }

    #[test]
    fn a_handle_that_becomes_valid_behind_the_sweep_of_a_killed_table_is_closed() {
        const NOW: Time = Time(0);
        let manager: Manager<Spin> = Manager::new(NOW, Era(7), Limits::default()).unwrap();
        let (boot, key) = (manager.boot(), manager.register::<Item>().unwrap());
        let call = Call::CreateGuest { job: boot.job, inherit: false };
        let Ok(CallAnswer::Guest { handle, process }) = manager.call(NOW, boot.process, call) else {
            panic!("no guest")
        };
        let mut thread = manager.thread(process, &key).unwrap();
        let first = thread.create(NOW, 1).unwrap();
        thread.close(NOW, first).unwrap();
        // As far as `create` is when the killer comes.
        let reserved = thread.leased.table.take_kept(&mut thread.leased.slots).unwrap();
        let object = thread.leased.lease.create_user(key.state_key(), 0, 2).map_err(|(error, _)| error).unwrap();
        manager.call(NOW, boot.process, Call::Kill { handle }).unwrap();
        while manager.go_on() {}
        let content = Content { object: object.place(), rights: Rights::NONE, node: None, inheritable: false };
        assert_eq!(thread.commit(reserved, content), Err(CallError::Dying { koid: process }));
        drop(thread);
        manager.call(NOW, boot.process, Call::Close { handle }).unwrap();
        manager.with(|core| {
            core.audit().unwrap();
            assert_eq!(core.type_info(key.number()).unwrap().tally.live, 0);
            assert_eq!(core.usage(boot.root_job, Resource::ObjectsOf(key.number())).unwrap().used, 0);
            assert_eq!(core.usage(boot.root_job, Resource::Handles).unwrap().used, 2, "the embedder's own");
        });
    }
}
