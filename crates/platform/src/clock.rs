//! The time of the kernel's last tick.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since 1970 at the kernel's last tick (1 to 10 ms ago); `None` past the year 292,277.
#[inline]
#[must_use]
pub fn tick_us() -> Option<i64> {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    time.tv_sec.checked_mul(1_000_000)?.checked_add(time.tv_nsec / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_tick_is_near_the_time() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let tick = tick_us().unwrap();
        assert!((now - tick).abs() < 10_000_000, "{now} {tick}");
    }
}
