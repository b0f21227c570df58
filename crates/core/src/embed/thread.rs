//! What one thread does without the lock: making, duplicating and ending unnamed objects of one user's type.

use super::Manager;
use crate::call::{Call, CallAnswer, CallError};
use crate::image::Time;
use crate::leases::Leased;
use crate::manager::Core;
use crate::platform::Platform;
use crate::user_type::{ObjectType, Refused, TypeKey};
use kobj_abi::{AskedRights, Denied, Koid, Operation, RawHandle, Rights, check};
use kobj_memory::{AddHandle, Closed, Content, Dropped, LeaseError, Lock, PinError, Place, Reference, Reserved};

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
}

impl<L: Lock, P: Platform> Manager<L, P> {
    /// A share of the manager for the calling thread.
    ///
    /// # Errors
    /// [`CallError::NoProcess`], [`CallError::Dying`], [`CallError::NoMemory`].
    pub fn thread<T: ObjectType>(&self, process: Koid, key: &TypeKey<T>) -> Result<Thread<'_, L, P, T>, CallError> {
        let (leased, info) = self.with(|core| (core.open_lease(process, key.number()), core.type_info(key.number())));
        let rights = info.map_or(Rights::NONE, |info| info.rights);
        Ok(Thread { manager: self, key: *key, rights, leased: leased? })
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
    pub fn create(&mut self, now: Time, state: T::State) -> Result<RawHandle, CallError> {
        T::create(&state).map_err(|Refused| CallError::Refused { number: self.key.number() })?;
        if T::HAS_OPEN_HOOKS {
            // The type is told of each handle, which the core does.
            return self.manager.with(|core| core.create_own(now, self.leased.process, &self.key, state));
        }
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
                    return Ok(self.leased.table.commit(reserved, content));
                }
                Err((error, back)) => {
                    state = back;
                    self.keep(reserved);
                    self.asked_again(error)?;
                }
            }
        }
    }

    /// An equal handle, as [`Call::Duplicate`].
    ///
    /// # Errors
    /// As [`Call::Duplicate`].
    #[inline]
    pub fn duplicate(&mut self, now: Time, handle: RawHandle, rights: AskedRights) -> Result<RawHandle, CallError> {
        if T::HAS_OPEN_HOOKS {
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
            drop(pin);
            return self.by_a_step(now, Call::Duplicate { handle, rights });
        };
        if self.manager.objects.add_handle(content.object) != AddHandle::Counted {
            self.leased.lease.close_handle();
            self.keep(reserved);
            return Err(CallError::TooManyReferences { koid: self.leased.process });
        }
        let equal = Content { rights, inheritable: false, ..content };
        Ok(table.commit(reserved, equal))
    }

    /// The rights of an equal of a handle that this thread can make by itself.
    fn given(&self, content: Content, asked: AskedRights) -> Option<Rights> {
        let number = self.manager.objects.look_at(content.object).ok()?.1.type_number();
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
            Ok(Closed::Now(content)) if self.is_own(content) => self.drop_handle(content.object),
            Ok(Closed::Now(content)) => {
                let process = self.leased.process;
                self.manager.with(|core| core.gave_up_by(process, content));
            }
            // Somebody looks at it this moment: whoever ends the last look hands it over.
            Ok(Closed::Later(_)) => {}
            // The core knows the process's policy for bad handles.
            Err(_) => return self.manager.call(now, self.leased.process, Call::Close { handle }).map(drop),
        }
        Ok(())
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
            Dropped::Last(ended) if !ended.in_graph() => {
                if let (Some(state), Some(koid)) = (ended.state_as::<T::State>(), self.koid_at(place)) {
                    T::last_close(koid, state);
                    T::destroy(koid, state);
                }
                let _freed = self.leased.lease.close_last(ended);
            }
            Dropped::Last(ended) => {
                if let (Some(state), Some(koid)) = (ended.state_as::<T::State>(), self.koid_at(place)) {
                    T::last_close(koid, state);
                }
                self.leased.lease.close_handle();
                drop(ended);
                self.manager.with(|core| core.named_one_ended(place));
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

    fn koid_at(&self, place: Place) -> Option<Koid> {
        self.manager.objects.at(place).ok().map(Reference::koid)
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
    fn by_a_step(&mut self, now: Time, call: Call<'_>) -> Result<RawHandle, CallError> {
        match self.manager.call(now, self.leased.process, call)? {
            CallAnswer::Handle(handle) => Ok(handle),
            _ => Err(CallError::NoProcess { process: self.leased.process }),
        }
    }
}
