//! One name: what it says, where it stands, what it grants.

use kobj_abi::Rights;
use kobj_memory::{Bytes, NoMemory, Place, Pool};

/// Bytes of a name that stand in the entry itself.
pub(super) const SHORT_BYTES: usize = 22;

/// The bytes of a name: few in the entry, many in a pool of their own.
pub(super) enum Label {
    Short { length: u8, bytes: [u8; SHORT_BYTES] },
    Long(Place),
}

/// One name in a directory. What a lookup reads stands in front, so that it is mostly one cache line: the allocator
/// puts large arrays 16 bytes past the beginning of one.
#[repr(C)]
pub(super) struct Entry {
    pub(super) directory: Place,
    /// The next name in the same bucket of the index.
    pub(super) chain: Option<Place>,
    pub(super) label: Label,
    /// What is named.
    pub(super) target: Place,
    /// The most rights that opening by this name gives.
    pub(super) most: Rights,
    /// When it was linked, counted in its directory from 1.
    pub(super) serial: u64,
    /// Its place in the directory's order: see `order.rs`.
    pub(super) left: Option<Place>,
    pub(super) right: Option<Place>,
    pub(super) parent: Option<Place>,
    /// Levels of directories that this name stands for: 0 unless a directory is named.
    pub(super) levels: u8,
    /// The most `levels` of it and of all below it in the order.
    pub(super) levels_below: u8,
    /// Whether the name stays when nobody has a handle.
    pub(super) permanent: bool,
}

const _: () = assert!(Pool::<Entry>::SLOT_BYTES == 64, "a name is one cache line");

/// All names, whatever their directory.
#[derive(Default)]
pub(super) struct Entries {
    pool: Pool<Entry>,
    long: Pool<Bytes>,
}

impl Entries {
    #[inline]
    pub(super) fn get(&self, place: Place) -> Option<&Entry> {
        self.pool.get(place)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.pool.get_mut(place)
    }

    pub(super) fn reserve(&mut self) -> Result<(), NoMemory> {
        self.pool.reserve()
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Result<Place, NoMemory> {
        self.pool.insert(entry)
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
        self.pool.remove(place)
    }

    /// Keeps the bytes of a name, which go back by [`Entries::forget`].
    pub(super) fn keep(&mut self, name: &[u8]) -> Result<Label, NoMemory> {
        let mut bytes = [0; SHORT_BYTES];
        if let Some(short) = bytes.get_mut(..name.len()) {
            short.copy_from_slice(name);
            return Ok(Label::Short { length: name.len() as u8, bytes });
        }
        self.long.insert(Bytes::try_from_slice(name)?).map(Label::Long)
    }

    pub(super) fn forget(&mut self, label: &Label) {
        if let Label::Long(place) = label {
            self.long.remove(*place);
        }
    }

    /// The bytes of the name of an entry.
    #[inline]
    pub(super) fn name<'a>(&'a self, entry: &'a Entry) -> &'a [u8] {
        match &entry.label {
            Label::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Label::Long(place) => self.long.get(*place).map_or(&[], |long| long),
        }
    }
}
