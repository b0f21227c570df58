//! restic's patterns of what to leave out.
//!
//! A pattern's parts match a run of a path's parts, wherever it begins and ends; one that begins with a slash begins at
//! the root. `*`, `?` and `[a-z]` match within a part, `**` any number of parts. `!` before a pattern takes back what earlier
//! ones left out; what lies in a folder that is left out is never looked at.

use crate::error::{Error, Result};

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Any number of parts.
    Any,
    /// This very text.
    Text(Vec<u8>),
    /// With wild cards.
    Wild(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Pattern {
    parts: Vec<Part>,
    from_root: bool,
    takes_back: bool,
    ignores_case: bool,
}

/// A list of patterns, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Adds a pattern.
    ///
    /// # Errors
    /// It is malformed: a bracket that does not end, a backslash before nothing.
    pub fn add(&mut self, text: &[u8], ignores_case: bool) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let (takes_back, pattern) = text.strip_prefix(b"!").map_or((false, text), |rest| (true, rest));
        let pattern = if ignores_case { lower(pattern) } else { pattern.to_vec() };
        let from_root = pattern.starts_with(b"/");
        let mut parts = Vec::new();
        for part in clean(&pattern) {
            parts.push(match part {
                b"**" => Part::Any,
                part if part.iter().any(|byte| b"\\[]*?".contains(byte)) => {
                    if matches(part, b"").is_none() {
                        let why = "a [ that no ] ends, an empty range, or a \\ before nothing; write \\[ for a bracket";
                        return Err(Error::refused(format!("pattern {:?}", String::from_utf8_lossy(text)), why));
                    }
                    Part::Wild(part.to_vec())
                }
                part => Part::Text(part.to_vec()),
            });
        }
        self.0.push(Pattern { parts, from_root, takes_back, ignores_case });
        Ok(())
    }

    /// Adds the patterns of a file's lines; blanks around them, empty lines and those that begin with # do not count.
    ///
    /// # Errors
    /// One is malformed.
    pub fn add_lines(&mut self, text: &[u8], ignores_case: bool) -> Result<()> {
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.starts_with(b"#")).try_for_each(|line| self.add(line, ignores_case))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an absolute path is left out.
    #[must_use]
    pub fn leaves_out(&self, path: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
        // Those that ignore case are a list of their own: what one takes back the other may leave out.
        self.list_leaves_out(&parts, false)
            || (self.0.iter().any(|pattern| pattern.ignores_case)
                && self.list_leaves_out(&parts.iter().map(|part| lower(part)).collect::<Vec<_>>(), true))
    }

    fn list_leaves_out<P: AsRef<[u8]>>(&self, path: &[P], ignoring_case: bool) -> bool {
        let list = self.0.iter().filter(|pattern| pattern.ignores_case == ignoring_case);
        list.fold(false, |left_out, pattern| left_out != (left_out == pattern.takes_back && pattern.matches(path)))
    }
}

impl Pattern {
    fn matches<P: AsRef<[u8]>>(&self, path: &[P]) -> bool {
        let stars = self.parts.iter().filter(|part| **part == Part::Any).count();
        self.run_matches(path) && (!(2..=4).contains(&stars) || self.stars_fit(path, &mut Vec::new(), stars))
    }

    /// Of several `**` restic lets each become so many parts only that the pattern, with one part for each `**` behind, is no
    /// longer than the path. So `/a/**/x/**` does not leave out the folder `/a/b/x` itself, but all in it.
    fn stars_fit<P: AsRef<[u8]>>(&self, path: &[P], counts: &mut Vec<usize>, stars: usize) -> bool {
        if counts.len() == stars {
            return self.expanded_matches(path, counts);
        }
        let others = self.parts.len() - stars + usize::from(self.from_root);
        let taken = others + counts.iter().sum::<usize>() + (stars - counts.len() - 1);
        let most = (path.len() + 1).checked_sub(taken);
        most.is_some_and(|most| {
            (0..=most).any(|count| {
                counts.push(count);
                let fits = self.stars_fit(path, counts, stars);
                counts.pop();
                fits
            })
        })
    }

    /// Whether a run matches with each `**` in its place so many parts.
    fn expanded_matches<P: AsRef<[u8]>>(&self, path: &[P], counts: &[usize]) -> bool {
        let offsets = if self.from_root { 0 } else { path.len() };
        (0..=offsets).any(|offset| {
            let (mut at, mut counts) = (offset, counts.iter());
            self.parts.iter().all(|part| {
                let here = path.get(at).map(AsRef::as_ref);
                at += if *part == Part::Any { counts.next().copied().unwrap_or(0) } else { 1 };
                match part {
                    Part::Any => at <= path.len(),
                    Part::Text(text) => here == Some(text),
                    Part::Wild(wild) => here.is_some_and(|here| matches(wild, here) == Some(true)),
                }
            })
        })
    }

    /// Whether a run of the path's parts matches. `reached[n]`: a run that ends here has matched the first n parts.
    fn run_matches<P: AsRef<[u8]>>(&self, path: &[P]) -> bool {
        let length = self.parts.len();
        let mut reached = vec![false; length + 1];
        reached[0] = true;
        self.pass_over(&mut reached);
        // A pattern of nothing but the root, or of `**`, matches every path, if there is a part to match.
        let mut matched = reached[length] && (self.from_root || !path.is_empty());
        for part in path {
            let mut next = vec![false; length + 1];
            for (at, own) in self.parts.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match own {
                    Part::Any => next[at] = true,
                    Part::Text(text) => next[at + 1] |= text == part.as_ref(),
                    Part::Wild(wild) => next[at + 1] |= matches(wild, part.as_ref()) == Some(true),
                }
            }
            next[0] |= !self.from_root;
            self.pass_over(&mut next);
            matched |= length > 0 && next[length];
            reached = next;
        }
        matched
    }

    /// `**` matches no part as well.
    fn pass_over(&self, reached: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            if *part == Part::Any && reached[at] {
                reached[at + 1] = true;
            }
        }
    }
}

/// The parts of a path without empty ones and ".", with ".." taking back the part before.
fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if path.starts_with(b"/") => {}
            part => parts.push(part),
        }
    }
    parts
}

fn lower(text: &[u8]) -> Vec<u8> {
    let mut lowered = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            // One character for one: a name's length in characters stays.
            let mut all = character.to_lowercase();
            let one = all.next().filter(|_| all.next().is_none()).unwrap_or(character);
            lowered.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes());
        }
        lowered.extend_from_slice(chunk.invalid());
    }
    lowered
}

/// The first character and the rest; a byte that is no UTF-8 counts as U+FFFD.
fn split_first(text: &[u8]) -> Option<(char, &[u8])> {
    let first = *text.first()?;
    if first < 0x80 {
        return Some((char::from(first), &text[1..]));
    }
    let chunk = text[..text.len().min(4)].utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(character) => Some((character, &text[character.len_utf8()..])),
        None => Some((char::REPLACEMENT_CHARACTER, &text[1..])),
    }
}

/// Whether a name matches a part with wild cards, by the rules of Go's `filepath.Match`; none if the part is malformed.
fn matches(pattern: &[u8], name: &[u8]) -> Option<bool> {
    // Where to go on when what follows the last star does not match here: its end in the pattern, the place in the name.
    let mut back: Option<(&[u8], &[u8])> = None;
    let (mut rest, mut text) = (pattern, name);
    let mut matched = true;
    well_formed(pattern)?;
    loop {
        if let Some(after) = rest.strip_prefix(b"*") {
            back = Some((after, text));
            rest = after;
            continue;
        }
        let step = if rest.is_empty() {
            if text.is_empty() {
                break;
            }
            None
        } else {
            split_first(text).and_then(|(character, behind)| {
                let (fits, after) = one(rest, character)?;
                fits.then_some((after, behind))
            })
        };
        match (step, back) {
            (Some((after, behind)), _) => (rest, text) = (after, behind),
            (None, Some((after, from))) => {
                let Some((_, behind)) = split_first(from) else {
                    matched = false;
                    break;
                };
                back = Some((after, behind));
                (rest, text) = (after, behind);
            }
            (None, None) => {
                matched = false;
                break;
            }
        }
    }
    Some(matched)
}

fn well_formed(pattern: &[u8]) -> Option<()> {
    let mut rest = pattern;
    while !rest.is_empty() {
        rest = match rest.strip_prefix(b"*") {
            Some(after) => after,
            None => one(rest, 'x')?.1,
        };
    }
    Some(())
}

/// Whether a character fits the first thing of a pattern, which is no star, and what follows it. None if it is malformed.
fn one(pattern: &[u8], character: char) -> Option<(bool, &[u8])> {
    match pattern.first()? {
        b'?' => Some((true, &pattern[1..])),
        b'[' => {
            let (negated, mut rest) =
                pattern[1..].strip_prefix(b"^").map_or((false, &pattern[1..]), |rest| (true, rest));
            let mut fits = false;
            let mut ranges = 0;
            loop {
                if let (Some(after), true) = (rest.strip_prefix(b"]"), ranges > 0) {
                    return Some((fits != negated, after));
                }
                let (low, after) = bound(rest)?;
                let (high, after) = match after.strip_prefix(b"-") {
                    Some(after) => bound(after)?,
                    None => (low, after),
                };
                fits |= (low..=high).contains(&character);
                ranges += 1;
                rest = after;
            }
        }
        b'\\' => split_first(&pattern[1..]).map(|(own, rest)| (own == character, rest)),
        _ => split_first(pattern).map(|(own, rest)| (own == character, rest)),
    }
}

/// An end of a range.
fn bound(pattern: &[u8]) -> Option<(char, &[u8])> {
    match pattern.first()? {
        b'-' | b']' => None,
        b'\\' => split_first(&pattern[1..]),
        _ => split_first(pattern),
    }
    .filter(|(_, rest)| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns (several divided by a newline, `i:` before those that ignore case) and which of the corpus' paths restic left
    /// out.
    #[test]
    fn restics_answers() {
        let table: Vec<(String, String)> = serde_json::from_str(include_str!("../../testdata/exclude.json")).unwrap();
        let (paths, answers) = table.split_first().unwrap();
        let paths: Vec<&str> = paths.1.lines().collect();
        assert!(answers.len() > 40);
        for (patterns, kept) in answers {
            let mut own = Patterns::default();
            for line in patterns.lines() {
                let (text, ignores_case) = line.strip_prefix("i:").map_or((line, false), |text| (text, true));
                own.add(text.as_bytes(), ignores_case).unwrap();
            }
            let mut found = Vec::new();
            for path in &paths {
                let ancestors = path.match_indices('/').map(|(at, _)| &path[..at]).filter(|path| !path.is_empty());
                if ancestors.chain([*path]).all(|path| !own.leaves_out(path.as_bytes())) {
                    found.push(*path);
                }
            }
            assert_eq!(found, kept.lines().collect::<Vec<_>>(), "{patterns:?}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for bad in ["[", "a[", "[]", "[]a]", "[a-]", "[-a]", "\\", "x/[^", "[a", "a\\"] {
            assert!(Patterns::default().add(bad.as_bytes(), false).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_match_as_gos_do() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("?", "é", true),
            ("?", "ab", false),
            ("[^a]", "b", true),
            ("[^a]", "a", false),
            ("[a-c]x", "bx", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[\\]]", "]", true),
            ("*.o", ".o", true),
            ("a**b", "ab", true),
            ("[!a]", "!", true),
            ("]", "]", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), Some(expected), "{pattern} {name}");
        }
        assert_eq!(matches(b"?", b"\xff"), Some(true));
        assert_eq!(matches(b"*a*a*a*a*a*a*a*b", &[b'a'; 2000]), Some(false), "and in little time");
    }

    #[test]
    fn lines_of_a_file_may_be_comments() {
        let mut own = Patterns::default();
        own.add_lines(b"# a\n\n  *.o \r\n!keep.o\n", false).unwrap();
        assert!(own.leaves_out(b"/x/a.o") && !own.leaves_out(b"/x/keep.o") && !own.leaves_out(b"/x/a"));
    }
}
