//! The report for people: a summary, a table readable in 80 columns, the balance; `--explain` adds the evidence.

use super::escape;
use super::schema::{Action, CreatorRow, HolderRow, Report, Straggler};
use super::{schema::JobRow, time};
use kobj_abi::{HostKind, Strength};
use std::fmt::Write as _;

/// How the text is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Columns of the terminal; 80 elsewhere.
    pub(crate) width: usize,
    /// Whether the actions are coloured.
    pub(crate) colour: bool,
    /// Evidence in words under each row.
    pub(crate) explain: bool,
    /// Standing limits, layers, outputs.
    pub(crate) verbose: bool,
}

impl Style {
    /// Plain text for files: 80 columns, no colour.
    pub(crate) const PLAIN: Self = Self { width: 80, colour: false, explain: false, verbose: false };

    /// The style of that stream: colour and width of a terminal, plain elsewhere; NO_COLOR and TERM=dumb are obeyed.
    pub(crate) fn of(stream: impl std::os::fd::AsFd, explain: bool, verbose: bool) -> Self {
        let plain = Self { explain, verbose, ..Self::PLAIN };
        if !rustix::termios::isatty(&stream) {
            return plain;
        }
        let width = rustix::termios::tcgetwinsize(&stream).map_or(80, |size| usize::from(size.ws_col));
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|value| value == "dumb");
        Self { width: width.clamp(80, 300), colour: !refused, ..plain }
    }
}

/// Unattributed rows shown without `--verbose`: other people's work must not drown the job's own.
const UNATTRIBUTED_ROWS_MAX: usize = 10;

/// The text report; empty if there is nothing to tell.
pub(crate) fn render(report: &Report, style: Style) -> String {
    let mut out = String::new();
    if report.has_news() {
        news(report, style, &mut out);
    }
    for reason in &report.job.incomplete_because {
        _ = writeln!(out, "kobj: the account is incomplete: {}", escape::for_terminal(reason.as_bytes()));
    }
    if style.verbose {
        verbose(report, &mut out);
    }
    out
}

fn news(report: &Report, style: Style, out: &mut String) {
    let own: Vec<&Straggler> = shown(&report.stragglers);
    let other: Vec<&Straggler> = shown(&report.unattributed);
    let label = escape::for_terminal(&report.job.label());
    if own.is_empty() {
        _ = writeln!(out, "kobj: job \"{label}\" left nothing that is proved to be its own");
    } else {
        let unused = own.iter().filter(|row| row.is_unused()).count();
        let (are, size) = (if unused == 1 { "was" } else { "were" }, total_size(&own));
        let count = counted(own.len(), "object");
        _ = writeln!(out, "kobj: job \"{label}\" left {count}{size}; {unused} {are} its own and unused");
        table(&own, style, out);
    }
    footer(report, out);
    if !other.is_empty() {
        let (count, size) = (counted(other.len(), "object"), total_size(&other));
        _ = writeln!(out, "kobj: {count}{size} appeared meanwhile; nobody's by proof: left alone");
        let rows = if style.verbose { other.len() } else { other.len().min(UNATTRIBUTED_ROWS_MAX) };
        table(&other[..rows], style, out);
        if rows < other.len() {
            _ = writeln!(out, " ... and {} more; -v lists them", other.len() - rows);
        }
    }
    let reported = own.iter().any(|row| matches!(row.action, Action::Reported) && row.is_unused());
    if reported && !style.explain {
        _ = writeln!(out, " to scrub the unused: kobj scrub --from last (or run --scrub; why: --explain)");
    }
}

fn shown(rows: &[Straggler]) -> Vec<&Straggler> {
    rows.iter().filter(|row| row.action != Action::Ignored).collect()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn total_size(rows: &[&Straggler]) -> String {
    match rows.iter().filter_map(|row| row.size).fold(0_u64, u64::saturating_add) {
        0 => String::new(),
        total => format!(", {}", human_size(total)),
    }
}

/// `1.0 GiB`; whole numbers below 1 KiB and from 10 of a unit on.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_023.5 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// The name as shown: what is only a number gets a word before it.
pub(crate) fn shown_name(kind: HostKind, name: &[u8]) -> String {
    let is_number = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    match kind {
        HostKind::SysvSegment | HostKind::SysvSemaphore | HostKind::SysvQueue if is_number => {
            format!("id {}", escape::for_terminal(name))
        }
        _ => escape::for_terminal(name),
    }
}

/// The NAME cell; of a process also its command, of a folder also how much is in it.
fn name_cell(row: &Straggler) -> String {
    let name = shown_name(row.kind, &row.name.bytes());
    if row.entries > 0 {
        return format!(
            "{name}/ ({})",
            if row.entries == 1 { "1 entry".into() } else { format!("{} entries", row.entries) }
        );
    }
    name
}

fn creator_cell(creator: Option<&CreatorRow>, command_max: usize) -> String {
    let name = |command: &str| if command.is_empty() { "?".into() } else { short(command, command_max) };
    creator.map_or("-".into(), |it| format!("{} ({})", name(&it.command), it.pid))
}

fn holders_cell(holders: &[HolderRow], command_max: usize) -> String {
    let Some(first) = holders.first() else { return "-".into() };
    let mut pids: Vec<u32> = holders.iter().map(|holder| holder.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let more = if pids.len() > 1 { format!(" +{}", pids.len() - 1) } else { String::new() };
    if first.pid == 0 {
        // No process of this machine that could be found: the words say what is known.
        return format!("{}{more}", short(&first.command, command_max + NUMBER_COLUMNS));
    }
    format!("{} ({}){more}", short(&first.command, command_max), first.pid)
}

/// Columns of ` (4194303)`, the longest number.
const NUMBER_COLUMNS: usize = 10;

/// Columns of a command name, which is all that the kernel keeps of it.
const COMMAND_COLUMNS: usize = 15;

fn short(command: &str, columns: usize) -> String {
    let escaped = escape::for_terminal(command.as_bytes());
    if escaped.chars().count() <= columns {
        return escaped;
    }
    escaped.chars().take(columns - 1).chain(['…']).collect()
}

const HEADINGS: [&str; 6] = ["KIND", "NAME", "SIZE", "CREATOR", "HOLDERS", "ACTION"];
const NAME: usize = 1;

/// The table; a name that does not fit its column stands whole on a line of its own.
fn table(rows: &[&Straggler], style: Style, out: &mut String) {
    let build = |command_max: usize| -> (Vec<[String; 6]>, [usize; 6]) {
        let cells: Vec<[String; 6]> = rows.iter().map(|row| row_cells(row, command_max)).collect();
        let widths = std::array::from_fn(|column| {
            let longest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            longest.max(HEADINGS[column].len())
        });
        (cells, widths)
    };
    let beside_name = |widths: &[usize; 6]| 1 + 2 * 5 + widths.iter().sum::<usize>() - widths[NAME];
    let (mut cells, mut widths) = build(COMMAND_COLUMNS);
    if beside_name(&widths) + HEADINGS[NAME].len() > style.width {
        (cells, widths) = build(COMMAND_COLUMNS / 2);
    }
    let room = style.width.saturating_sub(beside_name(&widths));
    widths[NAME] = widths[NAME].min(room.max(HEADINGS[NAME].len()));
    line(&HEADINGS.map(String::from), &widths, None, out);
    for (row, cells) in rows.iter().zip(&cells) {
        let colour = style.colour.then(|| colour_of(row.action)).flatten();
        line(cells, &widths, colour, out);
        if style.explain {
            explain(row, out);
        } else if let Some(job) = &row.inner_job {
            _ = writeln!(out, "     of inner job: {}", escape::for_terminal(job.as_bytes()));
        }
    }
}

fn row_cells(row: &Straggler, command_max: usize) -> [String; 6] {
    [
        row.kind.name().into(),
        name_cell(row),
        row.size.map_or("-".into(), human_size),
        creator_cell(row.creator.as_ref(), command_max),
        holders_cell(&row.holders, command_max),
        row.action.name().into(),
    ]
}

/// One line, or two where the name is too long. `colour` is for the last cell.
fn line(cells: &[String; 6], widths: &[usize; 6], colour: Option<&str>, out: &mut String) {
    let [kind_width, name_width, ..] = *widths;
    _ = write!(out, " {:<kind_width$}  ", cells[0]);
    if cells[NAME].chars().count() > name_width {
        _ = write!(out, "{}\n {:<kind_width$}  {:<name_width$}", cells[NAME], "", "");
    } else {
        _ = write!(out, "{:<name_width$}", cells[NAME]);
    }
    for (cell, width) in cells.iter().zip(widths).skip(NAME + 1).take(3) {
        _ = write!(out, "  {cell:<width$}");
    }
    match colour {
        Some(colour) => _ = writeln!(out, "  {colour}{}\x1b[0m", cells[5]),
        None => _ = writeln!(out, "  {}", cells[5]),
    }
}

const fn colour_of(action: Action) -> Option<&'static str> {
    match action {
        Action::Terminated | Action::Killed | Action::Scrubbed | Action::Planned => Some("\x1b[32m"),
        Action::Reported | Action::InUse => Some("\x1b[33m"),
        Action::Failed => Some("\x1b[31m"),
        Action::Kept | Action::Ignored => None,
    }
}

/// The evidence of one row in words, why it was or was not scrubbed, and the command that scrubs it.
fn explain(row: &Straggler, out: &mut String) {
    let mut say = |word: &str, text: &str| {
        _ = writeln!(out, "     {word}: {}", escape::for_terminal(text.as_bytes()));
    };
    if let Some(job) = &row.inner_job {
        say("of inner job", job);
    }
    for evidence in &row.evidence {
        let word = match evidence.strength {
            Strength::Proof => "proof",
            Strength::Hint => "hint",
        };
        say(word, &format!("{} ({})", evidence.detail, evidence.kind.name()));
    }
    if row.evidence.is_empty() {
        say("evidence", "none");
    }
    for holder in &row.holders {
        let number = if holder.pid == 0 { String::new() } else { format!(" ({})", holder.pid) };
        say("held by", &format!("{}{number}, {}", holder.command, holder.how.name()));
    }
    say(row.action.name(), &row.why);
    if let Some(fix) = &row.fix {
        _ = writeln!(out, "     fix: {}", escape::for_terminal_if_needed(fix));
    }
}

/// `counted kinds: 40 created = 37 destroyed + 2 scrubbed + 1 left`: sums of the exact kinds; no line without any.
fn footer(report: &Report, out: &mut String) {
    let exact: Vec<_> = report.balance.iter().filter(|row| row.exact).collect();
    if exact.is_empty() {
        return;
    }
    let sum =
        |pick: fn(&super::schema::BalanceRow) -> u64| exact.iter().map(|row| pick(row)).fold(0, u64::saturating_add);
    let (created, destroyed) = (sum(|row| row.created.unwrap_or(0)), sum(|row| row.destroyed.unwrap_or(0)));
    let (scrubbed, left) = (sum(|row| row.scrubbed), sum(|row| row.left));
    _ = writeln!(out, " counted kinds: {created} created = {destroyed} destroyed + {scrubbed} scrubbed + {left} left");
    for row in report.balance.iter().filter(|row| !row.holds()) {
        _ = writeln!(out, "kobj: the books of kind {} do not balance; please report this", row.kind.name());
    }
}

fn verbose(report: &Report, out: &mut String) {
    job_lines(&report.job, out);
    if let Some(outputs) = &report.outputs {
        let size = human_size(outputs.bytes);
        _ = writeln!(out, "kobj: outputs, left alone: {}, {size}", counted(outputs.count as usize, "file"));
        for file in &outputs.files {
            _ = writeln!(out, "   {}", escape::for_terminal(&file.name.bytes()));
        }
    }
    for limit in &report.not_visible {
        let why = escape::for_terminal(limit.why.as_bytes());
        _ = writeln!(out, "kobj: not visible: {}: {why}", limit.kind.name());
    }
}

fn job_lines(job: &JobRow, out: &mut String) {
    let layers: Vec<&str> = job.tracing.iter().map(|layer| layer.name()).collect();
    let label = escape::for_terminal(&job.label());
    let took = job.ended.map_or(String::new(), |ended| format!(", {:.3} s", (ended.0 - job.started.0) as f64 / 1e6));
    _ = writeln!(
        out,
        "kobj: job \"{label}\" {}, started {}{took}, containment {}, layers {}",
        job.koid,
        time::print(job.started),
        job.containment.name(),
        layers.join(" ")
    );
    for limit in job.limits.iter().chain(&job.not_recoverable) {
        _ = writeln!(out, "kobj: limit: {}", escape::for_terminal(limit.as_bytes()));
    }
    for inner in &job.jobs {
        job_lines(inner, out);
    }
}
