//! Base64 as JSON carries bytes: the standard alphabet, padded (RFC 4648, section 4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of these bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The bytes of a text, if it is one of at most `most_bytes` bytes. Bits behind the last byte must be zero.
pub(crate) fn decode(text: &str, most_bytes: usize) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(4) || digits.len() / 4 * 3 > most_bytes.saturating_add(2) {
        return None;
    }
    let padding = digits.iter().rev().take_while(|digit| **digit == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let mut word = 0_u32;
    for (at, digit) in digits.iter().enumerate() {
        let value = if at + padding >= digits.len() { 0 } else { value_of(*digit)? };
        word = word << 6 | value;
        if at % 4 == 3 {
            bytes.extend_from_slice(&word.to_be_bytes()[1..]);
            word = 0;
        }
    }
    let rest = bytes.split_off(bytes.len() - padding);
    (rest.iter().all(|byte| *byte == 0) && bytes.len() <= most_bytes).then_some(bytes)
}

fn value_of(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text, 6).as_deref(), Some(plain.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all), 256), Some(all.clone()));
        assert_eq!(decode(&encode(&all), 255), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in ["Z", "Zg", "Zg=", "Zg===", "====", "Z===", "Zh==", "Zm9=Zm9v", "Zm9v\n", "Zm-v", "Zm 9"] {
            assert_eq!(decode(bad, 100), None, "{bad}");
        }
    }
}
