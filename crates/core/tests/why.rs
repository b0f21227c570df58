//! Why an object lives, against a plain breadth-first search over the same graph; and what nobody can reach.

use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, CallError, Limits, ObjectType, What};
use kobj_memory::{Kept, Spin};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

/// A node that keeps others by its state.
struct Node;

impl ObjectType for Node {
    const TAG: [u8; 4] = *b"NODE";
    const NAME: &'static str = "node";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    const HAS_LINKS: bool = true;
    type State = Mutex<Vec<Kept>>;

    fn links(state: &Self::State, visit: &mut dyn FnMut(Koid)) {
        for kept in state.lock().unwrap().iter() {
            visit(kept.koid());
        }
    }
}

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % most
    }
}

struct Scene {
    manager: Manager<Spin>,
    key: kobj_core::TypeKey<Node>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let manager = Manager::new(NOW, Era(7), Limits { seed, ..Limits::default() }).unwrap();
        let key = manager.register::<Node>().unwrap();
        Self { manager, key }
    }

    fn me(&self) -> Koid {
        self.manager.boot().process
    }

    fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.manager.call(NOW, process, call)
    }

    fn handle(&self, process: Koid, call: Call<'_>) -> RawHandle {
        match self.call(process, call).unwrap() {
            CallAnswer::Handle(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn koid(&self, handle: RawHandle) -> Koid {
        match self.call(self.me(), Call::HandleInfo { handle }).unwrap() {
            CallAnswer::Info(info) => info.koid,
            other => panic!("{other:?}"),
        }
    }

    fn node(&self) -> RawHandle {
        self.manager.create_own(NOW, self.me(), &self.key, Mutex::default()).unwrap()
    }

    /// Lets one node's state keep an object.
    fn keep(&self, node: RawHandle, object: RawHandle) {
        let table = self.manager.table(self.me()).unwrap();
        let look = |handle| self.manager.lookup(self.me(), &table, handle, None, Rights::NONE).unwrap();
        let kept = look(object).keep().unwrap();
        let held = look(node).hold().unwrap();
        held.state(self.key.state_key()).unwrap().lock().unwrap().push(kept);
    }

    fn lost(&self) -> Vec<Koid> {
        self.manager.unreachable().unwrap().found().iter().map(|lost| lost.koid).collect()
    }
}

/// Who keeps whom, and the roots: the reference that `why` is compared with.
#[derive(Default)]
struct Model {
    keepers: BTreeMap<Koid, BTreeSet<Koid>>,
    roots: BTreeSet<Koid>,
}

impl Model {
    fn keeps(&mut self, keeper: Koid, kept: Koid) {
        self.keepers.entry(kept).or_default().insert(keeper);
    }

    /// How many steps it is from the object back to the nearest root.
    fn distance(&self, object: Koid) -> Option<usize> {
        let mut seen = BTreeSet::from([object]);
        let mut queue = VecDeque::from([(object, 0)]);
        while let Some((here, steps)) = queue.pop_front() {
            for keeper in self.keepers.get(&here).into_iter().flatten() {
                if self.roots.contains(keeper) {
                    return Some(steps + 1);
                }
                if seen.insert(*keeper) {
                    queue.push_back((*keeper, steps + 1));
                }
            }
        }
        None
    }
}

#[test]
fn chains_are_as_short_as_a_breadth_first_search_finds_them() {
    let mut lengths = BTreeMap::<usize, u32>::new();
    for seed in 0..10_000 {
        let scene = Scene::new(seed);
        let boot = scene.manager.boot();
        let mut random = Random(seed);
        let mut model = Model { roots: BTreeSet::from([boot.process, boot.root_job]), ..Model::default() };
        let guests: Vec<(RawHandle, Koid)> = (0..2)
            .map(|_| match scene.call(boot.process, Call::CreateGuest { job: boot.job, inherit: false }).unwrap() {
                CallAnswer::Guest { handle, process } => (handle, process),
                other => panic!("{other:?}"),
            })
            .collect();
        model.roots.extend(guests.iter().map(|(_, process)| *process));
        // Directories and nodes, all in the embedder's table while the graph is made.
        let objects: Vec<(RawHandle, bool)> = (0..4 + random.below(12))
            .map(|_| match random.below(2) {
                0 => (scene.handle(boot.process, Call::Create { what: What::Directory }), true),
                _ => (scene.node(), false),
            })
            .collect();
        let koids: Vec<Koid> = objects.iter().map(|(handle, _)| scene.koid(*handle)).collect();
        for (at, (handle, _)) in objects.iter().enumerate() {
            let parent = random.below(objects.len());
            if parent < at && objects[parent].1 && random.below(3) > 0 {
                let name = format!("{at}");
                let directory = objects[parent].0;
                let call =
                    Call::Link { directory, name: name.as_bytes(), handle: *handle, most: SAME, permanent: true };
                scene.call(boot.process, call).unwrap();
                model.keeps(koids[parent], koids[at]);
            }
            for _ in 0..random.below(3) {
                let keeper = random.below(objects.len());
                if !objects[keeper].1 {
                    scene.keep(objects[keeper].0, *handle);
                    model.keeps(koids[keeper], koids[at]);
                }
            }
        }
        for (at, (handle, _)) in objects.iter().enumerate() {
            match random.below(5) {
                0 => {
                    let (guest, process) = guests[random.below(2)];
                    scene.handle(boot.process, Call::Transfer { handle: *handle, process: guest, rights: SAME });
                    model.keeps(process, koids[at]);
                }
                1 => model.keeps(boot.process, koids[at]),
                _ => drop(scene.call(boot.process, Call::Close { handle: *handle }).unwrap()),
            }
        }
        // One of the guests may end: it keeps nothing then, and is no root.
        if random.below(3) == 0 {
            scene.call(boot.process, Call::Kill { handle: guests[0].0 }).unwrap();
            model.roots.remove(&guests[0].1);
            for keepers in model.keepers.values_mut() {
                keepers.remove(&guests[0].1);
            }
        }
        while scene.manager.go_on() {}
        let mut unreached = BTreeSet::new();
        for koid in &koids {
            let Ok(why) = scene.manager.with(|core| core.why(*koid)) else {
                // Nothing kept it, so it has ended.
                assert!(model.distance(*koid).is_none(), "seed {seed}: {koid} has ended, and is reached");
                continue;
            };
            let distance = model.distance(*koid);
            assert_eq!(why.rooted.then_some(why.chain.len()), distance, "seed {seed}: {koid}: {why:?}");
            match distance {
                Some(steps) => *lengths.entry(steps).or_default() += 1,
                None => {
                    unreached.insert(*koid);
                }
            }
        }
        // What still lives and is not reached is kept by a circle, and the search finds exactly that.
        assert_eq!(scene.lost().into_iter().collect::<BTreeSet<_>>(), unreached, "seed {seed}");
        scene.manager.with(|core| core.audit().unwrap_or_else(|imbalance| panic!("seed {seed}: {imbalance}")));
    }
    println!("objects by the length of their chain: {lengths:?}");
    assert!(lengths.len() >= 4, "{lengths:?}");
}

#[test]
fn a_circle_that_nobody_can_reach_is_named_with_its_path() {
    let scene = Scene::new(1);
    let (first, second) = (scene.node(), scene.node());
    let koids = [scene.koid(first), scene.koid(second)];
    scene.keep(first, second);
    scene.keep(second, first);
    assert_eq!(scene.lost(), []);
    for handle in [first, second] {
        scene.call(scene.me(), Call::Close { handle }).unwrap();
    }
    let search = scene.manager.unreachable().unwrap();
    let found: Vec<_> = search.found().iter().map(|lost| (lost.koid, lost.path.clone())).collect();
    assert_eq!(found, [(koids[0], koids.to_vec()), (koids[1], vec![koids[1], koids[0]])]);
}

#[test]
fn what_a_thread_keeps_outside_of_every_state_is_reached() {
    let scene = Scene::new(1);
    let node = scene.node();
    let table = scene.manager.table(scene.me()).unwrap();
    let kept = scene.manager.lookup(scene.me(), &table, node, None, Rights::NONE).unwrap().keep().unwrap();
    scene.call(scene.me(), Call::Close { handle: node }).unwrap();
    assert_eq!(scene.lost(), []);
    let koid = kept.koid();
    drop(kept);
    while scene.manager.go_on() {}
    assert!(scene.manager.with(|core| core.why(koid)).is_err(), "the last reference went, and it with it");
}
