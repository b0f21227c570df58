//! `/proc/PID/environ`: the environment a program was started with, `NAME=VALUE` and a NUL each.

/// The longest environment that is searched, in bytes. The kernel allows more only beside a raised stack limit.
pub const LONGEST: usize = 4 << 20;

/// The value of the first variable `name`.
#[must_use]
pub fn value<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_name_counts() {
        let text = b"AKOBJ=1\0KOBJX=2\0KOBJ\0\xff=\xfe\0KOBJ=a=b\0KOBJ=c";
        assert_eq!(value(text, b"KOBJ"), Some(&b"a=b"[..]));
        assert_eq!(value(text, b"NONE"), None);
        assert_eq!(value(b"", b"KOBJ"), None);
    }
}
