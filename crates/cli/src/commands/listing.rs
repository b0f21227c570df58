//! Listings: `-J -n -o -r -Q` as lsfd and lsblk have them, for every command that lists objects.

use super::filter::Filter;
use crate::report::escape;
use crate::report::text::human_size;
use crate::report::{base64, time};
use kobj_core::image::Time;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Flags of every listing.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ListingFlags {
    /// As JSON
    #[arg(short = 'J', long)]
    pub(crate) json: bool,
    /// No line of headings
    #[arg(short, long)]
    pub(crate) noheadings: bool,
    /// Columns to show, separated by commas; +COLUMNS adds to the usual ones
    #[arg(short, long, value_name = "COLUMNS")]
    pub(crate) output: Option<String>,
    /// No alignment, sizes in bytes, blanks escaped
    #[arg(short, long)]
    pub(crate) raw: bool,
    /// Only rows that match: COLUMN OP VALUE [and|or ...]
    #[arg(short = 'Q', long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
}

impl ListingFlags {
    /// Whether any flag but `--json` asks for a listing.
    pub(crate) const fn is_asked(&self) -> bool {
        self.noheadings || self.raw || self.output.is_some() || self.filter.is_some()
    }
}

/// How many texts of one cell a table for people shows.
const TEXTS_SHOWN: usize = 2;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Unknown, or none.
    Nothing,
    /// Bytes that a stranger may have chosen.
    Text(Vec<u8>),
    /// Several such, of which a table for people shows the first few.
    Texts(Vec<Vec<u8>>),
    /// A count or a number.
    Number(i64),
    /// Bytes of memory or disk.
    Size(u64),
    /// Seconds.
    Age(u64),
    /// A time.
    At(Time),
    /// Yes or no.
    Flag(bool),
}

impl Cell {
    /// A cell of that text.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// Whether it holds nothing.
    pub(crate) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Its value, where it is a number.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number as f64),
            Self::Size(number) | Self::Age(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// Its value as text without rounding, for filters and raw listings.
    pub(crate) fn plain(&self) -> Cow<'_, str> {
        match self {
            Self::Nothing => "".into(),
            Self::Text(bytes) => String::from_utf8_lossy(bytes),
            Self::Texts(list) => String::from_utf8_lossy(&list.join(&b',')).into_owned().into(),
            Self::Number(number) => number.to_string().into(),
            Self::Size(number) | Self::Age(number) => number.to_string().into(),
            Self::At(at) => time::print(*at).into(),
            Self::Flag(yes) => if *yes { "yes" } else { "no" }.into(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Nothing => "-".into(),
            Self::Text(bytes) => escape::for_terminal(bytes),
            Self::Texts(list) => {
                let first = escape::for_terminal(&list[..list.len().min(TEXTS_SHOWN)].join(&b','));
                let more = list.len().saturating_sub(TEXTS_SHOWN);
                if more > 0 { format!("{first} +{more}") } else { first }
            }
            Self::Size(bytes) => human_size(*bytes),
            Self::Age(seconds) => human_age(*seconds),
            Self::Number(_) | Self::At(_) | Self::Flag(_) => self.plain().into_owned(),
        }
    }

    fn raw(&self) -> String {
        let text = match self {
            Self::Nothing => "-".into(),
            Self::Text(bytes) => escape::for_terminal(bytes),
            Self::Texts(list) => escape::for_terminal(&list.join(&b',')),
            other => other.plain().into_owned(),
        };
        text.replace(' ', "\\x20")
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Nothing => serde_json::Value::Null,
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into(),
            Self::Texts(_) => self.plain().into(),
            Self::Number(number) => (*number).into(),
            Self::Size(number) | Self::Age(number) => (*number).into(),
            Self::At(at) => time::print(*at).into(),
            Self::Flag(yes) => (*yes).into(),
        }
    }
}

/// `3d`, `5h`, `12m`, `40s`: the largest unit alone.
fn human_age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A listing: its columns, and which of them are shown and filtered by.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    flags: &'a ListingFlags,
    /// The array's name in JSON.
    title: &'static str,
    columns: &'a [&'a str],
    shown: Vec<usize>,
    filter: Option<Filter>,
}

impl<'a> Listing<'a> {
    /// A listing over `columns`, of which `usual` are shown unless `-o` says otherwise.
    pub(crate) fn new(
        flags: &'a ListingFlags,
        title: &'static str,
        columns: &'a [&'a str],
        usual: &[&str],
    ) -> Result<Self, String> {
        let find = |name: &str| {
            columns
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name.trim()))
                .ok_or_else(|| format!("there is no column '{}'; there are {}", name.trim(), columns.join(", ")))
        };
        let usual = || usual.iter().copied().map(find).collect::<Result<Vec<_>, _>>();
        let shown = match flags.output.as_deref() {
            None => usual()?,
            Some(list) => {
                let (mut shown, list) = match list.strip_prefix('+') {
                    Some(more) => (usual()?, more),
                    None => (Vec::new(), list),
                };
                for name in list.split(',') {
                    shown.push(find(name)?);
                }
                shown
            }
        };
        let filter = flags.filter.as_deref().map(|text| Filter::parse(text, columns)).transpose()?;
        Ok(Self { flags, title, columns, shown, filter })
    }

    /// Whether that column must be filled in: it is shown, or there is a filter.
    pub(crate) fn needs(&self, column: &str) -> bool {
        let is_named = |text: &String| text.to_ascii_uppercase().contains(column);
        self.shown.iter().any(|index| self.columns[*index] == column)
            || self.flags.filter.as_ref().is_some_and(is_named)
    }

    /// Whether the row is chosen by `-Q`.
    pub(crate) fn chooses(&self, row: &[Cell]) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.chooses(row))
    }

    /// The whole output; rows not chosen are left out.
    pub(crate) fn render(&self, rows: &[Vec<Cell>]) -> String {
        let rows: Vec<&Vec<Cell>> = rows.iter().filter(|row| self.chooses(row)).collect();
        if self.flags.json {
            return self.render_json(&rows);
        }
        let headings: Vec<String> = self.shown.iter().map(|index| self.columns[*index].to_string()).collect();
        let cell = |row: &Vec<Cell>, index: usize| match self.flags.raw {
            true => row[index].raw(),
            false => row[index].shown(),
        };
        let cells = rows.iter().map(|row| self.shown.iter().map(|index| cell(row, *index)).collect());
        let heads = (!self.flags.noheadings).then_some(headings);
        let lines: Vec<Vec<String>> = heads.into_iter().chain(cells).collect();
        if self.flags.raw {
            return lines.iter().map(|line| line.join(" ") + "\n").collect();
        }
        self.align(&lines)
    }

    fn align(&self, lines: &[Vec<String>]) -> String {
        let widths: Vec<usize> = (0..self.shown.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for line in lines {
            for (column, cell) in line.iter().enumerate() {
                if column + 1 == line.len() {
                    out.push_str(cell);
                } else {
                    _ = write!(out, "{cell:<width$}  ", width = widths[column]);
                }
            }
            out.push('\n');
        }
        out
    }

    fn render_json(&self, rows: &[&Vec<Cell>]) -> String {
        let object = |row: &&Vec<Cell>| {
            let mut object = serde_json::Map::new();
            for index in &self.shown {
                let key = self.columns[*index].to_ascii_lowercase();
                if let Cell::Text(bytes) = &row[*index]
                    && std::str::from_utf8(bytes).is_err()
                {
                    object.insert(format!("{key}_bytes"), base64::encode(bytes).into());
                }
                object.insert(key, row[*index].json());
            }
            serde_json::Value::Object(object)
        };
        let list: serde_json::Value = rows.iter().map(object).collect();
        let mut text = format!("{:#}", serde_json::json!({ self.title: list }));
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 3] = ["KIND", "NAME", "SIZE"];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::text("segment"), Cell::Text(b"/dev/shm/a b\n\xff".to_vec()), Cell::Size(4096)],
            vec![Cell::text("fifo"), Cell::text("/tmp/f"), Cell::Nothing],
        ]
    }

    fn render(flags: &ListingFlags) -> String {
        Listing::new(flags, "objects", &COLUMNS, &["KIND", "NAME"]).unwrap().render(&rows())
    }

    #[test]
    fn the_usual_columns_stand_aligned_and_escaped() {
        assert_eq!(render(&ListingFlags::default()), "KIND     NAME\nsegment  /dev/shm/a b\\n\\xff\nfifo     /tmp/f\n");
    }

    #[test]
    fn of_many_texts_people_see_the_first_and_programs_all() {
        let names = |count: usize| Cell::Texts((1..=count).map(|at| format!("cat({at})").into_bytes()).collect());
        assert_eq!(names(2).shown(), "cat(1),cat(2)");
        assert_eq!(names(40).shown(), "cat(1),cat(2) +38");
        assert_eq!(names(3).raw(), "cat(1),cat(2),cat(3)");
        assert_eq!(names(3).json(), "cat(1),cat(2),cat(3)");
        assert_eq!(Cell::Texts(vec![b"\x1b[2J".to_vec()]).shown(), "\\x1b[2J");
    }

    #[test]
    fn columns_headings_and_raw_are_as_asked() {
        let flags =
            ListingFlags { output: Some("size,Kind".into()), noheadings: true, raw: true, ..Default::default() };
        assert_eq!(render(&flags), "4096 segment\n- fifo\n");
        let more = ListingFlags { output: Some("+SIZE".into()), ..Default::default() };
        assert!(render(&more).starts_with("KIND     NAME                SIZE\n"));
        let raw = ListingFlags { raw: true, noheadings: true, ..Default::default() };
        assert_eq!(render(&raw).lines().next(), Some("segment /dev/shm/a\\x20b\\n\\xff"));
    }

    #[test]
    fn json_names_the_columns_and_keeps_bytes() {
        let flags = ListingFlags { json: true, output: Some("NAME,SIZE".into()), ..Default::default() };
        let value: serde_json::Value = serde_json::from_str(&render(&flags)).unwrap();
        assert_eq!(value["objects"][0]["size"], 4096);
        assert_eq!(value["objects"][0]["name_bytes"], base64::encode(b"/dev/shm/a b\n\xff"));
        assert_eq!(value["objects"][1]["size"], serde_json::Value::Null);
    }

    #[test]
    fn a_filter_may_use_columns_that_are_not_shown() {
        let flags = ListingFlags { filter: Some("SIZE > 0".into()), noheadings: true, ..Default::default() };
        assert_eq!(render(&flags).lines().count(), 1);
        let listing = Listing::new(&flags, "objects", &COLUMNS, &["KIND"]).unwrap();
        assert!(listing.needs("KIND") && listing.needs("SIZE") && !listing.needs("NAME"));
    }

    #[test]
    fn an_unknown_column_is_named_with_those_that_exist() {
        let flags = ListingFlags { output: Some("AGE".into()), ..Default::default() };
        let e = Listing::new(&flags, "objects", &COLUMNS, &["KIND"]).unwrap_err();
        assert!(e.contains("'AGE'") && e.contains("KIND, NAME, SIZE"), "{e}");
    }
}
