//! What one writes without kobj: objects in `Arc`, a slotmap under a mutex for each guest, rights in each entry, a quota by an
//! atomic counter, names that hold weak references, and a revoke that walks all tables.

use parking_lot::{Mutex, RwLock};
use slotmap::{DefaultKey, SlotMap};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

pub(super) const DUPLICATE: u32 = 1;
pub(super) const TRANSFER: u32 = 2;
pub(super) const READ: u32 = 4;
pub(super) const ENUMERATE: u32 = 8;
pub(super) const LOOKUP: u32 = 16;
pub(super) const CREATE: u32 = 32;
pub(super) const REMOVE: u32 = 64;
pub(super) const ALL: u32 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Dead,
    BadHandle,
    WrongType,
    Denied,
    Quota,
    NotFound,
    Exists,
}

/// How many objects guests may have; all of one job share it.
pub(super) struct Job {
    limit: usize,
    used: AtomicUsize,
}

impl Job {
    fn charge(self: &Arc<Self>) -> Result<Charge, Refused> {
        let below = |used: usize| (used < self.limit).then_some(used + 1);
        let charged = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below);
        charged.map(|_| Charge(self.clone())).map_err(|_| Refused::Quota)
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One object's share of the quota, given back when it is dropped.
struct Charge(Arc<Job>);

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) enum Body {
    Directory(Mutex<HashMap<Vec<u8>, Name>>),
    Number(AtomicU64),
}

pub(super) struct Object {
    pub(super) body: Body,
    _charge: Charge,
}

/// A name does not keep what it names.
pub(super) struct Name {
    object: Weak<Object>,
    most: u32,
}

/// Where a handle was derived from.
struct Node {
    parent: Option<Arc<Node>>,
}

fn is_below(node: &Arc<Node>, above: &Arc<Node>) -> bool {
    let mut at = node.parent.as_ref();
    while let Some(parent) = at {
        if Arc::ptr_eq(parent, above) {
            return true;
        }
        at = parent.parent.as_ref();
    }
    false
}

struct Entry {
    object: Arc<Object>,
    rights: u32,
    node: Arc<Node>,
}

type Table = SlotMap<DefaultKey, Entry>;

/// A guest; its table is gone when it has ended.
pub(super) struct Guest {
    job: Arc<Job>,
    table: Mutex<Option<Table>>,
    _charge: Charge,
}

fn allowed(table: &Table, key: DefaultKey, needed: u32) -> Result<&Entry, Refused> {
    let entry = table.get(key).ok_or(Refused::BadHandle)?;
    if entry.rights & needed == needed { Ok(entry) } else { Err(Refused::Denied) }
}

fn directory(object: &Object) -> Result<&Mutex<HashMap<Vec<u8>, Name>>, Refused> {
    match &object.body {
        Body::Directory(names) => Ok(names),
        Body::Number(_) => Err(Refused::WrongType),
    }
}

impl Guest {
    fn table<R>(&self, action: impl FnOnce(&mut Table) -> Result<R, Refused>) -> Result<R, Refused> {
        action(self.table.lock().as_mut().ok_or(Refused::Dead)?)
    }

    fn insert(&self, object: Arc<Object>, rights: u32, parent: Option<Arc<Node>>) -> Result<DefaultKey, Refused> {
        self.table(|table| Ok(table.insert(Entry { object, rights, node: Arc::new(Node { parent }) })))
    }

    pub(super) fn create(&self, body: Body) -> Result<DefaultKey, Refused> {
        let object = Arc::new(Object { body, _charge: self.job.charge()? });
        self.insert(object, ALL, None)
    }

    pub(super) fn create_directory(&self) -> Result<DefaultKey, Refused> {
        self.create(Body::Directory(Mutex::default()))
    }

    pub(super) fn get(&self, key: DefaultKey, needed: u32) -> Result<Arc<Object>, Refused> {
        self.table(|table| Ok(allowed(table, key, needed)?.object.clone()))
    }

    pub(super) fn close(&self, key: DefaultKey) -> Result<(), Refused> {
        // The object is dropped after the lock.
        self.table(|table| table.remove(key).ok_or(Refused::BadHandle)).map(drop)
    }

    pub(super) fn duplicate(&self, key: DefaultKey, rights: u32) -> Result<DefaultKey, Refused> {
        self.copy(key, rights, |node| node.clone())
    }

    pub(super) fn derive(&self, key: DefaultKey, rights: u32) -> Result<DefaultKey, Refused> {
        self.copy(key, rights, |node| Arc::new(Node { parent: Some(node.clone()) }))
    }

    fn copy(
        &self,
        key: DefaultKey,
        rights: u32,
        node: impl Fn(&Arc<Node>) -> Arc<Node>,
    ) -> Result<DefaultKey, Refused> {
        self.table(|table| {
            let entry = allowed(table, key, DUPLICATE | rights)?;
            let copy = Entry { object: entry.object.clone(), rights, node: node(&entry.node) };
            Ok(table.insert(copy))
        })
    }

    pub(super) fn link(&self, at: DefaultKey, name: &[u8], key: DefaultKey, most: u32) -> Result<(), Refused> {
        let (within, object) = (self.get(at, CREATE)?, self.get(key, DUPLICATE | most)?);
        let mut names = directory(&within)?.lock();
        if names.get(name).is_some_and(|name| name.object.strong_count() > 0) {
            return Err(Refused::Exists);
        }
        names.insert(name.to_vec(), Name { object: Arc::downgrade(&object), most });
        Ok(())
    }

    pub(super) fn open(&self, at: DefaultKey, name: &[u8], rights: Option<u32>) -> Result<DefaultKey, Refused> {
        let within = self.get(at, LOOKUP)?;
        let names = directory(&within)?.lock();
        let found = names.get(name).ok_or(Refused::NotFound)?;
        let (object, most) = (found.object.upgrade().ok_or(Refused::NotFound)?, found.most);
        drop(names);
        let rights = rights.unwrap_or(most);
        if rights & most == rights { self.insert(object, rights, None) } else { Err(Refused::Denied) }
    }

    pub(super) fn unlink(&self, at: DefaultKey, name: &[u8]) -> Result<(), Refused> {
        let within = self.get(at, REMOVE)?;
        directory(&within)?.lock().remove(name).map(drop).ok_or(Refused::NotFound)
    }

    /// Ends the guest with all its handles.
    pub(super) fn kill(&self) {
        let table = self.table.lock().take();
        drop(table);
    }
}

/// All guests, and the directory that they start from.
pub(super) struct Host {
    root: Arc<Object>,
    guests: Mutex<Vec<Weak<Guest>>>,
    /// A revoke must not miss what is on its way from one table to another.
    moves: RwLock<()>,
}

impl Host {
    pub(super) fn new() -> Result<Self, Refused> {
        let charge = Self::job(1).charge()?;
        let root = Arc::new(Object { body: Body::Directory(Mutex::default()), _charge: charge });
        Ok(Self { root, guests: Mutex::default(), moves: RwLock::default() })
    }

    pub(super) fn job(limit: usize) -> Arc<Job> {
        Arc::new(Job { limit, used: AtomicUsize::new(0) })
    }

    /// A guest with a handle to the first directory.
    pub(super) fn guest(&self, job: &Arc<Job>, rights: u32) -> Result<(Arc<Guest>, DefaultKey), Refused> {
        let table = Mutex::new(Some(SlotMap::new()));
        let guest = Arc::new(Guest { job: job.clone(), table, _charge: job.charge()? });
        let root = guest.insert(self.root.clone(), rights, None)?;
        let mut guests = self.guests.lock();
        guests.retain(|guest| guest.strong_count() > 0);
        guests.push(Arc::downgrade(&guest));
        Ok((guest, root))
    }

    pub(super) fn transfer(&self, from: &Guest, key: DefaultKey, to: &Guest) -> Result<DefaultKey, Refused> {
        let _moves = self.moves.read();
        let entry = from.table(|table| {
            allowed(table, key, TRANSFER)?;
            table.remove(key).ok_or(Refused::BadHandle)
        })?;
        // If the receiver has ended, the handle is closed.
        to.table(|table| Ok(table.insert(entry)))
    }

    /// Takes back all that was derived from a handle, in all tables.
    pub(super) fn revoke(&self, guest: &Guest, key: DefaultKey) -> Result<(), Refused> {
        let _moves = self.moves.write();
        let node = guest.table(|table| Ok(allowed(table, key, DUPLICATE)?.node.clone()))?;
        for guest in self.guests.lock().iter().filter_map(Weak::upgrade) {
            let _ended = guest.table(|table| {
                table.retain(|_, entry| !is_below(&entry.node, &node));
                Ok(())
            });
        }
        Ok(())
    }
}
