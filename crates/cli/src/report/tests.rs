//! Tests of the writers together: golden files, hostile names, files on disk.

use super::files::{Format, ReportFile};
use super::junit;
use super::samples::{hostile, train};
use super::schema::{Action, EvidenceRow, NameRow, OutputRow, Outputs, Report};
use super::text::{Style, human_size, render};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Compares with a golden file; `KOBJ_BLESS=1` writes it anew, to be looked at before it is committed.
fn check_golden(name: &str, got: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("KOBJ_BLESS").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, want, "{name} changed; its names are stable: a field is only ever added");
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("kobj-report-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn the_examples_forms_are_the_golden_ones() {
    check_golden("train.json", &train().to_json());
    check_golden("train.txt", &render(&train(), Style::PLAIN));
    check_golden("train-explain.txt", &render(&train(), Style { explain: true, verbose: true, ..Style::PLAIN }));
    check_golden("train.xml", &junit::render(&train()));
    check_golden("hostile.json", &hostile().to_json());
    check_golden("hostile.txt", &render(&hostile(), Style { explain: true, ..Style::PLAIN }));
    check_golden("hostile.xml", &junit::render(&hostile()));
}

/// Every name that any report can have, and every word of its closed lists.
fn names_of_a_full_report() -> BTreeSet<String> {
    fn collect(value: &serde_json::Value, into: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                into.insert(name.clone());
                collect(value, into);
            }),
            serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut report = train();
    report.job.limits.push("a layer that cannot be had".into());
    report.job.not_recoverable = Some("no room".into());
    report.job.jobs.push(hostile().job);
    report.stragglers[0].inner_job = Some("inner".into());
    report.stragglers[1].entries = 1;
    report.unattributed = hostile().unattributed;
    let file = OutputRow { name: NameRow::new(b"/tmp/x"), size: Some(1) };
    report.outputs = Some(Outputs { count: 1, bytes: 1, files: vec![file] });
    let mut names = BTreeSet::new();
    collect(&serde_json::from_str(&report.to_json()).unwrap(), &mut names);
    names
}

/// Scripts and other tools are written by the page: it names every field and word, and none that is not there.
#[test]
fn the_page_names_every_field_and_word_and_no_other() {
    use kobj_abi::{EvidenceKind, HoldHow, HostKind, Layer, Strength};
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/report.md");
    let page = std::fs::read_to_string(page).unwrap();
    let quoted = |text: &str| -> BTreeSet<String> {
        text.split('`').skip(1).step_by(2).map(|word| word.trim_matches('"').to_owned()).collect()
    };
    let documented = quoted(&page);
    let names = names_of_a_full_report();
    let missing: Vec<_> = names.iter().filter(|name| !documented.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/report.md says nothing of {missing:?}");
    let fields = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).flat_map(quoted);
    let unknown: Vec<_> = fields.filter(|field| !names.contains(field)).collect();
    assert!(unknown.is_empty(), "docs/report.md names {unknown:?}, which no report has");
    let mut words: Vec<&str> = HostKind::ALL.iter().map(|kind| kind.name()).collect();
    words.extend(Layer::ALL.iter().map(|layer| layer.name()));
    words.extend(HoldHow::ALL.iter().map(|how| how.name()));
    words.extend(Strength::ALL.iter().map(|strength| strength.name()));
    words.extend(EvidenceKind::ALL.iter().map(|kind| kind.name()));
    words.extend(["runtime", "temporary", "cgroup", "subreaper", "isolate", "kobj.report/1"]);
    words.extend(["terminated", "killed", "scrubbed", "planned", "reported", "in-use", "failed", "kept", "ignored"]);
    let unsaid: Vec<_> = words.into_iter().filter(|word| !documented.contains(*word)).collect();
    assert!(unsaid.is_empty(), "docs/report.md does not say what {unsaid:?} mean");
}

#[test]
fn a_report_reads_back_as_it_was_written() {
    for report in [train(), hostile()] {
        assert_eq!(Report::from_json(report.to_json().as_bytes()).unwrap(), report);
    }
}

#[test]
fn another_schema_and_other_text_are_refused() {
    let other = train().to_json().replace("kobj.report/1", "kobj.report/2");
    assert!(Report::from_json(other.as_bytes()).unwrap_err().contains("kobj.report/2"));
    for wrong in ["", "{}", "[1", "null"] {
        assert!(Report::from_json(wrong.as_bytes()).is_err());
    }
}

#[test]
fn later_fields_are_passed_over() {
    let later = train().to_json().replacen("\"balance\"", "\"brand_new\": 1, \"balance\"", 1);
    assert_eq!(Report::from_json(later.as_bytes()).unwrap(), train());
}

#[test]
fn nothing_is_printed_when_nothing_is_left() {
    let mut report = train();
    report.stragglers.clear();
    assert_eq!(render(&report, Style::PLAIN), "");
    report.stragglers = train().stragglers;
    report.stragglers.iter_mut().for_each(|row| row.action = Action::Ignored);
    assert_eq!(render(&report, Style::PLAIN), "");
}

#[test]
fn a_lost_event_is_told_even_where_nothing_is_left() {
    let mut report = train();
    report.stragglers.clear();
    report.job.mark_incomplete("the kernel dropped 3 events".into());
    report.job.mark_incomplete("the kernel dropped 3 events".into());
    assert_eq!(render(&report, Style::PLAIN), "kobj: the account is incomplete: the kernel dropped 3 events\n");
}

#[test]
fn the_table_fits_80_columns_but_for_whole_names() {
    for line in render(&train(), Style::PLAIN).lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let mut report = train();
    report.stragglers[1].action = Action::Reported;
    report.stragglers[1].evidence.push(EvidenceRow {
        kind: kobj_abi::EvidenceKind::Unused,
        strength: kobj_abi::Strength::Proof,
        detail: String::new(),
    });
    report.unattributed = vec![report.stragglers[3].clone(); 20_000];
    let text = render(&report, Style::PLAIN);
    assert!(text.contains("left alone\n") && text.contains(" to scrub the unused: "), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    report.stragglers[1].name.name = format!("/dev/shm/{}", "x".repeat(300));
    let text = render(&report, Style::PLAIN);
    assert!(text.lines().any(|line| line.trim_end().ends_with('x')), "the name stands whole on its line");
    for line in text.lines().filter(|line| !line.contains("xxx")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn no_control_or_reordering_character_reaches_the_reader() {
    let report = hostile();
    let style = Style { explain: true, verbose: true, ..Style::PLAIN };
    for text in [render(&report, style), junit::render(&report)] {
        let bad = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(bad, None, "{text}");
        assert!(!text.lines().any(|line| line.starts_with("kobj: job \"x\"")), "{text}");
    }
}

#[test]
fn colour_only_where_asked() {
    assert!(!render(&train(), Style::PLAIN).contains('\x1b'));
    assert!(render(&train(), Style { colour: true, ..Style::PLAIN }).contains("\x1b[32mscrubbed\x1b[0m"));
}

#[test]
fn unattributed_rows_are_limited_without_verbose() {
    let mut report = train();
    report.stragglers.clear();
    report.unattributed = vec![hostile().unattributed[0].clone(); 25];
    assert!(render(&report, Style::PLAIN).contains("... and 15 more; -v lists them"));
    assert!(!render(&report, Style { verbose: true, ..Style::PLAIN }).contains("more; -v"));
}

#[test]
fn sizes_are_read_at_a_glance() {
    let cases = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (4096, "4.0 KiB"),
        (64 << 20, "64 MiB"),
        (1 << 30, "1.0 GiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1_207_959_552, "1.1 GiB"),
        (u64::MAX, "16 EiB"),
    ];
    for (bytes, text) in cases {
        assert_eq!(human_size(bytes), text);
    }
}

#[test]
fn unbalanced_books_are_never_hidden() {
    let mut report = train();
    assert!(report.balance.iter().all(super::schema::BalanceRow::holds));
    report.balance[0].left += 1;
    assert!(render(&report, Style::PLAIN).contains("the books of kind process do not balance"));
}

#[test]
fn report_files_are_replaced_whole_in_the_form_of_their_ending() {
    let folder = scratch("files");
    for (name, format, start) in
        [("a.json", Format::Json, "{\n"), ("b.txt", Format::Text, "kobj: job"), ("c.xml", Format::Junit, "<?xml")]
    {
        let file = ReportFile::parse(folder.join(name)).unwrap();
        assert_eq!(file.format, format);
        std::fs::write(&file.path, "old").unwrap();
        file.write(&train()).unwrap();
        assert!(std::fs::read_to_string(&file.path).unwrap().starts_with(start));
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "no temporary name stays");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn other_endings_are_refused() {
    for wrong in ["r", "r.yaml", "r.JSON", ".json", "r.json/"] {
        let refused = ReportFile::parse(wrong.into());
        assert!(refused.is_err() || wrong == "r.json/", "{wrong}");
    }
}

#[test]
fn a_full_disk_is_named_with_what_to_do() {
    let e = ReportFile { path: "/dev/full".into(), format: Format::Json }.write(&train()).unwrap_err();
    assert!(e.contains("/dev/full") && e.contains("free some space"), "{e}");
    let folder = scratch("missing");
    let e = ReportFile::parse(folder.join("no/r.json")).unwrap().write(&train()).unwrap_err();
    assert!(e.contains("make its folder first"), "{e}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_endless_report_is_not_read_to_its_end() {
    let bounded = |most| super::files::bounded(std::fs::File::open("/dev/zero").unwrap(), most);
    assert!(bounded(1_000).unwrap_err().to_string().contains("larger than 1000 bytes"));
}

#[test]
fn a_symbolic_link_keeps_being_one() {
    let folder = scratch("link");
    std::fs::write(folder.join("target.json"), "old").unwrap();
    std::os::unix::fs::symlink("target.json", folder.join("link.json")).unwrap();
    ReportFile::parse(folder.join("link.json")).unwrap().write(&train()).unwrap();
    assert!(std::fs::symlink_metadata(folder.join("link.json")).unwrap().is_symlink());
    assert!(std::fs::read_to_string(folder.join("target.json")).unwrap().starts_with('{'));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// In /tmp anybody may lay a link where root is about to write a report: what it leads to must not be replaced.
#[test]
fn what_another_user_laid_for_a_report_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, lchown};
    let test = "what_another_user_laid_for_a_report_is_refused";
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: {test}: needs root to make another user's files");
    }
    let folder = scratch("laid");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let victim = scratch("victim").join("precious.json");
    std::fs::write(&victim, "precious").unwrap();
    let planted = folder.join("r.json");
    std::os::unix::fs::symlink(&victim, &planted).unwrap();
    lchown(&planted, Some(65534), Some(65534)).unwrap();
    let write = |name: &str| ReportFile::parse(folder.join(name)).unwrap().write(&train());
    let e = write("r.json").unwrap_err();
    assert!(e.contains("r.json") && e.contains("a link that another user put"), "{e}");
    // A link of our own to the planted one leads there no more than its name does.
    std::os::unix::fs::symlink("r.json", folder.join("own.json")).unwrap();
    assert!(write("own.json").is_err());
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("f.json"), rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    lchown(folder.join("f.json"), Some(65534), Some(65534)).unwrap();
    let e = write("f.json").unwrap_err();
    assert!(e.contains("no regular file") && e.contains("another user"), "{e}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    // Another's file is replaced by one of ours, not written into: its other names keep what they have.
    std::fs::write(folder.join("h.json"), "another's").unwrap();
    std::fs::hard_link(folder.join("h.json"), folder.join("other-name")).unwrap();
    lchown(folder.join("h.json"), Some(65534), Some(65534)).unwrap();
    write("h.json").unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("other-name")).unwrap(), "another's");
    assert!(std::fs::read_to_string(folder.join("h.json")).unwrap().starts_with('{'));
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_dir_all(victim.parent().unwrap()).unwrap();
}

#[test]
fn a_job_is_called_after_what_it_runs() {
    let label = |words: &[&str]| {
        let mut job = train().job;
        job.command = words.iter().map(|word| (*word).to_string()).collect();
        String::from_utf8(job.label()).unwrap()
    };
    assert_eq!(label(&["python3.11", "/x/train.py"]), "train");
    assert_eq!(label(&["/usr/bin/make", "all"]), "make");
    assert_eq!(label(&["bash", "-c", "exit"]), "bash");
    assert_eq!(label(&["sh"]), "sh");
    assert_eq!(label(&[]), "job");
    assert_eq!(label(&["node", ".x"]), ".x");
}

#[test]
fn the_fix_binds_the_object_and_is_null_where_it_is_gone() {
    let report = train();
    assert_eq!(report.stragglers[1].fix, None);
    let fix = report.stragglers[3].fix.clone().unwrap();
    assert!(fix.starts_with("kobj scrub /dev/shm/psm_99ff --identity file-1d-4e-"), "{fix}");
}
