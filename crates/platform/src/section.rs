//! The memory of sections on Linux: a sealed memfd for each, under its koid, and the views of it.
//!
//! The descriptor is private to the table here: nobody else can map, resize or write it. Its size is sealed, so no view can
//! fault because the memory behind it was cut off; its pages are reserved when it is made, unless they are to come lazily.
//! The memory goes when the descriptor and the last view of it have gone: the kernel sees to that.

pub mod bare;
mod room;
#[cfg(test)]
mod tests;

pub use room::{Room, RoomError};

use kobj_abi::Koid;
use kobj_abi::section::{Access, Part, ViewError, copy_in, copy_out, within};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why there is no memory or no view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionError {
    /// There is too little memory.
    NoMemory,
    /// This process has too many open files or mappings.
    TooMany,
    /// There is no such section here, or the part is not within it.
    Unknown,
}

impl From<Errno> for SectionError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::MFILE | Errno::NFILE => Self::TooMany,
            _ => Self::NoMemory,
        }
    }
}

/// Page sizes are read once.
fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// All sections of a manager, and their views.
#[derive(Debug, Default)]
pub struct Sections {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    memories: Map<Memory>,
    views: Map<Arc<View>>,
}

/// By koids and by the numbers of views: each is used once, so they need no better hash than a multiplication.
type Map<V> = HashMap<u64, V, BuildHasherDefault<Multiply>>;

#[derive(Debug, Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: neighbours land far apart, in the upper bits too.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Debug)]
struct Memory {
    file: OwnedFd,
    size_bytes: u64,
}

impl Sections {
    /// A panic elsewhere leaves the tables whole: nothing here panics half way through a change.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the memory of a section. All its bytes are 0.
    ///
    /// # Errors
    /// [`SectionError`]; then there is none.
    #[inline]
    pub fn create(&self, koid: Koid, size_bytes: u64, lazy: bool) -> Result<(), SectionError> {
        let file = memory_file(koid, size_bytes, lazy)?;
        let mut tables = self.tables();
        tables.memories.try_reserve(1).map_err(|_| SectionError::NoMemory)?;
        tables.memories.insert(koid.raw(), Memory { file, size_bytes });
        Ok(())
    }

    /// Gives a section's memory up: it goes with the last view. The memory of an unknown section is gone already.
    #[inline]
    pub fn destroy(&self, koid: Koid) {
        let memory = self.tables().memories.remove(&koid.raw());
        // Closed without the lock: to give large memory back takes its time.
        drop(memory);
    }

    /// Maps a part of a section. The view is known by `number`, which must be new, until it is unmapped.
    ///
    /// # Errors
    /// [`SectionError`]; then there is no view.
    #[inline]
    pub fn map(&self, koid: Koid, number: u64, part: Part, access: Access) -> Result<Arc<View>, SectionError> {
        let mut tables = self.tables();
        tables.views.try_reserve(1).map_err(|_| SectionError::NoMemory)?;
        let memory = tables.memories.get(&koid.raw()).filter(|memory| part.is_inside(memory.size_bytes));
        let view = Arc::new(View::new(&memory.ok_or(SectionError::Unknown)?.file, part, access)?);
        tables.views.insert(number, view.clone());
        Ok(view)
    }

    /// Ends a view: it refuses every access from now on, and is unmapped when those under way have ended. An unknown one has
    /// ended already.
    #[inline]
    pub fn unmap(&self, number: u64) {
        let view = self.tables().views.remove(&number);
        if let Some(view) = view {
            view.close();
        }
    }

    /// Bytes of memory that a section has got so far.
    #[must_use]
    pub fn allocated_bytes(&self, koid: Koid) -> Option<u64> {
        let tables = self.tables();
        let stat = rustix::fs::fstat(&tables.memories.get(&koid.raw())?.file).ok()?;
        Some(u64::try_from(stat.st_blocks).ok()? * 512)
    }

    /// How many sections and views there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let tables = self.tables();
        (tables.memories.len(), tables.views.len())
    }
}

/// Kernels before 6.3 know no `MFD_NOEXEC_SEAL`, and refuse what they do not know.
static KNOWS_NOEXEC: AtomicBool = AtomicBool::new(true);

/// Reserved at once; a signal undoes the piece that is being reserved, not those before.
const RESERVED_AT_ONCE_BYTES: u64 = 64 << 20;

#[inline]
fn memory_file(koid: Koid, size_bytes: u64, lazy: bool) -> Result<OwnedFd, SectionError> {
    if size_bytes > i64::MAX as u64 {
        return Err(SectionError::NoMemory);
    }
    let file = named_file(koid)?;
    if lazy {
        rustix::fs::ftruncate(&file, size_bytes)?;
    }
    // Reserving pages past the end moves the end there: one call less than a small section can notice.
    let mut reserved = if lazy { size_bytes } else { 0 };
    while reserved < size_bytes {
        let piece = (size_bytes - reserved).min(RESERVED_AT_ONCE_BYTES);
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), reserved, piece) {
            Ok(()) => reserved += piece,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// "kobj:", the era and the counter as eight hexadecimal digits each, a NUL: as koids are printed. Whoever reads
/// `/proc/PID/maps` finds the object by it.
fn name_of(koid: Koid) -> [u8; 23] {
    let mut digits = [0; 16];
    for (place, digit) in digits.iter_mut().enumerate() {
        let value = (koid.raw() >> (60 - 4 * place)) as u8 & 15;
        *digit = value + if value < 10 { b'0' } else { b'a' - 10 };
    }
    let mut name = *b"kobj:EEEEEEEE:CCCCCCCC\0";
    name[5..13].copy_from_slice(&digits[..8]);
    name[14..22].copy_from_slice(&digits[8..]);
    name
}

fn named_file(koid: Koid) -> Result<OwnedFd, Errno> {
    let name = name_of(koid);
    let name = CStr::from_bytes_with_nul(&name).unwrap_or(c"kobj");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Relaxed: both ways are right, and whoever sees the old value only tries once more.
    if KNOWS_NOEXEC.load(Ordering::Relaxed) {
        match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => KNOWS_NOEXEC.store(false, Ordering::Relaxed),
            other => return other,
        }
    }
    rustix::fs::memfd_create(name, flags)
}

/// The view is closed: no access begins any more.
const CLOSED: u64 = 1 << 63;
/// Somebody has unmapped it, or is about to.
const UNMAPPED: u64 = 1 << 62;

/// A mapped part of a section.
///
/// It is memory that others change at any time, so it is read and written by copies, or borrowed as atomic words.
#[derive(Debug)]
pub struct View {
    /// The beginning of a page.
    start: NonNull<AtomicU64>,
    mapped_bytes: usize,
    /// Where in the mapping the view begins, in bytes.
    skip: usize,
    size_bytes: usize,
    access: Access,
    /// Accesses under way, [`CLOSED`], [`UNMAPPED`].
    gate: AtomicU64,
}

// SAFETY: duty: `start` may be used and unmapped from any thread. A mapping is the whole process's, it is accessed by atomic
// operations alone, and unmapped once, when `gate` says that nobody is inside. Plain access would break it.
unsafe impl Send for View {}

// SAFETY: duty: as above, from several threads at once. The same holds, and the same would break it.
unsafe impl Sync for View {}

fn map(file: impl AsFd, length: usize, from: u64, access: Access) -> Result<NonNull<AtomicU64>, Errno> {
    let protection = match access {
        Access::Read => ProtFlags::READ,
        Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
    };
    // SAFETY: duty: no memory of this process may be replaced. With a null hint and no MAP_FIXED the kernel chooses a free
    // range. MAP_FIXED would break it.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, from)? };
    NonNull::new(start.cast()).ok_or(Errno::NOMEM)
}

impl View {
    fn new(file: impl AsFd, part: Part, access: Access) -> Result<Self, SectionError> {
        let page = page_bytes() as u64;
        let from = part.offset_bytes - part.offset_bytes % page;
        let skip = (part.offset_bytes - from) as usize;
        let size_bytes = usize::try_from(part.size_bytes).map_err(|_| SectionError::NoMemory)?;
        let mapped_bytes = skip.checked_add(size_bytes).and_then(|end| end.checked_next_multiple_of(page as usize));
        let mapped_bytes = mapped_bytes.ok_or(SectionError::NoMemory)?;
        let start = map(file, mapped_bytes, from, access)?;
        Ok(Self { start, mapped_bytes, skip, size_bytes, access, gate: AtomicU64::new(0) })
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes as u64
    }

    /// What it is for.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Copies bytes out of it, from an offset on.
    ///
    /// # Errors
    /// [`ViewError`]; then `into` is as it was.
    pub fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        let offset = within(offset_bytes, into.len(), self.size_bytes())?;
        let inside = self.enter()?;
        copy_out(inside.all(), self.skip + offset, into);
        Ok(())
    }

    /// Copies bytes into it, from an offset on.
    ///
    /// # Errors
    /// [`ViewError`]; then nothing is written.
    pub fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        if self.access == Access::Read {
            return Err(ViewError::ReadOnly);
        }
        let offset = within(offset_bytes, from.len(), self.size_bytes())?;
        let inside = self.enter()?;
        copy_in(inside.all(), self.skip + offset, from);
        Ok(())
    }

    /// The whole words of a view that can be written, borrowed. The view is not unmapped before they are given back.
    ///
    /// A view that does not begin at a multiple of 8 has none.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn words(&self) -> Result<Words<'_>, ViewError> {
        // A store to a page that is mapped to be read would end the process.
        if self.access == Access::Read {
            return Err(ViewError::ReadOnly);
        }
        let first = self.skip / 8;
        let count = if self.skip.is_multiple_of(8) { self.size_bytes / 8 } else { 0 };
        Ok(Words { inside: self.enter()?, first, count })
    }

    /// Ends it: no access begins from now on, and it is unmapped when the last one under way has ended.
    #[inline]
    pub fn close(&self) {
        // AcqRel: what this thread did comes before the unmapping, whoever does that; see `leave`.
        let before = self.gate.fetch_or(CLOSED, Ordering::AcqRel);
        self.unmap_if_last(before | CLOSED);
    }

    fn enter(&self) -> Result<Inside<'_>, ViewError> {
        // Acquire: no access to the memory moves before it. In the total order of the changes of this word an entry comes
        // either before the closing, and then the unmapping waits for it, or after, and then it is seen to be closed here.
        let before = self.gate.fetch_add(1, Ordering::Acquire);
        let inside = Inside(self);
        if before & CLOSED == 0 { Ok(inside) } else { Err(ViewError::Unmapped) }
    }

    /// Unmaps it if it is closed, nobody is inside, and nobody has done so.
    #[inline]
    fn unmap_if_last(&self, seen: u64) {
        if seen != CLOSED {
            return;
        }
        // Acquire: the accesses of all who have left come before. Of two that come here one changes the word.
        if self.gate.compare_exchange(CLOSED, CLOSED | UNMAPPED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            // SAFETY: duty: the range must be one that was mapped here, and nobody may use it again. It is `new`'s mapping;
            // whoever enters from now on finds it closed and touches nothing, and all who were inside have left. Words
            // that outlive their guard would break it.
            let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.mapped_bytes) };
            debug_assert!(unmapped.is_ok(), "a mapping of our own: {unmapped:?}");
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.close();
    }
}

/// An access under way.
#[derive(Debug)]
struct Inside<'v>(&'v View);

impl<'v> Inside<'v> {
    /// The words of the mapped pages. Only for an access that was let in.
    fn all(&self) -> &[AtomicU64] {
        let count = self.0.mapped_bytes / 8;
        // SAFETY: duty: the range must be mapped, aligned, and changed by nothing but atomic operations for as long as the
        // slice lives. A page is aligned; this access is counted, and was let in, so that nobody unmaps before it ends; the
        // memfd is sealed, so the pages are there; others in this program have it through views alone, and what other
        // processes do to it is not seen by the compiler. Calling it for an access that was refused would break it.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), count) }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: what was done inside comes before an unmapping by somebody else.
        let before = self.0.gate.fetch_sub(1, Ordering::Release);
        self.0.unmap_if_last(before - 1);
    }
}

/// The words of a view. Stores and loads of others are seen as the memory orderings say; always access whole words.
#[derive(Debug)]
pub struct Words<'v> {
    inside: Inside<'v>,
    first: usize,
    count: usize,
}

impl Deref for Words<'_> {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        self.inside.all().get(self.first..self.first + self.count).unwrap_or_default()
    }
}
