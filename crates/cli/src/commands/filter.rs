//! `-Q 'COLUMN OP VALUE [and|or ...]'`, as lsfd has it: choose rows by their columns.
//!
//! `and` binds closer than `or`; `not` and brackets work; `&&`, `||` and `!` mean the same. Operators: `== != < <= > >=`
//! (also `eq ne lt le gt ge`) and `=~ !~` (regular expression). Words in quotes keep their blanks. Sizes are written as
//! `64M`, ages as `2h`.

use super::listing::Cell;
use crate::durations::parse_duration;
use regex_lite::Regex;

/// How deep brackets and `not` may nest.
const DEPTH_MAX: usize = 64;

/// A parsed filter.
#[derive(Debug)]
pub(crate) struct Filter(Node);

#[derive(Debug)]
enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Compare(usize, Comparison),
}

#[derive(Debug)]
enum Comparison {
    Order(Operator, String, Option<f64>),
    Match(Regex, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Open,
    Close,
    And,
    Or,
    Not,
    Operator(String),
    Bare(String),
    Quoted(String),
}

impl Filter {
    /// Reads a filter over those columns; an error names what is wrong and what would be right.
    pub(crate) fn parse(text: &str, columns: &[&str]) -> Result<Self, String> {
        let mut parser = Parser { words: split(text)?, at: 0, columns };
        let node = parser.any(0)?;
        match parser.words.get(parser.at) {
            None => Ok(Self(node)),
            Some(word) => Err(format!("in the filter, {} is one word too many", show(Some(word)))),
        }
    }

    /// Whether the row, its cells in the order of the columns given to [`Self::parse`], is chosen.
    pub(crate) fn chooses(&self, row: &[Cell]) -> bool {
        self.0.chooses(row)
    }
}

impl Node {
    fn chooses(&self, row: &[Cell]) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.chooses(row)),
            Self::All(nodes) => nodes.iter().all(|node| node.chooses(row)),
            Self::Not(node) => !node.chooses(row),
            Self::Compare(column, comparison) => row.get(*column).is_some_and(|cell| comparison.holds(cell)),
        }
    }
}

impl Comparison {
    /// A cell that holds nothing fulfils no comparison but `!=` and `!~`.
    fn holds(&self, cell: &Cell) -> bool {
        match self {
            Self::Match(regex, wanted) => regex.is_match(&cell.plain()) == *wanted,
            Self::Order(operator, text, number) => {
                let age = || parse_duration(text).ok().map(|age| age.as_secs_f64());
                let wanted = if matches!(cell, Cell::Age(_)) { age() } else { *number };
                let order = match (cell.number(), wanted) {
                    (Some(have), Some(want)) => have.partial_cmp(&want),
                    (Some(_), None) => None,
                    (None, _) if cell.is_nothing() => None,
                    (None, _) => Some(cell.plain().as_ref().cmp(text.as_str())),
                };
                match order {
                    None => *operator == Operator::Unequal,
                    Some(order) => match operator {
                        Operator::Equal => order.is_eq(),
                        Operator::Unequal => order.is_ne(),
                        Operator::Less => order.is_lt(),
                        Operator::LessOrEqual => order.is_le(),
                        Operator::More => order.is_gt(),
                        Operator::MoreOrEqual => order.is_ge(),
                    },
                }
            }
        }
    }
}

struct Parser<'a> {
    words: Vec<Word>,
    at: usize,
    columns: &'a [&'a str],
}

impl Parser<'_> {
    fn next_is(&mut self, wanted: &Word) -> bool {
        let is = self.words.get(self.at) == Some(wanted);
        self.at += usize::from(is);
        is
    }

    fn any(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = vec![self.all(depth)?];
        while self.next_is(&Word::Or) {
            nodes.push(self.all(depth)?);
        }
        Ok(Node::Any(nodes))
    }

    fn all(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = vec![self.one(depth)?];
        while self.next_is(&Word::And) {
            nodes.push(self.one(depth)?);
        }
        Ok(Node::All(nodes))
    }

    fn one(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err("the filter nests too deeply".into());
        }
        if self.next_is(&Word::Not) {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.next_is(&Word::Open) {
            let node = self.any(depth + 1)?;
            if !self.next_is(&Word::Close) {
                return Err("in the filter, a bracket is not closed".into());
            }
            return Ok(node);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, String> {
        let column = match self.words.get(self.at) {
            Some(Word::Bare(name)) => {
                self.columns.iter().position(|known| known.eq_ignore_ascii_case(name)).ok_or_else(|| {
                    format!("in the filter, there is no column '{name}'; there are {}", self.columns.join(", "))
                })?
            }
            other => return Err(format!("in the filter, a column is wanted, not {}", show(other))),
        };
        let operator = match self.words.get(self.at + 1) {
            Some(Word::Operator(operator) | Word::Bare(operator)) => operator.clone(),
            other => return Err(format!("in the filter, an operator is wanted, not {}", show(other))),
        };
        let value = match self.words.get(self.at + 2) {
            Some(Word::Bare(value) | Word::Quoted(value)) => value.clone(),
            other => return Err(format!("in the filter, a value is wanted, not {}", show(other))),
        };
        self.at += 3;
        let operator = match operator.as_str() {
            "==" | "=" | "eq" => Operator::Equal,
            "!=" | "ne" => Operator::Unequal,
            "<" | "lt" => Operator::Less,
            "<=" | "le" => Operator::LessOrEqual,
            ">" | "gt" => Operator::More,
            ">=" | "ge" => Operator::MoreOrEqual,
            "=~" | "!~" => {
                let regex = Regex::new(&value)
                    .map_err(|e| format!("in the filter, '{value}' is not a regular expression: {e}"))?;
                return Ok(Node::Compare(column, Comparison::Match(regex, operator == "=~")));
            }
            _ => {
                return Err(format!("in the filter, '{operator}' is no operator; there are == != < <= > >= =~ !~"));
            }
        };
        let number = number(&value);
        Ok(Node::Compare(column, Comparison::Order(operator, value, number)))
    }
}

/// A number, with K, M, G or T (also KiB and so on) for powers of 1024.
fn number(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let power = match &text[end..] {
        "" => 0,
        "K" | "k" | "KiB" => 1,
        "M" | "MiB" => 2,
        "G" | "GiB" => 3,
        "T" | "TiB" => 4,
        _ => return None,
    };
    text[..end].parse::<f64>().ok().map(|value| value * 1_024_f64.powi(power))
}

fn show(word: Option<&Word>) -> String {
    match word {
        None => "the end".into(),
        Some(Word::Open) => "'('".into(),
        Some(Word::Close) => "')'".into(),
        Some(Word::And) => "'and'".into(),
        Some(Word::Or) => "'or'".into(),
        Some(Word::Not) => "'not'".into(),
        Some(Word::Operator(text) | Word::Bare(text) | Word::Quoted(text)) => format!("'{text}'"),
    }
}

fn split(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '(' => (Word::Open, 1),
            ')' => (Word::Close, 1),
            '"' | '\'' => {
                let end = rest[1..].find(first).ok_or("in the filter, a quote is not closed")?;
                (Word::Quoted(rest[1..=end].into()), end + 2)
            }
            '=' | '!' | '<' | '>' | '~' | '&' | '|' => {
                let length = rest.find(|c| !"=!<>~&|".contains(c)).unwrap_or(rest.len());
                match &rest[..length] {
                    "&&" => (Word::And, length),
                    "||" => (Word::Or, length),
                    "!" => (Word::Not, length),
                    operator => (Word::Operator(operator.into()), length),
                }
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || "()\"'=!<>~&|".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                let word = &rest[..length];
                match word.to_ascii_lowercase().as_str() {
                    "and" => (Word::And, length),
                    "or" => (Word::Or, length),
                    "not" => (Word::Not, length),
                    _ => (Word::Bare(word.into()), length),
                }
            }
        };
        words.push(word);
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 3] = ["KIND", "NAME", "SIZE"];

    fn chooses(filter: &str) -> bool {
        let row = [Cell::text("segment"), Cell::text("/dev/shm/a b"), Cell::Size(4096)];
        Filter::parse(filter, &COLUMNS).unwrap().chooses(&row)
    }

    #[test]
    fn rows_are_chosen_by_their_columns() {
        for filter in [
            "KIND == segment",
            "kind eq segment",
            "NAME == '/dev/shm/a b'",
            "NAME =~ '^/dev/shm/'",
            "NAME !~ \"^/tmp\"",
            "SIZE >= 4K and SIZE < 1M",
            "SIZE>=4096&&SIZE<=4096",
            "KIND == x or KIND == segment and SIZE > 1",
            "not (KIND == x or SIZE == 0)",
            "! KIND == x",
            "SIZE != 1",
        ] {
            assert!(chooses(filter), "{filter}");
        }
        for filter in ["KIND != segment", "SIZE > 4096", "SIZE == big", "(KIND == segment or KIND == x) and SIZE == 1"]
        {
            assert!(!chooses(filter), "{filter}");
        }
    }

    #[test]
    fn ages_are_compared_as_durations() {
        let filter = |text| Filter::parse(text, &["AGE"]).unwrap().chooses(&[Cell::Age(7_200)]);
        assert!(filter("AGE > 1h") && filter("AGE == 2h") && filter("AGE < 1d") && filter("AGE >= 7200"));
        assert!(!filter("AGE > 2h") && !filter("AGE < 120m") && !filter("AGE > 1K"));
    }

    #[test]
    fn what_is_unknown_fulfils_nothing() {
        let filter = |text| Filter::parse(text, &["SIZE"]).unwrap().chooses(&[Cell::Nothing]);
        assert!(!filter("SIZE > 0") && !filter("SIZE < 1") && !filter("SIZE == 0"));
        assert!(filter("SIZE != 0"));
    }

    #[test]
    fn wrong_filters_are_named() {
        for (filter, part) in [
            ("", "column is wanted"),
            ("AGE == 1", "KIND, NAME, SIZE"),
            ("KIND", "operator is wanted"),
            ("KIND ==", "value is wanted"),
            ("KIND ~= x", "no operator"),
            ("KIND == x SIZE", "too many"),
            ("(KIND == x", "not closed"),
            ("NAME == 'x", "quote"),
            ("NAME =~ '('", "regular expression"),
            ("KIND == é(", "too many"),
        ] {
            let e = Filter::parse(filter, &COLUMNS).unwrap_err();
            assert!(e.contains(part), "{filter}: {e}");
        }
        let deep = "(".repeat(10_000);
        assert!(Filter::parse(&deep, &COLUMNS).unwrap_err().contains("deeply"));
        assert!(Filter::parse(&"!".repeat(99), &COLUMNS).is_err());
        assert!(Filter::parse(&"not ".repeat(99), &COLUMNS).unwrap_err().contains("deeply"));
    }
}
