//! Network interfaces of our network namespace. The kernel does not say whether one is in use: they are reported only.

use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, net_dev};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// The kind.
pub struct NetworkDevice;

/// The images of the interfaces in a table of `/proc/net/dev`. One that has gone since is left out.
#[must_use]
pub fn images(table: &[u8]) -> Vec<HostImage> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok();
    let index = |name: &[u8]| -> Option<u32> {
        if let (Some(socket), Ok(text)) = (socket.as_ref(), std::str::from_utf8(name)) {
            return netdevice::name_to_index(socket, text).ok();
        }
        use std::os::unix::ffi::OsStrExt;
        let folder = std::path::Path::new("/sys/class/net").join(std::ffi::OsStr::from_bytes(name));
        let text = proc::read(&folder.join("ifindex"), 64).ok()?;
        u32::try_from(proc::decimal(text.trim_ascii())?).ok()
    };
    net_dev::names(table)
        .filter_map(|name| {
            let identity = Identity::Ipc { id: i64::from(index(name)?), key: 0, uid: 0 };
            Some(HostImage::new(HostKind::NetworkDevice, name.to_vec(), identity))
        })
        .collect()
}

impl Kind for NetworkDevice {
    fn kind(&self) -> HostKind {
        HostKind::NetworkDevice
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Tables,
            unused_is_left_over: false,
            is_named_by_path: false,
            end: "it stays until somebody removes it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        Visibility::of(proc::table_of(view, "self/net/dev").map(|table| images(&table)), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        let mut now = Vec::new();
        match self.census(view, &mut now) {
            Visibility::NotVisible(why) => Verdict::Unknown(why),
            Visibility::Whole if now.iter().any(|one| one.identity == image.identity) => {
                let name = image.name.escape_ascii();
                Verdict::Unknown(format!("the kernel does not say whether an interface is in use; ip link del {name}"))
            }
            Visibility::Whole if now.iter().any(|one| one.name == image.name) => Verdict::Replaced,
            Visibility::Whole => Verdict::Gone,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        Outcome::Left(self.judge(view, image, hands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn interfaces_are_found_by_index_and_never_scrubbed() {
        let view = testing::view();
        let mut found = Vec::new();
        assert_eq!(NetworkDevice.census(&view, &mut found), Visibility::Whole);
        let loopback = found.iter().find(|image| image.name == b"lo").unwrap();
        assert_eq!(loopback.identity, Identity::Ipc { id: 1, key: 0, uid: 0 });
        let outcome = NetworkDevice.scrub(&view, loopback, &mut Hands::new(&mut |_| {}));
        assert!(matches!(outcome, Outcome::Left(Verdict::Unknown(_))));
        let mut other = loopback.clone();
        other.identity = Identity::Ipc { id: 1 << 40, key: 0, uid: 0 };
        assert_eq!(NetworkDevice.judge(&view, &other, &mut Hands::new(&mut |_| {})), Verdict::Replaced);
        other.name = b"no such".to_vec();
        assert_eq!(NetworkDevice.judge(&view, &other, &mut Hands::new(&mut |_| {})), Verdict::Gone);
    }
}
