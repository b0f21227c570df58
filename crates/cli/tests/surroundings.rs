//! `kobj run` where something is missing, full, hidden or scarce: a clear error or an exact, safe result.
//!
//! Each case gets a mount namespace of its own, so that the machine and the tests beside it notice nothing.

mod common;

use common::{Scene, processes};
use std::process::{Command, Output, Stdio};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn actions<'r>(report: &'r serde_json::Value, kind: &str) -> Vec<&'r str> {
    let rows = report["stragglers"].as_array().unwrap().iter().filter(|row| row["kind"] == kind);
    rows.map(|row| row["action"].as_str().unwrap()).collect()
}

fn is_not_visible(report: &serde_json::Value, kind: &str) -> bool {
    report["not_visible"].as_array().unwrap().iter().any(|row| row["kind"] == kind)
}

/// The disk of the report is full: the report that was there stays whole, and only a success fails for it.
#[test]
fn a_full_disk_under_the_report_is_told_and_leaves_the_old_report() {
    let test = "a_full_disk_under_the_report_is_told_and_leaves_the_old_report";
    let Some(scene) = Scene::new(test, "full") else { return };
    let output = scene.run(
        "mkdir $D/disk && mount -t tmpfs -o size=8k none $D/disk && echo old >$D/disk/r.json && \
         head -c 100000 /dev/zero >$D/disk/filler 2>/dev/null; \
         $K run --scrub --report $D/disk/r.json --report $D/r.json -- sh -c \"$C & : >/dev/shm/$W; exit 0\"; echo $?; \
         $K run --report $D/disk/r.json -- sh -c 'exit 3'; echo $?; cat $D/disk/r.json; ls $D/disk",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "125\n3\nold\nfiller\nr.json\n", "{output:?}");
    assert!(said(&output).contains("/disk/r.json': No space left on device"), "{output:?}");
    let report = scene.report();
    assert_eq!(actions(&report, "segment"), ["scrubbed"], "what was asked for is done all the same");
    assert_eq!(actions(&report, "process"), ["terminated"]);
}

#[test]
fn with_sys_read_only_or_absent_the_job_is_held_by_other_means() {
    let test = "with_sys_read_only_or_absent_the_job_is_held_by_other_means";
    let Some(scene) = Scene::new(test, "sys") else { return };
    for hide in [
        "for m in /sys $(awk '$3 ~ /^cgroup/ {print $2}' /proc/self/mounts); do mount -o remount,ro,bind $m; done",
        "umount -R -l /sys",
    ] {
        let run = "$K run --scrub --report $D/r.json -- sh -c \"$C & : >/dev/shm/$W; exit 4\"";
        let output = scene.run(&format!("{hide} && {run}"));
        assert_eq!(output.status.code(), Some(4), "{hide}: {output:?}");
        let report = scene.report();
        assert_eq!(report["job"]["containment"], "subreaper", "{hide}");
        assert!(report["job"]["limits"][0].as_str().unwrap().starts_with("control group: "), "{}", report["job"]);
        assert_eq!((actions(&report, "process"), actions(&report, "segment")), (vec!["terminated"], vec!["scrubbed"]));
    }
}

/// No /dev/shm is no segment, not an error.
#[test]
fn without_dev_shm_there_are_no_segments_and_no_error() {
    let Some(scene) = Scene::new("without_dev_shm_there_are_no_segments_and_no_error", "shm") else { return };
    let output = scene.run(
        "cp -a /dev/null $D/ && mount -t tmpfs none /dev && cp -a $D/null /dev/ && \
         $K run --scrub --report $D/r.json -- sh -c \"$C & exit 4\"; echo $?; $K census -n --kind segment; echo $?",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4\n0\n", "{output:?}");
    let report = scene.report();
    assert_eq!(actions(&report, "process"), ["terminated"], "{report}");
    assert!(report["job"]["complete"].as_bool().unwrap());
}

/// Another user's processes cannot be seen: the job's own are known all the same, and what they cannot see is said.
#[test]
fn hidepid_hides_others_and_is_said() {
    let Some(scene) = Scene::new("hidepid_hides_others_and_is_said", "hidepid") else { return };
    for how in ["invisible", "noaccess", "ptraceable"] {
        let output = scene.run(&format!(
            "mount -t proc -o hidepid={how} proc /proc && mkdir -p $D/nobody && chown 65534 $D/nobody && \
             $U $K run --scrub --report $D/nobody/r.json -- sh -c \"$C & exit 4\"; echo $?; \
             mv $D/nobody/r.json $D/; $U $K census -n --kind process -o OWNER | sort -u | tr -d '\\n'",
        ));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(stdout.starts_with("4\n"), "{how}: {output:?}");
        let report = scene.report();
        assert_eq!(actions(&report, "process"), ["terminated"], "{how}: {report}");
        if how == "invisible" {
            assert_eq!(stdout, "4\nnobody", "{how}: {output:?}");
        }
        let needle = format!("not visible: process: processes of other users are hidden (/proc has hidepid={how})");
        assert!(said(&output).contains(&needle), "{how}: {output:?}");
    }
}

/// Nobody of the job can be looked into: that is not "nobody is left".
#[test]
fn without_proc_what_is_left_is_not_called_nothing() {
    let Some(scene) = Scene::new("without_proc_what_is_left_is_not_called_nothing", "proc") else { return };
    let output = scene.run("umount -l /proc && $K run --kill-after 0.1 --report $D/r.json -- sh -c \"$C & exit 4\"");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let report = scene.report();
    // Whether there are System V objects the kernel also says without /proc; where there are none, none is hidden.
    assert!(is_not_visible(&report, "process") && is_not_visible(&report, "mount"), "{report}");
    assert_eq!(report["job"]["complete"], false);
    assert!(said(&output).contains("processes of the job are left"), "{output:?}");
    assert_eq!(actions(&report, "process"), Vec::<&str>::new());
}

/// The numbers of another namespace are not ours: what they name must not be said, or signalled, of our processes.
#[test]
fn a_proc_of_another_pid_namespace_is_not_believed() {
    let Some(scene) = Scene::new("a_proc_of_another_pid_namespace_is_not_believed", "numbers") else { return };
    let output = scene.run(
        "unshare --pid --fork --kill-child $K run --kill-after 0.1 --report $D/r.json -- sh -c \"$C & exit 4\"; echo $?; \
         unshare --pid --fork --kill-child $K census --kind process; echo $?; \
         unshare --pid --fork --kill-child $K scrub --dry-run process:2; echo $?",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().next(), Some("4"), "{output:?}");
    let report = scene.report();
    // With a control group the rest is ended all the same, which no name is needed for.
    assert_eq!(actions(&report, "process"), Vec::<&str>::new(), "{report}");
    assert!(processes(&scene.word).is_empty() || is_not_visible(&report, "process"), "{report}");
    assert!(said(&output).contains("not visible: process: "), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n2\n"), "{output:?}");
}

/// A daemon that left its session and its parent, and here also the cookie: each layer that is left finds it, and says
/// which it was; what takes an exact layer is no longer claimed.
#[test]
fn each_layer_alone_finds_a_daemon_and_claims_no_more() {
    let Some(scene) = Scene::new("each_layer_alone_finds_a_daemon_and_claims_no_more", "layers") else { return };
    let hide_groups =
        "for m in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/self/mounts); do mount -o remount,ro,bind $m; done";
    let inside = "unshare --pid --fork --kill-child --mount-proc";
    let run = |before: &str, prefix: &str, cookie: &str| {
        let script = format!("setsid -f {cookie} $C; : >/dev/shm/$W; ipcmk -M 64 >&2; exit 4");
        let output = scene.run(&format!("{before}; {prefix} $K run --scrub --report $D/r.json -- sh -c \"{script}\""));
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        _ = std::fs::remove_file(format!("/dev/shm/{}", scene.word));
        let id = said(&output).lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned();
        _ = Command::new("ipcrm").args(["-m", &id]).stderr(Stdio::null()).status();
        let report = scene.report();
        let row = report["stragglers"].as_array().unwrap().iter().find(|row| row["kind"] == "process");
        let row = row.unwrap_or_else(|| panic!("the daemon got away: {report}"));
        assert_eq!(row["action"], "terminated", "{row}");
        let kinds = row["evidence"].as_array().unwrap().iter().map(|evidence| evidence["kind"].as_str().unwrap());
        let kinds = kinds.collect::<Vec<_>>().join(" ");
        let own = [actions(&report, "segment").len(), actions(&report, "sysv-segment").len()];
        (report["job"]["containment"].as_str().unwrap().to_owned(), kinds, own)
    };
    let bare = "env -u KOBJ_JOB";
    let (containment, kinds, own) = run(":", "", bare);
    let layers = scene.report()["job"]["tracing"].to_string();
    if !(layers.contains("connector") && layers.contains("fanotify")) {
        let test = "each_layer_alone_finds_a_daemon_and_claims_no_more";
        return println!("skipped: {test}: this machine has only the layers {layers}");
    }
    if containment == "cgroup" {
        assert_eq!((kinds.as_str(), own), ("cgroup connector", [1, 1]), "all layers");
        // No number of this namespace means anything to the connector and to file events.
        assert_eq!(run(":", inside, bare), ("cgroup".into(), "cgroup".into(), [0, 0]));
    } else {
        println!("skipped: each_layer_alone_finds_a_daemon_and_claims_no_more: cgroup: none can be made here");
    }
    assert_eq!(run(hide_groups, "", bare), ("subreaper".into(), "connector".into(), [1, 1]));
    assert_eq!(run(hide_groups, inside, bare), ("subreaper".into(), "ancestry".into(), [0, 0]));
    assert_eq!(run(hide_groups, inside, ""), ("subreaper".into(), "ancestry cookie".into(), [0, 0]));
}

/// Each process is held by a descriptor: more processes than descriptors are ended in turns, none by force.
#[test]
fn more_processes_than_descriptors_are_all_asked_first() {
    let test = "more_processes_than_descriptors_are_all_asked_first";
    let Some(scene) = Scene::new(test, "descriptors") else { return };
    for limit in ["-Sn 40", "-n 64"] {
        let output = scene.run(&format!(
            "ulimit {limit}; $K run --kill-after 30 --report $D/r.json -- \
             sh -c \"for i in $(seq -s ' ' 120); do $C & done; ulimit -n\""
        ));
        assert!(output.status.success(), "{limit}: {output:?}");
        let number = limit.split(' ').next_back().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), number, "the command keeps its own limit");
        let report = scene.report();
        let ended = actions(&report, "process");
        assert_eq!(ended.len(), 120, "{limit}: {output:?}");
        assert!(ended.iter().all(|action| *action == "terminated"), "{limit}: {ended:?}");
        assert!(report["job"]["complete"].as_bool().unwrap(), "{limit}: {}", report["job"]);
    }
}

/// No file may grow: neither the record nor a report can be written, and kobj does not die of SIGXFSZ.
#[test]
fn where_no_file_may_grow_the_run_goes_on_and_says_so() {
    let test = "where_no_file_may_grow_the_run_goes_on_and_says_so";
    let Some(scene) = Scene::new(test, "grow") else { return };
    let run = |flags: &str, script: &str| {
        scene.run(&format!("ulimit -f 0; $K run -v {flags} -- sh -c \"{script}\" 2>&1 | cat >&2; exit 0"))
    };
    let output = run("--report $D/r.json", "$C & exit 0");
    let text = said(&output);
    assert!(text.contains("cannot write the report") && text.contains("File too large"), "{output:?}");
    assert!(text.contains("no room can be reserved"), "the run is marked as not recoverable: {output:?}");
    assert!(text.contains("terminated"), "{output:?}");
}

#[test]
fn a_hundred_thousand_segments_are_named_and_scrubbed() {
    let Some(scene) = Scene::new("a_hundred_thousand_segments_are_named_and_scrubbed", "many") else { return };
    std::fs::write(
        scene.path("many.py"),
        "import os, sys\n\
         folder = os.open('/dev/shm', os.O_RDONLY)\n\
         for number in range(100000):\n \
         os.close(os.open('%s-%d' % (sys.argv[1], number), os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))\n",
    )
    .unwrap();
    let output = scene.run("$K run --scrub --name many -- python3 $D/many.py $W");
    let text = said(&output);
    let first = text.lines().next().unwrap_or_default();
    assert!(output.status.success(), "{first}");
    assert_eq!(first, "kobj: job \"many\" left 100000 objects; 100000 were its own and unused");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" + 100000 scrubbed + 0 left"), "{last}");
    let left = std::fs::read_dir("/dev/shm").unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().contains(&scene.word)).count();
    assert_eq!(left, 0);
}
