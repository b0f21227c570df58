//! Derivation against a plain model: for each node its parent and its handles.

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use kobj_memory::Uncounted;
use std::println;

/// A seeded source of choices (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most as u64) as usize
    }
}

/// Handles by where they stand: their node, and the name of it in the model.
#[derive(Default)]
struct Handles {
    open: BTreeMap<Position, (Place, u32)>,
    /// Closed, and still looked through by somebody.
    pinned: BTreeSet<Position>,
    closing: BTreeMap<Position, (Place, u32)>,
    sweeps: u32,
    /// Nodes whose last handle was counted off by somebody who has not said so yet.
    late: Vec<Place>,
    /// Whether some are late.
    are_some_late: bool,
    turn: u32,
}

impl Handles {
    /// Closes a handle. Looked through, it stays counted.
    fn close(&mut self, nodes: &Nodes, at: Position) -> Uncounted {
        let (node, name) = self.open.remove(&at).unwrap();
        if self.pinned.contains(&at) {
            self.closing.insert(at, (node, name));
            return Uncounted::Remaining;
        }
        nodes.uncount(node)
    }
}

#[derive(Default)]
struct World {
    tree: Derivations,
    nodes: Nodes,
    handles: Handles,
    /// The parent of each node that ever was, by a name that is never used again.
    parents: BTreeMap<u32, Option<u32>>,
    /// What is being revoked.
    revoking: BTreeMap<RevokeId, u32>,
    /// Whose charges came back.
    freed: Vec<AccountId>,
}

impl World {
    fn is_below(&self, name: u32, above: u32) -> bool {
        let mut at = self.parents[&name];
        while let Some(here) = at {
            if here == above {
                return true;
            }
            at = self.parents[&here];
        }
        false
    }

    /// One unit of work, and a look at every revoke that ended with it.
    fn work(&mut self) -> bool {
        let done = self.tree.work(&self.nodes);
        match done {
            Work::Freed { charged } => self.freed.push(charged.unwrap()),
            Work::TakeBack { node, at } => {
                let at = Position { table: at.table.index(), index: at.index };
                if self.handles.open.get(&at).is_some_and(|(on, _)| *on == node) {
                    self.take(at);
                }
            }
            Work::Sweep { from } => {
                self.handles.sweeps += 1;
                let next: Vec<Position> = self.handles.open.range(from..).map(|(at, _)| *at).take(3).collect();
                for at in &next {
                    if self.nodes.is_revoked(self.handles.open[at].0) {
                        self.take(*at);
                    }
                }
                self.tree.swept(next.last().map(|at| Position { table: at.table, index: at.index + 1 }));
            }
            Work::None | Work::Done => {}
        }
        let ended: Vec<RevokeId> = self.revoking.keys().copied().filter(|id| !self.tree.is_under_way(*id)).collect();
        for id in ended {
            let top = self.revoking.remove(&id).unwrap();
            let left = self.handles.open.values().filter(|(_, name)| self.is_below(*name, top)).count();
            assert_eq!(left, 0, "handles below {top} outlive its revoke");
        }
        done != Work::None
    }

    fn settle(&mut self) {
        while self.work() {}
        self.come();
        let mut units = 0;
        while self.work() {
            units += 1;
            assert!(units < 10_000_000, "work without end");
        }
        assert!(!self.tree.has_work() && self.revoking.is_empty());
    }

    /// The nodes that must be there: with handles, counted or closing, and all above them.
    fn check(&self) {
        let mut there = BTreeSet::new();
        for (_, name) in self.handles.open.values().chain(self.handles.closing.values()) {
            let mut at = Some(*name);
            while let Some(here) = at.filter(|here| there.insert(*here)) {
                at = self.parents[&here];
            }
        }
        assert_eq!(self.nodes.live() as usize, there.len(), "nodes that nothing needs, or that are missing");
        let mut handles: BTreeMap<Place, u32> = BTreeMap::new();
        for (node, _) in self.handles.open.values().chain(self.handles.closing.values()) {
            *handles.entry(*node).or_default() += 1;
        }
        assert!(handles.iter().all(|(node, handles)| self.nodes.handles(*node) == *handles));
    }

    fn position(&self, chance: &mut Chance) -> Position {
        loop {
            let at = Position { table: chance.below(4) as u32, index: chance.below(1 << 20) as u32 };
            if !self.handles.open.contains_key(&at) && !self.handles.pinned.contains(&at) {
                return at;
            }
        }
    }

    fn pick(&self, chance: &mut Chance) -> Option<(Position, Place, u32)> {
        let open = &self.handles.open;
        let (at, (node, name)) = open.iter().nth(chance.below(open.len().max(1)))?;
        Some((*at, *node, *name))
    }

    /// Who pays for the next node.
    fn payer(&self) -> Option<AccountId> {
        AccountId::from_raw(self.parents.len() as u32 + 1)
    }

    /// A new handle on a new node with a new name.
    fn enter(&mut self, node: Place, parent: Option<u32>, at: Position) {
        let name = self.parents.len() as u32;
        self.parents.insert(name, parent);
        self.nodes.set_hint(node, Some(hint(at)));
        self.handles.open.insert(at, (node, name));
    }

    /// Takes a handle back. Who counts the last one off may be another thread, which comes late.
    fn take(&mut self, at: Position) {
        let (node, _) = self.handles.open[&at];
        if self.handles.close(&self.nodes, at) == Uncounted::Last {
            self.handles.turn += 1;
            if self.handles.are_some_late && self.handles.turn.is_multiple_of(3) {
                self.handles.late.push(node);
            } else {
                self.let_go(node);
            }
        }
    }

    /// The holder closes a handle.
    fn close(&mut self, at: Position) {
        let (node, _) = self.handles.open[&at];
        if self.handles.close(&self.nodes, at) == Uncounted::Last {
            self.let_go(node);
        }
    }

    /// The last handle of a node is gone: the node goes at once if it can, as those do that the manager is told of.
    fn let_go(&mut self, node: Place) {
        match self.tree.let_go_at_once(&self.nodes, node) {
            Some(charged) => self.freed.push(charged.unwrap()),
            None => self.tree.let_go(&self.nodes, node),
        }
    }

    /// Those who come late have come.
    fn come(&mut self) {
        for node in core::mem::take(&mut self.handles.late) {
            self.let_go(node);
        }
    }

    /// Whoever looked through a handle stops.
    fn unpin(&mut self, at: Position) {
        self.handles.pinned.remove(&at);
        if let Some((node, _)) = self.handles.closing.remove(&at)
            && self.nodes.uncount(node) == Uncounted::Last
        {
            self.tree.let_go(&self.nodes, node);
        }
    }
}

fn hint(at: Position) -> Hint {
    Hint { table: Place::new(at.table).unwrap(), index: at.index }
}

fn command(world: &mut World, chance: &mut Chance, done: &mut BTreeMap<&'static str, [u32; 2]>) {
    let mut count = |name, good: bool| done.entry(name).or_default()[usize::from(!good)] += 1;
    let picked = world.pick(chance);
    let at = world.position(chance);
    match (chance.below(20), picked) {
        (0, _) | (_, None) => {
            let node = world.tree.root(&world.nodes, world.payer()).unwrap();
            world.enter(node, None, at);
            count("root", true);
        }
        (1..8, Some((_, parent, name))) => {
            let revoked = world.revoking.values().any(|top| name == *top || world.is_below(name, *top));
            let got = world.tree.derive(&world.nodes, parent, world.payer());
            assert_eq!(got.is_err(), revoked, "derive below a revoke, and nowhere else, is refused");
            count("derive", got.is_ok());
            if let Ok(node) = got {
                world.enter(node, Some(name), at);
            }
        }
        (8..10, Some((_, node, name))) => {
            let good = !world.tree.is_being_taken_back(&world.nodes, node);
            let revoked = world.revoking.values().any(|top| world.is_below(name, *top));
            assert_eq!(good, !revoked, "equals of what is being taken back, and of nothing else, are refused");
            assert!(good || world.tree.is_revoking());
            count("duplicate", good);
            if good {
                world.nodes.count(node).unwrap();
                world.handles.open.insert(at, (node, name));
            }
        }
        (10..12, Some((from, node, name))) => {
            // A handle on a marked node is not moved: the sweep may have been where it goes.
            let good = !world.tree.is_being_taken_back(&world.nodes, node) && !world.handles.pinned.contains(&from);
            count("transfer", good);
            if good {
                world.handles.open.remove(&from);
                world.handles.open.insert(at, (node, name));
                world.nodes.set_hint(node, Some(hint(at)));
            }
        }
        (12..15, Some((at, _, _))) => {
            world.close(at);
            count("close", true);
        }
        (15, Some((at, _, _))) => {
            world.handles.pinned.insert(at);
            count("pin", true);
        }
        (16, _) => {
            let pinned = world.handles.pinned.iter().nth(chance.below(world.handles.pinned.len().max(1))).copied();
            count("unpin", pinned.is_some());
            pinned.into_iter().for_each(|at| world.unpin(at));
        }
        (_, Some((_, node, name))) => {
            let got = world.tree.revoke(&world.nodes, node);
            count("revoke", got.is_ok());
            if let Ok(Some(id)) = got {
                world.revoking.insert(id, name);
            } else {
                assert!(got.is_ok() || world.revoking.len() == Derivations::REVOKES_MOST);
            }
        }
    }
}

#[test]
fn derivation_agrees_with_a_plain_model_whenever_its_work_is_done() {
    let seed = std::env::var("KOBJ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("KOBJ_SEED={seed}");
    let mut chance = Chance(seed);
    let (mut done, mut sweeps, mut together) = (BTreeMap::new(), 0, 0);
    for _ in 0..400 {
        let mut world = World::default();
        world.handles.are_some_late = true;
        for _ in 0..250 {
            command(&mut world, &mut chance, &mut done);
            together = together.max(world.revoking.len());
            // Stopped anywhere, gone on with any time later.
            for _ in 0..[0, 0, 0, 0, 1, 1, 2, 20][chance.below(8)] {
                world.work();
            }
            if chance.below(3) == 0 {
                world.come();
            }
            if chance.below(16) == 0 {
                world.settle();
                world.check();
            }
        }
        let all: Vec<Position> = world.handles.open.keys().copied().collect();
        all.into_iter().for_each(|at| world.close(at));
        let pinned: Vec<Position> = world.handles.pinned.iter().copied().collect();
        pinned.into_iter().for_each(|at| world.unpin(at));
        world.settle();
        assert_eq!(world.nodes.live() as usize, 0, "nodes are left without a handle");
        world.freed.sort_unstable();
        let charged = (0..world.parents.len() as u32).filter_map(|name| AccountId::from_raw(name + 1));
        assert!(world.freed.iter().copied().eq(charged), "each charge comes back once");
        sweeps += world.handles.sweeps;
    }
    println!("{done:?}, {sweeps} steps of sweeps, {together} revokes at once");
    assert!(sweeps > 1000 && together >= 4);
    for (name, [good, refused]) in done {
        assert!(good >= 100, "{name} was done {good} times");
        let never = ["root", "close", "pin", "revoke"].contains(&name);
        assert!(refused >= 40 || never, "{name} was refused {refused} times");
    }
}

/// A chain of nodes, each with one handle; their positions, the root's first.
fn chain(world: &mut World, length: u32) -> Vec<Position> {
    let mut positions = Vec::new();
    let mut parent: Option<(Place, u32)> = None;
    for index in 0..length {
        let node = match parent {
            None => world.tree.root(&world.nodes, world.payer()).unwrap(),
            Some((parent, _)) => world.tree.derive(&world.nodes, parent, world.payer()).unwrap(),
        };
        let at = Position { table: 0, index };
        world.enter(node, parent.map(|(_, name)| name), at);
        parent = Some((node, index));
        positions.push(at);
    }
    positions
}

/// A chain of a million nodes, each with one handle; the root first.
fn long_chain(tree: &Derivations, nodes: &Nodes) -> Vec<Place> {
    let mut chain = alloc::vec![tree.root(nodes, None).unwrap()];
    for index in 1..1_000_000 {
        let node = tree.derive(nodes, chain[chain.len() - 1], None).unwrap();
        nodes.set_hint(node, Some(hint(Position { table: 0, index })));
        chain.push(node);
    }
    chain
}

#[test]
fn a_long_chain_goes_one_node_a_step_from_below() {
    let (mut tree, nodes) = (Derivations::default(), Nodes::default());
    let chain = long_chain(&tree, &nodes);
    let (last, rest) = chain.split_last().unwrap();
    for node in rest {
        assert_eq!(nodes.uncount(*node), Uncounted::Last);
        tree.let_go(&nodes, *node);
    }
    assert!(!tree.has_work(), "each node has a child");
    nodes.uncount(*last);
    tree.let_go(&nodes, *last);
    let mut units = 0;
    while tree.work(&nodes) != Work::None {
        units += 1;
    }
    assert_eq!((nodes.live(), units), (0, chain.len()));
}

#[test]
fn a_revoke_of_a_long_chain_takes_three_steps_a_node_at_most_and_no_sweep() {
    let (mut tree, nodes) = (Derivations::default(), Nodes::default());
    let chain = long_chain(&tree, &nodes);
    let id = tree.revoke(&nodes, chain[0]).unwrap().unwrap();
    let mut units = 0;
    while tree.is_under_way(id) {
        units += 1;
        match tree.work(&nodes) {
            Work::TakeBack { node, .. } => {
                assert_eq!(nodes.uncount(node), Uncounted::Last);
                tree.let_go(&nodes, node);
            }
            Work::Sweep { .. } => panic!("each hint is true"),
            Work::None => panic!("it is under way"),
            Work::Done | Work::Freed { .. } => {}
        }
    }
    assert!(nodes.live() == 1 && units <= 3 * chain.len(), "{units}");
}

#[test]
fn what_is_derived_below_the_look_back_is_taken_back_too() {
    let mut world = World::default();
    let positions = chain(&mut world, Derivations::LOOK_BACK_MOST + 10);
    let (top, _) = world.handles.open[&positions[0]];
    let (last, name) = world.handles.open[&positions[positions.len() - 1]];
    let (near, _) = world.handles.open[&positions[100]];
    let id = world.tree.revoke(&world.nodes, top).unwrap().unwrap();
    assert_eq!(world.tree.derive(&world.nodes, near, world.payer()), Err(DeriveError::Revoked));
    let late = world.tree.derive(&world.nodes, last, world.payer()).unwrap();
    world.enter(late, Some(name), Position { table: 1, index: 0 });
    while world.tree.is_under_way(id) {
        world.work();
    }
    assert_eq!((world.nodes.live() as usize, world.handles.open.len()), (1, 1));
}

#[test]
fn no_more_revokes_begin_than_there_is_room_for_and_none_is_forgotten() {
    let mut world = World::default();
    let mut tops = Vec::new();
    for table in 0..=Derivations::REVOKES_MOST as u32 {
        let top = world.tree.root(&world.nodes, world.payer()).unwrap();
        world.enter(top, None, Position { table, index: 0 });
        let child = world.tree.derive(&world.nodes, top, world.payer()).unwrap();
        world.enter(child, Some(2 * table), Position { table, index: 1 });
        tops.push(top);
    }
    for (top, name) in tops[1..].iter().zip(1..) {
        let id = world.tree.revoke(&world.nodes, *top).unwrap().unwrap();
        assert_eq!(world.tree.revoke(&world.nodes, *top), Ok(Some(id)), "the same one");
        world.revoking.insert(id, 2 * name);
    }
    assert_eq!(world.tree.revoke(&world.nodes, tops[0]), Err(TooManyRevokes));
    world.settle();
    assert_eq!(world.tree.revoke(&world.nodes, tops[1]), Ok(None), "nothing is below it any more");
    assert!(world.tree.revoke(&world.nodes, tops[0]).unwrap().is_some());
    assert_eq!(world.nodes.live() as usize, tops.len() + 1);
}

#[test]
fn a_refusal_says_why() {
    let texts = [DeriveError::Revoked, DeriveError::NoMemory].map(|error| std::format!("{error}"));
    assert!(texts[0].contains("being taken back") && texts[1].contains("memory"), "{texts:?}");
}
