//! `/proc/PID/status`.

use super::{decimal, hexadecimal, lines, words};

/// What is used of `/proc/PID/status`. A field that is missing (an older kernel) is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Thread group, that is process, id.
    pub process: Option<u32>,
    /// Parent's process id.
    pub parent: Option<u32>,
    /// Effective user id.
    pub uid: Option<u32>,
    /// Real user id.
    pub real_uid: Option<u32>,
    /// Real, effective, saved and file system's user id.
    pub users: [Option<u32>; 4],
    /// Capabilities it has or may take, one bit each.
    pub capabilities: Option<u64>,
    /// Number of threads.
    pub threads: Option<u32>,
    /// Its id in each PID namespace, ours first.
    pub namespace_pids: Vec<u32>,
    /// Signals pending for the whole process, one bit each (bit 0 = signal 1).
    pub shared_pending: Option<u64>,
    /// Signals ignored.
    pub ignored: Option<u64>,
    /// Signals caught.
    pub caught: Option<u64>,
    /// Resident memory in bytes; `None` for the kernel's own threads.
    pub resident: Option<u64>,
}

/// Reads the fields. Unknown lines are skipped; the kernel escapes newlines in the command name.
#[must_use]
pub fn parse(text: &[u8]) -> Status {
    let mut status = Status::default();
    for line in lines(text) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (key, value) = (&line[..colon], &line[colon + 1..]);
        let number = |index: usize| words(value).nth(index).and_then(decimal);
        let small = |index: usize| number(index).and_then(|n| u32::try_from(n).ok());
        let mask = || words(value).next().and_then(hexadecimal);
        match key {
            b"Tgid" => status.process = small(0),
            b"PPid" => status.parent = small(0),
            b"Uid" => {
                status.users = std::array::from_fn(small);
                [status.real_uid, status.uid, ..] = status.users;
            }
            b"CapPrm" => status.capabilities = mask(),
            b"Threads" => status.threads = small(0),
            b"NSpid" => {
                status.namespace_pids =
                    words(value).map_while(decimal).filter_map(|n| u32::try_from(n).ok()).take(33).collect();
            }
            b"ShdPnd" => status.shared_pending = mask(),
            b"SigIgn" => status.ignored = mask(),
            b"SigCgt" => status.caught = mask(),
            b"VmRSS" => status.resident = number(0).and_then(|kib| kib.checked_mul(1024)),
            _ => {}
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_nonsense_is_none() {
        let text = b"Name:\tPPid: 9\\nUid:\nTgid:\t7\nPPid:\t1\nUid:\t1000\t1001\t1000\t1000\nNSpid:\t7\t1\n\
                     ShdPnd:\t0000000000004000\nSigIgn:\tzz\nCapPrm:\t0000000000000002\nVmRSS:\t12 kB\nThreads:\nnoise\n\xff:\n";
        let status = parse(text);
        assert_eq!(
            (status.process, status.parent, status.uid, status.real_uid),
            (Some(7), Some(1), Some(1001), Some(1000))
        );
        assert_eq!(status.users, [Some(1000), Some(1001), Some(1000), Some(1000)]);
        assert_eq!(status.capabilities, Some(2));
        assert_eq!(status.namespace_pids, [7, 1]);
        assert_eq!((status.shared_pending, status.ignored, status.threads), (Some(0x4000), None, None));
        assert_eq!(status.resident, Some(12 << 10));
        assert_eq!(parse(b""), Status::default());
    }
}
