//! The handle table of one process: numbers in, pinned entries out, by any thread, without a lock.
//!
//! A handle's number is (index 32, generation 32) under the table's random mask. A lookup pins its entry: one addition to
//! the entry's word, and the look at what the word was says whether the handle is there. A close marks the same word, so
//! exactly one of those who want to end a handle wins, and none of them waits: if there are pins, whoever drops the last
//! one puts the entry on the table's list of closed ones, where [`Table::take_closed`] finds it.
//!
//! Entries stand in buckets that never move and are never given back before the table, so a late lookup may add to the word
//! of a slot that is free, being made, or another handle's: it finds that out, and takes back what it added.

use crate::Place;
use crate::buckets::{Buckets, NoMemory};
use crate::handle_entry::{
    CLOSING, Content, Entry, GENERATION_SHIFT, INHERITABLE, LIVE, OPEN_SHIFT, PIN, PINS, generation, is_open, open,
};
use crate::slot_list::SlotList;
use crate::sync::{AtomicU32, Ordering, load_32, store_32};
use core::fmt;
use kobj_abi::{RawHandle, Rights};

/// No such handle in this table: never given, closed already, or another table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHandle;

impl fmt::Display for BadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such handle in this table: closed already, another table's, or never given")
    }
}

/// Why a handle was not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinError {
    /// No such handle in this table.
    BadHandle,
    /// The handle is there, with 2^28 guards that were never dropped: they were forgotten.
    TooManyPins,
}

impl From<BadHandle> for PinError {
    fn from(_: BadHandle) -> Self {
        Self::BadHandle
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHandle => BadHandle.fmt(f),
            Self::TooManyPins => f.write_str("the handle has 2^28 guards that were never dropped; drop them"),
        }
    }
}

/// Why there is no slot for a handle; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The allocator refused.
    NoMemory,
    /// Every slot that it may have is in use or retired.
    Full,
}

impl From<NoMemory> for TableError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => NoMemory.fmt(f),
            Self::Full => f.write_str("the handle table is full: each of its slots is in use or retired; close some"),
        }
    }
}

/// A slot that was taken for a handle to come. It knows the handle's number already.
///
/// Give it to [`Table::commit`] or [`Table::give_back`] of the same table: dropped, its slot is lost until the table goes.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is neither committed nor given back is lost until the table goes"]
pub struct Reserved(RawHandle);

impl Reserved {
    /// The number that the handle will have.
    #[must_use]
    pub const fn handle(&self) -> RawHandle {
        self.0
    }
}

/// A stack of free slots that one thread keeps for itself, threaded through the slots.
///
/// Use it with one table only, and end it by [`Table::give_back_all`].
#[derive(Debug, Default)]
pub struct Slots {
    /// Index + 1, 0 for none.
    first: u32,
    count: u32,
}

impl Slots {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// How a close that won ended. The handle is no more, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what the handle counted has to be given back"]
pub enum Closed {
    /// Nobody uses it: what it counted is the caller's to give back, now.
    Now(Content),
    /// Somebody has it pinned, so what it counted must stay: [`Table::take_closed`] gives it out after the last pin. The copy
    /// is for who moves the handle elsewhere; that one counts for itself.
    Later(Content),
}

impl Closed {
    /// What the handle stood for.
    #[must_use]
    pub const fn content(self) -> Content {
        match self {
            Self::Now(content) | Self::Later(content) => content,
        }
    }
}

/// What dropping a pin did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nothing more.
    Remaining,
    /// It was the last pin of a handle that was closed meanwhile: the entry is on the list for [`Table::take_closed`].
    LastOfClosing,
}

/// What a step of a sweep found.
#[derive(Debug)]
pub enum Next<'a> {
    /// The next live handle.
    Found(Pin<'a>),
    /// None among those looked at; go on from this index.
    GoOn(u32),
    /// There are no more.
    End,
}

/// Lists and counts that change, on a cache line of their own: lookups read the rest.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slack {
    free: SlotList,
    closed: SlotList,
    /// Slots ever used: behind it all is untouched.
    used: AtomicU32,
    /// Slots whose generations are used up.
    retired: AtomicU32,
}

/// The handles of one process.
///
/// All of it takes `&self` and is lock-free. It allocates when a bucket is used for the first time, and nowhere else.
#[derive(Debug)]
pub struct Table {
    mask: u64,
    last_generation: u32,
    slots_most: u32,
    payer: AtomicU32,
    entries: Buckets<Entry>,
    slack: Slack,
}

/// Where the slot of an index stands among the 32 that it shares a group with: neighbours by index are 13 or 19 entries
/// apart, so that two threads with handles made one after the other do not share a cache line.
#[inline]
const fn position(index: u32) -> u32 {
    if cfg!(any(loom, shuttle)) { index } else { (index & !31) | (index.wrapping_mul(13) & 31) }
}

impl Table {
    /// The most slots that any table has.
    pub const SLOTS_MOST: u32 = Buckets::<Entry>::MOST;

    /// An empty table; `mask` is random, of the embedder's source. Allocates nothing.
    #[must_use]
    pub fn new(mask: u64) -> Self {
        Self::with_generation_bits(mask, 32)
    }

    /// The same with fewer generations, for tests that use them up: 2^`bits`, and `bits` from 2 to 32.
    #[must_use]
    pub fn with_generation_bits(mask: u64, bits: u32) -> Self {
        Self::with_bounds(mask, bits, Self::SLOTS_MOST)
    }

    /// The same with so many slots at most, each of which gives out 2^`generation_bits` numbers.
    #[must_use]
    pub fn with_bounds(mask: u64, generation_bits: u32, slots_most: u32) -> Self {
        let last_generation = u32::MAX >> (32 - generation_bits.clamp(2, 32));
        let slots_most = slots_most.min(Self::SLOTS_MOST);
        let payer = AtomicU32::new(0);
        Self { mask, last_generation, slots_most, payer, entries: Buckets::default(), slack: Slack::default() }
    }

    /// Notes who is charged for the handles, by a number of the embedder's.
    pub fn set_payer(&self, payer: u32) {
        store_32(&self.payer, payer, Ordering::Relaxed);
    }

    /// Who is charged for the handles, also for those that are given up after all else of the process is gone; 0 if nobody.
    #[must_use]
    pub fn payer(&self) -> u32 {
        load_32(&self.payer, Ordering::Relaxed)
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(position(index))
    }

    /// Index and generation of a number.
    #[inline]
    fn split(&self, handle: RawHandle) -> (u32, u32) {
        let value = handle.raw() ^ self.mask;
        (value as u32, (value >> 32) as u32)
    }

    /// The number of a slot's generation; `None` where it would be 0.
    fn join(&self, index: u32, generation: u32) -> Option<RawHandle> {
        RawHandle::from_raw((u64::from(generation) << 32 | u64::from(index)) ^ self.mask)
    }

    /// The generation after this one; 0, where all began, once they are used up.
    fn next_generation(&self, generation: u32) -> u32 {
        generation.wrapping_add(1) & self.last_generation
    }

    // ---- making

    /// Makes a handle.
    ///
    /// # Errors
    /// [`TableError`]; nothing changed.
    pub fn open(&self, content: Content) -> Result<RawHandle, TableError> {
        Ok(self.commit(self.reserve()?, content))
    }

    /// Takes a slot: all of making a handle that may fail.
    ///
    /// # Errors
    /// [`TableError`]; nothing changed.
    pub fn reserve(&self) -> Result<Reserved, TableError> {
        loop {
            let index = match self.pop(&self.slack.free) {
                Some(index) => index,
                None => self.take_fresh()?,
            };
            if let Some(reserved) = self.claim(index) {
                return Ok(reserved);
            }
        }
    }

    /// A slot that was never used. Its bucket is brought before the slot is taken, so a refusal loses none.
    fn take_fresh(&self) -> Result<u32, TableError> {
        let mut used = load_32(&self.slack.used, Ordering::Relaxed);
        loop {
            if used >= self.slots_most {
                return Err(TableError::Full);
            }
            self.entries.grow_to(position(used))?;
            // Release: a sweep that sees the slot as used sees its bucket.
            match self.slack.used.compare_exchange(used, used + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(used),
                Err(now) => used = now,
            }
        }
    }

    /// The handle to come of a slot that the caller took. Skips the one generation whose number would be 0; `None` if that
    /// was the slot's last one, and it is retired.
    fn claim(&self, index: u32) -> Option<Reserved> {
        let entry = self.entry(index)?;
        // Relaxed: the slot is the caller's, and nobody else changes its generation.
        let generation = generation(entry.look());
        if let Some(handle) = self.join(index, generation) {
            return Some(Reserved(handle));
        }
        let next = self.next_generation(generation);
        entry.word.fetch_add(u64::from(next.wrapping_sub(generation)) << GENERATION_SHIFT, Ordering::Relaxed);
        if next == 0 {
            self.retire();
            return None;
        }
        self.join(index, next).map(Reserved)
    }

    /// Makes the handle of a slot: valid for every thread as soon as its number is known there.
    pub fn commit(&self, reserved: Reserved, content: Content) -> RawHandle {
        let (index, of) = self.split(reserved.0);
        if let Some(entry) = self.entry(index) {
            entry.write(&content);
            let flags = if content.inheritable { INHERITABLE } else { 0 };
            // Added, not stored: a late lookup may have its pin in the word, and takes it out again. Release publishes the
            // content to whoever pins; SeqCst since a maker looks next whether its lease was closed.
            let before = entry.word.fetch_add(LIVE | flags, Ordering::SeqCst);
            debug_assert!(before & (LIVE | CLOSING) == 0 && generation(before) == of, "another table's slot");
        }
        reserved.0
    }

    /// Gives back a slot of which no handle was made.
    pub fn give_back(&self, reserved: Reserved) {
        let (index, _) = self.split(reserved.0);
        self.push(&self.slack.free, index);
    }

    fn push(&self, list: &SlotList, index: u32) {
        if let Some(entry) = self.entry(index) {
            list.push(index, &entry.next);
        }
    }

    fn pop(&self, list: &SlotList) -> Option<u32> {
        list.pop(|index| self.entry(index).map(|entry| &entry.next))
    }

    // ---- looking up

    /// Pins a handle: until the guard is dropped, what the handle counted stays counted, whoever closes it.
    ///
    /// After an error somebody should look at [`Table::has_closed`]: taking back its own addition, a late lookup may have
    /// been the last to leave an entry that was closed.
    ///
    /// # Errors
    /// [`PinError`].
    #[inline]
    pub fn pin(&self, handle: RawHandle) -> Result<Pin<'_>, PinError> {
        let (index, generation) = self.split(handle);
        let Some(entry) = self.entry(index) else { return Err(PinError::BadHandle) };
        self.pin_entry(entry, index, generation)
    }

    #[inline]
    fn pin_entry<'a>(&'a self, entry: &'a Entry, index: u32, generation: u32) -> Result<Pin<'a>, PinError> {
        // Acquire pairs with the release in `commit`.
        let word = entry.word.fetch_add(PIN, Ordering::Acquire);
        if word >> OPEN_SHIFT == open(generation) {
            Ok(Pin { table: self, entry, index })
        } else {
            Err(self.refuse(entry, index, generation, word))
        }
    }

    /// Takes the pin out again and says why.
    #[cold]
    fn refuse(&self, entry: &Entry, index: u32, of: u32, word: u64) -> PinError {
        // As it leaves it may be the last one in an entry that was closed meanwhile, also one of another generation.
        self.unpin(entry, index);
        if is_open(word) && generation(word) == of { PinError::TooManyPins } else { PinError::BadHandle }
    }

    #[inline]
    fn unpin(&self, entry: &Entry, index: u32) -> Released {
        // Release: what was read under the pin was read before the closer gives the slot to another.
        let before = entry.word.fetch_sub(PIN, Ordering::Release);
        if before & (LIVE | CLOSING | PINS) == LIVE | CLOSING | PIN {
            return self.leave_closing(entry, index, before - PIN);
        }
        Released::Remaining
    }

    #[cold]
    fn leave_closing(&self, entry: &Entry, index: u32, word: u64) -> Released {
        if !self.end(entry, word) {
            return Released::Remaining;
        }
        self.push(&self.slack.closed, index);
        Released::LastOfClosing
    }

    /// Ends a handle without pins: `word` becomes the free word of the next generation. `true` for the one who did it: the
    /// slot and its content are the caller's.
    ///
    /// If a late lookup came in after the last pin went, the exchange fails, and that one ends it as it leaves. Acquire
    /// pairs with the release of those who left.
    fn end(&self, entry: &Entry, word: u64) -> bool {
        let next = u64::from(self.next_generation(generation(word))) << GENERATION_SHIFT;
        entry.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    // ---- closing

    /// Ends a handle. Of all who close, move or replace it at once exactly one succeeds.
    ///
    /// # Errors
    /// [`BadHandle`].
    pub fn close(&self, handle: RawHandle) -> Result<Closed, BadHandle> {
        let (index, generation) = self.split(handle);
        let closed = self.mark(index, generation)?;
        if let Closed::Now(_) = closed {
            self.recycle(index);
        }
        Ok(closed)
    }

    /// The same, and keeps the slot for the caller's next handle.
    ///
    /// # Errors
    /// [`BadHandle`].
    pub fn close_into(&self, handle: RawHandle, slots: &mut Slots) -> Result<Closed, BadHandle> {
        let (index, generation) = self.split(handle);
        let closed = self.mark(index, generation)?;
        if let Closed::Now(_) = closed
            && !self.retire_if_used_up(index)
        {
            self.put(slots, index);
        }
        Ok(closed)
    }

    /// Wins the closing, or not. After [`Closed::Now`] the slot is the caller's, in its next generation, in no list.
    fn mark(&self, index: u32, of: u32) -> Result<Closed, BadHandle> {
        let entry = self.entry(index).ok_or(BadHandle)?;
        let mut word = entry.look();
        loop {
            if !is_open(word) || generation(word) != of {
                return Err(BadHandle);
            }
            if word & PINS == 0 {
                if self.end(entry, word) {
                    return Ok(Closed::Now(entry.content(word)));
                }
                word = entry.look();
                continue;
            }
            // With a pin of its own, so that the content can be read before whoever is last gives the slot away.
            match entry.word.compare_exchange(word, (word | CLOSING) + PIN, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let content = entry.content(word);
        let before = entry.word.fetch_sub(PIN, Ordering::Release);
        let last = before & PINS == PIN && self.end(entry, before - PIN);
        Ok(if last { Closed::Now(content) } else { Closed::Later(content) })
    }

    /// Takes out one of the handles that were closed while they were pinned and are pinned no more: what it counted is the
    /// caller's to give back. (`inheritable` is not kept.)
    #[must_use]
    pub fn take_closed(&self) -> Option<Content> {
        let index = self.pop(&self.slack.closed)?;
        let content = self.entry(index)?.content(0);
        self.recycle(index);
        Some(content)
    }

    /// Whether [`Table::take_closed`] would find one: a look.
    #[inline]
    #[must_use]
    pub fn has_closed(&self) -> bool {
        !self.slack.closed.is_empty()
    }

    /// Frees a slot whose handle was ended, or retires it.
    fn recycle(&self, index: u32) {
        if !self.retire_if_used_up(index) {
            self.push(&self.slack.free, index);
        }
    }

    /// A slot that has come round to generation 0 has given out every number it had.
    fn retire_if_used_up(&self, index: u32) -> bool {
        let used_up = self.entry(index).is_none_or(|entry| generation(entry.look()) == 0);
        if used_up {
            self.retire();
        }
        used_up
    }

    fn retire(&self) {
        self.slack.retired.fetch_add(1, Ordering::Relaxed);
    }

    // ---- slots that a thread keeps

    /// Adds a slot to those that the caller keeps.
    pub fn keep(&self, slots: &mut Slots, reserved: Reserved) {
        let (index, _) = self.split(reserved.0);
        self.put(slots, index);
    }

    fn put(&self, slots: &mut Slots, index: u32) {
        if let Some(entry) = self.entry(index) {
            // Relaxed: the slot is in no other list, and nobody else reads this link to follow it.
            store_32(&entry.next, slots.first, Ordering::Relaxed);
            slots.first = index + 1;
            slots.count += 1;
        }
    }

    /// A slot of those that the caller keeps.
    pub fn take_kept(&self, slots: &mut Slots) -> Option<Reserved> {
        loop {
            let index = slots.first.checked_sub(1)?;
            slots.first = load_32(&self.entry(index)?.next, Ordering::Relaxed);
            slots.count -= 1;
            if let Some(reserved) = self.claim(index) {
                return Some(reserved);
            }
        }
    }

    /// Gives back all that the caller keeps.
    pub fn give_back_all(&self, mut slots: Slots) {
        while let Some(reserved) = self.take_kept(&mut slots) {
            self.give_back(reserved);
        }
    }

    // ---- by index

    /// The index at which a handle of this table stands, or stood.
    #[must_use]
    pub fn index_of(&self, handle: RawHandle) -> u32 {
        self.split(handle).0
    }

    /// Pins whatever handle stands at an index now.
    #[must_use]
    pub fn pin_at(&self, index: u32) -> Option<Pin<'_>> {
        let entry = self.entry(index)?;
        loop {
            let word = entry.look();
            if !is_open(word) {
                return None;
            }
            match self.pin_entry(entry, index, generation(word)) {
                Ok(pin) => return Some(pin),
                Err(PinError::TooManyPins) => return None,
                // It was closed since the look: is there another one?
                Err(PinError::BadHandle) => {}
            }
        }
    }

    /// Ends whatever handle stands at an index now: for a table that goes whole. `None` if there is none.
    pub fn close_at(&self, index: u32) -> Option<Closed> {
        self.close_where(index, |_| true)
    }

    /// Ends the handle at an index if it is of this derivation node: for a revoke.
    pub fn close_of(&self, index: u32, node: Place) -> Option<Closed> {
        self.close_where(index, |entry| entry.node() == Some(node))
    }

    fn close_where(&self, index: u32, is_meant: impl Fn(&Entry) -> bool) -> Option<Closed> {
        let entry = self.entry(index)?;
        loop {
            let word = entry.look();
            if !is_open(word) || !is_meant(entry) {
                return None;
            }
            // What was looked at was this generation's, or the marking fails.
            let Ok(closed) = self.mark(index, generation(word)) else { continue };
            if let Closed::Now(_) = closed {
                self.recycle(index);
            }
            return Some(closed);
        }
    }

    /// The first live handle from an index on, of at most `most` slots looked at.
    ///
    /// A sweep that begins at 0 and goes on until [`Next::End`] meets every handle that was there throughout.
    #[must_use]
    pub fn next_from(&self, from: u32, most: u32) -> Next<'_> {
        let used = self.used();
        let end = used.min(from.saturating_add(most));
        match (from..end).find_map(|index| self.pin_at(index)) {
            Some(pin) => Next::Found(pin),
            None if end < used => Next::GoOn(end),
            None => Next::End,
        }
    }

    /// The first handle to one of these objects, from an index on, of at most `most` slots looked at. Pins nothing: a look,
    /// and what it finds may be gone when it returns.
    #[must_use]
    pub fn find(&self, from: u32, most: u32, is_wanted: impl Fn(Place) -> bool) -> Option<(u32, Content)> {
        let end = self.used().min(from.saturating_add(most));
        (from..end).find_map(|index| {
            let entry = self.entry(index)?;
            if !is_wanted(entry.object()) {
                return None;
            }
            let word = entry.look();
            is_open(word).then(|| (index, entry.content(word)))
        })
    }

    // ---- counting

    /// Slots ever used: no handle has this index or a higher one.
    #[must_use]
    pub fn used(&self) -> u32 {
        load_32(&self.slack.used, Ordering::Acquire)
    }

    /// Handles that are there: a look at every slot, exact when nobody changes them.
    #[must_use]
    pub fn live(&self) -> u32 {
        let is_live = |index: &u32| self.entry(*index).is_some_and(|entry| is_open(entry.look()));
        (0..self.used()).filter(is_live).count() as u32
    }

    /// Slots whose generations are used up; they are never used again.
    #[must_use]
    pub fn retired(&self) -> u32 {
        load_32(&self.slack.retired, Ordering::Relaxed)
    }

    /// Slots for which there is memory, 24 bytes each.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.entries.capacity()
    }
}

/// A pinned handle: what it counted stays counted until this is dropped, even if the handle is closed meanwhile.
///
/// Forgotten instead of dropped, it keeps the entry for good; past 2^28 of them on one handle lookups are refused.
#[must_use = "dropped at once, it protects nothing"]
pub struct Pin<'a> {
    table: &'a Table,
    entry: &'a Entry,
    index: u32,
}

impl Pin<'_> {
    /// What the handle stands for.
    #[inline]
    #[must_use]
    pub fn content(&self) -> Content {
        self.entry.content(self.entry.look())
    }

    /// The object.
    #[inline]
    #[must_use]
    pub fn object(&self) -> Place {
        self.entry.object()
    }

    /// What the handle allows.
    #[inline]
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.entry.rights()
    }

    /// Its derivation node, if it has one.
    #[inline]
    #[must_use]
    pub fn node(&self) -> Option<Place> {
        self.entry.node()
    }

    /// Gives the handle its derivation node, once.
    ///
    /// # Errors
    /// The node that it has.
    pub fn set_node(&self, node: Place) -> Result<(), Place> {
        self.entry.set_node(node)
    }

    /// Says whether a new process that inherits gets the handle.
    pub fn set_inheritable(&self, inheritable: bool) {
        // Relaxed: the flag orders nothing. Read-modify-write, as all that changes the word.
        if inheritable {
            self.entry.word.fetch_or(INHERITABLE, Ordering::Relaxed);
        } else {
            self.entry.word.fetch_and(!INHERITABLE, Ordering::Relaxed);
        }
    }

    /// Where it stands in the table, for [`Table::pin_at`] and [`Table::close_at`].
    #[inline]
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The handle's number. (The generation cannot change under a pin.)
    #[must_use]
    pub fn handle(&self) -> Option<RawHandle> {
        self.table.join(self.index, generation(self.entry.look()))
    }

    /// Drops the pin and says what that did.
    #[inline]
    pub fn release(self) -> Released {
        let this = core::mem::ManuallyDrop::new(self);
        this.table.unpin(this.entry, this.index)
    }
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        self.table.unpin(self.entry, self.index);
    }
}

impl fmt::Debug for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("index", &self.index).field("content", &self.content()).finish()
    }
}

/// What models look at.
#[cfg(all(test, any(loom, shuttle)))]
impl Table {
    pub(crate) fn word(&self, index: u32) -> u64 {
        self.entry(index).map_or(0, Entry::look)
    }

    pub(crate) fn pop_free(&self) -> Option<u32> {
        self.pop(&self.slack.free)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
