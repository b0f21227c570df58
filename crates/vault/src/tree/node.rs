//! One entry of a tree: a file, folder, link, device or pipe, with all that restic keeps of it.

use super::go_json::{self, Text};
use super::time::Time;
use crate::base64;
use crate::id::Id;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The bit of a folder in a mode as Go writes it, which differs from the kernel's above the nine bits of permissions.
pub const MODE_FOLDER: u32 = 1 << 31;
/// A symbolic link.
pub const MODE_LINK: u32 = 1 << 27;
/// A device; a device of characters has [`MODE_CHARACTERS`] as well.
pub const MODE_DEVICE: u32 = 1 << 26;
/// A named pipe.
pub const MODE_PIPE: u32 = 1 << 25;
/// A socket.
pub const MODE_SOCKET: u32 = 1 << 24;
/// Runs as its owner.
pub const MODE_SET_USER: u32 = 1 << 23;
/// Runs as its group.
pub const MODE_SET_GROUP: u32 = 1 << 22;
/// A device of characters.
pub const MODE_CHARACTERS: u32 = 1 << 21;
/// Sticky.
pub const MODE_STICKY: u32 = 1 << 20;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NodeKind {
    /// An ordinary file: it has contents.
    #[default]
    File,
    /// A folder: it has a subtree.
    Folder,
    /// A symbolic link.
    Link,
    /// A block device.
    BlockDevice,
    /// A device of characters.
    CharacterDevice,
    /// A named pipe.
    Pipe,
    /// A socket. restic stores none, other programs may.
    Socket,
    /// What another program wrote.
    Other(Box<str>),
}

impl NodeKind {
    /// The word of the format.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Folder => "dir",
            Self::Link => "symlink",
            Self::BlockDevice => "dev",
            Self::CharacterDevice => "chardev",
            Self::Pipe => "fifo",
            Self::Socket => "socket",
            Self::Other(word) => word,
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "file" => Self::File,
            "dir" => Self::Folder,
            "symlink" => Self::Link,
            "dev" => Self::BlockDevice,
            "chardev" => Self::CharacterDevice,
            "fifo" => Self::Pipe,
            "socket" => Self::Socket,
            other => Self::Other(other.into()),
        }
    }
}

/// A name, as bytes, and how it stands in the tree if that is not how it is written today (an older Unicode).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Name {
    bytes: Box<[u8]>,
    written: Option<Box<str>>,
}

impl Name {
    /// A name of these bytes. What names an entry is neither empty nor "." or ".." and has no slash and no zero: see
    /// [`Name::is_entry`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), written: None }
    }

    /// Its bytes, as the kernel has them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether an entry of a folder can have this name.
    #[must_use]
    pub fn is_entry(&self) -> bool {
        !matches!(&*self.bytes, b"" | b"." | b"..") && !self.bytes.iter().any(|&byte| byte == b'/' || byte == 0)
    }

    fn write(&self, to: &mut Vec<u8>) {
        match &self.written {
            Some(written) => go_json::string(to, written.as_bytes(), false),
            None => go_json::string(to, go_json::quote(&self.bytes).as_bytes(), false),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&go_json::quote(&self.bytes))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "\"{self}\"")
    }
}

/// An extended attribute. ACLs and capabilities are such, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Attribute {
    /// Its name, for example `user.comment`.
    pub name: Text,
    /// Its bytes. None was written `null`, which restic reads as empty.
    #[serde(default, deserialize_with = "bytes")]
    pub value: Option<Vec<u8>>,
}

/// One entry of a tree. Fields stand in the order of the format.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Node {
    /// Its name in the folder.
    #[serde(deserialize_with = "name")]
    pub name: Name,
    /// What it is.
    #[serde(rename = "type", deserialize_with = "kind")]
    pub kind: NodeKind,
    /// Permissions and kind as Go counts them: the `MODE_` constants.
    #[serde(default)]
    pub mode: u32,
    /// When its contents changed.
    #[serde(default, rename = "mtime")]
    pub modified: Time,
    /// When it was read; the same as `modified` unless it was asked for.
    #[serde(default, rename = "atime")]
    pub accessed: Time,
    /// When its inode changed.
    #[serde(default, rename = "ctime")]
    pub changed: Time,
    /// The owner's number.
    #[serde(default)]
    pub uid: u32,
    /// The group's number.
    #[serde(default)]
    pub gid: u32,
    /// The owner's name, empty if it has none.
    #[serde(default)]
    pub user: String,
    /// The group's name, empty if it has none.
    #[serde(default)]
    pub group: String,
    /// The inode's number.
    #[serde(default)]
    pub inode: u64,
    /// The device of the file system.
    #[serde(default)]
    pub device_id: u64,
    /// Bytes of a file.
    #[serde(default)]
    pub size: u64,
    /// Names of the inode; zero for folders and pipes.
    #[serde(default)]
    pub links: u64,
    /// Where a symbolic link leads. Use [`Node::target`] to read it.
    #[serde(default, rename = "linktarget")]
    pub link_target: Text,
    /// The same where it is no UTF-8 (restic 0.17 and later).
    #[serde(default, rename = "linktarget_raw", deserialize_with = "bytes")]
    pub link_target_raw: Option<Vec<u8>>,
    /// Extended attributes, in the order of the kernel.
    #[serde(default, rename = "extended_attributes", deserialize_with = "attributes")]
    pub attributes: Vec<Attribute>,
    /// What other systems keep of a file, as JSON.
    #[serde(default, deserialize_with = "generic")]
    pub generic_attributes: BTreeMap<String, Box<RawValue>>,
    /// The number of a device.
    #[serde(default)]
    pub device: u64,
    /// The blobs of a file, in order; none for what is no file.
    #[serde(default, deserialize_with = "ids")]
    pub content: Option<Vec<Id>>,
    /// The tree of a folder.
    #[serde(default, deserialize_with = "id")]
    pub subtree: Option<Id>,
    /// What went wrong when it was read.
    #[serde(default)]
    pub error: String,
}

impl Node {
    /// Where a symbolic link leads, byte for byte where these are known.
    #[must_use]
    pub fn target(&self) -> Cow<'_, [u8]> {
        match &self.link_target_raw {
            Some(raw) => Cow::Borrowed(raw),
            None if self.link_target.is_utf8() => Cow::Borrowed(self.link_target.as_bytes()),
            None => Cow::Owned(self.link_target.as_read_by_restic().into_bytes()),
        }
    }

    /// Makes it a link that leads there.
    pub fn set_target(&mut self, target: Vec<u8>) {
        self.link_target = Text::new(target.clone());
        self.link_target_raw = (!self.link_target.is_utf8()).then_some(target);
    }

    /// Permissions and the three bits above them, as `chmod` takes them.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        let bit = |go: u32, unix: u32| if self.mode & go != 0 { unix } else { 0 };
        (self.mode & 0o777) | bit(MODE_SET_USER, 0o4000) | bit(MODE_SET_GROUP, 0o2000) | bit(MODE_STICKY, 0o1000)
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(br#"{"name":"#);
        self.name.write(to);
        text(to, "type", self.kind.word());
        number(to, "mode", self.mode.into());
        for (key, time) in [("mtime", &self.modified), ("atime", &self.accessed), ("ctime", &self.changed)] {
            text(to, key, &time.to_string());
        }
        to.extend_from_slice(format!(r#","uid":{},"gid":{}"#, self.uid, self.gid).as_bytes());
        for (key, name) in [("user", &self.user), ("group", &self.group)] {
            if !name.is_empty() {
                text(to, key, name);
            }
        }
        number(to, "inode", self.inode);
        number(to, "device_id", self.device_id);
        number(to, "size", self.size);
        number(to, "links", self.links);
        if !self.link_target.as_bytes().is_empty() {
            key(to, "linktarget");
            self.link_target.write(to);
        }
        if let Some(raw) = self.link_target_raw.as_ref().filter(|raw| !raw.is_empty()) {
            key(to, "linktarget_raw");
            go_json::base64(to, raw);
        }
        self.write_attributes(to);
        number(to, "device", self.device);
        self.write_content(to);
        if let Some(subtree) = &self.subtree {
            text(to, "subtree", &subtree.to_string());
        }
        if !self.error.is_empty() {
            text(to, "error", &self.error);
        }
        to.push(b'}');
    }

    fn write_attributes(&self, to: &mut Vec<u8>) {
        for (at, attribute) in self.attributes.iter().enumerate() {
            to.extend_from_slice(if at == 0 { br#","extended_attributes":[{"name":"# } else { br#",{"name":"# });
            attribute.name.write(to);
            key(to, "value");
            match &attribute.value {
                Some(value) => go_json::base64(to, value),
                None => to.extend_from_slice(b"null"),
            }
            to.push(b'}');
        }
        if !self.attributes.is_empty() {
            to.push(b']');
        }
        for (at, (name, value)) in self.generic_attributes.iter().enumerate() {
            to.extend_from_slice(if at == 0 { br#","generic_attributes":{"# } else { b"," });
            go_json::string(to, name.as_bytes(), false);
            to.push(b':');
            to.extend_from_slice(value.get().as_bytes());
        }
        if !self.generic_attributes.is_empty() {
            to.push(b'}');
        }
    }

    fn write_content(&self, to: &mut Vec<u8>) {
        key(to, "content");
        let Some(content) = &self.content else {
            return to.extend_from_slice(b"null");
        };
        to.reserve(content.len() * (2 * Id::LENGTH + 3) + 2);
        to.push(b'[');
        for (at, id) in content.iter().enumerate() {
            if at > 0 {
                to.push(b',');
            }
            to.push(b'"');
            for byte in id.as_bytes() {
                to.extend_from_slice(&[hexadecimal(byte >> 4), hexadecimal(byte & 15)]);
            }
            to.push(b'"');
        }
        to.push(b']');
    }
}

fn hexadecimal(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

fn key(to: &mut Vec<u8>, key: &str) {
    to.extend_from_slice(b",\"");
    to.extend_from_slice(key.as_bytes());
    to.extend_from_slice(b"\":");
}

fn text(to: &mut Vec<u8>, name: &str, text: &str) {
    key(to, name);
    go_json::string(to, text.as_bytes(), false);
}

fn number(to: &mut Vec<u8>, name: &str, number: u64) {
    if number != 0 {
        key(to, name);
        to.extend_from_slice(number.to_string().as_bytes());
    }
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Name;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("a name")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Name, E> {
            let bytes = go_json::unquote(text)
                .ok_or_else(|| E::custom(format!("the name {text:?} is not quoted as Go quotes")))?;
            let name = Name::new(&bytes);
            if !name.is_entry() {
                return Err(E::custom(format!("{text:?} is no name of an entry of a folder")));
            }
            let written = (go_json::quote(&bytes) != text).then(|| text.into());
            Ok(Name { written, ..name })
        }
    }
    from.deserialize_str(Text)
}

fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<NodeKind, D::Error> {
    let word = <Cow<'de, str>>::deserialize(from)?;
    Ok(NodeKind::of(&word))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = <Option<Cow<'de, str>>>::deserialize(from)? else {
        return Ok(None);
    };
    base64::decode(&text, text.len()).map(Some).ok_or_else(|| D::Error::custom("bytes that are no base64"))
}

fn attributes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Attribute>, D::Error> {
    Ok(<Option<Vec<Attribute>>>::deserialize(from)?.unwrap_or_default())
}

fn generic<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Box<RawValue>>, D::Error> {
    Ok(<Option<BTreeMap<String, Box<RawValue>>>>::deserialize(from)?.unwrap_or_default())
}

struct HexadecimalId(Id);

impl<'de> Deserialize<'de> for HexadecimalId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = HexadecimalId;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an id of 64 hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HexadecimalId, E> {
                text.parse().map(HexadecimalId).map_err(E::custom)
            }
        }
        from.deserialize_str(Digits)
    }
}

fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Id>, D::Error> {
    Ok(<Option<HexadecimalId>>::deserialize(from)?.map(|id| id.0))
}

fn ids<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Id>>, D::Error> {
    struct Ids;
    impl<'de> Visitor<'de> for Ids {
        type Value = Option<Vec<Id>>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("a list of ids or null")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut ids = Vec::new();
            while let Some(id) = from.next_element::<HexadecimalId>()? {
                ids.push(id.0);
            }
            Ok(Some(ids))
        }
    }
    from.deserialize_any(Ids)
}
