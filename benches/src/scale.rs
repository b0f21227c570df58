//! Group `objects`, the part about many: taking back 10^6 handles, the longest steps on the way to 10^7 objects and 10^6 names,
//! why an object of 10^6 is there, and what making one costs among how many.
//!
//! Steps are measured one by one in processor time of the thread, growth of all tables included.

use crate::figure::{Figure, Options, Report, Samples};
use crate::objects::{
    GROUP, MANY, NOW, Random, SAME, Scene, handle_of, make_and_end, name_of, processor_ns, shuffled, timed,
};
use kobj_abi::{Era, HostKind, Koid, LinkKind, RawHandle};
use kobj_core::image::{HostImage, Identity, Time};
use kobj_core::types::process;
use kobj_core::{Call, CallAnswer, Core};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

const MOST: usize = 10_000_000;
/// Operations between two readings of the clock, where another thread works meanwhile.
const BATCH: usize = 50;

pub(crate) fn run(options: &Options, report: &mut Report) {
    let wants = |name: &str| options.wants(GROUP, name);
    let many = options.most.unwrap_or(MANY).min(MANY);
    if wants("objects/revoke-1e6") {
        revoke(report, many);
    }
    if wants("objects/chain-1e6") {
        chain(report, many);
    }
    if wants("objects/longest-link") {
        directory(report, many);
    }
    if wants("objects/why-1e6") {
        why(report, many);
    }
    if wants("objects/curve") {
        curve(report, options.most.unwrap_or(MOST).min(MOST));
    }
}

/// The longest step, and the one that 1 of 1000 is longer than.
fn print_steps(report: &mut Report, name: &str, mut steps_us: Vec<f32>) {
    steps_us.sort_unstable_by(f32::total_cmp);
    let (count, longest) = (steps_us.len(), steps_us.last().copied().unwrap_or_default());
    let p999 = steps_us[count - 1 - count / 1_000];
    let mut ours = Samples::default();
    ours.push(f64::from(p999));
    let bar = format!("p99.9 of {count} steps under 1 ms (the longest took {longest:.0} us)");
    let bar = Some((bar.as_str(), p999 < 1_000.0));
    report.print(&Figure { name, group: GROUP, unit: "us", ours, rivals: Vec::new(), bar });
}

/// The processor time of one step, in microseconds.
fn step_us(step: impl FnOnce()) -> f32 {
    let start = processor_ns();
    step();
    ((processor_ns() - start) / 1_000.0) as f32
}

/// Waits until the other thread says so.
fn wait_for(stage: &AtomicU32, wanted: u32) {
    while stage.load(Ordering::Acquire) < wanted {
        thread::yield_now();
    }
}

/// What another thread's operations cost before and while 10^6 handles are taken back.
#[derive(Default)]
struct Meanwhile {
    lookup: [Samples; 2],
    create: [Samples; 2],
}

fn revoke(report: &mut Report, many: usize) {
    let scene = Scene::new();
    let handle = scene.thread().create(NOW, [7; 8]).expect("the quota is far away");
    let call = |call| scene.manager.call(NOW, scene.guest, call);
    for _ in 0..many {
        handle_of(call(Call::Derive { handle, rights: SAME }));
    }
    // 0: the other thread measures alone; 1: it has; 2: taken back.
    let stage = AtomicU32::new(0);
    let (mut processor, mut wall) = (0.0, 0.0);
    let meanwhile = thread::scope(|scope| {
        let other = scope.spawn(|| other_thread(&scene, handle, &stage));
        wait_for(&stage, 1);
        let (start, began) = (processor_ns(), Instant::now());
        assert_eq!(call(Call::Revoke { handle }), Ok(CallAnswer::Done));
        (processor, wall) = ((processor_ns() - start) / 1e6, began.elapsed().as_secs_f64() * 1e3);
        stage.store(2, Ordering::Release);
        other.join().expect("the other thread does not panic")
    });
    let mut ours = Samples::default();
    ours.push(processor);
    let bar = format!("under 200 ms (wall {wall:.0} ms, with all that the machine did)");
    let bar = Some((bar.as_str(), processor < 200.0));
    report.print(&Figure { name: "objects/revoke-1e6", group: GROUP, unit: "ms", ours, rivals: Vec::new(), bar });
    let Meanwhile { lookup, create } = meanwhile;
    for (name, [before, ours]) in [("objects/revoke-1e6-lookup", lookup), ("objects/revoke-1e6-create-close", create)] {
        let bar = Some(("the other thread's p50 at most 2 times before", ours.median() <= 2.0 * before.median()));
        report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals: vec![("before", before)], bar });
    }
}

fn other_thread(scene: &Scene, handle: RawHandle, stage: &AtomicU32) -> Meanwhile {
    let table = scene.manager.table(scene.guest).expect("the guest lives");
    let mut worker = scene.thread();
    let mut all = Meanwhile::default();
    let mut both = |at: usize| {
        all.lookup[at].push(timed(BATCH, &mut |count| {
            assert!((0..count).all(|_| scene.koid(&table, black_box(handle)).is_some()));
        }));
        all.create[at].push(timed(BATCH, &mut |count| (0..count).for_each(|_| make_and_end(&mut worker))));
    };
    (0..20_000).for_each(|_| both(0));
    stage.store(1, Ordering::Release);
    while stage.load(Ordering::Acquire) < 2 {
        both(1);
    }
    all
}

/// Each handle derived from the one before and all closed but the first, so that the object stays, and the last: its end takes
/// the whole chain of nodes with it.
fn chain(report: &mut Report, many: usize) {
    let scene = Scene::new();
    let call = |call| scene.manager.call(NOW, scene.guest, call);
    let first = scene.thread().create(NOW, [7; 8]).expect("the quota is far away");
    let mut last = first;
    for _ in 0..many {
        let next = handle_of(call(Call::Derive { handle: last, rights: SAME }));
        if last != first {
            call(Call::Close { handle: last }).expect("it was open");
        }
        last = next;
    }
    assert!(scene.manager.with(|core| core.derivation_nodes()) as usize >= many);
    let mut steps = vec![step_us(|| drop(call(Call::Close { handle: last })))];
    let mut more = true;
    while more {
        steps.push(step_us(|| more = scene.manager.go_on()));
    }
    assert_eq!(scene.manager.with(|core| core.derivation_nodes()), 1, "the chain is gone");
    print_steps(report, "objects/chain-1e6", steps);
}

/// Each call that names one more object in one directory.
fn directory(report: &mut Report, many: usize) {
    let scene = Scene::new();
    let boot = scene.manager.boot();
    let mut worker = scene.manager.thread(boot.process, &scene.key).expect("the embedder's process lives");
    let mut steps = Vec::with_capacity(many);
    for number in 0..many {
        let name = name_of(number);
        let handle = worker.create(NOW, [number as u64; 8]).expect("the root job has no limit");
        let link = Call::Link { directory: boot.directory, name: &name, handle, most: SAME, permanent: true };
        steps.push(step_us(|| {
            scene.manager.call(NOW, boot.process, link).expect("a new name");
        }));
        worker.close(NOW, handle).expect("it was just made");
    }
    print_steps(report, "objects/longest-link", steps);
}

/// A graph of host objects, each kept by up to three others made before it, the first of them by living processes; and the
/// same as plain arrays: who keeps whom, one after the other.
struct Graph {
    core: Core,
    koids: Vec<Koid>,
    first_keeper: Vec<u32>,
    keepers: Vec<u32>,
    /// Numbers below it are processes.
    processes: usize,
    marks: Vec<u32>,
}

impl Graph {
    fn new(many: usize) -> Self {
        let processes = (many / 1_000).max(1);
        let mut core = Core::new(Era(1));
        let job = core.create_job(Time(0), None, None).expect("an empty manager makes a job");
        let (mut koids, mut first_keeper, mut keepers) = (Vec::new(), vec![0], Vec::new());
        let mut random = Random(3);
        for number in 0..many {
            let koid = if number < processes {
                let living = process::Request { pid: number as u32 | 1, started: 1, ended: false };
                core.create_process(Time(0), Some(job), living, None).expect("a job takes a process")
            } else {
                let identity = Identity::Ipc { id: number as i64, key: 0, uid: 0 };
                let image = HostImage::new(HostKind::SysvSegment, b"segment".to_vec(), identity);
                let koid = core.create_host_object(Time(0), job, image, None).expect("a job takes a host object");
                for _ in 0..1 + random.below(3) {
                    let keeper = random.below(number);
                    let kind = if keeper < processes { LinkKind::Holds } else { LinkKind::DerivedFrom };
                    core.link(koids[keeper], kind, koid).expect("what lives can be linked");
                    keepers.push(keeper as u32);
                }
                // The job keeps it no longer: the others do.
                core.close(koid).expect("it lives");
                koid
            };
            koids.push(koid);
            first_keeper.push(keepers.len() as u32);
        }
        Self { core, koids, first_keeper, keepers, processes, marks: vec![0; many] }
    }

    /// Breadth-first from an object back to the first process, or over all that keeps it; the distance.
    fn in_arrays(&mut self, from: usize, mark: u32, whole: bool) -> usize {
        let mut reached = vec![(from as u32, 0_u32)];
        let (mut at, mut found) = (0, None);
        self.marks[from] = mark;
        while let Some((here, distance)) = reached.get(at).copied() {
            at += 1;
            let here = here as usize;
            let keepers = self.first_keeper[here] as usize..self.first_keeper[here + 1] as usize;
            for keeper in &self.keepers[keepers] {
                if std::mem::replace(&mut self.marks[*keeper as usize], mark) != mark {
                    reached.push((*keeper, distance + 1));
                    if (*keeper as usize) < self.processes && found.is_none() {
                        found = Some(distance as usize + 1);
                        if !whole {
                            return distance as usize + 1;
                        }
                    }
                }
            }
        }
        found.unwrap_or(0)
    }
}

fn why(report: &mut Report, many: usize) {
    let mut graph = Graph::new(many);
    let mut random = Random(5);
    let (mut ours, mut search, mut pass) = (Samples::default(), Samples::default(), Samples::default());
    let mut longest = [0.0_f64; 2];
    for round in 0..1_001_u32 {
        let number = graph.processes + random.below(many - graph.processes);
        let koid = graph.koids[number];
        let mut steps = 0;
        let us = f64::from(step_us(|| steps = graph.core.why(koid).map_or(0, |why| why.chain.len())));
        let mut distance = 0;
        let first = f64::from(step_us(|| distance = graph.in_arrays(number, 2 * round + 1, false)));
        let whole = f64::from(step_us(|| {
            black_box(graph.in_arrays(number, 2 * round + 2, true));
        }));
        assert_eq!(steps, distance, "both find a shortest chain");
        longest = [longest[0].max(us), longest[1].max(whole)];
        ours.push(us);
        search.push(first);
        pass.push(whole);
    }
    let holds = ours.median() < 5_000.0 && longest[0] <= 1.5 * longest[1];
    let bar = format!(
        "median under 5 ms, longest ({:.1} ms) at most 1.5 times the longest pass over arrays ({:.1} ms)",
        longest[0] / 1e3,
        longest[1] / 1e3
    );
    let rivals = vec![("arrays, to the first process", search), ("arrays, whole pass", pass)];
    report.print(&Figure { name: "objects/why-1e6", group: GROUP, unit: "us", ours, rivals, bar: Some((&bar, holds)) });
}

/// What making an object and closing it costs among so many living: the same place again and again, and random ones.
struct Point {
    living: usize,
    hot_ns: f64,
    random_ns: f64,
}

/// On the way to 10^7 objects, each step measured; at each power of ten a look at what one more costs.
fn curve(report: &mut Report, most: usize) {
    let scene = Scene::new();
    let mut worker = scene.thread();
    let mut handles: Vec<RawHandle> = Vec::with_capacity(most);
    let (mut steps, mut points) = (Vec::with_capacity(most), Vec::new());
    let mut next = 10;
    while handles.len() < most {
        let number = handles.len() as u64;
        steps.push(step_us(|| handles.push(worker.create(NOW, [number; 8]).expect("the quota is far away"))));
        if handles.len() < next {
            continue;
        }
        next *= 10;
        let (mut hot, mut at_random) = (Samples::default(), Samples::default());
        let mut order = shuffled(handles.len());
        order.truncate(1_000_000);
        let mut at = 0;
        for _ in 0..31 {
            hot.push(timed(5_000, &mut |count| (0..count).for_each(|_| make_and_end(&mut worker))));
            at_random.push(timed(5_000, &mut |count| {
                for _ in 0..count {
                    at = if at + 1 < order.len() { at + 1 } else { 0 };
                    let slot = &mut handles[order[at] as usize];
                    worker.close(NOW, *slot).expect("it is open");
                    *slot = worker.create(NOW, [7; 8]).expect("the quota is far away");
                }
            }));
        }
        points.push(Point { living: handles.len(), hot_ns: hot.median(), random_ns: at_random.median() });
        let exponent = handles.len().ilog10();
        let rivals = vec![("the same object again", hot)];
        let name = format!("objects/curve-1e{exponent}");
        report.print(&Figure { name: &name, group: GROUP, unit: "ns", ours: at_random, rivals, bar: None });
    }
    print_steps(report, "objects/curve-longest-create", steps);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/objects-curve.svg");
    match std::fs::write(path, draw(&points)) {
        Ok(()) if most == MOST => eprintln!("docs/objects-curve.svg is drawn"),
        Ok(()) => eprintln!("docs/objects-curve.svg is drawn, of {most} objects at most"),
        Err(error) => eprintln!("docs/objects-curve.svg: {error}"),
    }
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// The curve: living objects to the right by powers of ten, nanoseconds upwards.
fn draw(points: &[Point]) -> String {
    let highest = points.iter().map(|point| point.random_ns.max(point.hot_ns)).fold(100.0, f64::max);
    let line_ns = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0].into_iter().find(|step| highest / step <= 6.0).unwrap_or(1e3);
    let top_ns = (highest / line_ns).ceil() * line_ns;
    let tens = points.len().saturating_sub(1).max(1) as f64;
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / tens;
    let y = |ns: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ns / top_ns;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-label=\"Cost of an object against living objects\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <g font-family=\"sans-serif\" font-size=\"13\" fill=\"#303030\">\n\
         <text x=\"{LEFT}\" y=\"22\">create + close of an unnamed object, ns, against living objects</text>\n"
    );
    let mut ns = 0.0;
    while ns <= top_ns {
        let (at, end) = (y(ns), WIDTH - RIGHT);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#dddddd\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ns}</text>", LEFT - 8.0, at + 4.0);
        ns += line_ns;
    }
    for (at, point) in points.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">10<tspan dy=\"-5\" font-size=\"10\">{}</tspan></text>",
            x(at as f64),
            HEIGHT - BOTTOM + 22.0,
            point.living.ilog10()
        );
    }
    type Line = (&'static str, &'static str, fn(&Point) -> f64);
    let lines: [Line; 2] =
        [("a random object", "#c0392b", |point| point.random_ns), ("the same again", "#2462a8", |point| point.hot_ns)];
    for (label, colour, of) in lines {
        let mut path = String::new();
        for (at, point) in points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, x(at as f64), y(of(point)));
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(at as f64),
                y(of(point))
            );
        }
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        let last = points.last().map_or(0.0, of);
        let (beside, height) = (WIDTH - RIGHT + 10.0, y(last) + 4.0);
        let _ = writeln!(svg, "<text x=\"{beside}\" y=\"{height:.1}\" fill=\"{colour}\">{label} {last:.0}</text>");
    }
    svg + "</g>\n</svg>\n"
}
