//! What a prune would do: which packs go, which are written anew without what nobody needs, which stay.
//!
//! Pure: from how much of each pack is needed to a plan that can be shown, and executed or not. The choice is restic's:
//! packs that hold nothing needed go; of the others those with the most waste for what they hold are packed anew, until
//! what is left unused is within the bound. Packs of trees are packed anew whenever they hold anything unused: readers of
//! all snapshots fetch them whole.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::storage::{FileKind, Name};

/// What sort of blobs a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackKind {
    /// Contents of files.
    Data,
    /// Trees.
    Trees,
    /// Both: written by very old programs; always packed anew.
    Mixed,
}

/// How much of one pack is needed.
#[derive(Clone, Copy, Debug)]
pub struct PackUse {
    /// The pack.
    pub id: Id,
    /// What it holds.
    pub kind: PackKind,
    /// Bytes of the file as the index adds them up; `None` when the index has no such pack.
    pub indexed_bytes: Option<u64>,
    /// Bytes of the file; `None` when it is not there.
    pub stored_bytes: Option<u64>,
    /// Blobs that a snapshot needs and that are taken from this pack.
    pub used_blobs: u64,
    /// Their bytes, as stored.
    pub used_bytes: u64,
    /// Blobs that no snapshot needs, or that are taken from another pack.
    pub unused_blobs: u64,
    /// Their bytes, as stored.
    pub unused_bytes: u64,
    /// Whether a blob of it could be compressed and is not.
    pub is_uncompressed: bool,
}

/// How much unused data may stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// So many percent of what the vault holds afterwards.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any: nothing is packed anew for it.
    Unlimited,
}

impl MaxUnused {
    /// restic's default.
    pub const DEFAULT: Self = Self::Percent(5.0);

    fn bytes(self, used_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
            Self::Percent(percent) if percent >= 100.0 => u64::MAX,
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Self::Percent(percent) => (percent.max(0.0) / (100.0 - percent.max(0.0)) * used_bytes as f64) as u64,
        }
    }
}

/// What may be asked of a prune.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much unused data may stay (`--max-unused`).
    pub max_unused: MaxUnused,
    /// Bytes that are read and packed anew at most (`--max-repack-size`).
    pub max_repack_bytes: u64,
    /// Also pack anew what is smaller than this; 0 for none (`--repack-small`).
    pub small_below_bytes: u64,
    /// Also pack anew what could be compressed and is not (`--repack-uncompressed`).
    pub repack_uncompressed: bool,
    /// Pack anew nothing but trees (`--repack-cacheable-only`).
    pub repack_trees_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_unused: MaxUnused::DEFAULT,
            max_repack_bytes: u64::MAX,
            small_below_bytes: 0,
            repack_uncompressed: false,
            repack_trees_only: false,
        }
    }
}

/// A number of packs, what they hold and what of that is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Packs.
    pub packs: u64,
    /// Blobs that are needed.
    pub used_blobs: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Blobs that are not.
    pub unused_blobs: u64,
    /// Their bytes.
    pub unused_bytes: u64,
}

impl Sum {
    const fn add(&mut self, pack: &PackUse) {
        self.packs += 1;
        self.used_blobs += pack.used_blobs;
        self.used_bytes += pack.used_bytes;
        self.unused_blobs += pack.unused_blobs;
        self.unused_bytes += pack.unused_bytes;
    }
}

/// What a prune does. Each list is sorted by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the storage and in no index: left by an interrupted writer.
    pub unreferenced: Vec<Id>,
    /// Bytes of those.
    pub unreferenced_bytes: u64,
    /// Hold nothing that is needed: removed.
    pub remove: Vec<Id>,
    /// What those hold.
    pub removed: Sum,
    /// Their needed blobs go to new packs, then they are removed.
    pub repack: Vec<Id>,
    /// What those hold.
    pub repacked: Sum,
    /// Stay as they are.
    pub keep: Vec<Id>,
    /// What those hold.
    pub kept: Sum,
    /// In the index and not in the storage, with nothing that is needed: their entries go.
    pub forget: Vec<Id>,
}

impl Plan {
    /// Whether the vault stays as it is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.unreferenced.is_empty() && self.remove.is_empty() && self.repack.is_empty() && self.forget.is_empty()
    }

    /// Bytes that are free afterwards, at least.
    #[must_use]
    pub const fn freed_bytes(&self) -> u64 {
        self.unreferenced_bytes + self.removed.unused_bytes + self.repacked.unused_bytes
    }
}

/// Makes the plan.
///
/// # Errors
/// [`Error::Missing`] when a pack that is needed is not there and [`Error::Damaged`] when it is of another size than the
/// index says: nothing may be removed from a vault that is not whole.
pub fn plan(packs: &[PackUse], options: &Options) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut candidates = Vec::new();
    for pack in packs {
        let Some(pack) = sort_out(pack, &mut plan)? else { continue };
        let may_stay = pack.unused_blobs == 0 && pack.kind != PackKind::Mixed;
        let is_small = bytes_of(pack) < options.small_below_bytes;
        let must_compress = options.repack_uncompressed && pack.is_uncompressed;
        let is_out = options.repack_trees_only && pack.kind != PackKind::Trees;
        if is_out || (may_stay && !is_small && !must_compress) {
            keep(&mut plan, pack);
        } else {
            candidates.push((pack, is_small, must_compress));
        }
    }
    // One small pack alone would be written anew as it is.
    let lone_small = candidates.iter().filter(|(_, is_small, _)| *is_small).count() < 2;
    candidates.retain(|(pack, is_small, must_compress)| {
        let only_small = *is_small && !must_compress && pack.unused_blobs == 0 && pack.kind != PackKind::Mixed;
        if only_small && lone_small {
            keep(&mut plan, pack);
        }
        !(only_small && lone_small)
    });
    choose(&mut plan, candidates, packs, options);
    for list in [&mut plan.unreferenced, &mut plan.remove, &mut plan.repack, &mut plan.keep, &mut plan.forget] {
        list.sort_unstable();
    }
    Ok(plan)
}

/// Files what needs no choice; hands back a pack that holds something needed.
fn sort_out<'a>(pack: &'a PackUse, plan: &mut Plan) -> Result<Option<&'a PackUse>> {
    let name = Name::new(FileKind::Pack, pack.id);
    match (pack.indexed_bytes, pack.stored_bytes) {
        (None, None) => Ok(None),
        (None, Some(bytes)) => {
            plan.unreferenced.push(pack.id);
            plan.unreferenced_bytes += bytes;
            Ok(None)
        }
        (Some(_), None) if pack.used_blobs > 0 => Err(Error::Missing { name }),
        (Some(_), None) => {
            plan.forget.push(pack.id);
            Ok(None)
        }
        (Some(_), Some(_)) if pack.used_blobs == 0 => {
            plan.remove.push(pack.id);
            plan.removed.add(pack);
            Ok(None)
        }
        (Some(indexed), Some(stored)) if indexed != stored => {
            let why = format!("it has {stored} bytes, and the index says {indexed}: nothing is pruned");
            Err(Error::damaged(name, why))
        }
        (Some(_), Some(_)) => Ok(Some(pack)),
    }
}

/// Takes the candidates with the most waste until what stays unused is within the bound.
fn choose(plan: &mut Plan, mut candidates: Vec<(&PackUse, bool, bool)>, packs: &[PackUse], options: &Options) {
    // What must go first, then by waste for what is held: a/b > c/d, without division.
    candidates.sort_by(|(a, _, a_must), (b, _, b_must)| {
        let is_first = |pack: &PackUse, must: bool| must || pack.kind != PackKind::Data;
        let waste = |x: &PackUse, y: &PackUse| u128::from(x.unused_bytes) * u128::from(y.used_bytes);
        let by_waste = waste(b, a).cmp(&waste(a, b));
        is_first(b, *b_must).cmp(&is_first(a, *a_must)).then(by_waste).then(a.id.cmp(&b.id))
    });
    let used_bytes = packs.iter().map(|pack| pack.used_bytes).sum();
    let most_unused = options.max_unused.bytes(used_bytes);
    let unused: u64 = candidates.iter().map(|(pack, ..)| pack.unused_bytes).sum();
    let mut left_unused = unused + plan.kept.unused_bytes;
    for (pack, is_small, must_compress) in candidates {
        let is_too_much =
            plan.repacked.used_bytes + plan.repacked.unused_bytes + bytes_of(pack) > options.max_repack_bytes;
        let is_wanted = pack.kind != PackKind::Data || must_compress || is_small || left_unused > most_unused;
        if is_too_much || !is_wanted {
            keep(plan, pack);
            continue;
        }
        plan.repack.push(pack.id);
        plan.repacked.add(pack);
        left_unused -= pack.unused_bytes;
    }
}

const fn bytes_of(pack: &PackUse) -> u64 {
    pack.used_bytes + pack.unused_bytes
}

fn keep(plan: &mut Plan, pack: &PackUse) {
    plan.keep.push(pack.id);
    plan.kept.add(pack);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Id {
        Id::from_bytes([n; Id::LENGTH])
    }

    fn pack(n: u8, used_bytes: u64, unused_bytes: u64) -> PackUse {
        PackUse {
            id: id(n),
            kind: PackKind::Data,
            indexed_bytes: Some(used_bytes + unused_bytes + 100),
            stored_bytes: Some(used_bytes + unused_bytes + 100),
            used_blobs: u64::from(used_bytes > 0),
            used_bytes,
            unused_blobs: u64::from(unused_bytes > 0),
            unused_bytes,
            is_uncompressed: false,
        }
    }

    #[test]
    fn what_holds_nothing_needed_goes_and_what_nobody_lists_too() {
        let strange = PackUse { indexed_bytes: None, used_blobs: 0, ..pack(3, 0, 0) };
        let gone = PackUse { stored_bytes: None, ..pack(4, 0, 50) };
        let plan = plan(&[pack(2, 0, 70), pack(1, 500, 0), strange, gone], &Options::default()).unwrap();
        assert_eq!((&plan.remove[..], &plan.keep[..]), (&[id(2)][..], &[id(1)][..]));
        assert_eq!((&plan.unreferenced[..], plan.unreferenced_bytes), (&[id(3)][..], 100));
        assert_eq!((&plan.forget[..], &plan.repack[..]), (&[id(4)][..], &[][..]));
        assert_eq!(plan.freed_bytes(), 170);
        assert!(!plan.is_empty());
    }

    #[test]
    fn nothing_is_pruned_from_a_vault_that_is_not_whole() {
        let missing = PackUse { stored_bytes: None, ..pack(1, 5, 5) };
        assert!(matches!(plan(&[missing], &Options::default()), Err(Error::Missing { .. })));
        let cut = PackUse { stored_bytes: Some(9), ..pack(1, 5, 5) };
        assert!(matches!(plan(&[cut], &Options::default()), Err(Error::Damaged { .. })));
    }

    #[test]
    fn the_most_wasteful_are_packed_anew_until_the_rest_is_within_the_bound() {
        let packs = [pack(1, 900, 100), pack(2, 100, 900), pack(3, 960, 40), pack(4, 1000, 0)];
        // 2,960 bytes are used: 5 percent of what stays are 155.
        let by = |max_unused| plan(&packs, &Options { max_unused, ..Options::default() }).unwrap();
        assert_eq!(by(MaxUnused::DEFAULT).repack, [id(2)]);
        assert_eq!(by(MaxUnused::Bytes(139)).repack, [id(1), id(2)]);
        assert_eq!(by(MaxUnused::Bytes(0)).repack, [id(1), id(2), id(3)]);
        assert!(by(MaxUnused::Unlimited).is_empty());
        assert!(by(MaxUnused::Percent(100.0)).is_empty());
        let bounded = Options { max_unused: MaxUnused::Bytes(0), max_repack_bytes: 1500, ..Options::default() };
        assert_eq!(plan(&packs, &bounded).unwrap().repack, [id(2)]);
    }

    #[test]
    fn trees_and_mixed_packs_are_packed_anew_whatever_the_bound() {
        let trees = PackUse { kind: PackKind::Trees, ..pack(1, 900, 1) };
        let mixed = PackUse { kind: PackKind::Mixed, ..pack(2, 900, 0) };
        let whole = PackUse { kind: PackKind::Trees, ..pack(3, 900, 0) };
        let unlimited = Options { max_unused: MaxUnused::Unlimited, ..Options::default() };
        let packs = [trees, mixed, whole, pack(4, 1, 900)];
        assert_eq!(plan(&packs, &unlimited).unwrap().repack, [id(1), id(2)]);
        let only_trees = Options { max_unused: MaxUnused::Bytes(0), repack_trees_only: true, ..Options::default() };
        assert_eq!(plan(&packs, &only_trees).unwrap().repack, [id(1)]);
    }

    #[test]
    fn small_and_uncompressed_packs_are_packed_anew_when_asked_one_small_one_alone_is_not() {
        let plain = PackUse { is_uncompressed: true, ..pack(1, 9000, 0) };
        let packs = [plain, pack(2, 10, 0), pack(3, 11, 0), pack(4, 9000, 0)];
        assert!(plan(&packs, &Options::default()).unwrap().is_empty());
        let compress = Options { repack_uncompressed: true, ..Options::default() };
        assert_eq!(plan(&packs, &compress).unwrap().repack, [id(1)]);
        let small = Options { small_below_bytes: 100, ..Options::default() };
        assert_eq!(plan(&packs, &small).unwrap().repack, [id(2), id(3)]);
        assert!(plan(&packs[..2], &small).unwrap().is_empty());
    }
}
