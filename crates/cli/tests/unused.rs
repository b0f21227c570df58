//! `kobj census --unused` and `kobj scrub --unused`, on a machine whose /dev/shm is the test's own.

mod common;

use common::Scene;
use std::process::Output;

/// Four segments: two of root's and two of nobody's, of which one is open. `$H` says when it is.
const SEGMENTS: &str = "mount -t tmpfs -o mode=1777 none /dev/shm && cd /dev/shm && \
    head -c 4096 /dev/zero >old && head -c 4096 /dev/zero >young && \
    $U sh -c 'head -c 70000 /dev/zero >large; head -c 9000000 /dev/zero >used' && chmod 666 used && \
    mkfifo $D/up && { sh -c 'exec 3<used; echo >$D/up; read x' $W <>$D/fifo >/dev/null 2>&1 & } && \
    read up <$D/up; ";

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect()
}

#[test]
fn what_nobody_uses_is_listed_by_size_age_and_owner() {
    let Some(scene) = Scene::new("what_nobody_uses_is_listed_by_size_age_and_owner", "listed") else { return };
    let census = |more: &str| {
        let output = scene.run(&format!("{SEGMENTS} $K census --unused --kind segment -n -r {more}; rm $D/up"));
        assert!(output.status.success(), "{output:?}");
        lines(&output)
    };
    let rows = census("-o NAME,SIZE,OWNER");
    assert_eq!(rows, ["/dev/shm/large 70000 nobody", "/dev/shm/old 4096 root", "/dev/shm/young 4096 root"]);
    assert_eq!(census("-o NAME -Q 'OWNER == root and SIZE >= 4K'"), ["/dev/shm/old", "/dev/shm/young"]);
    assert_eq!(census("-o NAME -Q 'SIZE > 4K and AGE < 1h'"), ["/dev/shm/large"]);
    assert_eq!(census("-o NAME -Q 'AGE > 1h'"), Vec::<String>::new());
    let all = scene.run(&format!("{SEGMENTS} $K census --kind segment -n -r -o NAME,USE -Q 'SIZE > 1M'; rm $D/up"));
    assert_eq!(lines(&all), ["/dev/shm/used in-use"]);
}

/// A person confirms the printed plan; what is in use, young or another user's is no part of it.
#[test]
fn the_unused_go_once_the_plan_is_confirmed_and_no_others() {
    let Some(scene) = Scene::new("the_unused_go_once_the_plan_is_confirmed_and_no_others", "confirmed") else { return };
    let scrub = "$K scrub --unused --kind segment --older-than";
    let left_after = |command: &str| {
        let output = scene.run(&format!("{SEGMENTS} {command} >&2; echo $? *; rm $D/up"));
        lines(&output).pop().unwrap_or_else(|| panic!("{output:?}"))
    };
    let all = "large old used young";
    assert_eq!(left_after(&format!("{scrub} 1h --yes")), format!("0 {all}"), "none is so old");
    assert_eq!(left_after(&format!("{scrub} 0s --dry-run")), format!("0 {all}"));
    assert_eq!(left_after(&format!("{scrub} 0s")), format!("3 {all}"), "nobody confirmed");
    assert_eq!(left_after(&format!("{scrub} 0s --yes")), "0 used");
    assert_eq!(left_after(&format!("$U {scrub} 0s --yes")), "0 old used young", "a user's own alone");
    if scene.run("command -v script").status.success() {
        let asked = |answer: &str| left_after(&format!("echo {answer} | script -qec \"{scrub} 0s\" /dev/null"));
        assert_eq!(asked("n"), format!("3 {all}"));
        assert_eq!(asked("y"), "0 used");
    } else {
        println!("skipped: the_unused_go_once_the_plan_is_confirmed_and_no_others on a terminal: no script here");
    }
}
