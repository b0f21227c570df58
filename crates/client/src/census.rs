//! What there is, and what a piece of work has left behind.

use crate::handle::Handle;
use crate::manager::{Inner, Manager, now};
use crate::{Error, Koid};
use kobj_core::Counted;
use std::backtrace::Backtrace;
use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// How much is noted of where objects and handles are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing.
    #[default]
    Off,
    /// The place in the source, the time, and how each handle came to be.
    Place,
    /// The same, and every frame on the way to where an object is made. Taking them costs microseconds an object; their names
    /// are looked up when they are printed.
    Full,
}

/// All living objects at one instant, to compare with later ones: a test takes it before, and asks after.
///
/// ```
/// use kobj::{Manager, Tracing, assert_balanced};
///
/// let manager = Manager::builder().tracing(Tracing::Place).build()?;
/// let before = manager.census()?;
/// let directory = manager.caller().create_directory()?;
/// drop(directory);
/// assert_balanced!(before);
/// # Ok::<(), kobj::Error>(())
/// ```
#[derive(Clone)]
pub struct Census {
    inner: Arc<Inner>,
    known: HashSet<Koid>,
    minimum_age: Duration,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").field("objects", &self.known.len()).finish_non_exhaustive()
    }
}

/// An object that is there and was not in an earlier census.
#[derive(Clone, Debug)]
pub struct Left {
    /// Which object.
    pub koid: Koid,
    /// What it is called: its type.
    pub type_name: String,
    /// How old it is.
    pub age: Duration,
    /// Where it was made, if that was traced: `FILE:LINE:COLUMN`.
    pub made: Option<String>,
    /// Who has handles to it, and where each was made.
    pub handles: Vec<String>,
    /// The frames in which it was made, with [`Tracing::Full`].
    pub frames: Option<Arc<Backtrace>>,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.type_name, self.koid)?;
        match &self.made {
            Some(place) => write!(f, ", made at {place}")?,
            None => f.write_str(", made while nothing was traced")?,
        }
        write!(f, " {} ms ago", self.age.as_millis())?;
        for handle in &self.handles {
            write!(f, "\n    {handle}")?;
        }
        if self.handles.is_empty() {
            f.write_str("\n    no handle: a permanent name, a view or another object keeps it")?;
        }
        if let Some(frames) = &self.frames {
            write!(f, "\n{frames}")?;
        }
        Ok(())
    }
}

impl Manager {
    /// Every object that lives now.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn census(&self) -> Result<Census, Error> {
        let known = self.inner.counted()?.into_iter().map(|object| object.koid).collect();
        Ok(Census { inner: self.inner.clone(), known, minimum_age: Duration::ZERO })
    }
}

impl Census {
    /// Objects younger than this are not held against anybody: others may be about to end them.
    #[must_use]
    pub fn minimum_age(mut self, age: Duration) -> Self {
        self.minimum_age = age;
        self
    }

    /// How many objects there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is there now and was not then, but for what its maker excused ([`Handle::not_a_leak`]), the oldest first.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn left(&self) -> Result<Vec<Left>, Error> {
        self.inner.settle();
        let now = now();
        let age = |object: &Counted| Duration::from_micros(u64::try_from(now.0 - object.created.0).unwrap_or(0));
        let mut left: Vec<Left> = Vec::new();
        let counted = self.inner.counted()?;
        let living: HashSet<Koid> = counted.iter().map(|object| object.koid).collect();
        for object in counted {
            if self.known.contains(&object.koid) || object.is_excused || age(&object) < self.minimum_age {
                continue;
            }
            let handles = self.inner.handles_of(object.koid)?.into_iter().map(|handle| match handle.made {
                Some(made) => format!("handle of process {}, {} at {}", handle.process, made.how.name(), made.place),
                None => format!("handle of process {}", handle.process),
            });
            left.push(Left {
                koid: object.koid,
                type_name: self.inner.type_name(object.object_type),
                age: age(&object),
                made: object.made.map(|made| made.place.to_string()),
                handles: handles.collect(),
                frames: self.inner.frames(&living, object.koid),
            });
        }
        left.sort_by_key(|left| left.koid);
        Ok(left)
    }

    /// What [`crate::assert_balanced`] says; `None` if nothing is left.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let left = match self.left() {
            Ok(left) if left.is_empty() => return None,
            Ok(left) => left,
            Err(error) => return Some(format!("what is left cannot be counted: {error}")),
        };
        let mut text = match left.len() {
            1 => String::from("1 object is left that was not there before:\n"),
            count => format!("{count} objects are left that were not there before:\n"),
        };
        for object in &left {
            let _infallible = writeln!(text, "  {object}");
        }
        text.push_str(
            "Drop or close the handles that are named, take permanent names away, or end the job in which they are; \
             what is meant to stay is marked by Handle::not_a_leak().",
        );
        if left.iter().all(|left| left.made.is_none()) {
            text.push_str(" Manager::builder().tracing(Tracing::Place) lets this name the lines.");
        }
        Some(text)
    }
}

impl<T> Handle<T> {
    /// Says that the object is no leak though it outlives who asks: a cache, a singleton. Until it ends.
    ///
    /// # Errors
    /// [`Error::NoMemory`], and as [`Handle::info`].
    pub fn not_a_leak(&self) -> Result<(), Error> {
        self.caller().inner.excuse(self.koid()?)
    }
}

/// Panics if an object is there that was not in an earlier [`Census`], and names the line that made it, who has handles to it,
/// and what to do. As goleak and Deno's sanitizers do: what was there before is ignored, and so is what is excused.
#[macro_export]
macro_rules! assert_balanced {
    ($before:expr) => {
        if let Some(complaint) = $crate::Census::complaint(&$before) {
            panic!("{complaint}");
        }
    };
}
