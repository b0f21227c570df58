//! Rust sources as flat tokens with line numbers: comments and the insides of strings are not tokens.

use super::Finding;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::ops::Range;

/// A token, as far as the rules care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or keyword.
    Ident(String),
    /// One character of punctuation.
    Punct(char),
    /// `(`, `[` or `{`.
    Open(char),
    /// `)`, `]` or `}`.
    Close(char),
    /// A string, character or number.
    Literal,
}

/// A token and its line, from 1.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

/// A source file that was read into tokens.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// Whether the whole file is tests: so named, or only a test build takes it in.
    pub(crate) is_test_file: bool,
}

impl Source {
    /// Reads a file; an error is a finding that says where it is no Rust.
    pub(crate) fn read(path: &str, text: &str) -> Result<Self, Finding> {
        let stream: TokenStream = text
            .parse()
            .map_err(|e: proc_macro2::LexError| Finding::new("rust", path, e.span().start().line, e.to_string()))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let is_test_file = path.split('/').any(|part| part == "tests" || part == "tests.rs");
        Ok(Self { path: path.into(), text: text.into(), tokens, is_test_file })
    }

    /// Whether the tokens from `at` on are these: a name as it is, a punctuation or bracket as one character.
    pub(crate) fn is_at(&self, at: usize, pattern: &[&str]) -> bool {
        pattern.iter().enumerate().all(|(offset, wanted)| {
            self.tokens.get(at + offset).is_some_and(|token| match &token.kind {
                Kind::Ident(name) => name == wanted,
                Kind::Punct(c) | Kind::Open(c) | Kind::Close(c) => wanted.len() == 1 && wanted.starts_with(*c),
                Kind::Literal => false,
            })
        })
    }

    /// Every place where the pattern stands.
    pub(crate) fn places<'a>(&'a self, pattern: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
        (0..self.tokens.len()).filter(move |at| self.is_at(*at, pattern))
    }

    /// The name at a place, if a name stands there.
    pub(crate) fn ident(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    /// The place of the bracket that closes the one at `open`.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.kind {
                Kind::Open(_) => depth += 1,
                Kind::Close(_) if depth <= 1 => return at,
                Kind::Close(_) => depth -= 1,
                _ => {}
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// Lines of `#[cfg(test)] mod ... { }` blocks.
    pub(crate) fn test_lines(&self) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for at in self.places(&["#", "[", "cfg", "("]) {
            let end = self.closing(at + 1);
            let for_tests = (at..end).any(|place| self.ident(place) == Some("test"));
            if for_tests && self.is_at(end + 1, &["mod"]) && self.is_at(end + 3, &["{"]) {
                found.push(self.tokens[at].line..self.tokens[self.closing(end + 3)].line + 1);
            }
        }
        found
    }

    /// The files that this one takes in by `#[cfg(test)] mod name;`.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = file.trim_end_matches(".rs");
        let folder = if ["lib", "main", "mod"].contains(&stem) { folder.into() } else { format!("{folder}/{stem}") };
        let mut found = Vec::new();
        for at in self.places(&["#", "[", "cfg", "("]) {
            let end = self.closing(at + 1);
            if !(at..end).any(|place| self.ident(place) == Some("test")) {
                continue;
            }
            let module = (end + 1..end + 6).find(|place| self.is_at(*place, &["mod"])).map(|place| place + 1);
            if let Some(name) = module.filter(|name| self.is_at(name + 1, &[";"])).and_then(|name| self.ident(name)) {
                found.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
            }
        }
        found
    }
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(name) => {
                let name = name.to_string();
                into.push(Token { kind: Kind::Ident(name.trim_start_matches("r#").into()), line });
            }
            TokenTree::Punct(punct) => into.push(Token { kind: Kind::Punct(punct.as_char()), line }),
            TokenTree::Literal(_) => into.push(Token { kind: Kind::Literal, line }),
            TokenTree::Group(group) => {
                let brackets = match group.delimiter() {
                    Delimiter::Parenthesis => Some(('(', ')')),
                    Delimiter::Bracket => Some(('[', ']')),
                    Delimiter::Brace => Some(('{', '}')),
                    Delimiter::None => None,
                };
                if let Some((open, _)) = brackets {
                    into.push(Token { kind: Kind::Open(open), line });
                }
                flatten(group.stream(), into);
                if let Some((_, close)) = brackets {
                    into.push(Token { kind: Kind::Close(close), line: group.span_close().start().line });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_are_found_beside_roots_and_below_modules() {
        let text = "#[cfg(all(test, loom))]\npub(crate) mod testing;\n#[cfg(test)]\nmod tests { }\nmod other;\n";
        let of = |path: &str| Source::read(path, text).unwrap().test_modules();
        assert_eq!(of("crates/host/src/lib.rs")[0], "crates/host/src/testing.rs");
        assert_eq!(
            of("crates/host/src/kind.rs"),
            ["crates/host/src/kind/testing.rs", "crates/host/src/kind/testing/mod.rs"]
        );
    }
}
