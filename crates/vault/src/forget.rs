//! Which snapshots a retention policy keeps, and when it must not be followed without asking.
//!
//! The rules are restic's (`forget --keep-…`, version 0.18): the newest of each hour, day, ISO week, month and year by
//! the snapshot's own recorded offset, the oldest of all while a count is not used up. Ours beyond them: an incomplete
//! snapshot never takes the place of a complete one, a policy that keeps nothing of a group is refused, and so is one
//! whose outcome rests on dates that cannot be right.

use jiff::{Span, Zoned};
use std::fmt;

/// How many snapshots of one sort a policy keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// None for this reason.
    #[default]
    None,
    /// At most so many.
    Count(u32),
    /// Every one.
    All,
}

impl Keep {
    const fn is_left(self) -> bool {
        matches!(self, Self::All | Self::Count(1..))
    }

    const fn spend(&mut self) {
        if let Self::Count(left) = self {
            *left = left.saturating_sub(1);
        }
    }
}

/// What a snapshot is one of, by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Each snapshot is its own.
    Last,
    /// One an hour.
    Hourly,
    /// One a day.
    Daily,
    /// One an ISO week.
    Weekly,
    /// One a month.
    Monthly,
    /// One a year.
    Yearly,
}

impl Period {
    /// All of them, from the finest.
    pub const ALL: [Self; 6] = [Self::Last, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// As restic's reasons and options call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// Equal for two snapshots exactly if they are of the same hour, day and so on; `place` is the snapshot's in the list.
    fn of(self, time: &Zoned, place: usize) -> [i64; 3] {
        let (year, month, day) = (i64::from(time.year()), i64::from(time.month()), i64::from(time.day()));
        match self {
            Self::Last => [i64::try_from(place).unwrap_or(i64::MAX), 0, 0],
            Self::Hourly => [year, month * 100 + day, i64::from(time.hour())],
            Self::Daily => [year, month, day],
            Self::Weekly => {
                let week = time.date().iso_week_date();
                [i64::from(week.year()), i64::from(week.week()), 0]
            }
            Self::Monthly => [year, month, 0],
            Self::Yearly => [year, 0, 0],
        }
    }
}

/// What is to be kept.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    counts: [Keep; 6],
    within: [Option<Span>; 6],
    tags: Vec<Vec<String>>,
}

impl Policy {
    /// Keeps so many of the period (`--keep-daily 7`).
    #[must_use]
    pub const fn keep(mut self, period: Period, keep: Keep) -> Self {
        self.counts[period as usize] = keep;
        self
    }

    /// Keeps one of each period as long as it is younger than the newest snapshot less the span (`--keep-within-daily
    /// 7d`); [`Period::Last`] keeps every one (`--keep-within`).
    #[must_use]
    pub const fn keep_within(mut self, period: Period, span: Span) -> Self {
        self.within[period as usize] = Some(span);
        self
    }

    /// Keeps every snapshot that has all of these tags (`--keep-tag a,b`).
    #[must_use]
    pub fn keep_tagged(mut self, tags: Vec<String>) -> Self {
        self.tags.push(tags);
        self
    }

    /// Whether it asks for nothing to be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let counts = self.counts.iter().any(|keep| *keep != Keep::None);
        !counts && self.within.iter().all(Option::is_none) && self.tags.is_empty()
    }
}

/// A snapshot as a policy sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// When it was made, in the zone or offset that was recorded.
    pub time: Zoned,
    /// Its tags.
    pub tags: Vec<String>,
}

/// The tag of a snapshot that lacks what could not be read.
pub const INCOMPLETE: &str = "kobj:incomplete";

impl Candidate {
    fn has_tags(&self, tags: &[String]) -> bool {
        tags.iter().all(|tag| self.tags.contains(tag))
    }

    fn is_complete(&self) -> bool {
        !self.tags.iter().any(|tag| tag == INCOMPLETE)
    }
}

/// Why a policy is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It keeps nothing at all.
    EmptyPolicy,
    /// It keeps nothing of this group.
    EmptiesGroup,
    /// A snapshot is dated in the future: the clock was or is wrong.
    Future {
        /// Its time.
        time: String,
    },
    /// The newest snapshots came far faster than the others, so that counts would push the older ones out.
    Dense {
        /// How many of the newest.
        newest: usize,
        /// The usual distance, seconds.
        usual_seconds: i64,
        /// Theirs, seconds.
        theirs_seconds: i64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPolicy => {
                to.write_str("the policy keeps nothing: name what to keep, such as --keep-daily 7 or --keep-last 3")
            }
            Self::EmptiesGroup => to.write_str(
                "the policy keeps no snapshot of this group: keep more, or forget its snapshots by naming their ids",
            ),
            Self::Future { time } => write!(
                to,
                "a snapshot is dated {time}, in the future: it would count as the newest. Look at the clock and the \
                 snapshot; --yes goes on"
            ),
            Self::Dense { newest, usual_seconds, theirs_seconds } => write!(
                to,
                "the newest {newest} snapshots lie {theirs_seconds} s apart, where {usual_seconds} s are usual: they \
                 would push older ones out. Look at them; --yes goes on"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a policy does with one snapshot; the reasons are empty if it is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is kept, as restic words it.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Whether it stays.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Judges the snapshots of one group; the verdicts stand in the order of the candidates.
///
/// # Errors
/// [`Refusal::EmptyPolicy`] and [`Refusal::EmptiesGroup`], whatever was said; without `is_sure` also what the dates say.
pub fn judge(group: &[Candidate], policy: &Policy, now: &Zoned, is_sure: bool) -> Result<Vec<Verdict>, Refusal> {
    if policy.is_empty() {
        return Err(Refusal::EmptyPolicy);
    }
    if !is_sure {
        doubt(group, policy, now)?;
    }
    let newest_first = |wanted: &dyn Fn(&Candidate) -> bool| {
        let mut places: Vec<usize> = (0..group.len()).filter(|place| wanted(&group[*place])).collect();
        places.sort_by(|a, b| group[*b].time.timestamp().cmp(&group[*a].time.timestamp()).then(a.cmp(b)));
        places
    };
    let mut verdicts = vec![Verdict { reasons: Vec::new() }; group.len()];
    // Complete ones are judged as if there were no others: an incomplete one takes no place.
    for (place, reasons) in apply(group, &newest_first(&Candidate::is_complete), policy) {
        verdicts[place].reasons = reasons;
    }
    for (place, reasons) in apply(group, &newest_first(&|_| true), policy) {
        if !group[place].is_complete() {
            verdicts[place].reasons = reasons;
        }
    }
    if !group.is_empty() && !verdicts.iter().any(Verdict::is_kept) {
        return Err(Refusal::EmptiesGroup);
    }
    Ok(verdicts)
}

/// restic's rules over the listed places, newest first.
fn apply(group: &[Candidate], places: &[usize], policy: &Policy) -> Vec<(usize, Vec<String>)> {
    let Some(newest) = places.first().map(|place| &group[*place].time) else { return Vec::new() };
    let mut counts = policy.counts;
    let mut seen: [Option<[i64; 3]>; 6] = [None; 6];
    let mut seen_within: [Option<[i64; 3]>; 6] = [None; 6];
    let mut verdicts = Vec::with_capacity(places.len());
    for (nth, place) in places.iter().enumerate() {
        let candidate = &group[*place];
        let is_oldest = nth + 1 == places.len();
        let mut reasons = Vec::new();
        for tags in policy.tags.iter().filter(|tags| candidate.has_tags(tags)) {
            reasons.push(format!("has tags [{}]", tags.join(", ")));
        }
        for period in Period::ALL {
            let key = period.of(&candidate.time, nth);
            let is_new = seen[period as usize] != Some(key);
            if counts[period as usize].is_left() && (is_new || is_oldest) {
                let oldest = if is_new { "" } else { "oldest " };
                reasons.push(format!("{oldest}{} snapshot", period.name()));
                seen[period as usize] = Some(key);
                counts[period as usize].spend();
            }
            let Some(span) = policy.within[period as usize] else { continue };
            let is_within = newest.checked_sub(span).is_ok_and(|since| candidate.time > since);
            if is_within && (seen_within[period as usize] != Some(key) || is_oldest) {
                let what = if period == Period::Last { String::new() } else { format!("{} ", period.name()) };
                reasons.push(format!("{what}within {span:#}"));
                seen_within[period as usize] = Some(key);
            }
        }
        verdicts.push((*place, reasons));
    }
    verdicts
}

/// How many of the newest are looked at for their distance.
const NEWEST: usize = 8;
/// How many times closer than usual is too close.
const CLOSER: i64 = 20;
/// Minutes past now that a clock may differ.
const CLOCK_MINUTES: i64 = 10;

/// Refuses dates that cannot be right.
fn doubt(group: &[Candidate], policy: &Policy, now: &Zoned) -> Result<(), Refusal> {
    let mut seconds: Vec<i64> = group.iter().map(|candidate| candidate.time.timestamp().as_second()).collect();
    let latest = now.timestamp().as_second().saturating_add(CLOCK_MINUTES * 60);
    if let Some(candidate) = group.iter().find(|candidate| candidate.time.timestamp().as_second() > latest) {
        return Err(Refusal::Future { time: candidate.time.strftime("%Y-%m-%d %H:%M:%S").to_string() });
    }
    let counts = policy.counts.iter().any(|keep| matches!(keep, Keep::Count(_)));
    if !counts || seconds.len() < 3 * NEWEST {
        return Ok(());
    }
    seconds.sort_unstable_by_key(|second| std::cmp::Reverse(*second));
    let distances: Vec<i64> = seconds.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let (newest, others) = distances.split_at(NEWEST);
    let (theirs_seconds, usual_seconds) = (median(newest), median(others));
    if theirs_seconds.saturating_mul(CLOSER) < usual_seconds {
        return Err(Refusal::Dense { newest: NEWEST, usual_seconds, theirs_seconds });
    }
    Ok(())
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;

    fn at(text: &str) -> Zoned {
        format!("{text}[UTC]").parse().unwrap()
    }

    fn candidate(text: &str) -> Candidate {
        Candidate { time: at(text), tags: Vec::new() }
    }

    fn tagged(text: &str, tag: &str) -> Candidate {
        Candidate { tags: vec![tag.into()], ..candidate(text) }
    }

    fn kept(group: &[Candidate], policy: &Policy) -> Vec<usize> {
        let verdicts = judge(group, policy, &at("2030-01-01T00:00:00"), true).unwrap();
        (0..group.len()).filter(|place| verdicts[*place].is_kept()).collect()
    }

    #[test]
    fn the_newest_of_each_period_stays_and_the_oldest_while_a_count_is_left() {
        let times = ["2024-01-01T23:30:00", "2024-01-02T00:30:00", "2024-01-02T05:00:00", "2024-01-02T05:10:00"];
        let group: Vec<Candidate> = times.iter().map(|time| candidate(time)).collect();
        let policy = |period, keep| Policy::default().keep(period, keep);
        assert_eq!(kept(&group, &policy(Period::Daily, Keep::Count(5))), [0, 3]);
        assert_eq!(kept(&group, &policy(Period::Daily, Keep::Count(1))), [3]);
        assert_eq!(kept(&group, &policy(Period::Hourly, Keep::All)), [0, 1, 3]);
        assert_eq!(kept(&group, &policy(Period::Last, Keep::Count(2))), [2, 3]);
        let verdicts =
            judge(&group, &policy(Period::Yearly, Keep::Count(2)), &at("2030-01-01T00:00:00"), true).unwrap();
        assert_eq!(verdicts[0].reasons, ["oldest yearly snapshot"]);
        assert_eq!(verdicts[3].reasons, ["yearly snapshot"]);
    }

    #[test]
    fn days_are_those_of_the_recorded_offset_and_weeks_are_iso_weeks() {
        let with = |text: &str| Candidate { time: text.parse().unwrap(), tags: Vec::new() };
        // The same three instants: one day in New York, two in UTC.
        let new_york = ["2024-01-01T10:00:00", "2024-01-01T18:30:00", "2024-01-01T19:30:00"];
        let new_york = new_york.map(|text| with(&format!("{text}-05:00[-05:00]")));
        let utc = ["2024-01-01T15:00:00", "2024-01-01T23:30:00", "2024-01-02T00:30:00"].map(candidate);
        let daily = Policy::default().keep(Period::Daily, Keep::All);
        assert_eq!(kept(&new_york, &daily), [0, 2]);
        assert_eq!(kept(&utc, &daily), [0, 1, 2]);
        let year =
            [candidate("2024-12-29T12:00:00"), candidate("2024-12-30T12:00:00"), candidate("2025-01-05T12:00:00")];
        // 30 December 2024 and 5 January 2025 are of week 1 of 2025.
        let weekly = Policy::default().keep(Period::Weekly, Keep::Count(9));
        assert_eq!(kept(&year, &weekly), [0, 2]);
    }

    #[test]
    fn within_counts_from_the_newest_snapshot_and_tags_keep() {
        let group = [
            tagged("2024-01-01T00:00:00", "first"),
            candidate("2024-03-01T00:00:00"),
            candidate("2024-03-03T00:00:00"),
            candidate("2024-03-03T01:00:00"),
        ];
        assert_eq!(kept(&group, &Policy::default().keep_within(Period::Last, 2.days())), [2, 3]);
        assert_eq!(kept(&group, &Policy::default().keep_within(Period::Daily, 3.days())), [1, 3]);
        let tag = Policy::default().keep_tagged(vec!["first".into()]);
        assert_eq!(kept(&group, &tag), [0]);
        assert_eq!(kept(&group, &tag.keep_within(Period::Yearly, 1.years())), [0, 3]);
    }

    #[test]
    fn an_incomplete_snapshot_never_takes_the_place_of_a_complete_one() {
        let group = [
            candidate("2024-01-01T00:00:00"),
            candidate("2024-01-02T00:00:00"),
            tagged("2024-01-03T00:00:00", INCOMPLETE),
            tagged("2024-01-04T00:00:00", INCOMPLETE),
        ];
        assert_eq!(kept(&group, &Policy::default().keep(Period::Last, Keep::Count(1))), [1, 3]);
        assert_eq!(kept(&group, &Policy::default().keep(Period::Last, Keep::Count(2))), [0, 1, 2, 3]);
        assert_eq!(kept(&group[..3], &Policy::default().keep(Period::Yearly, Keep::Count(1))), [1, 2]);
    }

    #[test]
    fn what_would_keep_nothing_is_refused_and_so_are_dates_that_cannot_be_right() {
        let now = at("2024-02-01T00:00:00");
        let last = Policy::default().keep(Period::Last, Keep::Count(3));
        let group = [candidate("2024-01-01T00:00:00")];
        assert_eq!(judge(&group, &Policy::default(), &now, true), Err(Refusal::EmptyPolicy));
        let zero = Policy::default().keep(Period::Last, Keep::Count(0));
        assert_eq!(judge(&group, &zero, &now, true), Err(Refusal::EmptiesGroup));
        let other = Policy::default().keep_tagged(vec!["none".into()]);
        assert_eq!(judge(&group, &other, &now, true), Err(Refusal::EmptiesGroup));
        assert!(judge(&[], &last, &now, false).is_ok());

        let future = [candidate("2024-02-01T00:11:00")];
        assert!(matches!(judge(&future, &last, &now, false), Err(Refusal::Future { .. })));
        assert!(judge(&future, &last, &now, true).is_ok());

        let daily = |day: i64| Candidate { time: &now - (40 - day).days(), tags: Vec::new() };
        let mut group: Vec<Candidate> = (0..30).map(daily).collect();
        assert!(judge(&group, &last, &now, false).is_ok());
        group.extend((0..9).map(|n: i64| Candidate { time: &now - (60 * n).seconds(), tags: Vec::new() }));
        assert!(matches!(judge(&group, &last, &now, false), Err(Refusal::Dense { .. })));
        assert!(judge(&group, &last, &now, true).is_ok());
        let within = Policy::default().keep_within(Period::Last, 90.days());
        assert!(judge(&group, &within, &now, false).is_ok());
    }
}
