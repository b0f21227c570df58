//! `/proc/PID/environ`: the environment a program was started with, `NAME=VALUE` and a NUL each.

/// The longest environment that is searched, in bytes. The kernel allows more only beside a raised stack limit.
pub const LONGEST: usize = 4 << 20;

/// The entries, which may be anything at all: a program may have overwritten its own.
pub fn entries(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == 0).filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_at_a_nul_or_at_the_end() {
        let text = b"A=1\0\0B\n=\xff=2\0KOBJ";
        assert_eq!(entries(text).collect::<Vec<_>>(), [&b"A=1"[..], b"B\n=\xff=2", b"KOBJ"]);
        assert_eq!(entries(b"").count(), 0);
    }
}
