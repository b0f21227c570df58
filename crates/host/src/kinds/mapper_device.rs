//! Device-mapper devices. Reported and judged; removing one is left to its own tool, which knows what it is built on.

use super::loop_device::{BLOCK, claim, devices, users};
use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc;
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;
use std::path::Path;

/// The kind.
pub struct MapperDevice;

/// The name under `/dev/mapper`, as its tool knows it.
fn mapper_name(image: &HostImage) -> String {
    let short = image.name.strip_prefix(b"/dev/").unwrap_or_default();
    let path = Path::new(BLOCK).join(String::from_utf8_lossy(short).as_ref()).join("dm/name");
    let text = proc::read(&path, 512).unwrap_or_default();
    text.trim_ascii().escape_ascii().to_string()
}

/// The mapper devices now.
///
/// # Errors
/// Why the list cannot be read, as a sentence.
pub fn all(view: &View) -> Result<Vec<HostImage>, String> {
    devices(view, HostKind::MapperDevice, b"dm-")
}

impl Kind for MapperDevice {
    fn kind(&self) -> HostKind {
        HostKind::MapperDevice
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Census,
            unused_is_left_over: false,
            is_named_by_path: true,
            end: "it stays until somebody detaches it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        Visibility::of(all(view), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match all(view) {
            Ok(now) if now.iter().any(|one| one.identity == image.identity) => {}
            Ok(now) if now.iter().any(|one| one.name == image.name) => return Verdict::Replaced,
            Ok(_) => return Verdict::Gone,
            Err(why) => return Verdict::Unknown(why),
        }
        let claimed = claim(image);
        let users = users(view, image);
        match claimed {
            Ok(_) if users.is_empty() => Verdict::Unused("exclusive open: neither mounted nor claimed".into()),
            Ok(_) => Verdict::InUse(users, "processes have it open".into()),
            Err(Verdict::InUse(_, words)) => Verdict::InUse(users, words),
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        Outcome::Left(match self.judge(view, image, hands) {
            Verdict::Unused(words) => {
                Verdict::Unknown(format!("{words}; remove it with: dmsetup remove {}", mapper_name(image)))
            }
            verdict => verdict,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kobj_core::image::Identity;

    #[test]
    fn a_device_that_is_not_there_is_gone() {
        let mut found = Vec::new();
        if MapperDevice.census(&testing::view(), &mut found) != Visibility::Whole {
            println!("skipped: mapper: no /proc/partitions here");
            return;
        }
        let identity = Identity::Ipc { id: i64::MAX, key: 0, uid: 0 };
        let image = HostImage::new(HostKind::MapperDevice, b"/dev/dm-99999".to_vec(), identity);
        let outcome = MapperDevice.scrub(&testing::view(), &image, &mut Hands::new(&mut |_| {}));
        assert_eq!(outcome, Outcome::Left(Verdict::Gone));
    }
}
