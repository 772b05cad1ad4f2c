//! All that is registered, and the calls that change it.

use std::borrow::Cow;
use std::mem::offset_of;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering::*;

use crate::addr::LoadBias;

use crate::code::{Arenas, DetourSpace, Poker};
use crate::elf::{ElfFile, FileId};
use crate::error::{NotOptimized, Refusal};
use crate::hit::c_structs::CUprobe;
use crate::hit::consumer::{Consumer, InternalHandler, Mark, Role};
use crate::hit::memory::SafeMemory;
use crate::hit::{point, process};
use crate::place::{Label, Place};
use crate::probe::commit::publish_address;
use crate::probe::frames;
use crate::probe::instance::{Asked, Instance, Maker, ModuleKey};
use crate::probe::modules::{Module, is_file_of, list_modules, list_modules_alone};
use crate::probe::names::Names;
use crate::probe::own_text;
use crate::probe::request::Request;
use crate::probe::retire::Retirement;
use crate::probe::shared::Shared;
use crate::regs::Memory;
use crate::sys::{self, FixedHashMap, Shelf};

/// Everything registered. Reached through [`crate::probe::lock`]; what looks at objects or writes text, with
/// unmapping held back.
pub struct Registry {
    /// The objects loaded now.
    pub modules: Vec<Rc<Module>>,
    /// All objects that ever were, by their number.
    pub(super) keys: Vec<Key>,
    /// The paths of their files, by number.
    pub(super) paths: Vec<(FileId, Box<Path>)>,
    pub(super) files: Files,
    /// Device and inode that the probes' paths lead to: asked of the kernel once each time that places are looked for,
    /// not for each of ten thousand probes in each object.
    pub(super) path_ids: FixedHashMap<String, Option<(u64, u64)>>,
    /// What was asked for; `None` where unregistered.
    pub requests: Vec<Option<Request>>,
    /// Those of the config that were reported as mistakes; sorted.
    pub reported: Vec<usize>,
    /// What was found; `None` where unregistered.
    pub instances: Vec<Option<Instance>>,
    pub(super) poker: Poker,
    pub(super) arenas: Arenas,
    pub(super) detours: DetourSpace,
    pub(super) retirement: Retirement,
    /// What is never freed.
    pub(super) shelf: Shelf,
    pub(super) shared: Shared,
    /// Objects that the linker has mapped and not yet relocated: their IFUNCs can't be asked.
    pub(super) unrelocated: Vec<Rc<Module>>,
    /// Who is told when one of them is relocated.
    pub(super) relocation: Option<&'static Consumer>,
    /// Why armed places are not optimized, by address.
    pub not_optimized: FixedHashMap<u64, NotOptimized>,
    /// Places found since [`Registry::release_files`].
    looked_up: usize,
    /// Whether any call is followed, or was.
    pub(super) follows: bool,
    /// The names that were given.
    pub(super) names: Names,
    /// How many numbers there may be before those of what is gone are given back.
    pub(super) compact_at: usize,
}

/// What a [`ModuleKey`] stands for.
pub(super) struct Key {
    id: FileId,
    bias: LoadBias,
    /// The file's number.
    pub(super) file: u32,
}

// SAFETY: reached by one thread at a time, under the lock.
unsafe impl Send for Registry {}

/// So many places pay for reading the files anew.
const RELEASE_AFTER: usize = 1024;

impl Registry {
    /// An empty registry, with the way to write text opened. Unmapping is held back.
    #[must_use]
    pub fn new() -> Self {
        let modules = list_modules(&[]);
        frames::publish(&modules);
        Self {
            modules,
            files: FixedHashMap::default(),
            path_ids: FixedHashMap::default(),
            requests: Vec::new(),
            reported: Vec::new(),
            instances: Vec::new(),
            keys: Vec::new(),
            paths: Vec::new(),
            poker: Poker::new(),
            arenas: Arenas::default(),
            detours: DetourSpace::default(),
            retirement: Retirement::default(),
            shelf: Shelf::default(),
            shared: Shared::default(),
            unrelocated: Vec::new(),
            relocation: None,
            not_optimized: FixedHashMap::default(),
            looked_up: 0,
            follows: false,
            names: Names::default(),
            compact_at: 0,
        }
    }

    /// Adds probes and arms those whose objects are loaded. Returns their numbers.
    pub fn register(&mut self, all: Vec<Asked>) -> Range<usize> {
        let first = self.requests.len();
        self.requests.reserve(all.len());
        point::reserve(all.len());
        for Asked { maker, label } in all {
            if maker.follows() {
                self.begin_following();
            }
            note_number(&maker, self.requests.len());
            // What this version doesn't have is refused wherever it would be.
            let refusal = match &maker {
                Maker::Spec(spec) => spec.probe.not_yet.map(|what| Refusal::NotYet { what }),
                Maker::Api(_) => None,
            };
            let mut request = Request::new(maker, label);
            request.set_refusal(refusal);
            self.requests.push(Some(request));
        }
        let before = self.instances.len();
        self.bring_in_line(first);
        self.looked_up += self.instances.len().saturating_sub(before);
        if self.looked_up >= RELEASE_AFTER {
            self.release_files();
        }
        first..self.requests.len()
    }

    /// Gives back the memory of what is known about the objects' files: it is read again when it is needed.
    pub fn release_files(&mut self) {
        self.looked_up = 0;
        for file in self.files.values_mut().flatten() {
            // Nobody else has it: those who do are done with it when they return.
            if let Some(file) = Rc::get_mut(file) {
                file.release();
            }
        }
        self.detours.release();
        self.names.release();
        sys::trim();
        // Where little was registered the pages would only be had again.
        if self.instances.len() >= RELEASE_AFTER {
            self.modules.iter().filter(|module| module.is_own).for_each(|own| own_text::release(own));
        }
    }

    /// The linker's hook: objects were mapped or unmapped. What is new is not relocated yet; what was
    /// there before certainly is. `on_relocated` is called before a new object's first own function,
    /// where a probe waits for that.
    pub fn objects_mapped(&mut self, on_relocated: InternalHandler) {
        let now = self.list_modules();
        let before = std::mem::take(&mut self.modules);
        self.retry(|_| true);
        self.unrelocated = now.into_iter().filter(|module| !before.contains(module)).collect();
        self.modules = before;
        self.update();
        for module in self.unrelocated.clone() {
            let waits = self
                .instances
                .iter()
                .flatten()
                .any(|instance| self.is_of(instance, &module) && is_not_ready(instance));
            let init = self.file(&module).ok().and_then(|file| file.init());
            if let (true, Some(init)) = (waits, init) {
                // Without it the probe stays pending until the linker's next call. One for all: objects come and
                // go for ever.
                let consumer = *self.relocation.get_or_insert_with(|| internal_consumer(on_relocated));
                let _ = self.arm_internals(&[(init.at(module.bias).0, consumer)]);
            }
        }
    }

    /// An object's first own function is about to run: it is relocated.
    pub fn object_relocated(&mut self, at: u64) {
        use crate::addr::RuntimeAddr;
        self.unrelocated.retain(|module| !module.contains(RuntimeAddr(at)));
        self.retry(|module| module.contains(RuntimeAddr(at)));
        self.update();
    }

    /// Lets what waits for relocation in the chosen objects be resolved again.
    fn retry(&mut self, chosen: impl Fn(&Module) -> bool) {
        let Self { modules, requests, instances, keys, paths, .. } = self;
        for module in modules.iter().filter(|module| chosen(module)) {
            let waits = |number: &u32| {
                let instance = instances[*number as usize].as_ref();
                instance.is_some_and(|made| paths[made.file as usize].0 == module.id && is_not_ready(made))
            };
            for request in
                requests.iter_mut().flatten().filter(|request| request.instances().iter().any(waits))
            {
                request.retain_resolved(|key| keys[key as usize].id != module.id);
            }
        }
    }

    /// Whether an instance is in the module's file.
    fn is_of(&self, instance: &Instance, module: &Module) -> bool {
        self.paths[instance.file as usize].0 == module.id
    }

    /// The path of an instance's object.
    #[must_use]
    pub fn object_of(&self, instance: &Instance) -> &Path {
        &self.paths[instance.file as usize].1
    }

    /// The number of a module and of its file; given where there is none yet.
    pub(super) fn key_of(&mut self, module: usize) -> ModuleKey {
        let module = &self.modules[module];
        let known = self.keys.iter().position(|key| (key.id, key.bias) == (module.id, module.bias));
        let key = known.unwrap_or_else(|| {
            let known = self.paths.iter().position(|(id, _)| *id == module.id);
            let file = known.unwrap_or_else(|| {
                self.paths.push((module.id, module.path.clone().into_boxed_path()));
                self.paths.len() - 1
            });
            self.keys.push(Key { id: module.id, bias: module.bias, file: file as u32 });
            self.keys.len() - 1
        });
        key as ModuleKey
    }

    /// Brings the registry in line with what is loaded: forgets what was unmapped, finds places in
    /// what is new, arms them. All of it with unmapping held back.
    pub fn update(&mut self) {
        self.bring_in_line(0);
    }

    /// The same, where all requests before `first_new` were in line with the objects loaded then: if
    /// these are still the same, only the others are looked at.
    fn bring_in_line(&mut self, first_new: usize) {
        let modules = self.list_modules();
        self.forget_unmapped(&modules);
        let is_same = self.set_modules(modules);
        let (request, instance) = if is_same { (first_new, self.instances.len()) } else { (0, 0) };
        self.forget_files();
        self.resolve_from(request);
        self.commit_from(request, if request == 0 { 0 } else { instance });
        self.retirement.reclaim();
    }

    /// These are loaded now; hits that unwind are told. Whether they were all of them before.
    fn set_modules(&mut self, modules: Vec<Rc<Module>>) -> bool {
        let is_same = self.modules == modules;
        self.modules = modules;
        if !is_same {
            frames::publish(&self.modules);
            self.publish_walked();
        }
        is_same
    }

    /// The objects loaded now.
    fn list_modules(&self) -> Vec<Rc<Module>> {
        if process::is_lone_child() { list_modules_alone(&self.modules) } else { list_modules(&self.modules) }
    }

    /// The number of the request made from this struct, as it is noted there. Any pointer will do: what is noted
    /// counts only where the request knows of the struct, too.
    #[must_use]
    pub fn find_struct(&self, up: *mut CUprobe) -> Option<usize> {
        let noted = SafeMemory.read_u64((up as u64).wrapping_add(offset_of!(CUprobe, opaque) as u64))?;
        let number = (noted as usize).checked_sub(1)?;
        self.is_made_from(number, up).then_some(number)
    }

    /// The same where the caller may have written over the note, though it must not.
    #[must_use]
    pub fn search_struct(&self, up: *mut CUprobe) -> Option<usize> {
        self.find_struct(up)
            .or_else(|| (0..self.requests.len()).find(|number| self.is_made_from(*number, up)))
    }

    /// Whether a request was made from one of these. One that was written over, though it must not, is not recognised
    /// where looking at all of them takes long.
    #[must_use]
    pub fn has_any_struct(&self, ups: &[*mut CUprobe]) -> bool {
        const AT_ONCE: usize = 1 << 14;
        let looks = ups.len().saturating_mul(self.requests.len());
        let find = if looks <= AT_ONCE { Self::search_struct } else { Self::find_struct };
        ups.iter().any(|up| find(self, *up).is_some())
    }

    fn is_made_from(&self, number: usize, up: *mut CUprobe) -> bool {
        let request = self.requests.get(number).and_then(Option::as_ref);
        request.is_some_and(|request| request.maker.up() == Some(up))
    }

    /// Takes a request out: its places are restored, no new hit finds it. Returns its consumers, which
    /// may still be running.
    pub fn unregister(&mut self, request: usize) -> Vec<*const Consumer> {
        self.unregister_all(&[request])
    }

    /// The same for several: their places are restored in one batch.
    pub fn unregister_all(&mut self, requests: &[usize]) -> Vec<*const Consumer> {
        let mut consumers = Vec::new();
        let mut restore = Vec::new();
        for request in requests {
            let Some(gone) = self.requests.get_mut(*request).and_then(Option::take) else { continue };
            forget_number(&gone.maker);
            for number in gone.instances() {
                let Some(instance) = self.instances[*number as usize].take() else { continue };
                instance.consumer().alive.store(false, SeqCst);
                for point in instance.points.iter() {
                    self.detach(point, instance.consumer);
                    restore.push(*point);
                }
                consumers.push(instance.consumer);
            }
        }
        // Those who register and unregister for ever don't make us grow; see `compact` too.
        self.requests.truncate(self.requests.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        self.instances.truncate(self.instances.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        self.settle(&restore);
        consumers
    }

    /// Frees what [`Registry::unregister`] returned, once nobody runs it.
    pub fn free(&mut self, consumers: &[*const Consumer]) {
        for consumer in consumers {
            self.retirement.retire(std::ptr::null_mut(), consumer.cast_mut());
        }
        self.retirement.reclaim();
        if consumers.len() >= RELEASE_AFTER {
            self.requests.shrink_to_fit();
            self.instances.shrink_to_fit();
            self.release_files();
        }
    }

    /// Writes `nhit` of the structs whose hits the threads count each for itself. Of each struct all consumers are
    /// among `consumers`.
    pub fn sync(consumers: &[*const Consumer]) {
        let mut counts = FixedHashMap::default();
        for consumer in consumers {
            // SAFETY: not freed: whoever frees one needs the lock, too.
            if let Some((up, count)) = unsafe { &**consumer }.counted_apart() {
                *counts.entry(up).or_insert(0_u64) += count;
            }
        }
        for (up, count) in counts {
            // SAFETY: the caller's struct: it is registered, or being unregistered.
            unsafe { (*up).nhit.store(count, Release) };
        }
    }

    /// Switches a request on or off. Its counts stay.
    pub fn enable(&mut self, request: usize, on: bool) {
        let Some(Some(found)) = self.requests.get(request) else { return };
        let mut points = Vec::new();
        for number in found.instances() {
            let Some(instance) = self.instances[*number as usize].as_mut() else { continue };
            instance.enabled = on;
            let crashed = instance.consumer().crash_signal() != 0;
            instance.consumer().alive.store(on && !crashed, SeqCst);
            points.extend(instance.points.iter().copied());
        }
        self.settle(&points);
        let instances = self.requests[request].iter().flat_map(Request::instances);
        for instance in instances.filter_map(|number| self.instances[*number as usize].as_ref()) {
            publish_address(instance);
        }
        self.retirement.reclaim();
    }

    /// Puts an internal consumer on the instruction at `at` of a loaded object.
    ///
    /// # Errors
    /// As for any probe.
    pub fn register_internal(&mut self, at: u64, run: InternalHandler) -> Result<(), Refusal> {
        self.register_internals(&[(at, run)]).pop().map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    /// The same for many at once: everything is ready before the first byte is written. Returns those
    /// that are refused.
    pub fn register_internals(&mut self, wanted: &[(u64, InternalHandler)]) -> Vec<(u64, Refusal)> {
        let wanted: Vec<_> = wanted.iter().map(|(at, run)| (*at, internal_consumer(*run))).collect();
        self.arm_internals(&wanted)
    }

    /// Takes back what [`Registry::register_internals`] put at these addresses; the original bytes are there again, unless
    /// others listen.
    pub fn unregister_internals(&mut self, places: &[u64]) {
        let points: Vec<_> = places.iter().filter_map(|at| point::lookup(*at)).collect();
        for point in &points {
            let Some(listeners) = point.consumers.load() else { continue };
            // SAFETY: not freed: whoever frees one needs the lock, too.
            let is_internal =
                |consumer: &*const Consumer| unsafe { matches!((**consumer).role(), Role::Internal(_)) };
            let ours: Vec<_> = listeners.all().iter().copied().filter(is_internal).collect();
            for consumer in ours {
                self.detach(point, consumer);
            }
        }
        self.settle(&points);
        self.retirement.reclaim();
    }

    /// Stands before libc's return from signals, `run` being what knows of it. By a jump, or not at all: a breakpoint would
    /// cost each of the program's handlers a trap, and room for its frame on what may be a small stack.
    ///
    /// # Errors
    /// As for any probe.
    pub fn register_restorer(&mut self, at: u64, run: InternalHandler) -> Result<(), Refusal> {
        let mut consumer = Consumer::new(Role::Internal(run));
        consumer.mark(Mark::AtRestorer, true);
        consumer.alive.store(true, Relaxed);
        let consumer: &'static Consumer = Box::leak(Box::new(consumer));
        if let Some((_, refusal)) = self.arm_internals(&[(at, consumer)]).pop() {
            return Err(refusal);
        }
        if let Some(point) = point::lookup(at).filter(|point| !point.optimized.load(Relaxed)) {
            self.detach(point, consumer);
            self.settle(&[point]);
        }
        Ok(())
    }

    fn arm_internals(&mut self, wanted: &[(u64, &'static Consumer)]) -> Vec<(u64, Refusal)> {
        let mut refused = Vec::new();
        let mut ready = Vec::new();
        for (at, consumer) in wanted {
            match self.prepare_address(*at) {
                Ok(point) => ready.push((point, *consumer)),
                Err(refusal) => refused.push((*at, refusal)),
            }
        }
        if let Err(errno) = self.arenas.flush(&mut self.poker) {
            refused.extend(ready.drain(..).map(|(point, _)| (point.at, Refusal::TextNotWritable { errno })));
        }
        for (point, consumer) in &ready {
            self.attach(point, *consumer);
        }
        let points: Vec<_> = ready.iter().map(|(point, _)| *point).collect();
        self.settle(&points);
        let unarmed = points.iter().filter(|point| !point.armed.load(Relaxed));
        refused.extend(unarmed.map(|point| (point.at, Refusal::TextNotWritable { errno: libc::EIO })));
        refused
    }

    /// Takes every breakpoint out of the text but those at `kept`: a thread that meets one could not go on. What jumps
    /// stays. How many of the user's places that were.
    pub fn disarm_breakpoints(&mut self, kept: &[u64]) -> usize {
        let mut gone = Vec::new();
        for point in point::all() {
            let is_breakpoint = point.armed.load(Relaxed) && !point.optimized.load(Relaxed);
            if is_breakpoint
                && !kept.contains(&point.at)
                && self.poker.write(point.at, &point.insn.bytes[..1]).is_ok()
            {
                point.armed.store(false, SeqCst);
                gone.push(point.at);
            }
        }
        gone.sort_unstable();
        let mut places = 0;
        for instance in self.instances.iter_mut().flatten() {
            let before = instance.points.len();
            instance.points.retain(|point| gone.binary_search(&point.at).is_err());
            if instance.points.len() < before && instance.points.is_empty() {
                instance.refusal = Some(Box::new(Refusal::NoSigreturn));
                instance.is_idle = true;
                places += 1;
            }
        }
        places
    }

    /// The parsed file of a module; parsed once.
    pub fn file(&mut self, module: &Module) -> Result<Rc<ElfFile>, Refusal> {
        parsed(&mut self.files, module)
    }

    /// Files of objects that come back are kept, but not for ever more of them.
    pub(super) fn forget_files(&mut self) {
        const MOST_KEPT: usize = 64;
        if self.files.len() > self.modules.len() + MOST_KEPT {
            let modules = &self.modules;
            self.files.retain(|id, _| modules.iter().any(|module| module.id == *id));
        }
    }
}

/// Notes a request's number in the struct it was made from, where there is one.
pub(super) fn note_number(maker: &Maker, number: usize) {
    if let Some(up) = maker.up() {
        // SAFETY: registered: the struct is there, and this field of it is ours.
        unsafe { (*up).opaque[0] = std::ptr::without_provenance_mut(number + 1) };
    }
}

/// The struct is the caller's again.
fn forget_number(maker: &Maker) {
    if let Some(up) = maker.up() {
        // SAFETY: as above, as long as it is being unregistered.
        unsafe { (*up).opaque[0] = std::ptr::null_mut() };
    }
}

/// One of the engine's own, for ever.
fn internal_consumer(run: InternalHandler) -> &'static Consumer {
    let consumer = Consumer::new(Role::Internal(run));
    consumer.alive.store(true, Relaxed);
    Box::leak(Box::new(consumer))
}

/// The parsed files, by their identity.
pub(super) type Files = FixedHashMap<FileId, Result<Rc<ElfFile>, Refusal>>;

/// The parsed file of a module; parsed once.
pub(super) fn parsed(files: &mut Files, module: &Module) -> Result<Rc<ElfFile>, Refusal> {
    files.entry(module.id).or_insert_with(|| open_file(module).map(Rc::new)).clone()
}

/// The file of a loaded module, as it was mapped.
fn open_file(module: &Module) -> Result<ElfFile, Refusal> {
    use crate::elf::FileSource;
    let bad = |why: &str| Refusal::BadObject { path: module.path.display().to_string(), why: why.to_owned() };
    let link = std::path::Path::new("/proc/self/exe");
    let linked = if module.is_exe { crate::probe::MappedFiles.open(link) } else { None };
    // Where the dynamic linker was executed, the link leads to it.
    let linked = linked.filter(|bytes| bytes.id() == module.id);
    let bytes = linked.or_else(|| crate::probe::MappedFiles.open(&module.path));
    let bytes = bytes.ok_or_else(|| bad("can't be read"))?;
    let replaced = "the file is not the one that was loaded: it was replaced since";
    if bytes.id() != module.id {
        return Err(bad(replaced));
    }
    let file = ElfFile::parse(&module.path, bytes).map_err(|e| e.refusal(&module.path))?;
    if is_file_of(module, &file) { Ok(file) } else { Err(bad(replaced)) }
}

/// Whether it waits for its object's relocation.
fn is_not_ready(instance: &Instance) -> bool {
    instance.refusal.as_deref() == Some(&Refusal::IfuncNotReady)
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// The consumers of a request.
    #[must_use]
    pub fn consumers_of(&self, request: usize) -> Vec<*const Consumer> {
        let Some(Some(found)) = self.requests.get(request) else { return Vec::new() };
        found
            .instances()
            .iter()
            .filter_map(|i| self.instances[*i as usize].as_ref())
            .map(|i| i.consumer)
            .collect()
    }

    /// Looks which objects are loaded: before [`Registry::label_of`].
    pub fn list_anew(&mut self) {
        let modules = self.list_modules();
        self.set_modules(modules);
    }

    /// Where a request is to be.
    #[must_use]
    pub fn place_of(&self, number: usize) -> Option<Cow<'_, Place>> {
        let request = self.requests.get(number)?.as_ref()?;
        match &request.maker {
            Maker::Spec(spec) => Some(Cow::Borrowed(&spec.probe.place)),
            Maker::Api(_) => self.label_of_request(request).map(|label| Cow::Owned(label.place())),
        }
    }

    /// Of one of the C API: it has it itself, as long as it has no consumer.
    fn label_of_request<'a>(&'a self, request: &'a Request) -> Option<&'a Label> {
        // A config's have none, however many places they have.
        if matches!(request.maker, Maker::Spec(_)) {
            return None;
        }
        let of_consumer = |number: &u32| self.instances[*number as usize].as_ref()?.consumer().label();
        request.label().or_else(|| request.instances().iter().find_map(of_consumer))
    }

    /// That of a request's next consumer.
    pub(super) fn label_for_consumer(&mut self, number: usize) -> Option<Label> {
        let label = self.requests.get_mut(number)?.as_mut()?.take_label();
        label.or_else(|| self.label_of_request(self.requests[number].as_ref()?).cloned())
    }

    /// A runtime address as object and file offset, as the objects were listed last.
    ///
    /// # Errors
    /// [`Refusal::NotExecutable`] outside every object, [`Refusal::BadObject`].
    pub fn label_of(&mut self, at: u64) -> Result<Label, Refusal> {
        use crate::addr::RuntimeAddr;
        let module = self.modules.iter().find(|module| module.contains(RuntimeAddr(at))).cloned();
        let module = module.ok_or(Refusal::NotExecutable { offset: at })?;
        let file = self.file(&module)?;
        let offset =
            file.offset_of(RuntimeAddr(at).link(module.bias)).ok_or(Refusal::NotExecutable { offset: at })?;
        let path = module.path.display().to_string();
        Ok(Label::new((!module.is_exe).then_some(&path), None, offset.0))
    }
}
