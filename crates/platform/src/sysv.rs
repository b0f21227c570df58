//! System V objects: state, change and removal by id. `rustix` leaves these calls out.
//!
//! State is asked by table index (`*_STAT_ANY`, Linux 4.17), which needs no read permission, and checked to be that of
//! the id; the same look by id is the fallback. An id contains a sequence number, so it names one object.

use rustix::io::Errno;
use std::mem::MaybeUninit;

/// `SHM_STAT_ANY`, `SEM_STAT_ANY`, `MSG_STAT_ANY`: numbers of the kernel's interface.
const SHM_STAT_ANY: i32 = 15;
const SEM_STAT_ANY: i32 = 20;
const MSG_STAT_ANY: i32 = 13;
/// `GETPID`, `GETNCNT`, `GETZCNT`.
const SEM_GETPID: i32 = 11;
const SEM_GETNCNT: i32 = 14;
const SEM_GETZCNT: i32 = 15;
/// How many low bits of an id are its table index: by default, and with `ipcmni_extend`.
const INDEX_BITS: [u32; 2] = [15, 24];

/// The numbers of the system calls in which a process may sleep on a message queue.
pub const QUEUE_CALLS: [u64; 2] = [libc::SYS_msgsnd as u64, libc::SYS_msgrcv as u64];

/// Who an object belongs to, and by which key it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The key, 0 for private.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Creator's user.
    pub creator_uid: u32,
    /// Permission bits and, for segments, the kernel's flags above them.
    pub mode: u16,
}

impl Permission {
    // The field is wider in some C libraries.
    #[allow(clippy::unnecessary_cast)]
    const fn of(from: &libc::ipc_perm) -> Self {
        Self { key: from.__key, uid: from.uid, gid: from.gid, creator_uid: from.cuid, mode: from.mode as u16 }
    }
}

/// State of a shared memory segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shm {
    /// Owner and key.
    pub permission: Permission,
    /// Size in bytes.
    pub size: u64,
    /// The creator's process id in our PID namespace; 0 if it has none there.
    pub creator_pid: u32,
    /// Number of attachments, in every namespace.
    pub attached: u64,
}

/// State of a semaphore set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sem {
    /// Owner and key.
    pub permission: Permission,
    /// Number of semaphores.
    pub count: u32,
}

/// State of a message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msg {
    /// Owner and key.
    pub permission: Permission,
    /// Messages in it.
    pub messages: u64,
    /// Who sent last; 0 if nobody or a process outside our PID namespace.
    pub last_sender: u32,
    /// Who received last.
    pub last_receiver: u32,
}

/// How many objects of each sort there are in our IPC namespace: segments, semaphore sets, queues. One call each.
///
/// # Errors
/// What the call said.
pub fn counts() -> rustix::io::Result<[u64; 3]> {
    /// `struct shm_info`: the count, then five longs.
    #[repr(C)]
    struct ShmInfo {
        used: i32,
        _others: [libc::c_long; 5],
    }
    /// `struct seminfo` and `struct msginfo`: plain numbers, fewer than these.
    const WORDS: usize = 16;
    const SEM_INFO: i32 = 19;
    const MSG_INFO: i32 = 12;
    const SHM_INFO: i32 = 14;
    let mut shm = MaybeUninit::<ShmInfo>::zeroed();
    // SAFETY: duty: room for a struct shm_info, which the kernel writes. `ShmInfo` has its layout. A larger one would break it.
    answer(unsafe { libc::shmctl(0, SHM_INFO, shm.as_mut_ptr().cast()) })?;
    // SAFETY: duty: an initialised value. It began as zeroes, valid for plain integers. A reference in it would break it.
    let shm = unsafe { shm.assume_init() };
    let (mut sem, mut msg) = ([0_i32; WORDS], [0_i32; WORDS]);
    // SAFETY: duty: room for a struct seminfo, ten ints. A kernel that writes more than sixteen would break it.
    answer(unsafe { libc::semctl(0, 0, SEM_INFO, sem.as_mut_ptr()) })?;
    // SAFETY: duty: room for a struct msginfo, seven ints and a short. A kernel that writes more would break it.
    answer(unsafe { libc::msgctl(0, MSG_INFO, msg.as_mut_ptr().cast()) })?;
    // `semusz` is the number of sets, `msgpool` that of queues, by these commands.
    Ok([shm.used, sem[7], msg[0]].map(|count| u64::try_from(count).unwrap_or(0)))
}

fn answer(result: i32) -> rustix::io::Result<i32> {
    if result >= 0 {
        return Ok(result);
    }
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(code))
}

/// Asks `by_index` for the index of `id` under each width, until the answer is that id; else `by_id`.
fn state(
    id: i32,
    mut by_index: impl FnMut(i32) -> rustix::io::Result<i32>,
    by_id: impl FnOnce() -> rustix::io::Result<i32>,
) -> rustix::io::Result<()> {
    if id < 0 {
        return Err(Errno::INVAL);
    }
    for bits in INDEX_BITS {
        if by_index(id & ((1 << bits) - 1)) == Ok(id) {
            return Ok(());
        }
    }
    by_id().map(|_| ())
}

fn shm_call(id: i32, command: i32, buffer: &mut MaybeUninit<libc::shmid_ds>) -> rustix::io::Result<i32> {
    // SAFETY: duty: `buffer` must be writable for a whole shmid_ds where the command writes, and initialised where it
    // reads. It is an exclusive borrow of one; commands that read (IPC_SET) are given one filled by an earlier state
    // call (see `shm_set_mode`). A command with another buffer type (SHM_INFO) would break it; none is passed.
    answer(unsafe { libc::shmctl(id, command, buffer.as_mut_ptr()) })
}

fn shm_buffer(id: i32) -> rustix::io::Result<libc::shmid_ds> {
    let mut buffer = MaybeUninit::<libc::shmid_ds>::zeroed();
    let mut other = MaybeUninit::<libc::shmid_ds>::zeroed();
    let by_index = state(id, |index| shm_call(index, SHM_STAT_ANY, &mut buffer), || Err(Errno::NOSYS));
    let filled = match by_index {
        Ok(()) => buffer,
        Err(_) => {
            shm_call(id, libc::IPC_STAT, &mut other)?;
            other
        }
    };
    // SAFETY: duty: the value must be initialised. It began as zeroes, which are valid for these plain integers, and the
    // kernel wrote into it. A field that may not be zero (a reference) would break it.
    Ok(unsafe { filled.assume_init() })
}

/// The state of segment `id`.
///
/// # Errors
/// `INVAL` or `IDRM`: there is none. `ACCESS`: an old kernel, and the segment may not be read.
pub fn shm(id: i32) -> rustix::io::Result<Shm> {
    let buffer = shm_buffer(id)?;
    Ok(Shm {
        permission: Permission::of(&buffer.shm_perm),
        size: buffer.shm_segsz as u64,
        creator_pid: u32::try_from(buffer.shm_cpid).unwrap_or(0),
        attached: buffer.shm_nattch as u64,
    })
}

/// Sets the low nine permission bits of segment `id`; owner and group stay as they are.
///
/// # Errors
/// `PERM`: neither owner nor privileged. `INVAL` or `IDRM`: there is none.
pub fn shm_set_mode(id: i32, mode: u16) -> rustix::io::Result<()> {
    let mut buffer = shm_buffer(id)?;
    buffer.shm_perm.mode = (mode & 0o777) as _;
    shm_call(id, libc::IPC_SET, &mut MaybeUninit::new(buffer)).map(|_| ())
}

/// Removes segment `id`: at once if nobody has it attached, else after the last detaches.
///
/// # Errors
/// As [`shm_set_mode`].
pub fn shm_remove(id: i32) -> rustix::io::Result<()> {
    shm_call(id, libc::IPC_RMID, &mut MaybeUninit::zeroed()).map(|_| ())
}

/// Makes a segment of `size` bytes: a private one, or of that key if there is none yet.
///
/// # Errors
/// What `shmget` said.
pub fn shm_create(key: i32, size: usize, mode: u16) -> rustix::io::Result<i32> {
    // SAFETY: duty: none, the call takes no pointers. A pointer argument would break that.
    answer(unsafe { libc::shmget(key, size, i32::from(mode) | libc::IPC_CREAT | libc::IPC_EXCL) })
}

/// An attachment of a segment; detached when dropped.
#[derive(Debug)]
pub struct Attachment {
    address: usize,
}

/// Attaches segment `id` where the kernel finds room. Its memory is not given out.
///
/// # Errors
/// `ACCESS`: the mode forbids it. `INVAL` or `IDRM`: there is none.
pub fn shm_attach(id: i32) -> rustix::io::Result<Attachment> {
    // SAFETY: duty: an attachment must not replace memory that is in use. With a null address and no SHM_REMAP the
    // kernel chooses free addresses. An address of ours would break it.
    let address = unsafe { libc::shmat(id, std::ptr::null(), 0) } as usize;
    if address == usize::MAX {
        return Err(answer(-1).err().unwrap_or(Errno::IO));
    }
    Ok(Attachment { address })
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: duty: nobody may use the memory afterwards. Its address never left this value, which ends here. Giving
        // out a reference into it would break it. An error (already detached) leaves nothing to do.
        unsafe { libc::shmdt(self.address as *const libc::c_void) };
    }
}

fn sem_call(id: i32, index: i32, command: i32, buffer: &mut MaybeUninit<libc::semid_ds>) -> rustix::io::Result<i32> {
    // SAFETY: duty: the fourth argument must fit the command: a writable semid_ds for *_STAT*, ignored by the counts and
    // IPC_RMID, which are all that is passed here. GETALL or SETALL would break it.
    answer(unsafe { libc::semctl(id, index, command, buffer.as_mut_ptr()) })
}

/// The state of semaphore set `id`.
///
/// # Errors
/// `INVAL` or `IDRM`: there is none. `ACCESS`: an old kernel, and it may not be read.
pub fn sem(id: i32) -> rustix::io::Result<Sem> {
    let mut buffer = MaybeUninit::<libc::semid_ds>::zeroed();
    let mut other = MaybeUninit::<libc::semid_ds>::zeroed();
    let by_index = state(id, |index| sem_call(index, 0, SEM_STAT_ANY, &mut buffer), || Err(Errno::NOSYS));
    let filled = match by_index {
        Ok(()) => buffer,
        Err(_) => {
            sem_call(id, 0, libc::IPC_STAT, &mut other)?;
            other
        }
    };
    // SAFETY: duty: the value must be initialised. It began as zeroes, valid for plain integers. A reference in it would
    // break it.
    let state = unsafe { filled.assume_init() };
    Ok(Sem { permission: Permission::of(&state.sem_perm), count: u32::try_from(state.sem_nsems).unwrap_or(u32::MAX) })
}

/// What can be asked of one semaphore of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SemUse {
    /// Processes that wait for it to rise.
    pub waiting_to_rise: u32,
    /// Processes that wait for it to become zero.
    pub waiting_for_zero: u32,
    /// Who changed it last; 0 if nobody or a process outside our PID namespace.
    pub last_pid: u32,
}

/// Who waits for semaphore `index` of set `id`, and who changed it last.
///
/// # Errors
/// `ACCESS`: the set may not be read. `INVAL` or `IDRM`: there is none.
pub fn sem_use(id: i32, index: u32) -> rustix::io::Result<SemUse> {
    let index = i32::try_from(index).map_err(|_| Errno::INVAL)?;
    let count = |command| {
        let number = sem_call(id, index, command, &mut MaybeUninit::zeroed())?;
        Ok(u32::try_from(number).unwrap_or(0))
    };
    Ok(SemUse {
        waiting_to_rise: count(SEM_GETNCNT)?,
        waiting_for_zero: count(SEM_GETZCNT)?,
        last_pid: count(SEM_GETPID)?,
    })
}

/// Removes semaphore set `id`; whoever waits on it gets an error.
///
/// # Errors
/// `PERM`: neither owner nor privileged. `INVAL` or `IDRM`: there is none.
pub fn sem_remove(id: i32) -> rustix::io::Result<()> {
    sem_call(id, 0, libc::IPC_RMID, &mut MaybeUninit::zeroed()).map(|_| ())
}

/// Makes a set of `count` semaphores: a private one, or of that key if there is none yet.
///
/// # Errors
/// What `semget` said.
pub fn sem_create(key: i32, count: u32, mode: u16) -> rustix::io::Result<i32> {
    let count = i32::try_from(count).map_err(|_| Errno::INVAL)?;
    // SAFETY: duty: none, the call takes no pointers. A pointer argument would break that.
    answer(unsafe { libc::semget(key, count, i32::from(mode) | libc::IPC_CREAT | libc::IPC_EXCL) })
}

fn msg_call(id: i32, command: i32, buffer: &mut MaybeUninit<libc::msqid_ds>) -> rustix::io::Result<i32> {
    // SAFETY: duty: the buffer must be a writable msqid_ds for *_STAT*; IPC_RMID ignores it. No other command is passed.
    // MSG_INFO, that writes another type, would break it.
    answer(unsafe { libc::msgctl(id, command, buffer.as_mut_ptr()) })
}

/// The state of message queue `id`.
///
/// # Errors
/// `INVAL` or `IDRM`: there is none. `ACCESS`: an old kernel, and it may not be read.
pub fn msg(id: i32) -> rustix::io::Result<Msg> {
    let mut buffer = MaybeUninit::<libc::msqid_ds>::zeroed();
    let mut other = MaybeUninit::<libc::msqid_ds>::zeroed();
    let by_index = state(id, |index| msg_call(index, MSG_STAT_ANY, &mut buffer), || Err(Errno::NOSYS));
    let filled = match by_index {
        Ok(()) => buffer,
        Err(_) => {
            msg_call(id, libc::IPC_STAT, &mut other)?;
            other
        }
    };
    // SAFETY: duty: the value must be initialised. It began as zeroes, valid for plain integers. A reference in it would
    // break it.
    let state = unsafe { filled.assume_init() };
    Ok(Msg {
        permission: Permission::of(&state.msg_perm),
        messages: state.msg_qnum as u64,
        last_sender: u32::try_from(state.msg_lspid).unwrap_or(0),
        last_receiver: u32::try_from(state.msg_lrpid).unwrap_or(0),
    })
}

/// Removes message queue `id` with what is in it; whoever waits on it gets an error.
///
/// # Errors
/// `PERM`: neither owner nor privileged. `INVAL` or `IDRM`: there is none.
pub fn msg_remove(id: i32) -> rustix::io::Result<()> {
    msg_call(id, libc::IPC_RMID, &mut MaybeUninit::zeroed()).map(|_| ())
}

/// Makes a queue: a private one, or of that key if there is none yet.
///
/// # Errors
/// What `msgget` said.
pub fn msg_create(key: i32, mode: u16) -> rustix::io::Result<i32> {
    // SAFETY: duty: none, the call takes no pointers. A pointer argument would break that.
    answer(unsafe { libc::msgget(key, i32::from(mode) | libc::IPC_CREAT | libc::IPC_EXCL) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_counted_locked_and_removed() {
        let id = shm_create(0, 4096, 0o600).unwrap();
        let fresh = shm(id).unwrap();
        assert_eq!((fresh.size, fresh.attached, fresh.creator_pid), (4096, 0, std::process::id()));
        let attachment = shm_attach(id).unwrap();
        assert_eq!(shm(id).unwrap().attached, 1);
        shm_set_mode(id, 0).unwrap();
        assert_eq!(shm(id).unwrap().permission.mode & 0o777, 0);
        drop(attachment);
        assert_eq!(shm(id).unwrap().attached, 0);
        shm_remove(id).unwrap();
        assert!(matches!(shm(id), Err(Errno::INVAL | Errno::IDRM)));
        assert_eq!(shm(-1), Err(Errno::INVAL));
    }

    #[test]
    fn sets_and_queues_are_seen_and_removed() {
        let id = sem_create(0, 3, 0o600).unwrap();
        assert_eq!(sem(id).unwrap().count, 3);
        assert_eq!(sem_use(id, 2), Ok(SemUse { waiting_to_rise: 0, waiting_for_zero: 0, last_pid: 0 }));
        assert!(sem_use(id, 3).is_err());
        sem_remove(id).unwrap();
        assert!(sem(id).is_err());
        let id = msg_create(0, 0o600).unwrap();
        assert_eq!(msg(id).unwrap().messages, 0);
        msg_remove(id).unwrap();
        assert!(msg(id).is_err());
    }
}
