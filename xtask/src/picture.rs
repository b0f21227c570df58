//! `cargo xtask picture`: what README shows. docs/run.svg is drawn from what a real run of examples/leaky.py prints on a
//! terminal, the table of what programs leave is printed from the end-to-end tests' own table.

use crate::shell;
use std::fmt::Write;

const COMMAND: &str = "kobj run --scrub=all -- python3 examples/leaky.py";
const PICTURE: &str = "docs/run.svg";
const COLUMNS: usize = 100;
const CELL: (f64, f64) = (8.4, 19.0);
const MARGIN: f64 = 14.0;

/// Builds, runs on a pseudo-terminal, draws.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(extra) = arguments.first() {
        return Err(format!("picture takes no argument: {extra:?}"));
    }
    shell::run(&mut shell::cargo(&["build", "--locked", "--bin", "kobj"]))?;
    let typed = format!("stty cols {COLUMNS}; PATH=\"target/debug:$PATH\" exec {COMMAND}");
    let mut script = shell::command("script", &["--quiet", "--return", "--command", &typed, "/dev/null"]);
    let printed = shell::output(script.env("TERM", "xterm-256color").env("PYTHONUNBUFFERED", "1"))?;
    let path = shell::root().join(PICTURE);
    std::fs::write(&path, draw(COMMAND, &printed)).map_err(|e| format!("{PICTURE}: {e}"))?;
    println!("{PICTURE}: {} lines", printed.lines().count());
    table()
}

/// Puts the end-to-end tests' table between README's marks.
fn table() -> Result<(), String> {
    let printer = ["run", "--quiet", "--locked", "--package", "kobj-e2e", "--bin", "e2e-table"];
    let table = shell::output(&mut shell::cargo(&printer))?;
    let path = shell::root().join("README.md");
    let readme = std::fs::read_to_string(&path).map_err(|e| format!("README.md: {e}"))?;
    let readme = between_marks(&readme, &table).ok_or("README.md: no <!-- table --> and <!-- /table -->")?;
    std::fs::write(&path, readme).map_err(|e| format!("README.md: {e}"))
}

/// The text with `inner` between the marks, instead of whatever stood there.
fn between_marks(text: &str, inner: &str) -> Option<String> {
    let (before, rest) = text.split_once("<!-- table -->\n")?;
    let (_, after) = rest.split_once("<!-- /table -->")?;
    Some(format!("{before}<!-- table -->\n{}\n<!-- /table -->{after}", inner.trim_end()))
}

/// A piece of a line in one colour.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    text: String,
    colour: &'static str,
    bold: bool,
}

/// Splits a line at its SGR escapes; other escapes and control characters are dropped.
fn spans(line: &str) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let (mut colour, mut bold) = (PLAIN, false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            let mut codes = String::new();
            let end = loop {
                match rest.next() {
                    Some(c) if c.is_ascii_digit() || c == ';' => codes.push(c),
                    other => break other,
                }
            };
            if end == Some('m') {
                codes.split(';').for_each(|code| apply(code, &mut colour, &mut bold));
            }
        } else if !c.is_control() {
            match found.last_mut() {
                Some(span) if span.colour == colour && span.bold == bold => span.text.push(c),
                _ => found.push(Span { text: c.into(), colour, bold }),
            }
        }
    }
    found
}

const PLAIN: &str = "#d0d0d0";

fn apply(code: &str, colour: &mut &'static str, bold: &mut bool) {
    match code {
        "" | "0" => (*colour, *bold) = (PLAIN, false),
        "1" => *bold = true,
        "2" | "90" => *colour = "#8a8a8a",
        "22" => *bold = false,
        "31" | "91" => *colour = "#ff6b68",
        "32" | "92" => *colour = "#8fd18f",
        "33" | "93" => *colour = "#e5c07b",
        "34" | "94" => *colour = "#6cb6ff",
        "35" | "95" => *colour = "#d19ae0",
        "36" | "96" => *colour = "#67c7d0",
        "39" => *colour = PLAIN,
        _ => {}
    }
}

/// The picture: the prompt with the command, then the lines as they were printed.
fn draw(command: &str, printed: &str) -> String {
    let mut lines = vec![vec![Span { text: format!("$ {command}"), colour: "#ffffff", bold: true }]];
    lines.extend(printed.lines().map(spans));
    let width = CELL.0 * COLUMNS as f64 + 2.0 * MARGIN;
    let height = CELL.1 * lines.len() as f64 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"What kobj run prints\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1b1d23\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"14\" xml:space=\"preserve\">\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let y = MARGIN + CELL.1 * (index as f64 + 0.75);
        let mut column = 0;
        for span in line {
            let x = MARGIN + CELL.0 * column as f64;
            let weight = if span.bold { " font-weight=\"bold\"" } else { "" };
            let text = span.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let length = CELL.0 * span.text.chars().count() as f64;
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{}\"{weight} textLength=\"{length:.1}\" \
                 lengthAdjust=\"spacingAndGlyphs\">{text}</text>",
                span.colour
            );
            column += span.text.chars().count();
        }
    }
    svg + "</g>\n</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_spans_and_other_escapes_vanish() {
        let found = spans("a\u{1b}[1;31mb\u{1b}[0mc\u{1b}[2Kd\r");
        let texts: Vec<&str> = found.iter().map(|span| span.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "cd"]);
        assert!(found[1].bold && found[1].colour == "#ff6b68" && !found[2].bold);
    }

    #[test]
    fn the_table_replaces_what_stood_between_the_marks() {
        let text = "a\n<!-- table -->\nold\n<!-- /table -->\nb\n";
        assert_eq!(between_marks(text, "|new|\n").unwrap(), "a\n<!-- table -->\n|new|\n<!-- /table -->\nb\n");
        assert_eq!(between_marks("a\n", "new"), None);
    }

    #[test]
    fn the_picture_cannot_be_broken_by_what_is_printed() {
        let svg = draw("x", "<script>&\n");
        assert!(svg.contains("&lt;script&gt;&amp;") && !svg.contains("<script>"));
    }
}
