//! Passwords: where they come from, and that they are wiped when no longer needed.

use crate::crypto::Secret;
use crate::error::{Error, Result};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Longest password that is taken from a file or a command.
const LENGTH_MOST: usize = 64 * 1024;

/// A password, wiped when dropped and never printed.
#[derive(Clone)]
pub struct Password(Secret);

impl Password {
    /// These bytes as they are: what a person typed, or what an environment variable holds.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// What a file holds, without white space around it (as restic reads it).
    ///
    /// # Errors
    /// Those of the operating system; an empty or unreasonably long file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let object = path.display();
        let file = std::fs::File::open(path).map_err(|error| Error::io("read the password from", object, error))?;
        let text = read_bounded(file).map_err(|error| Error::io("read the password from", path.display(), error))?;
        trimmed(&text, &format!("password file {}", path.display()))
    }

    /// What a command prints, without white space around it. The command is split into words as a shell does, and run
    /// without one; what it says on standard error goes to ours.
    ///
    /// # Errors
    /// A command that cannot be run, fails, or prints nothing.
    pub fn from_command(command: &str) -> Result<Self> {
        let object = "the password command";
        let words = split_words(command).ok_or_else(|| Error::refused(object, "a quote in it is not closed"))?;
        let (program, arguments) = words.split_first().ok_or_else(|| Error::refused(object, "it is empty"))?;
        let failed = |error| Error::io("run", object, error);
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        let text = child.stdout.take().map_or_else(|| Ok(Secret::default()), read_bounded);
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(Error::refused(object, format_args!("it failed ({status})")));
        }
        trimmed(&text.map_err(failed)?, object)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Password(..)")
    }
}

/// All of it, into a buffer that never moves (growing would leave copies behind).
fn read_bounded(from: impl Read) -> std::io::Result<Secret> {
    let mut text = Zeroizing::new(Vec::with_capacity(LENGTH_MOST + 1));
    from.take(LENGTH_MOST as u64 + 1).read_to_end(&mut text)?;
    if text.len() > LENGTH_MOST {
        return Err(std::io::Error::other("longer than 64 KiB: is this the right file?"));
    }
    Ok(text)
}

fn trimmed(text: &[u8], object: &str) -> Result<Password> {
    let inner = match std::str::from_utf8(text) {
        Ok(text) => text.trim_start_matches('\u{feff}').trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    };
    if inner.is_empty() {
        return Err(Error::refused(object, "it is empty"));
    }
    Ok(Password::new(inner))
}

/// Words at white space outside quotes; a backslash takes the next character as it is, except in single quotes.
fn split_words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = |text| split_words(text).expect("closed quotes");
        assert_eq!(split("pass show vault"), ["pass", "show", "vault"]);
        assert_eq!(split(r#" a  'b c' "d 'e" f\ g 'h\' ''"#), ["a", "b c", "d 'e", "f g", r"h\", ""]);
        assert_eq!(split_words("a 'b"), None);
        assert_eq!(split_words("a\\"), None);
        assert_eq!(split(""), Vec::<String>::new());
    }

    #[test]
    fn a_command_gives_the_password_without_white_space() {
        let password = Password::from_command("printf '  se cret \\n\\n'").expect("password");
        assert_eq!(password.as_bytes(), b"se cret");
        for bad in ["false", "true", "", "/nonexistent/command", "head -c 70000 /dev/zero"] {
            assert!(Password::from_command(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{password:?}"), "Password(..)");
    }

    #[test]
    fn a_file_gives_the_password_without_white_space() {
        let path = std::env::temp_dir().join(format!("kobj-vault-password-{}", std::process::id()));
        std::fs::write(&path, "\u{feff}geheim\r\n").expect("written");
        let read = Password::from_file(&path);
        std::fs::write(&path, "\n").expect("written");
        let empty = Password::from_file(&path);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(read.expect("password").as_bytes(), b"geheim");
        assert!(empty.is_err() && Password::from_file(&path).is_err());
    }
}
