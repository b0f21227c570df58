//! What there is, and what a piece of work has left behind.

use crate::handle::Handle;
use crate::manager::{Inner, Manager, now};
use crate::{Error, Keeper, Koid};
use kobj_abi::{LinkKind, ObjectType};
use kobj_core::image::Time;
use kobj_core::{Counted, CountedHandle};
use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::fmt;
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
    /// Each object with its handles.
    known: HashMap<Koid, u32>,
    taken: Time,
    minimum_age: Duration,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").field("objects", &self.known.len()).finish_non_exhaustive()
    }
}

/// An object that is there and was not in an earlier census, or has more handles than it had there.
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
    /// How many handles it had in the census, if it was there: then [`Left::handles`] are those that came since, as far as that
    /// was traced, else all.
    pub handles_before: Option<u32>,
    /// Who has handles to it, and where each was made.
    pub handles: Vec<String>,
    /// Who or what else keeps it: a permanent name, a view, its job, another object.
    pub keepers: Vec<String>,
    /// How to end it, in a sentence or more.
    pub advice: Vec<&'static str>,
    /// The frames in which it was made, with [`Tracing::Full`].
    pub frames: Option<Arc<Backtrace>>,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.type_name, self.koid)?;
        match (&self.made, self.handles_before) {
            (_, Some(before)) => write!(f, ", which had {before} before")?,
            (Some(place), None) => write!(f, ", made at {place}")?,
            (None, None) => f.write_str(", made while nothing was traced")?,
        }
        if self.handles_before.is_none() {
            write!(f, " {} ms ago", self.age.as_millis())?;
        }
        for keeper in self.handles.iter().chain(&self.keepers) {
            write!(f, "\n    {keeper}")?;
        }
        if self.handles.is_empty() && self.keepers.is_empty() {
            f.write_str("\n    no handle: the state of another object keeps it, or a look at it that goes on")?;
        }
        if let Some(frames) = &self.frames {
            write!(f, "\n{}", callers_of(frames))?;
        }
        Ok(())
    }
}

/// Frames as they are printed, without those of the crate itself at their beginning.
fn callers_of(frames: &Backtrace) -> String {
    const OWN: [&str; 8] =
        ["kobj::", "<kobj::", "kobj_core::", "<kobj_core::", "std::backtrace", "<std::backtrace", "core::", "<core::"];
    let text = frames.to_string();
    // A frame is a line "NUMBER: NAME", and mostly one "at FILE:LINE:COLUMN".
    let name = |line: &str| {
        let (number, name) = line.trim_start().split_once(": ")?;
        number.parse::<u32>().ok().map(|_| name.to_owned())
    };
    let is_first = |line: &&str| name(line).is_some_and(|name| !OWN.iter().any(|own| name.starts_with(own)));
    let skipped = text.lines().take_while(|line| !is_first(line)).count();
    let rest: Vec<&str> = text.lines().skip(skipped).collect();
    if rest.is_empty() { text } else { rest.join("\n") }
}

const CLOSE: &str = "Drop or close the handles that are named.";
const UNNAME: &str = "Take permanent names away: Directory::unlink, or Handle::set_permanent(false).";
const UNMAP: &str = "Drop the views.";
const KILL: &str = "A process or job lives until it is killed: Guest::kill, Job::kill, or a kill of a job around it; Manager::open \
                    gives a handle to one that nobody has a handle to.";

impl Manager {
    /// Every object that lives now.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn census(&self) -> Result<Census, Error> {
        let taken = now();
        let known = self.inner.counted()?.into_iter().map(|object| (object.koid, object.handles)).collect();
        Ok(Census { inner: self.inner.clone(), known, taken, minimum_age: Duration::ZERO })
    }
}

impl Census {
    /// Objects, and handles to older ones, that are younger than this are not held against anybody: others may be about to end
    /// them. Of handles the age is known while places are traced; else they are not counted then.
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

    /// What is there now and was not then, and what has more handles than then, but for what its maker excused
    /// ([`Handle::not_a_leak`]), the oldest first.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn left(&self) -> Result<Vec<Left>, Error> {
        self.inner.settle();
        let now = now();
        let age = |since: Time| Duration::from_micros(u64::try_from(now.0 - since.0).unwrap_or(0));
        let counted = self.inner.counted()?;
        let living: HashMap<Koid, Counted> = counted.iter().map(|object| (object.koid, *object)).collect();
        let mut left: Vec<Left> = Vec::new();
        for object in counted.into_iter().filter(|object| !object.is_excused) {
            let before = self.known.get(&object.koid).copied();
            let mut handles = self.inner.handles_of(object.koid)?;
            match before {
                Some(before) => {
                    let ages = |handle: &CountedHandle| {
                        handle.made.filter(|made| made.at >= self.taken).map(|made| age(made.at))
                    };
                    let since = handles.iter().filter_map(ages);
                    let old_enough = since.filter(|age| *age >= self.minimum_age).count();
                    let is_traced = handles.iter().any(|handle| ages(handle).is_some());
                    let is_left = if is_traced { old_enough > 0 } else { self.minimum_age.is_zero() };
                    if object.handles <= before || !is_left {
                        continue;
                    }
                    handles.retain(|handle| !is_traced || ages(handle).is_some());
                }
                None if age(object.created) < self.minimum_age => continue,
                None => {}
            }
            left.push(self.left_of(&object, before, &handles, age(object.created), &living)?);
        }
        left.sort_by_key(|left| left.koid);
        Ok(left)
    }

    fn left_of(
        &self,
        object: &Counted,
        handles_before: Option<u32>,
        handles: &[CountedHandle],
        age: Duration,
        living: &HashMap<Koid, Counted>,
    ) -> Result<Left, Error> {
        let handles: Vec<String> = handles.iter().map(words_of).collect();
        let mut keepers = Vec::new();
        let mut advice = Vec::new();
        advice.extend((!handles.is_empty()).then_some(CLOSE));
        if handles_before.is_none() {
            self.keepers_of(object, living, &mut keepers, &mut advice)?;
        }
        let is_living = |koid: &Koid| living.contains_key(koid);
        Ok(Left {
            koid: object.koid,
            type_name: self.inner.type_name(object.object_type),
            age,
            made: object.made.map(|made| made.place.to_string()),
            handles_before,
            handles,
            keepers,
            advice,
            frames: self.inner.frames(is_living, object.koid).filter(|_| handles_before.is_none()),
        })
    }

    /// What else keeps an object, in words, and what to do about each.
    fn keepers_of(
        &self,
        object: &Counted,
        living: &HashMap<Koid, Counted>,
        keepers: &mut Vec<String>,
        advice: &mut Vec<&'static str>,
    ) -> Result<(), Error> {
        let is =
            |koid: Koid, what: ObjectType| living.get(&koid).is_some_and(|object| object.object_type == what.number());
        let (found, views) = self.inner.kept_by(object.koid)?;
        for Keeper { koid, kind } in found {
            match kind {
                // By a handle, which is named with its place.
                LinkKind::Holds => {}
                LinkKind::Contains if is(koid, ObjectType::Directory) => {
                    keepers.push(format!("permanent name in directory {koid}"));
                    advice.push(UNNAME);
                }
                LinkKind::Contains => keepers.push(format!("job {koid}, in which it stands")),
                _ => keepers.push(format!("object {koid}")),
            }
        }
        if is(object.koid, ObjectType::Process) || is(object.koid, ObjectType::Job) {
            advice.push(KILL);
        }
        if views > 0 {
            let noted = self.inner.views(|koid| living.contains_key(koid), object.koid);
            let untold = (views as usize).saturating_sub(noted.len());
            keepers
                .extend(noted.iter().map(|view| format!("view of process {}, mapped at {}", view.process, view.place)));
            keepers.extend((untold > 0).then(|| format!("{untold} of its views")));
            advice.push(UNMAP);
        }
        Ok(())
    }

    /// What [`crate::assert_balanced`] says; `None` if nothing is left.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let left = match self.left() {
            Ok(left) if left.is_empty() => return None,
            Ok(left) => left,
            Err(error) => return Some(format!("what is left cannot be counted: {error}")),
        };
        let (new, old): (Vec<&Left>, Vec<&Left>) = left.iter().partition(|left| left.handles_before.is_none());
        let mut text = String::new();
        match new.len() {
            0 => {}
            1 => text.push_str("1 object is left that was not there before:\n"),
            count => text.push_str(&format!("{count} objects are left that were not there before:\n")),
        }
        text.extend(new.iter().map(|object| format!("  {object}\n")));
        match old.len() {
            0 => {}
            1 => text.push_str("1 object that was there before has more handles:\n"),
            count => text.push_str(&format!("{count} objects that were there before have more handles:\n")),
        }
        text.extend(old.iter().map(|object| format!("  {object}\n")));
        for advice in
            [CLOSE, UNNAME, UNMAP, KILL].iter().filter(|one| left.iter().any(|left| left.advice.contains(one)))
        {
            text.push_str(advice);
            text.push(' ');
        }
        text.push_str("What is meant to stay is marked by Handle::not_a_leak().");
        if left.iter().all(|left| left.made.is_none()) {
            text.push_str(" Manager::builder().tracing(Tracing::Place) lets this name the lines.");
        }
        Some(text)
    }
}

fn words_of(handle: &CountedHandle) -> String {
    match handle.made {
        Some(made) => format!("handle of process {}, {} at {}", handle.process, made.how.name(), made.place),
        None => format!("handle of process {}", handle.process),
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

/// Panics if an object is there that was not in an earlier [`Census`], or one has more handles than there, and names the line
/// that made it, who has handles to it or else keeps it, and what to do. As goleak and Deno's sanitizers do: what was there
/// before is ignored, and so is what is excused. A message may follow, as in `assert!`.
#[macro_export]
macro_rules! assert_balanced {
    ($before:expr, $($message:tt)+) => {
        if let Some(complaint) = $crate::Census::complaint(&$before) {
            panic!("{}: {complaint}", format_args!($($message)+));
        }
    };
    ($before:expr $(,)?) => {
        if let Some(complaint) = $crate::Census::complaint(&$before) {
            panic!("{complaint}");
        }
    };
}
