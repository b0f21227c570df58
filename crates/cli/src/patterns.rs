//! PATTERN of `--keep` and `--ignore`: a glob on NAME, or KIND:NAME. Bytes, never text: names need not be UTF-8.

use kobj_abi::HostKind;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// One parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    kind: Option<HostKind>,
    name: Vec<u8>,
}

impl Pattern {
    /// Reads `NAME` or `KIND:NAME`; KIND counts only where it is a kind's name, so that names may hold colons.
    pub(crate) fn parse(text: OsString) -> Result<Self, String> {
        let bytes = text.into_vec();
        if bytes.is_empty() {
            return Err("an empty pattern matches nothing; write a glob on the name, as /dev/shm/psm_*".into());
        }
        let colon = bytes.iter().position(|b| *b == b':');
        let word = colon.and_then(|at| std::str::from_utf8(&bytes[..at]).ok());
        let kind = word.and_then(HostKind::from_name);
        if let (None, Some(word), Some(at)) = (kind, word, colon)
            && is_like_a_kind(word)
            && matches!(bytes.get(at + 1), Some(b'/' | b'@'))
        {
            // A mistyped kind would protect nothing, and say nothing.
            let rest = String::from_utf8_lossy(&bytes[at + 1..]);
            return Err(format!(
                "'{word}' is no kind of object (as segment, posix-semaphore, temporary-file); for a name with a colon \
                 write '{word}[:]{rest}'"
            ));
        }
        let name = match (kind, colon) {
            (Some(_), Some(at)) => bytes[at + 1..].to_vec(),
            _ => bytes,
        };
        Ok(Self { kind, name })
    }

    /// As it may be typed again.
    pub(crate) fn text(&self) -> Vec<u8> {
        match self.kind {
            Some(kind) => [kind.name().as_bytes(), b":", &self.name].concat(),
            None => self.name.clone(),
        }
    }

    /// Whether an object of that kind and name is meant.
    pub(crate) fn matches(&self, kind: HostKind, name: &[u8]) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind) && glob(&self.name, name)
    }
}

/// Whether a word is spelled as kinds are.
fn is_like_a_kind(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Whether any of the patterns means an object of that kind and name.
pub(crate) fn any_matches(patterns: &[Pattern], kind: HostKind, name: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(kind, name))
}

/// `*` any bytes (slashes too), `?` one byte, `[a-z]` and `[!a-z]` one byte of a set, `\` takes the next byte as it is.
///
/// Time is at most pattern times name: only the last star is ever tried again.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        if let Some(next) = one(pattern, p, name[n]) {
            p = next;
            n += 1;
            continue;
        }
        let Some((after_star, from)) = retry else { return false };
        retry = Some((after_star, from + 1));
        p = after_star;
        n = from + 1;
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Matches one byte at pattern position `at`; the position behind what matched.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        b'[' => match set(pattern, at + 1, byte) {
            Some((hit, next)) => hit.then_some(next),
            None => (byte == b'[').then_some(at + 1),
        },
        literal => (literal == byte).then_some(at + 1),
    }
}

/// A set whose content starts at `at`: whether `byte` is in it, and the position behind `]`. `None` if it never closes.
fn set(pattern: &[u8], mut at: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let mut hit = false;
    let mut first = true;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && !first {
            return Some((hit != negated, at + 1));
        }
        first = false;
        let ranged = pattern.get(at + 1) == Some(&b'-') && !matches!(pattern.get(at + 2), None | Some(b']'));
        let high = if ranged { pattern[at + 2] } else { low };
        hit |= (low..=high).contains(&byte);
        at += if ranged { 3 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.into()).unwrap()
    }

    #[test]
    fn globs_match_as_a_shell_does_but_stars_cross_slashes() {
        let cases: [(&str, &str, bool); 16] = [
            ("/dev/shm/psm_*", "/dev/shm/psm_1a", true),
            ("*", "", true),
            ("", "", true),
            ("a*b*c", "a/b/xbc", true),
            ("a*b*c", "acb", false),
            ("?", "é", false),
            ("??", "é", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[a-]", "-", true),
            ("abc", "abcd", false),
        ];
        for (glob_text, name, want) in cases {
            assert_eq!(glob(glob_text.as_bytes(), name.as_bytes()), want, "{glob_text} on {name}");
        }
    }

    #[test]
    fn a_kind_narrows_and_other_colons_are_names() {
        let by_kind = pattern("segment:/dev/shm/*");
        assert!(by_kind.matches(HostKind::Segment, b"/dev/shm/x"));
        assert!(!by_kind.matches(HostKind::PosixSemaphore, b"/dev/shm/x"));
        assert!(pattern("nokind:*").matches(HostKind::Segment, b"nokind:x"));
        assert!(pattern("sysv-queue:*").matches(HostKind::SysvQueue, b"7"));
        let mistyped = Pattern::parse("segmnt:/dev/shm/k_*".into()).expect_err("no such kind");
        assert!(mistyped.contains("'segmnt' is no kind") && mistyped.contains("'segmnt[:]/dev/shm/k_*'"), "{mistyped}");
        assert!(pattern("segmnt[:]/dev/shm/k_*").matches(HostKind::Segment, b"segmnt:/dev/shm/k_1"));
    }

    #[test]
    fn names_that_are_not_utf8_match() {
        assert!(pattern("/tmp/*z").matches(HostKind::Fifo, b"/tmp/\xff\n\x1bz"));
        let raw = Pattern::parse(OsString::from_vec(b"/tmp/\xff".to_vec())).unwrap();
        assert!(raw.matches(HostKind::Fifo, b"/tmp/\xff"));
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let stars = "*a".repeat(2_000) + "b";
        assert!(!glob(stars.as_bytes(), "a".repeat(20_000).as_bytes()));
    }

    #[test]
    fn an_empty_pattern_is_refused() {
        assert!(Pattern::parse(OsString::new()).is_err());
    }
}
