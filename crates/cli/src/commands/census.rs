//! `kobj census`: what exists, kind by kind; with `--unused` what the kernel says nobody uses, by size, age
//! and owner.

use super::ListingFlags;
use super::listing::{Cell, Listing};
use super::objects::{Ages, Census, Users, is_infrastructure, unused_is_left_over, view};
use clap::Args;
use kobj_abi::HostKind;
use kobj_core::image::{Holder, HostImage};
use kobj_host::hands::Hands;
use kobj_host::holders::Holders;
use kobj_host::kind::Verdict;
use kobj_host::kinds;
use kobj_host::view::View;
use std::cmp::Reverse;
use std::process::ExitCode;

/// Flags of `kobj census`.
#[derive(Debug, Args)]
pub(crate) struct CensusFlags {
    /// Only what the kernel, as judge, says nobody uses; the largest first, of equal ones the oldest
    #[arg(long)]
    unused: bool,
    /// Only this kind; repeatable
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Vec<HostKind>,
    #[command(flatten)]
    listing: ListingFlags,
}

/// Reads a kind's name.
pub(crate) fn parse_kind(text: &str) -> Result<HostKind, String> {
    HostKind::from_name(text).ok_or_else(|| {
        let known: Vec<&str> = kinds::ALL.iter().map(|kind| kind.kind().name()).collect();
        format!("there is no kind '{text}'; there are {}", known.join(", "))
    })
}

const COLUMNS: [&str; 11] =
    ["KIND", "NAME", "SIZE", "CREATOR", "HOLDERS", "AGE", "OWNER", "UID", "CLASS", "IDENTITY", "USE"];

/// Prints the listing. Exit 0, also where nothing is found; what cannot be seen is told on standard error.
pub(crate) fn run(flags: &CensusFlags) -> Result<ExitCode, String> {
    let usual: &[&str] = match flags.unused {
        true => &["KIND", "NAME", "SIZE", "AGE", "OWNER"],
        false => &["KIND", "NAME", "SIZE", "CREATOR", "HOLDERS"],
    };
    let listing = Listing::new(&flags.listing, "objects", &COLUMNS, usual)?;
    let view = view()?;
    let unknown = flags.kind.iter().find(|kind| kinds::of(**kind).is_none());
    if let Some(kind) = unknown {
        return Err(format!("this kobj cannot look at objects of kind {}", kind.name()));
    }
    let by_itself = |kind| !flags.unused || unused_is_left_over(kind);
    let is_asked = |kind| if flags.kind.is_empty() { by_itself(kind) } else { flags.kind.contains(&kind) };
    let mut census = Census::of(&view, is_asked);
    census.tell_not_visible();
    let mut found = std::mem::take(&mut census.found);
    let mut note = |_| {};
    let mut hands = Hands::new(&mut note);
    let table = Table { ages: Ages::read(&view), users: Users::read() };
    if flags.unused {
        found.retain(|image| {
            !is_infrastructure(image) && matches!(judge_with(&view, image, &mut hands), Verdict::Unused(_))
        });
        found.sort_by_key(|image| (Reverse(image.size), table.ages.changed_us(image).unwrap_or(i64::MAX), image.uid));
    }
    let holders = if listing.needs("HOLDERS") { Holders::of(&view, &found) } else { Holders::default() };
    let with_use = listing.needs("USE");
    let mut use_of =
        |image| if with_use { Cell::text(use_word(&judge_with(&view, image, &mut hands))) } else { Cell::Nothing };
    let rows: Vec<Vec<Cell>> = found
        .iter()
        .enumerate()
        .map(|(index, image)| table.row(image, holders.of_object(index), use_of(image)))
        .collect();
    crate::say(&listing.render(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// What the kernel says of the object's use.
pub(crate) fn judge(view: &View, image: &HostImage) -> Verdict {
    judge_with(view, image, &mut Hands::new(&mut |_| {}))
}

/// The same for many objects: what one judgement has looked up serves the next.
pub(crate) fn judge_with(view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
    match kinds::of(image.kind) {
        Some(kind) => kind.judge(view, image, hands),
        None => Verdict::Unknown(format!("this kobj cannot judge objects of kind {}", image.kind.name())),
    }
}

struct Table {
    ages: Ages,
    users: Users,
}

impl Table {
    fn row(&self, image: &HostImage, holders: &[Holder], used: Cell) -> Vec<Cell> {
        let maker = image.creator.as_ref().map(|creator| creator.pid).or(image.maker_pid).filter(|pid| *pid != 0);
        vec![
            Cell::text(image.kind.name()),
            Cell::Text(image.name.clone()),
            image.size.map_or(Cell::Nothing, Cell::Size),
            maker.map_or(Cell::Nothing, |pid| Cell::Number(pid.into())),
            holders_cell(holders),
            self.ages.of(image).map_or(Cell::Nothing, Cell::Age),
            image.uid.map_or(Cell::Nothing, |uid| Cell::Text(self.users.name(uid))),
            image.uid.map_or(Cell::Nothing, |uid| Cell::Number(uid.into())),
            Cell::text(image.class.name()),
            Cell::text(&image.identity.to_string()),
            used,
        ]
    }
}

/// One word for a verdict.
pub(crate) const fn use_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Unused(_) => "unused",
        Verdict::InUse(..) => "in-use",
        Verdict::Gone => "gone",
        Verdict::Replaced => "replaced",
        Verdict::Unknown(_) => "unknown",
    }
}

/// `command(pid)` of each process once.
pub(crate) fn holders_cell(holders: &[Holder]) -> Cell {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut last = None;
    for holder in holders.iter().filter(|holder| last.replace(holder.pid) != Some(holder.pid)) {
        names.push([&holder.command[..], format!("({})", holder.pid).as_bytes()].concat());
    }
    if names.is_empty() { Cell::Nothing } else { Cell::Texts(names) }
}
