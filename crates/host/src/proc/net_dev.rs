//! `/proc/net/dev`: the network interfaces of our network namespace.

use super::lines;

/// The names of the interfaces. A name may hold any byte but NUL, `/`, `:` and white space.
pub fn names(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(text).skip(2).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii();
        (!name.is_empty() && name.len() < 16).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_skipped() {
        let text = b"Inter-|   Receive\n face |bytes\n    lo:  1 2\neth0: 3\n : 4\nbroken\n";
        assert_eq!(names(text).collect::<Vec<_>>(), [&b"lo"[..], b"eth0"]);
    }
}
