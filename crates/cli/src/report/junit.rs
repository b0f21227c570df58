//! The report as JUnit XML: one test case a straggler, so that CI shows leftovers where it shows failed tests.

use super::escape;
use super::schema::{Action, Report, Straggler};
use super::text;
use std::fmt::Write as _;

/// The whole document. A job that left nothing is one passed test case.
pub(crate) fn render(report: &Report) -> String {
    let label = escape::for_terminal(&report.job.label());
    let skipped = |row: &&Straggler| matches!(row.action, Action::Kept | Action::Ignored);
    let all = report.stragglers.len() + report.unattributed.len();
    let skips = report.stragglers.iter().filter(skipped).count() + report.unattributed.len();
    let failures = all - skips;
    let took_s = report.job.ended.map_or(0.0, |ended| (ended.0 - report.job.started.0) as f64 / 1e6);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    _ = writeln!(
        out,
        "<testsuites>\n <testsuite name=\"kobj: {}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" \
         skipped=\"{skips}\" time=\"{took_s:.6}\">",
        escape::for_xml(&label),
        all.max(1)
    );
    if all == 0 {
        _ = writeln!(out, "  <testcase classname=\"kobj\" name=\"nothing left\" time=\"{took_s:.6}\"/>");
    }
    for row in &report.stragglers {
        case(row, if skipped(&row) { Some("kept or ignored") } else { None }, &mut out);
    }
    for row in &report.unattributed {
        case(row, Some("unattributed: nothing proves whose it is"), &mut out);
    }
    out.push_str(" </testsuite>\n</testsuites>\n");
    out
}

fn case(row: &Straggler, skip: Option<&str>, out: &mut String) {
    let name = escape::for_xml(&text::shown_name(row.kind, &row.name.bytes()));
    let say = |part: &str| escape::for_xml(&escape::for_terminal(part.as_bytes()));
    _ = writeln!(out, "  <testcase classname=\"kobj.{}\" name=\"{name}\" time=\"0\">", row.kind.name());
    match skip {
        Some(reason) => _ = writeln!(out, "   <skipped message=\"{}\"/>", say(reason)),
        None => {
            _ = write!(out, "   <failure type=\"{}\" message=\"{}\">", row.action.name(), say(&row.why));
            for evidence in &row.evidence {
                let (strength, kind) = (evidence.strength.name(), evidence.kind.name());
                _ = writeln!(out, "{strength}: {} ({kind})", say(&evidence.detail));
            }
            if let Some(fix) = &row.fix {
                _ = writeln!(out, "fix: {}", escape::for_xml(fix));
            }
            out.push_str("</failure>\n");
        }
    }
    out.push_str("  </testcase>\n");
}
