//! `kobj run [flags] -- CMD ARGS`: flags, their `KOBJ_...` variables, and the settings that come of both and the
//! configuration.

use crate::baseline::Baseline;
use crate::config::Config;
use crate::durations::{parse_duration, parse_signal};
use crate::exit_code;
use crate::patterns::Pattern;
use crate::report::files::ReportFile;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// The variable by which a job's processes are known. A kobj that sees it is an inner run.
pub(crate) const COOKIE: &str = "KOBJ_JOB";

/// The longest name of a job, in bytes: that of a file.
const NAME_BYTES_MAX: usize = 255;

/// What `--scrub` destroys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scrub {
    /// Nothing
    None,
    /// Unused runtime objects that are proved to be the job's own
    Runtime,
    /// Temporary ones too
    All,
}

/// Flags of `kobj run`, as typed.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "kobj-run",
    bin_name = "kobj run",
    version,
    about = "Run a command as a job, name what it leaves behind, scrub it on request",
    max_term_width = 100,
    args_override_self = true,
    after_help = "Each flag but --report, --name, --timeout, --baseline and --json has a variable (KOBJ_SCRUB, \
                  KOBJ_KILL_AFTER, ...; patterns one a line); flags stand before variables, these before the \
                  configuration. Exit: the command's own code; 123 stragglers (--fail-on-stragglers), 124 time-out \
                  (137 if SIGKILL was needed), 125 kobj's own failure, 126 not executable, 127 not found."
)]
pub(crate) struct RunFlags {
    /// Scrub unused objects of the job: runtime ones (bare), or all, temporary ones too
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "runtime")]
    pub(crate) scrub: Option<Scrub>,
    /// Also write the report to FILE, by its ending .txt, .json or .xml (JUnit); repeatable
    #[arg(long, value_name = "FILE", action = clap::ArgAction::Append)]
    pub(crate) report: Vec<PathBuf>,
    /// JSON instead of text on standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// No text report
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Containment, layers, limits and outputs too
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// The evidence in words under each straggler
    #[arg(long)]
    pub(crate) explain: bool,
    /// The job's name in reports
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Report but never touch what matches: a glob on NAME or KIND:NAME; repeatable
    #[arg(long, value_name = "PATTERN", action = clap::ArgAction::Append)]
    pub(crate) keep: Vec<OsString>,
    /// Hide and never touch what matches; repeatable
    #[arg(long, value_name = "PATTERN", action = clap::ArgAction::Append)]
    pub(crate) ignore: Vec<OsString>,
    /// Hide and never touch what this earlier report.json names
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Touch nothing, leftover processes included
    #[arg(long)]
    pub(crate) report_only: bool,
    /// Exit with CODE (123) if the command exited 0 and any proved straggler was found
    #[arg(long, value_name = "CODE", num_args = 0..=1, require_equals = true, default_missing_value = "123",
          value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) fail_on_stragglers: Option<u8>,
    /// End leftover processes that serve others, too
    #[arg(long)]
    pub(crate) kill_all: bool,
    /// SIGKILL this long after the first signal (2s); 0: at once
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) kill_after: Option<Duration>,
    /// The first signal to leftover processes, and at the time-out (TERM)
    #[arg(short, long, value_name = "SIGNAL", value_parser = parse_signal)]
    pub(crate) signal: Option<i32>,
    /// End the whole job after this long: 2, 2s, 1.5m, 1h, 1d; 0: never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Touch nothing; say what --scrub would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run in its own PID, IPC and mount namespaces (unless root a user namespace too): /dev/shm private, /tmp not
    #[arg(long)]
    pub(crate) isolate: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// How a variable becomes flags.
#[derive(Clone, Copy)]
enum Shape {
    /// 1, true, yes or on: the flag; 0, false, no, off or empty: nothing.
    Switch,
    /// The value with "=".
    Value,
    /// A switch, or else the value with "=".
    SwitchOrValue,
    /// One value a line.
    Lines,
}

const VARIABLES: [(&str, &str, Shape); 13] = [
    ("KOBJ_SCRUB", "--scrub", Shape::SwitchOrValue),
    ("KOBJ_QUIET", "--quiet", Shape::Switch),
    ("KOBJ_VERBOSE", "--verbose", Shape::Switch),
    ("KOBJ_EXPLAIN", "--explain", Shape::Switch),
    ("KOBJ_KEEP", "--keep", Shape::Lines),
    ("KOBJ_IGNORE", "--ignore", Shape::Lines),
    ("KOBJ_REPORT_ONLY", "--report-only", Shape::Switch),
    ("KOBJ_FAIL_ON_STRAGGLERS", "--fail-on-stragglers", Shape::SwitchOrValue),
    ("KOBJ_KILL_ALL", "--kill-all", Shape::Switch),
    ("KOBJ_KILL_AFTER", "--kill-after", Shape::Value),
    ("KOBJ_SIGNAL", "--signal", Shape::Value),
    ("KOBJ_DRY_RUN", "--dry-run", Shape::Switch),
    ("KOBJ_ISOLATE", "--isolate", Shape::Switch),
];

/// The flags that the variables stand for, in front of the typed ones, so that these win.
fn flags_of_variables(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<OsString>, String> {
    let mut flags = Vec::new();
    for (variable, flag, shape) in VARIABLES {
        let Some(value) = get(variable).filter(|value| !value.is_empty()) else { continue };
        let with_value = |value: &[u8]| {
            let mut word = flag.as_bytes().to_vec();
            word.push(b'=');
            word.extend_from_slice(value);
            OsString::from_vec(word)
        };
        match (shape, switch(&value)) {
            (Shape::Switch | Shape::SwitchOrValue, Some(true)) => flags.push(flag.into()),
            (Shape::Switch | Shape::SwitchOrValue, Some(false)) => {}
            (Shape::Switch, None) => {
                return Err(format!("{variable} is '{}'; write 1 or 0", value.display()));
            }
            (Shape::Value | Shape::SwitchOrValue, _) => flags.push(with_value(value.as_bytes())),
            (Shape::Lines, _) => {
                let lines = value.as_bytes().split(|b| *b == b'\n').filter(|line| !line.is_empty());
                flags.extend(lines.map(with_value));
            }
        }
    }
    Ok(flags)
}

fn switch(value: &OsStr) -> Option<bool> {
    match value.to_str()?.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Why `kobj run` does not start its command.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Help or version was asked for: print it, exit 0.
    Shown(clap::Error),
    /// Wrong flags: print it, exit 125.
    Flags(clap::Error),
    /// Anything else that is wrong: one sentence, exit 125.
    Sentence(String),
}

impl RunFlags {
    /// Parses what stands behind `kobj run`; `get` reads a variable.
    pub(crate) fn parse(arguments: &[OsString], get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Refusal> {
        let from_variables =
            if get(COOKIE).is_some() { Vec::new() } else { flags_of_variables(get).map_err(Refusal::Sentence)? };
        let words = |flags: &[OsString]| -> Vec<OsString> {
            std::iter::once(OsString::from("kobj run"))
                .chain(flags.iter().cloned())
                .chain(arguments.iter().cloned())
                .collect()
        };
        match Self::parse_words(words(&from_variables)) {
            Ok(flags) => Ok(flags),
            Err(e) if !e.use_stderr() => Err(Refusal::Shown(e)),
            Err(e) if from_variables.is_empty() || Self::parse_words(words(&[])).is_err() => Err(Refusal::Flags(e)),
            // Without the variables all is well: say which of them is to blame, not the words typed.
            Err(e) => {
                let alone = |wanted: &str| {
                    flags_of_variables(&|name| get(name).filter(|_| name == wanted))
                        .is_ok_and(|flags| Self::parse_words(words(&flags)).is_err())
                };
                let culprit = VARIABLES.iter().map(|(name, ..)| *name).find(|name| alone(name));
                let text = e.to_string();
                let what: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
                let what = what.join(" ");
                let (culprit, what) = (culprit.unwrap_or("a KOBJ_... variable"), what.trim_start_matches("error: "));
                Err(Refusal::Sentence(format!("in {culprit}: {what}")))
            }
        }
    }

    fn parse_words(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut matches = Self::command().try_get_matches_from(words)?;
        Self::from_arg_matches_mut(&mut matches)
    }
}

/// What a run does: flags before variables before the configuration. Everything is checked; nothing is `None` by accident.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// The command and its arguments, exact bytes; never empty.
    pub(crate) command: Vec<OsString>,
    /// What is scrubbed at the end.
    pub(crate) scrub: Scrub,
    /// Report files, in the order asked for.
    pub(crate) reports: Vec<ReportFile>,
    /// JSON on standard error instead of text; stands before `quiet`.
    pub(crate) json: bool,
    /// No text report.
    pub(crate) quiet: bool,
    /// Containment, layers, limits and outputs too.
    pub(crate) verbose: bool,
    /// Evidence in words.
    pub(crate) explain: bool,
    /// `--name`.
    pub(crate) name: Option<String>,
    /// Reported, never touched.
    pub(crate) keep: Vec<Pattern>,
    /// Hidden, never touched.
    pub(crate) ignore: Vec<Pattern>,
    /// Hidden, never touched; empty without `--baseline`.
    pub(crate) baseline: Baseline,
    /// Where the baseline was read from.
    pub(crate) baseline_file: Option<PathBuf>,
    /// Touch nothing, processes included.
    pub(crate) report_only: bool,
    /// The exit code for proved stragglers, where asked for.
    pub(crate) fail_on_stragglers: Option<u8>,
    /// End processes that serve others, too.
    pub(crate) kill_all: bool,
    /// From the first signal to SIGKILL; [`Duration::MAX`] is never.
    pub(crate) kill_after: Duration,
    /// The first signal's number.
    pub(crate) signal: i32,
    /// When the whole job is ended.
    pub(crate) timeout: Option<Duration>,
    /// Plan only.
    pub(crate) dry_run: bool,
    /// Own namespaces.
    pub(crate) isolate: bool,
    /// Further segment folders.
    pub(crate) segment_folders: Vec<PathBuf>,
    /// Further temporary folders.
    pub(crate) temporary_folders: Vec<PathBuf>,
}

impl RunOptions {
    /// Everything that is known before the command starts: flags, variables, configuration, baseline.
    pub(crate) fn load(arguments: &[OsString]) -> Result<Self, Refusal> {
        let get = |name: &str| std::env::var_os(name);
        let flags = RunFlags::parse(arguments, &get)?;
        let config = Config::load(&get).map_err(Refusal::Sentence)?;
        Self::resolve(flags, config).map_err(Refusal::Sentence)
    }

    /// Joins flags and configuration; reads the baseline.
    pub(crate) fn resolve(flags: RunFlags, config: Config) -> Result<Self, String> {
        let patterns = |typed: Vec<OsString>, configured: Vec<String>| -> Result<Vec<Pattern>, String> {
            typed.into_iter().chain(configured.into_iter().map(OsString::from)).map(Pattern::parse).collect()
        };
        let baseline = match &flags.baseline {
            Some(path) => Baseline::read(path)?,
            None => Baseline::default(),
        };
        if flags.command.first().is_none_or(|program| program.is_empty()) {
            return Err("the command is empty; write kobj run -- CMD ARGS".into());
        }
        if flags.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return Err(format!("--name is longer than {NAME_BYTES_MAX} bytes; shorten it"));
        }
        let report_only = flags.report_only || config.report_only;
        let configured = config.scrub.unwrap_or(Scrub::None);
        // A dry run says what --scrub would do, also where nobody asks for it otherwise.
        let untold = if flags.dry_run && configured == Scrub::None { Scrub::Runtime } else { configured };
        if flags.isolate && (report_only || flags.dry_run) {
            let spared = if report_only { "--report-only" } else { "--dry-run" };
            return Err(format!("--isolate ends with all that is inside, so {spared} cannot hold; leave one out"));
        }
        Ok(Self {
            command: flags.command,
            scrub: flags.scrub.unwrap_or(untold),
            reports: flags.report.into_iter().map(ReportFile::parse).collect::<Result<_, _>>()?,
            json: flags.json,
            quiet: flags.quiet || config.quiet,
            verbose: flags.verbose,
            explain: flags.explain || config.explain,
            name: flags.name,
            keep: patterns(flags.keep, config.keep)?,
            ignore: patterns(flags.ignore, config.ignore)?,
            baseline,
            baseline_file: flags.baseline,
            report_only,
            fail_on_stragglers: flags.fail_on_stragglers.or(config.fail_on_stragglers),
            kill_all: flags.kill_all || config.kill_all,
            kill_after: flags.kill_after.or(config.kill_after).unwrap_or(Duration::from_secs(2)),
            signal: flags.signal.or(config.signal).unwrap_or(15),
            timeout: flags.timeout.filter(|timeout| !timeout.is_zero() && *timeout != Duration::MAX),
            dry_run: flags.dry_run,
            isolate: flags.isolate,
            segment_folders: config.segment_folders,
            temporary_folders: config.temporary_folders,
        })
    }
}

/// Prints a refusal; the exit code that goes with it.
pub(crate) fn refuse(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Shown(shown) => match shown.print() {
            Ok(()) => 0,
            Err(_) => exit_code::OWN_FAILURE,
        },
        Refusal::Flags(error) => {
            _ = error.print();
            exit_code::OWN_FAILURE
        }
        Refusal::Sentence(sentence) => {
            crate::tell(&format!("kobj: {}\n", crate::report::escape::for_terminal(sentence.as_bytes())));
            exit_code::OWN_FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_VARIABLES: &dyn Fn(&str) -> Option<OsString> = &|_| None;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    fn parse(list: &[&str]) -> RunFlags {
        RunFlags::parse(&words(list), NO_VARIABLES).unwrap()
    }

    fn parse_with(variables: &[(&str, &str)], list: &[&str]) -> Result<RunFlags, Refusal> {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        RunFlags::parse(&words(list), &get)
    }

    #[test]
    fn the_first_word_that_is_no_flag_starts_the_command() {
        let flags = parse(&["--quiet", "printf", "%s", "--quiet", "--", "-k", "--no-such-flag"]);
        assert!(flags.quiet);
        assert_eq!(flags.command, words(&["printf", "%s", "--quiet", "--", "-k", "--no-such-flag"]));
    }

    #[test]
    fn what_stands_behind_two_dashes_is_the_commands() {
        assert_eq!(parse(&["--", "-x", "--", "", "--scrub"]).command, words(&["-x", "--", "", "--scrub"]));
        assert_eq!(parse(&["--", "--help"]).command, words(&["--help"]));
        assert_eq!(parse(&["true", "--help"]).command, words(&["true", "--help"]));
    }

    #[test]
    fn bytes_that_are_not_utf8_stay_as_they_are() {
        let raw = OsString::from_vec(b"/tmp/\xff".to_vec());
        let list = vec!["--keep".into(), raw.clone(), "cat".into(), raw.clone()];
        let flags = RunFlags::parse(&list, NO_VARIABLES).unwrap();
        assert_eq!(flags.command[1], raw);
        assert_eq!(flags.keep, [raw]);
    }

    #[test]
    fn scrub_takes_a_value_only_with_an_equals_sign() {
        assert_eq!(parse(&["true"]).scrub, None);
        assert_eq!(parse(&["--scrub", "all"]).scrub, Some(Scrub::Runtime));
        assert_eq!(parse(&["--scrub", "all"]).command, words(&["all"]));
        assert_eq!(parse(&["--scrub=all", "true"]).scrub, Some(Scrub::All));
        assert_eq!(parse(&["--scrub=all", "--scrub=none", "true"]).scrub, Some(Scrub::None));
        assert!(RunFlags::parse(&words(&["--scrub=some", "true"]), NO_VARIABLES).is_err());
    }

    #[test]
    fn codes_durations_and_signals_are_read() {
        let flags = parse(&["--fail-on-stragglers", "-k", "1.5m", "-s", "hup", "--timeout=1h", "true"]);
        assert_eq!(flags.fail_on_stragglers, Some(123));
        assert_eq!(flags.kill_after, Some(Duration::from_secs(90)));
        assert_eq!(flags.signal, Some(1));
        assert_eq!(flags.timeout, Some(Duration::from_secs(3_600)));
        assert_eq!(parse(&["--fail-on-stragglers=7", "true"]).fail_on_stragglers, Some(7));
        for wrong in
            [["--fail-on-stragglers=0", "true"], ["--fail-on-stragglers=256", "true"], ["--timeout=-1", "true"]]
        {
            assert!(RunFlags::parse(&words(&wrong), NO_VARIABLES).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn unknown_flags_and_a_missing_command_are_refused() {
        for wrong in [&["--no-such-flag", "--", "true"][..], &["-Z", "true"], &[], &["--quiet"], &["--"]] {
            assert!(matches!(RunFlags::parse(&words(wrong), NO_VARIABLES), Err(Refusal::Flags(_))), "{wrong:?}");
        }
        let empty = RunOptions::resolve(parse(&[""]), Config::default());
        assert!(empty.unwrap_err().contains("empty"));
    }

    #[test]
    fn variables_stand_behind_flags() {
        let variables = [("KOBJ_SCRUB", "all"), ("KOBJ_QUIET", "1"), ("KOBJ_EXPLAIN", "no"), ("KOBJ_KEEP", "a b\nc\n")];
        let flags = parse_with(&variables, &["true"]).unwrap();
        assert_eq!((flags.scrub, flags.quiet, flags.explain), (Some(Scrub::All), true, false));
        assert_eq!(flags.keep, words(&["a b", "c"]));
        assert_eq!(parse_with(&variables, &["--scrub=none", "true"]).unwrap().scrub, Some(Scrub::None));
        assert_eq!(parse_with(&[("KOBJ_SCRUB", "1")], &["true"]).unwrap().scrub, Some(Scrub::Runtime));
        assert_eq!(parse_with(&[("KOBJ_FAIL_ON_STRAGGLERS", "yes")], &["true"]).unwrap().fail_on_stragglers, Some(123));
    }

    #[test]
    fn an_inner_run_ignores_variables() {
        let variables = [("KOBJ_SCRUB", "all"), ("KOBJ_QUIET", "nonsense"), (COOKIE, "x")];
        assert_eq!(parse_with(&variables, &["true"]).unwrap().scrub, None);
    }

    #[test]
    fn a_wrong_variable_is_blamed_not_the_words_typed() {
        for (variable, value) in [("KOBJ_SCRUB", "some"), ("KOBJ_KILL_AFTER", "x"), ("KOBJ_QUIET", "maybe")] {
            match parse_with(&[(variable, value)], &["true"]) {
                Err(Refusal::Sentence(sentence)) => assert!(sentence.contains(variable), "{sentence}"),
                other => panic!("{other:?}"),
            }
        }
        match parse_with(&[("KOBJ_KILL_AFTER", "3s"), ("KOBJ_SCRUB", "some")], &["true"]) {
            Err(Refusal::Sentence(s)) => assert!(s.starts_with("in KOBJ_SCRUB: ") && s.contains("runtime, all"), "{s}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_flag_but_the_one_run_ones_has_a_variable() {
        let without = ["report", "name", "timeout", "baseline", "json", "help", "version", "command"];
        for argument in RunFlags::command().get_arguments() {
            let name = argument.get_id().as_str();
            let variable = format!("KOBJ_{}", name.to_ascii_uppercase());
            let has = VARIABLES.iter().any(|(known, ..)| *known == variable);
            assert_eq!(has, !without.contains(&name), "{name}");
        }
    }

    #[test]
    fn flags_stand_before_the_configuration() {
        let config = || Config {
            scrub: Some(Scrub::All),
            kill_after: Some(Duration::from_secs(9)),
            keep: vec!["segment:*".into()],
            ..Config::default()
        };
        let options = RunOptions::resolve(parse(&["--scrub=none", "true"]), config()).unwrap();
        assert_eq!((options.scrub, options.kill_after), (Scrub::None, Duration::from_secs(9)));
        assert_eq!(options.keep.len(), 1);
        let plain = RunOptions::resolve(parse(&["--timeout=0", "true"]), Config::default()).unwrap();
        assert_eq!((plain.scrub, plain.kill_after, plain.signal), (Scrub::None, Duration::from_secs(2), 15));
        assert_eq!(plain.timeout, None);
    }

    #[test]
    fn a_name_that_no_book_takes_is_refused_before_the_command_starts() {
        let named = |length| {
            let flag = format!("--name={}", "x".repeat(length));
            RunOptions::resolve(parse(&[&flag, "true"]), Config::default())
        };
        assert!(named(NAME_BYTES_MAX).is_ok());
        assert!(named(NAME_BYTES_MAX + 1).unwrap_err().contains("--name"));
    }

    #[test]
    fn a_dry_run_plans_what_scrub_would_do() {
        let planned = |words: &[&str], scrub| {
            RunOptions::resolve(parse(words), Config { scrub, ..Config::default() }).unwrap().scrub
        };
        assert_eq!(planned(&["--dry-run", "true"], None), Scrub::Runtime);
        assert_eq!(planned(&["--dry-run", "true"], Some(Scrub::All)), Scrub::All);
        assert_eq!(planned(&["--dry-run", "true"], Some(Scrub::None)), Scrub::Runtime);
        assert_eq!(planned(&["--dry-run", "--scrub=none", "true"], None), Scrub::None);
    }

    #[test]
    fn a_report_of_unknown_ending_is_refused_before_the_command_starts() {
        let e = RunOptions::resolve(parse(&["--report", "r.yaml", "true"]), Config::default()).unwrap_err();
        assert!(e.contains("r.yaml") && e.contains(".json"), "{e}");
    }
}
