//! What a scrub works with and keeps between objects, so that ten thousand of them cost ten thousand deletions and not
//! ten thousand set-ups.

use std::path::PathBuf;

/// That a private folder is about to hold a file for a moment, or no longer will.
///
/// Written down before it happens: if kobj is killed in between, the next scrub finds the file and puts it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuarantineNote {
    /// A folder for one file system was made (mode 0700, ours); files pass through it from now on.
    Opened(PathBuf),
    /// The folder was removed, empty.
    Closed(PathBuf),
}

/// The hands that destroy objects: made once for a whole plan, given to every [`crate::kind::Kind::scrub`].
pub struct Hands<'a> {
    note: &'a mut dyn FnMut(QuarantineNote),
    /// Whether the caller knows that every process which could ever open the objects at hand (the job's) is dead.
    ///
    /// The only way in which a fifo, that has no judge, may go.
    pub openers_are_dead: bool,
}

impl<'a> Hands<'a> {
    /// Hands that write down, by `note`, each private folder before it is used.
    pub fn new(note: &'a mut dyn FnMut(QuarantineNote)) -> Self {
        Self { note, openers_are_dead: false }
    }

    /// Writes a note down.
    pub(crate) fn note(&mut self, note: QuarantineNote) {
        (self.note)(note);
    }
}
