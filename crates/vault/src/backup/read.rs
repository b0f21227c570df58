//! One file's contents on their way: cut, given to the writer, and read again if it changed meanwhile.

use super::{Options, Progress};
use crate::chunk::rabin::{MAXIMUM_BYTES, MINIMUM_BYTES};
use crate::chunk::rule::{Facts, HEAD_BYTES};
use crate::chunk::{Cutter, Rabin, Rule};
use crate::error::Result;
use crate::index::Index;
use crate::pack::BlobKind;
use crate::source::{Contents, Extent, Fingerprint, Source};
use crate::tree::{Node, Time, Zone};
use crate::writer::{Slot, Writer};
use std::collections::HashMap;
use std::io;

/// Times that a file is read which changes each time.
const ATTEMPTS: usize = 3;
/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// A file that was read.
pub(super) struct Read {
    pub(super) node: Node,
    pub(super) content: Vec<Slot>,
    /// It changed each time.
    pub(super) changing: bool,
    /// It was not cut as the parent's file was: the blobs say nothing.
    pub(super) rule_changed: bool,
}

/// A file that could not be read; what was tried.
pub(super) struct Unreadable {
    pub(super) action: &'static str,
    pub(super) error: io::Error,
}

/// What went wrong with a file: with it alone, or with the whole run.
enum Trouble {
    File(Unreadable),
    Run(crate::error::Error),
}

impl From<crate::error::Error> for Trouble {
    fn from(error: crate::error::Error) -> Self {
        Self::Run(error)
    }
}

fn unreadable(action: &'static str) -> impl Fn(io::Error) -> Trouble {
    move |error| Trouble::File(Unreadable { action, error })
}

/// Reads files one after the other.
pub(super) struct Reader<'run, 'writer> {
    writer: &'run Writer<'writer>,
    rabin: &'run Rabin,
    index: &'run Index,
    options: &'run Options,
    buffer: Vec<u8>,
    /// The blob of so many zeros.
    zeros: HashMap<usize, Slot>,
}

/// What lies where, asked from the source once per extent.
struct Extents<'file> {
    file: &'file dyn Contents,
    size: u64,
    last: Option<(u64, Extent)>,
}

impl Extents<'_> {
    /// The end of the hole at a place, or none where there are bytes.
    fn hole(&mut self, offset: u64) -> io::Result<Option<u64>> {
        match self.at(offset)? {
            Extent::Hole(end) => Ok(Some(end)),
            Extent::Data(_) => Ok(None),
        }
    }

    fn at(&mut self, offset: u64) -> io::Result<Extent> {
        if let Some((start, extent)) = self.last {
            let (Extent::Data(end) | Extent::Hole(end)) = extent;
            if (start..end).contains(&offset) {
                return Ok(extent);
            }
        }
        let extent = if offset < self.size { self.file.extent(offset, self.size)? } else { Extent::Data(offset) };
        self.last = Some((offset, extent));
        Ok(extent)
    }
}

impl<'run, 'writer> Reader<'run, 'writer> {
    pub(super) fn new(
        writer: &'run Writer<'writer>,
        rabin: &'run Rabin,
        index: &'run Index,
        options: &'run Options,
    ) -> Self {
        Self { writer, rabin, index, options, buffer: Vec::new(), zeros: HashMap::new() }
    }

    /// Reads the file of the source's last step. The node is as of the moment of its contents.
    pub(super) fn read(
        &mut self,
        source: &mut dyn Source,
        node: Node,
        before: Option<&Node>,
        progress: &mut dyn Progress,
    ) -> Result<std::result::Result<Read, Unreadable>> {
        match self.attempts(source, node, before, progress) {
            Ok(read) => Ok(Ok(read)),
            Err(Trouble::File(unreadable)) => Ok(Err(unreadable)),
            Err(Trouble::Run(error)) => Err(error),
        }
    }

    fn attempts(
        &mut self,
        source: &mut dyn Source,
        mut node: Node,
        before: Option<&Node>,
        progress: &mut dyn Progress,
    ) -> std::result::Result<Read, Trouble> {
        let mut attempt = 1;
        loop {
            let file = source.open().map_err(unreadable("open"))?;
            let first = file.fingerprint().map_err(unreadable("look at"))?;
            let parent = before.map_or(Ok(None), |before| self.rule_of(before))?;
            let rule = self.rule(&*file, &node, &first, parent)?;
            let (content, size) = match rule {
                Rule::Contents => self.by_contents(&*file, first.size, progress)?,
                Rule::Fixed(bytes) => self.by_size(&*file, first.size, bytes as usize, progress)?,
            };
            let same = file.fingerprint().map_err(unreadable("look at"))? == first
                && size == first.size
                && is_of(&node, &first, &self.options.zone);
            if same || attempt == ATTEMPTS {
                node.size = size;
                let rule_changed = parent.is_some_and(|parent| parent != rule);
                return Ok(Read { node, content, changing: !same, rule_changed });
            }
            attempt += 1;
            node = source.look_again().map_err(unreadable("look again at"))?;
        }
    }

    /// How the parent's file was cut.
    fn rule_of(&self, before: &Node) -> Result<Option<Rule>> {
        let content = before.content.as_deref().unwrap_or_default();
        let Some(first) = content.first().filter(|_| content.len() > 1) else {
            return Ok(None);
        };
        let place = self.index.lookup(BlobKind::Data, first)?;
        Ok(place.and_then(|place| Rule::of_parent(before.size, content.len(), place.blob.plain_length())))
    }

    fn rule(
        &mut self,
        file: &dyn Contents,
        node: &Node,
        first: &Fingerprint,
        parent: Option<Rule>,
    ) -> std::result::Result<Rule, Trouble> {
        let mut head = Vec::new();
        // Small files are cut by their contents whatever they are, and most files are small.
        if first.size > MINIMUM_BYTES as u64 && (parent.is_none() || self.options.rechunk) {
            head.resize(HEAD_BYTES, 0);
            let length = fill(file, &mut head, 0).map_err(unreadable("read"))?;
            head.truncate(length);
        }
        let name = node.name.as_bytes();
        let facts = Facts { name, size_bytes: first.size, is_device: false, head: &head, parent };
        Ok(Rule::choose(&facts, self.options.chunks, self.options.rechunk))
    }

    /// The blob of zeros, stored once however often it stands in files.
    fn zeros(&mut self, bytes: usize) -> Result<Slot> {
        if let Some(slot) = self.zeros.get(&bytes) {
            return Ok(slot.clone());
        }
        let slot = self.writer.store(BlobKind::Data, vec![0; bytes])?;
        self.zeros.insert(bytes, slot.clone());
        Ok(slot)
    }

    fn by_size(
        &mut self,
        file: &dyn Contents,
        size: u64,
        bytes: usize,
        progress: &mut dyn Progress,
    ) -> std::result::Result<(Vec<Slot>, u64), Trouble> {
        let mut content = Vec::new();
        let mut extents = Extents { file, size, last: None };
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(bytes).min(bytes);
            let hole = extents.hole(offset).map_err(unreadable("find the holes of"))?;
            let end = offset + length as u64;
            if hole.is_some_and(|hole| hole >= end) {
                content.push(self.zeros(length)?);
            } else {
                let mut buffer = self.writer.buffer(bytes);
                buffer.resize(length, 0);
                let read = fill(file, &mut buffer, offset).map_err(unreadable("read"))?;
                if read < length {
                    // It was cut off meanwhile: what is left is kept, and the size says so.
                    buffer.truncate(read);
                    if read > 0 {
                        content.push(self.writer.store(BlobKind::Data, buffer)?);
                    }
                    return Ok((content, offset + read as u64));
                }
                content.push(self.writer.store(BlobKind::Data, buffer)?);
            }
            progress.bytes(length as u64);
            offset = end;
        }
        Ok((content, size))
    }

    fn by_contents(
        &mut self,
        file: &dyn Contents,
        size: u64,
        progress: &mut dyn Progress,
    ) -> std::result::Result<(Vec<Slot>, u64), Trouble> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let done = self.cut(file, size, &mut buffer, progress);
        buffer.clear();
        self.buffer = buffer;
        done
    }

    fn cut(
        &mut self,
        file: &dyn Contents,
        size: u64,
        buffer: &mut Vec<u8>,
        progress: &mut dyn Progress,
    ) -> std::result::Result<(Vec<Slot>, u64), Trouble> {
        let mut content = Vec::new();
        let mut extents = Extents { file, size, last: None };
        let mut cutter = Cutter::new(self.rabin);
        // The buffer holds the file from `at + start` to `at + buffer.len()`; `size` shrinks if the file did.
        let (mut at, mut start, mut size) = (0u64, 0usize, size);
        loop {
            let here = at + start as u64;
            if start == buffer.len() && here < size {
                // Zeros are cut at the shortest length: of a hole as many chunks as fit need no look.
                let hole = extents.hole(here).map_err(unreadable("find the holes of"))?;
                if hole.is_some_and(|hole| hole - here >= MINIMUM_BYTES as u64) {
                    content.push(self.zeros(MINIMUM_BYTES)?);
                    progress.bytes(MINIMUM_BYTES as u64);
                    (at, start) = (here + MINIMUM_BYTES as u64, 0);
                    buffer.clear();
                    continue;
                }
            }
            let end = at + buffer.len() as u64;
            match cutter.cut(&buffer[start..], end >= size) {
                Some(length) => {
                    let mut chunk = self.writer.buffer(length);
                    chunk.extend_from_slice(&buffer[start..start + length]);
                    content.push(self.writer.store(BlobKind::Data, chunk)?);
                    progress.bytes(length as u64);
                    start += length;
                }
                None if end >= size => return Ok((content, size)),
                None => {
                    if start > 0 && buffer.len() + READ_BYTES > MAXIMUM_BYTES + 2 * READ_BYTES {
                        buffer.drain(..start);
                        at += start as u64;
                        start = 0;
                    }
                    let more = more(&mut extents, buffer, end, size).map_err(unreadable("read"))?;
                    if more == 0 {
                        size = end;
                    }
                }
            }
        }
    }
}

/// Puts the next bytes behind the buffer's: read, or zeros where there is a hole. 0 if the file ends before `size`.
fn more(extents: &mut Extents<'_>, buffer: &mut Vec<u8>, end: u64, size: u64) -> io::Result<usize> {
    let (extent_end, is_hole) = match extents.at(end)? {
        Extent::Data(to) => (to.max(end + 1), false),
        Extent::Hole(to) => (to, true),
    };
    let most = extent_end.min(size) - end;
    let length = usize::try_from(most).unwrap_or(READ_BYTES).min(READ_BYTES);
    let from = buffer.len();
    buffer.resize(from + length, 0);
    if is_hole {
        return Ok(length);
    }
    let read = fill(extents.file, &mut buffer[from..], end)?;
    buffer.truncate(from + read);
    Ok(read)
}

/// Fills a buffer; less only where the file ends.
fn fill(file: &dyn Contents, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Whether a node tells of the file as it was when reading began.
fn is_of(node: &Node, file: &Fingerprint, zone: &Zone) -> bool {
    let at = |(seconds, nanoseconds): (i64, u32)| Time::new(seconds, nanoseconds, zone);
    node.size == file.size && node.inode == file.inode && node.modified.same_instant(&at(file.modified))
}
