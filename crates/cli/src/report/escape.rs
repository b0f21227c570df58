//! Names on their way to people: nothing a stranger chose may drive the terminal, break a line or hide.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is written as it is: printable, not a control, not invisible, not one that reorders text.
fn is_plain(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !hidden && c != '\\'
}

/// The bytes as text for a terminal: `\n`, `\t`, `\r`, `\\`, `\x1b` for other bytes, `\u{202e}` for hidden characters.
pub(crate) fn for_terminal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\\' => text.push_str("\\\\"),
                c if is_plain(c) => text.push(c),
                c if c.is_ascii() => _ = write!(text, "\\x{:02x}", c as u32),
                c => _ = write!(text, "\\u{{{:x}}}", c as u32),
            }
        }
        for byte in chunk.invalid() {
            _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A command that kobj wrote, quoted for the shell: every character of it is printable, and it is shown as it is. In a
/// report that somebody else wrote it may be anything.
pub(crate) fn for_terminal_if_needed(command: &str) -> Cow<'_, str> {
    if command.chars().all(|c| is_plain(c) || c == '\\') {
        Cow::Borrowed(command)
    } else {
        Cow::Owned(for_terminal(command.as_bytes()))
    }
}

/// The bytes as one word of a shell command (sh where they are plain, else `$'...'` as bash, zsh and ksh read it).
pub(crate) fn for_shell(bytes: &[u8]) -> String {
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(b);
    if !bytes.is_empty() && bytes.iter().all(safe) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.chars().all(|c| is_plain(c) || c == '\\')
    {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut word = String::from("$'");
    for byte in bytes {
        match byte {
            b'\'' | b'\\' => _ = write!(word, "\\{}", *byte as char),
            0x20..=0x7e => word.push(*byte as char),
            // Octal has a fixed length, so a digit that follows is never read as part of it.
            _ => _ = write!(word, "\\{byte:03o}"),
        }
    }
    word.push('\'');
    word
}

/// Text inside an XML attribute or element; what XML 1.0 cannot hold at all was escaped as for a terminal before.
pub(crate) fn for_xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => _ = write!(out, "\\u{{{:x}}}", c as u32),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_drive_the_terminal() {
        assert_eq!(for_terminal(b"a\x1b[2J\n\x07\xff\\b"), "a\\x1b[2J\\n\\x07\\xff\\\\b");
        assert_eq!(for_terminal("x\u{202e}y\u{9b}z\u{200b}".as_bytes()), "x\\u{202e}y\\u{9b}z\\u{200b}");
        assert_eq!(for_terminal("größe 面".as_bytes()), "größe 面");
    }

    #[test]
    fn a_shell_reads_back_the_same_bytes() {
        let names: [&[u8]; 8] = [
            b"/dev/shm/psm_1a2b",
            b"",
            b"a b",
            b"it's",
            b"$(reboot)`x`",
            b"line\nbreak\x1b[0m7",
            b"\xff\\'7",
            "ü \\".as_bytes(),
        ];
        for name in names {
            let command = format!("printf %s {}", for_shell(name));
            let output = std::process::Command::new("bash").arg("-c").arg(&command).output().unwrap();
            assert_eq!(output.stdout, name, "{command}");
        }
    }

    #[test]
    fn xml_is_well_formed_whatever_the_name() {
        assert_eq!(for_xml("<a & \"b\">\u{1}"), "&lt;a &amp; &quot;b&quot;&gt;\\u{1}");
    }
}
