//! The host: what guests import, each call made under the guest's own process.
//!
//! Handles cross as the numbers that they are. Nothing is looked up beside them: that a number is a guest's own, what it
//! means and what it allows is kobj's to check. What the host adds is which guest call made what, for its report.

use kobj::{AskedRights, Call, CallAnswer, Caller, ErrorCode, Event, Guest, Job, Koid, Manager, RawHandle, Rights};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::rc::Rc;
use wasmi::{Config, Engine, Extern, Linker, Module, Store};

/// How many instructions a guest may do.
const FUEL: u64 = 20_000;
/// The most bytes of a path, more of which are not copied out of a guest.
const PATH_BYTES_MAX: usize = 4096;

/// What an import is called with: the guest's store.
type Env<'a> = wasmi::Caller<'a, Rc<Instance>>;
/// What an import does: the number for the guest, or why not.
type Answer = Result<i64, ErrorCode>;

/// The manager, and what the host keeps beside it.
pub(crate) struct Host {
    pub(crate) manager: Manager,
    engine: Engine,
    /// What the manager has said.
    pub(crate) events: RefCell<Vec<Event>>,
}

impl Host {
    pub(crate) fn new(manager: Manager) -> Rc<Self> {
        let engine = Engine::new(Config::default().consume_fuel(true));
        Rc::new(Self { manager, engine, events: RefCell::default() })
    }

    /// How many events of a kind came for a process.
    pub(crate) fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.take_events();
        self.events.borrow().iter().filter(|event| is_it(event)).count()
    }

    fn take_events(&self) {
        self.events.borrow_mut().extend(std::iter::from_fn(|| self.manager.next_event()));
    }
}

/// A running guest: its process, and what others have sent it.
pub(crate) struct Instance {
    host: Rc<Host>,
    pub(crate) name: &'static str,
    pub(crate) process: Guest,
    /// To whom it may send.
    peer: Option<Rc<Instance>>,
    inbox: RefCell<VecDeque<RawHandle>>,
    /// How many imports it has called.
    called: Cell<u32>,
    /// Which of them made an object or a handle to it; as many as the fuel allows, and gone with the guest.
    made: RefCell<BTreeMap<Koid, Vec<String>>>,
}

impl Instance {
    pub(crate) fn new(
        host: &Rc<Host>,
        job: &Job,
        name: &'static str,
        peer: Option<&Rc<Self>>,
    ) -> Result<Rc<Self>, kobj::Error> {
        let (host, peer, process) = (host.clone(), peer.cloned(), job.create_guest()?);
        let (inbox, called, made) = (RefCell::default(), Cell::new(0), RefCell::default());
        Ok(Rc::new(Self { host, name, process, peer, inbox, called, made }))
    }

    /// Its calls that made an object or handles to it.
    pub(crate) fn calls(&self, koid: Koid) -> Vec<String> {
        self.made.borrow().get(&koid).cloned().unwrap_or_default()
    }

    fn caller(&self) -> &Caller {
        self.process.caller()
    }

    /// Notes that a call made this handle, and gives the number that the guest gets.
    fn hand_out(&self, import: &str, handle: RawHandle) -> Answer {
        let raw = handle.raw() as i64;
        if (-255..0).contains(&raw) {
            // A number that would read as an error: one in 10^17. The guest may ask again and gets another.
            let _closed = self.caller().call(Call::Close { handle });
            return Err(ErrorCode::Exhausted);
        }
        self.note(import, handle);
        Ok(raw)
    }

    fn note(&self, import: &str, handle: RawHandle) {
        if let Ok(CallAnswer::Info(info)) = self.caller().call(Call::HandleInfo { handle }) {
            let line = format!("{}, call {}: {import}", self.name, self.called.get());
            self.made.borrow_mut().entry(info.koid).or_default().push(line);
        }
    }

    /// Runs the guest's `work` with a handle to start from.
    pub(crate) fn run(self: &Rc<Self>, body: &str, start: RawHandle) -> Result<i64, Box<dyn Error>> {
        let text = format!("(module {} {body})", include_str!("../guests/prelude.wat"));
        let module = Module::new(&self.host.engine, text)?;
        let mut store = Store::new(&self.host.engine, self.clone());
        store.set_fuel(FUEL)?;
        let instance = imports(&self.host.engine)?.instantiate_and_start(&mut store, &module)?;
        let work = instance.get_typed_func::<i64, i64>(&store, "work")?;
        Ok(work.call(&mut store, start.raw() as i64)?)
    }
}

/// One import: counted, done, its error made a number. A guest that its process did not outlive does not go on.
fn serve(env: Env<'_>, action: impl FnOnce(&Instance) -> Answer) -> Result<i64, wasmi::Error> {
    let guest = env.data();
    guest.called.set(guest.called.get() + 1);
    let answer = action(guest).unwrap_or_else(|code| -i64::from(code as u8));
    guest.host.take_events();
    let of_this = |event: &Event| match event {
        Event::Killed { process, reason } if *process == guest.process.koid() => Some(*reason),
        _ => None,
    };
    match guest.host.events.borrow().iter().find_map(of_this) {
        Some(reason) => Err(wasmi::Error::new(format!("killed: {reason:?}"))),
        None => Ok(answer),
    }
}

fn handle_of(number: i64) -> Result<RawHandle, ErrorCode> {
    // 0 is no handle of anybody's, in any table.
    RawHandle::from_raw(number as u64).ok_or(ErrorCode::BadHandle)
}

fn code(error: kobj::Error) -> ErrorCode {
    error.code()
}

fn rights(bits: i32) -> AskedRights {
    AskedRights::Exactly(Rights::from_bits(bits as u32))
}

/// Bytes of the guest's memory, bounded before they are copied.
fn bytes(env: &Env<'_>, at: i32, length: i32) -> Result<Vec<u8>, ErrorCode> {
    let Some(Extern::Memory(memory)) = env.get_export("memory") else { return Err(ErrorCode::BadArgument) };
    let (at, length) = (at as u32 as usize, length as u32 as usize);
    let end = at.checked_add(length).filter(|_| length <= PATH_BYTES_MAX).ok_or(ErrorCode::BadArgument)?;
    memory.data(env).get(at..end).map(<[u8]>::to_vec).ok_or(ErrorCode::BadArgument)
}

fn new_handle(guest: &Instance, import: &str, call: Call<'_>) -> Answer {
    match guest.caller().call(call).map_err(code)? {
        CallAnswer::Handle(handle) => guest.hand_out(import, handle),
        _ => Err(ErrorCode::BadState),
    }
}

fn send(guest: &Instance, number: i64, bits: i32) -> Answer {
    let (handle, peer) = (handle_of(number)?, guest.peer.as_ref().ok_or(ErrorCode::NotFound)?);
    let theirs = guest.caller().transfer(handle, &peer.process, rights(bits)).map_err(code)?;
    peer.inbox.borrow_mut().push_back(theirs);
    Ok(0)
}

/// What guests import, each a call of kobj's under the guest's own process.
fn imports(engine: &Engine) -> Result<Linker<Rc<Instance>>, wasmi::Error> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("kobj", "create", |env: Env<'_>| {
        serve(env, |guest| {
            let made = guest.caller().create_directory().map_err(code)?;
            guest.hand_out("create", made.into_raw())
        })
    })?;
    linker.func_wrap("kobj", "duplicate", |env: Env<'_>, number: i64, bits: i32| {
        serve(env, |guest| {
            let call = Call::Duplicate { handle: handle_of(number)?, rights: rights(bits) };
            new_handle(guest, "duplicate", call)
        })
    })?;
    linker.func_wrap("kobj", "send", |env: Env<'_>, number: i64, bits: i32| {
        serve(env, |guest| send(guest, number, bits))
    })?;
    linker.func_wrap("kobj", "receive", |env: Env<'_>| {
        serve(env, |guest| {
            let next = guest.inbox.borrow_mut().pop_front();
            next.map_or(Err(ErrorCode::NotFound), |handle| guest.hand_out("receive", handle))
        })
    })?;
    linker.func_wrap(
        "kobj",
        "link",
        |env: Env<'_>, directory: i64, number: i64, at: i32, length: i32, most: i32| {
            let name = bytes(&env, at, length);
            serve(env, |guest| {
                let (directory, handle, name) = (handle_of(directory)?, handle_of(number)?, &name?);
                let call = Call::Link { directory, name, handle, most: rights(most), permanent: false };
                guest.caller().call(call).map(|_| 0).map_err(code)
            })
        },
    )?;
    linker.func_wrap("kobj", "open", |env: Env<'_>, directory: i64, at: i32, length: i32, bits: i32| {
        let path = bytes(&env, at, length);
        serve(env, |guest| {
            let (directory, path) = (handle_of(directory)?, &path?);
            let call = Call::Open { directory, path, rights: rights(bits), expected: None, follow: true };
            new_handle(guest, "open", call)
        })
    })?;
    linker.func_wrap("kobj", "unlink", |env: Env<'_>, directory: i64, at: i32, length: i32| {
        let name = bytes(&env, at, length);
        serve(env, |guest| {
            let call = Call::Unlink { directory: handle_of(directory)?, name: &name? };
            guest.caller().call(call).map(|_| 0).map_err(code)
        })
    })?;
    linker.func_wrap("kobj", "close", |env: Env<'_>, number: i64| {
        serve(env, |guest| guest.caller().call(Call::Close { handle: handle_of(number)? }).map(|_| 0).map_err(code))
    })?;
    Ok(linker)
}
