//! Users' own object types: what a type says of itself, how objects of it are made, and its hooks.
//!
//! A hook runs outside every lock, by whichever thread comes by: first `last_close`, when the last handle is gone and the
//! object may live on under a permanent name or by a view; then, when the last reference is gone, the name and the tag are
//! taken, the books know the object no more, `destroy` runs, and the state is dropped. Each runs once, and neither can
//! refuse. One that panics leaves the object destroyed and is counted ([`Core::panicked_hooks`]).

use crate::account::{AccountId, Charge};
use crate::call::CallError;
use crate::handles::HANDLE;
use crate::image::Time;
use crate::ledger::Tally;
use crate::manager::Core;
use crate::notices::{Notice, OpenReason};
use core::fmt;
use core::marker::PhantomData;
use kobj_abi::{Koid, ObjectType as BuiltIn, RawHandle, Rights, TypeNumber};
use kobj_memory::{
    Birth, Content, Finished, Held, LEASED_OBJECT_BYTES, Objects, Place, Reference, RegisterError, StateKey,
};

/// An object type. Users' own implement it, and so do the built-in ones.
pub trait ObjectType: 'static {
    /// The four letters stamped into the header of each object; not all zero, and not `DEAD`.
    const TAG: [u8; 4];
    /// What people read, lower case.
    const NAME: &'static str;
    /// What the handle of whoever makes such an object allows: of [`Rights::GENERIC`], and of [`Rights::OWN`] as the type
    /// defines them.
    const DEFAULT_RIGHTS: Rights;
    /// What an object consists of: at most 64 bytes, aligned to 16 at most; what is larger goes behind a box. Threads read it
    /// at once, so what changes in it is atomic or behind a lock.
    type State: Send + Sync + 'static;

    /// Whether states refer to other objects by [`ObjectType::links`]: a type without spares the searches a look at each.
    const HAS_LINKS: bool = false;

    /// Asked before an object is made, outside every lock; nothing has been charged yet.
    ///
    /// # Errors
    /// A reason not to make it: then nothing was made, and the state is given back.
    fn create(state: &Self::State) -> Result<(), Refused> {
        let _ = state;
        Ok(())
    }

    /// Whether [`ObjectType::handles_changed`] is called: it costs each handle that comes or goes a look at its process's table.
    const HAS_OPEN_HOOKS: bool = false;

    /// A handle came or went: why, in whose table, and how many there are since. In the order in which it happened.
    fn handles_changed(state: &Self::State, notice: &Notice) {
        let _ = (state, notice);
    }

    /// The last handle of an object is gone.
    fn last_close(koid: Koid, state: &Self::State) {
        let _ = (koid, state);
    }

    /// The object has ended: nobody can have it any more. Its state is dropped next.
    fn destroy(koid: Koid, state: &Self::State) {
        let _ = (koid, state);
    }

    /// Names the objects that the state keeps, for [`Core::why`] and for what nobody can reach. Called under the manager's lock:
    /// it must not call the manager. Say so by [`ObjectType::HAS_LINKS`].
    fn links(state: &Self::State, visit: &mut dyn FnMut(Koid)) {
        let _ = (state, visit);
    }
}

/// The built-in types, each as a type of Rust: for handles that know what they mean.
pub mod built_in {
    use super::{BuiltIn, ObjectType, Rights};

    macro_rules! built_in {
        ($($(#[$text:meta])* $name:ident,)*) => {
            $(
                $(#[$text])*
                #[derive(Clone, Copy, Debug)]
                pub enum $name {}

                impl ObjectType for $name {
                    const TAG: [u8; 4] = BuiltIn::$name.letters();
                    const NAME: &'static str = BuiltIn::$name.name();
                    const DEFAULT_RIGHTS: Rights = BuiltIn::$name.default_rights();
                    /// The manager's own, which nobody else sees.
                    type State = ();
                }
            )*
        };
    }

    built_in! {
        /// A tree of processes with quotas.
        Job,
        /// A process.
        Process,
        /// An object of the Linux kernel.
        HostObject,
        /// Names for objects.
        Directory,
        /// A name that leads to another one.
        SymbolicLink,
        /// Memory that can be mapped by many.
        Section,
        /// An object type, as an object.
        Type,
    }
}

/// A create hook's reason not to make an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Says that a type is registered with one manager.
pub struct TypeKey<T: ObjectType> {
    state: StateKey<T::State>,
    means: PhantomData<fn() -> T>,
}

impl<T: ObjectType> TypeKey<T> {
    /// The type's number with that manager.
    #[must_use]
    pub fn number(&self) -> TypeNumber {
        self.state.number()
    }

    /// By which the state of an object that is held can be read.
    #[must_use]
    pub fn state_key(&self) -> &StateKey<T::State> {
        &self.state
    }
}

impl<T: ObjectType> Clone for TypeKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ObjectType> Copy for TypeKey<T> {}

impl<T: ObjectType> fmt::Debug for TypeKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypeKey").field("name", &T::NAME).field("number", &self.number()).finish()
    }
}

/// What a registered type does, without its Rust type.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    handles_changed: fn(&Held<'_>, &Notice),
    last_close: fn(&Held<'_>),
    destroy: fn(&Finished<'_>),
    pub(crate) links: fn(&Held<'_>, &mut dyn FnMut(Koid)),
}

fn last_close<T: ObjectType>(object: &Held<'_>) {
    if let (Ok(reference), Some(state)) = (object.reference(), object.state_as::<T::State>()) {
        T::last_close(reference.koid(), state);
    }
}

fn handles_changed<T: ObjectType>(object: &Held<'_>, notice: &Notice) {
    if let Some(state) = object.state_as::<T::State>() {
        T::handles_changed(state, notice);
    }
}

fn destroy<T: ObjectType>(object: &Finished<'_>) {
    if let (Some(koid), Some(state)) = (object.koid(), object.state_as::<T::State>()) {
        T::destroy(koid, state);
    }
}

fn links<T: ObjectType>(object: &Held<'_>, visit: &mut dyn FnMut(Koid)) {
    if let Some(state) = object.state_as::<T::State>() {
        T::links(state, visit);
    }
}

/// A registered type.
pub(crate) struct Registered {
    pub(crate) letters: [u8; 4],
    pub(crate) name: &'static str,
    pub(crate) rights: Rights,
    pub(crate) hooks: Hooks,
    pub(crate) has_links: bool,
    pub(crate) has_open_hooks: bool,
    pub(crate) tally: Tally,
}

/// What is known of a registered type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its number.
    pub number: TypeNumber,
    /// Its letters.
    pub letters: [u8; 4],
    /// What people read.
    pub name: &'static str,
    /// What the handle of whoever makes such an object allows.
    pub rights: Rights,
    /// Its books.
    pub tally: Tally,
}

impl Core {
    /// Registers a user's type.
    ///
    /// # Errors
    /// [`RegisterError`]: letters that are taken or mark what is no object, no number left, no memory (or
    /// no room in the root job's quota for its Type object); nothing changed.
    pub fn register<T: ObjectType>(&mut self) -> Result<TypeKey<T>, RegisterError> {
        let own = self.own_types.iter().any(|row| row.letters == T::TAG);
        if own || BuiltIn::ALL.iter().any(|built_in| built_in.letters() == T::TAG) {
            return Err(RegisterError::Letters(T::TAG));
        }
        self.own_types.try_reserve(1).map_err(|_| RegisterError::NoMemory)?;
        let number = u16::try_from(self.own_types.len()).ok().and_then(|row| TypeNumber::FIRST_OWN.0.checked_add(row));
        let number = number.map(TypeNumber).ok_or(RegisterError::Full)?;
        let object = self.make_type_object(number).map_err(|_| RegisterError::NoMemory)?;
        let state = match self.slab.register_state::<T::State>(T::TAG) {
            Ok(state) => state,
            Err(error) => {
                self.unmake_type_object(object);
                return Err(error);
            }
        };
        let hooks = Hooks {
            handles_changed: handles_changed::<T>,
            last_close: last_close::<T>,
            destroy: destroy::<T>,
            links: links::<T>,
        };
        let rights = T::DEFAULT_RIGHTS.without(Rights::RESERVED);
        let row = Registered {
            letters: T::TAG,
            name: T::NAME,
            rights,
            hooks,
            has_links: T::HAS_LINKS,
            has_open_hooks: T::HAS_OPEN_HOOKS,
            tally: Tally::default(),
        };
        // Reserved above.
        self.own_types.push(row);
        Ok(TypeKey { state, means: PhantomData })
    }

    /// Refuses the key of another manager, whose number means another type here or none.
    pub(crate) fn has_registered<T: ObjectType>(&self, key: &TypeKey<T>) -> Result<(), CallError> {
        if self.slab.gave(&key.state) { Ok(()) } else { Err(CallError::NotRegistered { letters: T::TAG }) }
    }

    fn row(&self, number: TypeNumber) -> Option<&Registered> {
        self.own_types.get(usize::from(number.0.checked_sub(TypeNumber::FIRST_OWN.0)?))
    }

    fn row_mut(&mut self, number: TypeNumber) -> Option<&mut Registered> {
        self.own_types.get_mut(usize::from(number.0.checked_sub(TypeNumber::FIRST_OWN.0)?))
    }

    /// What is known of a type, built-in or registered.
    #[must_use]
    pub fn type_info(&self, number: TypeNumber) -> Option<TypeInfo> {
        if let Some(built_in) = number.built_in() {
            let (letters, name, rights) = (built_in.letters(), built_in.name(), built_in.default_rights());
            return Some(TypeInfo { number, letters, name, rights, tally: self.balance.of(built_in) });
        }
        let Registered { letters, name, rights, mut tally, .. } = *self.row(number)?;
        // What leases made the core may have ended, and the other way round: the sums alone say what lives.
        let leased = self.leased_totals(number);
        tally.created = tally.created.saturating_add(leased.created);
        tally.destroyed = tally.destroyed.saturating_add(leased.destroyed);
        tally.live = tally.created.saturating_sub(tally.destroyed);
        tally.peak = tally.peak.max(tally.live);
        Some(TypeInfo { number, letters, name, rights, tally })
    }

    /// The number of the type with those letters, built-in or registered.
    #[must_use]
    pub fn type_number_of(&self, letters: [u8; 4]) -> Option<TypeNumber> {
        let built_in = BuiltIn::ALL.into_iter().find(|built_in| built_in.letters() == letters).map(BuiltIn::number);
        built_in.or_else(|| {
            let row = self.own_types.iter().position(|row| row.letters == letters)?;
            Some(TypeNumber(TypeNumber::FIRST_OWN.0.checked_add(u16::try_from(row).ok()?)?))
        })
    }

    /// What the handle of whoever makes such an object allows.
    pub(crate) fn default_rights(&self, object: Reference) -> Rights {
        self.type_info(self.type_number(object)).map_or(Rights::NONE, |info| info.rights)
    }

    /// Every type, the built-in ones first.
    pub fn types(&self) -> impl Iterator<Item = TypeInfo> + '_ {
        let built_in = BuiltIn::ALL.into_iter().map(BuiltIn::number);
        let own = (TypeNumber::FIRST_OWN.0..).map(TypeNumber).take(self.own_types.len());
        built_in.chain(own).filter_map(|number| self.type_info(number))
    }

    /// Makes an unnamed object of a user's type, with all that its type can do. Its create hook was asked before.
    ///
    /// # Errors
    /// [`CallError`]; nothing changed, and the state is dropped.
    pub fn create_own<T: ObjectType>(
        &mut self,
        now: Time,
        process: Koid,
        key: &TypeKey<T>,
        state: T::State,
    ) -> Result<RawHandle, CallError> {
        self.create_own_from(now, process, key, &mut Some(state))
    }

    /// The same, and takes the state only if the object is made: its drop is the user's, and must not run under a lock.
    pub(crate) fn create_own_from<T: ObjectType>(
        &mut self,
        now: Time,
        process: Koid,
        key: &TypeKey<T>,
        from: &mut Option<T::State>,
    ) -> Result<RawHandle, CallError> {
        let caller = self.caller(process)?;
        self.job_of(caller.process)?;
        // Its maker pays, and so its job.
        let account = self.guest(caller.process).and_then(|guest| guest.account);
        self.has_registered(key)?;
        let rights = self.row(key.number()).ok_or(CallError::NoMemory {})?.rights;
        if self.issued >= self.limits.koids_per_era {
            return Err(CallError::EraExhausted {});
        }
        let koid = Koid::new(self.era, self.issued + 1).ok_or(CallError::EraExhausted {})?;
        let charge = own_charge(key.number());
        let room = self.index.reserve(koid).map_err(|_| CallError::NoMemory {});
        let room = room.and_then(|()| self.reserve_notice(self.has_open_hooks(key.number())));
        self.quota_first(room, [(account, charge), (account, HANDLE)])?;
        self.charge(account, charge)?;
        let reserved = match self.reserve_handle(caller.process, &caller.table) {
            Ok(reserved) => reserved,
            Err(error) => {
                self.refund(account, charge);
                return Err(error);
            }
        };
        let owner = account.and_then(|account| Place::from_raw(account.to_raw()));
        let birth = Birth { created_us: now.0, owner, charge_bytes: LEASED_OBJECT_BYTES, ..Birth::default() };
        let Ok(object) = self.slab.create_user_from(&key.state, koid, &birth, from) else {
            self.give_back_handle(caller.process, &caller.table, reserved);
            self.refund(account, charge);
            return Err(CallError::NoMemory {});
        };
        self.issued += 1;
        self.index.insert(koid, object.place());
        if let Some(row) = self.row_mut(key.number()) {
            row.tally.created += 1;
            row.tally.live = row.tally.live.wrapping_add(1);
            row.tally.peak = row.tally.peak.max(row.tally.created.saturating_sub(row.tally.destroyed));
        }
        // The first reference was its maker's, who has the handle now. A new object has room for one more.
        let _counted = self.slab.add_first_handle(object);
        let _not_the_last = self.slab.release(object.place());
        let content = Content { object: object.place(), rights, node: None, inheritable: false };
        let handle = caller.table.commit(reserved, content);
        self.notice_opened(caller.process, object, OpenReason::Created);
        Ok(handle)
    }

    /// The tag of a user's object was taken: the books know it no more.
    pub(crate) fn took_own_tag(&mut self, place: Place) {
        self.lose_name(place);
        let Some(header) = self.slab.any_header(place) else { return };
        let (number, owner) = (header.type_number(), header.owner());
        if let Some(row) = self.row_mut(number) {
            row.tally.destroyed += 1;
            row.tally.live = row.tally.live.wrapping_sub(1);
        }
        let account = owner.and_then(|owner| AccountId::from_raw(owner.raw()));
        self.refund(account, own_charge(number));
    }

    /// The last handle of an object is gone: if it is a user's, its hook is due.
    pub(crate) fn own_last_close(&mut self, object: Reference) {
        let _built_in_ones_have_none = self.slab.hand_over_last_close(object);
    }

    /// Runs every hook that is due, and what comes of it: for who drives the core without a manager around it.
    pub fn run_hooks(&mut self) {
        let objects = self.slab.shared();
        loop {
            if let Some(notice) = self.next_notice() {
                tell(&objects, &notice, self.hooks_of(notice.number()), || self.told(&notice));
            } else if !run_due_hook(&objects, |number| self.hooks_of(number)) {
                return;
            }
            while self.go_on() {}
        }
    }

    /// Whether a type is told of each handle.
    pub(crate) fn has_open_hooks(&self, number: TypeNumber) -> bool {
        self.row(number).is_some_and(|row| row.has_open_hooks)
    }

    /// The hooks of a registered type.
    pub(crate) fn hooks_of(&self, number: TypeNumber) -> Option<Hooks> {
        self.row(number).map(|row| row.hooks)
    }

    /// Hooks and drops of users' states that panicked; their objects ended nevertheless.
    #[must_use]
    pub fn panicked_hooks(&self) -> u64 {
        self.slab.shared().panicked_drops()
    }
}

/// What an object of a user's type is charged.
pub(crate) const fn own_charge(number: TypeNumber) -> Charge {
    Charge::object(number, LEASED_OBJECT_BYTES as u64)
}

/// Tells a type of a handle, outside every lock; `told` gives the notice's reference up, which a hook that panics must not keep.
pub(crate) fn tell(objects: &Objects, notice: &Notice, hooks: Option<Hooks>, told: impl FnOnce()) {
    let held = objects.hold_at(notice.object.place());
    told();
    if let (Some(held), Some(hooks)) = (held, hooks) {
        watched(objects, || (hooks.handles_changed)(&held, notice));
    }
}

/// Counts a hook that does not come back.
struct Watch<'a>(&'a Objects);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.count_panic();
    }
}

/// Runs a hook whose panic nobody else counts.
pub(crate) fn watched(objects: &Objects, hook: impl FnOnce()) {
    let watch = Watch(objects);
    hook();
    core::mem::forget(watch);
}

/// Runs one hook that is due, outside every lock; `false` if none is. `hooks` finds a type's, under the lock, for a moment.
pub(crate) fn run_due_hook(objects: &Objects, hooks: impl Fn(TypeNumber) -> Option<Hooks>) -> bool {
    if let Some(object) = objects.next_last_closed() {
        if let Some(hooks) = hooks(object.header().type_number()) {
            watched(objects, || (hooks.last_close)(&object));
        }
        return true;
    }
    let Some(object) = objects.next_finished() else { return false };
    if let Some(hooks) = hooks(object.type_number()) {
        (hooks.destroy)(&object);
    }
    object.hooked();
    true
}
