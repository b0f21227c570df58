//! Hostile bytes for every reader of this room that meets foreign ones: reports, filters, patterns, identities, durations.
//!
//! What is read is made of good samples that were cut, repeated and changed. The seed is printed; `KOBJ_HOSTILE_SEED=N`
//! runs it again.

use crate::commands::filter::Filter;
use crate::commands::listing::Cell;
use crate::durations::{parse_duration, parse_signal};
use crate::patterns::{Pattern, any_matches};
use crate::report::identity::IdentityText;
use crate::report::schema::Report;
use crate::report::text::{Style, render};
use crate::report::{base64, junit, samples, time};
use kobj_abi::HostKind;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Inputs that each reader gets.
const INPUTS: usize = 3_000;

/// Random numbers by xorshift.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let clock = std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64);
        let given = std::env::var("KOBJ_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(clock).max(1);
        println!("{test}: KOBJ_HOSTILE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most.max(1)
    }

    /// One of the samples with up to four changes.
    fn mutant(&mut self, samples: &[&[u8]]) -> Vec<u8> {
        const TOKENS: [&[u8]; 14] = [
            b"(",
            b")",
            b"\"",
            b"\\",
            b"[",
            b"]",
            b"{",
            b"-",
            b"*",
            b"9999999999999999999",
            b"\0",
            b"\xff",
            b" not ",
            b"=",
        ];
        let mut bytes = samples[self.below(samples.len())].to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = at + self.below(bytes.len() - at + 1);
            match self.below(4) {
                0 => drop(bytes.drain(at..end)),
                1 => {
                    let piece = TOKENS[self.below(TOKENS.len())].repeat(1 + self.below(300) / 100 * 100);
                    bytes.splice(at..at, piece);
                }
                2 if bytes.len() < 100_000 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let byte = self.below(256) as u8;
                    bytes.iter_mut().skip(at).take(1).for_each(|place| *place = byte);
                }
            }
        }
        bytes
    }

    fn text(&mut self, samples: &[&str]) -> String {
        let samples: Vec<&[u8]> = samples.iter().map(|sample| sample.as_bytes()).collect();
        String::from_utf8_lossy(&self.mutant(&samples)).into_owned()
    }
}

#[test]
fn hostile_reports_are_errors_or_reports_that_can_be_written() {
    let mut random = Random::new("reports");
    let good = [samples::train().to_json(), samples::hostile().to_line()];
    let good: Vec<&[u8]> = good.iter().map(|text| text.as_bytes()).collect();
    let mut read = 0;
    for _ in 0..INPUTS {
        let Ok(report) = Report::from_json(&random.mutant(&good)) else { continue };
        read += 1;
        assert_eq!(Report::from_json(report.to_json().as_bytes()), Ok(report.clone()));
        let all = Style { explain: true, verbose: true, ..Style::PLAIN };
        for text in [render(&report, all), junit::render(&report)] {
            let through = text.lines().find(|line| line.bytes().any(|byte| byte < b' '));
            assert_eq!(through, None, "a control character got through");
        }
    }
    assert!(read > INPUTS / 100, "only {read} of {INPUTS} were read: the samples prove little");
    assert!(Report::from_json(&b"[".repeat(1_000_000)).is_err(), "deep nesting");
}

#[test]
fn hostile_filters_are_errors_or_choose() {
    let mut random = Random::new("filters");
    let good = ["KIND == segment and (SIZE > 64M or NAME =~ '^/dev/shm/psm_')", "not NAME !~ \"a+b\"", "SIZE <= 1.5G"];
    let row = [Cell::Text(b"segment".to_vec()), Cell::Size(70 << 20), Cell::Text(b"/dev/shm/psm_\xff".to_vec())];
    for _ in 0..INPUTS {
        if let Ok(filter) = Filter::parse(&random.text(&good), &["KIND", "SIZE", "NAME"]) {
            let _ = (filter.chooses(&row), filter.chooses(&[]));
        }
    }
    for deep in ["(".repeat(1_000_000), "not ".repeat(1_000_000)] {
        assert!(Filter::parse(&deep, &["KIND"]).is_err(), "deep nesting");
    }
}

#[test]
fn hostile_words_are_errors_or_what_they_say() {
    let mut random = Random::new("words");
    for _ in 0..INPUTS {
        let _ = parse_duration(&random.text(&["1.5m", "2", "3h", "0.000001s", "1e3d", "infinity"]));
        let _ = parse_signal(&random.text(&["TERM", "SIGKILL", "15", "RTMIN+3"]));
        let identity = random.text(&["file-1b-797f0c-8e4102c9-661026b2a8909", "id-d38000-0-0", "pid-1267-1e5f"]);
        if let Ok(read) = IdentityText::parse(&identity) {
            assert_eq!(read.to_string(), identity);
        }
        let moment = random.text(&["2026-11-24T06:05:18.000001Z", "-0001-01-01T00:00:00.000000Z"]);
        if let Some(read) = time::parse(&moment) {
            assert_eq!(time::print(read), moment);
        }
        let bytes = random.mutant(&[b"any bytes\xff"]);
        assert_eq!(base64::decode(&base64::encode(&bytes)), Some(bytes));
        let _ = base64::decode(&random.text(&["AAECAw==", "/+8="]));
    }
}

#[test]
fn hostile_patterns_are_errors_or_match() {
    let mut random = Random::new("patterns");
    for _ in 0..INPUTS {
        let text = random.mutant(&[b"segment:/dev/shm/psm_*", b"[!a-z]?\\*", b"*a*b*c*"]);
        if let Ok(pattern) = Pattern::parse(OsString::from_vec(text)) {
            let name = random.mutant(&[b"/dev/shm/psm_1a2b", b"aaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbb"]);
            let _ = any_matches(&[pattern], HostKind::Segment, &name);
        }
    }
}
