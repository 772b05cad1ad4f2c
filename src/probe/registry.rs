//! All that is registered, and the calls that change it.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::*;

use crate::code::{Arenas, Poker};
use crate::elf::{ElfFile, FileId};
use crate::error::Refusal;
use crate::hit::consumer::{CUprobe, Consumer, Flow, Role};
use crate::hit::trap::Hit;
use crate::place::Place;
use crate::probe::instance::{Instance, Maker, Request};
use crate::probe::modules::{Module, list_modules, with_objects_held};
use crate::probe::retire::Retirement;

/// Everything registered. Reached through [`crate::probe::lock`].
pub struct Registry {
    /// The objects loaded now.
    pub modules: Vec<Module>,
    pub(super) files: HashMap<FileId, Result<Rc<ElfFile>, Refusal>>,
    /// What was asked for; `None` where unregistered.
    pub requests: Vec<Option<Request>>,
    /// What was found; `None` where unregistered.
    pub instances: Vec<Option<Instance>>,
    pub(super) by_struct: HashMap<usize, usize>,
    pub(super) poker: Poker,
    pub(super) arenas: Arenas,
    pub(super) retirement: Retirement,
    /// The linker said so while the lock was held by its own thread.
    pub objects_changed: bool,
    /// The linker is mapping objects and has not relocated them yet.
    pub objects_loading: bool,
    pub(super) next_name: HashMap<String, usize>,
}

// SAFETY: reached by one thread at a time, under the lock.
unsafe impl Send for Registry {}

impl Registry {
    /// An empty registry, with the way to write text opened.
    #[must_use]
    pub fn new() -> Self {
        Self {
            modules: list_modules(),
            files: HashMap::new(),
            requests: Vec::new(),
            instances: Vec::new(),
            by_struct: HashMap::new(),
            poker: Poker::new(),
            arenas: Arenas::default(),
            retirement: Retirement::default(),
            objects_changed: false,
            objects_loading: false,
            next_name: HashMap::new(),
        }
    }

    /// Adds probes and arms those whose objects are loaded. Returns their numbers.
    pub fn register(&mut self, requests: Vec<(Place, String, String, Maker)>) -> Vec<usize> {
        let first = self.requests.len();
        for (place, at, name, maker) in requests {
            if let Maker::Api(up) = maker {
                self.by_struct.insert(up as usize, self.requests.len());
            }
            self.requests.push(Some(Request {
                place,
                at,
                name,
                maker,
                resolved: Vec::new(),
                instances: Vec::new(),
                refusal: None,
            }));
        }
        self.update();
        (first..self.requests.len()).collect()
    }

    /// Brings the registry in line with what is loaded: forgets what was unmapped, finds places in
    /// what is new, arms them. All of it with unmapping held back.
    pub fn update(&mut self) {
        loop {
            self.objects_changed = false;
            let this = &mut *self;
            with_objects_held(|| {
                let modules = list_modules();
                this.forget_unmapped(&modules);
                this.modules = modules;
                this.resolve_all();
                this.commit_all();
            });
            if !self.objects_changed {
                break;
            }
        }
        self.retirement.reclaim();
    }

    /// The number of the request made from this struct.
    #[must_use]
    pub fn find_struct(&self, up: *mut CUprobe) -> Option<usize> {
        self.by_struct.get(&(up as usize)).copied()
    }

    /// Takes a request out: its places are restored, no new hit finds it. Returns its consumers, which
    /// may still be running.
    pub fn unregister(&mut self, request: usize) -> Vec<*const Consumer> {
        let Some(gone) = self.requests[request].take() else { return Vec::new() };
        if let Maker::Api(up) = gone.maker {
            self.by_struct.remove(&(up as usize));
        }
        let mut consumers = Vec::new();
        let mut restore = Vec::new();
        for number in gone.instances {
            let Some(instance) = self.instances[number].take() else { continue };
            instance.consumer().alive.store(false, SeqCst);
            for point in &instance.points {
                self.detach(point, instance.consumer);
                restore.push(*point);
            }
            consumers.push(instance.consumer);
        }
        self.settle(&restore);
        consumers
    }

    /// Frees what [`Registry::unregister`] returned, once nobody runs it.
    pub fn free(&mut self, consumers: &[*const Consumer]) {
        for consumer in consumers {
            self.retirement.retire(std::ptr::null_mut(), consumer.cast_mut());
        }
        self.retirement.reclaim();
    }

    /// Switches a request on or off. Its counts stay.
    pub fn enable(&mut self, request: usize, on: bool) {
        let Some(Some(found)) = self.requests.get(request) else { return };
        let mut points = Vec::new();
        for number in found.instances.clone() {
            let Some(instance) = self.instances[number].as_mut() else { continue };
            instance.enabled = on;
            instance.consumer().alive.store(on, SeqCst);
            points.extend(instance.points.iter().copied());
        }
        self.settle(&points);
        self.retirement.reclaim();
    }

    /// Puts an internal consumer on the instruction at `at` of a loaded object.
    ///
    /// # Errors
    /// As for any probe.
    pub fn register_internal(&mut self, at: u64, run: fn(&mut Hit<'_>) -> Flow) -> Result<(), Refusal> {
        let point = self.prepare_address(at)?;
        self.arenas.flush(&mut self.poker).map_err(|errno| Refusal::TextNotWritable { errno })?;
        let consumer = Consumer::new(Role::Internal(run), String::new(), String::new());
        consumer.alive.store(true, Relaxed);
        self.attach(point, Box::leak(Box::new(consumer)));
        self.settle(&[point]);
        if point.armed.load(Relaxed) { Ok(()) } else { Err(Refusal::TextNotWritable { errno: libc::EIO }) }
    }

    /// The parsed file of a module; parsed once.
    pub fn file(&mut self, module: &Module) -> Result<Rc<ElfFile>, Refusal> {
        use crate::elf::FileSource;
        self.files
            .entry(module.id)
            .or_insert_with(|| {
                let unreadable = || Refusal::BadObject {
                    path: module.path.display().to_string(),
                    why: "can't be read".to_owned(),
                };
                let link = std::path::Path::new("/proc/self/exe");
                let path = if module.is_exe { link } else { &module.path };
                let bytes = crate::probe::MappedFiles.open(path).ok_or_else(unreadable)?;
                if bytes.id() != module.id {
                    return Err(unreadable());
                }
                ElfFile::parse(&module.path, bytes).map(Rc::new).map_err(|e| e.refusal(&module.path))
            })
            .clone()
    }
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
        found.instances.iter().filter_map(|i| self.instances[*i].as_ref()).map(|i| i.consumer).collect()
    }

    /// A runtime address as object and file offset.
    ///
    /// # Errors
    /// [`Refusal::NotExecutable`] outside every object, [`Refusal::BadObject`].
    pub fn place_of(&mut self, at: u64) -> Result<Place, Refusal> {
        use crate::addr::RuntimeAddr;
        use crate::place::{ObjectPattern, Target};
        self.modules = list_modules();
        let module = self.modules.iter().find(|module| module.contains(RuntimeAddr(at))).cloned();
        let module = module.ok_or(Refusal::NotExecutable { offset: at })?;
        let file = self.file(&module)?;
        let offset =
            file.offset_of(RuntimeAddr(at).link(module.bias)).ok_or(Refusal::NotExecutable { offset: at })?;
        let object = if module.is_exe {
            ObjectPattern::Exe
        } else {
            ObjectPattern::Path(module.path.display().to_string())
        };
        Ok(Place { object, target: Target::FileOffset(offset.0) })
    }
}
