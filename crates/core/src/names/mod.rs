//! The namespace: names in directories, and what they name. It knows places and no objects: who counts references,
//! checks rights and takes names away when the last handle closes is the manager.
//!
//! An object has one name at most, so directories form trees; a directory has at most [`DEPTH_MOST`] others above it,
//! which bounds every walk. One index serves all directories, one order each of them.
//! Each operation does what it says or nothing; what takes away allocates nothing. No operation's time grows with more
//! than the logarithm of the number of names, growth of the storage included.

mod entry;
mod index;
mod order;
mod pages;
pub mod path;
#[cfg(test)]
mod tests;
mod walk;

use core::fmt;
use entry::{Entries, Entry};
use index::Index;
use kobj_abi::Rights;
use kobj_memory::{NoMemory, Place, Pool};
use order::Order;
use pages::Pages;
pub use path::{BadName, LinkTarget, Name, Path};
pub use walk::{Found, LINKS_MOST, LookedUp, WalkError, Ways};

/// Directories above a directory, at most.
pub const DEPTH_MOST: u8 = 64;

/// Bytes of the longest path from a directory without a name down to an object, separators included.
pub const WHOLE_PATH_BYTES: usize = (DEPTH_MOST as usize + 1) * (path::NAME_BYTES_MOST + 1) - 1;

/// Why no name was given. Of several reasons the first in this order is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// No directory stands at that place.
    NoDirectory,
    /// The directory has that name already.
    NameExists,
    /// The object has a name already, there or elsewhere.
    AlreadyNamed,
    /// The directory to be named is the directory that names it, or above it.
    Cycle,
    /// More than [`DEPTH_MOST`] directories would stand above one.
    TooDeep,
    /// No memory.
    NoMemory,
}

impl From<NoMemory> for InsertError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Why a name was not changed. Of several reasons the first in this order is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameError {
    /// The directory has no such name.
    NotFound,
    /// The directory has the new name already.
    NameExists,
    /// No memory.
    NoMemory,
}

impl From<NoMemory> for RenameError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// One name, as it stands in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The directory.
    pub directory: Place,
    /// The name in it.
    pub name: &'a [u8],
    /// The object that is named.
    pub target: Place,
    /// The most rights that opening by this name gives.
    pub most: Rights,
    /// Whether the name stays when nobody has a handle to the object.
    pub permanent: bool,
    /// Where it stands in the directory's order, as [`Names::after`] takes it.
    pub cursor: u64,
}

/// A name that was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The directory in which it stood.
    pub directory: Place,
    /// What it named.
    pub target: Place,
    /// The most rights that it gave.
    pub most: Rights,
    /// Whether it was permanent.
    pub permanent: bool,
}

/// What the namespace knows of an object.
#[derive(Clone, Copy, Default)]
struct Node {
    /// Its name.
    entry: Option<Place>,
    /// What it is as a directory.
    directory: Option<Place>,
}

/// What is known of a directory.
#[derive(Default)]
struct Directory {
    order: Order,
    /// Names in it.
    count: u32,
    /// Permanent ones among them.
    permanent: u32,
    /// Names ever given in it.
    serial: u64,
}

/// All names.
pub struct Names {
    entries: Entries,
    index: Index,
    nodes: Pages<Node>,
    directories: Pool<Directory>,
    /// Of the priorities in the directories' orders.
    seed: u64,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Names {
    /// No names. The seed is random and kept secret: names cannot be chosen then so that they are slow to find.
    #[must_use]
    pub fn new(seed: [u64; 3]) -> Self {
        Self {
            entries: Entries::default(),
            index: Index::new([seed[0], seed[1]]),
            nodes: Pages::default(),
            directories: Pool::default(),
            seed: seed[2],
        }
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.index.entries()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the object at a place, which has no name yet, a directory without names. One that is a directory stays as
    /// it is.
    ///
    /// # Errors
    /// [`NoMemory`]; then nothing changed.
    pub fn add_directory(&mut self, place: Place) -> Result<(), NoMemory> {
        self.nodes.reserve(place.index(), Node::default)?;
        let Some(node) = self.nodes.get_mut(place.index()) else { return Err(NoMemory) };
        if node.directory.is_none() {
            debug_assert!(
                node.entry.is_none(),
                "a named object does not become a directory: its depth was not checked"
            );
            node.directory = Some(self.directories.insert(Directory::default())?);
        }
        Ok(())
    }

    /// Whether a directory stands at a place.
    #[must_use]
    pub fn is_directory(&self, place: Place) -> bool {
        self.directory(place).is_some()
    }

    /// How many names a directory has.
    #[must_use]
    pub fn count(&self, directory: Place) -> u32 {
        self.directory(directory).map_or(0, |directory| directory.count)
    }

    /// How many of a directory's names are permanent.
    #[must_use]
    pub fn count_permanent(&self, directory: Place) -> u32 {
        self.directory(directory).map_or(0, |directory| directory.permanent)
    }

    /// Ends a directory. `false`, and nothing changed, if it has names ([`Names::take_first`] takes them), has a name
    /// ([`Names::take`]), or is none.
    pub fn remove_directory(&mut self, place: Place) -> bool {
        let Some(node) = self.nodes.get_mut(place.index()).filter(|node| node.entry.is_none()) else { return false };
        let Some(directory) = node.directory else { return false };
        if self.directories.get(directory).is_none_or(|directory| directory.count > 0) {
            return false;
        }
        node.directory = None;
        self.directories.remove(directory).is_some()
    }

    /// Whether an object could be given a name in a directory; without an object, a new one. A directory that was not
    /// added yet is one without names.
    ///
    /// # Errors
    /// [`InsertError`], as [`Names::insert`] would say, memory apart.
    pub fn check(
        &self,
        directory: Place,
        name: Name<'_>,
        target: Option<Place>,
        is_directory: bool,
    ) -> Result<(), InsertError> {
        if self.index.find(&self.entries, directory, name.bytes()).is_some() {
            return Err(InsertError::NameExists);
        }
        if target.is_some_and(|target| self.node(target).entry.is_some()) {
            return Err(InsertError::AlreadyNamed);
        }
        if !is_directory {
            return Ok(());
        }
        let levels = target.map_or(0, |target| self.levels(target)).max(1);
        let above = self.above(directory, target).ok_or(InsertError::Cycle)?;
        if above + u32::from(levels) > u32::from(DEPTH_MOST) {
            return Err(InsertError::TooDeep);
        }
        Ok(())
    }

    /// Gives an object a name in a directory, as the last in its order; a directory may be named with all below it.
    ///
    /// Cycle and depth are checked by a walk up, of at most [`DEPTH_MOST`] steps.
    ///
    /// # Errors
    /// [`InsertError`]; then nothing changed.
    pub fn insert(
        &mut self,
        directory: Place,
        name: Name<'_>,
        target: Place,
        most: Rights,
        permanent: bool,
    ) -> Result<(), InsertError> {
        self.directory(directory).ok_or(InsertError::NoDirectory)?;
        let levels = self.levels(target);
        self.check(directory, name, Some(target), levels > 0)?;
        // All that can fail comes first. What was reserved and is not used is room for the next.
        self.nodes.reserve(target.index(), Node::default)?;
        self.index.reserve(&mut self.entries)?;
        self.entries.reserve()?;
        let label = self.entries.keep(name.bytes())?;
        let Some(record) = self.node(directory).directory.and_then(|record| self.directories.get_mut(record)) else {
            return Err(InsertError::NoDirectory);
        };
        record.count += 1;
        record.permanent += u32::from(permanent);
        record.serial += 1;
        let entry = Entry {
            directory,
            target,
            chain: None,
            left: None,
            right: None,
            parent: None,
            serial: record.serial,
            most,
            permanent,
            levels,
            levels_below: 0,
            label,
        };
        let place = self.entries.insert(entry)?;
        record.order.append(&mut self.entries, place, self.seed);
        self.index.insert(&mut self.entries, place);
        if let Some(node) = self.nodes.get_mut(target.index()) {
            node.entry = Some(place);
        }
        if levels > 0 {
            self.heights_changed(directory);
        }
        Ok(())
    }

    /// What a name in a directory names.
    #[inline]
    #[must_use]
    pub fn find(&self, directory: Place, name: Name<'_>) -> Option<Named<'_>> {
        self.named(self.index.find(&self.entries, directory, name.bytes())?)
    }

    /// The name of an object.
    #[must_use]
    pub fn name_of(&self, target: Place) -> Option<Named<'_>> {
        self.named(self.node(target).entry?)
    }

    /// The first name in a directory whose cursor is greater than that; 0 is before the first.
    ///
    /// Names come in the order in which they were given. What was there throughout an enumeration is seen exactly once,
    /// whatever came, went or was renamed meanwhile; what came meanwhile is seen, what went is not. A made-up cursor
    /// leads to some name or to none.
    #[must_use]
    pub fn after(&self, directory: Place, cursor: u64) -> Option<Named<'_>> {
        self.named(self.directory(directory)?.order.after(&self.entries, cursor)?)
    }

    /// Takes a name out of a directory.
    pub fn remove(&mut self, directory: Place, name: Name<'_>) -> Option<Removed> {
        self.take_entry(self.index.find(&self.entries, directory, name.bytes())?)
    }

    /// Takes an object's name away.
    pub fn take(&mut self, target: Place) -> Option<Removed> {
        self.take_entry(self.node(target).entry?)
    }

    /// Takes the first name of a directory away: a directory that ends is emptied so, as many at a time as one likes.
    pub fn take_first(&mut self, directory: Place) -> Option<Removed> {
        self.take_entry(self.directory(directory)?.order.after(&self.entries, 0)?)
    }

    /// Changes a name. Its place in the order, its rights and its permanence stay. To the same name: nothing changes.
    ///
    /// # Errors
    /// [`RenameError`]; then nothing changed.
    pub fn rename(&mut self, directory: Place, old: Name<'_>, new: Name<'_>) -> Result<(), RenameError> {
        let place = self.index.find(&self.entries, directory, old.bytes()).ok_or(RenameError::NotFound)?;
        if old == new {
            return Ok(());
        }
        if self.index.find(&self.entries, directory, new.bytes()).is_some() {
            return Err(RenameError::NameExists);
        }
        let mut label = self.entries.keep(new.bytes())?;
        self.index.remove(&mut self.entries, place);
        if let Some(entry) = self.entries.get_mut(place) {
            core::mem::swap(&mut entry.label, &mut label);
        }
        self.index.insert(&mut self.entries, place);
        self.entries.forget(&label);
        Ok(())
    }

    /// Makes an object's name permanent, or temporary. Gives what it was; `None` if the object has no name.
    pub fn set_permanent(&mut self, target: Place, permanent: bool) -> Option<bool> {
        let entry = self.entries.get_mut(self.node(target).entry?)?;
        let before = core::mem::replace(&mut entry.permanent, permanent);
        let directory = entry.directory;
        if let Some(record) = self.node(directory).directory.and_then(|record| self.directories.get_mut(record)) {
            record.permanent = record.permanent - u32::from(before) + u32::from(permanent);
        }
        Some(before)
    }

    /// Directories above an object: 0 if it has no name.
    #[must_use]
    pub fn depth(&self, object: Place) -> u32 {
        self.upwards(object).count() as u32
    }

    /// The directory without a name at the top of an object's path: the object itself if it has no name.
    #[must_use]
    pub fn top(&self, object: Place) -> Place {
        self.upwards(object).last().map_or(object, |named| named.directory)
    }

    /// Writes the path to an object at the end of a buffer, and gives it: from the innermost directory above it that
    /// has no name, or for whose names `counts` is false. Empty if the object has no name that counts.
    /// [`WHOLE_PATH_BYTES`] are always enough.
    ///
    /// # Errors
    /// The bytes that are needed, if there are fewer.
    pub fn path<'a>(
        &self,
        object: Place,
        buffer: &'a mut [u8],
        counts: impl Fn(Place) -> bool,
    ) -> Result<(Place, &'a [u8]), usize> {
        let parts = || self.upwards(object).take_while(|named| counts(named.directory));
        let needed = parts().map(|named| named.name.len() + 1).sum::<usize>().saturating_sub(1);
        let Some(start) = buffer.len().checked_sub(needed) else { return Err(needed) };
        let mut begin = buffer.len();
        let mut top = object;
        for named in parts() {
            if begin < buffer.len() {
                begin -= 1;
                buffer[begin] = path::SEPARATOR;
            }
            let end = begin;
            begin -= named.name.len();
            buffer[begin..end].copy_from_slice(named.name);
            top = named.directory;
        }
        Ok((top, &buffer[start..]))
    }

    /// The name of an object, that of the directory it stands in, and so on: bounded, as depth is.
    fn upwards(&self, object: Place) -> impl Iterator<Item = Named<'_>> {
        core::iter::successors(self.name_of(object), |named| self.name_of(named.directory))
    }

    /// Directories above a directory; `None` if `other` is it or one of them.
    fn above(&self, directory: Place, other: Option<Place>) -> Option<u32> {
        let mut above = 0;
        for named in self.upwards(directory) {
            if Some(named.target) == other {
                return None;
            }
            above += 1;
        }
        (Some(self.top(directory)) != other).then_some(above)
    }

    #[inline]
    fn node(&self, place: Place) -> Node {
        self.nodes.get(place.index()).copied().unwrap_or_default()
    }

    fn directory(&self, place: Place) -> Option<&Directory> {
        self.directories.get(self.node(place).directory?)
    }

    fn named(&self, place: Place) -> Option<Named<'_>> {
        let entry = self.entries.get(place)?;
        Some(Named {
            directory: entry.directory,
            name: self.entries.name(entry),
            target: entry.target,
            most: entry.most,
            permanent: entry.permanent,
            cursor: entry.serial,
        })
    }

    /// Levels of directories that an object stands for: 0 if it is none.
    fn levels(&self, object: Place) -> u8 {
        self.directory(object).map_or(0, |directory| directory.order.height(&self.entries) + 1)
    }

    /// Takes one name out. Allocates nothing.
    fn take_entry(&mut self, place: Place) -> Option<Removed> {
        let (directory, permanent) = self.entries.get(place).map(|entry| (entry.directory, entry.permanent))?;
        self.index.remove(&mut self.entries, place);
        if let Some(record) = self.node(directory).directory.and_then(|record| self.directories.get_mut(record)) {
            record.count -= 1;
            record.permanent -= u32::from(permanent);
            record.order.remove(&mut self.entries, place, self.seed);
        }
        let entry = self.entries.remove(place)?;
        self.entries.forget(&entry.label);
        if let Some(node) = self.nodes.get_mut(entry.target.index()) {
            node.entry = None;
        }
        if entry.levels > 0 {
            self.heights_changed(directory);
        }
        Some(Removed { directory, target: entry.target, most: entry.most, permanent: entry.permanent })
    }

    /// Tells the directories above one how high it is now, as far as that changes anything.
    fn heights_changed(&mut self, directory: Place) {
        let mut changed = directory;
        for _ in 0..=DEPTH_MOST {
            let levels = self.levels(changed);
            let Some(place) = self.node(changed).entry else { return };
            let Some(entry) = self.entries.get(place).filter(|entry| entry.levels != levels) else { return };
            changed = entry.directory;
            let Some(record) = self.node(changed).directory.and_then(|record| self.directories.get_mut(record)) else {
                return;
            };
            record.order.set_levels(&mut self.entries, place, levels);
        }
    }
}
