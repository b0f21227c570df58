//! Times as the report writes them: RFC 3339, UTC, microseconds.

use kobj_core::image::Time;

/// `2026-11-24T06:05:18.000001Z`.
pub(crate) fn print(time: Time) -> String {
    let seconds = time.0.div_euclid(1_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", time.0.rem_euclid(1_000_000))
}

/// Reads exactly what [`print()`] writes.
pub(crate) fn parse(text: &str) -> Option<Time> {
    let digits = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok().map(i64::from);
    let year_end = text.len().checked_sub(23)?;
    let (year, rest) = (digits(0, year_end)?, year_end);
    let days = days_from_civil(year, digits(rest + 1, rest + 3)?, digits(rest + 4, rest + 6)?);
    let seconds =
        digits(rest + 7, rest + 9)? * 3_600 + digits(rest + 10, rest + 12)? * 60 + digits(rest + 13, rest + 15)?;
    let micros = digits(rest + 16, rest + 22)?;
    let time = Time(days.checked_mul(86_400)?.checked_add(seconds)?.checked_mul(1_000_000)?.checked_add(micros)?);
    (print(time) == text).then_some(time)
}

/// Now, by the system's clock.
pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Year, month and day of a day number counted from 1970-01-01 (proleptic Gregorian calendar).
fn civil(day_number: i64) -> (i64, i64, i64) {
    let z = day_number + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// The inverse of [`civil`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_and_read() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_500_318_000_001, "2026-11-24T06:05:18.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ];
        for (micros, text) in cases {
            assert_eq!(print(Time(micros)), text);
            assert_eq!(parse(text), Some(Time(micros)));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for wrong in
            ["", "2026-11-24", "2026-02-30T00:00:00.000000Z", "2026-11-24T06:05:18Z", "2026-11-24T24:00:00.000000Z"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse("é026-11-24T06:05:18.000001Z"), None);
        assert_eq!(parse(&"9".repeat(60)), None);
    }
}
