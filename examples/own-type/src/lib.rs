//! A timeline, as GPU drivers have them: a number that only rises, and that many read.
#![forbid(unsafe_code)]

use kobj::{Koid, ObjectType, Refused, Rights};
use std::sync::atomic::{AtomicU64, Ordering};

/// The type. Its objects are made with [`kobj::Caller::create`].
#[derive(Debug)]
pub struct Timeline;

/// What an object of it consists of: at most 64 bytes; what is larger goes behind a box.
#[derive(Debug)]
pub struct Points {
    reached: AtomicU64,
    last: u64,
}

/// A right of the type's own: to move the timeline on.
pub const ADVANCE: Rights = Rights::from_bits(1 << 16);

impl ObjectType for Timeline {
    const TAG: [u8; 4] = *b"TIML";
    const NAME: &'static str = "timeline";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC.union(ADVANCE);
    type State = Points;

    fn create(points: &Points) -> Result<(), Refused> {
        if points.last == 0 { Err(Refused) } else { Ok(()) }
    }

    fn destroy(koid: Koid, points: &Points) {
        println!("timeline {koid} ended at {} of {}", points.reached.load(Ordering::Relaxed), points.last);
    }
}

impl Points {
    /// Points up to `last`, which is more than 0, none of them reached.
    #[must_use]
    pub fn new(last: u64) -> Self {
        Self { reached: AtomicU64::new(0), last }
    }

    /// Moves on to a point, never back and never past the last one; gives where it stands then.
    pub fn advance(&self, to: u64) -> u64 {
        let to = to.min(self.last);
        self.reached.fetch_max(to, Ordering::AcqRel).max(to)
    }

    /// Where it stands.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }
}
