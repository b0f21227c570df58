//! The ids of mounts that are never given again: listed and asked for without printing and parsing a table (Linux 6.8).

use rustix::io::Errno;

const LISTMOUNT: libc::c_long = 458;
const STATMOUNT: libc::c_long = 457;
/// The root of our mount namespace, as we see it.
const ROOT: u64 = u64::MAX;
/// `STATMOUNT_MNT_BASIC`.
const BASIC: u64 = 0x2;
/// How many ids are asked for at once, and at most.
const AT_ONCE: usize = 256;
const MOST: usize = 1 << 20;

/// `struct mnt_id_req`, first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    parameter: u64,
}

/// The fixed part of `struct statmount`, with room for what later kernels add.
#[repr(C, align(8))]
struct Answer {
    words: [u32; 128],
}

/// Where `mnt_id_old` stands in it, in 32-bit words.
const OLD_ID: usize = 14;

fn answer(result: libc::c_long) -> rustix::io::Result<usize> {
    usize::try_from(result)
        .map_err(|_| Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
}

/// The lasting ids of all mounts of our namespace that we can reach, but the root's own.
///
/// # Errors
/// `NOSYS`: a kernel before 6.8, or a sandbox that does not know the call. `PERM`: a sandbox. `TOOBIG`: more than a million.
pub fn all() -> rustix::io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    loop {
        let mut some = [0_u64; AT_ONCE];
        let last = ids.last().copied().unwrap_or(0);
        let request = Request { size: size_of::<Request>() as u32, spare: 0, mount: ROOT, parameter: last };
        // SAFETY: duty: a request of the size it names, and room for as many ids as the third argument says; both live in
        // this frame. A count above `some`'s length would break it.
        let result = unsafe { libc::syscall(LISTMOUNT, &raw const request, some.as_mut_ptr(), some.len(), 0_usize) };
        let count = answer(result)?;
        ids.extend_from_slice(some.get(..count).ok_or(Errno::OVERFLOW)?);
        if count < some.len() {
            return Ok(ids);
        }
        if ids.len() >= MOST {
            return Err(Errno::TOOBIG);
        }
    }
}

/// The id by which mountinfo knows the mount of that lasting id.
///
/// # Errors
/// `NOENT`: it is gone.
pub fn in_mountinfo(id: u64) -> rustix::io::Result<u64> {
    let request = Request { size: size_of::<Request>() as u32, spare: 0, mount: id, parameter: BASIC };
    let mut out = Answer { words: [0; 128] };
    // SAFETY: duty: a request of the size it names, and room for as many bytes as the third argument says, aligned for
    // 64-bit words. A wrong size would break it.
    let result = unsafe { libc::syscall(STATMOUNT, &raw const request, &raw mut out, size_of::<Answer>(), 0_usize) };
    answer(result)?;
    Ok(u64::from(out.words[OLD_ID]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_of_mountinfo_has_a_lasting_id() {
        let ids = match all() {
            Ok(ids) => ids,
            Err(error) => return println!("skipped: mount ids: {error}"),
        };
        let mut lasting: Vec<u64> = ids.iter().map(|id| in_mountinfo(*id).expect("it is there")).collect();
        lasting.sort_unstable();
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
        let numbers = |line: &str| line.split(' ').take(2).map(|word| word.parse::<u64>().expect("a number")).collect();
        let rows: Vec<Vec<u64>> = table.lines().map(numbers).collect();
        // The root's own is not listed: the one whose parent is not in the table.
        let known: Vec<u64> = rows.iter().map(|row| row[0]).collect();
        let mut others: Vec<u64> = rows.iter().filter(|row| known.contains(&row[1])).map(|row| row[0]).collect();
        others.sort_unstable();
        // Others may mount and unmount meanwhile.
        let missing = others.iter().filter(|id| lasting.binary_search(id).is_err()).count();
        assert!(missing * 10 <= others.len(), "{others:?} in mountinfo, {lasting:?} listed");
        assert!(!lasting.is_empty() || others.is_empty());
    }

    #[test]
    fn an_id_of_no_mount_is_refused() {
        if all().is_ok() {
            assert_eq!(in_mountinfo(u64::MAX - 1), Err(Errno::NOENT));
        }
    }
}
