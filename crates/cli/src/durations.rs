//! GNU durations (`2`, `2s`, `1.5m`, `1h`, `1d`, `infinity`), ages and signal names, as typed on the command line.

use std::time::Duration;

/// Reads a duration: a decimal number and one of the suffixes `s` (or none), `m`, `h`, `d`.
///
/// `infinity` and what does not fit become [`Duration::MAX`].
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write a number and s, m, h or d: 2, 1.5m, 1h");
    if matches!(text, "inf" | "infinity") {
        return Ok(Duration::MAX);
    }
    let (number, unit_s) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1.0),
        Some(b'm') => (&text[..text.len() - 1], 60.0),
        Some(b'h') => (&text[..text.len() - 1], 3_600.0),
        Some(b'd') => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    if !plain || !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(wrong());
    }
    let value: f64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::try_from_secs_f64(value * unit_s).unwrap_or(Duration::MAX))
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Reads a signal: `TERM`, `SIGTERM`, `term` or a number from 1 to 64.
pub(crate) fn parse_signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    match text.parse::<i32>() {
        Ok(number) if (1..=64).contains(&number) => Ok(number),
        _ => Err(format!("'{text}' is not a signal; write a name or number as kill -l lists them: TERM, HUP, 9")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gnu_durations_are_read() {
        let cases = [
            ("0", 0.0),
            ("2", 2.0),
            ("2s", 2.0),
            ("1.5m", 90.0),
            ("1h", 3_600.0),
            ("1d", 86_400.0),
            (".5", 0.5),
            ("1e1", 10.0),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!(parse_duration("infinity"), Ok(Duration::MAX));
        assert_eq!(parse_duration("1e300d"), Ok(Duration::MAX));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "-1", "+1", "1x", "1 s", "nan", "inf s", "0x10", "1ms", "é", "1é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals_go_by_name_and_number() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(parse_signal(text), Ok(15), "{text}");
        }
        for text in ["", "0", "65", "-9", "NOPE", "SIG"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
