//! What kind of refusal it was: one number for each, the same in every language and on the wire.

macro_rules! codes {
    ($($(#[$text:meta])* $name:ident = $number:literal $words:literal,)*) => {
        /// The kind of a refusal. Numbers once given are never given again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$text])* $name = $number,)*
        }

        impl ErrorCode {
            /// Every code, in the order of its number.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$name),*];

            /// The word that people read.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

codes! {
    /// The caller, or what it acts on, is being ended.
    Dying = 1 "dying",
    /// No handle of this table, or no longer.
    BadHandle = 2 "bad-handle",
    /// The object's type has no such operation, or is not the one that was expected.
    WrongType = 3 "wrong-type",
    /// The handle, or the directory entry, does not allow it.
    AccessDenied = 4 "access-denied",
    /// A value that is never right: a reserved bit, a name with a separator, a range past the end.
    BadArgument = 5 "bad-argument",
    /// Nothing has that name.
    NotFound = 6 "not-found",
    /// The name is taken.
    NameExists = 7 "name-exists",
    /// The object has a name already, or has none where one is needed.
    WrongName = 8 "wrong-name",
    /// Symbolic links lead round and round.
    LinkLoop = 9 "link-loop",
    /// A directory would contain itself.
    Cycle = 10 "cycle",
    /// Nested too deeply.
    TooDeep = 11 "too-deep",
    /// The handle's node is being revoked.
    Revoked = 12 "revoked",
    /// A quota would be exceeded.
    Quota = 13 "quota",
    /// There is not enough memory.
    NoMemory = 14 "no-memory",
    /// A counter's end: references, ids, handles.
    Exhausted = 15 "exhausted",
    /// Not in this state: the root job, an object charged elsewhere.
    BadState = 16 "bad-state",
    /// Used in a child of fork, which has no part in the manager.
    Forked = 17 "forked",
}
