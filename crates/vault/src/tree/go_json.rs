//! Texts as Go's `encoding/json` and `strconv.Quote` write them, to the byte: a tree's id is the hash of its JSON.

use super::printable::is_printable;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A text that may hold bytes that are no UTF-8, as restic writes link targets and names of attributes: each such byte became
/// `\ufffd`. Read back, such a byte is 0xff here (what it was is lost), so that it is written the same again;
/// a true U+FFFD stays one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    bytes: Vec<u8>,
    /// Written by Go before 1.22, which knows neither `\b` nor `\f`.
    long_escapes: bool,
}

impl Text {
    /// A text of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, long_escapes: false }
    }

    /// Its bytes; 0xff stands for a byte that is not known any more.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is UTF-8, that is: whether it was written without loss.
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        std::str::from_utf8(&self.bytes).is_ok()
    }

    /// The text as restic reads it: U+FFFD for each byte that was not UTF-8.
    #[must_use]
    pub fn as_read_by_restic(&self) -> String {
        let mut text = String::with_capacity(self.bytes.len());
        for chunk in self.bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        text
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        string(to, &self.bytes, self.long_escapes);
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw: Cow<'de, RawValue> = match <Option<&'de RawValue>>::deserialize(from)? {
            Some(raw) => Cow::Borrowed(raw),
            None => return Ok(Self::default()),
        };
        let raw = raw.get();
        let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let Some(inner) = inner else {
            return Err(D::Error::custom("a text was expected"));
        };
        if !inner.contains('\\') {
            return Ok(Self::new(inner.as_bytes().to_vec()));
        }
        let mut text = Self::default();
        let mut start = 0;
        let mut at = 0;
        while let Some(found) = inner.as_bytes().get(at..).and_then(|rest| rest.iter().position(|&byte| byte == b'\\'))
        {
            at += found;
            let escape = inner.as_bytes().get(at..at + 6).unwrap_or_default();
            if escape == br"\ufffd" {
                text.push_json(&inner[start..at]).map_err(D::Error::custom)?;
                text.bytes.push(0xff);
                start = at + 6;
                at = start;
            } else {
                text.long_escapes |= escape == br"\u0008" || escape == br"\u000c";
                at += 2;
            }
        }
        text.push_json(&inner[start..]).map_err(D::Error::custom)?;
        Ok(text)
    }
}

impl Text {
    fn push_json(&mut self, inner: &str) -> Result<(), serde_json::Error> {
        if !inner.is_empty() {
            self.bytes.extend_from_slice(serde_json::from_str::<String>(&format!("\"{inner}\""))?.as_bytes());
        }
        Ok(())
    }
}

/// Appends a JSON string as Go's `encoding/json` writes one that is safe inside HTML.
pub(super) fn string(to: &mut Vec<u8>, text: &[u8], long_escapes: bool) {
    to.push(b'"');
    for chunk in text.utf8_chunks() {
        valid(to, chunk.valid(), long_escapes);
        for _ in chunk.invalid() {
            to.extend_from_slice(br"\ufffd");
        }
    }
    to.push(b'"');
}

fn valid(to: &mut Vec<u8>, text: &str, long_escapes: bool) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let (length, short) = match byte {
            b'"' | b'\\' => (1, byte),
            b'\n' => (1, b'n'),
            b'\r' => (1, b'r'),
            b'\t' => (1, b't'),
            8 if !long_escapes => (1, b'b'),
            12 if !long_escapes => (1, b'f'),
            0..0x20 | b'<' | b'>' | b'&' => (1, 0),
            // U+2028 and U+2029 end a line in JavaScript.
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => (3, 0),
            _ => continue,
        };
        to.extend_from_slice(&bytes[copied..at]);
        copied = at + length;
        if short != 0 {
            to.extend_from_slice(&[b'\\', short]);
        } else if length == 3 {
            to.extend_from_slice(if bytes[at + 2] == 0xa8 { br"\u2028" } else { br"\u2029" });
        } else {
            to.extend_from_slice(br"\u00");
            to.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    to.extend_from_slice(&bytes[copied..]);
}

/// A name as `strconv.Quote` writes it, without the quotes around.
pub(super) fn quote(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_one(&mut text, character);
        }
        for byte in chunk.invalid() {
            hexadecimal(&mut text, 'x', u32::from(*byte), 2);
        }
    }
    text
}

fn quote_one(to: &mut String, character: char) {
    let code = u32::from(character);
    let short = match character {
        '"' | '\\' => character,
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        _ if is_printable(character) => return to.push(character),
        _ if code < 0x80 => return hexadecimal(to, 'x', code, 2),
        _ if code < 0x1_0000 => return hexadecimal(to, 'u', code, 4),
        _ => return hexadecimal(to, 'U', code, 8),
    };
    to.push('\\');
    to.push(short);
}

fn hexadecimal(to: &mut String, letter: char, value: u32, digits: u32) {
    to.push('\\');
    to.push(letter);
    for place in (0..digits).rev() {
        to.push(char::from_digit((value >> (4 * place)) & 15, 16).unwrap_or('0'));
    }
}

/// The name that a quoted one stands for; none when it is not quoted by Go's rules.
pub(super) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at..].strip_prefix('\\')?;
        let letter = escape.chars().next()?;
        rest = &escape[letter.len_utf8()..];
        let plain = match letter {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' => letter as u8,
            'x' => u8::try_from(number(&mut rest, 2, 16)?).ok()?,
            '0'..='3' => {
                rest = escape;
                u8::try_from(number(&mut rest, 3, 8)?).ok()?
            }
            'u' | 'U' => {
                let code = number(&mut rest, if letter == 'u' { 4 } else { 8 }, 16)?;
                let mut buffer = [0; 4];
                name.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
                continue;
            }
            _ => return None,
        };
        name.push(plain);
    }
    name.extend_from_slice(rest.as_bytes());
    Some(name)
}

fn number(rest: &mut &str, digits: usize, radix: u32) -> Option<u32> {
    let (text, after) = rest.split_at_checked(digits)?;
    *rest = after;
    text.chars().try_fold(0u32, |sum, digit| sum.checked_mul(radix)?.checked_add(digit.to_digit(radix)?))
}

/// Appends a JSON string with these bytes in base64, as Go writes a slice of bytes.
pub(super) fn base64(to: &mut Vec<u8>, bytes: &[u8]) {
    to.push(b'"');
    to.extend_from_slice(crate::base64::encode(bytes).as_bytes());
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8]) -> String {
        let mut to = Vec::new();
        string(&mut to, text, false);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(written(b"a<b>&c"), r#""a\u003cb\u003e\u0026c""#);
        assert_eq!(
            written(b"\x00\x01\x08\x0c\n\r\t\x1f\x7f\"\\/"),
            "\"\\u0000\\u0001\\b\\f\\n\\r\\t\\u001f\x7f\\\"\\\\/\""
        );
        assert_eq!(written("\u{2028}\u{2029}\u{2027}é".as_bytes()), "\"\\u2028\\u2029\u{2027}é\"");
        assert_eq!(written(b"a\xffb\xe2\x82"), r#""a\ufffdb\ufffd\ufffd""#);
        assert_eq!(written("\u{fffd}".as_bytes()), "\"\u{fffd}\"");
    }

    #[test]
    fn names_are_quoted_and_come_back() {
        for (name, quoted) in [
            (&b"plain"[..], "plain"),
            (b"\x01\x07\x08\x0b\x0c\n\r\t\x1b\x7f", "\\x01\\a\\b\\v\\f\\n\\r\\t\\x1b\\x7f"),
            (b"q\"b\\s'", "q\\\"b\\\\s'"),
            (b"\xff\xc3", "\\xff\\xc3"),
            (
                "\u{80}\u{a0}\u{ad}\u{feff}\u{e0041}é\u{1fae8}".as_bytes(),
                "\\u0080\\u00a0\\u00ad\\ufeff\\U000e0041é\u{1fae8}",
            ),
        ] {
            assert_eq!(quote(name), quoted);
            assert_eq!(unquote(quoted).unwrap(), name, "{quoted}");
        }
        for every in 0..=255u8 {
            assert_eq!(unquote(&quote(&[every, b'x'])).unwrap(), [every, b'x']);
        }
    }

    #[test]
    fn what_go_does_not_unquote_is_refused() {
        for bad in
            ["\\", "\"", "\\x1", "\\xg0", "\\ud800", "\\U00110000", "\\q", "\\'", "\\400", "\\+12", "a\nb", "\\xé"]
        {
            assert_eq!(unquote(bad), None, "{bad}");
        }
        assert_eq!(unquote("\\101\\u0041").unwrap(), b"AA");
    }

    #[test]
    fn texts_keep_what_can_be_kept() {
        for json in [
            r#""a\ufffdb""#,
            "\"\u{fffd}\"",
            r#""\\ufffd""#,
            r#""\b\f""#,
            r#""\u0008\u000c""#,
            r#""\\u0008\b""#,
            "\"\"",
            r#""\"""#,
        ] {
            let text: Text = serde_json::from_str(json).unwrap();
            let mut to = Vec::new();
            text.write(&mut to);
            assert_eq!(String::from_utf8(to).unwrap(), json);
        }
        assert_eq!(serde_json::from_str::<Text>(r#""a\ufffdb""#).unwrap().as_read_by_restic(), "a\u{fffd}b");
        assert!(serde_json::from_str::<Text>("17").is_err());
    }
}
