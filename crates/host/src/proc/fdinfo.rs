//! `/proc/PID/fdinfo/N`.

use super::{decimal, lines, octal, words};

/// What is used of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// The open flags.
    pub flags: Option<u32>,
    /// The mount's id, as in mountinfo.
    pub mount: Option<u64>,
    /// For the master side of a terminal: the number of the other side in `/dev/pts`.
    pub terminal: Option<u32>,
}

/// Reads the fields. Unknown lines are skipped.
#[must_use]
pub fn parse(text: &[u8]) -> FdInfo {
    let mut info = FdInfo::default();
    for line in lines(text) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let Some(value) = words(&line[colon + 1..]).next() else { continue };
        match &line[..colon] {
            b"flags" => info.flags = octal(value),
            b"mnt_id" => info.mount = decimal(value),
            b"tty-index" => info.terminal = decimal(value).and_then(|n| u32::try_from(n).ok()),
            _ => {}
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_read() {
        let info = parse(b"pos:\t0\nflags:\t0100002\nmnt_id:\t24\nino:\t3\ntty-index:\t7\nnoise\nflags\n");
        assert_eq!(info, FdInfo { flags: Some(0o100_002), mount: Some(24), terminal: Some(7) });
        assert_eq!(parse(b"flags:\nmnt_id:\tx\n"), FdInfo::default());
    }
}
