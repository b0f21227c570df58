//! A time as restic writes it: RFC 3339 with nanoseconds, zeros trimmed, in the local zone of the writer, years 0 to 9999.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const SECONDS_OF_DAY: i64 = 86_400;

/// A time and the zone in which it was written.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    seconds: i64,
    nanoseconds: u32,
    /// None is written "Z".
    offset_minutes: Option<i16>,
}

/// The zone in which times are written.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of this process: TZ, else the machine's.
    #[must_use]
    pub fn local() -> Self {
        Self(TimeZone::system())
    }

    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone of this name in the machine's database, for example `Europe/Amsterdam`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    fn offset_seconds(&self, seconds: i64) -> i64 {
        let bounded = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Timestamp::from_second(bounded).map_or(0, |at| i64::from(self.0.to_offset(at).seconds()))
    }
}

impl Time {
    /// The time so many seconds and nanoseconds after 1970 began, as it is written in this zone. A year outside of 0 to 9999
    /// becomes the nearest of these (day and hour stay), as restic does it; an offset of odd seconds loses them,
    /// as Go writes it. So the same time of a file always yields the same `Time`.
    #[must_use]
    pub fn new(seconds: i64, nanoseconds: u32, zone: &Zone) -> Self {
        let offset = zone.offset_seconds(seconds);
        let local = seconds.saturating_add(offset);
        let (year, month, day) = civil_from_days(local.div_euclid(SECONDS_OF_DAY));
        let bounded = year.clamp(0, 9999);
        let local = if bounded == year {
            local
        } else {
            days_from_civil(bounded, month, day) * SECONDS_OF_DAY + local.rem_euclid(SECONDS_OF_DAY)
        };
        // The offset of the new year may be another; what counts is the clock that is written.
        let offset = if bounded == year { offset } else { zone.offset_seconds(local - offset) };
        let offset_minutes = (offset != 0).then(|| i16::try_from(offset / 60).unwrap_or(0));
        let seconds = local - offset_minutes.map_or(0, i64::from) * 60;
        Self { seconds, nanoseconds: nanoseconds.min(999_999_999), offset_minutes }
    }

    /// The time now, in this zone.
    #[must_use]
    pub fn now(zone: &Zone) -> Self {
        let now = Timestamp::now();
        let nanoseconds = u32::try_from(now.as_nanosecond().rem_euclid(1_000_000_000)).unwrap_or(0);
        let seconds = i64::try_from(now.as_nanosecond().div_euclid(1_000_000_000)).unwrap_or(0);
        Self::new(seconds, nanoseconds, zone)
    }

    /// Seconds since 1970 began, and nanoseconds above.
    #[must_use]
    pub fn instant(&self) -> (i64, u32) {
        (self.seconds, self.nanoseconds)
    }

    /// Minutes that the clock of its zone was before UTC.
    #[must_use]
    pub fn offset_minutes(&self) -> i16 {
        self.offset_minutes.unwrap_or(0)
    }

    /// Whether both are the same instant, in whatever zones.
    #[must_use]
    pub fn same_instant(&self, other: &Self) -> bool {
        self.instant() == other.instant()
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar. A 29th of February of a year without one is the 1st of March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl fmt::Display for Time {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset_minutes()) * 60;
        let (year, month, day) = civil_from_days(local.div_euclid(SECONDS_OF_DAY));
        let clock = local.rem_euclid(SECONDS_OF_DAY);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        write!(to, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(to, ".{}", digits.trim_end_matches('0'))?;
        }
        match self.offset_minutes {
            None => to.write_str("Z"),
            Some(offset) => {
                let size = offset.unsigned_abs();
                write!(to, "{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, size / 60, size % 60)
            }
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// A text that is no time of RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATime;

impl fmt::Display for NotATime {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a time is written as 2006-01-02T15:04:05.999999999Z or with +01:00 for Z")
    }
}

impl std::error::Error for NotATime {}

impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Result<i64, NotATime> {
            let digits = bytes.get(from..to).ok_or(NotATime)?;
            digits
                .iter()
                .try_fold(0, |sum, &digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
                .ok_or(NotATime)
        };
        let mark = |at: usize, mark: u8| if bytes.get(at) == Some(&mark) { Ok(()) } else { Err(NotATime) };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        for (at, sign) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
            mark(at, sign)?;
        }
        let days = days_from_civil(year, month, day);
        if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
            return Err(NotATime);
        }
        let mut at = 19;
        let mut nanoseconds = 0;
        if bytes.get(at) == Some(&b'.') {
            let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kept = digits.min(9);
            let power = u32::try_from(9 - kept).map_err(|_| NotATime)?;
            nanoseconds = u32::try_from(number(at + 1, at + 1 + kept)? * 10i64.pow(power)).map_err(|_| NotATime)?;
            if digits == 0 {
                return Err(NotATime);
            }
            at += 1 + digits;
        }
        let offset_minutes = match (bytes.get(at), bytes.len() - at) {
            (Some(b'Z'), 1) => None,
            (Some(sign @ (b'+' | b'-')), 6) => {
                mark(at + 3, b':')?;
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                if hours > 23 || minutes > 59 {
                    return Err(NotATime);
                }
                let size = i16::try_from(hours * 60 + minutes).map_err(|_| NotATime)?;
                Some(if *sign == b'-' { -size } else { size })
            }
            _ => return Err(NotATime),
        };
        let local = days * SECONDS_OF_DAY + hour * 3600 + minute * 60 + second;
        Ok(Self { seconds: local - offset_minutes.map_or(0, i64::from) * 60, nanoseconds, offset_minutes })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Time;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a time of RFC 3339")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_written() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:58.5Z",
            "2009-02-13T23:31:30.123456789Z",
            "0000-01-01T00:19:32+00:19",
            "9999-12-31T20:30:00-03:30",
            "2017-07-14T04:40:01.000000123+02:00",
            "2016-02-29T12:00:00.1Z",
            "1890-01-01T00:00:00+00:00",
        ] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        assert_eq!("1970-01-01T01:00:00.5+01:00".parse::<Time>().unwrap().instant(), (0, 500_000_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00Zx",
            "+970-01-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-01-01T00:00:00é",
        ] {
            assert_eq!(bad.parse::<Time>(), Err(NotATime), "{bad}");
        }
    }

    /// What restic 0.14 and 0.18 wrote for files with these times (seconds since 1970) in these zones.
    #[test]
    fn zones_and_years_are_written_as_restic_writes_them() {
        for (zone, seconds, text) in [
            ("Europe/Amsterdam", 1_500_000_000, "2017-07-14T04:40:00+02:00"),
            ("Europe/Amsterdam", -62_167_219_200, "0000-01-01T00:19:32+00:19"),
            ("Europe/Amsterdam", -62_135_596_800, "0001-01-01T00:19:32+00:19"),
            ("Europe/Amsterdam", 253_402_300_800, "9999-01-01T01:00:00+01:00"),
            ("Europe/Amsterdam", 253_402_300_799, "9999-01-01T00:59:59+01:00"),
            ("Europe/Amsterdam", -2_524_521_600, "1890-01-01T00:19:32+00:19"),
            ("Europe/Amsterdam", 568_971_820_800 + 59 * 86_400, "9999-03-01T01:00:00+01:00"),
            ("Europe/Amsterdam", -62_167_219_201, "0000-01-01T00:19:31+00:19"),
            ("Europe/Amsterdam", -65_320_000_000, "0000-02-03T11:52:52+00:19"),
            ("America/St_Johns", 1_500_000_000, "2017-07-14T00:10:00-02:30"),
            ("America/St_Johns", -62_167_219_200, "0000-12-31T20:29:08-03:30"),
            ("America/St_Johns", -62_135_596_800, "0000-12-31T20:29:08-03:30"),
            ("America/St_Johns", 253_402_300_800, "9999-12-31T20:30:00-03:30"),
            ("America/St_Johns", -62_167_219_201, "0000-12-31T20:29:07-03:30"),
        ] {
            let Some(named) = Zone::named(zone) else {
                println!("skipped: zones_and_years: no time zone {zone} on this machine");
                continue;
            };
            let time = Time::new(seconds, 0, &named);
            assert_eq!(time.to_string(), text, "{zone} {seconds}");
            assert_eq!(text.parse::<Time>().unwrap(), time, "stored and read back it is the same");
        }
        assert_eq!(Time::new(i64::MIN, 0, &Zone::utc()).to_string().len(), 20);
        assert_eq!(Time::new(i64::MAX, u32::MAX, &Zone::utc()).to_string()[..4], *"9999");
    }

    #[test]
    fn the_calendar_is_gregorian() {
        for days in (-1_000_000..3_000_000).step_by(61) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
    }
}
