//! `/proc/sysvipc/{shm,sem,msg}`. Read by column position of each table's fixed head: the head never changed, columns
//! were only added at the end. Numbers that the kernel prints as 32 bits are kept as such.

use super::{lines, octal, signed, words};

/// A line of `/proc/sysvipc/shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shm {
    /// The key, 0 for private.
    pub key: i32,
    /// The id; it contains the sequence number.
    pub id: i32,
    /// Permission bits, with the kernel's flags above them (`SHM_DEST` is 0o1000).
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// The creator's process id in our PID namespace; 0 if it has none there.
    pub creator_pid: u32,
    /// Who attached or detached last.
    pub last_pid: u32,
    /// Number of attachments.
    pub attached: u64,
    /// Owner.
    pub uid: u32,
    /// Creator's user.
    pub creator_uid: u32,
    /// Last change, in seconds since 1970.
    pub changed: i64,
}

/// A line of `/proc/sysvipc/sem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sem {
    /// The key, 0 for private.
    pub key: i32,
    /// The id; it contains the sequence number.
    pub id: i32,
    /// Permission bits.
    pub mode: u32,
    /// Number of semaphores in the set.
    pub count: u32,
    /// Owner.
    pub uid: u32,
    /// Creator's user.
    pub creator_uid: u32,
    /// Last operation, in seconds since 1970; 0 if never.
    pub used: i64,
    /// Last change, in seconds since 1970.
    pub changed: i64,
}

/// A line of `/proc/sysvipc/msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msg {
    /// The key, 0 for private.
    pub key: i32,
    /// The id; it contains the sequence number.
    pub id: i32,
    /// Permission bits.
    pub mode: u32,
    /// Bytes in the queue.
    pub bytes: u64,
    /// Messages in the queue.
    pub messages: u64,
    /// Who sent last; 0 if nobody.
    pub last_sender: u32,
    /// Who received last; 0 if nobody.
    pub last_receiver: u32,
    /// Owner.
    pub uid: u32,
    /// Creator's user.
    pub creator_uid: u32,
    /// Last change, in seconds since 1970.
    pub changed: i64,
}

/// The columns of a line; column 2, the permissions, is octal.
struct Columns<'a> {
    words: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(line: &'a [u8]) -> Self {
        Self { words: words(line).take(16).collect() }
    }

    fn number<T: TryFrom<i64>>(&self, column: usize) -> Option<T> {
        T::try_from(signed(self.words.get(column)?)?).ok()
    }

    fn mode(&self) -> Option<u32> {
        octal(self.words.get(2)?)
    }
}

fn rows<'a, T>(text: &'a [u8], row: impl Fn(&Columns<'a>) -> Option<T> + 'a) -> impl Iterator<Item = T> + 'a {
    lines(text).filter_map(move |line| row(&Columns::of(line)))
}

/// The segments in the table.
pub fn shm(text: &[u8]) -> impl Iterator<Item = Shm> + '_ {
    rows(text, |c| {
        Some(Shm {
            key: c.number(0)?,
            id: c.number(1)?,
            mode: c.mode()?,
            size: c.number(3)?,
            creator_pid: c.number(4)?,
            last_pid: c.number(5)?,
            attached: c.number(6)?,
            uid: c.number(7)?,
            creator_uid: c.number(9)?,
            changed: c.number(13)?,
        })
    })
}

/// The semaphore sets in the table.
pub fn sem(text: &[u8]) -> impl Iterator<Item = Sem> + '_ {
    rows(text, |c| {
        Some(Sem {
            key: c.number(0)?,
            id: c.number(1)?,
            mode: c.mode()?,
            count: c.number(3)?,
            uid: c.number(4)?,
            creator_uid: c.number(6)?,
            used: c.number(8)?,
            changed: c.number(9)?,
        })
    })
}

/// The queues in the table.
pub fn msg(text: &[u8]) -> impl Iterator<Item = Msg> + '_ {
    rows(text, |c| {
        Some(Msg {
            key: c.number(0)?,
            id: c.number(1)?,
            mode: c.mode()?,
            bytes: c.number(3)?,
            messages: c.number(4)?,
            last_sender: c.number(5)?,
            last_receiver: c.number(6)?,
            uid: c.number(7)?,
            creator_uid: c.number(9)?,
            changed: c.number(13)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_by_column() {
        let text = b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime\n\
            -1 32769  1600  1073741824  4702  4710      2  1000  1000  1001  1001          1          2          3  4 5\n\
            0 8 600 1 2\n\xff\xff\n";
        let rows: Vec<_> = shm(text).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].key, rows[0].id, rows[0].mode, rows[0].size), (-1, 32769, 0o1600, 1 << 30));
        assert_eq!((rows[0].creator_pid, rows[0].attached, rows[0].uid, rows[0].creator_uid), (4702, 2, 1000, 1001));
        assert_eq!(rows[0].changed, 3);
        let rows: Vec<_> = sem(b"0 5 600 3 1000 1000 1001 1001 7 8\n").collect();
        assert_eq!((rows[0].id, rows[0].count, rows[0].creator_uid, rows[0].used, rows[0].changed), (5, 3, 1001, 7, 8));
        let rows: Vec<_> = msg(b"1 6 644 10 2 33 44 1000 1000 1001 1001 7 8 9\n").collect();
        assert_eq!((rows[0].bytes, rows[0].messages, rows[0].last_sender, rows[0].last_receiver), (10, 2, 33, 44));
        assert_eq!(rows[0].changed, 9);
    }
}
