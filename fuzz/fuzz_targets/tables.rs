//! Arbitrary bytes as the kernel's tables: names in them are chosen by hostile jobs. No panic, and no more rows than lines.
//!
//! The first byte picks a table; the bytes behind it are laid over a good one's, so that what comes late is reached too.
#![no_main]

use kobj_host::proc::{
    environ, fdinfo, inet, lines, locks, maps, mountinfo, net_dev, partitions, stat, status, sysvipc, unescape, unix,
};
use libfuzzer_sys::fuzz_target;

/// Lines as Linux prints them, one for each table.
const GOOD: [&str; 11] = [
    "4711 (a b) S 1 4711 4711 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 3 0 7700 1000 100 18446744073709551615 1 1 0 0 0 0 0 0 \
     0 0 0 0 17 1 0 0 0 0 0\n",
    "Name:\ta\nUmask:\t0022\nState:\tS\nTgid:\t1\nPid:\t1\nPPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t1\n\
     SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigCgt:\t0000000000000000\n",
    "7f0000000000-7f0000001000 rw-s 00000000 00:1b 7941900    /dev/shm/psm_1 (deleted)\n",
    "38 37 0:4 net:[4026532206] /run/netns/x\\040y rw shared:3 - nsfs nsfs rw\n",
    "1: POSIX  ADVISORY  WRITE 4711 00:1b:7941900 0 EOF\n1: -> FLOCK ADVISORY READ 1 fe:00:1 0 EOF\n",
    "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      \
     ctime                   rss                  swap\n 0 13860864 600 4096 28145 0 0 0 0 0 0 0 0 1795512876 0 0\n",
    "Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 77 @x\n",
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 \
     00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0000000000000000 100 0 0 10 0\n",
    "major minor  #blocks  name\n\n   7        1       1024 loop1\n",
    "Inter-|   Receive\n face |bytes\n    lo: 1 2 3\n",
    "pos:\t0\nflags:\t0100002\nmnt_id:\t30\nino:\t7\nlock:\t1: POSIX  ADVISORY  WRITE 1 00:1b:7 0 EOF\n",
];

/// Reads a table by every reader; gives the most rows that one of them saw.
fn read_all(text: &[u8]) -> usize {
    let _ = (stat::parse(text), status::parse(text), fdinfo::parse(text), unescape(text));
    assert!(environ::entries(text).map(<[u8]>::len).sum::<usize>() <= text.len());
    let rows = [
        maps::parse(text).count(),
        mountinfo::parse(text).count(),
        locks::parse(text).count(),
        locks::of_descriptor(text).count(),
        sysvipc::shm(text).count(),
        sysvipc::sem(text).count(),
        sysvipc::msg(text).count(),
        unix::parse(text).count(),
        inet::parse(text).count(),
        partitions::parse(text).count(),
        net_dev::names(text).count(),
    ];
    rows.into_iter().max().unwrap_or(0)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first_chunk::<3>() else { return };
    let mut table = GOOD[usize::from(which[0]) % GOOD.len()].as_bytes().to_vec();
    let at = usize::from(u16::from_le_bytes([which[1], which[2]])) % table.len();
    let end = table.len().min(at + rest.len());
    table[at..end].copy_from_slice(&rest[..end - at]);
    for text in [rest, &table, &table[..end]] {
        assert!(read_all(text) <= lines(text).count());
    }
});
