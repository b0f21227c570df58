//! The namespace against a plain model, and the promises that the model does not show.

use super::*;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;
use std::{format, println};

/// splitmix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % most
    }
}

fn place(index: u32) -> Place {
    Place::new(index).unwrap()
}

fn name(bytes: &str) -> Name<'_> {
    Name::new(bytes.as_bytes()).unwrap()
}

fn rights(bits: u64) -> Rights {
    Rights::from_bits(bits as u32)
}

/// A name of the model: where it stands in its directory is where it stands in the vector.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    name: String,
    target: Place,
    most: Rights,
    permanent: bool,
    /// Of the whole model: what was there before a moment has a smaller one.
    born: u64,
}

#[derive(Default)]
struct Model {
    directories: BTreeMap<Place, Vec<Known>>,
    homes: BTreeMap<Place, Place>,
    born: u64,
}

impl Model {
    fn position(&self, directory: Place, name: &str) -> Option<usize> {
        self.directories.get(&directory)?.iter().position(|known| known.name == name)
    }

    fn home(&self, target: Place) -> Option<(Place, usize)> {
        let home = *self.homes.get(&target)?;
        Some((home, self.directories[&home].iter().position(|known| known.target == target)?))
    }

    fn above(&self, directory: Place) -> Vec<Place> {
        let mut above = Vec::new();
        let mut at = directory;
        while let Some((home, _)) = self.home(at) {
            above.push(home);
            at = home;
        }
        above
    }

    fn height(&self, directory: Place) -> usize {
        let below = self.directories[&directory].iter().filter(|known| self.directories.contains_key(&known.target));
        below.map(|known| self.height(known.target) + 1).max().unwrap_or(0)
    }

    fn insert(&mut self, directory: Place, known: Known) -> Result<(), InsertError> {
        if !self.directories.contains_key(&directory) {
            return Err(InsertError::NoDirectory);
        }
        if self.position(directory, &known.name).is_some() {
            return Err(InsertError::NameExists);
        }
        if self.home(known.target).is_some() {
            return Err(InsertError::AlreadyNamed);
        }
        if self.directories.contains_key(&known.target) {
            let above = self.above(directory);
            if directory == known.target || above.contains(&known.target) {
                return Err(InsertError::Cycle);
            }
            if above.len() + 1 + self.height(known.target) > usize::from(DEPTH_MOST) {
                return Err(InsertError::TooDeep);
            }
        }
        self.born += 1;
        self.homes.insert(known.target, directory);
        self.directories.get_mut(&directory).unwrap().push(Known { born: self.born, ..known });
        Ok(())
    }

    fn rename(&mut self, directory: Place, old: &str, new: &str) -> Result<(), RenameError> {
        let at = self.position(directory, old).ok_or(RenameError::NotFound)?;
        if old != new && self.position(directory, new).is_some() {
            return Err(RenameError::NameExists);
        }
        self.directories.get_mut(&directory).unwrap()[at].name = new.into();
        Ok(())
    }

    fn remove(&mut self, directory: Place, at: usize) -> Known {
        let known = self.directories.get_mut(&directory).unwrap().remove(at);
        self.homes.remove(&known.target);
        known
    }

    fn path(&self, object: Place) -> String {
        let mut parts = Vec::new();
        let mut at = object;
        while let Some((home, position)) = self.home(at) {
            parts.insert(0, self.directories[&home][position].name.clone());
            at = home;
        }
        parts.join("/")
    }
}

/// A directory as the namespace lists it.
fn listed(names: &Names, directory: Place) -> Vec<(String, Place, Rights, bool)> {
    let mut list = Vec::new();
    let mut cursor = 0;
    while let Some(named) = names.after(directory, cursor) {
        assert!(named.cursor > cursor && named.directory == directory);
        cursor = named.cursor;
        list.push((String::from_utf8(named.name.into()).unwrap(), named.target, named.most, named.permanent));
    }
    list
}

/// An enumeration under way while everything changes.
struct Walk {
    directory: Place,
    cursor: u64,
    began: u64,
    seen: Vec<Place>,
}

const DIRECTORIES: u32 = 150;
const OBJECTS: u32 = 250;

fn some_name(random: &mut Random) -> String {
    let number = random.below(300);
    // Some are longer than an entry has room for.
    if number.is_multiple_of(3) {
        format!("a name that stands in a place of its own {number}")
    } else {
        format!("n{number}")
    }
}

fn check_all(names: &Names, model: &Model) {
    let mut count = 0;
    for (directory, known) in &model.directories {
        let list: Vec<_> =
            known.iter().map(|known| (known.name.clone(), known.target, known.most, known.permanent)).collect();
        assert_eq!(listed(names, *directory), list);
        assert_eq!(names.count(*directory) as usize, list.len());
        let permanent = list.iter().filter(|(.., permanent)| *permanent).count();
        assert_eq!(names.count_permanent(*directory) as usize, permanent);
        assert_eq!(usize::from(names.levels(*directory)), model.height(*directory) + 1, "{directory:?}");
        count += list.len();
    }
    assert_eq!(names.len() as usize, count);
    let mut buffer = [0; WHOLE_PATH_BYTES];
    for object in (0..OBJECTS).map(place) {
        let (top, path) = names.path(object, &mut buffer, |_| true).unwrap();
        assert_eq!((top, path), (names.top(object), model.path(object).as_bytes()));
        assert_eq!(names.depth(object) as usize, model.above(object).len());
        assert_eq!(names.top(object), model.above(object).last().copied().unwrap_or(object));
    }
}

/// Goes on with an enumeration; at its end: what was there throughout was seen once.
fn go_on(walk: &mut Walk, names: &Names, model: &Model) -> bool {
    if let Some(named) = names.after(walk.directory, walk.cursor) {
        walk.cursor = named.cursor;
        walk.seen.push(named.target);
        return true;
    }
    for known in &model.directories[&walk.directory] {
        let times = walk.seen.iter().filter(|seen| **seen == known.target).count();
        assert!(times == 1 || known.born > walk.began, "{known:?} was seen {times} times");
    }
    false
}

fn against_the_model(seed: u64, commands: u32) {
    let mut random = Random(seed);
    let mut names = Names::new([seed, 2, 3]);
    let mut model = Model::default();
    let mut walks: Vec<Walk> = Vec::new();
    let mut replies: BTreeMap<String, u32> = BTreeMap::new();
    for directory in (0..DIRECTORIES).map(place) {
        names.add_directory(directory).unwrap();
        model.directories.insert(directory, Vec::new());
    }
    let mut latest = place(0);
    for command in 0..commands {
        if command % 1000 == 0 {
            for (directory, known) in &mut model.directories {
                let emptied = core::iter::from_fn(|| names.take_first(*directory)).map(|removed| removed.target);
                assert!(emptied.eq(known.drain(..).map(|known| known.target)));
            }
            assert!(names.is_empty());
            model.homes.clear();
        }
        // Most go where the last directory went: so it gets deep. Some phases fill, some empty.
        let some = random.below(u64::from(DIRECTORIES) + 2);
        let directory = if random.below(4) > 0 { latest } else { place(some as u32) };
        let kind = [OBJECTS, DIRECTORIES][command as usize % 2];
        let mut target = place(random.below(u64::from(kind)) as u32);
        for _ in 0..random.below(8) {
            if model.home(target).is_some() {
                target = place(random.below(u64::from(kind)) as u32);
            }
        }
        let (first, second) = (some_name(&mut random), some_name(&mut random));
        let filling = command / 500 % 2 == 0;
        let what = random.below(if filling { 40 } else { 10 });
        let reply = match what {
            0 | 1 => {
                let at = model.position(directory, &first);
                let removed = names.remove(directory, name(&first));
                let known = at.map(|at| model.remove(directory, at));
                assert_eq!(removed.map(|removed| removed.target), known.map(|known| known.target));
                format!("remove {}", at.is_some())
            }
            2 => {
                let home = model.home(target);
                let known = home.map(|(directory, at)| (directory, model.remove(directory, at)));
                let expected = known.map(|(directory, known)| Removed {
                    directory,
                    target,
                    most: known.most,
                    permanent: known.permanent,
                });
                assert_eq!(names.take(target), expected);
                format!("take {}", home.is_some())
            }
            3 => {
                let emptied = model.directories.get(&directory).is_some_and(|names| !names.is_empty());
                let known = emptied.then(|| model.remove(directory, 0));
                assert_eq!(names.take_first(directory).map(|removed| removed.target), known.map(|known| known.target));
                format!("take_first {emptied}")
            }
            4 | 5 => {
                // Mostly of a name that is there.
                let old = listed(&names, directory).into_iter().next().filter(|_| random.below(4) > 0);
                let old = old.map_or(first, |(name, ..)| name);
                let reply = names.rename(directory, name(&old), name(&second));
                assert_eq!(reply, model.rename(directory, &old, &second));
                format!("rename {reply:?}")
            }
            6 => {
                let home = model.home(target);
                let before = home.map(|(directory, at)| {
                    let known = &mut model.directories.get_mut(&directory).unwrap()[at];
                    let before = known.permanent;
                    known.permanent = !before;
                    before
                });
                assert_eq!(names.set_permanent(target, before != Some(true)), before);
                format!("permanent {}", home.is_some())
            }
            7 => {
                let found = names.find(directory, name(&first)).map(|named| named.target);
                let at = model.position(directory, &first);
                assert_eq!(found, at.map(|at| model.directories[&directory][at].target));
                format!("find {}", at.is_some())
            }
            8 if model.directories.contains_key(&directory) => {
                walks.push(Walk { directory, cursor: 0, began: model.born, seen: Vec::new() });
                "walk begun".into()
            }
            _ => {
                let most = rights(random.below(1 << 10));
                let permanent = random.below(2) == 0;
                let reply = names.insert(directory, name(&first), target, most, permanent);
                let known = Known { name: first, target, most, permanent, born: 0 };
                assert_eq!(reply, model.insert(directory, known), "seed {seed}, command {command}");
                if reply.is_ok() && names.is_directory(target) && (directory == latest || random.below(32) == 0) {
                    latest = target;
                }
                format!("insert {reply:?}")
            }
        };
        *replies.entry(reply).or_default() += 1;
        if !walks.is_empty() {
            let at = random.below(walks.len() as u64) as usize;
            if !go_on(&mut walks[at], &names, &model) {
                walks.swap_remove(at);
                *replies.entry("walk ended".into()).or_default() += 1;
            }
        }
        if command % 2500 == 0 {
            check_all(&names, &model);
        }
    }
    check_all(&names, &model);
    for mut walk in walks {
        while go_on(&mut walk, &names, &model) {}
    }
    for wanted in ["Cycle", "TooDeep", "AlreadyNamed", "NameExists", "NoDirectory", "NotFound", "walk ended"] {
        let times: u32 = replies.iter().filter(|(reply, _)| reply.contains(wanted)).map(|(_, times)| times).sum();
        assert!(times >= 20, "{wanted} came {times} times only, seed {seed}: {replies:#?}");
    }
}

#[test]
fn it_does_what_a_plain_model_does() {
    for seed in 1..=4 {
        against_the_model(seed, 25_000);
    }
}

#[test]
fn what_stands_throughout_is_seen_once_though_the_cursors_own_name_goes() {
    let mut names = Names::new([1, 2, 3]);
    let root = place(5000);
    names.add_directory(root).unwrap();
    for number in 0..1000 {
        names.insert(root, name(&format!("{number}")), place(number), Rights::NONE, false).unwrap();
    }
    let mut cursor = 0;
    let mut seen = Vec::new();
    while let Some(named) = names.after(root, cursor) {
        let number = named.target.index();
        cursor = named.cursor;
        seen.push(number);
        // Away go the one just seen, its neighbours and one far behind; the tenth are renamed to the end of the
        // alphabet.
        if number % 10 == 0 {
            let _next_too = (names.take(place(number)), names.take(place(number + 1)), names.take(place(number / 2)));
            let (old, new) = (format!("{}", number + 5), format!("zzz{number}"));
            names.rename(root, name(&old), name(&new)).unwrap();
        }
    }
    let expected: Vec<u32> = (0..1000).filter(|number| number % 10 != 1).collect();
    assert_eq!(seen, expected);
    assert_eq!(names.after(root, u64::MAX), None);
    assert_eq!(names.after(root, cursor - 3).map(|named| named.cursor >= cursor - 3), Some(true));
    assert_eq!(names.after(place(77), 0), None, "what is no directory has no names");
}

#[test]
fn depth_is_bounded_also_when_what_is_linked_is_high() {
    let mut names = Names::new([1, 2, 3]);
    let link = |names: &mut Names, from, to| names.insert(place(from), name("down"), place(to), Rights::NONE, false);
    for directory in 0..200 {
        names.add_directory(place(directory)).unwrap();
    }
    // One chain of 65 directories, another of 33.
    for below in 0..64 {
        link(&mut names, below, below + 1).unwrap();
    }
    assert_eq!(link(&mut names, 64, 65), Err(InsertError::TooDeep));
    assert_eq!(names.insert(place(64), name("thing"), place(900), Rights::NONE, false), Ok(()), "no directory");
    assert_eq!(names.depth(place(900)), 65);
    for below in 100..132 {
        link(&mut names, below, below + 1).unwrap();
    }
    let second = |names: &mut Names, from| names.insert(place(from), name("second"), place(100), Rights::NONE, false);
    assert_eq!(second(&mut names, 32), Err(InsertError::TooDeep));
    assert_eq!(second(&mut names, 31), Ok(()));
    assert_eq!(names.depth(place(132)), 64);
    // What is above grows no higher by it, until the chain is shorter again.
    names.take(place(100)).unwrap();
    names.take(place(132)).unwrap();
    assert_eq!(second(&mut names, 32), Ok(()));
    assert_eq!(names.insert(place(140), name("top"), place(0), Rights::NONE, false), Err(InsertError::TooDeep));
    names.take(place(64)).unwrap();
    assert_eq!(names.insert(place(140), name("top"), place(0), Rights::NONE, false), Err(InsertError::TooDeep));
    names.take(place(131)).unwrap();
    assert_eq!(names.insert(place(140), name("top"), place(0), Rights::NONE, false), Ok(()));
    assert_eq!(link(&mut names, 131, 140), Err(InsertError::TooDeep));
    assert_eq!(names.insert(place(63), name("round"), place(140), Rights::NONE, false), Err(InsertError::Cycle));
}

#[test]
fn a_directory_ends_when_it_has_no_names_and_no_name() {
    let mut names = Names::new([1, 2, 3]);
    let (root, inner) = (place(0), place(1));
    names.add_directory(root).unwrap();
    names.add_directory(inner).unwrap();
    names.insert(root, name("inner"), inner, Rights::NONE, true).unwrap();
    assert!(!names.remove_directory(root) && !names.remove_directory(inner) && !names.remove_directory(place(2)));
    assert!(names.take_first(root).is_some_and(|removed| removed.permanent && removed.target == inner));
    assert!(names.remove_directory(inner) && names.remove_directory(root) && names.is_empty());
    assert!(!names.remove_directory(root));
    assert_eq!(names.insert(root, name("a"), inner, Rights::NONE, false), Err(InsertError::NoDirectory));
    names.add_directory(root).unwrap();
    assert_eq!(names.after(root, 0), None);
}

#[test]
fn a_path_says_how_much_room_it_needs() {
    let mut names = Names::new([1, 2, 3]);
    names.add_directory(place(0)).unwrap();
    names.add_directory(place(1)).unwrap();
    names.insert(place(0), name("one"), place(1), Rights::NONE, false).unwrap();
    names.insert(place(1), name("two"), place(2), Rights::NONE, false).unwrap();
    let all = |_| true;
    assert_eq!(names.path(place(2), &mut [0; 6], all), Err(7));
    assert_eq!(names.path(place(2), &mut [0; 7], all), Ok((place(0), &b"one/two"[..])));
    assert_eq!(names.path(place(2), &mut [0; 7], |directory| directory != place(0)), Ok((place(1), &b"two"[..])));
    assert_eq!(names.path(place(0), &mut [], all), Ok((place(0), &b""[..])));
}

/// Run by hand: `cargo test --release -p kobj-core names -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn the_longest_steps_on_the_way_to_a_million_names_and_back() {
    const MANY: u32 = 1_000_000;
    let mut names = Names::new([1, 2, 3]);
    let root = place(0);
    names.add_directory(root).unwrap();
    let texts: Vec<String> = (0..=MANY).map(|number| format!("object-{number:08}")).collect();
    let mut random = Random(9);
    let mut picks: Vec<u32> = (1..=MANY).collect();
    for at in (1..picks.len()).rev() {
        picks.swap(at, random.below(at as u64 + 1) as usize);
    }
    let report = |what: &str, mut times_ns: Vec<u64>| {
        times_ns.sort_unstable();
        let at = |share: f64| times_ns[((times_ns.len() - 1) as f64 * share) as usize];
        println!("{what}: median {} ns, p99.9 {} ns, worst {} ns", at(0.5), at(0.999), at(1.0));
    };
    let time = |work: &mut dyn FnMut()| {
        let begin = std::time::Instant::now();
        work();
        begin.elapsed().as_nanos() as u64
    };
    let times = (1..=MANY).map(|number| {
        time(&mut || names.insert(root, name(&texts[number as usize]), place(number), Rights::NONE, false).unwrap())
    });
    let times = times.collect();
    report("insert", times);
    let times = picks.iter().map(|number| {
        time(&mut || {
            assert!(
                names.find(root, name(&texts[*number as usize])).is_some_and(|named| named.target == place(*number))
            )
        })
    });
    let times = times.collect();
    report("find at random", times);
    let mut cursor = 0;
    let times = (0..MANY).map(|_| time(&mut || cursor = names.after(root, cursor).unwrap().cursor)).collect();
    report("next", times);
    let times = picks.iter().map(|number| time(&mut || assert!(names.take(place(*number)).is_some()))).collect();
    report("take at random", times);
    assert!(names.is_empty());
}
