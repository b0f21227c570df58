//! Cuts at a fixed size, aligned to the file's start: for images, devices and databases, whose blocks change in place.

use crate::error::{Error, Result};

/// The smallest size that may be asked for.
pub const SMALLEST_BYTES: u32 = 64 * 1024;
/// The largest size that may be asked for: no blob of restic's is larger.
pub const LARGEST_BYTES: u32 = 8 * 1024 * 1024;

/// Whether files may be cut at this size: a power of two, 64 KiB to 8 MiB, and not 512 KiB, which cannot be told from the chunks that
/// holes make in ordinary files.
#[must_use]
pub const fn is_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && bytes >= SMALLEST_BYTES && bytes <= LARGEST_BYTES && bytes != 512 * 1024
}

/// The size of `fixed:SIZE`, with K or M (1024s) behind the number.
///
/// # Errors
/// It is none that [`is_size`] allows.
pub fn parse(text: &str) -> Result<u32> {
    let wrong =
        || Error::refused(format!("--chunks={text}"), "write fixed:SIZE with SIZE 64K, 128K, 256K, 1M, 2M, 4M or 8M");
    let size = text.strip_prefix("fixed:").ok_or_else(wrong)?;
    let (digits, unit) = match size.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1024),
        None => size.strip_suffix(['M', 'm']).map_or((size, 1), |digits| (digits, 1024 * 1024)),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).filter(|bytes| is_size(*bytes));
    bytes.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_wrong_ones_refused() {
        assert_eq!(parse("fixed:64K").unwrap(), 65_536);
        assert_eq!(parse("fixed:1m").unwrap(), 1 << 20);
        assert_eq!(parse("fixed:262144").unwrap(), 262_144);
        for bad in
            ["64K", "fixed:", "fixed:512K", "fixed:63K", "fixed:16M", "fixed:4096M", "fixed:-64K", "fixed:99999999999"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
