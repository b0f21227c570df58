//! From a directory along a path to an object: the walk that opening does.

use super::{LinkTarget, Name, Names, Path};
use kobj_abi::Rights;
use kobj_memory::Place;

/// Symbolic links that one walk follows, at most.
pub const LINKS_MOST: usize = 32;

/// Where a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The object.
    pub place: Place,
    /// The most rights that opening it gives: its entry's, or those one started with where that directory is meant.
    pub most: Rights,
}

/// Why a walk came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// A directory has no such name.
    NotFound {
        /// Which directory.
        directory: Place,
    },
    /// A link leads above the directory one started from.
    AboveStart,
    /// More than [`LINKS_MOST`] links were met.
    LinkLoop,
    /// What is to be passed is no directory.
    NotADirectory {
        /// What it is instead.
        place: Place,
    },
    /// The name of a directory that is to be passed does not grant [`Rights::LOOKUP`].
    NoLookup {
        /// Which directory.
        place: Place,
    },
}

/// What a directory that looks up its names has under one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookedUp {
    /// The object.
    pub place: Place,
    /// The most rights that opening it gives.
    pub most: Rights,
    /// Whether the path may go on below it, though it be no directory.
    pub is_passed: bool,
}

/// What a walk asks of those who know the objects.
#[derive(Clone, Copy, Debug)]
pub struct Ways<L, U> {
    /// Where the symbolic link at a place leads; `None` for any other object.
    pub link: L,
    /// What stands under a name that was not given: asked where there is none that was.
    pub looked_up: U,
}

/// Paths that are still to be walked: the innermost link's last. Each link adds one at most.
struct Rest<'a> {
    paths: [Option<Path<'a>>; LINKS_MOST + 1],
    count: usize,
}

impl<'a> Rest<'a> {
    fn push(&mut self, path: Option<Path<'a>>) {
        if let (Some(_), Some(room)) = (path, self.paths.get_mut(self.count)) {
            *room = path;
            self.count += 1;
        }
    }

    fn pop(&mut self) -> Option<Path<'a>> {
        self.count = self.count.checked_sub(1)?;
        self.paths.get_mut(self.count)?.take()
    }
}

impl Names {
    /// Walks along a path from a directory, to which one has a handle with those rights, [`Rights::LOOKUP`] among them.
    ///
    /// A link is followed from the directory in which it stands; at the end of the path only if `follow` is set. Each
    /// directory that is passed must grant [`Rights::LOOKUP`] by its name. The walk never leaves what is below its start:
    /// links may lead up from where they stand, and only over directories that were passed. No more steps than depth and
    /// links allow: some thousands.
    ///
    /// # Errors
    /// [`WalkError`], of the first name along the path that leads nowhere.
    pub fn walk<'a>(
        &self,
        start: Place,
        rights: Rights,
        path: Path<'a>,
        follow: bool,
        ways: Ways<impl Fn(Place) -> Option<&'a [u8]>, impl Fn(Place, Name<'_>) -> Option<LookedUp>>,
    ) -> Result<Found, WalkError> {
        let Ways { link, looked_up } = ways;
        // Mostly it is one name, of what is no link: nothing is to be remembered then.
        if let (name, None) = path.split_first()
            && let Some(named) = self.find(start, name)
            && (!follow || link(named.target).is_none())
        {
            return Ok(Found { place: named.target, most: named.most });
        }
        let mut rest = Rest { paths: [None; LINKS_MOST + 1], count: 0 };
        let mut links = 0;
        let mut at = start;
        rest.push(Some(path));
        while let Some(path) = rest.pop() {
            let (name, after) = path.split_first();
            rest.push(after);
            let is_last = rest.count == 0;
            let Some(named) = self.find(at, name) else {
                let found = looked_up(at, name).ok_or(WalkError::NotFound { directory: at })?;
                if is_last {
                    return Ok(Found { place: found.place, most: found.most });
                } else if !found.is_passed {
                    return Err(WalkError::NotADirectory { place: found.place });
                }
                at = found.place;
                continue;
            };
            let leads_to = if is_last && !follow { None } else { link(named.target) };
            if let Some(leads_to) = leads_to {
                links += 1;
                if links > LINKS_MOST {
                    return Err(WalkError::LinkLoop);
                }
                // It was checked when the link was made.
                let leads_to = LinkTarget::new(leads_to).map_err(|_| WalkError::NotFound { directory: at })?;
                at = self.up(start, at, leads_to.up)?;
                rest.push(leads_to.down);
            } else if is_last {
                return Ok(Found { place: named.target, most: named.most });
            } else if !self.is_directory(named.target) {
                return Err(WalkError::NotADirectory { place: named.target });
            } else if !named.most.contains(Rights::LOOKUP) {
                return Err(WalkError::NoLookup { place: named.target });
            } else {
                at = named.target;
            }
        }
        // The last link leads to a directory that was passed.
        let most = if at == start { rights } else { self.name_of(at).map_or(Rights::NONE, |named| named.most) };
        Ok(Found { place: at, most })
    }

    /// So many directories up, not above the start.
    fn up(&self, start: Place, from: Place, levels: usize) -> Result<Place, WalkError> {
        (0..levels).try_fold(from, |at, _| {
            let above = self.name_of(at).filter(|_| at != start).ok_or(WalkError::AboveStart)?;
            Ok(above.directory)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Name;

    const LOOKUP: Rights = Rights::LOOKUP;

    /// Objects by their number, links by where they lead: /1 a directory, /1/2 too, /1/2/3 an object, /4 without
    /// LOOKUP.
    struct World {
        names: Names,
        links: [Option<&'static str>; 100],
    }

    fn place(number: u32) -> Place {
        Place::new(number).unwrap()
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { names: Names::new([1, 2, 3]), links: [None; 100] };
            for directory in [0, 1, 2, 4] {
                world.names.add_directory(place(directory)).unwrap();
            }
            world.name(0, "1", 1, LOOKUP);
            world.name(1, "2", 2, LOOKUP | Rights::ENUMERATE);
            world.name(2, "3", 3, Rights::READ);
            world.name(0, "4", 4, Rights::ENUMERATE);
            world.name(4, "5", 5, Rights::READ);
            world
        }

        fn name(&mut self, directory: u32, name: &str, target: u32, most: Rights) {
            let name = Name::new(name.as_bytes()).unwrap();
            self.names.insert(place(directory), name, place(target), most, false).unwrap();
        }

        fn link(&mut self, directory: u32, name: &str, number: u32, leads_to: &'static str) {
            self.name(directory, name, number, Rights::READ);
            self.links[number as usize] = Some(leads_to);
        }

        fn walk(&self, start: u32, path: &'static str, follow: bool) -> Result<(u32, Rights), WalkError> {
            let path = Path::new(path.as_bytes()).unwrap();
            let link = |place: Place| self.links[place.index() as usize].map(str::as_bytes);
            let ways = Ways { link, looked_up: |_, _: Name<'_>| None };
            let found = self.names.walk(place(start), LOOKUP | Rights::CREATE, path, follow, ways)?;
            Ok((found.place.index(), found.most))
        }
    }

    #[test]
    fn each_directory_that_is_passed_must_grant_it() {
        let world = World::new();
        assert_eq!(world.walk(0, "1/2/3", true), Ok((3, Rights::READ)));
        assert_eq!(world.walk(2, "3", true), Ok((3, Rights::READ)));
        assert_eq!(world.walk(0, "4", true), Ok((4, Rights::ENUMERATE)), "its own name is not passed");
        assert_eq!(world.walk(0, "4/5", true), Err(WalkError::NoLookup { place: place(4) }));
        assert_eq!(
            world.walk(0, "4/9", true),
            Err(WalkError::NoLookup { place: place(4) }),
            "nothing is said of what is in"
        );
        assert_eq!(world.walk(0, "1/2/3/4", true), Err(WalkError::NotADirectory { place: place(3) }));
        assert_eq!(world.walk(0, "1/9/3", true), Err(WalkError::NotFound { directory: place(1) }));
        assert_eq!(world.walk(3, "1", true), Err(WalkError::NotFound { directory: place(3) }));
    }

    #[test]
    fn a_link_is_followed_from_where_it_stands() {
        let mut world = World::new();
        world.link(1, "down", 20, "2/3");
        world.link(2, "up", 21, "../2");
        world.link(2, "top", 22, "../..");
        world.link(0, "hidden", 23, "4/5");
        world.link(0, "dangling", 24, "1/none");
        assert_eq!(world.walk(0, "1/down", true), Ok((3, Rights::READ)));
        assert_eq!(world.walk(0, "1/down", false), Ok((20, Rights::READ)), "at the end the link itself is meant");
        assert_eq!(world.walk(0, "1/2/up/3", false), Ok((3, Rights::READ)), "before the end it is passed");
        assert_eq!(world.walk(0, "1/2/up", true), Ok((2, LOOKUP | Rights::ENUMERATE)));
        assert_eq!(world.walk(0, "1/2/top/1/down", true), Ok((3, Rights::READ)));
        assert_eq!(world.walk(0, "1/2/top", true), Ok((0, LOOKUP | Rights::CREATE)), "the start, as one has it");
        assert_eq!(world.walk(0, "1/down/3", true), Err(WalkError::NotADirectory { place: place(3) }));
        assert_eq!(world.walk(0, "hidden", true), Err(WalkError::NoLookup { place: place(4) }));
        assert_eq!(world.walk(0, "dangling", true), Err(WalkError::NotFound { directory: place(1) }));
    }

    #[test]
    fn no_link_leads_above_the_start() {
        let mut world = World::new();
        world.link(2, "top", 22, "../..");
        world.link(1, "beside", 23, "../4");
        assert_eq!(world.walk(1, "2/top", true), Err(WalkError::AboveStart));
        assert_eq!(world.walk(1, "beside", true), Err(WalkError::AboveStart));
        assert_eq!(world.walk(2, "top", true), Err(WalkError::AboveStart));
        assert_eq!(world.walk(0, "1/beside", true), Ok((4, Rights::ENUMERATE)));
        world.link(0, "far", 24, "../../../../../1");
        assert_eq!(world.walk(0, "far", true), Err(WalkError::AboveStart));
    }

    #[test]
    fn so_many_links_are_followed_and_not_one_more() {
        const LEADS_TO: [&str; 33] = [
            "1/2/3", "0l", "1l", "2l", "3l", "4l", "5l", "6l", "7l", "8l", "9l", "10l", "11l", "12l", "13l", "14l",
            "15l", "16l", "17l", "18l", "19l", "20l", "21l", "22l", "23l", "24l", "25l", "26l", "27l", "28l", "29l",
            "30l", "31l",
        ];
        let mut world = World::new();
        for (number, leads_to) in (0..).zip(LEADS_TO) {
            world.link(0, &std::format!("{number}l"), 50 + number, leads_to);
        }
        assert_eq!(world.walk(0, "31l", true), Ok((3, Rights::READ)), "32 links");
        assert_eq!(world.walk(0, "32l", true), Err(WalkError::LinkLoop));
        world.link(0, "round", 30, "round");
        world.link(0, "deep", 31, "deep/deep");
        assert_eq!(world.walk(0, "round", true), Err(WalkError::LinkLoop));
        assert_eq!(world.walk(0, "deep", true), Err(WalkError::LinkLoop));
        assert_eq!(world.walk(0, "round", false), Ok((30, Rights::READ)));
    }
}
